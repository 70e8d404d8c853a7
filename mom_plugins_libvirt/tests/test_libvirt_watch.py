"""The watch for guests that run low on memory: what wakes mom, on a libvirtd in memory."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator

import pytest
from fake_libvirt import LONG_SECONDS, FakeError, FakeGuest, FakeLibvirtd, HandClock, until
from pydantic import ValidationError

from mom_core import Decision, Guest, Outcome, Report, Snapshot, Status, Value
from mom_guests import GuestWatch
from mom_plugins_libvirt import LibvirtPlugin
from mom_plugins_libvirt.connection import Connection, ConnectionSettings

MIB = 1024
GIB = 1024 * MIB


class Lab:
    """A watch on a libvirtd in memory, looked through by hand."""

    def __init__(self, libvirtd: FakeLibvirtd, clock: HandClock) -> None:
        self.libvirtd = libvirtd
        self.clock = clock
        self.woken: list[str] = []
        self.called = threading.Event()
        log = logging.getLogger("test")
        self.connection = Connection(ConnectionSettings("fake:///system", readonly=True, call_timeout=LONG_SECONDS), log, libvirtd)
        self.watch = GuestWatch(self.connection, 0.01, self._wake, log, clock.wall, clock)

    def _wake(self, why: str) -> None:
        self.woken.append(why)
        self.called.set()

    def guest(self, name: str, *, size: int, maximum: int, usable: int) -> FakeGuest:
        guest = self.libvirtd.add(name)
        guest.current, guest.maximum = size, maximum
        self.reports(guest, usable)
        return guest

    def reports(self, guest: FakeGuest, usable: int, **more: int) -> None:
        """The guest has new statistics."""
        last = guest.statistics.get("balloon.last-update", 0)
        assert isinstance(last, int)
        counters = {f"balloon.{name}": value for name, value in more.items()}
        guest.statistics = {"balloon.last-update": last + 1, "balloon.available": guest.maximum, "balloon.usable": usable, **counters}

    def cycle(self, *asked: tuple[FakeGuest, int], **blocked: str) -> None:
        """The engine's report after a cycle that saw the guests as they are now, and asked these for sizes."""
        guests = {}
        for guest in self.libvirtd.guests.values():
            fields: dict[str, Value] = {"balloon_cur": guest.current, "balloon_max": guest.maximum}
            usable = guest.statistics.get("balloon.usable")
            if isinstance(usable, int):
                fields["mem_usable"] = usable
            why = {"balloon_target": blocked[guest.name]} if guest.name in blocked else {}
            guests[guest.uuid] = Guest(guest.uuid, guest.name, fields, blocked=why, incarnation=str(guest.number))
        outcomes = [
            Outcome(Decision(guests[guest.uuid].entity, "balloon_target", size), guest.current, None, Status.APPLIED)
            for guest, size in asked
        ]
        self.watch.follow(Report(1, 0.0, "enforce", Snapshot(guests=guests), [], [], outcomes, [], [], 0.0))


@pytest.fixture
def lab(libvirtd: FakeLibvirtd, clock: HandClock) -> Iterator[Lab]:
    made = Lab(libvirtd, clock)
    yield made
    made.watch.stop()
    made.connection.close()


def test_a_guest_that_runs_out_wakes_mom_once_for_each_cycle(lab: Lab) -> None:
    guest = lab.guest("db-1", size=600 * MIB, maximum=GIB, usable=200 * MIB)
    lab.cycle()
    lab.watch.look()
    assert lab.woken == []
    for usable in (90, 60, 30):
        lab.reports(guest, usable * MIB)
        lab.watch.look()
        lab.watch.look()
    assert lab.woken == ["guest db-1 is short of memory: 90 MiB usable of 600 MiB"], "one cycle is asked for, and has not come yet"
    lab.cycle()
    lab.reports(guest, 29 * MIB)
    lab.watch.look()
    assert len(lab.woken) == 1, "that cycle knew"


def test_a_guest_that_was_given_memory_and_is_short_again_wakes_mom_again(lab: Lab) -> None:
    guest = lab.guest("db-1", size=600 * MIB, maximum=GIB, usable=50 * MIB)
    lab.cycle((guest, 800 * MIB))
    lab.watch.look()
    guest.current = 700 * MIB
    lab.reports(guest, 145 * MIB)
    lab.watch.look()
    assert lab.woken == [], "it is on its way there"
    guest.current = 800 * MIB
    lab.reports(guest, 60 * MIB)
    lab.watch.look()
    assert lab.woken == ["guest db-1 is short of memory: 60 MiB usable of 800 MiB"]


def test_a_guest_that_will_have_run_out_wakes_mom_before_it_has(lab: Lab, clock: HandClock) -> None:
    guest = lab.guest("db-1", size=600 * MIB, maximum=GIB, usable=300 * MIB)
    lab.cycle()
    for usable in (300, 299, 298):
        lab.reports(guest, usable * MIB)
        lab.watch.look()
    assert lab.watch.forecasts() == {guest.uuid: int((298 - 1.5) * MIB)}
    lab.reports(guest, 190 * MIB)
    lab.watch.look()
    assert lab.woken == ["guest db-1 is short of memory: 190 MiB usable of 600 MiB, and 28 MiB soon"]
    assert lab.watch.forecasts() == {guest.uuid: 28 * MIB}
    clock.now += 3
    assert lab.watch.forecasts() == {}, "no new statistics have come for too long"


