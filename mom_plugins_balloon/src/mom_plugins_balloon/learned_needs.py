"""What guests have taught: how much each uses in its bursts, what it was seen to wait without, what its process holds beside it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

from mom_core import Value
from mom_kvm import HealthLimits
from mom_plugins_balloon.ballooned_guests import PINNED, SAME_STATISTICS_SECONDS, BalloonedGuest, BalloonedGuests, LearntNeeds
from mom_plugins_balloon.law.reasons import ReasonCode
from mom_plugins_balloon.names import KEPT, REASON, SUGGESTED
from mom_plugins_balloon.remembered import SizeRequest
from mom_plugins_balloon.sweep.records import SweepEnd, SweepOutcome

PROCESS_KIB = 64 * 1024.0
"""KiB. What QEMU holds beside a guest's memory, until that is known: 48 MiB with KVM, more without. Too little costs one vain sweep."""

VAIN_SHARE = 0.5
VAIN_KIB = 40 * 1024.0
"""Ratio, and KiB. Of what a guest was swept for as idle, the host gets nearly all back when it was. If it gets less than half, it was not:
QEMU holds more beside the guest than was thought. No guest is swept for less than 48 MiB, and what is idle is seen a bit later here."""

STRAY_KIB = 16 * 1024.0
"""KiB. By so much a process goes up and down from one look to the next."""

FREED_SECONDS = 60.0
"""s. What a guest has freed longer ago is of no interest: free pages have been reported by then."""

PAIN_FAULTS = 50.0
"""Page faults a second. A guest that waits for so many pages from a disk of 100 us loses half a percent of its time: the first that can be
told from the few that every program causes."""

PAIN_PERCENT = 2.0
"""Percent of the time in which some program waited for memory, where an agent tells it (PSI, average of 10 s). It counts waiting for memory
only, so little is enough; a percent is what a balloon that moves costs by itself."""

PAIN_STEP_KIB = 32 * 1024.0
"""KiB. By how much more a guest has, next time, than when it waited: two least steps of the policy."""

PAIN_STEP_SHARE = 0.25
"""The same as a ratio of what was usable then, whichever is more: a cache of many GiB is not found in steps of 32 MiB."""

KILLED_SHARE = 0.5
"""Ratio of what a guest lacked of its maximum when its kernel killed programs: it is to have so much more."""

KEPT_SECONDS = 60.0
"""s. A guest that got memory because it ran out keeps it for so long: one that needs it runs out again before, as most programs that were
killed are started anew within half a minute."""

FREE_SHARE = 0.5
"""Ratio. Where more of what is usable holds nothing at all, the page cache could grow and has not: what is read is read for the first time,
or after memory was given back."""

LATE_SECONDS = 3.0
"""s. Statistics of a guest may be so much older than they say: they come once in 2 s, and hypervisors tell their time late by a second. A
total from before a sweep says nothing of what the kernel counts."""

CALM_SHARE = 0.6
BURST_SHARE = 0.8
"""Ratios of a guest's peak. A burst has come again when its use was less than the first and is more than the second."""

BETWEEN_BURSTS_SECONDS = 5.0
"""s. A use that was as large so long ago was another burst."""

GROWTH_FACTOR = 2.0
"""Ratio. How much faster a guest may have grown for a moment than between two statistics, which are two seconds apart: a burst of 700 MiB
takes them."""

_TOLD = ("rss", "balloon_cur", "stats_age", "mem_available", "mem_usable", "mem_unused", "mem_disk_caches", "swap_in", "major_fault",
         "host_swap", "guest_psi_memory_some_avg10", "guest_oom_kills", "balloon_max")  # fmt: skip
"""The fields that are learnt from; those of swap, pressure and kills are of few guests."""

_RAN_OUT = frozenset({ReasonCode.RUNS_OUT, ReasonCode.FORECAST})

_SWAPPED, _KILLS = _TOLD.index("host_swap"), _TOLD.index("guest_oom_kills")

REACTION_SECONDS = 3.0
"""From a guest's growth until memory that others do not use has come back: a second until its statistics tell, half a second for a cycle,
half a second to sweep 0.5 GiB, and as much again."""


