"""The libvirt plugin on a real libvirtd with real guests."""

from collections.abc import Callable

import libvirt  # type: ignore[import-untyped]  # it has no types
import pytest
from libvirt_mom import LibvirtMom
from real_guests import Lab

from mom_core import Guest, LedgerEntry, NotSupported, Snapshot, Status, Value
from mom_devkit import apply_decisions, put_back, wait_until

pytestmark = pytest.mark.real

PERIOD = "balloon_stats_period"


MakeMom = Callable[..., LibvirtMom]


@pytest.fixture
def mom(make_mom: MakeMom) -> LibvirtMom:
    return make_mom()


def test_a_guests_size_and_its_own_statistics_are_known_and_its_size_is_set_within_what_it_can_have(mom: LibvirtMom, lab: Lab) -> None:
    guest = lab.start("statistics", mib=192, workload=(20, 20, 0, 0)).wait_until_it_works()
    wait_until(lambda: "mem_usable" in mom.fields(guest), "the first statistics")
    fields: dict[str, Value] = {}

    def all_known() -> bool:
        fields.update(mom.fields(guest))
        return {"minor_fault", "cpu_usage", "host_minor_faults", "host_cpu_usage", "host_swap"} <= fields.keys()

    wait_until(all_known, "two statistics, and so rates")

    def number(name: str) -> float:
        value = fields[name]
        assert isinstance(value, int | float)
        return value

    assert number("balloon_cur") == number("balloon_max") == 192 << 10
    assert 100 << 10 < number("mem_available") < 192 << 10
    assert 50 << 10 < number("mem_unused") < number("mem_available") - (40 << 10), "the workload's 40 MiB are in use"
    kept = 8 << 10  # the kernel keeps some free memory for itself, so usable memory may be less than unused memory
    assert number("mem_unused") - kept < number("mem_usable") < number("mem_available") - (40 << 10)
    assert number("rss") > 40 << 10
    assert 0 <= number("stats_age") <= 10
    hypervisor, seen = mom.hypervisor, mom.guest(guest)
    assert seen is not None
    entity = seen.entity
    asked = hypervisor.usable_memory(entity)
    assert asked is not None
    assert asked[1] == pytest.approx(number("mem_usable"), abs=kept)
    wait_until(lambda: (hypervisor.usable_memory(entity) or (0,))[0] > asked[0], "the next statistics, a second later")
    assert hypervisor.size_now(entity) == 192 << 10
    hypervisor.set_balloon(entity, 150 << 10)
    wait_until(lambda: hypervisor.size_now(entity) == pytest.approx(150 << 10, abs=1 << 10), "QEMU says how far it is")
    hypervisor.set_balloon(entity, 192 << 10)
    assert number(PERIOD) == 1
    assert number("vcpu_count") == 1
    assert 0 <= number("cpu_usage") < 200
    assert number("host_minor_faults") >= 0
    listed = mom.listed(guest)
    assert (listed.properties["pid"], listed.properties["state"], listed.blocked) == (guest.pid, "running", {})

    for size in (193 << 10, 0, -1):
        with pytest.raises(NotSupported):
            mom.hypervisor.set_balloon(guest.entity, size)
    for size in (128 << 10, 192 << 10):
        mom.hypervisor.set_balloon(guest.entity, size)
        wanted = {guest.uuid: size}
        wait_until(lambda wanted=wanted: mom.hypervisor.balloon_sizes([guest.entity]) == wanted, "the guest has that size")  # type: ignore[misc]  # a lambda


def test_statistics_are_switched_on_where_they_are_off_and_put_back(make_mom: MakeMom, lab: Lab) -> None:
    mom = make_mom()
    guest = lab.start("period", period=0).wait_until_up()
    listed, fields = mom.listed(guest), mom.fields(guest)
    assert fields[PERIOD] == 0
    wait_until(lambda: "mem_usable" not in mom.fields(guest), "what the driver said when it was loaded is too old", 30)

    snapshot = Snapshot(guests={guest.uuid: Guest(guest.uuid, guest.name, fields, blocked=listed.blocked)})
    (decision,) = list(mom.plugin.mom_act(snapshot))
    (outcome,) = apply_decisions(mom.plugin, [decision], mom.hypervisor)
    assert (outcome.status, outcome.before, outcome.after) == (Status.APPLIED, 0, 1)
    wait_until(lambda: "mem_usable" in mom.fields(guest), "statistics come")
    assert mom.fields(guest)[PERIOD] == 1
    assert not list(mom.plugin.mom_act(Snapshot(guests={guest.uuid: Guest(guest.uuid, guest.name, mom.fields(guest))})))

    (outcome,) = put_back(mom.plugin, [LedgerEntry(guest.entity, PERIOD, 0, 1, "libvirt", 0.0, listed.incarnation)], mom.hypervisor)
    assert outcome.status is Status.APPLIED
    assert mom.fields(guest)[PERIOD] == 0


def test_odd_names_are_harmless(mom: LibvirtMom, lab: Lab) -> None:
    names = ["two words", 'it\'s "quoted"', "..", "-rf ~; $(reboot) `id` %s {0}", "ünïcode 日本", "<&amp;>", "<&>", "two\nlines"]
    for guest in [lab.start(name, paused=True) for name in names]:
        listed = mom.listed(guest)
        assert (listed.name, listed.properties["pid"]) == (guest.name, guest.pid)
        mom.hypervisor.set_balloon(guest.entity, 150 << 10)
    for name in ("../../etc/passwd", "a/b"):
        with pytest.raises(libvirt.libvirtError):  # libvirt itself refuses these
            lab.start(name)


def test_memory_that_is_plugged_in_counts_at_once_and_wakes_the_engine(mom: LibvirtMom, lab: Lab) -> None:
    memory = (
        "<maxMemory slots='2' unit='MiB'>1024</maxMemory><memory unit='MiB'>192</memory>"
        "<cpu><numa><cell id='0' cpus='0' memory='192' unit='MiB'/></numa></cpu>"
    )
    guest = lab.start("hotplug", memory=memory).wait_until_up()
    assert mom.fields(guest)["balloon_max"] == 192 << 10
    dimm = "<memory model='dimm'><target><size unit='MiB'>128</size><node>0</node></target></memory>"
    guest.domain.attachDeviceFlags(dimm, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    mom.hears(f"guest {guest.name} has a new device")
    assert mom.fields(guest)["balloon_max"] == 320 << 10
    mom.hypervisor.set_balloon(guest.entity, 300 << 10)


def test_a_guests_whole_life_wakes_the_engine(mom: LibvirtMom, lab: Lab) -> None:
    mom.hypervisor.guests()
    guest = lab.start("life")
    mom.hears(f"guest {guest.name} started")
    guest.domain.suspend()
    mom.hears(f"guest {guest.name} suspended")
    guest.domain.resume()
    mom.hears(f"guest {guest.name} resumed")
    mom.woken.clear()
    guest.destroy()
    mom.hears(f"guest {guest.name} stopped")
    assert mom.guest(guest) is None
