"""The plugin: learns the days of guests from what each cycle says, and tells what is expected."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from mom_core import Declaration, Duration, Guest, PluginContext, PluginSettings, Report, Value, hookimpl
from mom_plugins_forecast.fields import FIELDS
from mom_plugins_forecast.host_days import HostDays
from mom_plugins_forecast.slots import SLOTS, Calendar
from mom_toolkit import Days, Forecasts


class ForecastPlugin:
    """Guests' days, learned: what each usually uses at which time of day and week, and what it will soon."""

    class Settings(PluginSettings):
        """What a day is, and how far is looked ahead."""

        day: Annotated[Duration, Field(ge=60, le=7 * 86_400)] = 86_400.0
        """How long a day is, for tests with days that are made up; it has 96 slots. Another one forgets what was learned."""

        week: Annotated[int, Field(ge=1, le=31)] = 7
        """After how many days the same kind of day comes again. Another number forgets what was learned."""

        ahead: Annotated[Duration, Field(gt=0)] | None = None
        """How far what guests will use soon looks ahead, at most a day. Unset: one slot of the day, which is 15 minutes."""

    def __init__(self, settings: Settings, context: PluginContext) -> None:
        self._context = context
        ahead = settings.day / SLOTS if settings.ahead is None else min(settings.ahead, settings.day)
        self._days = HostDays(Calendar(settings.day, settings.week), ahead)

    @hookimpl
    def mom_declare(self) -> Iterable[Declaration]:
        """Fields."""
        return FIELDS

    @hookimpl
    def mom_services(self) -> Mapping[type, Any]:
        """Forecasts, for those that make room."""
        return {Forecasts: self}

    @hookimpl
    def mom_collect_guests(self, guests: Sequence[Guest]) -> Any:
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

    # --- Forecasts, from any thread ------------------------------------------------------------------------------------------------

    def most_expected(self, uuid: str, seconds: float) -> int | None:
        """The most that the guest with this id is expected to use within so many seconds."""
        return self._days.most_expected(uuid, seconds)

    def rise_expected(self, seconds: float) -> int:
        """What guests are expected to use more than now, together, within so many seconds."""
        return self._days.rise_expected(seconds)

    def days(self, uuid: str) -> Days | None:
        """The days of the guest with this id."""
        return self._days.days(uuid)
