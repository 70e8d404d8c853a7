"""The plugin qemu on real guests without libvirt: read, resize, restore."""

import re
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from ballast import available_mib
from mom_run import MomRun
from plain_qemu import PlainHost, plain_host
from real_guests import not_here

from mom_core import Engine, PluginContext, Report, Value
from mom_devkit import config_of, wait_until
from mom_plugins_qemu import QemuPlugin
from mom_plugins_qemu.hypervisor import QemuHypervisor

pytestmark = pytest.mark.real

KIB_IN_MIB = 1024
OWN_MIB, LATE_MIB = 500, 400
FORMER_MIB = 300
"""Memory that a guest has used and freed."""


@pytest.fixture
def host() -> Iterator[PlainHost]:
    if shutil.which("qemu-system-x86_64") is None:
        not_here("there is no QEMU")
    with TemporaryDirectory(prefix="mom-qemu-") as folder, plain_host(Path(folder)) as made:
        yield made


@pytest.fixture
def mom(host: PlainHost) -> Iterator[MomRun]:
    made = MomRun(host.folder)
    qemu = {"sockets": [f"{host.folder}/*.qmp"], "watch": "100ms"}
    small = f'(with Guests guest (guest.Control "balloon_target" {180 * KIB_IN_MIB}))'
    plugins = {"qemu": qemu, "policy": {"defaults": False}, "balloon": {}, "http": {}}
    made.configure(plugins, policies={"50_small": small}, interval="500ms")
    yield made
    made.kill()


def plugin_on(host: PlainHost) -> QemuHypervisor:
    return QemuHypervisor(PluginContext("qemu"), (f"{host.folder}/*.qmp",))


def test_a_guest_is_known_measured_and_resized(host: PlainHost) -> None:
    guest = host.start("web").wait_until_up()
    hypervisor = plugin_on(host)
    (found,) = hypervisor.guests()
    assert (found.id, found.name, found.properties["pid"], found.properties["state"]) == (guest.uuid, "web", guest.process.pid, "running")
    assert hypervisor.stats_period(found.entity) == guest.period == 0
    hypervisor.set_stats_period(found.entity, 1)

    def fields() -> dict[str, Value]:
        return hypervisor.fields(hypervisor.guests())[guest.uuid]

    wait_until(lambda: "mem_usable" in fields(), "statistics come")
    measured = fields()
    assert measured["balloon_cur"] == measured["balloon_max"] == 256 * KIB_IN_MIB
    assert isinstance(measured["mem_usable"], int)
    assert 50 * KIB_IN_MIB < measured["mem_usable"] < 256 * KIB_IN_MIB
    assert isinstance(measured["rss"], int)
    assert measured["rss"] > 50 * KIB_IN_MIB
    assert {"mem_available", "mem_unused", "mem_disk_caches", "vcpu_count", "stats_age", "host_swap"} <= measured.keys()
    asked = hypervisor.usable_memory(found.entity)
    assert asked is not None
    assert asked[1] == pytest.approx(measured["mem_usable"], abs=8 * KIB_IN_MIB)
    wait_until(lambda: (hypervisor.usable_memory(found.entity) or (0,))[0] > asked[0], "the next statistics, a second later")
    hypervisor.set_balloon(found.entity, 200 * KIB_IN_MIB)
    wait_until(lambda: hypervisor.balloon_sizes([found.entity]) == {guest.uuid: 200 * KIB_IN_MIB}, "the guest has followed")
    assert hypervisor.size_now(found.entity) == 200 * KIB_IN_MIB
    wait_until(lambda: "swap_in" in fields(), "rates are known")
    guest.ask("stop")
    assert hypervisor.guests()[0].blocked == {"*": "the guest is paused"}
    guest.process.kill()
    guest.process.wait()
    assert list(hypervisor.guests()) == []


def test_memory_of_qemu_itself_is_measured_and_not_swept(host: PlainHost) -> None:
    own = f"memory-backend-ram,id=own,size={OWN_MIB}M,prealloc=on"
    freed = f"momtest.workload=60,5,0,{FORMER_MIB}"
    guest = host.start("web", arguments=freed, options=("-m", "768", "-object", own)).wait_until_it_works()
    hypervisor = plugin_on(host)
    field = hypervisor.fields(hypervisor.guests())[guest.uuid].get("host_qemu_overhead")
    smaps = Path(f"/proc/{guest.pid}/smaps").read_text()
    backed = re.findall(rf"\nSize: +{768 * KIB_IN_MIB} kB\n(?:\w+: +\d+ kB\n)*?Rss: +(\d+) kB", smaps)
    held = sum(map(int, re.findall(r"\nRss: +(\d+) kB", smaps)))
    assert field == pytest.approx(held - int(backed[0]), abs=32 * KIB_IN_MIB)
    assert isinstance(field, int)
    assert field > OWN_MIB * KIB_IN_MIB

    # Available memory is below the goal, but not enough to shrink guests permanently.
    balloon = {"host_free": f"{int(1.15 * available_mib())}MiB", "law": {"start_rest": "0s", "margin": "1GiB"}}
    plugins: dict[str, dict[str, Any]] = {"host": {}, "qemu": {"sockets": [f"{host.folder}/*.qmp"]}, "balloon": balloon, "policy": {}}
    reports: list[Report] = []
    engine = Engine(config_of(host.folder, plugins, interval=1.0), on_report=reports.append)

    def said(name: str) -> list[float]:
        rows = (report.snapshot.guests.get(guest.uuid) for report in reports)
        return [number for row in rows if row is not None and (number := row.number(name)) is not None]

    engine.start()
    try:
        wait_until(lambda: said("sweep_gave"), "it was swept", 60)
        guest.ask("object-add", **{"qom-type": "memory-backend-ram", "id": "late", "size": LATE_MIB << 20, "prealloc": True})
        wait_until(lambda: said("qemu_overhead")[-1] > field + 0.9 * LATE_MIB * KIB_IN_MIB, "mom knows that QEMU has grown")
        missed = max(said("sweep_missed"), default=0.0)  # QEMU may have grown during a sweep
        time.sleep(5)
    finally:
        engine.stop()
    assert max(said("sweep_gave")) > 0.5 * FORMER_MIB * KIB_IN_MIB
    assert max(said("sweep_missed"), default=0.0) < missed + 64 * KIB_IN_MIB, "no later sweep was in vain"


