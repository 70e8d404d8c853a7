"""Accounts of mom's gain and cost by hour.

A sample of a guest counts for the seconds since the guest's previous sample. Sizes are in KiB.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mom_core import FieldSpec, Guest, Host, Report, Scope, Status, Unit, Value
from mom_kvm import HealthLimits, PlatformProperties, pages_kib
from mom_plugins_record.report.hours import GIVEN_BACK, HOUR, SOLD, AccountedHour, GuestHour, bin_of, new_sums

LONGEST_GAP: Final = 90.0
"""More seconds between two cycles count as unknown. A restart of mom takes less."""

NOTICEABLE_KIB: Final = 16 * 1024.0
"""mom counts as the cause of a guest's stalls only if it withholds more KiB than this: the smallest step of the balloon law."""

FAULT_SECONDS: Final = 130e-6
"""Assumed stall in seconds per major fault of a guest that reports no stalls. Measured with swap on an SSD (docs/simulator.md)."""

EVICTIONS: Final = frozenset({"guest_migrate", "guest_pause", "guest_save", "guest_shutdown"})

Hour = tuple[AccountedHour, list[GuestHour]]
"""Accounts of the host, and of its guests, for one hour."""


@dataclass(slots=True)
class _TrackedGuest:
    row: GuestHour
    looked: float = 0.0
    touched: float = 0.0
    """Largest size of the guest's process since its start, in KiB. Without mom, the process would still hold this much."""
    killed: float | None = None
    limited: bool = False
    given_back: Sequence[float] | None = None
    """KiB given back at the last sample, for each of `GIVEN_BACK`; None if unknown."""

    def begin(self, hour: int) -> None:
        row = self.row
        self.row = GuestHour(hour, row.name, id=row.id, incarnation=row.incarnation, properties=row.properties)


