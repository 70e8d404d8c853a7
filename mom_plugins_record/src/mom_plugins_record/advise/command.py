"""Subcommand `mom advise`: how much memory to sell, as settings of each platform, and how many more guests fit."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Final

import click

from mom_core import MomError, UnitError, count_of, format_kib, load_config, parse_size, printable
from mom_daemon import KeptPath, TableColumn, config_option, json_option, print_prose, print_table
from mom_plugins_record.advise.ratio import CONFIDENCE, RISK, SoldAtRisk, sold_at_risk
from mom_plugins_record.forecast.files import past_in
from mom_plugins_record.forecast.past import PastGuest, PastHost
from mom_plugins_record.forecast.plugin import days_folder


@click.command()
@click.option("--risk", metavar="SHARE", help=f"Accepted risk per month that some guest lacks memory.  [default: {100 * RISK:g}%]")
@click.option(
    "--days", type=KeptPath(), multiple=True, metavar="FILE", help="Learned days (days.json) of this or another host; may be repeated."
)
@click.option("--memory", metavar="SIZE", help="Also print how many more guests of this size fit, such as 4GiB.")
@config_option
@json_option
def advise(risk: str | None, days: tuple[Path, ...], memory: str | None, config_path: str | None, as_json: bool) -> None:
    """Advise how much memory to sell on this host at a stated risk, from the learned daily memory use of its guests.

    \b
    mom advise --risk 1% --memory 4GiB
    mom advise --days a/days.json --days b/days.json    for several hosts, whose files were copied here

    For each learned day, mom calculates how full the host would be with its guests and copies of them. The risk is that some guest lacks
    memory within a month. The answer includes settings of OpenStack, KubeVirt, CloudStack and Proxmox VE. mom needs two weeks of learned
    days (`mom forecast learn` learns them from recordings), and ignores swap and merged pages.
    Exit code 1 if the answer is unknown.
    """
    share = _share(risk)
    try:
        each_kib = None if memory is None else parse_size(memory) / 1024
    except UnitError as error:
        raise click.UsageError(f"--memory: {error}") from None
    pasts = [past_in(file) for file in days] or [past_in(days_folder(load_config(config_path)))]
    hosts = [sold_on(past, share, each_kib) for past in pasts]
    if as_json:
        click.echo(json.dumps({"risk": share, "confidence": CONFIDENCE, "hosts": [asdict(host) for host in hosts]}, indent=2))
    for host in () if as_json else hosts:
        for line in lines_of(host, share, each_kib):
            print_prose(line, 4)
        if settings := rows(host):
            print_table(("platform", TableColumn("setting", 1), "possible", "today"), settings)
    if not any(host.result for host in hosts):
        sys.exit(1)


def _share(risk: str | None) -> float:
    if risk is None:
        return RISK
    try:
        share = float(risk.removesuffix("%")) / (100 if risk.endswith("%") else 1)
    except ValueError:
        share = math.nan
    if not 0 < share < 1:
        raise click.UsageError(f"--risk: {printable(risk, 40)} is not a risk between 0 and 100 %, such as 1%")
    return share


MIB = 1024.0
"""A MiB in KiB."""

_QEMU_KIB: Final = (30 + 8 + 32) * MIB
_VCPU_KIB: Final = 8 * MIB
"""KubeVirt assumes `_QEMU_KIB` for QEMU with I/O thread and video memory, and this much for each vCPU (GetMemoryOverhead in
launcherhypervisorresources.go)."""

_POD_KIB: Final = (25 + 100 + 25 + 40) * MIB
_TABLES_SHARE: Final = 1 / 512
"""KubeVirt assumes `_POD_KIB` for a pod's other processes, and this fraction of the guest's memory for page tables."""


@dataclass(frozen=True, slots=True)
class QemuMemory:
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
    assumed = [_QEMU_KIB + _VCPU_KIB * max(1, guest.vcpus) for guest in measured]
    pods = [_POD_KIB + _TABLES_SHARE * guest.sold_kib + kib for guest, kib in zip(measured, assumed, strict=True)]
    lacking = [size - kib for size, kib in zip(sizes, assumed, strict=True)]
    ratio = max(1 + kib / pod for kib, pod in zip(lacking, pods, strict=True))
    return QemuMemory(len(measured), median(sizes), max(sizes), max(1.0, math.ceil(100 * ratio) / 100), math.ceil(max(0.0, *lacking) / MIB))


HOST_RESERVE_SHARE: Final = 0.05
"""If `promisable_kib` is unknown, this fraction of a host's memory is not for guests: the balloon plugin's default."""

PRESENT_DAYS: Final = 2
"""A guest counts as gone if its use is unknown on the last `PRESENT_DAYS` days."""


@dataclass(frozen=True, slots=True)
class HostSold:
    """Memory, guests and advice of one host, as in the JSON of `mom advise`. Sizes in KiB.

    :param ratio: memory that can be sold, divided by the host's memory for guests, rounded down; None if unknown
    :param ratio_today: the same for the memory sold today
    :param reserved_mib: memory in MiB that is not for guests
    :param more_guests: number of guests to add; None if unknown or not asked for
    :param why: why `result` is unknown
    """

    host: str
    host_kib: float
    for_guests_kib: float
    sold_today_kib: float
    guests: int
    ratio: float | None
    ratio_today: float
    reserved_mib: int
    more_guests: int | None
    result: SoldAtRisk | None
    why: str
    qemu: QemuMemory | None


def sold_on(past: PastHost, risk: float, each: float | None = None) -> HostSold:
    """Return how much to sell on this host. Raise `MomError` if the host's memory is unknown.

    :param each: size of guests to add, in KiB
    """
    guests, name = past.guests, printable(past.host, 253)
    total = past.host_kib
    if total is None:
        raise MomError(f"the memory of {name} was unknown when mom learned its days", hint="enable the host plugin")
    capacity = past.promisable_kib if past.promisable_kib is not None else (1 - HOST_RESERVE_SHARE) * total
    present = _present_guests(guests, datetime.now(UTC).toordinal())
    today = sum(guest.sold_kib for guest in present)
    answer = sold_at_risk(present, capacity, risk=risk)
    result, why = (None, answer) if isinstance(answer, str) else (answer, "")
    return HostSold(
        name,
        total,
        capacity,
        today,
        len(present),
        ratio=None if result is None else math.floor(100 * result.sold_kib / capacity) / 100,
        ratio_today=round(today / capacity, 2) if capacity else 0.0,
        reserved_mib=math.ceil((total - capacity) / MIB),
        more_guests=None if result is None or not each else max(0, int((result.sold_kib - today) // each)),
        result=result,
        why=why,
        qemu=qemu_memory_of(present),
    )


def _present_guests(guests: Sequence[PastGuest], today: int) -> Sequence[PastGuest]:
    # A clock that was ahead may have left days in the future.
    days = {day for guest in guests for day in guest.days}
    last = max((day for day in days if day <= today + 1), default=max(days, default=0))
    return [guest for guest in guests if any(last - PRESENT_DAYS < day <= last for day in guest.days)]


def lines_of(host: HostSold, risk: float, each: float | None = None) -> Iterator[str]:
    """Yield one host's result as text.

    :param each: size of guests to add, in KiB
    """
    if host.qemu is not None:
        sizes = f"{format_kib(host.qemu.median_kib)} (median) to {format_kib(host.qemu.largest_kib)}"
        yield f"QEMU itself holds {sizes} on top of a guest's memory, as measured for {host.qemu.guests} guests"
    where = f"{host.host}: " if host.host else ""
    if host.result is None:
        yield f"{where}the memory that can be sold is unknown: {host.why}"
        return
    result, more = host.result, "" if host.result.complete else " or more"
    yield (
        f"{where}{format_kib(result.sold_kib)}{more} can be sold, {host.ratio:.2f} times the {format_kib(host.for_guests_kib)} for guests: "
        f"the risk that some guest lacks memory within a month is at most {100 * risk:.3g} % ({100 * CONFIDENCE:.0f} % confidence; "
        f"with 50 % confidence, {format_kib(result.sold_middle_kib)} can be sold)"
    )
    today = f"{format_kib(host.sold_today_kib)} are sold to {host.guests} guests today, a ratio of {host.ratio_today:.2f}"
    yield f"{today}; learned: {result.days} days of {result.guests} guests"
    if each and host.more_guests is not None:
        yield f"{count_of(host.more_guests, 'more guest')} of {format_kib(each)} can be added"


def rows(host: HostSold) -> Sequence[Sequence[str]]:
    """Return a row for each platform's setting: platform, name, new value and today's value."""
    settings: list[Sequence[str]] = []
    if host.qemu is not None:
        settings += (
            ("KubeVirt, Harvester", "additionalGuestMemoryOverheadRatio", f"{host.qemu.overhead_ratio:.2f}", ""),
            ("Harvester", "reserved memory of a guest, with a ratio of 1", format_kib(MIB * host.qemu.reserved_mib), ""),
        )
    if host.result is None:
        return settings
    ratio, reserved, today = host.ratio or 0.0, host.reserved_mib, host.ratio_today
    return (
        *settings,
        ("OpenStack nova", f"ram_allocation_ratio, with reserved_host_memory_mb = {reserved}", f"{ratio:.2f}", f"{today:.2f}"),
        ("KubeVirt", "memoryOvercommitPercentage", f"{100 * ratio:.0f}", f"{100 * today:.0f}"),
        ("Apache CloudStack", f"mem.overprovisioning.factor, with host.reserved.mem.mb = {reserved}", f"{ratio:.2f}", f"{today:.2f}"),
        ("Proxmox VE", "memory of all guests together", format_kib(host.result.sold_kib), format_kib(host.sold_today_kib)),
    )
