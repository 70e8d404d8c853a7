"""The books that mom keeps of what it has brought and cost: sums by the hour, of the host and of each guest. Pure: reports in, sums out.

All sums are of a size or a state times the seconds for which it stood: each look at a guest speaks for the time since the look before.
docs/report.md defines every number. Sizes in KiB.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import partial
from math import log
from typing import Any, Final

from mom_core import Guest, Host, Report, Status
from mom_kvm import HealthLimits, pages_kib, platform_properties
from mom_plugins_record.report.spread import PER_NATURAL, bin_of

HOUR: Final = 3600.0

LOOKS_EACH_CYCLE: Final = 250
"""Of more guests than these, each cycle looks at a part, in turn: 1,000 guests of a cycle every 5 s are looked at every 20 s, which takes
2 ms of each cycle instead of 3 to 7."""

LONGEST_GAP: Final = 90.0
"""Seconds between two looks beyond which nothing is known of the time between. A mom that is restarted is back within that."""

NOTICEABLE_KIB: Final = 16 * 1024.0
"""KiB that mom must hold back from a guest for its waiting to count as waiting because of mom: the balloon law's least step."""

FAULT_SECONDS: Final = 130e-6
"""Seconds that a program waits for a page from a disk, where a guest tells its faults but not its waiting: measured on real guests whose
swap was on an SSD (docs/simulator.md)."""

LATE_SHARE: Final = 0.05
"""Of its time, what a guest waits that has run out: senpai and oomd call a tenth of that comfortable."""

EVICTIONS: Final = frozenset({"guest_migrate", "guest_pause", "guest_save", "guest_shutdown"})
"""Controls by which a guest has to go."""


_spread: Final = partial(defaultdict[int, float], float)


@dataclass(slots=True)
class GuestHour:
    """One guest in one hour. The names are those of the columns in the file of accounts."""

    hour: int
    id: str
    name: str
    service_class: str = ""
    incarnation: str = ""
    seconds: float = 0.0
    unknown_seconds: float = 0.0
    sold_kib_seconds: float = 0.0
    had_kib_seconds: float = 0.0
    held_kib_seconds: float = 0.0
    swapped_kib_seconds: float = 0.0
    ballooned_kib_seconds: float = 0.0
    untaken_kib_seconds: float = 0.0
    beyond_kib_seconds: float = 0.0
    by_balloon_kib_seconds: float = 0.0
    by_sweeps_kib_seconds: float = 0.0
    by_cold_kib_seconds: float = 0.0
    merged_kib_seconds: float = 0.0
    merged_known_seconds: float = 0.0
    used_kib_seconds: float = 0.0
    used_known_seconds: float = 0.0
    worked_kib_seconds: float = 0.0
    worked_known_seconds: float = 0.0
    waited_seconds: float = 0.0
    waited_for_mom_seconds: float = 0.0
    waiting_known_seconds: float = 0.0
    late_bursts: int = 0
    killed: int = 0
    killed_known_seconds: float = 0.0
    promise_kept_seconds: float = 0.0
    promise_broken_seconds: float = 0.0
    sold_kib: float = 0.0
    touched_kib: float = 0.0
    used_most_kib: float = 0.0
    used_spread: dict[int, float] = field(default_factory=_spread)
    held_spread: dict[int, float] = field(default_factory=_spread)
    worked_spread: dict[int, float] = field(default_factory=_spread)
    properties: Mapping[str, str | list[str]] = field(default_factory=dict)
    """What its platform says of it. It is no column: it seldom changes, and stands in a table of its own."""


