"""`mom run`: the daemon, in the foreground."""

from __future__ import annotations

import dataclasses
import faulthandler
import gc
import logging
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Final

import click

from mom_core import Config, Engine, MomError, Report, Status, count_of, load_config
from mom_core.engine.problems import described
from mom_daemon import as_caller, become_owner
from mom_daemon.cli.options import config_argument
from mom_daemon.logs import Log
from mom_daemon.plugins.declared import lacking
from mom_daemon.status_file import StatusFile
from mom_daemon.supervision import Supervision

LOG = logging.getLogger("mom")

MOST_NAMED: Final = 3


@click.command("run")
@config_argument
@click.option("--observe", is_flag=True, help="Decide and report, but change nothing, even if the configuration has mode enforce.")
@as_caller
def run_command(config_path: str | None, observe: bool) -> None:
    """Manage this host until SIGTERM or SIGINT, then restore all values.

    \b
    SIGHUP   reads the configuration and the policies again
    SIGUSR2  ends mom and keeps its changes for the next start of mom
    """

    def load() -> Config:
        config = load_config(config_path)
        if observe:
            config = dataclasses.replace(config, mode="observe")
        return config

    with Daemon() as daemon:
        daemon.run(load)


class Daemon:
    """mom as this process's daemon, with its log. At the end of a `with` block, end the process even if threads of plugins remain.

    :param handler: handler that writes the log; None for standard error
    """

    def __init__(self, handler: logging.Handler | None = None) -> None:
        self.log = Log(handler)

    def __enter__(self) -> Daemon:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if not self.log.end():  # the sink hangs, and would not write the last lines either
            os._exit(0 if error is None else 1)
        if error is None:
            _leave()

    def run(self, load: Callable[[], Config], opened: Callable[[], None] | None = None) -> None:
        """Run an engine until SIGTERM or SIGINT. On SIGHUP, load a new configuration. End the process even if threads remain.

        :param opened: called after setup, before the first cycle
        """
        os.umask(os.umask(0o077) | 0o027)  # deny other users access to files created without a mode

        config = load()
        self.log.use(config)
        _tell_lacks(config)
        as_whom = _become_whom_it_runs_as(config)
        status = StatusFile(config.run_directory, self.log.hide)
        supervision = Supervision()

        def on_report(report: Report) -> None:
            self.log.use(engine.config)
            _after_cycle(engine, status, report, supervision)

        engine = Engine(config, on_report=on_report, on_progress=supervision.progress)

        def reload() -> Config:
            supervision.reloading()
            config = load()
            self.log.learn(config)  # mom may still refuse it
            _tell_lacks(config)
            return config

        stopped_by = _stop_on_signals(engine, supervision)
        signal.signal(signal.SIGHUP, lambda number, frame: engine.request_reload(reload))
        tell_of_faults()
        LOG.info("starting with %s, mode %s, every %g s, plugins %s", config.file, config.mode, config.interval, ", ".join(config.plugins))
        if as_whom:
            LOG.info("%s", as_whom)
        try:
            engine.open()
            spare_the_garbage_collector()
            supervision.opened(engine)
            if opened is not None:
                opened()
            engine.run()
        except MomError:
            if not stopped_by:
                raise
            LOG.info("stopped during setup")
        finally:
            engine.close()  # for a failing `opened`, which must leave no socket
            if engine.started_at:
                status.remove()
                supervision.ended(engine)
        _log_end(len(engine.state().changes))


def _stop_on_signals(engine: Engine, supervision: Supervision) -> Sequence[int]:
    stopped_by: list[int] = []  # a threading.Event could deadlock if a second signal interrupts the first handler

    def on_stop(number: int, frame: FrameType | None) -> None:
        if stopped_by:
            return  # the first signal decides: systemd sends SIGTERM after the signal of ExecStop
        stopped_by.append(number)
        keep = number == signal.SIGUSR2 or engine.config.on_stop == "keep"
        supervision.stopping(engine.config, keep=keep)
        engine.stop(put_back=not keep)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
        signal.signal(number, on_stop)
    return stopped_by


def _log_end(left: int) -> None:
    if left:  # this includes restored entries if the ledger could not be written
        message = "ended; the ledger lists %s: the next start of mom takes them over, or `mom restore` restores the original values"
        LOG.info(message, count_of(left, "change"))
    else:
        LOG.info("ended")


def _tell_lacks(config: Config) -> None:
    for lack in lacking(config):
        LOG.warning("%s; `mom doctor` lists the plugins that fit this host", lack.message)


def tell_of_faults() -> None:
    """Print all threads' stacks on fatal signals, such as a watchdog's SIGABRT."""
    # Pass the descriptor: Python would flush a file first, and could wait for the log's thread.
    with suppress(OSError, ValueError, AttributeError):
        faulthandler.enable(sys.stderr.fileno())


def _become_whom_it_runs_as(config: Config) -> str:
    if os.geteuid() != 0:
        return ""
    owner = become_owner(config.state_directory, config.run_directory, made=config.run_directory)
    if owner is not None:
        return f"runs as {owner.name}, the owner of its folders; mom-helper makes the changes that need root"
    return "runs as root, which is unnecessary: mom's service uses an unprivileged user, and mom-helper makes the changes that need root"


def spare_the_garbage_collector() -> None:
    """Collect garbage less often, and skip objects created at startup."""
    # With 10,000 guests, collections at the default threshold took a third of a cycle.
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 10, 50)


def _after_cycle(engine: Engine, status: StatusFile, report: Report, supervision: Supervision) -> None:
    status.write(engine, report)
    summary = _summary(report)
    supervision.cycle_done(engine, report, summary)
    over = engine.problems_over
    acted = any(outcome.status not in {Status.UNCHANGED, Status.OBSERVED} for outcome in report.outcomes)
    level = logging.INFO if acted or over else logging.DEBUG
    if LOG.isEnabledFor(level):
        ended = "".join(f"; ended after {problem.cycles} cycles: {described(problem)}" for problem in over[:MOST_NAMED])
        more = f"; and {len(over) - MOST_NAMED} other problems" if len(over) > MOST_NAMED else ""
        LOG.log(level, "cycle %d: %s%s%s", report.number, summary, ended, more)


def _summary(report: Report) -> str:
    counts = Counter(outcome.status for outcome in report.outcomes)
    outcomes = ", ".join(f"{counts[status]} {status}" for status in Status if counts[status])
    wrong = f"; {report.verdict.conditions[0].message}" if report.verdict is not None and report.verdict.is_bad else ""
    return f"{count_of(len(report.snapshot.guests), 'guest')}, {outcomes or 'nothing done'}, {report.duration * 1e3:.0f} ms{wrong}"


def _leave() -> None:
    lingering = [t.name for t in threading.enumerate() if t is not threading.main_thread() and not t.daemon]
    hung = [t.name for t in threading.enumerate() if t.daemon and t.name.startswith("mom-")]
    if lingering or hung:
        LOG.warning("these threads did not end: %s", ", ".join(lingering + hung))
        logging.shutdown()
        sys.stdout.flush()
        os._exit(0)
