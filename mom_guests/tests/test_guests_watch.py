"""What wakes mom for a guest: on plain numbers, and as a watch on guests' balloon statistics sees it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Set
from typing import Any

import pytest

from mom_core import Decision, Guest, Outcome, Report, Snapshot, Status
from mom_guests import GuestWatch, Statistics, WatchedMemory, usable_soon, why_wake

MIB = 1024
GIB = 1024 * MIB


class TestWhatIsNews:
    def test_a_guest_that_begins_to_run_out(self) -> None:
        before, now = WatchedMemory(600 * MIB, 115 * MIB), WatchedMemory(600 * MIB, 95 * MIB)
        assert why_wake(before, now) == "95 MiB usable of 600 MiB"
        assert why_wake(now, now._replace(usable=94 * MIB)) == "", "the last cycle knew"

    def test_a_guest_that_uses_up_a_quarter_of_what_it_had(self) -> None:
        before = WatchedMemory(2 * GIB, 800 * MIB)
        assert why_wake(before, before._replace(usable=601 * MIB)) == ""
        assert why_wake(before, before._replace(usable=600 * MIB)) == "200 MiB used up since the last cycle, 600 MiB usable"

    def test_little_is_no_news_however_little_there_was(self) -> None:
        before = WatchedMemory(2 * GIB, 30 * MIB)
        assert why_wake(before, before._replace(usable=15 * MIB)) == ""
        assert why_wake(before, before._replace(usable=14 * MIB))

    def test_what_the_balloon_takes_is_not_used_up(self) -> None:
        before = WatchedMemory(2 * GIB, 1200 * MIB)
        assert why_wake(before, WatchedMemory(2 * GIB - 600 * MIB, 600 * MIB)) == ""

    def test_a_guest_that_begins_to_swap_or_to_wait_for_its_disk(self) -> None:
        well = WatchedMemory(2 * GIB, 800 * MIB, 0.0, 0.0)
        swaps, waits = well._replace(swap_in=2048.0), well._replace(major_fault=300.0)
        assert why_wake(well, swaps) == "it reads 2,048 KiB a second from its swap"
        assert why_wake(well, waits) == "300 page faults a second wait for its disk"
        assert why_wake(swaps, swaps) == why_wake(waits, waits) == ""
        assert why_wake(well, well._replace(swap_in=None, major_fault=None)) == ""


def said(updated: int, usable: float, total: float | None, size: float = 600 * MIB, steady: bool = True) -> Statistics:
    return Statistics(updated, usable, total, size, steady)


class TestForecasts:
    def test_a_guest_goes_on_as_it_did_until_mom_can_act_again(self) -> None:
        total = 560 * MIB
        assert usable_soon(said(1, 300 * MIB, total), said(2, 240 * MIB, total)) == 150 * MIB, "60 MiB/s for one second and a half"
        assert usable_soon(said(1, 300 * MIB, total), said(6, 240 * MIB, total)) == 174 * MIB, "12 MiB/s for five and a half"
        assert usable_soon(said(1, 300 * MIB, total), said(2, 100 * MIB, total)) == 0

    def test_a_guest_that_frees_memory_may_use_it_again(self) -> None:
        assert usable_soon(said(1, 240 * MIB, 560 * MIB), said(2, 300 * MIB, 560 * MIB)) == 300 * MIB

    @pytest.mark.parametrize("seconds", [0, -5])
    def test_a_clock_that_stands_or_goes_back_tells_nothing(self, seconds: int) -> None:
        assert usable_soon(said(10, 300 * MIB, 560 * MIB), said(10 + seconds, 240 * MIB, 560 * MIB)) == 240 * MIB

    def test_what_the_balloon_takes_is_not_used_up(self) -> None:
        before, now = said(1, 300 * MIB, 560 * MIB), said(2, 180 * MIB, 460 * MIB, size=500 * MIB, steady=False)
        assert usable_soon(before, now) == 150 * MIB, "120 MiB less, of which the guest used 20"

    def test_a_balloon_that_is_not_taken_off_the_total_tells_only_at_rest(self) -> None:
        total = 2 * GIB
        moving = said(2, 200 * MIB, total, size=500 * MIB, steady=False)
        assert usable_soon(said(1, 300 * MIB, total), moving) == 200 * MIB
        assert usable_soon(said(1, 300 * MIB, total), said(2, 240 * MIB, total)) == 150 * MIB
        assert usable_soon(said(1, 300 * MIB, None), said(2, 240 * MIB, None)) == 150 * MIB


class Lab:
    """Guests' balloon statistics, which a test changes, and a watch on them that is looked through by hand. In MiB."""

    def __init__(self) -> None:
        self.now = 100.0
        self.records: dict[str, dict[str, Any]] = {}
        self.starts: dict[str, str] = {}
        self.asked: list[set[str]] = []
        self.woken: list[str] = []
        self.slow = 0.0
        self.watch = GuestWatch(self, 0.01, self.woken.append, logging.getLogger("test"), lambda: self.now + 900, lambda: self.now)

    def of(self, guests: Set[str]) -> Mapping[str, Mapping[str, object]]:
        self.asked.append(set(guests))
        self.now += self.slow
        return {name: self.records[name] for name in sorted(guests, reverse=True)}

    def close(self) -> None:
        """Nothing is open."""

    def guest(self, name: str = "db", *, size: int = 600, usable: int = 200) -> None:
        self.records[name] = {"balloon.current": size * MIB, "balloon.maximum": GIB, "balloon.last-update": 999}
        self.says(usable, name)

    def says(self, usable: int, name: str = "db", **more: int) -> None:
        """The guest has new statistics."""
        record = self.records[name]
        record |= {"balloon.last-update": record["balloon.last-update"] + 1, "balloon.available": GIB, "balloon.usable": usable * MIB}
        record |= {f"balloon.{counter}": value for counter, value in more.items()}

    def looks(self, *usable: int) -> None:
        """The watch looks at what the guest says: each of these once, or nothing new."""
        for one in usable:
            self.says(one)
            self.watch.look()
        if not usable:
            self.watch.look()

    def cycle(self, *, blocked: str = "", **asked: int) -> None:
        """A cycle has seen the guests as they are now, and asked these for sizes."""
        names = {"balloon_cur": "balloon.current", "balloon_max": "balloon.maximum", "mem_usable": "balloon.usable"}
        guests = {}
        for guest, record in self.records.items():
            fields = {name: record[key] for name, key in names.items()}
            why = {"balloon_target": "it has no balloon"} if guest == blocked else {}
            guests[guest] = Guest(guest, guest, fields, blocked=why, incarnation=self.starts.get(guest, ""))
        decisions = [Decision(guests[name].entity, "balloon_target", size * MIB) for name, size in asked.items()]
        outcomes = [Outcome(decision, None, None, Status.APPLIED) for decision in decisions]
        self.watch.follow(Report(1, 0.0, "enforce", Snapshot(guests=guests), [], [], outcomes, [], [], 0.0))


