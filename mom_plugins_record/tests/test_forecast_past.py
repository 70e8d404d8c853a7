"""Guests' days as they were: kept by the half hour, small, and back after a restart as they were."""

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mom_core import Guest, MomError, StateFile
from mom_kvm import PastDays
from mom_plugins_record.forecast.files import StoredPast
from mom_plugins_record.forecast.past import FILE, LEARNED, MOST_DAYS, PARTS, HostPast, past_from
from mom_plugins_record.forecast.plugin import ForecastPlugin
from mom_plugins_record.forecast.slots import SLOTS

GIB = 1 << 20
FIRST = date(2024, 9, 2)
INDEX = (FIRST.toordinal() - date(1970, 1, 1).toordinal()) * SLOTS
SECONDS = INDEX // SLOTS * 86_400.0 + 43_200.0
"""The first day's noon, since the epoch."""


def seen(*slots: tuple[int, float], sold: float | None = 4 * GIB) -> HostPast:
    """A host with one guest that used so much at most in these slots, counted from the first day's first."""
    past = HostPast({}, "kvm-07", 64 * GIB, 60 * GIB)
    for slot, most in slots:
        past.take_in("u1", "web", INDEX + slot, most, sold)
    return past


def again(past: HostPast) -> HostPast:
    """After a restart."""
    return past_from(json.loads(json.dumps(past.content())))


def test_a_day_is_by_half_hours_what_was_used_at_most_in_them() -> None:
    (guest,) = again(seen((0, GIB), (1, 2 * GIB), (2, 0.0), (SLOTS + 95, 9 * GIB))).guests.values()
    days = guest.days()
    assert list(days) == [FIRST.toordinal(), FIRST.toordinal() + 1]
    first = days[FIRST.toordinal()]
    assert len(first) == PARTS
    assert first[0] == pytest.approx(2 * GIB, rel=0.01)
    assert first[1:] == [0.0, *[None] * (PARTS - 2)]
    assert days[FIRST.toordinal() + 1][-1] == 4 * GIB, "no more than it was sold"


def test_hotplugged_memory_keeps_the_use_of_that_day() -> None:
    past = seen((0, GIB), (2, 4 * GIB))
    past.take_in("u1", "web", INDEX + 4, 7 * GIB, 8 * GIB)
    past.take_in("u1", "web", INDEX + 6, 3 * GIB, 4 * GIB)
    ((first, second, third, fourth, *rest),) = again(past).guests["u1"].days().values()
    assert [first, second, third, fourth] == pytest.approx([GIB, 4 * GIB, 7 * GIB, 3 * GIB], rel=0.04)
    assert set(rest) == {None}


@given(most=st.floats(0, 4 * GIB))
def test_no_use_is_kept_as_less_than_it_was(most: float) -> None:
    (kept, *_) = seen((0, most)).guests["u1"].days()[FIRST.toordinal()]
    assert kept is not None
    assert most * (1 - 1e-6) <= kept <= most + 4 * GIB / 248


def test_what_is_older_than_the_last_eight_weeks_is_dropped() -> None:
    past = seen(*((SLOTS * day, GIB) for day in range(MOST_DAYS + 5)), (0, 3 * GIB))
    (guest,) = past.guests.values()
    assert list(guest.days()) == [FIRST.toordinal() + day for day in range(5, MOST_DAYS + 5)]
    assert len(json.dumps(past.content())) / 8 < 4096, "bytes a guest and week"


def test_days_are_learned_after_wrong_clocks() -> None:
    ahead, behind = 300 * SLOTS, -19_000 * SLOTS
    past = seen((0, GIB), (ahead, 2 * GIB), (SLOTS, 3 * GIB), (behind, 4 * GIB), (SLOTS + 2, GIB), (2 * SLOTS, GIB))
    (guest,) = again(past).guests.values()
    first = FIRST.toordinal()
    assert [day - first for day in guest.days()] == [-19_000, 0, 1, 2, 300]
    assert [used[0] for used in guest.days().values()] == pytest.approx([4 * GIB, GIB, 3 * GIB, GIB, 2 * GIB], rel=0.02)
    assert guest.days()[first + 1][1] == pytest.approx(GIB, rel=0.02)
    for day in range(3, MOST_DAYS + 3):
        past.take_in("u1", "web", INDEX + day * SLOTS, GIB, 4 * GIB)
    assert [day - first for day in past.guests["u1"].days()] == [*range(4, MOST_DAYS + 3), 300]


@pytest.mark.parametrize(("few", "today", "left"), [(True, 1, [0, 1]), (False, 1, [0, 1]), (True, 0, [0, 1, 300]), (False, 0, [0])])
def test_future_days_are_dropped_if_they_are_few(few: bool, today: int, left: list[int]) -> None:
    past = seen((0, GIB), (SLOTS, GIB), (300 * SLOTS, GIB))
    past.forget_after(SECONDS + today * 86_400.0, only_few=few)
    assert [day - FIRST.toordinal() for day in again(past).guests["u1"].days()] == left


