"""The libvirt plugin on a real libvirtd with real guests."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence

import libvirt  # type: ignore[import-untyped]  # it has no types
import pytest
from libvirt_mom import LibvirtMom
from private_libvirtd import PrivateLibvirtd
from real_guests import Lab, eventually

from mom_core import Decision, Guest, GuestBusy, GuestGone, HypervisorError, LedgerEntry, NotSupported, Severity, Snapshot, Status, Value
from mom_devkit import apply_decisions, put_back

pytestmark = pytest.mark.real

PERIOD = "balloon_stats_period"


MakeMom = Callable[..., LibvirtMom]


@pytest.fixture
def mom(make_mom: MakeMom) -> LibvirtMom:
    return make_mom()


def test_a_guests_size_and_its_own_statistics_are_known_and_its_size_is_set_within_what_it_can_have(mom: LibvirtMom, lab: Lab) -> None:
    guest = lab.start("statistics", mib=192, workload=(20, 20, 0, 0))
    guest.wait_until_it_works()
    eventually("the first statistics", lambda: "mem_usable" in mom.fields(guest))
    fields: dict[str, Value] = {}

    def all_known() -> bool:
        fields.update(mom.fields(guest))
        return {"minor_fault", "cpu_usage", "host_minor_faults"} <= fields.keys()

    eventually("two statistics, and so rates", all_known)

    def number(name: str) -> float:
        value = fields[name]
        assert isinstance(value, int | float)
        return value

    assert number("balloon_cur") == number("balloon_max") == 192 << 10
    assert 100 << 10 < number("mem_available") < 192 << 10
    assert 50 << 10 < number("mem_unused") < number("mem_available") - (40 << 10), "the workload's 40 MiB are in use"
    kept = 8 << 10  # what a kernel keeps free for itself is no program's: where it has little else, less is usable than unused
    assert number("mem_unused") - kept < number("mem_usable") < number("mem_available") - (40 << 10)
    assert number("rss") > 40 << 10
    assert 0 <= number("stats_age") <= 10
    hypervisor, seen = mom.hypervisor, mom.guest(guest)
    assert seen is not None
    entity = seen.entity
    asked = hypervisor.usable_memory(entity)
    assert asked is not None
    assert asked[1] == pytest.approx(number("mem_usable"), abs=kept)
    eventually("the next statistics, a second later", lambda: (hypervisor.usable_memory(entity) or (0,))[0] > asked[0])
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
        eventually("the guest has that size", lambda wanted=wanted: mom.hypervisor.balloon_sizes([guest.entity]) == wanted)  # type: ignore[misc]  # a lambda


def test_statistics_are_switched_on_where_they_are_off_and_put_back(make_mom: MakeMom, lab: Lab) -> None:
    mom = make_mom(stale_after="3s")
    guest = lab.start("period", period=0)
    guest.wait_until_up()
    listed, fields = mom.listed(guest), mom.fields(guest)
    assert fields[PERIOD] == 0
    eventually("what the driver said when it was loaded is too old", lambda: "mem_usable" not in mom.fields(guest))

    snapshot = Snapshot(guests={guest.uuid: Guest(guest.uuid, guest.name, fields, blocked=listed.blocked)})
    (decision,) = [item for item in mom.plugin.mom_act(snapshot) if isinstance(item, Decision)]
    (outcome,) = apply_decisions(mom.plugin, [decision], mom.hypervisor)
    assert (outcome.status, outcome.before, outcome.after) == (Status.APPLIED, 0, 1)
    eventually("statistics come", lambda: "mem_usable" in mom.fields(guest))
    assert mom.fields(guest)[PERIOD] == 1
    assert not list(mom.plugin.mom_act(Snapshot(guests={guest.uuid: Guest(guest.uuid, guest.name, mom.fields(guest))})))

    entry = LedgerEntry(guest.entity, PERIOD, 0, 1, "libvirt", 0.0, listed.incarnation)
    assert _restored(mom, entry) == [Status.APPLIED]
    assert _restored(mom, entry) == [Status.UNCHANGED]
    assert mom.fields(guest)[PERIOD] == 0
    guest.domain.setMemoryStatsPeriod(7, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    assert _restored(mom, entry) == [Status.LEFT_ALONE], "somebody else has changed it"
    assert "period='7'" in guest.domain.XMLDesc()
    guest.destroy()
    assert _restored(mom, entry) == [Status.GONE]


def test_a_guest_that_was_started_anew_is_not_restored(mom: LibvirtMom, lab: Lab) -> None:
    guest = lab.start("anew", period=2)
    entry = LedgerEntry(guest.entity, PERIOD, 0, 2, "libvirt", 0.0, "an earlier one")
    assert _restored(mom, entry) == [Status.GONE]
    assert "period='2'" in guest.domain.XMLDesc()


def test_statistics_become_unknown_where_somebody_else_switches_them_off_or_pauses_the_guest(make_mom: MakeMom, lab: Lab) -> None:
    mom = make_mom(stale_after="3s")
    guest = lab.start("noticed", period=1)
    eventually("statistics come", lambda: "mem_usable" in mom.fields(guest))
    guest.domain.setMemoryStatsPeriod(0, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    eventually("they are late, so the description was read again", lambda: mom.fields(guest)[PERIOD] == 0)
    eventually("what it said is too old", lambda: "mem_usable" not in mom.fields(guest))
    guest.domain.setMemoryStatsPeriod(1, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    eventually("they have come back", lambda: mom.fields(guest)[PERIOD] == 1 and "mem_usable" in mom.fields(guest))
    guest.domain.suspend()
    assert mom.blocked(guest) == {"*": "the guest is paused"}
    eventually("what it said is too old", lambda: "mem_usable" not in mom.fields(guest))
    assert mom.size(guest) == 192 << 10
    guest.domain.resume()
    eventually("it goes on", lambda: "mem_usable" in mom.fields(guest))
    assert mom.blocked(guest) == {}


def test_a_guest_without_a_balloon_device_is_blocked_with_the_reason(mom: LibvirtMom, lab: Lab) -> None:
    guest = lab.start("without", balloon="none")
    assert mom.blocked(guest) == {"balloon_target": "the guest has no balloon device", PERIOD: "the guest has no balloon device"}
    assert PERIOD not in mom.fields(guest)
    with pytest.raises(NotSupported):
        mom.hypervisor.set_balloon(guest.entity, 64 << 10)


def test_a_guest_that_vanishes_between_two_calls_harms_nothing(mom: LibvirtMom, lab: Lab) -> None:
    stays, goes = lab.start("stays"), lab.start("goes")
    guests = mom.hypervisor.guests()
    assert {guest.id for guest in guests} == {stays.uuid, goes.uuid}
    goes.destroy()
    assert set(mom.plugin.mom_collect_guests(mom.hypervisor, guests)) == {stays.uuid, goes.uuid}, "what the last sample said"
    with pytest.raises(GuestGone):
        mom.hypervisor.set_balloon(goes.entity, 100 << 10)
    with pytest.raises(GuestGone):
        mom.hypervisor.set_stats_period(goes.entity, 5)
    assert set(mom.hypervisor.balloon_sizes([stays.entity, goes.entity])) == {stays.uuid}
    (outcome,) = apply_decisions(mom.plugin, [Decision(goes.entity, PERIOD, 5)], mom.hypervisor)
    assert outcome.status is Status.GONE
    mom.hypervisor.set_balloon(stays.entity, 150 << 10)
    assert [guest.id for guest in mom.hypervisor.guests()] == [stays.uuid]
    with pytest.raises(GuestGone):
        mom.hypervisor.set_balloon(goes.entity, 100 << 10)


def test_odd_names_are_harmless(mom: LibvirtMom, lab: Lab) -> None:
    names = ["two words", 'it\'s "quoted"', "..", "-rf ~; $(reboot) `id` %s {0}", "ünïcode 日本", "<&amp;>", "<&>", "two\nlines"]
    for guest in [lab.start(name, paused=True) for name in names]:
        listed = mom.listed(guest)
        assert (listed.name, listed.properties["pid"]) == (guest.name, guest.pid)
        mom.hypervisor.set_balloon(guest.entity, 150 << 10)
    for name in ("../../etc/passwd", "a/b"):
        with pytest.raises(libvirt.libvirtError):  # libvirt itself refuses these
            lab.start(name)


def test_a_name_that_comes_back_is_another_guest(mom: LibvirtMom, lab: Lab) -> None:
    first = lab.start("same")
    before = mom.listed(first)
    first.destroy()
    after = mom.listed(lab.start("same"))
    assert (before.name, before.id) != (after.name, after.id)
    assert before.incarnation != after.incarnation
    with pytest.raises(GuestGone):
        mom.hypervisor.set_balloon(first.entity, 100 << 10)


def test_mom_waits_only_so_long_for_a_libvirtd_that_hangs_and_outlives_one_that_is_killed(
    mom: LibvirtMom, lab: Lab, libvirtd: PrivateLibvirtd
) -> None:
    guest = lab.start("survivor")
    before = mom.listed(guest)

    def fails(times: int) -> None:
        for _ in range(times):
            began = time.monotonic()
            with pytest.raises(HypervisorError):
                mom.hypervisor.guests()
            assert time.monotonic() - began < 30

    os.kill(libvirtd.pid, signal.SIGSTOP)
    try:
        fails(6)  # first calls hang, then opening a new connection
    finally:
        os.kill(libvirtd.pid, signal.SIGCONT)
    assert eventually("libvirt is back", lambda: mom.reached(guest))
    libvirtd.kill()
    try:
        fails(3)
        with pytest.raises(HypervisorError):
            mom.hypervisor.set_balloon(guest.entity, 150 << 10)
    finally:
        libvirtd.start()
    after = eventually("libvirt is back", lambda: mom.reached(guest))
    assert after is not None
    assert after.incarnation == before.incarnation
    mom.hypervisor.set_balloon(guest.entity, 150 << 10)
    again = lab.start("afterwards")
    mom.hears(f"guest {again.name} started")


def test_a_guest_whose_qemu_hangs_holds_up_neither_the_others_nor_the_plugins_end(mom: LibvirtMom, make_mom: MakeMom, lab: Lab) -> None:
    ends = make_mom()
    well, sick = lab.start("well"), lab.start("sick")
    for guest in (well, sick):
        guest.wait_until_up()
    eventually("statistics come", lambda: "mem_usable" in mom.fields(well))
    os.kill(sick.pid, signal.SIGSTOP)
    try:
        for _ in range(3):
            began = time.monotonic()
            fields = mom.plugin.mom_collect_guests(mom.hypervisor, mom.hypervisor.guests())
            assert time.monotonic() - began < 30
            assert "mem_usable" in fields[well.uuid]
            assert fields[sick.uuid]["balloon_cur"] == 192 << 10
            time.sleep(1)
        mom.hypervisor.set_balloon(well.entity, 150 << 10)
        began = time.monotonic()
        for _ in range(300):
            with pytest.raises(GuestBusy):
                mom.hypervisor.set_balloon(sick.entity, 150 << 10)
        assert time.monotonic() - began < 20, "only the first of them waits, and no other for its tenth of a second"
        assert "has not answered libvirt" in mom.blocked(sick)["*"]
        ends.hypervisor.guests()
        began = time.monotonic()
        ends.plugin.mom_teardown()
        assert time.monotonic() - began < 30
    finally:
        os.kill(sick.pid, signal.SIGCONT)
    eventually("it answers again", lambda: (found := mom.guest(sick)) is not None and not found.blocked)
    eventually("its statistics come", lambda: "mem_usable" in mom.fields(sick))


def test_memory_that_is_plugged_in_counts_at_once_and_wakes_the_engine(mom: LibvirtMom, lab: Lab) -> None:
    memory = (
        "<maxMemory slots='2' unit='MiB'>1024</maxMemory><memory unit='MiB'>192</memory>"
        "<cpu><numa><cell id='0' cpus='0' memory='192' unit='MiB'/></numa></cpu>"
    )
    guest = lab.start("hotplug", memory=memory)
    guest.wait_until_up()
    assert mom.fields(guest)["balloon_max"] == 192 << 10
    dimm = "<memory model='dimm'><target><size unit='MiB'>128</size><node>0</node></target></memory>"
    guest.domain.attachDeviceFlags(dimm, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    mom.hears(f"guest {guest.name} has a new device")
    assert mom.fields(guest)["balloon_max"] == 320 << 10
    mom.hypervisor.set_balloon(guest.entity, 300 << 10)


def test_the_doctor_finds_what_guests_lack(make_mom: MakeMom, lab: Lab) -> None:
    lab.start("nothing", balloon="none")
    off = lab.start("off", period=0)
    paused = lab.start("silent", paused=True)
    findings = {(finding.subject, finding.severity): finding for finding in make_mom(stats_period="0s").plugin.mom_doctor()}
    assert "3 guests" in findings["libvirt", Severity.OK].message
    assert "momtest-nothing" in findings["balloon device", Severity.WARNING].message
    assert "memballoon" in findings["balloon device", Severity.WARNING].cure
    paused.destroy()
    findings = {(finding.subject, finding.severity): finding for finding in make_mom(stats_period="0s").plugin.mom_doctor()}
    assert off.name in findings["guest statistics", Severity.WARNING].message
    assert "stats_period" in findings["guest statistics", Severity.WARNING].cure
    findings = {(finding.subject, finding.severity): finding for finding in make_mom().plugin.mom_doctor()}
    assert "will switch them on" in findings["guest statistics", Severity.OK].message


def test_what_a_balloon_does_by_itself_is_known(mom: LibvirtMom, lab: Lab) -> None:
    switched = {"plain": ("", 0, 0), "reports": ("freePageReporting='on'", 1, 0), "deflates": ("autodeflate='on'", 0, 1)}
    for name, (options, reporting, autodeflate) in switched.items():
        fields = mom.fields(lab.start(name, mib=64, balloon_options=options))
        assert (fields["balloon_reporting"], fields["balloon_autodeflate"]) == (reporting, autodeflate)


def test_a_read_only_connection_reads_and_changes_nothing(make_mom: MakeMom, lab: Lab) -> None:
    mom = make_mom(readonly=True)
    guest = lab.start("watched")
    assert "read-only" in mom.blocked(guest)["*"]
    assert mom.size(guest) == 192 << 10
    with pytest.raises(HypervisorError):
        mom.hypervisor.set_balloon(guest.entity, 100 << 10)
    assert mom.hypervisor.balloon_sizes([guest.entity]) == {guest.uuid: 192 << 10}


def _restored(mom: LibvirtMom, *entries: LedgerEntry) -> Sequence[Status]:
    return [outcome.status for outcome in put_back(mom.plugin, entries, mom.hypervisor)]
