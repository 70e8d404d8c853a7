"""How much can be sold on hosts whose guests' days were learned, in the words of what sells it, beside what is sold today."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

from mom_core import MomError, Value, format_kib, printable
from mom_kvm import PastDays, PastGuest
from mom_plugins_record.advise.placement import PlacementAdvice, placement_of
from mom_plugins_record.advise.ratio import CONFIDENCE, LearnedGuest, SoldAtRisk, sold_at_risk

HOST_RESERVE_SHARE: Final = 0.05
"""Of a host's memory: what it keeps for itself where its mom has not said it, as the plugin balloon has it."""

THERE_DAYS: Final = 2
"""A guest of which the last so many days are not known is not there any more: it is no part of what is sold today."""


class HostSold(NamedTuple):
    """Host: its memory and what of it is for guests, what is sold today of it (KiB), to how many guests, and what could be, or why that is
    not known. `advice` is the same for OpenStack's placement.
    """

    host: str
    total: float
    capacity: float
    today: float
    guests: int
    found: SoldAtRisk | None = None
    why: str = ""
    advice: PlacementAdvice | None = None

    @property
    def ratio(self) -> float:
        """What can be sold to what is for guests, rounded down; 0: not known."""
        return 0.0 if self.advice is None else self.advice.ratio

    @property
    def ratio_today(self) -> float:
        """The same of what is sold today."""
        return round(self.today / self.capacity, 2) if self.capacity else 0.0


def sold_on(past: PastDays, risk: float) -> HostSold:
    """Return how much can be sold on the host of these days. Raises `MomError` where the host's memory is not known."""
    guests, name = past.guests(), printable(past.host, 253)
    total = past.host_kib
    if total is None:
        raise MomError(f"how much memory {name} has was not known when {past.where} was written", hint="enable the plugin host")
    capacity = past.promisable_kib if past.promisable_kib is not None else (1 - HOST_RESERVE_SHARE) * total
    there = _there(guests, datetime.now(UTC).toordinal())
    today = sum(item.sold_kib for item in there)
    found = sold_at_risk([LearnedGuest(item.sold_kib, item.days) for item in there], capacity, risk=risk)
    host = HostSold(name, total, capacity, today, len(there))
    if isinstance(found, str):
        return host._replace(why=found)
    advice = placement_of(name, total, capacity, found.sold)
    return host._replace(found=found, advice=advice if isinstance(advice, PlacementAdvice) else None)


def _there(guests: Sequence[PastGuest], today: int) -> Sequence[PastGuest]:
    """Return those that were there lately: by the last day that is not to come. A clock that was ahead for a while has left such days.

    Tomorrow is not to come, as it has begun elsewhere on earth; if all days are to come, they are of a host with a clock of its own.
    """
    seen = {day for guest in guests for day in guest.days}
    last = max((day for day in seen if day <= today + 1), default=max(seen, default=0))
    return [guest for guest in guests if any(last - THERE_DAYS < day <= last for day in guest.days)]


def told(host: HostSold, risk: float) -> Iterator[str]:
    """What was found of one host, for people; a line each."""
    where = f"{host.host}: " if host.host else ""
    today = f"{format_kib(host.today)} are sold to {host.guests} guests today, {host.ratio_today:.2f} times that"
    if host.found is None:
        yield f"{where}how much can be sold is not known: {host.why}"
        return
    found, more = host.found, "" if host.found.complete else " or more"
    yield (
        f"{where}{format_kib(found.sold)}{more} can be sold of the {format_kib(host.capacity)} that are for guests, {host.ratio:.2f} times "
        f"that: the risk that some guest lacks memory within a month is at most {percent(risk)} ({100 * CONFIDENCE:.0f} % "
        f"confidence; as likely as not, {format_kib(found.middle)} could be)"
    )
    yield f"{today}; learned: {found.days} days of {found.guests} guests"


def percent(share: float) -> str:
    """Return a share for people."""
    return f"{100 * share:.3g} %"


def rows(host: HostSold) -> Sequence[Sequence[str]]:
    """What is to be set where, what it would be, and what follows from what is sold today."""
    if host.advice is None or host.found is None:
        return ()
    ratio, reserved, today = host.advice.ratio, host.advice.reserved_mib, host.ratio_today
    return (
        ("OpenStack nova", f"ram_allocation_ratio, with reserved_host_memory_mb = {reserved}", f"{ratio:.2f}", f"{today:.2f}"),
        ("KubeVirt", "memoryOvercommitPercentage", f"{100 * ratio:.0f}", f"{100 * today:.0f}"),
        ("Apache CloudStack", f"mem.overprovisioning.factor, with host.reserved.mem.mb = {reserved}", f"{ratio:.2f}", f"{today:.2f}"),
        ("Proxmox VE", "memory of all guests together", format_kib(host.found.sold), format_kib(host.today)),
    )


def settings(host: HostSold) -> Mapping[str, Value]:
    """Return the same for programs, by what sells."""
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
    """Return all hosts, for programs."""
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
                "sold_kib": None if host.found is None else round(host.found.sold),
                "sold_middle_kib": None if host.found is None else round(host.found.middle),
                "ratio": host.ratio or None,
                "days": None if host.found is None else host.found.days,
                "why": host.why,
                "settings": settings(host),
            }
            for host in hosts
        ],
    }