class Learning:
    """Learns from all guests; `see` takes in the last snapshot, `columns` says what was learnt until then.

    :param memory_seconds: for how long a burst counts in full, and after that until a third of it is left
    :param growth_rate: KiB/s that a guest may grow by that was not seen for so long
    """

    def __init__(self, memory_seconds: float, growth_rate: float) -> None:
        self._seconds = memory_seconds
        self._unseen = growth_rate
        self._growth: deque[tuple[float, float]] = deque()
        self._growth_at = -math.inf
        self._seen = -math.inf
        self._there = -math.inf
        self.growth_kib = 0.0
        """The most that guests took from the host together within the time of a reaction, lately."""
        self.room_kib = 0.0
        """The memory that guests could take from the host: what they have, and the host has not backed with memory."""

    def see(self, records: BalloonedGuests) -> None:
        """Take in what all guests say now.

        Without any guest the hypervisor is away, as when libvirtd is restarted: they are waited for, for as long as a burst is remembered.
        What they took meanwhile was not taken at once.
        """
        snapshot = records.snapshot
        now, grown, room = snapshot.monotonic, 0.0, 0.0
        if snapshot.guests:
            self._there = now
        else:
            for memory in records:
                if memory.learnt is not None:
                    memory.learnt.rss = None
            self.room_kib = self.room_kib if now - self._there <= self._seconds else 0.0
            self._note_growth(now, 0.0)
            return
        columns = [snapshot.numbers(name) for name in _TOLD]
        if snapshot.host.number("swap_usage") == 0:  # else what is in swap of a guest that does not tell is unknown
            columns[_SWAPPED] = [kib or 0.0 for kib in columns[_SWAPPED]]
        told = zip(*columns, strict=True)
        for guest, memory, numbers in zip(snapshot.listed, records.of_all(snapshot.listed), told, strict=True):
            known, rss, size = memory.learnt, numbers[0], numbers[1]
            # What is pinned is backed, or comes from a pool of its own. Of a guest whose process is unknown, all counts.
            if size is not None and not guest.properties.get(PINNED):
                process = PROCESS_KIB if known is None else known.qemu_overhead
                backed = rss - process if rss is not None and rss > process else 0.0
                room += size - backed if size > backed else 0.0
            if known is None:
                known = memory.learnt = _met(now, numbers)
                if known is None:
                    continue
            else:
                before = known.rss
                if rss is not None and before is not None:
                    if rss > before:
                        grown += _taken(known, now, before, rss)
                    elif before - rss > STRAY_KIB:
                        known.freed_at = now
                self._hear(known, now, numbers, memory.request)
            if numbers[_KILLS] is not None:
                self._see_kills(known, now, numbers)
            known.rss, known.size = rss, size
            if rss is not None:
                stored = rss + (numbers[_SWAPPED] or 0.0)  # what is in the host's swap holds something, too
                known.stored_most = max(known.stored_most, stored)
                known.hollow = known.stored_most - stored
        self._keep_headroom(records)
        self.room_kib = room
        self._note_growth(now, grown)

    def _hear(self, known: LearntNeeds, now: float, numbers: Sequence[float | None], request: SizeRequest | None) -> None:
        """What a guest's statistics tell, if they are new, and what its process holds beside it. One function, as it is for every guest
        and cycle; what is for few of them stands apart.

        :param numbers: as `_TOLD`
        """
        rss, size, age, total, usable, unused, caches, swap_in, faults, swapped, stalled, *_ = numbers
        if age is None or total is None or usable is None:
            return
        said = now - age
        passed = said - known.said
        if passed > SAME_STATISTICS_SECONDS:
            known.said = said
            before, known.used = known.used, total - usable if total > usable else 0.0
            if before - known.used > STRAY_KIB:
                known.freed_at = now
            rate = max(0.0, (known.used - before) / passed)
            known.growth = max(rate, rate + (known.growth - rate) * math.exp(-passed / self._seconds))
            stays = total == known.total == known.total_told and size == known.size == known.size_told
            if stays and size is not None and size - total == known.kernel_reserved:
                had: float | None = total  # as of nearly all guests
            else:
                had = _follow(known, total, size, request)
            if had is not None:
                used = had - usable if had > usable else 0.0
                away = 0.0 if request is None else _away(request, had + (known.kernel_reserved or 0.0))
                share = _cache_share(usable, unused, caches, away)
                if share < known.cache_share:  # the most that was seen lately
                    share = known.cache_share + (share - known.cache_share) * -math.expm1(-passed / self._seconds)
                known.cache_share = share
                self._see_burst(known, used)
                if used >= known.peak or said - known.peak_at > self._seconds:
                    self._remember_peak(known, passed, used)
                # Nearly no guest waits: that one which does is looked at more closely.
                pained = bool(swap_in or faults or stalled) and _pained(usable, unused, swap_in, faults, stalled)
                if pained or known.pained or known.hurts:
                    self._remember_pain(known, passed, usable, pained)
        if unused is not None and size is not None and rss is not None and known.kernel_reserved is not None:
            known.held = held = known.kernel_reserved + (total if known.total is None else known.total) - unused
            # What is in the host's swap is backed, too: while that is unknown, the process may only seem small. And what the statistics
            # from before a change call held may have gone with the balloon.
            if swapped is not None and known.total is not None and (request is None or known.said > request.asked + 1.0):
                known.qemu_overhead = min(known.qemu_overhead, max(0.0, rss + swapped - held))

    def _see_burst(self, known: LearntNeeds, used: float) -> None:
        """How much a guest's use has risen by to near its peak, more than once.

        :param used: by its last statistics, which the peak does not count yet
        """
        if known.said - known.burst_at > self._seconds:
            known.burst = 0.0
        if used <= CALM_SHARE * known.peak:
            known.calm, known.rises = min(used, known.calm), False
            return
        again = known.rises or known.said - known.peak_at > BETWEEN_BURSTS_SECONDS
        if again and used >= BURST_SHARE * known.peak and known.calm < math.inf:
            known.burst, known.burst_at, known.rises = max(known.burst, used - known.calm), known.said, True

    def _remember_peak(self, known: LearntNeeds, passed: float, used: float) -> None:
        """The most that was seen lately of what the guest used.

        :param passed: seconds since its statistics before
        """
        if used > known.peak:
            known.peak, known.peak_at = used, known.said
        elif used == known.peak:
            known.peak_at = known.said
        else:
            known.peak = used + (known.peak - used) * math.exp(-passed / self._seconds)

    def _remember_pain(self, known: LearntNeeds, passed: float, usable: float, pained: bool) -> None:
        """The most that was usable lately in the guest when it waited.

        :param passed: seconds since its statistics before
        """
        # Twice in a row: a program that starts waits for its pages, too, but once, and whatever the guest has.
        again, known.pained = known.pained and pained, pained
        if again:
            hurts = usable + max(PAIN_STEP_KIB, PAIN_STEP_SHARE * usable)
            if hurts >= known.hurts:
                known.hurts, known.hurts_at = hurts, known.said
        elif known.said - known.hurts_at > self._seconds:
            known.hurts *= math.exp(-passed / self._seconds)

    def _see_kills(self, known: LearntNeeds, now: float, numbers: Sequence[float | None]) -> None:
        """What a guest was killed without: its kernel has killed programs while it had less than it can have. How much these wanted is
        unknown, and statistics come too seldom to tell: so it is a part of what the guest lacked.

        :param numbers: as `_TOLD`
        """
        size, usable, kills, maximum = numbers[1], numbers[4], numbers[_KILLS], numbers[-1]
        before, known.kills = known.kills, kills
        if before is None or kills is None or kills <= before or size is None or maximum is None or usable is None:
            return
        lacked = maximum - min(size, size if known.size is None else known.size)  # it may have got some back since
        if lacked > 0:
            known.hurts, known.hurts_at = max(known.hurts, usable + max(PAIN_STEP_KIB, KILLED_SHARE * lacked)), now

    def _keep_headroom(self, records: BalloonedGuests) -> None:
        """Note the usable memory that guests get because they run out of it."""
        snapshot = records.snapshot
        now = snapshot.monotonic
        for listed, memory, reason in zip(snapshot.listed, records.of_all(snapshot.listed), snapshot.column(REASON), strict=True):
            if reason not in _RAN_OUT or memory.learnt is None:
                continue
            guest = snapshot.guests[listed.id]
            size, usable, suggested = guest.number("balloon_cur"), guest.number("mem_usable"), guest.number(SUGGESTED)
            if size is not None and usable is not None and suggested is not None:
                memory.learnt.keep(usable + suggested - size, now, KEPT_SECONDS)

    def _note_growth(self, now: float, grown: float) -> None:
        """How much all guests together took from the host within the time that it takes to react: the most that was seen lately."""
        passed, self._seen = now - self._seen, now
        if grown > 0 and passed < self._seconds:
            self._growth.append((now, grown))
        while self._growth and self._growth[0][0] < now - REACTION_SECONDS:
            self._growth.popleft()
        growth = sum(kib for _, kib in self._growth)
        if growth >= self.growth_kib:
            self.growth_kib, self._growth_at = growth, now
        elif now - self._growth_at > self._seconds:
            self.growth_kib = growth + (self.growth_kib - growth) * math.exp(-passed / self._seconds)

    def columns(self, records: Sequence[BalloonedGuest]) -> dict[str, Sequence[Value]]:
        """What was learnt of these guests, by field; None of a guest where that is nothing."""
        rows = [
            _NOTHING
            if (known := memory.learnt) is None
            else _row(known, self._unseen if self._seen - known.met_at < self._seconds else 0.0, self._seen)
            for memory in records
        ]
        return dict(zip(_FIELDS, zip(*rows, strict=True), strict=False))