@dataclass(slots=True)
class HostHour:
    """Host in one hour, from `began` to `ended` (seconds since the epoch)."""

    hour: int
    name: str = ""
    began: float = 0.0
    ended: float = 0.0
    seconds: float = 0.0
    unknown_seconds: float = 0.0
    cycles: int = 0
    guests_most: int = 0
    guest_seconds: float = 0.0
    total_kib_seconds: float = 0.0
    available_kib_seconds: float = 0.0
    memory_known_seconds: float = 0.0
    ksm_kib_seconds: float = 0.0
    ksm_known_seconds: float = 0.0
    swapped_kib_seconds: float = 0.0
    stalled_seconds: float = 0.0
    stalled_known_seconds: float = 0.0
    below_wanted_seconds: float = 0.0
    below_hard_seconds: float = 0.0
    below_low_seconds: float = 0.0
    limits_known_seconds: float = 0.0
    ksmd_cpu_seconds: float = 0.0
    ksmd_known_seconds: float = 0.0
    mom_cpu_seconds: float = 0.0
    mom_known_seconds: float = 0.0
    evictions: int = 0
    guests_sold_kib_seconds: float = 0.0
    guests_held_kib_seconds: float = 0.0
    guests_by_balloon_kib_seconds: float = 0.0
    guests_by_sweeps_kib_seconds: float = 0.0
    guests_by_cold_kib_seconds: float = 0.0
    guests_waited_for_mom_seconds: float = 0.0
    guests_waiting_known_seconds: float = 0.0
    guests_killed: int = 0
    guests_killed_known_seconds: float = 0.0
    guests_promise_broken_seconds: float = 0.0
    total_kib: float = 0.0
    wanted_kib: float = 0.0
    used_most_kib: float = 0.0
    sold_most_kib: float = 0.0
    promised_most_kib: float = 0.0
    promisable_kib: float = 0.0
    used_spread: dict[int, float] = field(default_factory=_spread)


GUESTS: Final = "guests_"
"""How a host's sums over its guests begin; the rest is what they are called in a guest's row."""


def with_guests(host: HostHour, guests: Iterable[GuestHour]) -> HostHour:
    """Return the host's hour with what its guests come to together."""
    rows = list(guests)
    names = [item.name for item in fields(HostHour) if item.name.startswith(GUESTS) and item.name != "guests_most"]
    return replace(host, **{name: sum(getattr(row, name.removeprefix(GUESTS)) for row in rows) for name in names})


@dataclass(frozen=True, slots=True)
class Touched:
    """Size that a guest's process has held at the most since the guest was started, in KiB: it would still hold that without mom."""

    incarnation: str
    kib: float


@dataclass(slots=True)
class _Followed:
    """Guest from look to look."""

    row: GuestHour
    looked: float
    touched: float = 0.0
    killed: float | None = None
    late: bool = False
    kept: bool = False
    """True if mom holds something back from it."""
    now: tuple[float, float, float] | None = None
    """KiB given back by balloon, sweeps and offloading, at the last look; None: unknown."""


@dataclass(frozen=True, slots=True)
class GivenBack:
    """Memory that the host has back now, in KiB by each means, as of the last cycle. None: unknown."""

    balloon: float | None = None
    sweeps: float | None = None
    cold: float | None = None
    ksm: float | None = None


