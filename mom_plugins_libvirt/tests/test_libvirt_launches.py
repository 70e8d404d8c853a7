"""Guests before their start: their memory, and mom's view of other guests while a hook runs."""

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from fake_libvirt import LONG_SECONDS, FakeLibvirtd, NoLoop

import mom_plugins_libvirt.connection as module
from mom_devkit import wait_until
from mom_kvm import LaunchedGuest
from mom_plugins_libvirt import Connection, ConnectionSettings
from mom_plugins_libvirt.plugin import LibvirtLaunches

MIB = 1 << 10
BALLOON = FakeLibvirtd.VIR_DOMAIN_STATS_BALLOON
UUID = "7e1d3c1a-93a7-4d0c-a7f5-0d9f3a1b0c01"
SIZE = "<memory unit='KiB'>4194304</memory><currentMemory unit='KiB'>1048576</currentMemory>"
VIRTIO = "<memballoon model='virtio'/>"
PLUGGABLE = "<memory model='virtio-mem'><target><size unit='KiB'>2097152</size><requested unit='KiB'>0</requested></target></memory>"
NOT_TOLD = PLUGGABLE.replace("<requested unit='KiB'>0</requested>", "")
GIVEN_BACK = PLUGGABLE.replace("<requested", "<current unit='KiB'>1048576</current><requested")
REQUESTED = PLUGGABLE.replace(">0<", ">1048576<")
NVDIMM = "<memory model='nvdimm'><source><path>/srv/n</path></source><target><size unit='KiB'>1048576</size></target></memory>"
WHOLE = "<memory unit='KiB'>4194304</memory><currentMemory unit='KiB'>4194304</currentMemory>"


def domain(memory: str = SIZE, devices: str = VIRTIO, name: str = "web", more: str = "") -> str:
    """Return a domain as libvirt passes it to a hook."""
    return f"<domain type='kvm'><name>{name}</name><uuid>{UUID}</uuid>{memory}{more}<devices>{devices}</devices></domain>"


@pytest.mark.parametrize(
    ("xml", "mib"),
    [
        (domain(), 1024),
        (domain(devices="<memballoon model='none'/>"), 4096),
        (domain(devices=f"{VIRTIO}<hostdev mode='subsystem' type='pci'/>"), 4096),
        (domain(more="<memoryBacking><allocation mode='immediate'/></memoryBacking>"), 4096),
        (domain("<memory unit='KiB'>4194304</memory>", devices=VIRTIO + NOT_TOLD), 2048),
        (domain("<memory unit='KiB'>4194304</memory>", devices=VIRTIO + GIVEN_BACK), 3072),
        (domain("<memory unit='KiB'>4194304</memory>", devices=VIRTIO + PLUGGABLE), 2048),
        (domain("<memory unit='KiB'>4194304</memory>", devices=VIRTIO + PLUGGABLE.replace(">0<", ">9999999<")), 4096),
        (domain(WHOLE, devices=VIRTIO + REQUESTED), 3072),
        (domain(WHOLE, devices=VIRTIO + NVDIMM), 3072),
        (domain(devices=f"{VIRTIO}{REQUESTED}<hostdev mode='subsystem' type='pci'/>"), 3072),
        (domain("<memory unit='KiB'>1048576</memory><currentMemory unit='KiB'>4194304</currentMemory>"), 1024),
    ],
)
def test_a_guest_needs_what_it_starts_with_and_all_where_something_takes_all_at_once(xml: str, mib: int) -> None:
    assert LibvirtLaunches().read(xml, "") == LaunchedGuest("web", mib * MIB, UUID)