_FIELDS = ("mem_used_peak", "mem_used_before", "mem_cache_share", "kernel_reserved", "rss_before", "qemu_overhead", "mem_stall_floor",
           "mem_growth_rate", "mem_burst", "mem_freed_age", "mem_hollow", KEPT)  # fmt: skip
_NOTHING: Sequence[Value] = (None,) * len(_FIELDS)


def _row(known: LearntNeeds, unknown: float, now: float) -> Sequence[Value]:
    """What was learnt of a guest, in the order of `_FIELDS`.

    :param unknown: KiB/s that it may grow by as far as is known, as it was not seen for long
    """
    freed_age = now - known.freed_at
    return (
        int(known.peak + known.ballooned),  # as the guest counts: what is used is compared with it
        int(known.used),
        _thousandths(known.cache_share),
        None if known.kernel_reserved is None else int(known.kernel_reserved),
        None if known.rss is None else int(known.rss),
        None if known.rss is None else int(known.qemu_overhead),
        int(known.hurts) if known.hurts > 0 else None,
        int(max(unknown, GROWTH_FACTOR * known.growth)),
        int(known.burst) if known.burst else None,
        round(freed_age, 1) if freed_age < FREED_SECONDS else None,
        None if known.rss is None else int(known.hollow),
        int(known.kept) if now - known.kept_at < KEPT_SECONDS else None,
    )


