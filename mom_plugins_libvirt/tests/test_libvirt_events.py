"""Events: what is read again, what is worth a cycle, and that missed, doubled and disordered ones change nothing."""

import libvirt  # type: ignore[import-untyped]  # it has no types
import pytest
from fake_libvirt import FakeGuest

from mom_devkit import HandClock
from mom_kvm import Resizes
from mom_plugins_libvirt.events import BALLOON, EVENT_KINDS, LIFECYCLE, EventBook, GuestEvent

MIB = 1024


@pytest.fixture
def heard() -> list[str]:
    return []


@pytest.fixture
def resizes(clock: HandClock) -> Resizes:
    return Resizes(clock)


@pytest.fixture
def book(resizes: Resizes, heard: list[str]) -> EventBook:
    return EventBook(resizes, heard.append)


def balloon(size_mib: float, uuid: str = "u") -> GuestEvent:
    return GuestEvent(BALLOON, uuid, "g", int(size_mib * MIB))


def test_the_kinds_are_libvirts():
    assert all(hasattr(libvirt, f"VIR_DOMAIN_EVENT_ID_{name}") for name in EVENT_KINDS.values())


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (GuestEvent(LIFECYCLE, "u", "g", 2, 1), "guest g started, migrated here"),
        (GuestEvent(LIFECYCLE, "u", "g", 5, 3), "guest g stopped, migrated away"),
        (GuestEvent(LIFECYCLE, "u", "g", 5, 99), "guest g stopped"),
        (GuestEvent("device-added", "u", "two\nlines"), "guest two\\nlines has a new device"),
        (GuestEvent(BALLOON, "u", "g", 5 * MIB), "guest g was resized by another process"),
        (GuestEvent(LIFECYCLE, "u", "g", 0), None),
        (GuestEvent("agent-lifecycle", "u", "g", 1, 2), None),
        (GuestEvent("of a later libvirt", "u", "g"), None),
    ],
)
def test_what_needs_a_cycle_gets_one(book, heard, event, said):
    book.heard(event)
    assert heard == ([] if said is None else [said])


def test_moms_own_resizing_wakes_nobody(book, resizes, heard, clock):
    resizes.resizing("u", 1000 * MIB, 600 * MIB)
    for size in (1000, 900, 750, 600.5, 600):
        clock.now += 1
        book.heard(balloon(size))
    assert heard == []
    clock.now += 10
    book.heard(balloon(600))
    assert heard == []
    book.heard(balloon(700))
    assert heard == ["guest g was resized by another process"], "it was where mom wanted it"


def test_a_guest_may_be_on_its_way_to_an_earlier_target(book, resizes, heard, clock):
    resizes.resizing("u", 1000 * MIB, 600 * MIB)
    clock.now += 1
    resizes.resizing("u", 800 * MIB, 900 * MIB)
    book.heard(balloon(750))
    book.heard(balloon(900))
    assert heard == []
    clock.now += 60
    resizes.resizing("u", 900 * MIB, 950 * MIB)
    book.heard(balloon(750))
    assert len(heard) == 1


@pytest.mark.parametrize(("before", "size", "gone"), [(1000, 500, False), (None, 700, False), (1000, 700, True)])
def test_a_size_that_mom_did_not_ask_for_is_somebody_elses_and_needs_no_description(book, resizes, heard, before, size, gone):
    resizes.resizing("u", before and before * MIB, 600 * MIB)
    book.heard(balloon(600))
    assert heard == []
    book.changed({"other"} if gone else {"u"})
    book.heard(balloon(size))
    assert len(heard) == 1
    assert book.changed({"u"}) == set()


def test_a_flood_of_sizes_wakes_once_in_a_while(book, heard, clock):
    for second in range(60):
        clock.now = 100.0 + second
        for guest in range(20):
            book.heard(balloon(second * 10, f"g{guest}"))
    assert len(heard) == 12, "60 s of 1200 events: one each 5 s"


def test_own_balloons_beside_virtio_mem_wake_nobody_and_others_do(libvirtd, hypervisor, heard, guest):
    target = "<target><size unit='MiB'>256</size><current unit='MiB'>128</current></target>"
    guest.devices = f"<memory model='virtio-mem'>{target}</memory>"
    guest.maximum, guest.current = 448 * MIB, 320 * MIB
    hypervisor.wake = heard.append
    hypervisor.guests()
    hypervisor.set_balloon(guest.entity, 278 * MIB)
    for size in (170, 150):
        libvirtd.connections[0].tell_of(guest, libvirtd.VIR_DOMAIN_EVENT_ID_BALLOON_CHANGE, size * MIB)
    assert heard == []
    libvirtd.connections[0].tell_of(guest, libvirtd.VIR_DOMAIN_EVENT_ID_BALLOON_CHANGE, 100 * MIB)
    assert heard == ["guest g was resized by another process"]


def test_statistics_that_were_switched_off_are_noticed_when_they_are_late(libvirtd, hypervisor, clock, guest):
    guest.statistics["balloon.last-update"] = int(clock.wall())
    hypervisor.guests()
    guests = hypervisor.guests()
    on = hypervisor.fields(guests)[guest.uuid]["balloon_stats_period"]
    guest.period = 0
    clock.now += 1.5 * on + 2
    guests = hypervisor.guests()
    fields = hypervisor.fields(guests)[guest.uuid]
    assert fields["balloon_stats_period"] == 0
    assert fields.get("mem_usable") is not None, "what it said last is still believed"
    read = libvirtd.calls["XMLDesc"]
    clock.now += 1
    hypervisor.guests()
    assert libvirtd.calls["XMLDesc"] == read, "once is enough"


def test_what_changes_while_the_description_is_read_is_read_again(libvirtd, make_hypervisor, clock, guest):
    guest.statistics["balloon.last-update"] = int(clock.wall())
    hypervisor = make_hypervisor()
    old = guest.xml

    class Changing(FakeGuest):
        """Its period is changed by somebody as soon as its description was read."""

        @property
        def xml(self) -> str:
            if self.period == 2:
                self.period = 8
                libvirtd.connections[0].tell_of(self, libvirtd.VIR_DOMAIN_EVENT_ID_TUNABLE, {})
                return old
            return super().xml

    guest.__class__ = Changing
    hypervisor.guests()
    guests = hypervisor.guests()
    assert hypervisor.fields(guests)[guest.uuid]["balloon_stats_period"] == 8
