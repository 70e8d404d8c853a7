"""What guests have taught: how much each uses in its bursts, what it was seen to wait without, what its process holds beside it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mom_core import Guest, Snapshot, Value
from mom_plugins_balloon.requests import SAME_STATISTICS_SECONDS, SizeRequest
from mom_plugins_balloon.sweeps import SweepEnd, SweepOutcome
from mom_toolkit import SWAP_IN_KIB

PROCESS_KIB = 64 * 1024.0
"""KiB. What QEMU holds beside a guest's memory, until that is known: 48 MiB with KVM, more without. Too little costs one vain sweep."""

SWEPT_KIB = 160 * 1024.0
"""KiB. A guest that was shrunk until it has less than this unused has given all that it had used and freed: what is left is what its kernel
keeps free (70 MiB in a guest of 1 GiB), what the sweep leaves it, and a bit."""

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
         "host_swap", "guest_psi_memory_some_avg10")  # fmt: skip
"""The fields that are learnt from; the last two are of few guests."""

REACTION_SECONDS = 3.0
"""From a guest's growth until memory that others do not use has come back: a second until its statistics tell, half a second for a cycle,
half a second to sweep 0.5 GiB, and as much again."""


@dataclass(slots=True)
class _Learnt:
    """One guest. Sizes in KiB, moments in monotonic seconds: when its statistics were last made, when the largest use and the largest pain
    were seen. `pained` is whether its last statistics told of pain. `process` is what its process holds beside what it uses; `swept` the
    moment of the request that told so; `asked` that of the last request, and `rss_asked` what the process held then. `size_told` is what
    size was seen with the last statistics, `total_told` the total that they told. `size` is that of the snapshot before. `total` is what
    the guest had in all by the last statistics, None where it is unknown: the kernels of some (Windows; Linux with autodeflate) count what
    their balloon has taken, too, which `counts_all` says; `ballooned` is how much that was. `held` is what it held by its last statistics;
    `growth` what it took within a second at most, as a mean between two statistics, and `met_at` when it was first seen. `calm` is the
    least that it used between bursts, and `burst` what its use has risen by from there to near its peak, again, at `burst_at`.
    `freed_at` is when it was last seen to use less, or its process to hold less; a guest that is new may just have done so."""

    incarnation: str
    said: float
    used: float
    peak: float
    peak_at: float
    size_told: float | None
    total_told: float
    pained: bool = False
    hurts: float = 0.0
    hurts_at: float = 0.0
    process: float = PROCESS_KIB
    swept: float = -math.inf
    asked: float = -math.inf
    rss_asked: float | None = None
    rss: float | None = None
    hidden: float | None = None
    cache_share: float = 0.0
    size: float | None = None
    total: float | None = None
    held: float | None = None
    growth: float = 0.0
    met_at: float = math.inf
    calm: float = math.inf
    burst: float = 0.0
    burst_at: float = -math.inf
    rises: bool = False
    freed_at: float = -math.inf
    counts_all: bool = False
    ballooned: float = 0.0


