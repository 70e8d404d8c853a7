"""mom's JSON."""

import json
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mom_core import Status
from mom_daemon import json_text

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(PLAIN)
def test_what_is_written_is_read_as_it_was_and_is_one_line(value: object) -> None:
    text = json_text(value)
    assert b"\n" not in text
    assert json.loads(text) == value


@given(st.text(st.characters(exclude_categories=[])))
def test_half_a_character_gets_through(name: str) -> None:
    assert json.loads(json_text({"name": name})) == {"name": name}


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_json_cannot_write_is_unknown(number: float) -> None:
    assert json.loads(json_text({"a": [number]})) == {"a": [None]}


def test_mappings_sequences_and_names_of_choices_are_written_as_plain_ones() -> None:
    value = {Status.APPLIED: MappingProxyType({"a": range(2)}), "status": Status.GONE, "pair": (1, 2)}
    assert json.loads(json_text(value)) == {"applied": {"a": [0, 1]}, "status": "gone", "pair": [1, 2]}
