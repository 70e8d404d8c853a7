"""Stopping, resuming and moving guests on a fake libvirtd."""

import threading
import time

import pytest
from fake_libvirt import LONG_SECONDS, FakeGuest, FakeLibvirtd, impatient

from mom_core import Entity, GuestBusy, GuestGone, NotSupported, Scope
from mom_devkit import wait_until
from mom_kvm import Destination, GuestState


@pytest.fixture
def guest(libvirtd: FakeLibvirtd) -> FakeGuest:
    return libvirtd.add("a")


ORDERS = {
    "pause": lambda hypervisor, guest: hypervisor.pause(guest),
    "resume": lambda hypervisor, guest: hypervisor.resume(guest),
    "shut down": lambda hypervisor, guest: hypervisor.shut_down(guest),
    "save": lambda hypervisor, guest: hypervisor.save(guest, LONG_SECONDS),
    "migrate": lambda hypervisor, guest: hypervisor.migrate(guest, Destination.parse("qemu+tls://h2/system"), LONG_SECONDS),
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_what_is_meant_for_a_guest_is_not_done_to_one_that_was_started_anew_since(hypervisor, libvirtd, guest, order):
    hypervisor.guests()
    guest.number, guest.state = 2, libvirtd.PAUSED
    with pytest.raises(GuestGone, match="was started again"):
        order(hypervisor, guest.entity)
    assert (guest.state, guest.saved, guest.moved_to, libvirtd.calls["shutdown"]) == (libvirtd.PAUSED, False, "", 0)
    assert not any("h2" in uri for uri in libvirtd.opened_uris)
    hypervisor.guests()
    order(hypervisor, guest.entity)


def test_a_job_that_is_given_up_is_not_that_of_the_guest_that_was_started_since(hypervisor, libvirtd, guest, monkeypatch):
    monkeypatch.setattr("mom_plugins_libvirt.long_calls._GIVE_UP_SECONDS", 0.2)
    guest.job_goes_on = threading.Event()

    def save() -> None:
        with pytest.raises(GuestBusy):
            hypervisor.save(guest.entity, 0.3)

    saving = threading.Thread(target=save)
    saving.start()
    wait_until(lambda: libvirtd.calls["managedSave"])
    guest.number = 2
    saving.join()
    assert not libvirtd.calls["abortJob"]
    guest.job_goes_on.set()


def test_a_guest_that_libvirt_would_forget_is_neither_saved_nor_shut_down(hypervisor, guest):
    guest.persistent = False
    for order in ("save", "shut down"):
        with pytest.raises(NotSupported, match="the guest is transient"):
            ORDERS[order](hypervisor, guest.entity)
    assert hypervisor.standings([guest.entity]) == {guest.entity.id: GuestState.RUNNING}


def test_an_unknown_guest_has_no_standing_and_is_gone(hypervisor, libvirtd):
    unknown = Entity(Scope.GUEST, "uuid-of-nobody", "nobody")
    assert hypervisor.standings([unknown]) == {}
    for order in ORDERS.values():
        with pytest.raises(GuestGone):
            order(hypervisor, unknown)
    assert not any("h2" in uri for uri in libvirtd.opened_uris)


def test_a_guest_that_does_not_answer_is_looked_at_once_and_hides_no_other(hypervisor, libvirtd, guest):
    well = libvirtd.add("b")
    guest.hangs = threading.Event()
    with impatient(hypervisor.connection), pytest.raises(GuestBusy, match="no answer within"):
        hypervisor.standings([guest.entity])
    asked = libvirtd.calls["isActive"]
    for _ in range(20):
        with pytest.raises(GuestBusy, match="has not answered"):
            hypervisor.standings([guest.entity])
    assert libvirtd.calls["isActive"] == asked, "each call would hold one of libvirtd's threads"
    assert hypervisor.standings([well.entity]) == {well.uuid: GuestState.RUNNING}
    guest.hangs.set()
    wait_until(lambda: not hypervisor.has_open_call(guest.uuid))
    assert hypervisor.standings([guest.entity]) == {guest.uuid: GuestState.RUNNING}


@pytest.mark.parametrize("saved", [True, False])
def test_what_takes_too_long_is_given_up_and_the_guest_runs_on(hypervisor, guest, saved):
    guest.job_goes_on = threading.Event()
    with pytest.raises(GuestBusy, match="mom aborted it"):
        hypervisor.save(guest.entity, 0.05) if saved else hypervisor.migrate(guest.entity, Destination.parse("qemu://h2/system"), 0.05)
    assert hypervisor.standings([guest.entity]) == {guest.entity.id: GuestState.RUNNING}


def test_what_is_over_before_libvirt_has_said_that_it_was_given_up_was_given_up(hypervisor, guest):
    guest.job_goes_on, guest.abort_returns = threading.Event(), threading.Event()
    try:
        with pytest.raises(GuestBusy, match="mom aborted it"):
            hypervisor.save(guest.entity, 0.05)
    finally:
        guest.abort_returns.set()


def test_a_libvirtd_that_is_too_busy_to_give_up_is_asked_again(hypervisor, guest, monkeypatch):
    monkeypatch.setattr("mom_plugins_libvirt.long_calls._AGAIN_SECONDS", 0.01)
    guest.job_goes_on, guest.aborts_that_fail = threading.Event(), 2
    with pytest.raises(GuestBusy, match="mom aborted it"):
        hypervisor.save(guest.entity, 0.05)
    assert guest.job_goes_on.is_set(), "nothing is saved any more"


@pytest.mark.parametrize("saved", [True, False])
def test_of_what_does_not_come_back_though_it_was_given_up_it_is_not_said_that_the_guest_stays(hypervisor, guest, monkeypatch, saved):
    monkeypatch.setattr("mom_plugins_libvirt.long_calls._GIVE_UP_SECONDS", 0.05)
    guest.job_goes_on, guest.aborts_that_fail = threading.Event(), 1_000_000
    try:
        with pytest.raises(GuestBusy if saved else TimeoutError, match="no answer within"):
            hypervisor.save(guest.entity, 0.05) if saved else hypervisor.migrate(guest.entity, Destination.parse("qemu://h2/system"), 0.05)
    finally:
        guest.job_goes_on.set()


def test_the_way_to_the_other_host_stays_open_for_as_long_as_a_move_uses_it(hypervisor, libvirtd, guest, monkeypatch):
    monkeypatch.setattr("mom_plugins_libvirt.long_calls._GIVE_UP_SECONDS", 0.05)
    guest.job_goes_on, guest.aborts_that_fail = threading.Event(), 1_000_000
    with pytest.raises(TimeoutError):
        hypervisor.migrate(guest.entity, Destination.parse("qemu://h2/system"), 0.05)
    (other,) = (one for one in libvirtd.connections if one.uri == "qemu://h2/system")
    time.sleep(0.1)
    assert not other.closed, "libvirt's client would crash"
    guest.job_goes_on.set()
    wait_until(lambda: other.closed, "it is not needed any more")
