"""Reasons to wake mom for a guest: from plain numbers, and from a watch on balloon statistics."""

import logging
from collections.abc import Mapping, Set
from typing import Any

import pytest

from mom_core import Decision, Guest, HypervisorError, Outcome, Report, Snapshot, Status
from mom_kvm import WatchedMemory
from mom_kvm.watch import GuestWatch, usable_soon

MIB = 1024
GIB = 1024 * MIB


RAN_OUT, LITTLE = WatchedMemory(600 * MIB, 95 * MIB), WatchedMemory(2 * GIB, 30 * MIB)
WELL = WatchedMemory(2 * GIB, 800 * MIB, 0.0, 0.0)
SWAPS, WAITS = WELL._replace(swap_in=2048.0), WELL._replace(major_fault=300.0)

NEWS = {
    "a guest that begins to run out": (WatchedMemory(600 * MIB, 115 * MIB), RAN_OUT, "95 MiB usable of 600 MiB"),
    "not one that the last cycle knew of": (RAN_OUT, RAN_OUT._replace(usable=94 * MIB), ""),
    "not one that uses up less than a quarter of what it had": (WELL, WELL._replace(usable=601 * MIB), ""),
    "one that does": (WELL, WELL._replace(usable=600 * MIB), "200 MiB used up since the last cycle, 600 MiB usable"),
    "not a little, however little there was": (LITTLE, LITTLE._replace(usable=15 * MIB), ""),
    "a little more": (LITTLE, LITTLE._replace(usable=14 * MIB), "16 MiB used up since the last cycle, 14 MiB usable"),
    "not what the balloon takes": (WELL._replace(usable=1200 * MIB), WatchedMemory(2 * GIB - 600 * MIB, 600 * MIB), ""),
    "a guest that begins to swap": (WELL, SWAPS, "it reads 2,048 KiB per second from its swap"),
    "one that begins to wait for its disk": (WELL, WAITS, "300 page faults per second wait for its disk"),
    "not one that goes on to swap": (SWAPS, SWAPS, ""),
    "not one that goes on to wait": (WAITS, WAITS, ""),
    "not one that does not tell": (WELL, WELL._replace(swap_in=None, major_fault=None), ""),
}


@pytest.mark.parametrize(("before", "now", "why"), NEWS.values(), ids=NEWS)
def test_what_is_news(before: WatchedMemory, now: WatchedMemory, why: str) -> None:
    assert now.why_wake(before) == why


def said(updated: int, usable: float, total: float | None, size: float = 600 * MIB, *, steady: bool = True) -> WatchedMemory:
    return WatchedMemory(size, usable, total=total, updated=updated, steady=steady)


TOTAL = 560 * MIB
MOVING: dict[str, Any] = {"size": 500 * MIB, "steady": False}

FORECASTS = {
    "60 MiB/s for one second and a half": (said(1, 300 * MIB, TOTAL), said(2, 240 * MIB, TOTAL), 150),
    "12 MiB/s for five and a half": (said(1, 300 * MIB, TOTAL), said(6, 240 * MIB, TOTAL), 174),
    "no less than nothing": (said(1, 300 * MIB, TOTAL), said(2, 100 * MIB, TOTAL), 0),
    "a guest that frees memory may use it again": (said(1, 240 * MIB, TOTAL), said(2, 300 * MIB, TOTAL), 300),
    "a clock that stands tells nothing": (said(10, 300 * MIB, TOTAL), said(10, 240 * MIB, TOTAL), 240),
    "nor does one that goes back": (said(10, 300 * MIB, TOTAL), said(5, 240 * MIB, TOTAL), 240),
    "120 MiB less, of which the guest used 20": (said(1, 300 * MIB, TOTAL), said(2, 180 * MIB, TOTAL - 100 * MIB, **MOVING), 150),
    "a balloon that is not taken off the total, while it moves": (said(1, 300 * MIB, 2 * GIB), said(2, 200 * MIB, 2 * GIB, **MOVING), 200),
    "and at rest": (said(1, 300 * MIB, 2 * GIB), said(2, 240 * MIB, 2 * GIB), 150),
    "at rest without a total": (said(1, 300 * MIB, None), said(2, 240 * MIB, None), 150),
}


@pytest.mark.parametrize(("before", "now", "soon"), FORECASTS.values(), ids=FORECASTS)
def test_a_guest_goes_on_as_it_did_until_mom_can_act_again(before: WatchedMemory, now: WatchedMemory, soon: int) -> None:
    assert usable_soon(before, now) == soon * MIB