class Learning:
    """What was learnt of all guests; `see` takes in a snapshot, `columns` says what was learnt until then.

    This stands beside the policy because a policy has no clock, sees no statistics but the newest, and pays for each note with a write
    to disk. What to do with what was learnt is the policy's.

    :param memory_seconds: for how long a burst counts in full, and after that until a third of it is left
    :param growth_rate: KiB/s that a guest may grow by that was not seen for so long
    """

    def __init__(self, memory_seconds: float, growth_rate: float) -> None:
        self._seconds = memory_seconds
        self._unseen = growth_rate
        self._learnt: dict[str, _Learnt] = {}
        self._in_order: tuple[Sequence[Guest], list[_Learnt | None]] = ((), [])
        """Guests, and what was learnt of each: as long as they are the very same, nothing is looked up by their ids."""
        self._growth: deque[tuple[float, float]] = deque()
        self._growth_peak = 0.0
        self._growth_at = -math.inf
        self._seen = -math.inf
        self._there = -math.inf
        self._room = 0.0

    def see(self, snapshot: Snapshot, requests: Mapping[str, SizeRequest]) -> None:
        """Take in what all guests say now.

        Without any guest the hypervisor is away, as when libvirtd is restarted: they are waited for, for as long as a burst is remembered.
        What they took meanwhile was not taken at once.
        """
        learnt, now, grown, room = self._learnt, snapshot.monotonic, 0.0, 0.0
        if snapshot.guests:
            self._there = now
        elif now - self._there <= self._seconds:
            for one in learnt.values():
                one.rss = None
            self._note_growth(now, 0.0)
            return
        told = zip(*[snapshot.numbers(name) for name in _TOLD], strict=True)
        guests = snapshot.listed
        in_order = self._of(guests)
        for place, (guest, numbers) in enumerate(zip(guests, told, strict=True)):
            known, rss, size = in_order[place], numbers[0], numbers[1]
            if known is None or known.incarnation != guest.incarnation:
                met = _met(guest.incarnation, now, numbers)
                if met is not None:
                    known = in_order[place] = learnt[guest.id] = met
                elif known is None:
                    continue
            else:
                before, request = known.rss, requests.get(guest.id) if requests else None
                if rss is not None and before is not None:
                    if rss > before:
                        grown += rss - before
                    elif before - rss > STRAY_KIB:
                        known.freed_at = now
                if request is not None and request.asked > known.asked:
                    known.asked, known.rss_asked = request.asked, before
                self._hear(known, now, numbers, request)
            known.rss, known.size = rss, size
            if size is not None and rss is not None:
                backed = rss - known.process if rss > known.process else 0.0
                room += size - backed if size > backed else 0.0
        if len(learnt) > len(snapshot.guests):
            self._learnt = {identity: one for identity, one in learnt.items() if identity in snapshot.guests}
        self._room = room
        self._note_growth(now, grown)

    def _hear(self, known: _Learnt, now: float, numbers: Sequence[float | None], request: SizeRequest | None) -> None:
        """What a guest's statistics tell, if they are new, and what its process holds beside it. One function, as it is for every guest
        and cycle; what is for few of them stands apart.

        :param numbers: as `_TOLD`
        """
        rss, size, age, total, usable, unused, caches, swap_in, faults, swapped, stalled = numbers
        if age is None or total is None or usable is None:
            return
        said = now - age
        passed = said - known.said
        if passed > SAME_STATISTICS_SECONDS:
            known.said = said
            before, known.used = known.used, total - usable if total > usable else 0.0
            if before - known.used > STRAY_KIB:
                known.freed_at = now
            if (rate := (known.used - before) / passed) > known.growth:
                known.growth = rate
            elif known.growth:
                known.growth = max(0.0, rate) + (known.growth - max(0.0, rate)) * math.exp(-passed / self._seconds)
            stays = total == known.total == known.total_told and size == known.size == known.size_told
            if stays and size is not None and size - total == known.hidden:
                had: float | None = total  # as of nearly all guests
            else:
                had = _follow(known, total, size)
            if had is not None:
                used = had - usable if had > usable else 0.0
                away = 0.0 if request is None else _away(request, had + (known.hidden or 0.0))
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
        if unused is not None and size is not None and rss is not None and known.hidden is not None:
            known.held = held = known.hidden + (total if known.total is None else known.total) - unused
            backed = rss + (swapped or 0.0)  # what is in the host's swap is backed, too
            beside = backed - held if backed > held else 0.0
            if beside < known.process:
                if known.total is not None and (request is None or known.said > request.asked + 1.0):
                    known.process = beside  # else pages that it held then went with the balloon
            elif request is not None and request.asked > known.swept and request.arrived:  # few guests were asked for what tells more
                _weigh(known, held, request, size, rss, backed)

    def _see_burst(self, known: _Learnt, used: float) -> None:
        """How much a guest's use has risen by to near its peak, more than once.

        :param used: by its last statistics, which the peak does not count yet
        """
        if known.burst and known.said - known.burst_at > self._seconds:
            known.burst = 0.0
        if used <= CALM_SHARE * known.peak:
            known.calm, known.rises = min(used, known.calm), False
            return
        again = known.rises or known.said - known.peak_at > BETWEEN_BURSTS_SECONDS
        if again and used >= BURST_SHARE * known.peak and known.calm < math.inf:
            known.burst, known.burst_at, known.rises = max(known.burst, used - known.calm), known.said, True

    def _remember_peak(self, known: _Learnt, passed: float, used: float) -> None:
        """The most that was seen lately of what the guest used.

        :param passed: seconds since its statistics before
        """
        if used > known.peak:
            known.peak, known.peak_at = used, known.said
        elif used == known.peak:
            known.peak_at = known.said
        else:
            known.peak = used + (known.peak - used) * math.exp(-passed / self._seconds)

    def _remember_pain(self, known: _Learnt, passed: float, usable: float, pained: bool) -> None:
        """The most that was usable lately in the guest when it waited.

        :param passed: seconds since its statistics before
        """
        # Twice in a row: a program that starts waits for its pages, too, but once, and whatever the guest has.
        again, known.pained = known.pained and pained, pained
        if again:
            hurts = usable + max(PAIN_STEP_KIB, PAIN_STEP_SHARE * usable)
            if hurts >= known.hurts:
                known.hurts, known.hurts_at = hurts, known.said
        elif known.hurts and known.said - known.hurts_at > self._seconds:
            known.hurts *= math.exp(-passed / self._seconds)

    def swept(self, outcome: SweepOutcome) -> None:
        """Learn what a guest's process holds beside what the guest holds: where the guest has given all that seemed idle, and the host got
        next to nothing. What is less than all may have been memory that the guest never used."""
        known = self._learnt.get(outcome.guest.id)
        if known is None or known.incarnation != outcome.incarnation or outcome.resident is None or known.held is None:
            return
        idle, given = outcome.resident + outcome.gave - known.process - known.held, outcome.back - outcome.lowest
        whole = outcome.end in {SweepEnd.ARRIVED, SweepEnd.NOTHING_MORE} and VAIN_KIB <= idle <= given + STRAY_KIB
        if whole and outcome.gave < VAIN_SHARE * idle:
            known.process = max(0.0, outcome.resident - known.held)

    def _note_growth(self, now: float, grown: float) -> None:
        """How much all guests together took from the host within the time that it takes to react: the most that was seen lately."""
        passed, self._seen = now - self._seen, now
        if grown > 0 and passed < self._seconds:
            self._growth.append((now, grown))
        while self._growth and self._growth[0][0] < now - REACTION_SECONDS:
            self._growth.popleft()
        growth = sum(kib for _, kib in self._growth)
        if growth >= self._growth_peak:
            self._growth_peak, self._growth_at = growth, now
        elif now - self._growth_at > self._seconds:
            self._growth_peak = growth + (self._growth_peak - growth) * math.exp(-passed / self._seconds)

    @property
    def growth_kib(self) -> float:
        """The most that guests took from the host together within the time of a reaction, lately."""
        return self._growth_peak

    @property
    def room_kib(self) -> float:
        """What guests could take from the host: what they have, and the host has not backed with memory."""
        return self._room

    def columns(self, guests: Sequence[Guest]) -> dict[str, Sequence[Value]]:
        """What was learnt of these guests, by field; None of a guest where that is nothing."""
        rows = [
            _NOTHING
            if known is None or known.incarnation != guest.incarnation
            else _row(known, self._unseen if self._seen - known.met_at < self._seconds else 0.0, self._seen - known.freed_at)
            for guest, known in zip(guests, self._of(guests), strict=True)
        ]
        return dict(zip(_FIELDS, zip(*rows, strict=True), strict=False))

    def _of(self, guests: Sequence[Guest]) -> list[_Learnt | None]:
        """What was learnt of these guests, in their order."""
        if self._in_order[0] is not guests:
            learnt = self._learnt
            self._in_order = guests, [learnt.get(guest.id) for guest in guests]
        return self._in_order[1]


