"""`momd`: the old daemon's command line. Its flags and its INI file become a configuration of mom's, and mom runs with that."""

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
from mom_daemon import daemon_log, print_prose, read_foreign, run_daemon, run_program
from mom_plugins_vdsm.momd.importer import VDSM, LogTarget, Momd, import_momd

LOG = logging.getLogger("mom")

DEFAULT_FILE: Final = Path("/etc/momd.conf")
DEFAULT_PID_FILE: Final = Path("/run/momd.pid")

VDSM_STATE: Final = Path("/var/lib/vdsm/mom")
VDSM_RUN: Final = Path("/run/vdsm/mom")
"""Where user vdsm may write, who runs the daemon beside vdsm."""


@click.command("momd", context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "-c", "--config-file", type=click.Path(path_type=Path), help=f"The configuration.  [default: {DEFAULT_FILE}, where there is one]"
)
@click.option("-r", "--rules-file", metavar="FILE", help="The policy; instead of `policy` and `policy-dir` in the configuration.")
@click.option("-P", "--policy-dir", metavar="DIR", help="The folder of *.policy; instead of `policy-dir` and `policy`.")
@click.option("-p", "--plot-dir", metavar="DIR", help="Accepted, without effect: `mom report --html` draws.")
@click.option("-l", "--log", metavar="FILE", help="Where to log; stdio is standard error.")
@click.option("-v", "--verbose", "verbosity", metavar="LEVEL", help="critical, error, warn, info, debug, or 1 to 5.")
@click.option("-d", "--daemonize", is_flag=True, help="Run in the background.")
@click.option("--pid-file", type=click.Path(path_type=Path), help=f"Where to write the process id.  [default with -d: {DEFAULT_PID_FILE}]")
def momd(*, config_file: Path | None, daemonize: bool, pid_file: Path | None, **options: str | None) -> None:
    """Manage this host as MOM's old daemon did, with its configuration. `mom config import` turns that into one for `mom run`.

    SIGTERM ends it, and puts everything back; SIGHUP reads the configuration and the policies again.
    """
    overrides = _overrides(**options)
    path = config_file or DEFAULT_FILE

    def read() -> Momd:
        text = "" if config_file is None and not path.exists() else read_foreign(path)
        return import_momd(text, str(path), overrides)

    def load() -> Config:
        return dataclasses.replace(_config(read(), path), file=str(path))

    first = read()
    with daemon_log(_handler(first.log, background=daemonize)) as journal, _also_in_the_log(first.log):
        journal.use(_config(first, path))  # what is wrong is said here, before anything goes to the background
        run = partial(run_daemon, load, journal)
        if daemonize and not first.log.file:
            print_prose("momd: nothing is logged: with -d, name a file with -l, or `log` in the configuration", 2, err=True)
        with _in_background() if daemonize else nullcontext(lambda: None) as ready:
            _run(run, first, pid_file or (DEFAULT_PID_FILE if daemonize else None), ready)


def _overrides(log: str | None, verbosity: str | None, plot_dir: str | None, **policies: str | None) -> dict[tuple[str, str], str]:
    """The command line as options of the file; what it says about policies takes the place of all that the file says about them."""
    said: dict[tuple[str, str], str] = {}
    if any(path is not None for path in policies.values()):
        for option, path in (("policy", policies["rules_file"]), ("policy-dir", policies["policy_dir"])):
            said["main", option] = str(Path(path).absolute()) if path else ""
    if plot_dir is not None:
        said["main", "plot-dir"] = plot_dir
    if log is not None:
        said["logging", "log"] = log if log.lower() == "stdio" else str(Path(log).absolute())
    if verbosity is not None:
        said["logging", "verbosity"] = verbosity
    return said


def _config(momd: Momd, path: Path) -> Config:
    """mom's configuration, with files where this process may have them.

    :param path: the old one, which is the only one that the reader of a problem knows
    """
    settings = momd.imported.settings()
    for name, variable, beside_vdsm in (
        ("state_directory", "STATE_DIRECTORY", VDSM_STATE),
        ("run_directory", "RUNTIME_DIRECTORY", VDSM_RUN),
    ):
        given = os.environ.get(variable, "").partition(":")[0]  # systemd makes these folders for a unit, and says so
        if given:
            settings[name] = given
        elif VDSM in momd.imported.plugins:
            settings[name] = str(beside_vdsm)
    try:
        return load_config(settings)
    except ConfigError as error:
        more = f"`mom config import {path}` shows what became of each option"
        told = ((one, f"{one.hint}; {more}" if one.hint else more) for one in error.problems)
        raise ConfigError([dataclasses.replace(one, file=str(path), hint=hint) for one, hint in told]) from error


@contextmanager
def _also_in_the_log(target: LogTarget) -> Iterator[None]:
    """Have the log say why the daemon ends, where it is not standard error anyway: an operator who looks for the reason looks there."""
    try:
        yield
    except Exception as error:  # whatever it is, it ends the daemon, and is raised again
        if target.file:
            for line in str(error).splitlines():
                LOG.critical("momd ends: %s", line)
        raise


class _LogFile(RotatingFileHandler):
    """The log's file. A full disk is no reason to write tracebacks to a terminal."""

    flushOnClose = False  # noqa: N815  # the name that logging asks for: where that fails, logging would not close the file

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # the name that logging calls
        """Let mom's log count it as lost."""
        raise  # noqa: PLE0704  # called from within the handler's `except`


def _handler(target: LogTarget, *, background: bool) -> logging.Handler | None:
    if not target.file:
        return logging.NullHandler() if background else None
    try:
        return _LogFile(target.file, maxBytes=target.max_bytes, backupCount=target.backups, encoding="utf-8")
    except OSError as error:
        raise MomError(f"cannot log to {target.file}: {error.strerror}", hint="-l names another file, or stdio") from error


def _run(run: Callable[[Callable[[], None]], None], momd: Momd, pid_file: Path | None, ready: Callable[[], None]) -> None:
    for note in momd.imported.notes:
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
    """The engine's lock keeps a second daemon away; a file of one that was killed is replaced."""
    try:
        replace_file(path, f"{os.getpid()}\n", durable=False, mode=0o644)
    except OSError as error:
        raise MomError(f"cannot write {path}: {error.strerror}", hint="--pid-file names another file") from error


def _pid_in(path: Path) -> int:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0


@contextmanager
def _in_background() -> Iterator[Callable[[], None]]:
    """Go on in a process of its own, without a terminal. The one that was started waits until that is ready, and ends with its verdict.

    What goes wrong before it is ready is told by the one that was started, with exit code 1.
    """
    hear, tell = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    if os.fork():
        os.close(tell)
        with os.fdopen(hear, "rb") as pipe:
            verdict = pipe.read()
        if verdict != b"ready":
            print_prose(f"momd: {verdict.decode(errors='replace') or 'it ended before it was ready; its log says why'}", 2, err=True)
        os._exit(0 if verdict == b"ready" else 1)
    os.close(hear)
    os.setsid()
    if os.fork():
        os._exit(0)  # so that the daemon leads no session, and never gets a terminal
    os.chdir("/")
    os.umask(0o027)
    with open(os.devnull, "r+b") as nothing:  # noqa: PTH123  # a descriptor is wanted, not a path's content
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
    """The script's entry."""
    return run_program(momd)