@pytest.mark.parametrize(
    ("page", "whole"), [("", True), ("<page size='1' unit='G'/>", True), ("<page size='1' unit='G' nodeset='0'/>", False)]
)
def test_a_guest_with_all_memory_in_huge_pages_needs_none_of_the_hosts_memory(page: str, whole: bool) -> None:
    found = LibvirtLaunches().read(domain(more=f"<memoryBacking><hugepages>{page}</hugepages></memoryBacking>"), "")
    assert found is not None
    assert ("huge pages" in found.why_none) == whole


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<network><name>default</name></network>",
        domain(memory=""),
        domain(memory="<memory unit='parsec'>4</memory>"),
        domain(memory="<memory unit='TiB'>999999999999999999</memory>"),
        domain().replace("<name>web</name>", ""),
        "<!DOCTYPE domain [<!ENTITY a 'aaaa'>]>" + domain(name="&a;"),
        domain(more="<metadata>" + "x" * (9 << 20) + "</metadata>"),
    ],
)
def test_what_describes_no_guest_is_none(text: str) -> None:
    assert LibvirtLaunches().read(text, "") is None


@pytest.mark.parametrize("uuid", ["", "<uuid/>", "<uuid>the third</uuid>"])
def test_a_guest_without_a_uuid_needs_its_memory_all_the_same(uuid: str) -> None:
    found = LibvirtLaunches().read(domain().replace(f"<uuid>{UUID}</uuid>", uuid), "")
    assert found == LaunchedGuest("web", 1024 * MIB, "")


class HeldUp(FakeLibvirtd):
    """libvirtd whose bulk calls wait while a hook runs, like libvirt's."""

    hook: threading.Event

    def count(self, call: str) -> None:
        super().count(call)
        if call == "getAllDomainStats" and not self.hook.is_set():
            self.hook.wait(30)


@pytest.fixture
def libvirtd() -> Iterator[HeldUp]:
    made = HeldUp()
    made.hook = threading.Event()
    made.hook.set()
    yield made
    made.hook.set()


@pytest.fixture
def launches() -> LibvirtLaunches:
    return LibvirtLaunches()


@pytest.fixture
def connection(libvirtd: HeldUp, launches: LibvirtLaunches, monkeypatch: pytest.MonkeyPatch) -> Iterator[Connection]:
    monkeypatch.setattr(module, "EventLoop", NoLoop)
    settings = ConnectionSettings("fake:///", call_timeout=LONG_SECONDS)
    with closing(Connection(settings, logging.getLogger("test"), libvirtd, blocked_in_start_hook=launches.blocked_in_start_hook)) as made:
        made.on_event = lambda event: None
        made.start()
        yield made


def names(connection: Connection) -> list[str]:
    return sorted(one.name for one in connection.statistics(BALLOON))


def test_while_a_hook_holds_a_guest_up_mom_asks_of_those_that_it_knows(
    libvirtd: HeldUp, connection: Connection, launches: LibvirtLaunches
) -> None:
    ends, web = libvirtd.add("ends"), libvirtd.add("web")
    assert names(connection) == ["ends", "web"]
    starting = LaunchedGuest("new", 1, "uuid-of-new")
    libvirtd.hook.clear()
    launches.launches(starting)
    assert names(connection) == ["ends", "web"]
    libvirtd.end(ends)
    late = libvirtd.add("late")
    libvirtd.connections[0].tell(late, 2)
    assert names(connection) == ["late", "web"], "one that was started meanwhile is seen, and one that has ended is not"
    assert [one.name for one in connection.statistics(BALLOON, {web.uuid, "uuid-of-new"})] == ["web"]
    libvirtd.hook.set()
    launches.launched(starting)
    libvirtd.add("new")
    assert names(connection) == ["late", "new", "web"]
    assert libvirtd.calls["getAllDomainStats"] == 2


def test_a_call_about_all_guests_that_a_hook_has_caught_is_left_behind(
    libvirtd: HeldUp, connection: Connection, launches: LibvirtLaunches
) -> None:
    libvirtd.add("web")
    assert names(connection) == ["web"]
    libvirtd.hook.clear()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(names, connection)
        wait_until(lambda: libvirtd.calls["getAllDomainStats"] == 2, "the call waits")
        launches.launches(LaunchedGuest("new", 1, "uuid-of-new"))
        assert asked.result(LONG_SECONDS) == ["web"], "by another connection, long before its time is over"
    assert len(libvirtd.connections) == 2
