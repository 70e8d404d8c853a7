"""Fields of many guests as columns."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mom_core import Columns, Guest, Snapshot, Value
from mom_core.model import GuestTable

ROWS: list[dict[str, Value]] = [{"rss": 5, "age": None}, {"rss": 7, "name": "x"}, {}]

any_rows = st.lists(st.dictionaries(st.text(max_size=3), st.one_of(st.none(), st.integers(), st.text(max_size=3))), max_size=5)


def table(rows: list[dict[str, Value]]) -> GuestTable:
    listed = [Guest(f"u{number}", f"vm{number}") for number in range(len(rows))]
    return GuestTable(listed, Columns.of_rows(rows))


@given(any_rows)
def test_what_is_known_by_guest_is_the_same_by_field_and_back(rows: list[dict[str, Value]]) -> None:
    """Absent fields stay absent, and fields collected as unknown stay unknown."""
    guests = table(rows)
    assert [dict(guest.fields) for guest in guests.values()] == rows


def test_a_guest_reads_as_one_of_which_the_fields_are_a_mapping() -> None:
    guest = table(ROWS)["u0"]
    assert guest == Guest("u0", "vm0", ROWS[0])
    assert repr(guest) == repr(Guest("u0", "vm0", ROWS[0]))
    assert (guest.fields.get("age", 3), guest.fields.get("name", 3), guest.fields.get("no such field")) == (None, 3, None)
    assert ("age" in guest.fields, "name" in guest.fields, len(guest.fields)) == (True, False, 2)
    with pytest.raises(KeyError):
        guest.fields["name"]


def test_a_column_of_numbers_has_none_for_other_values() -> None:
    """Text, booleans and unknown values are not numbers. Integers and floats keep their types."""
    rows: list[dict[str, Value]] = [{"rss": 5, "age": 1.5}, {"rss": "much", "age": None}, {"rss": True}]
    guests = table(rows)
    for snapshot in (Snapshot(guests=guests), Snapshot(guests=dict(guests.items()))):
        assert list(snapshot.numbers("rss")) == [5, None, None]
        assert list(snapshot.numbers("age")) == [1.5, None, None]
        assert list(snapshot.numbers("no plugin tells")) == [None] * 3


def test_columns_of_different_lengths_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="differ in length"):
        Columns({"rss": [1, 2], "age": [1]})


def test_guests_keep_order_and_identity() -> None:
    guests = table(ROWS)
    asked = {identity: guests[identity] for identity in ("u2", "u0", "u1")}
    assert [guest.id for guest in guests.values()] == list(guests) == ["u0", "u1", "u2"]
    assert all(guest is asked[identity] is guest for identity, guest in guests.items())
    with pytest.raises(KeyError):
        guests["no such guest"]
