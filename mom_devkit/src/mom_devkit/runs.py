"""Time in tests: runs of a real engine with a simulated clock, and waits for threads and processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar, cast

from mom_core import Clock, Config, Decision, Engine, GuestSettings, PluginSettings, Report, Status, Value, load_config, read_settings
from mom_core.config import ConfiguredPlugin
from mom_core.config.document import mapping_document
from mom_core.plugins.discovery import LoadedPlugin
from mom_devkit.hosts import host_of

Found = TypeVar("Found")

NEW_YEAR = 1_767_225_600.0
"""Wall-clock time at each run's start: 2026-01-01 00:00 UTC."""


@dataclass
class HandClock:
    """Clock that stands still until a test changes `now` (seconds).

    Use it as `context.monotonic`, or in an engine's `Clock(clock, clock.wall)`.
    """

    now: float = 0.0

    def __call__(self) -> float:
        """Return `now`."""
        return self.now

    def wall(self) -> float:
        """Return `NEW_YEAR` plus `now`."""
        return NEW_YEAR + self.now


def plugin_settings(section: Mapping[str, object], name: str, model: type[PluginSettings]) -> PluginSettings:
    """Validate a plugin's section. Raise `ConfigError` if it is invalid."""
    return read_settings(mapping_document(section, f"settings of {name}"), model, f"plugin {name!r}")


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
    """Return a configuration that keeps all state below `directory`. Raise `ConfigError` if it is invalid.

    :param plugins: as in `run_plugins`
    :param settings: sections for the classes in `plugins`, keyed by name
    :param guests: the section `guests`, for installed plugins
    :param interval: seconds between cycles
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
    """Reports of all cycles of a run, in order."""

    reports: Sequence[Report]

    def values(self, guest: str, field: str) -> list[Value]:
        """Return a guest's field in each cycle; None if unknown."""
        cycles = ({each.name: each.fields for each in report.snapshot.guests.values()} for report in self.reports)
        return [guests.get(guest, {}).get(field) for guests in cycles]

    def decided(self, control: str, guest: str | None = None) -> list[Value]:
        """Return all values decided for a control, of one guest or of all."""
        return _values((decision for report in self.reports for decision in report.decisions), control, guest)

    def applied(self, control: str, guest: str | None = None) -> list[Value]:
        """Return all values that mom has applied; parameters as in `decided`."""
        outcomes = (outcome for report in self.reports for outcome in report.outcomes)
        return _values((outcome.decision for outcome in outcomes if outcome.status is Status.APPLIED), control, guest)

    @property
    def problems(self) -> list[str]:
        """Return each problem once, as `source: message`."""
        return list(dict.fromkeys(f"{problem.source}: {problem.message}" for report in self.reports for problem in report.problems))

    def assert_never_below(self, field: str, least: float | str) -> None:
        """Assert that a field was never below a number or another field. Unknown values do not count."""
        for number, report in enumerate(self.reports, 1):
            for guest in report.snapshot.guests.values():
                value, bound = guest.fields.get(field), guest.fields.get(least) if isinstance(least, str) else least
                if isinstance(value, int | float) and isinstance(bound, int | float) and value < bound:
                    raise AssertionError(f"cycle {number}: guest {guest.name} has {field} {value}, less than {least} ({bound})")


def _values(decisions: Iterable[Decision], control: str, guest: str | None) -> list[Value]:
    return [decision.value for decision in decisions if decision.control == control and guest in {None, decision.entity.name}]


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
    """Run a number of cycles, as fast as possible.

    :param folder: folder for all state of the run
    :param plugins: plugins in order. For an installed plugin, its name and its section; otherwise any name and the plugin's class
    :param interval: seconds between cycles in simulated time
    :param guests: the section `guests`
    :param policies: texts for the `policy` plugin, keyed by name
    :param between: called before each cycle with its number, from 1
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


# --- waits -------------------------------------------------------------------------------------------------------------------

LONGEST_PAUSE_SECONDS: Final = 0.1
"""Longest pause between two calls of `look`."""

LONGEST_STEP_SECONDS: Final = 10.0
"""Maximum time that counts between two calls of `look`: a virtual machine may pause while its clock continues."""


def wait_until(look: Callable[[], Found | None], explain: object = "it did not happen", seconds: float = 120.0) -> Found:
    """Return the first true value of `look`. Raise `AssertionError` if there is none within `seconds`.

    :param explain: text for the error, or a function that returns it
    """
    waited, last = 0.0, time.monotonic()
    while not (value := look()):
        now = time.monotonic()
        waited += min(now - last, LONGEST_STEP_SECONDS)
        last = now
        if waited > seconds:
            raise AssertionError(f"not within {seconds:g} s: {explain() if callable(explain) else explain}")
        time.sleep(min(LONGEST_PAUSE_SECONDS, 0.001 + waited / 10))
    return value
