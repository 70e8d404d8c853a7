"""Curves of guests' days, and what is lost of them in half of the memory."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mom_plugins_record.forecast.curve import HalfCurve, unknown_curve


@given(st.floats(min_value=0.0, max_value=1e12, allow_nan=False))
def test_half_curve_is_exact_to_half_a_percent(kib: float) -> None:
    curve = HalfCurve.of(unknown_curve(3))
    curve[1] = kib
    assert math.isnan(curve[0]), "unknown stays unknown"
    assert curve[1] == pytest.approx(kib, rel=0.004, abs=1e-30)
    kept = curve.to_bytes()
    again = HalfCurve.from_bytes(kept)
    assert len(kept) == 2 * len(curve), "two bytes each"
    assert (again[1], again.to_bytes(), again.whole()[1]) == (curve[1], kept, curve[1]), "and no more is lost when it is kept again"
    again[1] = again[1]
    assert again[1] == curve[1], "nor when it is set to what it is"


def test_half_curve_holds_invalid_numbers_as_unknown() -> None:
    curve = HalfCurve.of(unknown_curve(1))
    for wrong in (math.inf, 1e300, math.nan):
        curve[0] = 1.0
        curve[0] = wrong
        assert math.isnan(curve[0])
