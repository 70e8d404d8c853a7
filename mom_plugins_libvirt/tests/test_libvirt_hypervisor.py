"""Guests, fields and controls on a libvirtd in memory."""

import sys
import threading
from collections.abc import Sequence

import pytest
from fake_libvirt import FakeDomain, FakeGuest, impatient

from mom_core import Guest, GuestBusy, GuestGone, HypervisorError, NotSupported, PermissionDenied, PluginContext
from mom_devkit import wait_until
from mom_kvm import GuestDescription, GuestPlatform, PlatformProperties
from mom_plugins_libvirt.hypervisor import LibvirtHypervisor

BALLOON, PERIOD = "balloon_target", "balloon_stats_period"


def listed(hypervisor: LibvirtHypervisor, guest: FakeGuest) -> Guest:
    return next(found for found in hypervisor.guests() if found.id == guest.uuid)


def test_a_quiet_cycle_is_one_call_however_many_guests_there_are(libvirtd, hypervisor, clock):
    counts = []
    for target in (1, 10, 500):
        while len(libvirtd.guests) < target:
            libvirtd.add(f"g{len(libvirtd.guests)}").statistics["balloon.last-update"] = int(clock.wall())
        hypervisor.guests()
        libvirtd.calls.clear()
        for _ in range(5):
            clock.now += 5
            for guest in libvirtd.guests.values():
                guest.statistics["balloon.last-update"] = int(clock.wall())
            guests = hypervisor.guests()
            assert len(hypervisor.fields(guests)) == target
        counts.append(dict(libvirtd.calls))
    assert counts == [{"getAllDomainStats": 5}] * 3


class Racks:
    """Platform of a third party that reads metadata in the domain XML."""

    def properties(self, description: GuestDescription) -> dict[str, str]:
        assert description.domain is not None
        found = description.domain.find("metadata/{urn:rack}rack")
        return {} if found is None else {"rack": found.get("name", ""), "sla_class": "platinum"}


def test_a_guest_has_the_properties_that_its_platform_reads_in_its_description(libvirtd, make_hypervisor, clock, guest):
    mine = '<mom:guest xmlns:mom="urn:mom:guest:1.0" class="gold"/>'
    guest.more = f'<metadata><r:rack xmlns:r="urn:rack" name="r-17"/>{mine}</metadata>'
    other = libvirtd.add("other")
    context = PluginContext(name="libvirt")
    hypervisor = make_hypervisor(platforms=PlatformProperties(context))
    assert "rack" not in listed(hypervisor, guest).properties
    context.offers = {GuestPlatform: (Racks(),)}
    found = listed(hypervisor, guest).properties
    assert (found["rack"], found["sla_class"]) == ("r-17", "gold"), "a reload that brings a platform is enough; promises are mom's own"
    assert "rack" not in listed(hypervisor, other).properties
    read = libvirtd.calls["XMLDesc"]
    for _ in range(5):
        clock.now += 1
        listed(hypervisor, guest)
    assert libvirtd.calls["XMLDesc"] == read, "nothing is read in each cycle"


def test_a_description_is_read_again_when_something_suggests_a_change(libvirtd, hypervisor, clock, guest):
    def descriptions_read() -> int:
        before = libvirtd.calls["XMLDesc"]
        clock.now += 1
        hypervisor.guests()
        return libvirtd.calls["XMLDesc"] - before

    guest.statistics["balloon.last-update"] = int(clock.wall())
    assert descriptions_read() == 1, "a new guest"
    assert descriptions_read() == 0
    guest.maximum += 1024
    assert descriptions_read() == 1, "its memory grew"
    clock.now += 60
    assert descriptions_read() == 1, "its statistics ceased"
    assert descriptions_read() == 0
    guest.statistics["balloon.last-update"] = int(clock.wall())
    assert descriptions_read() == 1, "they begin again"
    guest.number += 1
    assert descriptions_read() == 1, "it was started anew"
    libvirtd.connections[-1].broken = True
    assert descriptions_read() == 1, "libvirtd was restarted"
    assert descriptions_read() == 0


