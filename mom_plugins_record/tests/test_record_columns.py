"""Columns come back exactly as they were, whatever they are told apart from."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mom_plugins_record.recording.columns import ABSENT, ColumnReader, ColumnWriter, Corrupt

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


def _same(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return struct.pack("d", one) == struct.pack("d", other) or (math.isnan(one) and math.isnan(other))
    return type(one) is type(other) and one == other


def _back(values, base):
    out = ColumnWriter()
    out.column(values, base)
    content = out.joined()
    source = ColumnReader(content)
    return source.column(len(values), base)


@settings(deadline=None)
@given(st.data())
def test_a_column_comes_back_with_its_types_and_bits(data):
    size = data.draw(st.integers(0, 12))
    cells = CELLS if data.draw(st.booleans()) else st.one_of(data.draw(LIKE), st.none()) if data.draw(st.booleans()) else data.draw(LIKE)
    values = data.draw(st.lists(cells, min_size=size, max_size=size))
    base = data.draw(st.none() | st.lists(st.one_of(cells, CELLS), min_size=size, max_size=size))
    back = _back(values, base)
    assert len(back) == len(values)
    assert all(_same(a, b) for a, b in zip(values, back, strict=True)), (values, back)


def test_the_sign_of_zero_and_what_is_no_number_survive():
    values = [0.0, -0.0, math.inf, 1.5]
    assert [str(v) for v in _back(values, None)] == ["0.0", "-0.0", "inf", "1.5"]
    assert math.isnan(_back([math.nan], None)[0])


def test_values_that_hardly_move_take_a_byte_each():
    base = [1_000_000 + 7919 * i for i in range(1000)]
    out = ColumnWriter()
    out.column([v + v % 100 for v in base], base)
    assert len(out.joined()) < 1100


@settings(deadline=None)
@given(st.binary(max_size=60), st.integers(0, 5))
def test_bytes_that_nobody_wrote_are_refused(content, count):
    try:
        cells = ColumnReader(content).column(count)
    except Corrupt:
        return
    assert len(cells) == count


def test_what_is_cut_off_is_refused():
    out = ColumnWriter()
    out.column([1, 2, 3000], None)
    content = out.joined()
    for end in range(len(content)):
        with pytest.raises((Corrupt, IndexError)):
            ColumnReader(content[:end]).column(3)