@pytest.fixture
def lab() -> Lab:
    made = Lab()
    made.guest()
    return made


def test_a_guest_that_runs_out_wakes_mom_once_for_each_cycle(lab: Lab) -> None:
    lab.cycle()
    lab.looks()
    assert lab.woken == []
    for usable in (90, 60, 30):
        lab.looks(usable)
        lab.looks()
    assert lab.woken == ["guest db is short of memory: 90 MiB usable of 600 MiB"], "one cycle is asked for, and has not come yet"
    lab.cycle()
    lab.looks(29)
    assert len(lab.woken) == 1, "that cycle knew"


def test_a_guest_that_was_given_memory_and_is_short_again_wakes_mom_again(lab: Lab) -> None:
    lab.says(50)
    lab.cycle(db=800)
    lab.looks()
    lab.records["db"]["balloon.current"] = 700 * MIB
    lab.looks(145)
    assert lab.woken == [], "it is on its way there"
    lab.records["db"]["balloon.current"] = 800 * MIB
    lab.looks(60)
    assert lab.woken == ["guest db is short of memory: 60 MiB usable of 800 MiB"]


def test_a_guest_that_will_have_run_out_wakes_mom_before_it_has(lab: Lab) -> None:
    lab.says(300)
    lab.cycle()
    lab.looks(300, 299, 298)
    assert lab.watch.forecasts() == {"db": int((298 - 1.5) * MIB)}
    lab.looks(190)
    assert lab.woken == ["guest db is short of memory: 190 MiB usable of 600 MiB, and 28 MiB soon"]
    assert lab.watch.forecasts() == {"db": 28 * MIB}
    lab.now += 3
    assert lab.watch.forecasts() == {}, "no new statistics have come for too long"