def test_a_guest_that_does_not_run_or_has_no_balloon_or_no_cpu_is_blocked(libvirtd, hypervisor, guest):
    guest.state = 3
    assert listed(hypervisor, guest).blocked == {"*": "the guest is paused"}
    guest.state = 1
    assert listed(hypervisor, guest).blocked == {}
    guest.statistics["vcpu.current"] = 0
    assert listed(hypervisor, guest).blocked == {"*": "none of the guest's CPUs is online"}
    bare = libvirtd.add("bare")
    bare.model = "none"
    found = listed(hypervisor, bare)
    assert set(found.blocked) == {BALLOON, PERIOD}
    assert PERIOD not in hypervisor.fields([found])[bare.uuid]


def test_a_driver_that_never_answers_or_stops_answering_blocks_the_balloon_after_a_while(guest, hypervisor, clock):
    guest.statistics = {}
    assert listed(hypervisor, guest).blocked == {}, "it may be booting"
    clock.now += 61
    never = "the guest's balloon driver has never answered"
    assert (listed(hypervisor, guest).blocked, [remark.message for _, remark in hypervisor.remarks()]) == ({BALLOON: never}, [never])
    guest.statistics = {"balloon.last-update": int(clock.wall()), "balloon.usable": 500_000}
    assert (listed(hypervisor, guest).blocked, hypervisor.remarks()) == ({}, [])
    clock.now += 29
    assert listed(hypervisor, guest).blocked == {}, "stale is not silent: what it said is unknown, no more"
    assert "mem_usable" not in hypervisor.fields([listed(hypervisor, guest)])[guest.uuid]
    clock.now += 2
    assert listed(hypervisor, guest).blocked == {BALLOON: "the guest's balloon driver no longer answers"}
    guest.statistics["balloon.last-update"] = int(clock.wall())
    assert listed(hypervisor, guest).blocked == {}


def test_what_was_decided_for_a_guest_is_not_done_to_the_one_that_was_started_in_its_place(libvirtd, hypervisor, guest):
    """libvirt finds guests by UUID. A guest restarted between a read and a change would boot with the size of the earlier one."""
    hypervisor.guests()
    guest.number += 1
    for change in (
        lambda: hypervisor.set_balloon(guest.entity, 1 << 19),
        lambda: hypervisor.set_stats_period(guest.entity, 7),
        lambda: hypervisor.set_cpu_tune(guest.entity, shares=7),
    ):
        with pytest.raises(GuestGone, match="the guest has stopped, or was started again"):
            change()
    assert (guest.current, guest.period, guest.tuned) == (1 << 20, 2, [])
    hypervisor.guests()
    hypervisor.set_balloon(guest.entity, 1 << 19)
    assert guest.current == 1 << 19, "the new one is known now"


@pytest.mark.parametrize(("operation", "what"), [(2, "being saved"), (5, "being migrated out")])
def test_a_guest_is_left_alone_while_libvirt_works_on_it(libvirtd, hypervisor, operation, what, guest):
    assert listed(hypervisor, guest).blocked == {}
    guest.job = {"type": 2, "operation": operation}
    with pytest.raises(GuestBusy, match=what):
        hypervisor.set_balloon(guest.entity, 1 << 19)
    assert libvirtd.calls["setMemoryFlags"] == 0, "libvirt would make it wait for the end of that"
    assert listed(hypervisor, guest).blocked == {"*": f"the guest is {what}"}
    guest.job = {"type": 2, "operation": 9}  # a backup
    assert listed(hypervisor, guest).blocked == {}
    hypervisor.set_balloon(guest.entity, 1 << 19)
    assert guest.current == 1 << 19


class QemuMonitor:
    """Substitute for the module `libvirt_qemu`."""

    def __init__(self) -> None:
        self.answer = '{"return":{},"id":"libvirt-9"}'
        self.asked: list[str] = []

    def qemuMonitorCommand(self, domain: FakeDomain, command: str, flags: int) -> str:  # noqa: N802  # libvirt's name
        self.asked.append(command)
        return self.answer


