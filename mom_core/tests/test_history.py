"""The older samples that policies look back at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mom_core import Columns, Guest, Snapshot, Value
from mom_core.engine.history import PACKED_FROM, History
from mom_core.model import GuestTable

KEPT = 3


class Level(IntEnum):
    HIGH = 3


def listing(count: int = PACKED_FROM) -> list[Guest]:
    return [Guest(f"u{number}", f"vm{number:04}", properties={"pid": number}, incarnation="1") for number in range(count)]


def sample(listed: list[Guest], fields: Callable[[int], Mapping[str, Value]] = lambda number: {"rss": number}, number: int = 1) -> Snapshot:
    columns = Columns.of_rows([fields(place) for place in range(len(listed))])
    return Snapshot(guests=GuestTable(listed, {guest.id: place for place, guest in enumerate(listed)}, columns), number=number)


def is_packed(snapshot: Snapshot, field: str) -> bool:
    assert isinstance(snapshot.guests, GuestTable)
    return snapshot.guests.columns.is_packed(field)


def test_an_older_sample_is_what_it_was_and_has_its_guests_in_their_order() -> None:
    listed = listing()
    taken = sample(listed, lambda number: {"rss": number, "age": number / 2, "name": "x", "none": None, "list": [{"a": True}]})
    history = History(KEPT)
    history.add(taken)
    (older,) = history.samples()
    assert all(is_packed(older, field) for field in ("rss", "age", "name", "none", "list"))
    assert list(older.guests) == list(taken.guests)
    assert older == taken
    assert repr(older.guests["u7"]) == repr(taken.guests["u7"])
    assert older.guests.get("no such guest") is None


@given(
    st.lists(st.dictionaries(st.text(max_size=3), st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text())), max_size=5)
)
def test_guests_of_all_kinds_of_fields_come_back_with_them(kinds: list[dict[str, Value]]) -> None:
    listed = listing()
    taken = sample(listed, lambda number: kinds[number % len(kinds)] if kinds else {})
    history = History(KEPT)
    history.add(taken)
    assert repr(dict(history.samples()[0].guests)) == repr(dict(taken.guests))  # as texts, as not-a-number is none of its equals


def test_what_is_more_than_a_plain_value_stays_as_it_was_collected() -> None:
    listed = listing()
    history = History(KEPT)
    history.add(sample(listed, lambda number: {"level": Level.HIGH}))
    assert history.samples()[0].guests["u0"].fields["level"] is Level.HIGH


@pytest.mark.parametrize("count", [0, PACKED_FROM - 1])
def test_samples_of_few_guests_are_left_alone(count: int) -> None:
    listed = listing(count)
    taken, history = sample(listed), History(KEPT)
    history.add(taken)
    assert history.samples()[0] is taken


def test_only_as_many_are_kept_as_were_asked_for() -> None:
    listed, history = listing(), History(KEPT)
    for number in range(5):
        history.add(sample(listed, number=number))
    assert [older.number for older in history.samples()] == [2, 3, 4]
    history.keep(2)
    assert [older.number for older in history.samples()] == [3, 4]


def test_a_look_at_a_field_unpacks_it_once_and_leaves_the_others_packed() -> None:
    listed, history = listing(1000), History(KEPT)
    history.add(sample(listed, lambda number: {"rss": number, "age": number / 2}))
    (older,) = history.samples()
    assert older.guests["u500"].number("rss") == 500
    assert not is_packed(older, "rss")
    assert older.column("rss") is older.column("rss")
    assert is_packed(older, "age")


def test_guests_that_come_and_go_are_in_the_samples_in_which_they_were() -> None:
    listed, history = listing(), History(KEPT)
    history.add(sample(listed))
    fewer = listed[:-1] + listing(PACKED_FROM + 5)[-1:]
    history.add(sample(fewer))
    first, second = history.samples()
    gone, came = listed[-1].id, fewer[-1].id
    assert gone in first.guests
    assert gone not in second.guests
    assert second.guests[came].name == fewer[-1].name
