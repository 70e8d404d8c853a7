"""The fields that the plugin declares, and those of others that it reads."""

from typing import Final

from mom_core import FieldSpec, Scope, Unit
from mom_plugins_record.forecast.host_days import USED_FIELDS

_H, _G = Scope.HOST, Scope.GUEST
_DAYS: Final = "its days, as mom has learned them"

FIELDS: Final = (
    *(
        FieldSpec(name, unit, _G, description, _DAYS)
        for name, unit, description in (
            ("mem_used_expected", Unit.KIB, "what the guest usually uses at this time of day and week; unknown without a pattern"),
            ("mem_used_expected_soon", Unit.KIB, "the most that the guest is expected to use soon, with what its forecast was wrong by"),
            ("mem_rises_in", Unit.SECONDS, "in how long the guest will begin to use more, where that is expected soon; unknown: it is not"),
            ("mem_expected_weight", Unit.RATIO, "how much the guest's forecast counts, 0 to 1: less on a day that differs"),
            ("mem_expected_error", Unit.KIB, "what the forecast of the guest's next hour was wrong by lately"),
        )
    ),
    *(
        FieldSpec(name, unit, _H, description, "days of all guests, as mom has learned them")
        for name, unit, description in (
            ("guests_forecast", Unit.COUNT, "guests that have a pattern: their forecast is better than that they stay as they are"),
            (
                "host_rise_expected",
                Unit.KIB,
                "what guests with a pattern are expected to use soon, more than now, together; 0: no rise is expected",
            ),
            ("forecast_error", Unit.KIB, "what the forecasts of guests' next hour were wrong by lately, in all"),
            ("forecast_error_unlearned", Unit.KIB, "what forecast_error would have been if guests had been expected to stay as they are"),
        )
    ),
    *(FieldSpec.reads(name, Unit.KIB, _G) for name in USED_FIELDS),
)
