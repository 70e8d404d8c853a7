"""Whole runs in a test: a few cycles of a real engine with given plugins, on a clock of their own, and what came of them. Classes of
plugins need no distribution; files are below a folder of the test's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from mom_core import Clock, Config, Decision, Engine, GuestSettings, PluginSettings, Report, Status, Value, load_config
from mom_core.config import ConfiguredPlugin
from mom_core.config.document import mapping_document
from mom_core.config.loader import settings_in
from mom_core.plugins.discovery import LoadedPlugin
from mom_devkit.hosts import host_of

NEW_YEAR = 1_767_225_600.0
"""Seconds since the epoch at which every run begins: midnight of 1 January 2026, UTC."""


@dataclass
class HandClock:
    """Stands still until a test moves `now`, in seconds: a plugin's `context.monotonic`, or with `wall` an engine's
    `Clock(clock, clock.wall)`."""

    now: float = 0.0

    def __call__(self) -> float:
        """What `now` says."""
        return self.now

    def wall(self) -> float:
        """Seconds since the epoch: it began at `NEW_YEAR`, and has gone on by as much as `now`."""
        return NEW_YEAR + self.now


def plugin_settings(said: Mapping[str, object], name: str, model: type[PluginSettings]) -> PluginSettings:
    """A plugin's settings, if this stood in its section of the configuration.

    :raises ConfigError: with all that is wrong, each with the way to it and a hint
    """
    return settings_in(mapping_document(said, f"settings of {name}"), model, f"plugin {name!r}")


def config_of(
    directory: Path,
    plugins: Mapping[str, type | Mapping[str, object]],
    settings: Mapping[str, Mapping[str, object]] | None = None,
    *,
    guests: Mapping[str, Mapping[str, object]] | None = None,
    interval: float = 0.05,
    mode: str = "enforce",
    stop_timeout: float = 2.0,
    root: Path = Path("/"),
) -> Config:
    """A configuration of these plugins, in this order, whose ledger, lock and status are below `directory`.

    :param plugins: the name of an installed plugin and what YAML would say of it, or any name and a plugin's class, whose inner
        `Settings` and `GuestSettings` count as they do for an installed plugin
    :param settings: what YAML would say of classes, by plugin name: checked as YAML is
    :param guests: the section `guests`, with settings of installed plugins
    :param interval: seconds
    :param root: where /proc and /sys are found
    :raises ConfigError: with all that is wrong in the settings
    """
    classes = {name: item for name, item in plugins.items() if isinstance(item, type)}
    installed = {name: item for name, item in plugins.items() if not isinstance(item, type)}
    written = load_config({"plugins": installed, "guests": guests or {}}) if installed or guests else Config()
    configured = dict(written.plugins)
    for name, plugin_class in classes.items():
        settings_class: type[PluginSettings] = getattr(plugin_class, "Settings", PluginSettings)
        guest_class: type[GuestSettings] | None = getattr(plugin_class, "GuestSettings", None)
        loaded = LoadedPlugin(name, f"test-{name}", "0", plugin_class, settings_class, guest_class)
        configured[name] = ConfiguredPlugin(name, loaded, plugin_settings((settings or {}).get(name, {}), name, settings_class))
    return Config(
        interval=interval,
        mode="observe" if mode == "observe" else "enforce",
        root=root,
        state_directory=directory / "state",
        run_directory=directory / "run",
        stop_timeout=stop_timeout,
        plugins={name: configured[name] for name in plugins},
        guests=written.guests,
    )


@dataclass(frozen=True, slots=True)
class PluginRun:
    """A run: the reports of all its cycles, in order."""

    reports: Sequence[Report]

    def values(self, guest: str, field: str) -> list[Value]:
        """A field of the guest of this name in each cycle; None where it was unknown, or the guest not there."""
        seen = ({one.name: one.fields for one in report.snapshot.guests.values()} for report in self.reports)
        return [guests.get(guest, {}).get(field) for guests in seen]

    def decided(self, control: str, guest: str | None = None) -> list[Value]:
        """The values that evaluators decided of a control in the whole run, of one guest or of all."""
        return _values((one for report in self.reports for one in report.decisions), control, guest)

    def applied(self, control: str, guest: str | None = None) -> list[Value]:
        """The values that were applied."""
        outcomes = (one for report in self.reports for one in report.outcomes)
        return _values((one.decision for one in outcomes if one.status is Status.APPLIED), control, guest)

    @property
    def problems(self) -> list[str]:
        """All problems, once each, as `source: message`."""
        return list(dict.fromkeys(f"{problem.source}: {problem.message}" for report in self.reports for problem in report.problems))

    def assert_never_below(self, field: str, least: float | str) -> None:
        """No guest ever had less of a field than a number, or than another field of its own; unknown ones are not looked at."""
        for number, report in enumerate(self.reports, 1):
            for guest in report.snapshot.guests.values():
                value, bound = guest.fields.get(field), guest.fields.get(least) if isinstance(least, str) else least
                if isinstance(value, int | float) and isinstance(bound, int | float) and value < bound:
                    raise AssertionError(f"cycle {number}: guest {guest.name} has {field} {value}, less than {least} ({bound})")


def _values(decisions: Iterable[Decision], control: str, guest: str | None) -> list[Value]:
    return [one.value for one in decisions if one.control == control and guest in {None, one.entity.name}]


def run_plugins(
    folder: Path,
    plugins: Mapping[str, type | Mapping[str, object]],
    *,
    cycles: int,
    interval: float = 5.0,
    guests: Mapping[str, Mapping[str, object]] | None = None,
    policies: Mapping[str, str] | None = None,
    mode: str = "enforce",
    root: Path = Path("/"),
    between: Callable[[int], None] | None = None,
) -> PluginRun:
    """Run some cycles, as fast as they go.

    :param folder: for ledger, lock and whatever plugins keep
    :param plugins: in the order of precedence: the name of an installed plugin and its settings, or any name and a plugin's class
    :param interval: seconds from one cycle to the next, on the run's own clock
    :param guests: the section `guests`
    :param policies: texts by name, for the installed plugin `policy`
    :param between: called with the number of each cycle, from 1, before it begins: to change the world
    """
    if policies is not None:
        directory = host_of(folder / "policy.d", {f"{name}.policy": text for name, text in policies.items()})
        own = cast("Mapping[str, object]", plugins.get("policy", {}))
        plugins = {**plugins, "policy": {**own, "directory": str(directory)}}
    config = config_of(folder, plugins, guests=guests, interval=interval, mode=mode, root=root)
    clock, reports = HandClock(), []
    with Engine(config, Clock(clock, clock.wall)) as engine:
        for number in range(1, cycles + 1):
            clock.now = number * interval
            if between is not None:
                between(number)
            reports.append(engine.cycle())
    return PluginRun(reports)
