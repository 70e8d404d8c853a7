"""Real guests that are paused, saved, shut down, started and moved to another libvirt."""

import time
from collections.abc import Iterator

import pytest
from libvirt_mom import another_host, libvirt_mom
from private_libvirtd import PrivateLibvirtd
from real_guests import Lab, RealGuest

from mom_core import GuestBusy, GuestGone, NotSupported
from mom_devkit import wait_until
from mom_kvm import GuestState
from mom_plugins_libvirt.hypervisor import LibvirtHypervisor

pytestmark = pytest.mark.real


@pytest.fixture
def hypervisor(libvirtd: PrivateLibvirtd) -> Iterator[LibvirtHypervisor]:
    with libvirt_mom(libvirtd) as mom:
        yield mom.hypervisor


def _standing(hypervisor: LibvirtHypervisor, guest: RealGuest) -> GuestState | None:
    return hypervisor.standings([guest.entity]).get(guest.uuid)


def test_a_guest_that_is_paused_goes_on_and_one_that_libvirt_would_forget_is_not_saved(hypervisor: LibvirtHypervisor, lab: Lab) -> None:
    guest = lab.start("transient", workload=(10, 5, 0, 0)).wait_until_it_works()
    assert _standing(hypervisor, guest) is GuestState.RUNNING
    hypervisor.pause(guest.entity)
    assert _standing(hypervisor, guest) is GuestState.PAUSED
    seen = len(guest.beats)
    time.sleep(2.5)
    assert len(guest.beats) <= seen + 1, "it stands still"
    hypervisor.resume(guest.entity)
    guest.works_on()
    with pytest.raises(NotSupported, match="the guest is transient"):
        hypervisor.save(guest.entity, 60.0)
    guest.works_on()


def test_a_guest_goes_on_where_it_was_saved_and_boots_after_it_was_asked_to_shut_down(hypervisor: LibvirtHypervisor, lab: Lab) -> None:
    guest = lab.start("saves", workload=(10, 5, 0, 0), persistent=True).wait_until_it_works()
    hypervisor.save(guest.entity, 60.0)
    assert _standing(hypervisor, guest) is GuestState.SAVED
    assert guest.uuid not in {one.id for one in hypervisor.guests()}
    age = guest.beats[-1].seconds
    hypervisor.start(guest.entity, 60.0)
    assert _standing(hypervisor, guest) is GuestState.RUNNING
    wait_until(lambda: guest.beats and guest.beats[-1].seconds > age, "it works on", 60)
    assert guest.printed.count("GUEST up") <= 1
    hypervisor.guests()  # what is meant for the one before is not done to one that was started since
    hypervisor.shut_down(guest.entity)
    wait_until(lambda: _standing(hypervisor, guest) is GuestState.OFF, "it is off", 60)
    hypervisor.start(guest.entity, 60.0)
    wait_until(lambda: _standing(hypervisor, guest) is GuestState.RUNNING, "it runs", 60)


def test_a_move_that_takes_too_long_is_given_up_and_another_leads_to_the_other_libvirt(hypervisor: LibvirtHypervisor, lab: Lab) -> None:
    with another_host(lab.libvirtd) as other, libvirt_mom(other) as there:
        guest = lab.start("moves", workload=(60, 5, 0, 0), persistent=True).wait_until_it_works()
        guest.domain.migrateSetMaxSpeed(1)
        began = time.monotonic()
        with pytest.raises(GuestBusy, match="mom aborted it"):
            hypervisor.migrate(guest.entity, other.destination, 3.0)
        assert time.monotonic() - began < 60, "the whole of it would take a minute and more"
        guest.works_on()

        guest.domain.migrateSetMaxSpeed(10_000)
        age = guest.beats[-1].seconds
        hypervisor.migrate(guest.entity, other.destination, 60.0)
        assert guest.uuid not in {one.id for one in hypervisor.guests()}
        assert _standing(hypervisor, guest) is None
        assert _standing(there.hypervisor, guest) is GuestState.RUNNING
        # The QEMU over there has begun its log anew.
        wait_until(lambda: guest.beats and guest.beats[-1].seconds > age, "it works on", 60)
        with pytest.raises(GuestGone):
            hypervisor.migrate(guest.entity, other.destination, 30.0)
