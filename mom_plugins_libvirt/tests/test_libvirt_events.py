"""Events: what is read again, what is worth a cycle, and that missed, doubled and disordered ones change nothing."""

import tempfile
from pathlib import Path

import libvirt  # type: ignore[import-untyped]  # it has no types
import pytest
from fake_libvirt import FakeGuest, FakeLibvirtd, hypervisor_on
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mom_core import Guest, Value
from mom_devkit import HandClock
from mom_plugins_libvirt.events import EVENT_KINDS, LIFECYCLE, EventBook, GuestEvent
from mom_plugins_libvirt.hypervisor import LibvirtHypervisor

MIB = 1024


@pytest.fixture
def heard() -> list[str]:
    return []


@pytest.fixture
def book(heard: list[str]) -> EventBook:
    return EventBook(heard.append)


def test_the_kinds_are_libvirts():
    assert all(hasattr(libvirt, f"VIR_DOMAIN_EVENT_ID_{name}") for name in EVENT_KINDS.values())


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (GuestEvent(LIFECYCLE, "u", "g", 5), "guest g stopped"),
        (GuestEvent("device-added", "u", "two\nlines"), "guest two\\nlines has a new device"),
        (GuestEvent(LIFECYCLE, "u", "g", 0), None),
        (GuestEvent("agent-lifecycle", "u", "g", 1), None),
        (GuestEvent("of a later libvirt", "u", "g"), None),
    ],
)
def test_what_needs_a_cycle_gets_one(book, heard, event, said):
    book.heard(event)
    assert heard == ([] if said is None else [said])


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


# --- whatever becomes of the events -------------------------------------------------------------------------------------------------

_LIFECYCLE_OF = {"start": 2, "pause": 3, "resume": 4, "stop": 5}
_CHANGES = st.tuples(
    st.sampled_from(["start", "start", "tune", "stop", "pause", "resume", "plug", "resize"]), st.integers(0, 1), st.integers(1, 9)
)
_TOLD = st.lists(st.integers(0, 3), max_size=2)


_NOWHERE = Path(tempfile.gettempdir()) / "no such folder"


def _change(libvirtd: FakeLibvirtd, what: str, which: int, number: int) -> tuple[int, tuple[object, ...]] | None:
    """Do that to a guest; the event that libvirt tells of it with."""
    uuid = f"uuid-of-g{which}"
    guest = libvirtd.guests.get(uuid)
    if what == "start" and guest is None:
        libvirtd.add(f"g{which}").number = number
    elif guest is None or what == "start":
        return None
    elif what == "stop":
        del libvirtd.guests[uuid]
    elif what in {"pause", "resume"}:
        guest.state = 3 if what == "pause" else 1
    elif what == "plug":
        guest.maximum += number * MIB
        return libvirtd.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, ("dimm0",)
    elif what == "tune":
        guest.period = number
        return libvirtd.VIR_DOMAIN_EVENT_ID_TUNABLE, ({"cputune.vcpu_quota": number},)
    elif what == "resize":
        guest.current = number * 100 * MIB
        return libvirtd.VIR_DOMAIN_EVENT_ID_BALLOON_CHANGE, (guest.current,)
    return libvirtd.VIR_DOMAIN_EVENT_ID_LIFECYCLE, (_LIFECYCLE_OF[what], 0)


def _all_known(hypervisor: LibvirtHypervisor) -> tuple[list[Guest], dict[str, dict[str, Value]]]:
    guests = hypervisor.guests()
    fields = hypervisor.fields(guests)
    for values in fields.values():
        for name in ("cpu_usage", "balloon_rate"):  # these need two looks
            values.pop(name, None)
    return sorted(guests, key=lambda guest: guest.id), fields


@pytest.mark.long
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(changes=st.lists(st.tuples(_CHANGES, _TOLD), min_size=4, max_size=20))
def test_events_that_are_missed_doubled_or_disordered_change_nothing_in_the_end(changes):
    """Each change is told of as often as its list is long (not at all, if it is empty), after so many further changes."""
    libvirtd, clock = FakeLibvirtd(), HandClock(100.0)
    gone = FakeLibvirtd()

    def cycle() -> None:
        clock.now += 5
        for guest in libvirtd.guests.values():  # always fresh: statistics that cease would have the description read again
            guest.statistics["balloon.last-update"] = int(clock.wall())
        hypervisor.guests()

    with hypervisor_on(libvirtd, clock, _NOWHERE) as hypervisor:
        hypervisor.guests()
        pending: list[tuple[int, int, int, tuple[object, ...]]] = []
        for step, ((what, which, number), delays) in enumerate(changes):
            event = _change(libvirtd, what, which, number)
            if number > 3:
                cycle()
            if event is not None:
                pending += [(step + delay, which, *event) for delay in delays]
            for due in [entry for entry in pending if entry[0] <= step]:
                pending.remove(due)
                _, of, kind, details = due
                guest = libvirtd.guests.get(f"uuid-of-g{of}") or gone.add(f"g{of}")
                libvirtd.connections[0].tell_of(guest, kind, *details)
        for _ in range(61):  # five minutes of polling
            cycle()
        found = _all_known(hypervisor)
        with hypervisor_on(libvirtd, clock, _NOWHERE) as other:
            other.guests()
            assert found == _all_known(other)
