"""The libvirt plugin on a real libvirtd with real guests."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import libvirt  # type: ignore[import-untyped]  # it has no types
import pytest
from private_libvirtd import PrivateLibvirtd
from real_guests import Lab, RealGuest, eventually

from mom_core import (
    BalloonControl,
    Decision,
    Guest,
    GuestBusy,
    GuestEvents,
    GuestGone,
    Hypervisor,
    HypervisorError,
    LedgerEntry,
    NotSupported,
    Outcome,
    PluginContext,
    Severity,
    Snapshot,
    Status,
    Value,
)
from mom_devkit import apply_decisions, put_back
from mom_plugins_libvirt import LibvirtPlugin
from mom_plugins_libvirt.hypervisor import LibvirtHypervisor

pytestmark = pytest.mark.real

PERIOD = "balloon_stats_period"


@dataclass
class Mom:
    """The plugin, set up as the engine does it, and what it asked to be woken for."""

    plugin: LibvirtPlugin
    context: PluginContext
    woken: list[str] = field(default_factory=list)

    @property
    def hypervisor(self) -> LibvirtHypervisor:
        found = self.plugin.mom_hypervisor()
        assert isinstance(found, LibvirtHypervisor)
        return found

    def guest(self, real: RealGuest) -> Guest | None:
        return next((guest for guest in self.hypervisor.guests() if guest.id == real.uuid), None)

    def fields(self, real: RealGuest) -> dict[str, Value]:
        """Of a new sample."""
        return dict(self.plugin.mom_collect_guests(self.hypervisor, self.hypervisor.guests()).get(real.uuid, {}))

    def control(self, *decisions: Decision) -> list[Outcome]:
        return apply_decisions(self.plugin, decisions, self.hypervisor)


MakeMom = Callable[..., Mom]


@pytest.fixture
def make_mom(libvirtd: PrivateLibvirtd) -> Iterator[MakeMom]:
    made: list[LibvirtPlugin] = []

    def make(**settings: object) -> Mom:
        mine = {"uri": libvirtd.uri, "pid_directory": str(libvirtd.pid_folder), "call_timeout": "2s", **settings}
        woken: list[str] = []
        context = PluginContext(name="libvirt", wake=woken.append)
        plugin = LibvirtPlugin(LibvirtPlugin.Settings.model_validate(mine), context)
        plugin.mom_setup()
        made.append(plugin)
        return Mom(plugin, context, woken)

    yield make
    for plugin in made:
        plugin.mom_teardown()


@pytest.fixture
def mom(make_mom: MakeMom) -> Mom:
    return make_mom()


def test_a_guests_size_and_its_own_statistics_are_known(mom: Mom, lab: Lab) -> None:
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
    listed = mom.guest(guest)
    assert listed is not None
    assert listed.properties["pid"] == guest.pid
    assert listed.properties["state"] == "running"
    assert listed.blocked == {}


def test_the_plugin_offers_what_controllers_test_for(mom: Mom) -> None:
    assert isinstance(mom.hypervisor, Hypervisor)
    assert isinstance(mom.hypervisor, BalloonControl)
    assert isinstance(mom.hypervisor, GuestEvents)


def test_a_balloon_is_set_and_read_back(mom: Mom, lab: Lab) -> None:
    guest = lab.start("balloon", mib=192)
    guest.wait_until_up()
    mom.hypervisor.guests()
    mom.hypervisor.set_balloon(guest.entity, 128 << 10)
    eventually("the guest is smaller", lambda: mom.hypervisor.balloon_sizes([guest.entity]) == {guest.uuid: 128 << 10})
    mom.hypervisor.set_balloon(guest.entity, 192 << 10)
    eventually("the guest is as large as before", lambda: mom.fields(guest)["balloon_cur"] == 192 << 10)


def test_a_size_that_the_guest_cannot_have_is_refused(mom: Mom, lab: Lab) -> None:
    guest = lab.start("refused", mib=192)
    mom.hypervisor.guests()
    for size in (193 << 10, 0, -1):
        with pytest.raises(NotSupported):
            mom.hypervisor.set_balloon(guest.entity, size)


def test_statistics_are_switched_on_where_they_are_off_and_put_back(make_mom: MakeMom, lab: Lab) -> None:
    mom = make_mom(stale_after="3s")
    guest = lab.start("period", period=0)
    guest.wait_until_up()
    listed, fields = mom.guest(guest), mom.fields(guest)
    assert listed is not None
    assert fields[PERIOD] == 0
    eventually("what the driver said when it was loaded is too old", lambda: "mem_usable" not in mom.fields(guest))

    snapshot = Snapshot(guests={guest.uuid: Guest(guest.uuid, guest.name, fields, blocked=listed.blocked)})
    (decision,) = [item for item in mom.plugin.mom_act(snapshot) if isinstance(item, Decision)]
    (outcome,) = mom.control(decision)
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


def test_a_guest_that_was_started_anew_is_not_restored(mom: Mom, lab: Lab) -> None:
    guest = lab.start("anew", period=2)
    entry = LedgerEntry(guest.entity, PERIOD, 0, 2, "libvirt", 0.0, "an earlier one")
    assert _restored(mom, entry) == [Status.GONE]
    assert "period='2'" in guest.domain.XMLDesc()


def test_a_period_that_somebody_else_changes_is_noticed(make_mom: MakeMom, lab: Lab) -> None:
    mom = make_mom(stale_after="3s")
    guest = lab.start("noticed", period=1)
    eventually("statistics come", lambda: "mem_usable" in mom.fields(guest))
    guest.domain.setMemoryStatsPeriod(0, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    eventually("they are late, so the description was read again", lambda: mom.fields(guest)[PERIOD] == 0)
    eventually("what it said is too old", lambda: "mem_usable" not in mom.fields(guest))
    guest.domain.setMemoryStatsPeriod(1, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    eventually("they have come back", lambda: mom.fields(guest)[PERIOD] == 1)


def test_a_paused_guest_is_blocked_and_its_statistics_become_unknown(make_mom: MakeMom, lab: Lab) -> None:
    mom = make_mom(stale_after="3s")
    guest = lab.start("paused")
    eventually("statistics come", lambda: "mem_usable" in mom.fields(guest))
    guest.domain.suspend()
    listed = mom.guest(guest)
    assert listed is not None
    assert listed.blocked == {"*": "the guest is paused"}
    eventually("what it said is too old", lambda: "mem_usable" not in mom.fields(guest))
    assert mom.fields(guest)["balloon_cur"] == 192 << 10
    guest.domain.resume()
    eventually("it goes on", lambda: "mem_usable" in mom.fields(guest))
    listed = mom.guest(guest)
    assert listed is not None
    assert listed.blocked == {}


def test_a_guest_without_a_balloon_device_is_blocked_with_the_reason(mom: Mom, lab: Lab) -> None:
    guest = lab.start("without", balloon="none")
    listed = mom.guest(guest)
    assert listed is not None
    assert listed.blocked == {"balloon_target": "the guest has no balloon device", PERIOD: "the guest has no balloon device"}
    assert PERIOD not in mom.fields(guest)
    with pytest.raises(NotSupported):
        mom.hypervisor.set_balloon(guest.entity, 64 << 10)


def test_a_guest_that_vanishes_between_two_calls_harms_nothing(mom: Mom, lab: Lab) -> None:
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
    (outcome,) = mom.control(Decision(goes.entity, PERIOD, 5))
    assert outcome.status is Status.GONE
    mom.hypervisor.set_balloon(stays.entity, 150 << 10)
    assert [guest.id for guest in mom.hypervisor.guests()] == [stays.uuid]
    with pytest.raises(GuestGone):
        mom.hypervisor.set_balloon(goes.entity, 100 << 10)


def test_odd_names_are_harmless(mom: Mom, lab: Lab) -> None:
    names = ["two words", 'it\'s "quoted"', "..", "-rf ~; $(reboot) `id` %s {0}", "ünïcode 日本", "<&amp;>", "<&>", "two\nlines"]
    for guest in [lab.start(name, paused=True) for name in names]:
        listed = mom.guest(guest)
        assert listed is not None
        assert listed.name == guest.name
        assert listed.properties["pid"] == guest.pid
        mom.hypervisor.set_balloon(guest.entity, 150 << 10)
    for name in ("../../etc/passwd", "a/b"):
        with pytest.raises(libvirt.libvirtError):  # libvirt itself refuses these
            lab.start(name)


def test_a_name_that_comes_back_is_another_guest(mom: Mom, lab: Lab) -> None:
    first = lab.start("same")
    before = mom.guest(first)
    first.destroy()
    second = lab.start("same")
    after = mom.guest(second)
    assert before is not None
    assert after is not None
    assert (before.name, before.id) != (after.name, after.id)
    assert before.incarnation != after.incarnation
    with pytest.raises(GuestGone):
        mom.hypervisor.set_balloon(first.entity, 100 << 10)


def test_the_engine_is_woken_when_guests_come_and_go(mom: Mom, lab: Lab) -> None:
    mom.hypervisor.guests()
    guest = lab.start("events")
    eventually("a start", lambda: f"guest {guest.name} started" in mom.woken, 60)
    guest.destroy()
    eventually("an end", lambda: f"guest {guest.name} stopped" in mom.woken, 60)


def test_mom_outlives_a_libvirtd_that_is_killed(mom: Mom, lab: Lab, libvirtd: PrivateLibvirtd) -> None:
    guest = lab.start("survivor")
    before = mom.guest(guest)
    assert before is not None
    libvirtd.kill()
    try:
        for _ in range(3):
            began = time.monotonic()
            with pytest.raises(HypervisorError):
                mom.hypervisor.guests()
            assert time.monotonic() - began < 30
        with pytest.raises(HypervisorError):
            mom.hypervisor.set_balloon(guest.entity, 150 << 10)
    finally:
        libvirtd.start()
    after = eventually("libvirt is back", lambda: _guest_if_reachable(mom, guest))
    assert after is not None
    assert after.incarnation == before.incarnation
    mom.hypervisor.set_balloon(guest.entity, 150 << 10)
    again = lab.start("afterwards")
    eventually("events come on the new connection", lambda: f"guest {again.name} started" in mom.woken, 60)


def test_mom_waits_only_so_long_for_a_libvirtd_that_hangs(mom: Mom, lab: Lab, libvirtd: PrivateLibvirtd) -> None:
    guest = lab.start("hanging")
    mom.hypervisor.guests()
    os.kill(libvirtd.pid, signal.SIGSTOP)
    try:
        for _ in range(6):  # first calls hang, then opening a new connection
            began = time.monotonic()
            with pytest.raises(HypervisorError):
                mom.hypervisor.guests()
            assert time.monotonic() - began < 30
    finally:
        os.kill(libvirtd.pid, signal.SIGCONT)
    assert eventually("libvirt is back", lambda: _guest_if_reachable(mom, guest))


def test_a_guest_whose_qemu_hangs_does_not_hold_up_the_others(mom: Mom, lab: Lab) -> None:
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
        listed = mom.guest(sick)
        assert listed is not None
        assert "has not answered libvirt" in listed.blocked["*"]
    finally:
        os.kill(sick.pid, signal.SIGCONT)
    eventually("it answers again", lambda: (found := mom.guest(sick)) is not None and not found.blocked)
    eventually("its statistics come", lambda: "mem_usable" in mom.fields(sick))


def test_the_plugin_ends_at_once_though_a_guest_hangs(make_mom: MakeMom, lab: Lab) -> None:
    mom = make_mom()
    sick = lab.start("unwell")
    mom.hypervisor.guests()
    os.kill(sick.pid, signal.SIGSTOP)
    try:
        mom.hypervisor.guests()
        began = time.monotonic()
        mom.plugin.mom_teardown()
        assert time.monotonic() - began < 30
    finally:
        os.kill(sick.pid, signal.SIGCONT)


def test_memory_that_is_plugged_in_counts_at_once(mom: Mom, lab: Lab) -> None:
    memory = (
        "<maxMemory slots='2' unit='MiB'>1024</maxMemory><memory unit='MiB'>192</memory>"
        "<cpu><numa><cell id='0' cpus='0' memory='192' unit='MiB'/></numa></cpu>"
    )
    guest = lab.start("hotplug", memory=memory)
    guest.wait_until_up()
    assert mom.fields(guest)["balloon_max"] == 192 << 10
    dimm = "<memory model='dimm'><target><size unit='MiB'>128</size><node>0</node></target></memory>"
    guest.domain.attachDeviceFlags(dimm, libvirt.VIR_DOMAIN_AFFECT_LIVE)
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


def test_what_a_balloon_does_by_itself_is_known(mom: Mom, lab: Lab) -> None:
    switched = {"plain": ("", 0, 0), "reports": ("freePageReporting='on'", 1, 0), "deflates": ("autodeflate='on'", 0, 1)}
    for name, (options, reporting, autodeflate) in switched.items():
        fields = mom.fields(lab.start(name, mib=64, balloon_options=options))
        assert (fields["balloon_reporting"], fields["balloon_autodeflate"]) == (reporting, autodeflate)


def test_a_read_only_connection_reads_and_changes_nothing(make_mom: MakeMom, lab: Lab) -> None:
    mom = make_mom(readonly=True)
    guest = lab.start("watched")
    listed = mom.guest(guest)
    assert listed is not None
    assert "read-only" in listed.blocked["*"]
    assert mom.fields(guest)["balloon_cur"] == 192 << 10
    with pytest.raises(HypervisorError):
        mom.hypervisor.set_balloon(guest.entity, 100 << 10)
    assert mom.hypervisor.balloon_sizes([guest.entity]) == {guest.uuid: 192 << 10}


def _restored(mom: Mom, *entries: LedgerEntry) -> Sequence[Status]:
    return [outcome.status for outcome in put_back(mom.plugin, entries, mom.hypervisor)]


def _guest_if_reachable(mom: Mom, real: RealGuest) -> Guest | None:
    try:
        return mom.guest(real)
    except HypervisorError:
        return None
