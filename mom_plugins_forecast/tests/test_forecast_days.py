"""What is learned of guests' days, and what follows."""

from __future__ import annotations

import json
from functools import cache

import pytest
from learned_guests import DAY, FIRST, MIB, SLOT, at_eight, new_days, no_pattern, one_snapshot, snapshots, told

from mom_plugins_forecast.host_days import HostDays
from mom_plugins_forecast.state import content_of, days_from

USES = {"desktop": at_eight, "odd": no_pattern}


@cache
def _kept_after(days: int) -> str:
    """What is kept after so many days."""
    learned = new_days()
    for snapshot in snapshots(USES, range(days)):
        learned.see(snapshot)
    return json.dumps(content_of(learned))


def after(days: int) -> HostDays:
    """What was learned after so many days, as it was kept and read again."""
    learned = days_from(json.loads(_kept_after(days)))
    learned.calendar = new_days().calendar
    for guest in learned.known.values():
        guest.days.calendar = learned.calendar
    return learned


def seen_at(days: HostDays, day: int, slot: float, uses: object = None) -> dict[str, object]:
    """What is told of the desktop at that time, after the two slots before it were seen."""
    time = FIRST + day * DAY + slot * SLOT
    moment = time - 2 * SLOT
    while moment <= time:
        days.see(snapshot := one_snapshot(USES, moment))
        moment += 5.0
    return told(days, snapshot, "desktop")


@pytest.mark.long
def test_on_the_third_day_a_rise_is_expected_before_it_begins() -> None:
    found = seen_at(after(2), 2, 31.4)
    assert found["mem_used_expected"] == pytest.approx(400 * MIB, rel=0.02)
    assert 1590 * MIB <= float(str(found["mem_used_expected_soon"])) < 2000 * MIB
    assert found["mem_rises_in"] == pytest.approx(0.6 * SLOT, abs=5.0)
    assert float(str(found["mem_expected_weight"])) > 0.9


@pytest.mark.long
def test_a_guest_without_a_pattern_has_no_forecast() -> None:
    days = after(4)
    seen_at(days, 4, 31.4)
    found = told(days, one_snapshot(USES, FIRST), "odd")
    assert [found[name] for name in ("mem_used_expected", "mem_used_expected_soon", "mem_rises_in", "mem_expected_weight")] == [None] * 4
    assert days.most_expected("odd", SLOT) is None