def test_largest_memory_of_qemu_itself_is_kept() -> None:
    past = seen((0, GIB))
    for kib in (90_000, 70_000, None):
        past.see_process(Guest("u1", "web", {"host_qemu_overhead": kib, "vcpu_count": 4}))
    past.see_process(Guest("u2", "unknown", {"host_qemu_overhead": 9}))
    kept = again(past)
    other = seen((SLOTS, GIB))
    other.merge(kept)
    for one in (kept, other):
        assert (one.guests["u1"].qemu_kib, one.guests["u1"].vcpus) == (90_000, 4)
    old = {name: value for name, value in past.content().items() if name != "qemu"}
    assert past_from(json.loads(json.dumps(old))).guests["u1"].qemu_kib == 0


def test_forgotten_or_unsized_guests_have_no_past() -> None:
    past = seen((0, GIB))
    past.keep_only(set())
    assert past.content()["guests"] == []
    assert seen((0, GIB), sold=None).guests == {}


BROKEN: dict[str, Callable[[dict[str, Any]], object]] = {
    "a day twice": lambda one: one["guests"][0][2].append(one["guests"][0][2][0]),
    "a day that no calendar has": lambda one: one["guests"][0][2].__setitem__(0, 10**9),
    "too few bytes": lambda one: one["guests"][0].__setitem__(4, "AAAA"),
    "a negative size": lambda one: one["guests"][0][3].__setitem__(0, -1),
    "no number": lambda one: one.__setitem__("host_kib", float("nan")),
    "no guests": lambda one: one.pop("guests"),
    "too many guests": lambda one: one.__setitem__("guests", [None] * 10_001),
    "no calendar": lambda one: one.pop("day"),
    "no id": lambda one: one["guests"][0].__setitem__(0, 7),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_what_mom_has_not_written_is_refused(broken: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(json.dumps(seen((0, GIB)).content()))
    broken(content)
    with pytest.raises((ValueError, TypeError, KeyError)):
        past_from(content)


@pytest.mark.parametrize("sold", [None, 0.5, 1e15])
def test_a_size_that_cannot_be_teaches_nothing(sold: float | None) -> None:
    assert again(seen((0, GIB), sold=sold)).guests == {}


def test_merge_prefers_the_better_known_day() -> None:
    own, other = seen((2 * SLOTS, GIB), (3 * SLOTS, GIB)), seen((0, 2 * GIB), (2 * SLOTS, 2 * GIB), (2 * SLOTS + 4, 3 * GIB))
    other.take_in("u2", "db", INDEX, GIB, 8 * GIB)
    other.take_in("u1", "web", INDEX + 3 * SLOTS, 3 * GIB, 4 * GIB)
    nobody = HostPast()
    for past in (own, nobody):
        assert past.merge(other) == 2
    assert (nobody.host, nobody.host_kib, nobody.promisable_kib) == ("kvm-07", 64 * GIB, 60 * GIB)
    assert nobody.guests == other.guests
    days = {day - FIRST.toordinal(): used for day, used in again(own).guests["u1"].days().items()}
    assert {day: used[0] for day, used in days.items()} == pytest.approx({0: 2 * GIB, 2: 2 * GIB, 3: GIB}, rel=0.02)
    assert days[2][2] == pytest.approx(3 * GIB, rel=0.01)
    assert own.guests["u2"].name == "db"
    assert own.merge(other) == 0, "it is known"


def test_source_finds_files_of_this_and_other_hosts(tmp_path: Path) -> None:
    with pytest.raises(MomError, match="there are no past days of guests"):
        ForecastPlugin.mom_source(PastDays, ForecastPlugin.Settings(), tmp_path, tmp_path, None)
    (tmp_path / "forecast").mkdir()
    file = tmp_path / "forecast" / FILE
    StateFile(file, "days", past_from).write(seen((0, GIB)).content())
    StateFile(file.with_name(LEARNED), "days", past_from).write(seen((SLOTS, GIB)).content())
    both = ForecastPlugin.mom_source(PastDays, ForecastPlugin.Settings(), tmp_path, tmp_path, None)
    assert isinstance(both, StoredPast)
    assert [len(one.days) for one in both.guests()] == [2], "with what was learned of recordings"
    short = ForecastPlugin.Settings.model_validate({"day": "24min"})
    with pytest.raises(MomError, match="there are no past days of guests"):
        ForecastPlugin.mom_source(PastDays, short, tmp_path, tmp_path, None)
    for found in (both, ForecastPlugin.mom_source(PastDays, None, tmp_path, tmp_path, file)):
        assert isinstance(found, StoredPast)
        assert (found.host, found.host_kib, found.promisable_kib, found.where) == ("kvm-07", 64 * GIB, 60 * GIB, str(file))
        assert [(one.id, one.name, one.sold_kib) for one in found.guests()] == [("u1", "web", 4 * GIB)]
    assert ForecastPlugin.mom_source(PastDays, None, tmp_path, tmp_path, tmp_path / "other.json") is None
