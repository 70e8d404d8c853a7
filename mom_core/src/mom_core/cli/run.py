"""`mom run`: the daemon, in the foreground."""

from __future__ import annotations

import dataclasses
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

import click

from mom_core.cli.options import config_option
from mom_core.config import Config, load_config
from mom_core.engine import Engine
from mom_core.errors import MomError
from mom_core.model import Report, Status
from mom_core.plugins.process_state import ProcessState
from mom_core.plugins.secrets import Hiding, HidingFormatter
from mom_core.status import StatusFile

LOG = logging.getLogger("mom")


@click.command("run")
@config_option
@click.option("--observe", is_flag=True, help="Decide and report, but touch nothing, whatever the configuration's mode is.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="Instead of the configuration's log_level.")
def run_command(config_path: str | None, observe: bool, log_level: str | None) -> None:
    """Manage this host until SIGTERM or SIGINT, then put everything back. SIGHUP reads the configuration and the policies again."""

    def load() -> Config:
        config = load_config(config_path)
        if observe:
            config = dataclasses.replace(config, mode="observe")
        logging.getLogger("mom").setLevel((log_level or config.log_level).upper())
        return config

    manage(load, start_logging(logging.StreamHandler()))
    leave()


def manage(load: Callable[[], Config], hide: Hiding, opened: Callable[[], None] | None = None) -> None:
    """Run an engine until SIGTERM or SIGINT, and end the process if need be; SIGHUP takes a new configuration over.

    :param load: gives the configuration, now and for each SIGHUP
    :param hide: learns the secrets of each configuration, before anything else is done with it
    :param opened: called when everything is set up, before the first cycle
    """

    def learn() -> Config:
        config = load()
        hide.learn(plugin.settings for plugin in config.plugins.values())
        return config

    config = learn()
    status = StatusFile(config.run_directory, hide)
    engine = Engine(config, on_report=lambda report: _after_cycle(engine, status, report, process))
    stopped = threading.Event()

    def on_stop(number: int, frame: FrameType | None) -> None:
        stopped.set()
        engine.stop()

    def on_reload(number: int, frame: FrameType | None) -> None:
        engine.request_reload(learn)

    signal.signal(signal.SIGTERM, on_stop)
    signal.signal(signal.SIGINT, on_stop)
    signal.signal(signal.SIGHUP, on_reload)
    LOG.info("starting with %s, mode %s, every %g s, plugins %s", config.file, config.mode, config.interval, ", ".join(config.plugins))
    process = ProcessState.now()
    try:
        engine.open()
        spare_the_garbage_collector()
        if opened is not None:
            opened()
        engine.run()
    except MomError:
        if not stopped.is_set():
            raise
        LOG.info("stopped before everything was set up")
    finally:
        engine.close()  # `run` does that itself; this is for an `opened` that fails, which must leave no socket behind
        if engine.started_at:
            status.remove()
    LOG.info("ended")


def spare_the_garbage_collector() -> None:
    """Have Python look for unreachable cycles less often, and not among what was loaded at the start.

    A snapshot of 1,000 guests is some thousands of objects, none of which is part of a cycle: they go when the last reference
    goes. At Python's default of 700 new objects between two looks, up to a third of a cycle was spent looking at them.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 50)


def start_logging(handler: logging.Handler) -> Hiding:
    """Log there, without the secrets that the result learns; on standard error without the time where the journal adds its own."""
    journal = os.environ.get("JOURNAL_STREAM") and not isinstance(handler, logging.FileHandler)
    stamp = "" if journal else "%(asctime)s "
    hide = Hiding()
    handler.setFormatter(HidingFormatter(f"{stamp}%(levelname)s %(name)s: %(message)s", hide))
    logging.getLogger().addHandler(handler)
    return hide


def _after_cycle(engine: Engine, status: StatusFile, report: Report, process: ProcessState) -> None:
    status.write(engine, report)
    for change in process.put_back():
        LOG.warning("a plugin has changed %s: it is as before again; `mom plugin check` says which plugin does that", change)
    done = [outcome for outcome in report.outcomes if outcome.status is not Status.UNCHANGED]
    level = logging.INFO if any(outcome.status is not Status.OBSERVED for outcome in done) else logging.DEBUG
    if not LOG.isEnabledFor(level):
        return
    counts = ", ".join(f"{n} {status}" for status in Status if (n := sum(outcome.status is status for outcome in report.outcomes)))
    guests = len(report.snapshot.guests)
    LOG.log(level, "cycle %d: %d guests, %s, %.0f ms", report.number, guests, counts or "nothing to do", report.duration * 1e3)


def leave() -> None:
    """End the process even when a plugin left a thread behind that would keep it alive."""
    lingering = [t.name for t in threading.enumerate() if t is not threading.main_thread() and not t.daemon]
    hung = [t.name for t in threading.enumerate() if t.daemon and t.name.startswith("mom-")]
    if lingering or hung:
        LOG.warning("left behind: %s", ", ".join(lingering + hung))
        logging.shutdown()
        sys.stdout.flush()
        os._exit(0)
