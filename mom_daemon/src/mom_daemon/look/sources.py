"""Sources of data: the running mom, its status file, or a recording."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

from mom_core import Config, MomError, PluginSettings
from mom_core.plugins.discovery import LoadedPlugin
from mom_daemon.look.running import NotRunning, RunningMom
from mom_daemon.look.status_file import RunningStatus, read_status
from mom_daemon.plugins.class_hooks import having, offered
from mom_kvm import PastCycle, PastCycles

Found = TypeVar("Found")
Kind = TypeVar("Kind")


def running_mom(config: Config) -> RunningMom | None:
    """Return the first connection that a plugin offers. mom need not be running."""
    return _of_enabled(RunningMom, config)


def ask(config: Config, question: Callable[[RunningMom], Found]) -> tuple[Found, str] | None:
    """Ask the running mom. Return its answer and address; None without a connection, or if no mom is running."""
    running = running_mom(config)
    try:
        return None if running is None else (question(running), running.where)
    except NotRunning:
        return None


def told(config: Config) -> RunningStatus | None:
    """Return the running mom's status; None if no mom is running. Raise `MomError` if the status is unknown."""
    try:
        return read_status(config.run_directory)
    except MomError as error:
        if not isinstance(error.__cause__, PermissionError):
            raise
        answer = ask(config, lambda running: running.report())  # for users who may only read the socket
        if answer is None:
            raise
        return RunningStatus.of(*answer)


def recording(config: Config | None, path: Path | None) -> PastCycles:
    """Return the recording at a path, or of the configured mom if the path is None. Raise `MomError` if there is none."""
    if config is not None and (enabled := _of_enabled(PastCycles, config, path)) is not None:
        return enabled
    if path is None:
        hint = "add `record: {}` to `plugins`, or give the path of a recording with --recording"
        raise MomError("there is no recording: the configuration enables no plugin that records", hint=hint)
    for plugin in having("mom_source").values():
        if (source := _source(PastCycles, plugin, Config(), None, path)) is not None:
            return source
    raise MomError(f"no installed plugin reads {path}", hint="`mom plugin list` shows plugins that you can install")


def _of_enabled(kind: Callable[..., Kind], config: Config, path: Path | None = None) -> Kind | None:
    offers = (_source(kind, plugin.loaded, config, plugin.settings, path) for plugin in config.plugins.values())
    return next((offer for offer in offers if offer is not None), None)


# Not `type[Kind]`: type checkers refuse abstract classes there.
def _source(
    kind: Callable[..., Kind], plugin: LoadedPlugin, config: Config, settings: PluginSettings | None, path: Path | None = None
) -> Kind | None:
    sources: list[Kind] = offered(
        plugin,
        "mom_source",
        kind=kind,
        settings=settings,
        run_directory=config.run_directory,
        state_directory=config.state_directory,
        path=path,
    )
    return sources[0] if sources else None


def newest(recorded: PastCycles, count: int, *, until: float = math.inf) -> Sequence[PastCycle]:
    """Return the last `count` cycles, oldest first. Raise `MomError` if the recording is unreadable."""
    end = min(time.time(), until)
    for seconds in (*_BACKWARDS, math.inf):
        cycles = deque(recorded.cycles(end - seconds, until), maxlen=count)
        if cycles:
            return cycles
    return ()


_BACKWARDS: Final = (600.0, 86_400.0)