def test_a_guest_that_is_moved_away_gets_memory_back_and_gives_none(libvirtd, hypervisor, guest, monkeypatch):
    monitor = QemuMonitor()
    monkeypatch.setitem(sys.modules, "libvirt_qemu", monitor)
    guest.current = 1 << 19
    hypervisor.guests()
    guest.job = {"type": 2, "operation": 5}
    with pytest.raises(GuestBusy, match="being migrated out"):
        hypervisor.set_balloon(guest.entity, (1 << 19) - 1)
    hypervisor.set_balloon(guest.entity, 1 << 20)
    assert monitor.asked == ['{"execute": "balloon", "arguments": {"value": 1073741824}}']
    assert libvirtd.calls["setMemoryFlags"] == 0, "libvirt would make it wait for the end of that"
    monitor.answer = '{"error":{"class":"GenericError","desc":"no"},"id":"libvirt-9"}'
    with pytest.raises(HypervisorError, match="GenericError"):
        hypervisor.set_balloon(guest.entity, 1 << 20)
    guest.job = {"type": 2, "operation": 2}  # it is being saved
    with pytest.raises(GuestBusy, match="being saved"):
        hypervisor.set_balloon(guest.entity, 1 << 20)


@pytest.mark.parametrize(("state", "reason"), [(3, 2), (3, 11), (1, 10)], ids=["paused", "begins", "post-copy"])
def test_the_size_of_a_guest_that_was_moved_here_is_qemus_until_libvirt_tells_the_same(libvirtd, hypervisor, guest, state, reason):
    guest.state, guest.reason, guest.told = state, reason, 1 << 20
    guest.current = 1 << 19

    def size() -> object:
        return hypervisor.fields(hypervisor.guests())[guest.uuid].get("balloon_cur")

    assert size() == 1 << 20
    assert libvirtd.calls["memoryStats"] == 0, "libvirt would let it wait until the guest is here"
    guest.state, guest.reason = 1, 2
    assert size() == 1 << 19
    guest.reason = 5
    assert size() == 1 << 19, "also when it was paused and goes on"
    assert hypervisor.balloon_sizes([guest.entity]) == {guest.uuid: 1 << 19}
    guest.told = None
    assert size() == 1 << 19
    asked = libvirtd.calls["memoryStats"]
    guest.current = 1 << 18
    assert size() == 1 << 18
    assert hypervisor.balloon_sizes([guest.entity]) == {guest.uuid: 1 << 18}
    assert libvirtd.calls["memoryStats"] == asked, "libvirt is believed again"


def test_the_size_of_a_guest_that_was_moved_here_is_unknown_while_qemu_does_not_say_it(libvirtd, hypervisor, guest, monkeypatch):
    guest.reason, guest.told, guest.current = 2, 1 << 20, 1 << 19
    with monkeypatch.context() as broken:
        broken.setattr(FakeDomain, "memoryStats", lambda _: {})
        (found,) = hypervisor.guests()
        assert "balloon_cur" not in hypervisor.fields([found])[guest.uuid]
        assert hypervisor.balloon_sizes([guest.entity]) == {}
    assert hypervisor.fields(hypervisor.guests())[guest.uuid]["balloon_cur"] == 1 << 19
    libvirtd.calls.clear()
    other = libvirtd.add("never moved")
    without = libvirtd.add("without a balloon")
    without.reason, without.model = 2, "none"
    assert hypervisor.fields(hypervisor.guests())[without.uuid]["balloon_cur"] == without.current
    assert libvirtd.calls["memoryStats"] == 1, "others are not asked"
    guest.hangs = threading.Event()
    with impatient(hypervisor.connection):
        assert hypervisor.balloon_sizes([guest.entity, other.entity]) == {other.uuid: other.current}, "nor do they suffer from it"
    guest.hangs.set()