def test_what_a_guest_says_while_a_cycle_is_under_way_is_judged_when_that_has_ended(lab: Lab) -> None:
    lab.says(400)
    lab.cycle()
    lab.looks()
    lab.looks(290)
    assert len(lab.woken) == 1, "a quarter is used up, and a cycle is asked for"
    seen_by_the_cycle = dict(lab.records["db"])
    lab.looks(30)
    later, lab.records["db"] = lab.records["db"], seen_by_the_cycle
    lab.cycle()
    lab.records["db"] = later
    lab.looks()
    assert lab.woken[1:] == ["guest db is short of memory: 30 MiB usable of 600 MiB"], "the cycle had looked before"
    lab.looks()
    assert len(lab.woken) == 2


def test_only_guests_from_which_something_was_taken_are_asked_about(lab: Lab) -> None:
    lab.guest("whole", size=1024, usable=500)
    lab.cycle(blocked="db")
    lab.looks()
    assert lab.asked == [], "none is to be watched, so none is asked"
    lab.cycle(blocked="db", whole=700)
    lab.looks()
    assert lab.asked == [{"whole"}]


def test_statistics_that_are_not_new_and_not_known_wake_nobody(lab: Lab) -> None:
    lab.cycle()
    lab.looks()
    for record in ({}, {"balloon.last-update": 0}, {"balloon.last-update": 1002, "balloon.usable": (1 << 64) - 1}):
        lab.records["db"] = dict(record)
        lab.looks()
    assert lab.woken == []


def test_growing_counters_are_taken_for_swapping(lab: Lab) -> None:
    lab.says(200, swap_in=0, major_fault=0)
    lab.cycle()
    lab.looks()
    lab.says(199, swap_in=5000, major_fault=10)
    lab.looks()
    assert lab.woken == ["guest db is short of memory: it reads 5,000 KiB a second from its swap"]


def test_several_guests_are_one_wake_up(lab: Lab) -> None:
    for name in ("a\n", "b", "c"):
        lab.guest(name)
    lab.cycle(blocked="db")
    lab.looks()
    for name in ("a\n", "b", "c"):
        lab.says(20, name)
    lab.looks()
    assert lab.woken == ["guest a\\n is short of memory: 20 MiB usable of 600 MiB (and 2 more)"]


def test_a_guest_that_was_started_anew_is_not_compared_with_what_it_was(lab: Lab) -> None:
    lab.says(200, swap_in=0)
    lab.cycle()
    lab.looks()
    lab.starts["db"] = "another start"
    lab.says(200, swap_in=90_000)
    lab.cycle()
    lab.looks()
    assert lab.woken == []


def test_a_slow_hypervisor_is_asked_less_often(lab: Lab) -> None:
    lab.cycle()
    assert lab.watch.look() == 0.01
    lab.slow = 0.5
    assert lab.watch.look() == pytest.approx(10.0)