def _thousandths(ratio: float) -> float:
    return round(ratio * 1000) / 1000  # a third of the time of round(…, 3)


def learn_from_sweep(known: LearntNeeds, outcome: SweepOutcome) -> bool:
    """Learn what a guest's process holds beside what the guest holds: where the guest has given all that seemed idle, and the host got next
    to nothing. What is less than all may have been memory that the guest never used. True if something was learnt."""
    if outcome.resident is None or known.held is None:
        return False
    backed, size = max(0.0, outcome.resident + outcome.gave - known.qemu_overhead), outcome.plan.size
    idle, hollow, given = backed - known.held, max(0.0, size - backed), size - outcome.lowest
    whole = outcome.end in {SweepEnd.ARRIVED, SweepEnd.NOTHING_MORE} and idle >= VAIN_KIB and idle + hollow <= given + STRAY_KIB
    if not whole or outcome.gave >= VAIN_SHARE * idle:
        return False
    known.qemu_overhead = max(0.0, outcome.resident - known.held)
    return True


def _met(now: float, numbers: Sequence[float | None]) -> LearntNeeds | None:
    """A guest that tells something for the first time, or that was started anew; None if it tells nothing yet."""
    rss, size, age, total, usable, unused, caches, *_ = numbers
    if age is None or total is None or usable is None:
        return None
    told = max(0.0, total - usable)
    touched = 0.0 if rss is None or caches is None else min(rss - PROCESS_KIB - caches, total)
    ballooned = 0.0 if size is None else max(0.0, total - size)
    peak = max(0.0, told - ballooned, touched)  # what its programs have had at some time, the host has backed
    # It may tell of a sweep by the mom before this one; the next statistics tell what its kernel hides from what was away.
    share = _cache_share(usable, unused, caches, max(0.0, (size or 0.0) - total))
    said = now - age
    return LearntNeeds(said, told, peak, said, size, total, PROCESS_KIB, cache_share=share, ballooned=ballooned, met_at=said, freed_at=now)


