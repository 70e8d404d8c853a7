"""Plugin `forecast`: learns guests' daily memory use from each cycle, and forecasts it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from mom_core import (
    Columns,
    Config,
    Declaration,
    FieldSpec,
    Guest,
    GuestColumn,
    MomError,
    PluginContext,
    PluginSettings,
    Report,
    Scope,
    Suggestion,
    Unit,
    Value,
    hookimpl,
)
from mom_kvm import GuestField, late_hook
from mom_plugins_record.forecast.curve import HOUR_SLOTS, Calendar
from mom_plugins_record.forecast.files import DaysKeeper
from mom_plugins_record.forecast.host_days import USED_FIELDS, HostDays

CALENDAR: Final = Calendar()

_H, _G = Scope.HOST, Scope.GUEST

FIELDS: Final = (
    *(
        FieldSpec(name, unit, scope, description, "guests' daily memory use, learned by mom")
        for name, unit, scope, description in (
            ("mem_used_expected", Unit.KIB, _G, "usual memory use at this time of day and week; unknown without a pattern"),
            ("mem_used_expected_soon", Unit.KIB, _G, "largest memory use expected soon, plus the usual error of the forecast"),
            ("mem_rises_in", Unit.SECONDS, _G, "time until the guest's use is expected to rise; unknown if no rise is expected soon"),
            ("mem_expected_weight", Unit.RATIO, _G, "weight of the guest's forecast, 0 to 1: lower on an unusual day"),
            ("mem_expected_error", Unit.KIB, _G, "recent error of forecasts of the guest's next hour"),
            ("guests_forecast", Unit.COUNT, _H, "number of guests with a pattern: their forecast is better than expecting no change"),
            ("host_rise_expected", Unit.KIB, _H, "growth expected soon of all guests with a pattern together; 0 if no rise is expected"),
            ("forecast_error", Unit.KIB, _H, "recent error of forecasts of the next hour, summed over guests"),
            ("forecast_error_unlearned", Unit.KIB, _H, "error that forecasts of no change would have had"),
        )
    ),
    *(FieldSpec.reads(name, Unit.KIB, _G) for name in (*USED_FIELDS, GuestField.QEMU_OVERHEAD)),
    FieldSpec.reads("vcpu_count", Unit.COUNT, _G),
)

COLUMNS: Final = (
    GuestColumn("expected", ("mem_used_expected",), Unit.KIB, "usual memory use at this time of day and week", 24, 5,
                "mom_guest_memory_expected_bytes"),
    GuestColumn("expected soon", ("mem_used_expected_soon",), Unit.KIB, "largest memory use expected soon", 25, None,
                "mom_guest_memory_expected_soon_bytes"),
    GuestColumn("forecast error", ("mem_expected_error",), Unit.KIB, "recent error of forecasts of the next hour", 26, None,
                "mom_guest_forecast_error_bytes"),
    GuestColumn("forecast weight", ("mem_expected_weight",), Unit.RATIO, "weight of the forecast: lower on an unusual day", 27, None,
                "mom_guest_forecast_weight_ratio"),
)  # fmt: skip


class ForecastPlugin:
    """Forecasts of guests' memory use: usual use by time of day and week, learned from each cycle, and expected use soon."""

    Settings = PluginSettings

    def __init__(self, settings: PluginSettings, context: PluginContext) -> None:
        self._context = context
        self._days = HostDays(CALENDAR)
        self._keeper: DaysKeeper | None = None
        self._written = 0

    @staticmethod
    @hookimpl
    def mom_suggest(root: Path) -> Suggestion | None:
        if not (root / "dev/kvm").exists():
            return None
        return Suggestion("it learns when guests need memory, and makes room in time", order=45)

    @hookimpl
    def mom_declare(self) -> Iterable[Declaration]:
        return (*FIELDS, *COLUMNS)

    @hookimpl
    def mom_setup(self) -> None:
        self._keeper = DaysKeeper(self._context, self._days)

    @hookimpl
    def mom_reload(self) -> Callable[[], None] | None:
        return None if self._keeper is None else self._keeper.take_in

    @hookimpl
    def mom_teardown(self) -> None:
        if self._keeper is not None:
            self._keeper.close(keep=self._context.serves and self._written > 0)

    @hookimpl
    def mom_collect_guests(self, guests: Sequence[Guest]) -> Columns | Mapping[str, Mapping[str, Value]]:
        return self._days.columns(guests) or {}

    @hookimpl
    def mom_collect_host(self) -> Mapping[str, Value]:
        return self._days.host_fields()

    @hookimpl
    def mom_report(self, report: Report) -> None:
        hour = self._days.calendar.index(report.snapshot.time) // HOUR_SLOTS
        due, self._written = self._written not in (0, hour), hour
        if self._keeper is not None:
            self._keeper.see(report.snapshot, due=due)

    mom_status = late_hook("mom_plugins_record.forecast.surface:forecast_parts", "report")

    mom_explainer = late_hook("mom_plugins_record.forecast.surface:ForecastExplainer")


def days_folder(config: Config) -> Path:
    """Return the folder with the files of learned days. Raise `MomError` if the plugin is not enabled."""
    for name, plugin in config.plugins.items():
        if plugin.loaded.plugin_class is ForecastPlugin:
            return config.state_directory / name
    raise MomError("the configuration does not enable the forecast plugin", hint="add `forecast: {}` to `plugins`")
