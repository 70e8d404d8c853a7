"""Whole runs in a test: a few cycles of a real engine with given plugins, on a clock of their own, and what came of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from mom_core import Clock, Config, Engine, Guest, Report, Status, Value, load_config
from mom_devkit.engines import config_of

NEW_YEAR = 1_767_225_600.0
"""Seconds since the epoch at which every run begins: midnight of 1 January 2026, UTC."""


@dataclass(frozen=True, slots=True)
class GuestRun:
    """One guest through a run: in each cycle the guest as it was seen, or None when it was not there."""

    name: str
    seen: Sequence[Guest | None]

    def values(self, field: str) -> list[Value]:
        """The field in each cycle; None where it was unknown, or the guest not there."""
        return [None if guest is None else guest.fields.get(field) for guest in self.seen]

    @property
    def last(self) -> Guest:
        """The guest in the last cycle in which it was there. Raises `AssertionError` when it never was."""
        for guest in reversed(self.seen):
            if guest is not None:
                return guest
        raise AssertionError(f"guest {self.name} was never there")


@dataclass(frozen=True, slots=True)
class PluginRun:
    """What came of a run: the reports of all its cycles, in order."""

    reports: Sequence[Report]

    @property
    def guests(self) -> Mapping[str, GuestRun]:
        """All guests that were ever seen, by name."""
        names = dict.fromkeys(guest.name for report in self.reports for guest in report.snapshot.guests.values())
        by_name = [{guest.name: guest for guest in report.snapshot.guests.values()} for report in self.reports]
        return {name: GuestRun(name, [cycle.get(name) for cycle in by_name]) for name in names}

    def guest(self, name: str) -> GuestRun:
        """One of them. Raises `AssertionError` when there was no such guest."""
        found = self.guests.get(name)
        if found is None:
            raise AssertionError(f"there was no guest {name}, but {', '.join(self.guests) or 'none at all'}")
        return found

    def decided(self, control: str, guest: str | None = None) -> list[Value]:
        """What evaluators wanted of a control in the whole run, of one guest or of all."""
        return [
            decision.value
            for report in self.reports
            for decision in report.decisions
            if decision.control == control and guest in {None, decision.entity.name}
        ]

    def applied(self, control: str, guest: str | None = None) -> list[Value]:
        """What was done of it."""
        return [
            outcome.decision.value
            for report in self.reports
            for outcome in report.outcomes
            if outcome.status is Status.APPLIED and outcome.decision.control == control and guest in {None, outcome.decision.entity.name}
        ]

    @property
    def problems(self) -> list[str]:
        """What went wrong, once each, as `source: message`."""
        return list(dict.fromkeys(f"{problem.source}: {problem.message}" for report in self.reports for problem in report.problems))

    def assert_no_problems(self) -> None:
        """Nothing went wrong."""
        assert not self.problems, "\n".join(self.problems)  # noqa: S101  # that is what it is for

    def assert_never_below(self, field: str, least: float | str) -> None:
        """No guest ever had less of a field than a number, or than another field of its own; unknown ones are not looked at."""
        for number, report in enumerate(self.reports, 1):
            for guest in report.snapshot.guests.values():
                value, bound = guest.fields.get(field), guest.fields.get(least) if isinstance(least, str) else least
                if isinstance(value, int | float) and isinstance(bound, int | float) and value < bound:
                    raise AssertionError(f"cycle {number}: guest {guest.name} has {field} {value}, less than {least} ({bound})")

    def assert_settled(self, cycles: int) -> None:
        """In the last so many cycles nothing was changed."""
        for report in self.reports[-cycles:]:
            for outcome in report.outcomes:
                if outcome.status is Status.APPLIED:
                    decision = outcome.decision
                    raise AssertionError(f"cycle {report.number}: {decision.control} of {decision.entity} was set to {decision.value}")


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
    now = 0.0
    config = _config(folder, plugins, guests, policies, mode, root, interval)
    reports = []
    with Engine(config, Clock(lambda: now, lambda: NEW_YEAR + now)) as engine:
        for number in range(1, cycles + 1):
            now = number * interval
            if between is not None:
                between(number)
            reports.append(engine.cycle())
    return PluginRun(reports)


def _config(
    folder: Path,
    plugins: Mapping[str, type | Mapping[str, object]],
    guests: Mapping[str, Mapping[str, object]] | None,
    policies: Mapping[str, str] | None,
    mode: str,
    root: Path,
    interval: float,
) -> Config:
    classes = {name: item for name, item in plugins.items() if isinstance(item, type)}
    installed: dict[str, Any] = {name: dict(cast("Mapping[str, object]", item)) for name, item in plugins.items() if name not in classes}
    if policies is not None:
        directory = folder / "policy.d"
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in policies.items():
            (directory / f"{name}.policy").write_text(text)
        installed.setdefault("policy", {})["directory"] = str(directory)
    made = config_of(folder, classes, interval=interval, mode=mode, root=root)
    if not installed:
        return made
    loaded = load_config({"plugins": installed, "guests": dict(guests or {})})
    known = {**loaded.plugins, **made.plugins}
    order = list(dict.fromkeys([*plugins, *installed]))
    return replace(made, plugins={name: known[name] for name in order}, guests=loaded.guests)