_FIELDS = ("mem_used_peak", "mem_used_before", "mem_cache_share", "kernel_reserved", "rss_before", "qemu_overhead", "mem_stall_floor",
           "mem_growth_rate", "mem_burst", "mem_freed_age")  # fmt: skip
_NOTHING: Sequence[Value] = (None,) * len(_FIELDS)


def _row(known: _Learnt, unknown: float, freed_age: float) -> Sequence[Value]:
    """What was learnt of a guest, in the order of `_FIELDS`.

    :param unknown: KiB/s that it may grow by as far as is known, as it was not seen for long
    :param freed_age: s since it was last seen to free memory
    """
    return (
        int(known.peak + known.ballooned),  # as the guest counts: what is used is compared with it
        int(known.used),
        _thousandths(known.cache_share),
        None if known.hidden is None else int(known.hidden),
        None if known.rss is None else int(known.rss),
        None if known.rss is None else int(known.process),
        int(known.hurts) if known.hurts > 0 else None,
        int(max(unknown, GROWTH_FACTOR * known.growth)),
        int(known.burst) if known.burst else None,
        round(freed_age, 1) if freed_age < FREED_SECONDS else None,
    )


def _thousandths(ratio: float) -> float:
    return round(ratio * 1000) / 1000  # a third of the time of round(…, 3)