def test_what_mom_changed_is_explained_and_put_back_after_a_kill_as_soon_as_the_monitor_has_room(host: PlainHost, mom: MomRun) -> None:
    guest = host.start("web").wait_until_up()
    mom.start()
    wait_until(lambda: guest.period == 1, "the guest was asked for statistics")
    wait_until(lambda: guest.size_mib == 180, "the guest has given")
    told = wait_until(lambda: _told(mom, "It has 180 MiB of 256 MiB: 76 MiB are taken from it for the host."), "mom has seen it", 60)
    assert "50_small" in told
    mom.kill()
    time.sleep(0.5)
    assert (guest.size_mib, guest.period) == (180, 1), "mom is dead: what it changed stands"
    others = []
    try:
        for _ in range(20):
            others.append(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
            try:
                others[-1].connect(str(guest.monitor))
            except BlockingIOError:
                break
        else:
            pytest.fail("twenty clients may stand in line")
        refused = mom.verb("restore")
        assert refused.returncode == 1, "a guest whose monitor lets nobody stand in line is not gone"
        assert "its monitor is used by another client, or has hung" in refused.stdout + refused.stderr
        assert guest.size_mib == 180
    finally:
        for other in others:
            other.close()
    restored = mom.verb("restore")
    assert restored.returncode == 0, restored.stdout + restored.stderr
    wait_until(lambda: guest.size_mib == 256, "the guest has its memory back")
    assert guest.period == 0


def _told(mom: MomRun, what: str) -> str:
    told = " ".join(mom.says("explain", "web").split())
    return told if what in told else ""


def test_what_a_balloon_does_by_itself_is_known(host: PlainHost) -> None:
    switched = {"plain": "", "reports": ",free-page-reporting=on", "deflates": ",deflate-on-oom=on"}
    for name, options in switched.items():
        host.start(name, mib=64, balloon_options=options)
    host.start("bare", mib=64, balloon=False)
    hypervisor = plugin_on(host)

    def found() -> dict[str, tuple[Value, Value]]:
        listed = hypervisor.guests()
        fields = hypervisor.fields(listed)
        names = ("balloon_reporting", "balloon_autodeflate")
        return {guest.name: (fields[guest.id].get(names[0]), fields[guest.id].get(names[1])) for guest in listed}

    known = {"plain": (0, 0), "reports": (1, 0), "deflates": (0, 1), "bare": (None, None)}
    wait_until(lambda: found() == known, "all have answered")


def test_virtio_mem_sizes_a_guest_whose_memory_a_balloon_cannot_take(host: PlainHost) -> None:
    options = ["-m", "256,maxmem=2G", "-object", "memory-backend-ram,id=vmem0,size=256M"]
    guest = host.start("web", options=[*options, "-device", "virtio-mem-pci,id=vm0,memdev=vmem0,requested-size=256M"], balloon=False)
    guest.wait_until_up()
    context = PluginContext("qemu", guest_settings=lambda _: QemuPlugin.GuestSettings.model_validate({"memory": "512MiB"}))

    def plugged() -> int:
        (device,) = guest.ask("query-memory-devices")
        return int(device["data"]["size"]) >> 20

    wait_until(lambda: plugged() == 256, "it is plugged in")
    hypervisor = QemuHypervisor(context, [str(guest.monitor)])
    (web,) = hypervisor.guests()
    fields = hypervisor.fields([web])[web.id]
    assert (fields["sized_by"], fields["balloon_cur"], fields["balloon_max"]) == ("virtio-mem", 512 * KIB_IN_MIB, 512 * KIB_IN_MIB)
    hypervisor.set_balloon(web.entity, 384 * KIB_IN_MIB)
    wait_until(lambda: plugged() == 128, "it is unplugged")
    assert hypervisor.balloon_sizes([web.entity]) == {web.id: 384 * KIB_IN_MIB}
    after_a_crash = QemuHypervisor(context, [str(guest.monitor)])
    after_a_crash.set_balloon(web.entity, 512 * KIB_IN_MIB)
    wait_until(lambda: plugged() == 256, "it has its memory back")