class Accounts:
    """Accounts of the present hour, and of past hours until `take` returns them.

    :param touched: each guest's last hour before mom started, keyed by guest id
    """

    def __init__(self, touched: Mapping[str, GuestHour] | None = None) -> None:
        self._guests: dict[str, _TrackedGuest] = {}
        self._gone = {identity: _TrackedGuest(row, touched=row.latest["touched_kib"]) for identity, row in (touched or {}).items()}
        self._over: list[Hour] = []
        self._host: AccountedHour | None = None
        self._listed = True
        self._looked: float | None = None
        self._time = 0.0
        self._cpu: float | None = None
        self._ksm: float | None = None

    def add(self, report: Report, cpu_seconds: float | None = None) -> None:
        """Add one cycle.

        :param cpu_seconds: CPU time of mom's process since its start; None if unknown
        """
        snapshot = report.snapshot
        now = snapshot.monotonic
        hour = int(report.time // HOUR)
        host = self._host if self._host is not None and self._host.hour == hour else self._begin(hour)
        elapsed = 0.0 if self._looked is None else now - self._looked
        self._listed = not report.guests_unknown
        if elapsed > LONGEST_GAP or (elapsed and not self._listed):
            host.sums["unknown_seconds"] += max(0.0, report.time - self._time)
            for tracked in self._guests.values():
                tracked.looked += elapsed  # the time before the last cycle stays known
            elapsed = 0.0
        self._add_host(host, report, elapsed, cpu_seconds)
        self._looked, self._time = now, report.time
        if self._listed:
            self._add_guests(host, snapshot.host, snapshot.guests, now)

    def given_back(self) -> Mapping[str, float | None]:
        """Return the KiB given back to the host as of the last cycle, keyed by field; None if unknown. Empty before the first cycle."""
        if self._host is None:
            return {}
        parts = [guest.given_back for guest in self._guests.values() if guest.given_back is not None]
        known = self._listed and (parts or not self._guests)
        sums = {name: math.fsum(part[place] for part in parts) if known else None for place, name in enumerate(GIVEN_BACK)}
        return {**sums, "given_back_ksm": self._ksm}

    def current(self) -> Hour | None:
        """Return the present hour so far; None before the first cycle."""
        host = self._host
        if host is None:
            return None
        rows = [item.row for item in (*self._guests.values(), *self._gone.values())]
        return host, [row for row in rows if row.sums["seconds"] + row.sums["unknown_seconds"] > 0]

    def take(self) -> list[Hour]:
        """Return the hours that have ended since the last call."""
        over, self._over = self._over, []
        return over

    def _begin(self, hour: int) -> AccountedHour:
        if (current := self.current()) is not None:
            self._over.append(current)
        self._host = AccountedHour(hour)
        self._gone = {identity: item for identity, item in self._gone.items() if any(item.row.sums.values())}
        for guest in (*self._guests.values(), *self._gone.values()):
            guest.begin(hour)
        return self._host

    def _add_guests(self, host: AccountedHour, fields: Host, guests: Mapping[str, Guest], now: float) -> None:
        tracked = self._guests
        if tracked.keys() != guests.keys():
            self._update_list(guests, host.hour, now)
        swapped, ratio = fields.number("swap_usage"), fields.number("offload_ratio")
        swap_share = _swap_share(swapped, guests.values()) if swapped else 0.0
        gain = 1.0 if ratio is None else max(0.0, 1 - 1 / ratio) if ratio > 0 else 0.0
        total = new_sums()
        for guest in guests.values():
            item = tracked[guest.id]
            seconds, item.looked = now - item.looked, now
            row = item.row
            row.name, row.properties = guest.name, PlatformProperties.listed(guest)
            if row.incarnation != guest.incarnation:
                row.incarnation = guest.incarnation
                item.touched, item.killed = 0.0, None
            get: _Get = guest.fields.get
            row.service_class = get("sla_class") or row.service_class
            if (sizes := _sizes(item, get, seconds, swap_share, gain)) is None:
                continue
            _add_use(row, get, seconds)
            for name, value in (sizes | _harm(item, get, seconds)).items():
                row.sums[name] += value
                total[name] += value
        for name, value in total.items():
            host.sums[f"guests_{name}"] += value

    def _update_list(self, guests: Mapping[str, Guest], hour: int, now: float) -> None:
        tracked = self._guests
        for identity in tracked.keys() - guests.keys():
            self._gone[identity] = tracked.pop(identity)
        for identity in guests.keys() - tracked.keys():
            guest = guests[identity]
            item = self._gone.pop(identity, None) or _TrackedGuest(GuestHour(hour, guest.name, id=identity, incarnation=guest.incarnation))
            item.looked = now
            tracked[identity] = item

    def _add_host(self, row: AccountedHour, report: Report, elapsed: float, cpu_seconds: float | None) -> None:
        host, guests = report.snapshot.host, report.snapshot.guests
        row.name, sums = host.name, row.sums
        row.latest["began"], row.latest["ended"] = row.latest["began"] or report.time - elapsed, report.time
        sums["cycles"] += 1
        sums["seconds"] += elapsed
        sums["evictions"] += sum(
            outcome.status is Status.APPLIED and outcome.decision.control in EVICTIONS and bool(outcome.decision.value)
            for outcome in report.outcomes
        )
        if cpu_seconds is not None:
            if self._cpu is not None and elapsed:
                sums["mom_cpu_seconds"] += max(0.0, cpu_seconds - self._cpu)
                sums["mom_cpu_known_seconds"] += elapsed
            self._cpu = cpu_seconds
        _add_memory(row, host, elapsed)
        self._ksm = host.number("ksm_saved")
        if self._ksm is not None:
            # Guests do not hold zero pages that KSM has replaced.
            self._ksm -= pages_kib(host.fields, "ksm_zero_pages")
            row.add_size("ksm", self._ksm, elapsed)
        row.add_share("stalled", host.number("psi_memory_some_avg10"), elapsed)
        row.add_share("ksmd_cpu", host.number("ksmd_cpu_usage"), elapsed)
        row.latest["promisable_kib"] = host.number("mem_promisable") or row.latest["promisable_kib"]
        sold = sum(guest.row.latest["sold_kib"] for guest in self._guests.values())
        promised = host.number("mem_promised") or 0.0
        for name, value in (("guests_most", len(guests)), ("promised_most_kib", promised), ("sold_most_kib", sold)):
            row.most[name] = max(row.most[name], value)


def _add_memory(row: AccountedHour, host: Host, elapsed: float) -> None:
    total, available = host.number("mem_available"), host.number("mem_really_available")
    if total is None or available is None:
        return
    row.latest["total_kib"] = total
    row.add_spread("used", max(0.0, total - available), elapsed)
    reserve = host.number("mem_watermark_high")
    if reserve is not None:
        row.latest["wanted_kib"] = reserve
        row.sums["below_known_seconds"] += elapsed
        limits = {"wanted": reserve, "hard": host.number("mem_watermark_hard"), "low": host.number("mem_watermark_low")}
        for name, limit in limits.items():
            row.sums[f"below_{name}_seconds"] += elapsed * (available < (limit or 0.0))


_Get = Callable[[str], Any]


_SIZES: Final = tuple(f"{name}_kib_seconds" for name in (*SOLD, *GIVEN_BACK))


def _sizes(guest: _TrackedGuest, get: _Get, seconds: float, swap_share: float, gain: float) -> dict[str, float] | None:
    # `swap_share`: assumed swap, if unknown, as a fraction of held memory. `gain`: fraction of cold memory that the host gains, less than 1
    # with compression in memory.
    row = guest.row
    sold, size, held = get("balloon_max"), get("balloon_cur"), get("rss")
    if sold is None or size is None or held is None:
        row.sums["unknown_seconds"] += seconds
        guest.given_back = None
        return None
    swapped = get("host_swap")
    if swapped is None:
        swapped = held * swap_share
    away = held + swapped
    ballooned = max(sold - size, 0.0)
    guest.touched = touched = max(guest.touched, away)
    returned = touched - away
    by_balloon = min(ballooned, returned)
    by_cold = gain * min(get("offloaded") or 0.0, swapped)
    untaken, beyond = max(size - away, 0.0), max(away - size, 0.0) + max(size - sold, 0.0)
    guest.given_back = (by_balloon, returned - by_balloon, by_cold)
    guest.limited = ballooned > NOTICEABLE_KIB or by_cold > NOTICEABLE_KIB
    row.latest["sold_kib"], row.latest["touched_kib"] = sold, touched
    row.add_time("held", bin_of(held), seconds)
    row.sums["seconds"] += seconds
    sizes = (sold, size, held, swapped, ballooned, untaken, beyond, *guest.given_back)
    return {name: kib * seconds for name, kib in zip(_SIZES, sizes, strict=True)}


def _add_use(row: GuestHour, get: _Get, seconds: float) -> None:
    if (usable := get("mem_usable")) is not None:
        row.add_spread("used", max(get("balloon_cur") - usable, 0.0), seconds)
    if (merged := get("host_ksm_profit")) is not None:
        row.add_size("ksm", merged, seconds)


def _harm(guest: _TrackedGuest, get: _Get, seconds: float) -> dict[str, float]:
    stalled, faults, kills, promised = map(get, ("guest_psi_memory_some_avg10", "major_fault", "guest_oom_kills", "mem_promised"))
    share = stalled / 100 if stalled is not None else None if faults is None else faults * FAULT_SECONDS
    harm: dict[str, float] = {}
    if share is not None:
        waited = max(0.0, min(share, 1.0)) * seconds
        harm |= {"waiting_known_seconds": seconds, "waited_seconds": waited, "waited_for_mom_seconds": waited if guest.limited else 0.0}
    if kills is not None:
        harm |= {"killed_known_seconds": seconds, "killed": 0 if guest.killed is None else max(0, int(kills - guest.killed))}
        guest.killed = kills
    if promised is not None:
        broken = HealthLimits.breaks(get("balloon_cur"), promised)
        harm["promise_broken_seconds" if broken else "promise_kept_seconds"] = seconds
    return harm


def _swap_share(swapped: float, guests: Iterable[Guest]) -> float:
    held = reported = 0.0
    for guest in guests:
        swap = guest.number("host_swap")
        if swap is None:
            held += guest.number("rss") or 0.0
        else:
            reported += swap
    return max(0.0, swapped - reported) / held if held else 0.0


_NOW: Final = "in the last cycle"

FIELDS: Final = tuple(
    FieldSpec(name, unit, Scope.HOST, description, "mom's accounts", FieldSpec.Metric.GAUGE)
    for name, unit, description in (
        ("given_back_balloon", Unit.KIB, f"memory that guests once held, now in balloons, {_NOW}"),
        ("given_back_sweeps", Unit.KIB, f"memory that guests once held, returned by sweeps or free page reporting, {_NOW}"),
        ("given_back_ksm", Unit.KIB, f"memory that KSM saves, without empty pages, {_NOW}"),
        ("given_back_cold", Unit.KIB, f"cold memory of guests that mom moved to swap, minus its compressed size, {_NOW}"),
        ("given_back_today", Unit.KIB, "average memory given back since midnight, UTC: balloons, sweeps, KSM and swap together"),
        ("waited_today", Unit.SECONDS, "upper limit of guests' waiting time because of mom since midnight, UTC, summed over guests"),
        ("promise_broken_today", Unit.SECONDS, "time since midnight, UTC, in which promises were broken, summed over guests"),
        ("killed_today", Unit.COUNT, "OOM kills in guests since midnight, UTC"),
    )
)


def values_of(now: Mapping[str, float | None], today: AccountedHour) -> Mapping[str, Value]:
    """Return the values of `FIELDS`, keyed by name. Unknown values are None or absent.

    :param now: from `Accounts.given_back`
    :param today: sums since midnight, UTC
    """
    values: dict[str, Value] = {name: None if kib is None else int(kib) for name, kib in now.items()}
    sums = today.sums
    if seconds := sums["seconds"]:
        sizes_known = sums["guests_sold_kib_seconds"] > 0 or not today.most["guests_most"]
        given_back = sum(sums[f"guests_{name}_kib_seconds"] for name in GIVEN_BACK) + sums["ksm_kib_seconds"]
        values["given_back_today"] = int(given_back / seconds) if sizes_known else None
        values["waited_today"] = sums["guests_waited_for_mom_seconds"] if sums["guests_waiting_known_seconds"] else None
        values["promise_broken_today"] = sums["guests_promise_broken_seconds"] if sizes_known else None
        values["killed_today"] = int(sums["guests_killed"]) if sums["guests_killed_known_seconds"] else None
    return values
