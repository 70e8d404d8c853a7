"""Real guests that are paused, saved, shut down, started and moved to another libvirt."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from guest_image import cache_folder
from private_libvirtd import PrivateLibvirtd
from real_guests import Lab, RealGuest, eventually

from mom_core import Entity, GuestBusy, GuestGone, NotSupported, Scope
from mom_plugins_libvirt.connection import Connection, ConnectionSettings
from mom_plugins_libvirt.domains import SamplingSettings
from mom_plugins_libvirt.hypervisor import LibvirtHypervisor
from mom_toolkit import GuestState

pytestmark = pytest.mark.real


@contextmanager
def _hypervisor(libvirtd: PrivateLibvirtd) -> Iterator[LibvirtHypervisor]:
    log = logging.getLogger("test")
    connection = Connection(ConnectionSettings(libvirtd.uri), log)
    connection.start()
    hypervisor = LibvirtHypervisor(connection, SamplingSettings(pid_folder=libvirtd.pid_folder), log)
    try:
        yield hypervisor
    finally:
        hypervisor.close()


@pytest.fixture
def hypervisor(libvirtd: PrivateLibvirtd) -> Iterator[LibvirtHypervisor]:
    with _hypervisor(libvirtd) as made:
        yield made


def _standing(hypervisor: LibvirtHypervisor, guest: RealGuest) -> GuestState | None:
    return hypervisor.standings([guest.entity]).get(guest.uuid)


def _works_on(guest: RealGuest) -> None:
    seen = len(guest.beats)
    eventually("it works on", lambda: len(guest.beats) > seen + 1, 60)


def test_a_guest_that_is_paused_stands_still_and_goes_on(hypervisor: LibvirtHypervisor, lab: Lab) -> None:
    guest = lab.start("pauses", workload=(10, 5, 0, 0))
    guest.wait_until_it_works()
    assert _standing(hypervisor, guest) is GuestState.RUNNING
    hypervisor.pause(guest.entity)
    assert _standing(hypervisor, guest) is GuestState.PAUSED
    seen = len(guest.beats)
    time.sleep(2.5)
    assert len(guest.beats) <= seen + 1
    hypervisor.resume(guest.entity)
    _works_on(guest)


def test_a_guest_that_is_saved_gives_its_memory_back_and_goes_on_where_it_was(hypervisor: LibvirtHypervisor, lab: Lab) -> None:
    guest = lab.start("saves", workload=(10, 5, 0, 0), persistent=True)
    guest.wait_until_it_works()
    hypervisor.save(guest.entity, 60.0)
    assert _standing(hypervisor, guest) is GuestState.SAVED
    assert guest.uuid not in {one.id for one in hypervisor.guests()}
    age = guest.beats[-1].seconds
    hypervisor.start(guest.entity, 60.0)
    assert _standing(hypervisor, guest) is GuestState.RUNNING
    eventually("it works on", lambda: guest.beats and guest.beats[-1].seconds > age, 60)
    assert guest.printed.count("GUEST up") <= 1


def test_a_guest_that_libvirt_would_forget_is_not_saved(hypervisor: LibvirtHypervisor, lab: Lab) -> None:
    guest = lab.start("transient", workload=(10, 5, 0, 0))
    guest.wait_until_it_works()
    with pytest.raises(NotSupported, match="not defined"):
        hypervisor.save(guest.entity, 60.0)
    _works_on(guest)


def test_a_guest_shuts_down_when_it_is_asked_and_boots_again(hypervisor: LibvirtHypervisor, lab: Lab) -> None:
    guest = lab.start("off", workload=(10, 5, 0, 0), persistent=True)
    guest.wait_until_it_works()
    hypervisor.shut_down(guest.entity)
    eventually("it is off", lambda: _standing(hypervisor, guest) is GuestState.OFF, 60)
    hypervisor.start(guest.entity, 60.0)
    eventually("it runs", lambda: _standing(hypervisor, guest) is GuestState.RUNNING, 60)


def test_a_guest_moves_to_another_libvirt_and_works_on_there(hypervisor: LibvirtHypervisor, lab: Lab) -> None:
    other = PrivateLibvirtd(cache_folder(), host_uuid="6f2c7c1e-8a54-4c8e-9a37-0d6a6f3d2b12", beside=lab.libvirtd)
    try:
        other.start()
        guest = lab.start("moves", workload=(10, 5, 0, 0), persistent=True)
        guest.wait_until_it_works()
        with _hypervisor(other) as there:
            age = guest.beats[-1].seconds
            hypervisor.migrate(guest.entity, other.destination, 60.0)
            assert guest.uuid not in {one.id for one in hypervisor.guests()}
            assert _standing(hypervisor, guest) is None
            assert _standing(there, guest) is GuestState.RUNNING
            # The QEMU over there has begun its log anew.
            eventually("it works on", lambda: guest.beats and guest.beats[-1].seconds > age, 60)
            with pytest.raises(GuestGone):
                hypervisor.migrate(guest.entity, other.destination, 30.0)
    finally:
        other.stop()


def test_a_move_that_takes_too_long_is_given_up_and_the_guest_works_on(hypervisor: LibvirtHypervisor, lab: Lab) -> None:
    other = PrivateLibvirtd(cache_folder(), host_uuid="6f2c7c1e-8a54-4c8e-9a37-0d6a6f3d2b13", beside=lab.libvirtd)
    try:
        other.start()
        guest = lab.start("stays", workload=(60, 5, 0, 0))
        guest.wait_until_it_works()
        guest.domain.migrateSetMaxSpeed(1)
        began = time.monotonic()
        with pytest.raises(GuestBusy, match="given up"):
            hypervisor.migrate(guest.entity, other.destination, 3.0)
        assert time.monotonic() - began < 50
        _works_on(guest)
    finally:
        other.stop()


def test_guests_that_are_not_there_and_hosts_that_do_not_answer_are_said(hypervisor: LibvirtHypervisor, lab: Lab) -> None:
    ghost = Entity(Scope.GUEST, "5e5e5e5e-0000-4000-8000-00000000dead", "ghost")
    assert hypervisor.standings([ghost]) == {}
    for act in (hypervisor.pause, hypervisor.resume, hypervisor.shut_down):
        with pytest.raises(GuestGone):
            act(ghost)
    with pytest.raises(GuestGone):
        hypervisor.start(ghost, 5.0)