def test_memory_that_virtio_mem_has_not_plugged_in_is_none_and_what_it_has_is_no_balloons(guest, hypervisor):
    guest.maximum, guest.current = 448 << 10, 320 << 10  # 192 MiB, and 128 of 256 MiB of virtio-mem
    guest.devices = _VIRTIO_MEM.format(128 << 10)
    found = listed(hypervisor, guest)
    assert hypervisor.fields([found])[guest.uuid]["balloon_max"] == 320 << 10
    with pytest.raises(NotSupported):
        hypervisor.set_balloon(guest.entity, 321 << 10)
    assert hypervisor.fields([found])[guest.uuid]["balloon_least"] == 129 << 10
    with pytest.raises(NotSupported, match="is less than the smallest size that"):
        hypervisor.set_balloon(guest.entity, (129 << 10) - 1)
    hypervisor.set_balloon(guest.entity, 129 << 10)
    assert guest.current == 1 << 10, "what it is told is the least can be asked for"
    hypervisor.set_balloon(guest.entity, 278 << 10)
    assert guest.current == 150 << 10, "libvirt is asked for the balloon's part only"
    assert hypervisor.size_now(guest.entity) == 278 << 10, "and its balloon tells that part only"
    guest.devices = _VIRTIO_MEM.format(64 << 10)
    hypervisor.set_balloon(guest.entity, 250 << 10)
    assert guest.current == 186 << 10, "what was unplugged since the last look is not asked of the balloon"
    guest.current = 256 << 10
    found = listed(hypervisor, guest)
    assert hypervisor.fields([found])[guest.uuid]["balloon_max"] == 256 << 10, "a new size has the description read again"


_VIRTIO_MEM = "<memory model='virtio-mem'><target><size unit='KiB'>262144</size><current unit='KiB'>{}</current></target></memory>"


def test_what_a_guest_is_asked_to_give_up_beside_a_full_balloon_is_soon_known(guest, hypervisor, clock):
    """It may wait for memory in the balloon, and libvirt has no event for it."""
    guest.maximum, guest.current = 448 << 10, 300 << 10
    guest.devices = _VIRTIO_MEM.format(128 << 10)
    hypervisor.guests()
    guest.devices = guest.devices.replace("<current", f"<requested unit='KiB'>{64 << 10}</requested><current")
    said = []
    for _ in range(5):
        clock.now += 5
        guest.statistics["balloon.last-update"] = int(clock.wall())
        said.append(hypervisor.fields([listed(hypervisor, guest)])[guest.uuid].get("give_back"))
    assert said[-1] == "virtio-mem is plugging or unplugging the guest's memory"


def test_with_statistics_off_a_silent_driver_proves_nothing(guest, hypervisor, clock):
    guest.statistics, guest.period = {}, 0
    hypervisor.guests()
    clock.now += 61
    assert listed(hypervisor, guest).blocked == {}
    hypervisor.set_stats_period(guest.entity, 2)
    assert listed(hypervisor, guest).blocked == {}, "the grace counts from when they were switched on"
    clock.now += 61
    assert BALLOON in listed(hypervisor, guest).blocked


def test_a_guest_that_vanishes_between_two_calls_harms_nothing(libvirtd, hypervisor):
    stays, goes = libvirtd.add("stays"), libvirtd.add("goes")
    guests = hypervisor.guests()
    del libvirtd.guests[goes.uuid]
    assert set(hypervisor.fields(guests)) == {stays.uuid, goes.uuid}
    assert set(hypervisor.balloon_sizes([stays.entity, goes.entity])) == {stays.uuid}
    for ask in (
        lambda: hypervisor.set_balloon(goes.entity, 1000),
        lambda: hypervisor.set_stats_period(goes.entity, 5),
        lambda: hypervisor.stats_period(goes.entity),
    ):
        with pytest.raises(GuestGone):
            ask()
    assert [guest.id for guest in hypervisor.guests()] == [stays.uuid]
    assert set(hypervisor.fields(guests)) == {stays.uuid}
    with pytest.raises(GuestGone):
        hypervisor.set_balloon(goes.entity, 1000)


def test_a_guest_that_vanishes_before_it_is_described_is_not_listed(libvirtd, hypervisor, guest):
    class Vanishing(FakeGuest):
        """Guest that ends after the next bulk call."""

        @property
        def record(self) -> dict[str, object]:
            del libvirtd.guests[self.uuid]
            return super().record

    guest.__class__ = Vanishing
    assert hypervisor.guests() == ()
    assert libvirtd.calls["XMLDesc"] == 1


