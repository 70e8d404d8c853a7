"""Limits of guests on a libvirtd in memory: reads, their frequency, and values refused before a call."""

import threading

import pytest
from fake_libvirt import OPERATION_TIMEOUT, FakeDomain, FakeError, FakeGuest, FakeLibvirtd, impatient

from mom_core import CpuTune, GuestBusy, NetTune, NotSupported
from mom_devkit import wait_until

DISK = "<disk device='disk'><source file='/a'/><target dev='vda'/><iotune><read_bytes_sec>5000</read_bytes_sec></iotune></disk>"
INTERFACE = "<interface><target dev='vnet0'/><bandwidth><inbound average='100'/></bandwidth></interface>"


@pytest.fixture
def guest(libvirtd: FakeLibvirtd) -> FakeGuest:
    guest = libvirtd.add("one")
    guest.devices = DISK + INTERFACE
    return guest


def test_limits_are_read_once_for_each_description_however_often_they_are_looked_at(libvirtd, hypervisor, guest, clock):
    for _ in range(4):
        guest.statistics["balloon.last-update"] = int(clock.wall())
        hypervisor.guests()
        assert hypervisor.cpu_tunes([guest.entity]) == {guest.uuid: CpuTune(-1, 100_000, 1024, 100.0)}
        assert [disk.current["read_bytes_sec"] for disk in hypervisor.io_tunes([guest.entity])[guest.uuid]] == [5000]
        assert hypervisor.net_tunes([guest.entity])[guest.uuid] == (NetTune("vnet0", {"average": 100}, {}),)
        assert hypervisor.cpu_pins([guest.entity])[guest.uuid] == [{0, 1}, {0, 1}]
        clock.now += 5
    assert libvirtd.calls["XMLDesc"] == libvirtd.calls["schedulerParametersFlags"] == libvirtd.calls["vcpuPinInfo"] == 1
    clock.now += 300  # a change without an event
    guest.devices = DISK.replace("5000", "6000")
    hypervisor.guests()
    assert hypervisor.io_tunes([guest.entity])[guest.uuid][0].current["read_bytes_sec"] == 6000


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda h, g: h.set_io_tune(g, "vdz", {}), "no disk vdz; it has vda"),
        (lambda h, g: h.set_net_tune(g, "vnet9", {}, {}), "no network interface vnet9; it has vnet0"),
        (lambda h, g: h.set_cpu_pin(g, 2, {0}), "no vCPU 2; it has vCPUs 0 to 1"),
        (lambda h, g: h.set_cpu_pin(g, 0, {2}), "has CPUs 0 to 1"),
        (lambda h, g: h.set_cpu_pin(g, 0, set()), "has CPUs 0 to 1"),
        (lambda h, g: h.set_cpu_pin(g, 0, {-1, 0}), "has CPUs 0 to 1"),
        (lambda h, g: h.set_node_tune(g, set()), "list all nodes"),
    ],
)
def test_what_the_guest_or_the_host_has_not_is_refused_before_the_call(hypervisor, guest, call, said):
    with pytest.raises(NotSupported, match=said):
        call(hypervisor, guest.entity)
    assert guest.tuned == []


def test_all_limits_of_a_kind_are_sent_as_libvirt_takes_missing_ones_for_none(hypervisor, guest):
    hypervisor.set_io_tune(guest.entity, "vda", {"write_bytes_sec": 7})
    ((disk, wanted),) = guest.tuned
    assert disk == "vda"
    assert isinstance(wanted, dict)
    assert (wanted["read_bytes_sec"], wanted["write_bytes_sec"], wanted["total_bytes_sec"]) == (5000, 7, 0)


def test_disks_of_a_guest_that_libvirt_could_not_describe_are_looked_for_before_one_is_refused(hypervisor, guest, monkeypatch):
    def busy(domain: FakeDomain, flags: int = 0) -> str:
        raise FakeError("cannot acquire state change lock", OPERATION_TIMEOUT)

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(FakeDomain, "XMLDesc", busy)
        assert hypervisor.io_tunes([guest.entity]) == {}
        with pytest.raises(GuestBusy):
            hypervisor.set_io_tune(guest.entity, "vda", {"write_bytes_sec": 7})
    hypervisor.set_io_tune(guest.entity, "vda", {"write_bytes_sec": 7})
    assert guest.tuned


def test_without_a_cpu_group_the_controls_are_blocked_and_libvirt_is_not_asked_again(libvirtd, hypervisor, guest, clock):
    guest.scheduler = None
    entities = [guest.entity, libvirtd.add("two").entity]
    for _ in range(3):
        found = {one.id: one for one in hypervisor.guests()}
        tunes = hypervisor.cpu_tunes(entities)
        assert tunes["uuid-of-two"].shares == 1024
        assert tunes[guest.uuid].shares is None
        clock.now += 5
    found = {one.id: one for one in hypervisor.guests()}
    assert "vcpu_quota" not in found["uuid-of-two"].blocked
    assert "cannot be limited" in found[guest.uuid].blocked["vcpu_quota"]
    assert libvirtd.calls["schedulerParametersFlags"] == 2, "it is not asked about again"


def busy_for(monkeypatch, call, *names):
    """Let libvirt report that it is busy with these guests."""
    really = getattr(FakeDomain, call)

    def answer(domain, flags=0):
        if domain.name() in names:
            raise FakeError("cannot acquire state change lock", OPERATION_TIMEOUT)
        return really(domain, flags)

    monkeypatch.setattr(FakeDomain, call, answer)


def test_vcpus_of_a_guest_that_libvirt_is_busy_with_are_not_said_to_be_none(hypervisor, guest, monkeypatch):
    with monkeypatch.context() as meanwhile:
        busy_for(meanwhile, "vcpuPinInfo", guest.name)
        assert hypervisor.cpu_pins([guest.entity]) == {}
        with pytest.raises(GuestBusy, match="cannot acquire state change lock"):
            hypervisor.set_cpu_pin(guest.entity, 0, {0})
    hypervisor.set_cpu_pin(guest.entity, 0, {0})
    assert hypervisor.cpu_pins([guest.entity])[guest.uuid] == [{0}, {0, 1}]


@pytest.mark.parametrize(("call", "look"), [("schedulerParametersFlags", "cpu_tunes"), ("vcpuPinInfo", "cpu_pins")])
def test_what_costs_a_call_is_read_for_half_a_second_of_a_cycle_and_the_rest_in_the_next(
    libvirtd, hypervisor, clock, monkeypatch, call, look
):
    really, guests = getattr(FakeDomain, call), [libvirtd.add(str(number)).entity for number in range(4)]

    def slowly(domain, flags=0):
        clock.now += 0.3
        return really(domain, flags)

    monkeypatch.setattr(FakeDomain, call, slowly)
    for read in (2, 4, 4):
        getattr(hypervisor, look)(guests)
        assert libvirtd.calls[call] == read


@pytest.mark.parametrize(("call", "look"), [("schedulerParametersFlags", "cpu_tunes"), ("vcpuPinInfo", "cpu_pins")])
def test_a_guest_that_owes_an_answer_is_not_asked_for_what_stands(libvirtd, hypervisor, guest, call, look):
    hypervisor.guests()
    hypervisor.io_tunes([guest.entity])
    guest.hangs = threading.Event()
    try:
        with impatient(hypervisor.connection):
            for _ in range(3):
                getattr(hypervisor, look)([guest.entity])
        wait_until(lambda: libvirtd.calls[call] > 0)
        assert libvirtd.calls[call] == 1
    finally:
        guest.hangs.set()