def test_what_a_guest_says_while_a_cycle_is_under_way_is_judged_when_that_has_ended(lab: Lab) -> None:
    guest = lab.guest("db-1", size=600 * MIB, maximum=GIB, usable=400 * MIB)
    lab.cycle()
    lab.watch.look()
    lab.reports(guest, 290 * MIB)
    lab.watch.look()
    assert len(lab.woken) == 1, "a quarter is used up, and a cycle is asked for"
    seen_by_the_cycle = guest.statistics
    lab.reports(guest, 30 * MIB)
    lab.watch.look()
    later, guest.statistics = guest.statistics, seen_by_the_cycle
    lab.cycle()
    guest.statistics = later
    lab.watch.look()
    assert lab.woken[1:] == ["guest db-1 is short of memory: 30 MiB usable of 600 MiB"], "the cycle had looked before"
    lab.watch.look()
    assert len(lab.woken) == 2


def test_only_guests_from_which_something_was_taken_are_asked_about(lab: Lab) -> None:
    whole = lab.guest("whole", size=GIB, maximum=GIB, usable=500 * MIB)
    lab.guest("blocked", size=GIB // 2, maximum=GIB, usable=200 * MIB)
    lab.cycle(blocked="it has no balloon")
    lab.watch.look()
    assert not lab.libvirtd.calls, "nobody is to be watched, so nobody is asked, and no connection opened"
    lab.cycle((whole, 700 * MIB), blocked="it has no balloon")
    lab.watch.look()
    lab.reports(whole, 20 * MIB)
    lab.watch.look()
    lab.watch.look()
    assert lab.libvirtd.calls == {"open": 1, "getAllDomainStats": 1, "domainListGetStats": 2}
    assert len(lab.woken) == 1


def test_statistics_that_are_not_new_and_not_known_wake_nobody(lab: Lab) -> None:
    guest = lab.guest("db-1", size=600 * MIB, maximum=GIB, usable=200 * MIB)
    lab.cycle()
    lab.watch.look()
    for record in ({}, {"balloon.last-update": 0}, {"balloon.last-update": 1002, "balloon.usable": (1 << 64) - 1}):
        guest.statistics = dict(record)
        lab.watch.look()
    assert lab.woken == []


def test_growing_counters_are_taken_for_swapping(lab: Lab) -> None:
    guest = lab.guest("db-1", size=600 * MIB, maximum=GIB, usable=200 * MIB)
    lab.reports(guest, 200 * MIB, swap_in=0, major_fault=0)
    lab.cycle()
    lab.watch.look()
    lab.reports(guest, 199 * MIB, swap_in=5000, major_fault=10)
    lab.watch.look()
    assert lab.woken == ["guest db-1 is short of memory: it reads 5,000 KiB a second from its swap"]


def test_several_guests_are_one_wake_up(lab: Lab) -> None:
    guests = [lab.guest(name, size=600 * MIB, maximum=GIB, usable=200 * MIB) for name in ("a\n", "b", "c")]
    lab.cycle()
    lab.watch.look()
    for guest in guests:
        lab.reports(guest, 20 * MIB)
    lab.watch.look()
    assert lab.woken == ["guest a\\n is short of memory: 20 MiB usable of 600 MiB (and 2 more)"]


def test_a_guest_that_was_started_anew_is_not_compared_with_what_it_was(lab: Lab) -> None:
    guest = lab.guest("db-1", size=600 * MIB, maximum=GIB, usable=200 * MIB)
    lab.reports(guest, 200 * MIB, swap_in=0)
    lab.cycle()
    lab.watch.look()
    guest.number = 2
    lab.reports(guest, 200 * MIB, swap_in=90_000)
    lab.cycle()
    lab.watch.look()
    assert lab.woken == []


def test_a_slow_libvirtd_is_asked_less_often(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.guest("db-1", size=600 * MIB, maximum=GIB, usable=200 * MIB)
    lab.cycle()
    assert lab.watch.look() == 0.01
    ask = lab.connection.statistics

    def slowly(*arguments: object) -> object:
        lab.clock.now += 0.5
        return ask(*arguments)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(lab.connection, "statistics", slowly)
    assert lab.watch.look() == pytest.approx(10.0)


def test_a_libvirtd_that_fails_is_left_in_peace_for_a_while(lab: Lab) -> None:
    guest = lab.guest("db-1", size=600 * MIB, maximum=GIB, usable=200 * MIB)
    lab.cycle()
    lab.watch.look()
    lab.libvirtd.connections[0].broken = True
    lab.libvirtd.refusal = FakeError("no", 38)
    assert lab.watch.look() == 5.0
    lab.libvirtd.refusal = None
    until(lambda: lab.watch.look() == 0.01)
    lab.reports(guest, 20 * MIB)
    lab.watch.look()
    assert len(lab.woken) == 1, "it is connected again"


def test_a_libvirtd_that_hangs_does_not_hold_up_the_end(lab: Lab) -> None:
    lab.guest("db-1", size=600 * MIB, maximum=GIB, usable=200 * MIB)
    release = threading.Event()
    lab.libvirtd.bulk_hangs.append(release)
    lab.watch.start()
    lab.cycle()
    until(lambda: lab.libvirtd.calls["getAllDomainStats"])
    began = time.monotonic()
    lab.watch.stop()
    assert time.monotonic() - began < LONG_SECONDS / 2, "half of what it waits for libvirtd"
    release.set()


def test_watching_all_the_time_is_refused() -> None:
    assert LibvirtPlugin.Settings.model_validate({"watch": "0s"}).watch == 0
    with pytest.raises(ValidationError, match="must be at least"):
        LibvirtPlugin.Settings.model_validate({"watch": "10ms"})