class Lab:
    """Balloon statistics of guests in MiB, and a watch on them. Tests change the statistics, and make the watch read them."""

    def __init__(self) -> None:
        self.now = 100.0
        self.records: dict[str, dict[str, Any]] = {}
        self.starts: dict[str, str] = {}
        self.asked: list[set[str]] = []
        self.woken: list[str] = []
        self.slow, self.away = 0.0, False
        self.watch = GuestWatch(self, 0.01, self.woken.append, logging.getLogger("test"), lambda: self.now + 900, lambda: self.now)

    def of(self, guests: Set[str]) -> Mapping[str, Mapping[str, object]]:
        self.asked.append(set(guests))
        self.now += self.slow
        if self.away:
            raise HypervisorError("libvirtd is away")
        return {name: self.records[name] for name in sorted(guests, reverse=True) if name in self.records}

    def guest(self, name: str = "db", *, size: int = 600, usable: int = 200) -> None:
        self.records[name] = {"balloon.current": size * MIB, "balloon.maximum": GIB, "balloon.last-update": 999}
        self.says(usable, name)

    def says(self, usable: int, name: str = "db", **more: int) -> None:
        """Set new statistics of a guest."""
        record = self.records[name]
        record |= {"balloon.last-update": record["balloon.last-update"] + 1, "balloon.available": GIB, "balloon.usable": usable * MIB}
        record |= {f"balloon.{counter}": value for counter, value in more.items()}

    def looks(self, *usable: int) -> None:
        """Let the watch read each of these statistics, or the same ones again."""
        for one in usable:
            self.says(one)
            self.watch.look()
        if not usable:
            self.watch.look()

    def cycle(self, *, blocked: str = "", status: Status = Status.APPLIED, **asked: int) -> None:
        """Run a cycle with the present guests and these requests."""
        names = {"balloon_cur": "balloon.current", "balloon_max": "balloon.maximum", "mem_usable": "balloon.usable"}
        guests = {}
        for guest, record in self.records.items():
            fields = {name: record[key] for name, key in names.items()}
            why = {"balloon_target": "it has no balloon"} if guest == blocked else {}
            guests[guest] = Guest(guest, guest, fields, blocked=why, incarnation=self.starts.get(guest, ""))
        decisions = [Decision(guests[name].entity, "balloon_target", size * MIB) for name, size in asked.items()]
        outcomes = [Outcome(decision, None, None, status) for decision in decisions]
        seen = Snapshot(guests=guests)
        self.watch.follow(Report(1, 0.0, "enforce", seen, [], [], outcomes, [], [], 0.0))

    def forecasts(self) -> dict[str, int]:
        """Return the forecasts for the next cycle."""
        return self.watch.forecasts([Guest(guest, guest, incarnation=self.starts.get(guest, "")) for guest in self.records])


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


def test_a_guest_that_reboots_wakes_mom_when_its_driver_first_tells_of_it(lab: Lab) -> None:
    lab.says(200, minor_fault=70_000, major_fault=90)
    lab.cycle()
    lab.looks()
    lab.says(400, minor_fault=800, major_fault=0)
    lab.looks()
    lab.says(400, minor_fault=900, major_fault=1)
    lab.looks()
    assert lab.woken == ["guest db has rebooted"]


def test_a_guest_that_will_have_run_out_wakes_mom_before_it_has(lab: Lab) -> None:
    lab.says(300)
    lab.cycle()
    lab.looks(300, 299, 298)
    assert lab.forecasts() == {"db": int((298 - 1.5) * MIB)}
    lab.looks(190)
    assert lab.woken == ["guest db is short of memory: 190 MiB usable of 600 MiB, and soon probably only 28 MiB"]
    assert lab.forecasts() == {"db": 28 * MIB}
    lab.starts["db"] = "2"
    assert lab.forecasts() == {}, "that was of the start before"
    del lab.starts["db"]
    lab.now += 3
    assert lab.forecasts() == {}, "no new statistics have come for too long"


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


def test_a_guest_that_has_shrunk_as_far_as_it_was_asked_to_wakes_mom_once(lab: Lab) -> None:
    lab.watch.every = 1.0
    lab.cycle(db=400)
    assert lab.watch.look() == 0.1, "it is looked at more often meanwhile"
    lab.records["db"]["balloon.current"] = 450 * MIB
    lab.looks()
    assert lab.woken == []
    lab.records["db"]["balloon.current"] = 407 * MIB
    lab.looks()
    assert lab.watch.look() == 1.0
    assert lab.woken == ["guest db has reached its smaller size"]


def test_a_hypervisor_that_is_away_and_a_guest_that_has_gone_wake_nobody(lab: Lab) -> None:
    lab.guest("other")
    lab.guest("a\n")
    lab.cycle()
    lab.looks()
    lab.away = True
    assert lab.watch.look() == 5.0
    lab.away = False
    del lab.records["db"]
    for name in ("other", "a\n"):
        lab.says(30, name)
    lab.looks()
    assert lab.woken == ["guest other is short of memory: 30 MiB usable of 600 MiB (and 1 more)"]
