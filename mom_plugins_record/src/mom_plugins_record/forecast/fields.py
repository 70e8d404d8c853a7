"""Fields and columns of the plugin, and fields of others that it reads."""

from typing import Final

from mom_core import FieldSpec, GuestColumn, Scope, Unit
from mom_kvm import GuestField
from mom_plugins_record.forecast.host_days import USED_FIELDS

_H, _G = Scope.HOST, Scope.GUEST

FIELDS: Final = (
    *(
        FieldSpec(name, unit, scope, description, "guests' days, learned by mom")
        for name, unit, scope, description in (
            ("mem_used_expected", Unit.KIB, _G, "usual memory use at this time of day and week; unknown without a pattern"),
            ("mem_used_expected_soon", Unit.KIB, _G, "largest expected use soon, with the usual error of the forecast"),
            ("mem_rises_in", Unit.SECONDS, _G, "time until the guest's use is expected to rise; unknown if no rise is expected soon"),
            ("mem_expected_weight", Unit.RATIO, _G, "weight of the guest's forecast, 0 to 1: less on a day that differs"),
            ("mem_expected_error", Unit.KIB, _G, "recent error of forecasts of the guest's next hour"),
            ("guests_forecast", Unit.COUNT, _H, "guests with a pattern: their forecast is better than expecting no change"),
            ("host_rise_expected", Unit.KIB, _H, "expected growth soon of all guests with a pattern together; 0 if no rise is expected"),
            ("forecast_error", Unit.KIB, _H, "recent error of forecasts of the next hour, summed over guests"),
            ("forecast_error_unlearned", Unit.KIB, _H, "the same error for forecasts of no change"),
        )
    ),
    *(FieldSpec.reads(name, Unit.KIB, _G) for name in (*USED_FIELDS, GuestField.QEMU_OVERHEAD)),
    FieldSpec.reads("vcpu_count", Unit.COUNT, _G),
)

COLUMNS: Final = (
    GuestColumn("expected", ("mem_used_expected",), Unit.KIB, "usual use at this time of day and week", 24, 5,
                "mom_guest_memory_expected_bytes"),
    GuestColumn("expected soon", ("mem_used_expected_soon",), Unit.KIB, "largest expected use soon", 25, None,
                "mom_guest_memory_expected_soon_bytes"),
    GuestColumn("forecast error", ("mem_expected_error",), Unit.KIB, "recent error of forecasts of its next hour", 26, None,
                "mom_guest_forecast_error_bytes"),
    GuestColumn("forecast weight", ("mem_expected_weight",), Unit.RATIO, "weight of its forecast: less on a day that differs", 27, None,
                "mom_guest_forecast_weight_ratio"),
)  # fmt: skip
