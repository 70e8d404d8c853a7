"""The fields that the plugin declares, and those of others that it reads."""

from typing import Final

from mom_core import FieldSpec, Scope, Unit
from mom_plugins_forecast.host_days import USED_FIELDS

_H, _G = Scope.HOST, Scope.GUEST
_DAYS: Final = "its days, as mom has learned them"

FIELDS: Final = (
    *(
        FieldSpec(name, unit, _G, description, _DAYS)
        for name, unit, description in (
            ("mem_used_expected", Unit.KIB, "what the guest usually uses at this time of day and week; unknown without a pattern"),
            ("mem_used_expected_soon", Unit.KIB, "the most that it is expected to use soon, with what its forecast was wrong by"),
            ("mem_rises_in", Unit.SECONDS, "in how long a rise begins that is expected soon; unknown: none is"),
            ("mem_expected_weight", Unit.RATIO, "how much its forecast counts, 0 to 1: less on a day that differs"),
            ("mem_expected_error", Unit.KIB, "what the forecast of its next hour was wrong by lately"),
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
            ("forecast_error", Unit.KIB, "what the forecasts of their next hour were wrong by lately, in all"),
            ("forecast_error_unlearned", Unit.KIB, "what it would have been if they had been expected to stay as they are"),
        )
    ),
    *(FieldSpec.reads(name, Unit.KIB, _G) for name in USED_FIELDS),
)
