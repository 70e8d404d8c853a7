"""Events: what mom reads again, and what wakes a cycle."""

import libvirt  # type: ignore[import-untyped]  # it has no types
import pytest
from fake_libvirt import FakeGuest

from mom_plugins_libvirt.events import EVENT_KINDS, LIFECYCLE, GuestEvent


def test_the_kinds_are_libvirts():
    assert all(hasattr(libvirt, f"VIR_DOMAIN_EVENT_ID_{name}") for name in EVENT_KINDS)


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (GuestEvent(LIFECYCLE, "u", "g", 5), "guest g stopped"),
        (GuestEvent("DEVICE_ADDED", "u", "two\nlines"), "guest two\\nlines has a new device"),
        (GuestEvent(LIFECYCLE, "u", "g", 0), ""),
        (GuestEvent("AGENT_LIFECYCLE", "u", "g", 1), ""),
        (GuestEvent("of a later libvirt", "u", "g"), ""),
    ],
)
def test_what_needs_a_cycle_gets_one(event, said):
    assert event.news == said


def test_what_changes_while_the_description_is_read_is_read_again(libvirtd, make_hypervisor, clock, guest):
    guest.statistics["balloon.last-update"] = int(clock.wall())
    hypervisor = make_hypervisor()
    old = guest.xml

    class Changing(FakeGuest):
        """Guest whose statistics period another program changes after each read of its definition."""

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
