"""What is recorded comes back exactly as it was, as JSON that any tool reads, whatever it is told apart from."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mom_core import Guest, Host, Report, Snapshot
from mom_plugins_record.recording.cycles import NO_KEY, read_record, write_cycle
from mom_plugins_record.recording.json_text import Corrupt, checked_json, json_bytes

ABSENT = object()
CELLS = st.one_of(
    st.just(ABSENT),
    st.none(),
    st.integers(-(1 << 70), 1 << 70),
    st.integers(0, 1 << 24),
    st.floats(),
    st.floats(0, 100).map(lambda v: round(v, 2)),
    st.booleans(),
    st.text(max_size=5),
    st.lists(st.integers(), max_size=2),
)
LIKE = st.sampled_from([st.integers(0, 1 << 24), st.floats(), st.floats(0, 100).map(lambda v: round(v, 2)), st.just(0.0), st.just(-0.0)])


def same(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return struct.pack("d", one) == struct.pack("d", other) or (math.isnan(one) and math.isnan(other))
    return type(one) is type(other) and one == other


def cycle(values: Sequence[Any]) -> Report:
    """A cycle whose guests have these values of a field."""
    guests = {f"{place}": Guest(f"{place}", "", {} if value is ABSENT else {"x": value}) for place, value in enumerate(values)}
    return Report(1, 5.0, "enforce", Snapshot(Host("h"), guests, 5.0, 5.0, 1), (), (), (), (), (), 0.1)


def back(values: Sequence[Any], base: Sequence[Any] | None) -> list[Any]:
    """What is read of them, written as they differ from the base."""
    key, key_back = NO_KEY, NO_KEY
    if base is not None:
        body, key = write_cycle(cycle(base), NO_KEY)
        _, key_back = read_record(body, NO_KEY)
    body, _ = write_cycle(cycle(values), key)
    json.loads(body, parse_constant=pytest.fail)  # NaN and Infinity are no JSON
    record, _ = read_record(body, key_back)
    report = record.report
    return [guest.fields.get("x", ABSENT) for guest in report.snapshot.guests.values()]


@settings(deadline=None)
@given(st.data())
def test_a_column_comes_back_with_its_types_and_bits(data: st.DataObject) -> None:
    size = data.draw(st.integers(0, 12))
    cells = CELLS if data.draw(st.booleans()) else st.one_of(data.draw(LIKE), st.none()) if data.draw(st.booleans()) else data.draw(LIKE)
    values = data.draw(st.lists(cells, min_size=size, max_size=size))
    base = data.draw(st.none() | st.lists(st.one_of(cells, CELLS), min_size=size, max_size=size))
    found = back(values, base)
    assert len(found) == len(values)
    assert all(same(a, b) for a, b in zip(values, found, strict=True)), (values, found)


@pytest.mark.parametrize("other", [1.0, True, -0.0])
def test_what_is_equal_to_its_key_and_not_the_same_is_written(other: Any) -> None:
    base = 0.0 if other == 0 else 1
    assert repr(back([other, other], [base, base])) == repr([other, other])


def test_the_sign_of_zero_and_what_is_no_number_survive() -> None:
    values = [0.0, -0.0, math.inf, 1.5]
    assert [str(v) for v in back(values, None)] == ["0.0", "-0.0", "inf", "1.5"]
    assert math.isnan(back([math.nan], None)[0])


def test_values_that_stayed_take_no_room() -> None:
    base = [1_000_000 + 7919 * i for i in range(1000)]
    _, key = write_cycle(cycle(base), NO_KEY)
    assert len(write_cycle(cycle(base), key)[0]) < 500


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_bytes_that_nobody_wrote_are_refused(content: bytes) -> None:
    try:
        found = checked_json(content, len(content))
    except Corrupt:
        return
    assert json_bytes(found)


def test_what_is_cut_off_is_refused() -> None:
    content, _ = write_cycle(cycle([1, 2, 3000]), NO_KEY)
    for end in range(len(content) - 1):
        with pytest.raises(Corrupt):
            read_record(content[:end], NO_KEY)
