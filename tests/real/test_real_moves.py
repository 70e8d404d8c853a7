"""Real guests move between two real QEMU processes: bytes sent, and sizes on arrival.

`pytest -o log_cli=true -o log_cli_level=INFO` shows QEMU's numbers.
"""

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import libvirt  # type: ignore[import-untyped]  # it has no types
import pytest
from libvirt_mom import another_host
from private_libvirtd import PrivateLibvirtd
from real_guests import Lab, RealGuest

from mom_core import Decision, PluginContext, PluginSettings, Snapshot, Value, hookimpl
from mom_devkit import PluginRun, run_plugins, wait_until

pytestmark = pytest.mark.real

LOG = logging.getLogger("test")
MIB = 1024
SECONDS = 60


def _deciding(guest: RealGuest, wants: Callable[[int], Mapping[str, Value]]) -> type:
    """Return a plugin that decides values for the guest: cycle number to values, keyed by control."""

    class Deciding:
        def __init__(self, settings: PluginSettings, context: PluginContext) -> None:
            self.cycles = 0

        @hookimpl
        def mom_act(self, snapshot: Snapshot) -> list[Decision]:
            self.cycles += 1
            entities = [one.entity for one in snapshot.guests.values() if one.id == guest.uuid]
            return [Decision(entity, control, value) for entity in entities for control, value in wants(self.cycles).items()]

    return Deciding


def _moved(
    lab: Lab,
    folder: Path,
    guest: RealGuest,
    other: PrivateLibvirtd,
    *,
    warning: int,
    size: int = 0,
    guarantee: str = "64MiB",
    **leaving: object,
) -> PluginRun:
    """Run mom in real time until it has moved the guest. The host has enough memory, so only the move causes a sweep.

    :param warning: seconds until the move
    :param size: size of the guest before, in KiB
    """
    where = str(other.destination)
    smaller: Mapping[str, Value] = {"balloon_target": size} if size else {}
    plugins: dict[str, type | Mapping[str, object]] = {
        "host": {},
        "libvirt": lab.libvirtd.settings(),
        "balloon": {"host_free": "64MiB", "law": {"start_rest": "1s"}},
        "sla": {"classes": {"leaves": {"may_migrate": True, "warning": f"{warning}s"}}},
        "eviction": {"destination": where, **leaving},
        "decides": _deciding(guest, lambda cycle: {"guest_migrate": where, **(smaller if cycle < warning - 5 else {})}),
    }
    known = {guest.name: {"class": "leaves", "guarantee": guarantee}}
    return run_plugins(folder, plugins, cycles=SECONDS, interval=1.0, guests=known, between=lambda _: _second_with(guest, lab.libvirtd))


def _second_with(guest: RealGuest, libvirtd: PrivateLibvirtd) -> None:
    """Wait a second, unless the guest has left."""
    if guest.uuid in _uuids(libvirtd):
        time.sleep(1.0)


def _there(guest: RealGuest, other: PrivateLibvirtd) -> Any:
    """Return the domain at the destination."""
    return libvirt.open(other.uri).lookupByUUIDString(guest.uuid)


def _sent(guest: RealGuest, other: PrivateLibvirtd) -> int:
    """Return the bytes of memory that were sent."""
    stats = _there(guest, other).jobStats(libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED)
    sent: int = stats["memory_processed"]
    return sent


def _works_on_after(guest: RealGuest, age: int) -> None:
    """Wait until the workload is older than `age`. The destination's QEMU has a new log."""
    wait_until(lambda: guest.beats and guest.beats[-1].seconds > age, f"{guest.name} works on", 120)


def _reasons(found: PluginRun) -> list[str]:
    return [one.reason for report in found.reports for one in report.decisions if one.control == "balloon_target"]


@pytest.mark.alone  # mom does not sweep a guest that gets no CPU time
def test_a_guest_that_has_freed_60_percent_of_its_memory_sends_half_of_what_it_would(lab: Lab, tmp_path: Path) -> None:
    lab.start("stays")  # mom does not move the only guest
    with another_host(lab.libvirtd) as other:
        guest = lab.start("freed", mib=1024, workload=(200, 5, 0, 800)).wait_until_it_works()
        age, touched = guest.beats[-1].seconds, guest.domain.memoryStats()["rss"] * 1024
        found = _moved(lab, tmp_path, guest, other, warning=8, sweep="30s")  # an emulated guest sends some 100 MiB/s
        assert found.applied("guest_migrate") == [str(other.destination)]
        sent = _sent(guest, other)
        assert any("it will be moved" in reason for reason in _reasons(found))
        assert _there(guest, other).memoryStats()["actual"] == 1024 * MIB, "it arrives with all of its room"
        _works_on_after(guest, age)
    LOG.info("touched: %d MiB; sent: %d MiB", touched >> 20, sent >> 20)
    assert touched > 700 << 20, "it has touched most of its memory, all of which QEMU would send"
    assert sent <= 0.5 * touched


def test_a_guest_from_which_mom_has_taken_arrives_with_what_it_had_before(lab: Lab, tmp_path: Path) -> None:
    lab.start("stays")
    with another_host(lab.libvirtd) as other:
        guest = lab.start("smaller", mib=512, workload=(100, 5, 0, 0)).wait_until_it_works()
        age = guest.beats[-1].seconds
        found = _moved(lab, tmp_path, guest, other, warning=15, size=360 * MIB, guarantee="300MiB")
        sizes = [kib for kib in found.values(guest.name, "balloon_cur") if isinstance(kib, int)]
        assert min(sizes) < 400 * MIB, "it was made smaller"
        assert min(sizes) >= 300 * MIB
        assert found.applied("guest_migrate") == [str(other.destination)]
        assert _there(guest, other).memoryStats()["actual"] == 512 * MIB
        _works_on_after(guest, age)


def _uuids(libvirtd: PrivateLibvirtd) -> list[str]:
    """Return UUIDs of running guests."""
    return [one.UUIDString() for one in libvirt.open(libvirtd.uri).listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)]
