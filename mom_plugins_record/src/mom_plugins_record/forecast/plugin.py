"""The plugin: learns the days of guests from what each cycle says, and tells what is expected."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from mom_core import (
    Columns,
    Declaration,
    Duration,
    Finding,
    Guest,
    Hypervisor,
    PluginContext,
    PluginSettings,
    Report,
    Severity,
    Suggestion,
    Value,
    format_duration,
    hookimpl,
)
from mom_kvm import Forecasts, PastDays, late_hook
from mom_plugins_record.forecast.fields import FIELDS
from mom_plugins_record.forecast.host_days import HostDays
from mom_plugins_record.forecast.keeper import DaysKeeper
from mom_plugins_record.forecast.kept import PAST
from mom_plugins_record.forecast.overview import COLUMNS
from mom_plugins_record.forecast.slots import HOUR_SLOTS, LONGEST_DAY, LONGEST_WEEK, SHORTEST_DAY, SLOTS, Calendar
from mom_plugins_record.forecast.stored import StoredPast


class ForecastPlugin:
    """Guests' days, learned: what each usually uses at which time of day and week, and what it will soon."""

    class Settings(PluginSettings):
        """What a day is, and how far is looked ahead."""

        day: Annotated[Duration, Field(ge=SHORTEST_DAY, le=LONGEST_DAY)] = 86_400.0
        """How long a day is, for tests with days that are made up; it has 96 slots. With another one, what was learned is not used."""

        week: Annotated[int, Field(ge=1, le=LONGEST_WEEK)] = 7
        """After how many days the same kind of day comes again. With another number, what was learned is not used."""

        ahead: Annotated[Duration, Field(gt=0, le=LONGEST_DAY)] | None = None
        """How far "soon" looks ahead, at most a day. Unset: one slot of the day, which is 15 minutes."""

        @property
        def calendar(self) -> Calendar:
            """How time is divided."""
            return Calendar(self.day, self.week)

    def __init__(self, settings: Settings, context: PluginContext) -> None:
        self._context = context
        self._ahead = settings.day / SLOTS if settings.ahead is None else min(settings.ahead, settings.day)
        self._days = HostDays(settings.calendar, self._ahead)
        self._keeper: DaysKeeper | None = None
        self._written = 0

    @staticmethod
    @hookimpl
    def mom_suggest(root: Path) -> Suggestion | None:
        """Fits where guests can run."""
        if not (root / "dev/kvm").exists():
            return None
        return Suggestion("it learns guests' days, so that there is room before it is needed", order=45)

    @hookimpl
    def mom_declare(self) -> Iterable[Declaration]:
        """Fields, and figures of guests."""
        return (*FIELDS, *COLUMNS)

    @hookimpl
    def mom_services(self) -> Mapping[type, Any]:
        """Forecasts, for those that make room."""
        return {Forecasts: self._days}

    @hookimpl
    def mom_setup(self) -> None:
        """Read what was learned before."""
        self._keeper = DaysKeeper(self._context, self._days)

    @hookimpl
    def mom_teardown(self) -> None:
        """Keep what was learned."""
        if self._keeper is not None:
            self._keeper.close(self._days if self._context.serves and self._written else None)

    @hookimpl
    def mom_collect_guests(self, guests: Sequence[Guest]) -> Columns | Mapping[str, Mapping[str, Value]]:
        """What is expected of each guest, by what the last cycle has shown."""
        return self._days.columns(guests) or {}

    @hookimpl
    def mom_collect_host(self) -> Mapping[str, Value]:
        """What is expected of all of them together."""
        return self._days.host_fields()

    @hookimpl
    def mom_report(self, report: Report) -> None:
        """Learn from a cycle: here, as what is learned is of use in the next one."""
        self._days.see(report.snapshot)
        hour = self._days.calendar.index(report.snapshot.time) // HOUR_SLOTS
        due, self._written = self._written not in (0, hour), hour
        if self._keeper is not None:
            self._keeper.go_on(self._days, report.snapshot.time, due=due)

    @hookimpl
    def mom_check(self) -> Iterable[Finding]:
        """Slots that are over before each was seen teach nothing."""
        slot, interval = self._days.calendar.slot_seconds, self._context.interval
        if interval > slot:
            text = f"nothing is learned: a slot of the day is {format_duration(slot)}, and mom looks each {format_duration(interval)}"
            yield Finding(Severity.ERROR, "guests' days", text, "make `day` longer, or `interval` shorter")

    # --- surface -----------------------------------------------------------------------------------------------------------------

    mom_status = late_hook("mom_plugins_record.forecast.overview:forecast_parts", "report")

    mom_explainer = late_hook("mom_plugins_record.forecast.explanation:ForecastExplainer")

    @hookimpl
    def mom_doctor(self, hypervisor: Hypervisor | None) -> Iterable[Finding]:
        """Of how many guests days were learned."""
        known = [item.days for item in self._days.known.values() if item.days.slots]
        patterns = sum(days.has_pattern for days in known)
        text = (
            f"days of {len(known)} guests are known; {patterns} of them have a pattern" if known else "no days are known yet: it takes two"
        )
        yield Finding(Severity.OK, "guests' days", text)

    @staticmethod
    @hookimpl
    def mom_source(
        kind: type, settings: PluginSettings | None, run_directory: Path, state_directory: Path, path: Path | None
    ) -> StoredPast | None:
        """Guests' past days, as a mom with these settings has learned them; or those that are in the file at the path."""
        if kind is not PastDays or (path is not None and path.name not in {PAST.file, PAST.learned}):
            return None
        if path is not None:
            return StoredPast(path)
        if isinstance(settings, ForecastPlugin.Settings):
            return StoredPast(state_directory / "forecast", settings.calendar)
        return None
