"""Learning guests' days, and forecasts from them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from math import isnan
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from learned_guests import DAY, FIRST, MIB, SLOT, Use, at_eight, new_days, no_pattern, one_snapshot, snapshots, told

from mom_core import Guest, Host, Snapshot
from mom_plugins_record.forecast.curve import Calendar
from mom_plugins_record.forecast.files import content_of, days_from
from mom_plugins_record.forecast.host_days import KEPT_WEEKS, MOST_GUESTS, HostDays, KnownGuest
from mom_plugins_record.forecast.verbs import days_json

USES: Mapping[str, Use] = {"desktop": at_eight, "odd": no_pattern}
SOON = "mem_used_expected_soon"


@cache
def _kept_after(days: int) -> str:
    """Return the stored content after some days."""
    learned = new_days()
    for snapshot in snapshots(USES, range(days)):
        learned.see(snapshot)
    return json.dumps(content_of(learned))


def after(days: int) -> HostDays:
    """Return the learned days after some days, stored and loaded again."""
    learned = days_from(json.loads(_kept_after(days)))
    learned.calendar = new_days().calendar  # with a clock in UTC
    for guest in learned.known.values():
        guest.days.calendar = learned.calendar
    return learned


def see(days: HostDays, day: int, first: float, last: float, uses: Mapping[str, Use] = USES) -> dict[str, object]:
    """Show some slots of a day. Return the fields of the guest `desktop`."""
    moment = FIRST + day * DAY + first * SLOT
    while moment < FIRST + day * DAY + last * SLOT:
        days.see(snapshot := one_snapshot(uses, moment))
        moment += 5.0
    return told(days, snapshot, "desktop")


def number(value: object) -> float:
    assert isinstance(value, int | float)
    return value


def rise(days: HostDays) -> float:
    return number(days.host_fields()["host_rise_expected"])


def test_on_the_third_day_a_rise_is_expected_before_it_begins() -> None:
    days = after(2)
    found = see(days, 2, 29, 31.5)
    assert found["mem_used_expected"] == pytest.approx(400 * MIB, rel=0.02)
    assert 1590 * MIB <= number(found[SOON]) < 2000 * MIB
    assert found["mem_rises_in"] == pytest.approx(0.6 * SLOT, abs=5.0)
    assert number(found["mem_expected_weight"]) > 0.9
    assert rise(days) == pytest.approx(1200 * MIB, rel=0.1)
    assert see(days, 2, 31.5, 33)["mem_rises_in"] is None, "it has risen"


def test_pinned_guest_has_no_rise() -> None:
    days = after(3)
    for moment in range(int(FIRST + 3 * DAY + 24 * SLOT), int(FIRST + 3 * DAY + 32 * SLOT), 5):
        seen = one_snapshot({"desktop": at_eight, "other": at_eight}, moment)
        pinned = replace(seen.guests["desktop"], properties={"pinned": "the guest's memory is in huge pages"})
        days.see(seen := replace(seen, guests={**seen.guests, "desktop": pinned}))
    found = told(days, seen, "desktop")
    assert number(found[SOON]) > 1500 * MIB, "what it uses is known all the same"
    assert found["mem_rises_in"] is None
    assert rise(days) == 0


def test_a_guest_without_a_pattern_has_no_forecast() -> None:
    days = after(4)
    see(days, 4, 29, 31.5)
    found = told(days, one_snapshot(USES, FIRST), "odd")
    assert [found[name] for name in ("mem_used_expected", SOON, "mem_rises_in", "mem_expected_weight")] == [None] * 4
    assert not days.known["odd"].days.has_pattern


def test_unusual_day_lowers_weight_and_hardly_changes_the_forecast() -> None:
    days = after(8)

    def holiday(day: int, slot: int) -> float:
        return 400.0

    uses = {**USES, "desktop": holiday}
    assert see(days, 8, 29, 31.5, uses)[SOON] is not None, "nobody knows yet that it is a holiday"
    found = see(days, 8, 31.5, 38, uses)
    assert number(found["mem_expected_weight"]) < 0.5
    assert found["mem_used_expected"] is None
    see(days, 8, 38, 96, uses)
    see(days, 9, 0, 29)
    found = see(days, 9, 29, 31.5)
    assert number(found["mem_expected_weight"]) > 0.5, "a night that fitted has brought most of its weight back"
    assert number(found[SOON]) > 1300 * MIB


def test_weekends_are_learned() -> None:
    def workday(day: int, slot: int) -> float:
        return at_eight(day, slot) if day % 7 < 5 else 400.0

    days = new_days()
    for snapshot in snapshots({"desktop": workday}, range(16)):
        days.see(snapshot)
    uses = {"desktop": workday}
    wednesday = see(days, 16, 29, 31.5, uses)
    assert number(wednesday[SOON]) > 1500 * MIB
    for day in (16, 17, 18):
        see(days, day, 32, 96, uses)
        see(days, day + 1, 0, 29, uses)
    saturday = see(days, 19, 29, 31.5, uses)
    assert number(saturday[SOON]) < 550 * MIB


@pytest.mark.parametrize("back", [840, 1260])
def test_a_slot_of_which_mom_saw_less_than_half_is_not_learned(back: int) -> None:
    """mom was stopped or hung for a while."""
    days, began = HostDays(Calendar(86_400.0, lambda _: 0.0)), 400 * 86_400.0
    for passed in (*range(-1800, 60, 5), *range(back, 3600, 5)):
        days.see(replace(one_snapshot(USES, FIRST), time=began + passed, monotonic=began + passed))
    by_day = days.known["desktop"].days.by_day
    assert isnan(by_day[0])
    assert by_day[95] == by_day[2] == 400 * MIB


@pytest.mark.parametrize("what", ["started anew", "the clock jumps"])
def test_restart_or_clock_jump_skips_the_slot(what: str) -> None:
    days = after(2)
    see(days, 2, 10, 12.5)
    known = days.known["desktop"].days
    learned = known.slots
    for step in range(6):
        time = FIRST + 2 * DAY + 12.5 * SLOT + 5.0 * step
        ahead, incarnation = (0.0, "2") if what == "started anew" else (40 * SLOT, "1")
        days.see(one_snapshot(USES, time, ahead=ahead, incarnation=incarnation))
    assert known.slots - learned <= 1, "the one that was seen before it"
    assert days.known["desktop"].days is known
    assert known.has_pattern


def test_slots_follow_the_wall_clock_over_daylight_saving() -> None:
    berlin = ZoneInfo("Europe/Berlin")

    def offset(moment: float) -> float:
        from datetime import datetime

        found = datetime.fromtimestamp(moment, berlin).utcoffset()
        assert found is not None
        return found.total_seconds()

    calendar = Calendar(offset=offset)
    spring = 1_774_742_400.0  # 2026-03-29 00:00 UTC: a Sunday, at 01:00 in Berlin; one hour later it is 03:00
    assert [calendar.of_week(calendar.index(spring + 900 * n)) - 6 * 96 for n in range(6)] == [4, 5, 6, 7, 12, 13]
    autumn = 1_792_886_400.0  # 2026-10-25 00:00 UTC: at 02:00 in Berlin, which comes twice
    assert [calendar.of_week(calendar.index(autumn + 900 * n)) - 6 * 96 for n in range(9)] == [8, 9, 10, 11, 8, 9, 10, 11, 12]


def test_absent_guests_are_forgotten_by_age_and_number() -> None:
    days = new_days()
    days.see(one_snapshot({"gone": at_eight, "there": at_eight}, FIRST))
    days.known["gone"].days.slots = 1
    days.see(one_snapshot({"there": at_eight}, FIRST + 5.0))
    assert set(days.known) == {"gone", "there"}
    days.see(one_snapshot({"there": at_eight}, later := FIRST + KEPT_WEEKS * 7 * DAY + 10.0))
    days.forget(later)
    assert set(days.known) == {"there"}
    for number_of in range(MOST_GUESTS + 5):
        identity = f"g{number_of}"
        days.known[identity] = KnownGuest(identity, identity, days.known["there"].days, FIRST + number_of / 1000)
    days.forget(FIRST + 20.0)
    assert len(days.known) == MOST_GUESTS
    assert "there" in days.known
    assert "g0" not in days.known


def test_unknown_use_is_no_rise() -> None:
    days = after(2)
    see(days, 2, 29, 31.5)
    assert rise(days) > 1000 * MIB
    seen = one_snapshot(USES, FIRST + 2 * DAY + 31.5 * SLOT)
    silent = {name: Guest(name, name, {"balloon_cur": 1 << 22}, incarnation="1") for name in USES}
    days.see(Snapshot(Host(), silent, seen.time, seen.monotonic))
    assert rise(days) == 0


def test_stored_guest_takes_less_than_8_kib_and_comes_back() -> None:
    content = json.loads(_kept_after(2))
    assert all(len(json.dumps(guest)) < 8192 for guest in content["guests"])
    read = days_from(content)
    assert json.loads(json.dumps(content_of(read))) == content
    learned = days_json(read.known["desktop"])
    assert learned == days_json(after(2).known["desktop"])
    expected = learned["expected"]
    assert expected[40] == pytest.approx(1600 * MIB, rel=0.005)
    assert expected[5 * 96 + 40] == expected[40], "of a day that was not seen, what others had"


def test_absurd_use_of_one_guest_harms_no_other() -> None:
    """The absurd figure comes from an agent, for a guest of unknown size."""
    days = after(2)
    for one in snapshots(USES, range(2, 3)):
        lie = Guest("liar", "liar", {"mem_available": 1 << 49, "mem_usable": 0}, incarnation="1")
        days.see(Snapshot(one.host, {**one.guests, lie.id: lie}, one.time, one.monotonic))
    assert set(days_from(json.loads(json.dumps(content_of(days)))).known) == set(USES)


def test_joint_rise_is_less_than_the_sum_of_maxima() -> None:
    def goes_at_eight(day: int, slot: int) -> float:
        return 400.0 if 32 <= slot < 68 else 1600.0

    uses = {"desktop": at_eight, "goes": goes_at_eight}
    days = new_days()
    for snapshot in snapshots(uses, range(3)):
        days.see(snapshot)
    see(days, 3, 29, 31.5, uses)
    assert rise(days) < 500 * MIB, "what one takes at eight, another gives back"


A_CYCLE = st.tuples(
    st.sampled_from([0.0, 5.0, 15.0, 40.0, 20_000.0]),  # seconds since the last snapshot
    st.sampled_from([0.0, 0.0, 0.0, -3600.0, 1e6]),  # jump of the wall clock
    st.lists(st.one_of(st.none(), st.integers(-(1 << 40), 1 << 40)), min_size=3, max_size=3),
    st.integers(0, 3),  # number of guests
    st.sampled_from(["1", "1", "1", "2"]),
)


@given(st.lists(A_CYCLE, max_size=80))
def test_forecasts_of_any_input_are_valid_and_can_be_stored(cycles: list[tuple[float, float, list[int | None], int, str]]) -> None:
    days, monotonic, wall = new_days(), 100.0, FIRST
    for passed, jump, sizes, count, incarnation in cycles:
        monotonic, wall = monotonic + passed, wall + passed + jump
        names = ("mem_available", "mem_usable", "balloon_cur")
        fields = {name: size for name, size in zip(names, sizes, strict=True) if size is not None}
        guests = {f"g{n}": Guest(f"g{n}", "vm", fields, incarnation=incarnation) for n in range(count)}
        days.see(Snapshot(Host(), guests, wall, monotonic))
        columns = days.columns(list(guests.values()))
        values = [] if columns is None else [value for name in columns for value in columns[name] if value is not None]
        assert all(number(value) >= 0 for value in values)
        assert number(days.host_fields().get("host_rise_expected", 0)) >= 0
    kept = json.loads(json.dumps(content_of(days), allow_nan=False))
    assert json.loads(json.dumps(content_of(days_from(kept)))) == kept