class Accounts:
    """Books. `add` takes each cycle's report; `take` gives hours that are over, and `current` the one that is not.

    :param touched: what is known of guests from before, by their ids
    """

    def __init__(self, touched: Mapping[str, Touched] | None = None) -> None:
        self._touched = dict(touched or {})
        """Of guests that are not there: of those that left in the hour before this one. Hours in which guests were not listed once do not
        count."""
        self._touched_before: dict[str, Touched] = {}
        """The same an hour earlier; older ones are forgotten."""
        self._guests: dict[str, _Followed] = {}
        self._over: list[tuple[HostHour, list[GuestHour]]] = []
        self._gone: dict[str, _Followed] = {}
        self._host: HostHour | None = None
        self._listed = True
        """Whether it was known in the last cycle which guests there are."""
        self._listed_once = False
        """Whether it was known once in this hour."""
        self._looked: float | None = None
        self._time = 0.0
        self._cpu: float | None = None
        self._turn = 0
        self._ksm: float | None = None

    def add(self, report: Report, cpu_seconds: float | None = None) -> None:
        """Take in one cycle.

        :param cpu_seconds: CPU time of mom's process since its start; None: unknown
        """
        snapshot = report.snapshot
        now, guests = snapshot.monotonic, snapshot.guests
        hour = int(report.time // HOUR)
        host = self._host
        if host is None or hour != host.hour:
            host = self._turn_to(hour)
        elapsed = 0.0 if self._looked is None else now - self._looked
        self._listed = not _guests_unknown(report)
        if elapsed > LONGEST_GAP or (elapsed and not self._listed):  # mom was away, or as good as
            host.unknown_seconds += max(0.0, report.time - self._time)
            for account in self._guests.values():
                account.looked += elapsed  # what is before the last cycle is known of the host, too
            elapsed = 0.0
        self._add_host(host, report, elapsed, cpu_seconds)
        self._looked, self._time = now, report.time
        if not self._listed:
            return
        self._listed_once = True
        swapped = snapshot.host.number("swap_usage")
        spread_swap = _swap_share(swapped, guests.values()) if swapped else 0.0
        ratio = snapshot.host.number("offload_ratio")
        gained = 1.0 if ratio is None else max(0.0, 1 - 1 / ratio) if ratio > 0 else 0.0
        followed = self._guests
        if followed.keys() != guests.keys():
            self._come_and_go(guests, hour, now)
        parts = -(-len(guests) // LOOKS_EACH_CYCLE)
        due: Iterable[Guest] = guests.values()
        if parts > 1:
            self._turn = (self._turn + 1) % parts
            due = list(due)[self._turn :: parts]
        for guest in due:
            account = followed[guest.id]
            seconds = now - account.looked
            account.looked = now
            row = account.row
            row.name, row.properties = guest.name, platform_properties(guest)
            if row.incarnation != guest.incarnation:
                row.incarnation = guest.incarnation
                account.touched, account.killed = 0.0, None
            known: Any = guest.fields  # the engine drops what is not of the type that was declared
            row.service_class = known.get("sla_class") or row.service_class
            if _sizes(account, known.get, seconds, spread_swap, gained):
                _uses(row, known.get, seconds)
                _signs(account, known.get, seconds)

    def given_back(self) -> GivenBack | None:
        """As of the last cycle; None before the first."""
        if self._host is None:
            return None
        means = [guest.now for guest in self._guests.values() if guest.now is not None]
        if not self._listed or (self._guests and not means):
            return GivenBack(ksm=self._ksm)
        balloon, sweeps, cold = (math.fsum(mean[n] for mean in means) for n in range(3))
        return GivenBack(balloon, sweeps, cold, self._ksm)

    def current(self) -> tuple[HostHour, list[GuestHour]] | None:
        """Return the hour that is not over, as it is now; None before the first cycle."""
        if self._host is None:
            return None
        rows = [item.row for item in (*self._guests.values(), *self._gone.values())]
        return self._host, [row for row in rows if row.seconds + row.unknown_seconds > 0]

    def take(self) -> list[tuple[HostHour, list[GuestHour]]]:
        """Return the hours that are over since this was called last."""
        over, self._over = self._over, []
        return over

    # --- inside ----------------------------------------------------------------------------------------------------------------

    def _turn_to(self, hour: int) -> HostHour:
        current = self.current()
        if current is not None:
            self._over.append(current)
        self._host = host = HostHour(hour)
        if self._listed_once:  # else no guest could come back in that hour, and none is known to be gone
            gone = {identity: Touched(guest.row.incarnation, guest.touched) for identity, guest in self._gone.items()}
            self._touched_before, self._touched, self._gone = self._touched, gone, {}
            self._listed_once = False
        for guest in self._guests.values():
            row = guest.row
            # The class is to be told in each hour: guest that was taken from the guest would stay for ever.
            guest.row = GuestHour(hour, row.id, row.name, incarnation=row.incarnation, properties=row.properties)
        return host

    def _come_and_go(self, guests: Mapping[str, Guest], hour: int, now: float) -> None:
        followed = self._guests
        for identity in followed.keys() - guests.keys():
            self._gone[identity] = followed.pop(identity)
        for identity in guests.keys() - followed.keys():
            guest = guests[identity]
            if (back := self._gone.pop(identity, None)) is not None:  # an hour of a guest has one row
                back.looked = now
                followed[identity] = back
                continue
            before = self._touched.pop(identity, None) or self._touched_before.pop(identity, None)
            known = before.kib if before is not None and before.incarnation == guest.incarnation else 0.0
            followed[identity] = _Followed(GuestHour(hour, identity, guest.name, incarnation=guest.incarnation), now, known)

    def _add_host(self, row: HostHour, report: Report, elapsed: float, cpu_seconds: float | None) -> None:
        host, guests = report.snapshot.host, report.snapshot.guests
        row.name = host.name
        row.began, row.ended = row.began or report.time - elapsed, report.time
        row.cycles += 1
        row.seconds += elapsed
        row.guests_most = max(row.guests_most, len(guests))
        row.guest_seconds += elapsed * len(guests)
        for outcome in report.outcomes:
            if outcome.status is Status.APPLIED and outcome.decision.control in EVICTIONS and outcome.decision.value:
                row.evictions += 1
        if cpu_seconds is not None:
            if self._cpu is not None and elapsed:
                row.mom_cpu_seconds += max(0.0, cpu_seconds - self._cpu)
                row.mom_known_seconds += elapsed
            self._cpu = cpu_seconds
        _add_memory(row, host, elapsed)
        self._ksm = host.number("ksm_saved")
        if self._ksm is not None:
            # Empty pages that KSM has replaced are in no process' memory any more: they count as what guests do not hold.
            self._ksm -= pages_kib(host.fields, "ksm_zero_pages")
            row.ksm_kib_seconds += self._ksm * elapsed
            row.ksm_known_seconds += elapsed
        row.swapped_kib_seconds += (host.number("swap_usage") or 0.0) * elapsed
        stalled = host.number("psi_memory_some_avg10")
        if stalled is not None:
            row.stalled_seconds += elapsed * stalled / 100
            row.stalled_known_seconds += elapsed
        busy = host.number("ksmd_cpu_usage")
        if busy is not None:
            row.ksmd_cpu_seconds += elapsed * busy / 100
            row.ksmd_known_seconds += elapsed
        row.promised_most_kib = max(row.promised_most_kib, host.number("mem_promised") or 0.0)
        row.promisable_kib = host.number("mem_promisable") or row.promisable_kib
        row.sold_most_kib = max(row.sold_most_kib, sum(guest.row.sold_kib for guest in self._guests.values()))


def _guests_unknown(report: Report) -> bool:
    """Return True if the hypervisor did not list its guests, which the core says as a condition: that there are none is not known then.

    Guests that are listed are known, though the condition stands a little longer.
    """
    verdict = report.verdict
    return (
        not report.snapshot.guests
        and verdict is not None
        and any(condition.name == "guests" and not condition.over for condition in verdict.conditions)
    )


def _add_memory(row: HostHour, host: Host, elapsed: float) -> None:
    """Add the memory that the host used, and how near it was to its limits."""
    total, available = host.number("mem_available"), host.number("mem_really_available")
    if total is not None and available is not None:
        used = max(0.0, total - available)
        row.total_kib = total
        row.memory_known_seconds += elapsed
        row.total_kib_seconds += total * elapsed
        row.available_kib_seconds += available * elapsed
        row.used_most_kib = max(row.used_most_kib, used)
        row.used_spread[bin_of(used)] += elapsed
        wanted = host.number("mem_watermark_high")
        if wanted is not None:
            row.wanted_kib = wanted
            row.limits_known_seconds += elapsed
            row.below_wanted_seconds += elapsed * (available < wanted)
            row.below_hard_seconds += elapsed * (available < (host.number("mem_watermark_hard") or 0.0))
            row.below_low_seconds += elapsed * (available < (host.number("mem_watermark_low") or 0.0))


_Get = Callable[[str], Any]
"""How the fields of a guest are got. A thousand guests take a thousand times what follows: no call that can be spared."""


def _sizes(one: _Followed, get: _Get, seconds: float, spread_swap: float, gained: float) -> bool:
    """Return where what the guest was sold is, and what was given back of it; False where its sizes are unknown.

    :param spread_swap: of what each guest holds, what of it counts as swapped out besides, where it does not say so (ratio)
    :param gained: of cold memory, what the host has by moving it: less than all where it is compressed in the host's memory (ratio)
    """
    row = one.row
    sold, size, held = get("balloon_max"), get("balloon_cur"), get("rss")
    if sold is None or size is None or held is None:
        row.unknown_seconds += seconds
        one.now = None
        return False
    swapped = get("host_swap")
    if swapped is None:
        swapped = held * spread_swap
    away = held + swapped
    ballooned = sold - size if sold > size else 0.0
    touched = one.touched
    if away > touched:
        one.touched = touched = away
    returned = touched - away
    by_balloon = ballooned if ballooned < returned else returned
    by_cold = 0.0
    row.seconds += seconds
    if swapped:
        offloaded = get("offloaded") or 0.0
        by_cold = gained * (offloaded if offloaded < swapped else swapped)
        row.swapped_kib_seconds += swapped * seconds
        row.by_cold_kib_seconds += by_cold * seconds
    row.sold_kib = sold
    row.touched_kib = touched
    row.sold_kib_seconds += sold * seconds
    row.had_kib_seconds += size * seconds
    row.held_kib_seconds += held * seconds
    row.ballooned_kib_seconds += ballooned * seconds
    if size > away:
        row.untaken_kib_seconds += (size - away) * seconds
    else:
        row.beyond_kib_seconds += (away - size) * seconds
    if size > sold:
        row.beyond_kib_seconds += (size - sold) * seconds
    row.by_balloon_kib_seconds += by_balloon * seconds
    row.by_sweeps_kib_seconds += (returned - by_balloon) * seconds
    one.now = (by_balloon, returned - by_balloon, by_cold)
    one.kept = ballooned > NOTICEABLE_KIB or by_cold > NOTICEABLE_KIB
    row.held_spread[int(log(held) * PER_NATURAL) if held > 1 else 0] += seconds
    usable = get("mem_usable")
    if usable is not None:
        used = size - usable if size > usable else 0.0
        row.used_kib_seconds += used * seconds
        row.used_known_seconds += seconds
        row.used_most_kib = max(row.used_most_kib, used)
        row.used_spread[int(log(used) * PER_NATURAL) if used > 1 else 0] += seconds
    return True


def _uses(row: GuestHour, get: _Get, seconds: float) -> None:
    """Add what it works on, and what KSM saves in it, where that is told."""
    worked = get("working_set")
    if worked is not None:
        row.worked_kib_seconds += worked * seconds
        row.worked_known_seconds += seconds
        row.worked_spread[int(log(worked) * PER_NATURAL) if worked > 1 else 0] += seconds
    merged = get("host_ksm_profit")
    if merged is not None:
        row.merged_kib_seconds += merged * seconds
        row.merged_known_seconds += seconds


def _signs(one: _Followed, get: _Get, seconds: float) -> None:
    """How it fares: its waiting, programs killed in it, whether it has what it is promised."""
    row = one.row
    stalled, faults = get("guest_psi_memory_some_avg10"), get("major_fault")
    if stalled is not None or faults is not None:
        share = stalled / 100 if stalled is not None else faults * FAULT_SECONDS
        row.waiting_known_seconds += seconds
        if share > 0:
            share = min(share, 1.0)
            row.waited_seconds += share * seconds
            if one.kept:
                row.waited_for_mom_seconds += share * seconds
        late = one.kept and share >= LATE_SHARE
        if late and not one.late:
            row.late_bursts += 1
        one.late = late
    killed = get("guest_oom_kills")
    if killed is not None:
        row.killed_known_seconds += seconds
        if one.killed is not None and killed > one.killed:
            row.killed += int(killed - one.killed)
        one.killed = killed
    promised = get("mem_promised")
    if promised is not None:
        if HealthLimits.breaks(get("balloon_cur"), promised):
            row.promise_broken_seconds += seconds
        else:
            row.promise_kept_seconds += seconds


def _swap_share(swapped: float, guests: Iterable[Guest]) -> float:
    """Return the part of each guest in swap, as a ratio of what its process holds, where guests do not say: the whole of the host's swap,
    as if guests alone were in it, so that nothing that the kernel has swapped out counts as given back.
    """
    held = known = 0.0
    for guest in guests:
        told = guest.number("host_swap")
        if told is None:
            held += guest.number("rss") or 0.0
        else:
            known += told
    return max(0.0, swapped - known) / held if held else 0.0