def test_a_guest_that_hangs_is_asked_once_and_blocked_until_it_answers(libvirtd, hypervisor, clock, guest):
    hypervisor.guests()
    described = libvirtd.calls["jobStats"]
    guest.hangs = threading.Event()
    with impatient(hypervisor.connection):
        for _ in range(3):
            with pytest.raises(GuestBusy):
                hypervisor.set_balloon(guest.entity, 1000)
    wait_until(lambda: libvirtd.calls["jobStats"] > described)
    assert libvirtd.calls["jobStats"] - described == 1
    assert listed(hypervisor, guest).blocked == {"*": "the guest has not answered libvirt's last call"}
    guest.hangs.set()
    guest.hangs = None
    wait_until(lambda: not listed(hypervisor, guest).blocked)
    hypervisor.set_balloon(guest.entity, 2000)
    assert guest.current == 2000


@pytest.fixture
def slow_guests(libvirtd, clock) -> Sequence[FakeGuest]:
    """Return guests whose definitions take 0.1 s to read."""

    class SlowGuest(FakeGuest):
        @property
        def xml(self) -> str:
            clock.now += 0.1
            return super().xml

    guests = [libvirtd.add(f"g{number}") for number in range(20)]
    for guest in guests:
        guest.__class__ = SlowGuest
    return guests


def test_reading_descriptions_takes_only_a_part_of_a_cycle(libvirtd, make_hypervisor, slow_guests):
    hypervisor = make_hypervisor()
    assert len(hypervisor.guests()) == 20
    first = libvirtd.calls["XMLDesc"]
    assert 4 <= first <= 6
    hypervisor.io_tunes([guest.entity for guest in slow_guests])
    assert libvirtd.calls["XMLDesc"] == first, "the next cycles have time for the others"
    for _ in range(5):
        hypervisor.guests()
    assert libvirtd.calls["XMLDesc"] == 20
    assert all(not guest.blocked for guest in hypervisor.guests())


def test_nothing_is_done_to_a_guest_before_it_is_known_what_its_description_promises(hypervisor, slow_guests):
    for guest in slow_guests:
        guest.more = '<metadata><mom:guest xmlns:mom="urn:mom:guest:1.0" class="platinum"/></metadata>'
    first = hypervisor.guests()
    assert first[0].properties["sla_class"] == "platinum"
    assert "sla_class" not in first[-1].properties
    assert first[-1].blocked == {"*": "the guest's description has not been read yet"}
    for _ in range(5):
        found = hypervisor.guests()
    assert all(guest.properties["sla_class"] == "platinum" and not guest.blocked for guest in found)


def test_a_description_that_cannot_be_understood_blocks_the_balloon_and_its_statistics_alone(hypervisor, guest, clock):
    """An unread definition blocks all controls. If an invalid one did too, such a guest could never be limited or evicted."""
    garbled = dict.fromkeys((BALLOON, PERIOD), "the guest's description is invalid")
    for guest.more, blocked in (("</domain>", garbled), ("", {}), ("</domain>", garbled)):
        clock.now += 301  # after which mom reads it again
        guest.statistics["balloon.last-update"] = int(clock.wall())
        assert listed(hypervisor, guest).blocked == blocked
    hypervisor.set_cpu_tune(guest.entity, shares=512)
    assert guest.tuned


def test_a_read_only_connection_blocks_everything(guest, make_hypervisor):
    hypervisor = make_hypervisor(readonly=True)
    assert listed(hypervisor, guest).blocked == {"*": "the connection to libvirt is read-only"}
    assert hypervisor.cpu_tunes([guest.entity])[guest.uuid].shares == 1024
    for change in (
        lambda: hypervisor.set_balloon(guest.entity, 1000),
        lambda: hypervisor.set_cpu_tune(guest.entity, shares=100),
        lambda: hypervisor.pause(guest.entity),
    ):
        with pytest.raises(PermissionDenied):
            change()
