"""Memory that hosts can sell, from learned daily use, as settings of each platform."""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from statistics import median
from typing import Final, NamedTuple

from mom_core import MomError, Value, format_kib, printable
from mom_plugins_record.advise.ratio import CONFIDENCE, SoldAtRisk, sold_at_risk
from mom_plugins_record.forecast.past import PastGuest, PastHost

MIB = 1024.0
"""A MiB in KiB."""


class PlacementAdvice(NamedTuple):
    """Inventory of a host for OpenStack placement, in MiB; the ratio is rounded down."""

    host: str
    total_mib: int
    reserved_mib: int
    sold_mib: int
    ratio: float


def placement_of(host: str, total_kib: float | None, promisable_kib: float | None, sold_kib: float) -> PlacementAdvice | str:
    """Return an inventory for OpenStack placement, or why there is none."""
    if not total_kib or promisable_kib is None:
        missing = "the host's memory (host plugin)" if not total_kib else "the memory that the host can promise (balloon plugin)"
        return f"no ratio for placement: {missing} was not recorded"
    total, reserved = int(total_kib / MIB), math.ceil((total_kib - promisable_kib) / MIB)
    sold = int(sold_kib / MIB)
    if reserved >= total or sold <= 0:
        return "no ratio for placement: the host has no memory for guests" if sold else "no ratio for placement: there are no guests"
    return PlacementAdvice(host, total, reserved, sold, math.floor(100 * sold / (total - reserved)) / 100)


def script(advice: PlacementAdvice, summary: Sequence[str]) -> str:
    """Return a script that applies the advice, for the operator to read and run."""
    lines = [
        f"Script for OpenStack's placement service, by `mom advise` on {time.strftime('%Y-%m-%d', time.gmtime())}. mom does not run it.",
        *(printable(line, 300) for line in summary),
        f"{advice.sold_mib} MiB can be sold; the host has {advice.total_mib} - {advice.reserved_mib} MiB for guests.",
        "Placement ignores service classes, and may place guests with larger guarantees here. Keep such guests on other hosts.",
        "In the host's nova.conf, remove ram_allocation_ratio, which would overwrite the ratio, and set:",
        f"  reserved_host_memory_mb = {advice.reserved_mib}",
        "If the provider has another name, find it with: openstack resource provider list. To test first, add --dry-run.",
    ]
    name = shlex.quote(printable(advice.host, 253))
    commands = [
        "set -eu",
        f"provider=$(openstack resource provider list --name {name} -f value -c uuid)",
        f'openstack resource provider inventory set --amend --resource MEMORY_MB:allocation_ratio={advice.ratio:.2f} "$provider"',
    ]
    return "\n".join(["#!/bin/sh", *(f"# {line}" for line in lines), *commands]) + "\n"


_QEMU_KIB: Final = (30 + 8 + 32) * MIB
_VCPU_KIB: Final = 8 * MIB
"""KubeVirt assumes `_QEMU_KIB` for QEMU with I/O thread and video memory, and this much for each vCPU (GetMemoryOverhead in
launcherhypervisorresources.go)."""

_POD_KIB: Final = (25 + 100 + 25 + 40) * MIB
_TABLES_SHARE: Final = 1 / 512
"""KubeVirt assumes `_POD_KIB` for a pod's other processes, and this fraction of the guest's memory for page tables."""


class QemuMemory(NamedTuple):
    """QEMU's own memory, and settings with which QEMU fits into each guest's pod."""

    guests: int
    median_kib: float
    largest_kib: float
    overhead_ratio: float
    """KubeVirt's additionalGuestMemoryOverheadRatio, rounded up; at least 1."""
    reserved_mib: int
    """Reserved memory (rounded up) to set for a guest in Harvester if the ratio is 1."""


def qemu_memory_of(guests: Sequence[PastGuest]) -> QemuMemory | None:
    """Return QEMU's own memory; None if it was never measured."""
    measured = [guest for guest in guests if guest.qemu_kib]
    if not measured:
        return None
    sizes = [guest.qemu_kib for guest in measured]
    lacking = [guest.qemu_kib - _assumed_kib(guest) for guest in measured]
    pods = [_POD_KIB + _TABLES_SHARE * guest.sold_kib + _assumed_kib(guest) for guest in measured]
    ratio = max(1 + kib / pod for kib, pod in zip(lacking, pods, strict=True))
    return QemuMemory(len(measured), median(sizes), max(sizes), max(1.0, math.ceil(100 * ratio) / 100), math.ceil(max(0.0, *lacking) / MIB))


def _assumed_kib(guest: PastGuest) -> float:
    return _QEMU_KIB + _VCPU_KIB * max(1, guest.vcpus)


HOST_RESERVE_SHARE: Final = 0.05
"""If `promisable_kib` is unknown, this fraction of a host's memory is not for guests: the balloon plugin's default."""

PRESENT_DAYS: Final = 2
"""A guest counts as gone if its use is unknown on the last `PRESENT_DAYS` days."""


class HostSold(NamedTuple):
    """Memory, guests and advice of one host. Sizes in KiB."""

    host: str
    total: float
    capacity: float
    today: float
    guests: int
    result: SoldAtRisk | None = None
    why: str = ""
    advice: PlacementAdvice | None = None
    qemu: QemuMemory | None = None

    @property
    def ratio(self) -> float:
        """Memory that can be sold, divided by the host's memory for guests, rounded down; 0 if unknown."""
        return 0.0 if self.advice is None else self.advice.ratio

    @property
    def ratio_today(self) -> float:
        """Memory sold today, divided by the host's memory for guests."""
        return round(self.today / self.capacity, 2) if self.capacity else 0.0


