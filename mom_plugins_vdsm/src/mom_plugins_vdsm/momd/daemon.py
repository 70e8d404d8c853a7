"""`momd`: runs mom with the command line and the configuration of MOM's old daemon."""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final

import click

from mom_core import Config, ConfigError, MomError, load_config, replace_file
from mom_daemon import Daemon, print_prose, run_program
from mom_plugins_vdsm.momd.imported import Imported, LogTarget, read_text
from mom_plugins_vdsm.momd.importer import VDSM, import_momd

LOG = logging.getLogger("mom")

_DEFAULT_FILE: Final = Path("/etc/momd.conf")
_DEFAULT_PID_FILE: Final = Path("/run/momd.pid")

_VDSM_STATE: Final = Path("/var/lib/vdsm/mom")
_VDSM_RUN: Final = Path("/run/vdsm/mom")
"""Like `_VDSM_STATE`, a folder that the user vdsm can write. On a host with vdsm, the daemon runs as vdsm."""


@click.command("momd", context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("-c", "--config-file", type=click.Path(path_type=Path), help=f"Configuration file.  [default: {_DEFAULT_FILE}, if it exists]")
@click.option("-r", "--rules-file", metavar="FILE", help="File with the policy; replaces `policy` and `policy-dir` of the configuration.")
@click.option("-P", "--policy-dir", metavar="DIR", help="Folder of *.policy files; replaces `policy-dir` and `policy`, too.")
@click.option("-p", "--plot-dir", metavar="DIR", help="Has no effect: use `mom report --html` for plots.")
@click.option("-l", "--log", metavar="FILE", help="Log file, or stdio for standard error.")
@click.option("-v", "--verbose", "verbosity", metavar="LEVEL", help="Log level: critical, error, warn, info, debug, or 1 to 5.")
@click.option("-d", "--daemonize", is_flag=True, help="Run in the background.")
@click.option("--pid-file", type=click.Path(path_type=Path), help=f"Where to write the process id.  [default with -d: {_DEFAULT_PID_FILE}]")
def momd(*, config_file: Path | None, daemonize: bool, pid_file: Path | None, **options: str | None) -> None:
    """Manage this host like MOM's old daemon, with its configuration. `mom config import` converts this configuration for `mom run`.

    SIGTERM stops the daemon, which undoes all its changes; SIGHUP reads the configuration and the policies again.
    """
    overrides = _overrides(**options)
    path = config_file or _DEFAULT_FILE

    def read() -> Imported:
        text = "" if config_file is None and not path.exists() else read_text(path)
        return import_momd(text, str(path), overrides)

    def load() -> Config:
        return dataclasses.replace(_config(read(), path), file=str(path))

    first = read()
    with Daemon(_handler(first.log, background=daemonize)) as daemon, _also_in_the_log(first.log):
        daemon.log.use(_config(first, path))  # report errors before the daemon goes to the background
        run = partial(daemon.run, load)
        if daemonize and not first.log.file:
            print_prose("momd: there will be no log: with -d, set a log file by -l, or by `log` in the configuration", 2, err=True)
        with _in_background() if daemonize else nullcontext(lambda: None) as ready:
            _run(run, first, pid_file or (_DEFAULT_PID_FILE if daemonize else None), ready)


def _overrides(log: str | None, verbosity: str | None, plot_dir: str | None, **policies: str | None) -> dict[tuple[str, str], str]:
    options: dict[tuple[str, str], str] = {}
    if any(path is not None for path in policies.values()):
        for option, path in (("policy", policies["rules_file"]), ("policy-dir", policies["policy_dir"])):
            options["main", option] = str(Path(path).absolute()) if path else ""
    if plot_dir is not None:
        options["main", "plot-dir"] = plot_dir
    if log is not None:
        options["logging", "log"] = log if log.lower() == "stdio" else str(Path(log).absolute())
    if verbosity is not None:
        options["logging", "verbosity"] = verbosity
    return options


def _config(imported: Imported, path: Path) -> Config:
    settings = imported.settings()
    for name, variable, beside_vdsm in (
        ("state_directory", "STATE_DIRECTORY", _VDSM_STATE),
        ("run_directory", "RUNTIME_DIRECTORY", _VDSM_RUN),
    ):
        folder = os.environ.get(variable, "").partition(":")[0]  # systemd creates a unit's folders, and sets these variables
        if folder:
            settings[name] = folder
        elif VDSM in imported.plugins:
            settings[name] = str(beside_vdsm)
    try:
        return load_config(settings)
    except ConfigError as error:
        more = f"`mom config import {path}` shows the new form of each option"
        problems = ((problem, f"{problem.hint}; {more}" if problem.hint else more) for problem in error.problems)
        raise ConfigError([dataclasses.replace(problem, file=str(path), hint=hint) for problem, hint in problems]) from error


@contextmanager
def _also_in_the_log(target: LogTarget) -> Iterator[None]:
    # Also log the last error, unless the log is standard error.
    try:
        yield
    except Exception as error:  # logged and raised again
        if target.file:
            for line in str(error).splitlines():
                LOG.critical("momd exits: %s", line)
        raise


class _LogFile(RotatingFileHandler):
    # Print no traceback on the terminal if the disk is full.

    flushOnClose = False  # noqa: N815  # logging's name; a failed flush would leave the file open

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        raise  # noqa: PLE0704  # called from within the handler's `except`


def _handler(target: LogTarget, *, background: bool) -> logging.Handler | None:
    if not target.file:
        return logging.NullHandler() if background else None
    try:
        return _LogFile(target.file, maxBytes=target.max_bytes, backupCount=target.backups, encoding="utf-8")
    except OSError as error:
        raise MomError(f"cannot log to {target.file}: {error.strerror}", hint="choose another file with -l, or stdio") from error


def _run(run: Callable[[Callable[[], None]], None], imported: Imported, pid_file: Path | None, ready: Callable[[], None]) -> None:
    for note in imported.notes:
        LOG.info("from the old configuration: %s", note)

    def opened() -> None:
        if pid_file is not None:
            _write_pid(pid_file)
        ready()

    try:
        run(opened)
    finally:
        if pid_file is not None and _pid_in(pid_file) == os.getpid():
            pid_file.unlink(missing_ok=True)


def _write_pid(path: Path) -> None:
    try:
        replace_file(path, f"{os.getpid()}\n", durable=False, mode=0o644)
    except OSError as error:
        raise MomError(f"cannot write {path}: {error.strerror}", hint="choose another file with --pid-file") from error


def _pid_in(path: Path) -> int:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0


@contextmanager
def _in_background() -> Iterator[Callable[[], None]]:
    # The first process exits when the daemon is ready or has failed.
    hear, tell = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    if os.fork():
        os.close(tell)
        with os.fdopen(hear, "rb") as pipe:
            verdict = pipe.read()
        if verdict != b"ready":
            print_prose(f"momd: {verdict.decode(errors='replace') or 'the daemon exited before it was ready; see its log'}", 2, err=True)
        os._exit(0 if verdict == b"ready" else 1)
    os.close(hear)
    os.setsid()
    if os.fork():
        os._exit(0)  # so that the daemon is not a session leader, and never gets a terminal
    os.chdir("/")
    os.umask(0o027)
    with open(os.devnull, "r+b") as nothing:  # noqa: PTH123  # only a descriptor is needed
        for stream in (0, 1, 2):
            os.dup2(nothing.fileno(), stream)
    open_end = [tell]

    def ready() -> None:
        if open_end:
            os.write(open_end[0], b"ready")
            os.close(open_end.pop())

    try:
        yield ready
    except BaseException as error:
        if open_end:
            os.write(open_end[0], str(error).encode(errors="backslashreplace")[:4000])
        raise


def main() -> int:
    """Run the script."""
    return run_program(momd)