def _follow(known: LearntNeeds, total: float, size: float | None, request: SizeRequest | None) -> float | None:
    """A guest's memory in all when it said that its kernel has `total`, as `_had`, where the balloon may have moved."""
    stays = known.total_told == total
    if size is not None and stays and known.size_told == size and size >= total:
        known.kernel_reserved = size - total  # the balloon has not moved between two statistics
    known.total = had = _had(known, total, size, request, stays=stays)
    if had is not None:
        known.ballooned = total - had
    known.size_told, known.total_told = size, total
    return had


def _taken(known: LearntNeeds, now: float, before: float, rss: float) -> float:
    """What a guest has taken from the host since the look before. What it takes, frees and takes again within the time of a reaction counts
    once: it would seem to take more at once than it can have.

    :param before: KiB that its process held then, less than the `rss` of now
    """
    if now - known.grows_since > REACTION_SECONDS:
        known.grows_since, known.grows_from, known.grew = now, before, 0.0
    known.grows_from = min(known.grows_from, before)
    taken = max(0.0, rss - known.grows_from - known.grew)
    known.grew += taken
    return taken


def _had(known: LearntNeeds, total: float, size: float | None, request: SizeRequest | None, *, stays: bool) -> float | None:
    """A guest's memory in all when it said that its kernel has `total`. Statistics are from between the snapshot before and this one, and
    its size then was between those of the two, but for what libvirt tells a second late.

    None where it is unknown: the balloon has moved and the total has not (they are from before that, or its kernel counts all), or the
    total does not fit.

    :param stays: whether the total is what it was the last time
    """
    if size is None or known.size is None:
        return None if known.counts_balloon else total
    least, most = min(size, known.size), max(size, known.size)
    if total > most and stays and least == most and (request is None or known.said > request.asked + LATE_SECONDS):
        known.counts_balloon = True
    elif total != known.total_told and total <= least:
        known.counts_balloon = False  # the total follows the balloon
    if known.counts_balloon:
        return min(total, least - (known.kernel_reserved or 0.0))
    return None if total > most or (stays and least < most) else total


def _pained(usable: float, unused: float | None, swap_in: float | None, faults: float | None, stalled: float | None) -> bool:
    """True if the guest waits for its swap or its disk, and has too little memory: one that reads files into free memory has not."""
    if unused is not None and unused > FREE_SHARE * usable:
        return False
    return (
        (swap_in is not None and swap_in > HealthLimits.SWAP_IN_KIB)
        or (faults is not None and faults > PAIN_FAULTS)
        or (stalled is not None and stalled > PAIN_PERCENT)
    )


def _away(request: SizeRequest, size: float) -> float:
    """What the balloon has of a guest that is swept, or that has its headroom back and does not know yet: it could be used, too."""
    most = request.began_at if request.began_at > request.target else request.target
    return most - size if most > size else 0.0


def _cache_share(usable: float, unused: float | None, caches: float | None, away: float) -> float:
    """How much of what is usable in a guest is page cache.

    :param away: what would be usable, too, if the balloon had not taken it for a moment
    """
    if caches is None:
        caches = 0.0 if unused is None else max(0.0, usable - unused)
    whole = caches + (max(0.0, usable - caches) if unused is None else unused) + away
    return caches / whole if whole > 0 else 0.0
