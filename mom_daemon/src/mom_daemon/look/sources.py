"""Sources of data: the running mom, its status file, a recording, or one reading of the host."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Final, TypeVar

from mom_core import Condition, Config, EngineState, Guest, MomError, PluginSettings, Problem, Report, first_names, printable
from mom_core.engine.collect import GUESTS_UNKNOWN, Collector
from mom_core.plugins.discovery import LoadedPlugin
from mom_core.plugins.registry import build_plugins
from mom_daemon.plugin_parts import RunningMom
from mom_daemon.plugins.declared import having, offered
from mom_daemon.report_models import ReportDocument, report_document
from mom_daemon.status_file import RunningStatus, read_status
from mom_kvm import PastCycles


class NoSuchGuest(MomError):
    """No guest, or more than one, has this name or id. The hint lists similar names."""


class NotRunning(MomError):
    """No mom is running, or no plugin connects to it."""


_COMPARED_NAMES: Final = 2000


def find_guest(guests: Mapping[str, Guest], wanted: str, unknown: Condition | None = None) -> Guest:
    """Return the guest with this id or name.

    :raises NoSuchGuest: no guest, or more than one, has this name
    :raises MomError: mom does not know its guests, for the reason in `unknown`
    """
    if unknown is not None:
        raise MomError(unknown.message, hint=unknown.cure)
    named = [guest for guest in guests.values() if guest.name == wanted]
    found = guests.get(wanted) or (named[0] if len(named) == 1 else None)
    if found is not None:
        return found
    if named:
        hint = f"specify the guest by its ID: {first_names([guest.id for guest in named])}"
        raise NoSuchGuest(f"{len(named)} guests are called {printable(wanted)}", hint=hint)
    names = [guest.name for guest in guests.values()]
    alike = [name for name in names if wanted and wanted.lower() in name.lower()][:3]
    alike = alike or get_close_matches(wanted[:100], names[:_COMPARED_NAMES], 3, 0.6)
    hint = f"did you mean {' or '.join(map(printable, alike))}?" if alike else "`mom guests` lists all guests"
    raise NoSuchGuest(f"there is no guest {printable(wanted)}", hint=hint)


Found = TypeVar("Found")
Kind = TypeVar("Kind")


def ask(config: Config, question: Callable[[RunningMom], Found]) -> tuple[Found, str]:
    """Ask the running mom. Return its answer and address. Raise `NotRunning` without a running mom."""
    running = _of_enabled(RunningMom, config)
    if running is None:
        raise NotRunning("no enabled plugin answers queries for the running mom", hint="write `http: {}` under `plugins`")
    return question(running), running.where


def running_status(config: Config) -> RunningStatus | None:
    """Return the running mom's status; None if no mom is running. Raise `MomError` if the status is unknown."""
    try:
        return read_status(config.run_directory)
    except MomError as error:
        if not isinstance(error.__cause__, PermissionError):
            raise
        try:
            return RunningStatus.of(*ask(config, lambda running: running.report()))  # for users who may only read the socket
        except NotRunning:
            raise error from None


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


LOOK_SECONDS: Final = 10.0


def look(config: Config) -> tuple[ReportDocument, list[Problem]]:
    """Return one snapshot as a report, and the problems while reading it.

    :raises MomError: the hypervisor does not list its guests
    """
    patient = {
        name: replace(plugin, settings=plugin.settings.model_copy(update={"deadline": max(plugin.settings.deadline, LOOK_SECONDS)}))
        for name, plugin in config.plugins.items()
    }
    plugins = build_plugins(replace(config, plugins=patient))
    try:
        snapshot, problems = Collector(plugins, config.interval).snapshot(1, time.time(), time.monotonic())
        if unknown := next((problem for problem in problems if problem.message.startswith(GUESTS_UNKNOWN)), None):
            raise MomError(f"{unknown.source}: {unknown.message}", hint=unknown.hint)
        report = Report(1, snapshot.time, config.mode, snapshot, (), (), (), (), (), 0.0)
        return report_document(report, plugins.declarations, EngineState(), config.interval), problems
    finally:
        plugins.close(2.0)
