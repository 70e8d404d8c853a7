"""Fields read as numbers, texts and lists. Invalid values are unknown, never 0."""

import math
from enum import IntEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mom_core import Guest, Host, Value, as_number, as_whole


class Level(IntEnum):
    HIGH = 3


def test_a_number_of_an_enum_is_a_number() -> None:
    assert (as_number(Level.HIGH), as_whole(Level.HIGH)) == (3, 3)


@pytest.mark.parametrize(
    "entity", [Guest("1", "vm", {"a": 2.0, "b": "x", "c": [{"d": 1}], "e": None}), Host("h", {"a": 2.0, "b": "x", "c": [{"d": 1}]})]
)
def test_a_host_and_a_guest_give_their_fields_as_what_they_should_be(entity: Guest | Host) -> None:
    assert (entity.number("a"), entity.whole("a"), entity.text("b"), entity.items("c")) == (2.0, 2, "x", [{"d": 1}])
    for absent in ("e", "f"):
        assert (entity.number(absent), entity.whole(absent), entity.text(absent), entity.items(absent)) == (None, None, None, None)
    assert (entity.number("b"), entity.text("a"), entity.items("a")) == (None, None, None)


@given(st.one_of(st.integers(), st.floats(), st.booleans(), st.text(), st.none(), st.lists(st.integers())))
def test_any_number_that_is_read_is_finite(value: Value) -> None:
    number = as_number(value)
    assert number is None or (math.isfinite(float(number)) and number == value)
