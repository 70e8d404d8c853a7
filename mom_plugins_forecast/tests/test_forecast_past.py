"""Guests' days as they were: kept by the half hour, small, and back after a restart as they were."""

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mom_core import MomError, StateFile
from mom_plugins_forecast.past import FILE, MOST_DAYS, PARTS, HostPast, StoredPast, past_from
from mom_plugins_forecast.plugin import ForecastPlugin
from mom_plugins_forecast.slots import SLOTS
from mom_toolkit import PastDays

GIB = 1 << 20
FIRST = date(2024, 9, 2)
INDEX = (FIRST.toordinal() - date(1970, 1, 1).toordinal()) * SLOTS


def seen(*slots: tuple[int, float], sold: float | None = 4 * GIB) -> HostPast:
    """A host with one guest that used so much at most in these slots, counted from the first day's first."""
    past = HostPast({}, "kvm-07", 64 * GIB, 60 * GIB)
    for slot, most in slots:
        past.take_in("u1", "web", INDEX + slot, most, sold)
    return past


def again(past: HostPast) -> HostPast:
    """After a restart."""
    return past_from(json.loads(json.dumps(past.content({"u1"}))))


def test_a_day_is_by_half_hours_what_was_used_at_most_in_them() -> None:
    (guest,) = again(seen((0, GIB), (1, 2 * GIB), (2, 0.0), (SLOTS + 95, 9 * GIB))).guests.values()
    days = guest.days()
    assert list(days) == [FIRST.toordinal(), FIRST.toordinal() + 1]
    first = days[FIRST.toordinal()]
    assert len(first) == PARTS
    assert first[0] == pytest.approx(2 * GIB, rel=0.01)
    assert first[1:] == [0.0, *[None] * (PARTS - 2)]
    assert days[FIRST.toordinal() + 1][-1] == 4 * GIB, "no more than it was sold"


@given(most=st.floats(0, 4 * GIB))
def test_no_use_is_kept_as_less_than_it_was(most: float) -> None:
    (kept, *_) = seen((0, most)).guests["u1"].days()[FIRST.toordinal()]
    assert kept is not None
    assert most * (1 - 1e-6) <= kept <= most + 4 * GIB / 248


def test_what_is_older_than_eight_weeks_is_dropped_and_what_a_clock_that_jumped_says_is_left_out() -> None:
    past = seen(*((SLOTS * day, GIB) for day in range(MOST_DAYS + 5)), (0, 3 * GIB))
    (guest,) = past.guests.values()
    assert list(guest.days()) == [FIRST.toordinal() + day for day in range(5, MOST_DAYS + 5)]
    assert len(json.dumps(past.content({"u1"}))) / 8 < 4096, "bytes a guest and week"


def test_of_a_guest_that_is_forgotten_nothing_is_kept_and_of_one_whose_size_is_unknown_nothing_is_learned() -> None:
    assert seen((0, GIB)).content(set())["guests"] == []
    assert seen((0, GIB), sold=None).guests == {}


BROKEN: dict[str, Callable[[dict[str, Any]], object]] = {
    "a day twice": lambda one: one["guests"][0][2].append(one["guests"][0][2][0]),
    "a day that no calendar has": lambda one: one["guests"][0][2].__setitem__(0, 10**9),
    "too few bytes": lambda one: one["guests"][0].__setitem__(4, "AAAA"),
    "a negative size": lambda one: one["guests"][0][3].__setitem__(0, -1),
    "no number": lambda one: one.__setitem__("host_kib", float("nan")),
    "no guests": lambda one: one.pop("guests"),
    "too many guests": lambda one: one.__setitem__("guests", [None] * 10_001),
    "no id": lambda one: one["guests"][0].__setitem__(0, 7),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_what_mom_has_not_written_is_refused(broken: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(json.dumps(seen((0, GIB)).content({"u1"})))
    broken(content)
    with pytest.raises((ValueError, TypeError, KeyError)):
        past_from(content)


def test_verbs_find_the_file_of_this_mom_and_that_of_another_host(tmp_path: Path) -> None:
    with pytest.raises(MomError, match="there are no past days of guests"):
        ForecastPlugin.mom_source(PastDays, ForecastPlugin.Settings(), tmp_path, tmp_path, None)
    (tmp_path / "forecast").mkdir()
    file = tmp_path / "forecast" / FILE
    StateFile(file, "days", past_from).write(seen((0, GIB)).content({"u1"}))
    for found in (
        ForecastPlugin.mom_source(PastDays, ForecastPlugin.Settings(), tmp_path, tmp_path, None),
        ForecastPlugin.mom_source(PastDays, None, tmp_path, tmp_path, file),
    ):
        assert isinstance(found, StoredPast)
        assert (found.host, found.host_kib, found.promisable_kib, found.where) == ("kvm-07", 64 * GIB, 60 * GIB, str(file))
        assert [(one.id, one.name, one.sold_kib) for one in found.guests()] == [("u1", "web", 4 * GIB)]
    assert ForecastPlugin.mom_source(PastDays, None, tmp_path, tmp_path, tmp_path / "other.json") is None