def sold_on(past: PastHost, risk: float) -> HostSold:
    """Return how much to sell on this host. Raise `MomError` if the host's memory is unknown."""
    guests, name = past.guests, printable(past.host, 253)
    total = past.host_kib
    if total is None:
        raise MomError(f"the memory of {name} was unknown when {past.where} was written", hint="enable the host plugin")
    capacity = past.promisable_kib if past.promisable_kib is not None else (1 - HOST_RESERVE_SHARE) * total
    present = _present_guests(guests, datetime.now(UTC).toordinal())
    today = sum(item.sold_kib for item in present)
    result = sold_at_risk(present, capacity, risk=risk)
    host = HostSold(name, total, capacity, today, len(present), qemu=qemu_memory_of(present))
    if isinstance(result, str):
        return host._replace(why=result)
    advice = placement_of(name, total, capacity, result.sold)
    return host._replace(result=result, advice=advice if isinstance(advice, PlacementAdvice) else None)


def _present_guests(guests: Sequence[PastGuest], today: int) -> Sequence[PastGuest]:
    # A clock that was ahead may have left days in the future.
    days = {day for guest in guests for day in guest.days}
    last = max((day for day in days if day <= today + 1), default=max(days, default=0))
    return [guest for guest in guests if any(last - PRESENT_DAYS < day <= last for day in guest.days)]


def lines_of(host: HostSold, risk: float) -> Iterator[str]:
    """Yield one host's result as text."""
    yield from _sold_lines(host, risk)
    if host.qemu is not None:
        sizes = f"{format_kib(host.qemu.median_kib)} (median) to {format_kib(host.qemu.largest_kib)}"
        yield f"QEMU itself holds {sizes} on top of a guest's memory, as measured for {host.qemu.guests} guests"


def _sold_lines(host: HostSold, risk: float) -> Iterator[str]:
    where = f"{host.host}: " if host.host else ""
    today = f"{format_kib(host.today)} are sold to {host.guests} guests today, a ratio of {host.ratio_today:.2f}"
    if host.result is None:
        yield f"{where}the memory that can be sold is unknown: {host.why}"
        return
    result, more = host.result, "" if host.result.complete else " or more"
    yield (
        f"{where}{format_kib(result.sold)}{more} can be sold, {host.ratio:.2f} times the {format_kib(host.capacity)} for guests: "
        f"the risk that some guest lacks memory within a month is at most {percent(risk)} ({100 * CONFIDENCE:.0f} % confidence; "
        f"with 50 % confidence, {format_kib(result.middle)} can be sold)"
    )
    yield f"{today}; learned: {result.days} days of {result.guests} guests"


def percent(share: float) -> str:
    """Format a fraction as a percentage."""
    return f"{100 * share:.3g} %"


def rows(host: HostSold) -> Sequence[Sequence[str]]:
    """Return a row for each platform's setting: platform, name, new value and today's value."""
    return (*_sold_rows(host), *_qemu_rows(host))


def _sold_rows(host: HostSold) -> Sequence[Sequence[str]]:
    if host.advice is None or host.result is None:
        return ()
    ratio, reserved, today = host.advice.ratio, host.advice.reserved_mib, host.ratio_today
    return (
        ("OpenStack nova", f"ram_allocation_ratio, with reserved_host_memory_mb = {reserved}", f"{ratio:.2f}", f"{today:.2f}"),
        ("KubeVirt", "memoryOvercommitPercentage", f"{100 * ratio:.0f}", f"{100 * today:.0f}"),
        ("Apache CloudStack", f"mem.overprovisioning.factor, with host.reserved.mem.mb = {reserved}", f"{ratio:.2f}", f"{today:.2f}"),
        ("Proxmox VE", "memory of all guests together", format_kib(host.result.sold), format_kib(host.today)),
    )


def _qemu_rows(host: HostSold) -> Sequence[Sequence[str]]:
    if host.qemu is None:
        return ()
    return (
        ("KubeVirt, Harvester", "additionalGuestMemoryOverheadRatio", f"{host.qemu.overhead_ratio:.2f}", ""),
        ("Harvester", "reserved memory of a guest, with a ratio of 1", format_kib(1024.0 * host.qemu.reserved_mib), ""),
    )


def settings(host: HostSold) -> Mapping[str, Value]:
    """Return the settings keyed by platform, for JSON."""
    if host.advice is None:
        return {}
    ratio, reserved = host.advice.ratio, host.advice.reserved_mib
    return {
        "nova": {"ram_allocation_ratio": ratio, "reserved_host_memory_mb": reserved},
        "kubevirt": {"memoryOvercommitPercentage": round(100 * ratio)},
        "cloudstack": {"mem.overprovisioning.factor": ratio, "host.reserved.mem.mb": reserved},
        "proxmox": {"memory_mib": host.advice.sold_mib},
    }


def as_json(hosts: Sequence[HostSold], risk: float) -> Mapping[str, object]:
    """Return all hosts as JSON content."""
    return {
        "risk": risk,
        "confidence": CONFIDENCE,
        "hosts": [
            {
                "host": host.host,
                "host_kib": round(host.total),
                "for_guests_kib": round(host.capacity),
                "sold_today_kib": round(host.today),
                "ratio_today": host.ratio_today,
                "guests": host.guests,
                "sold_kib": None if host.result is None else round(host.result.sold),
                "sold_middle_kib": None if host.result is None else round(host.result.middle),
                "ratio": host.ratio or None,
                "days": None if host.result is None else host.result.days,
                "why": host.why,
                "settings": settings(host),
                "qemu": None if host.qemu is None else host.qemu._asdict(),
            }
            for host in hosts
        ],
    }