def _met(incarnation: str, now: float, numbers: Sequence[float | None]) -> _Learnt | None:
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
    return _Learnt(incarnation, said, told, peak, said, size, total, cache_share=share, ballooned=ballooned, met_at=said, freed_at=now)


def _weigh(known: _Learnt, held: float, request: SizeRequest, size: float, rss: float, backed: float) -> None:
    """What the guest's process holds beside what the guest holds: it shows when the guest has given all that it had not in use, and
    when it has given, and the host has not got it back."""
    if request.target < request.began_at and abs(size - request.target) < SWEPT_KIB / 16:
        at_bottom = known.total is not None and size - held < SWEPT_KIB
        if at_bottom or _in_vain(known, request, held, rss):
            known.swept = request.asked
            known.process = backed - held if backed > held else 0.0


def _in_vain(known: _Learnt, request: SizeRequest, held: float, rss: float) -> bool:
    """Whether the guest has given all that seemed idle, and the host has not got it back. What is less than all may have been memory that
    the guest never used, of which nothing comes back."""
    if known.rss_asked is None:
        return False
    idle, given = known.rss_asked - known.process - held, request.began_at - request.target
    return VAIN_KIB <= idle <= given + STRAY_KIB and -STRAY_KIB < known.rss_asked - rss < VAIN_SHARE * idle


def _follow(known: _Learnt, total: float, size: float | None) -> float | None:
    """What a guest had in all when it said that its kernel has `total`, as `_had`, where the balloon may have moved."""
    stays = known.total_told == total
    if size is not None and stays and known.size_told == size and size >= total:
        known.hidden = size - total  # the balloon has not moved between two statistics
    is_usual = size is not None and total <= size == known.size and not known.counts_all  # nothing to find out
    known.total = had = total if is_usual else _had(known, total, size, stays)
    if had is not None:
        known.ballooned = total - had
    known.size_told, known.total_told = size, total
    return had


def _had(known: _Learnt, total: float, size: float | None, stays: bool) -> float | None:
    """What a guest had in all when it said that its kernel has `total`. Statistics are from between the snapshot before and this one, and
    its size then was between those of the two, but for what libvirt tells a second late.

    None where it is unknown: the balloon has moved and the total has not (they are from before that, or its kernel counts all), or the
    total does not fit.

    :param stays: whether the total is what it was the last time
    """
    if size is None or known.size is None:
        return None if known.counts_all else total
    least, most = min(size, known.size), max(size, known.size)
    if total > most and stays and least == most and known.said > known.asked + LATE_SECONDS:
        known.counts_all = True
    elif total != known.total_told and total <= least:
        known.counts_all = False  # the total follows the balloon
    if known.counts_all:
        return min(total, least - (known.hidden or 0.0))
    return None if total > most or (stays and least < most) else total


def _pained(usable: float, unused: float | None, swap_in: float | None, faults: float | None, stalled: float | None) -> bool:
    """Whether the guest waits for its swap or its disk, and has too little memory: one that reads files into free memory has not."""
    if unused is not None and unused > FREE_SHARE * usable:
        return False
    return (
        (swap_in is not None and swap_in > SWAP_IN_KIB)
        or (faults is not None and faults > PAIN_FAULTS)
        or (stalled is not None and stalled > PAIN_PERCENT)
    )


def _away(request: SizeRequest, size: float) -> float:
    """What the balloon has of a guest that is swept, or that has its room back and does not know yet: it could be used, too."""
    most = request.began_at if request.began_at > request.target else request.target
    return most - size if most > size else 0.0


def _cache_share(usable: float, unused: float | None, caches: float | None, away: float) -> float:
    """How much of what is usable in a guest is page cache.

    :param away: what would be usable, too, if the balloon had not taken it for a moment
    """
    if caches is not None and unused is not None:
        whole = caches + unused + away
        return caches / whole if whole > 0 else 0.0
    if caches is None:
        caches = 0.0 if unused is None else max(0.0, usable - unused)
    whole = caches + (max(0.0, usable - caches) if unused is None else unused) + away
    return caches / whole if whole > 0 else 0.0
