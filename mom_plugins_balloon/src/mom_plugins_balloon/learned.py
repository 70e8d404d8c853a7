"""Habits that mom learns from one guest's past. Records are frozen; `after` returns the next record.

Sizes are KiB, times monotonic seconds. A peak counts in full for `memory_seconds`. In as much time again, its excess over
present use falls to a third.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from mom_plugins_balloon.memory import GuestMemory
from mom_plugins_balloon.sizes import SizeRequest

SAME_STATISTICS_SECONDS: Final = 0.5
"""Statistics whose times differ by less are the same."""

LATE_SECONDS: Final = 3.0
"""Statistics may be this much older than reported: guests send them every 2 s, hypervisors up to 1 s late."""

PROCESS_KIB: Final = 64 * 1024.0
"""Assumed memory of QEMU itself until mom has learned it: 48 MiB with KVM, more without."""

STRAY_KIB: Final = 16 * 1024.0
"""Tolerance: an RSS varies by this much from one cycle to the next."""

STALL_STEP_KIB: Final = 32 * 1024.0
STALL_STEP_SHARE: Final = 0.25
"""At a stall, `StallFloor` exceeds usable memory by `STALL_STEP_SHARE` of it, at least by `STALL_STEP_KIB`."""

KILLED_SHARE: Final = 0.5
"""After kills, `StallFloor` exceeds usable memory by at least this ratio of the distance to the guest's maximum."""

BASELINE_SHARE: Final = 0.6
BURST_SHARE: Final = 0.8
"""Ratios of the peak. A burst has come again when the use was below `BASELINE_SHARE` and rises above `BURST_SHARE`."""

BETWEEN_BURSTS_SECONDS: Final = 5.0
"""A peak that is older than this belongs to another burst."""

GROWTH_WINDOW_SECONDS: Final = 3.0
"""Time from a guest's growth until mom has reclaimed memory elsewhere: 1.5 times the sum of 1 s (statistics), 0.5 s (cycle) and 0.5 s
(sweep of 0.5 GiB)."""


class LastStatistics(NamedTuple):
    """Last statistics of the guest's kernel."""

    made: float
    used: float
    """Used memory, which may include the balloon."""
    total: float
    size: float | None


class KernelMemory(NamedTuple):
    """Difference between a guest's size and the total that its kernel reports."""

    reserved: float | None = None
    """Memory that the total does not include."""
    counts_balloon: bool = False
    """Whether the total includes the memory in the balloon (Windows, autodeflate)."""
    ballooned: float = 0.0
    """Memory in the balloon that the last total included."""
    total: float | None = None
    """Last reported total, less `ballooned`; None if the balloon was moving."""

    def after(
        self, last: LastStatistics, total: float, size: float | None, size_before: float | None, made: float, request: SizeRequest | None
    ) -> KernelMemory:
        """Return the new record. Its `total` is None if the reported total exceeds the size or has not followed the balloon."""
        stays, reserved, counts = last.total == total, self.reserved, self.counts_balloon
        if size is not None and stays and last.size == size and size >= total:
            reserved = size - total  # the balloon has not moved between two statistics
        own_total: float | None = None if counts else total
        if size is not None and size_before is not None:
            least, most = min(size, size_before), max(size, size_before)
            if total > most and stays and least == most and (request is None or made > request.at + LATE_SECONDS):
                counts = True
            elif not stays and total <= least:
                counts = False  # the total follows the balloon
            fits = total <= most and not (stays and least < most)
            own_total = min(total, least - (reserved or 0.0)) if counts else total if fits else None
        return KernelMemory(reserved, counts, self.ballooned if own_total is None else total - own_total, own_total)


class Peak(NamedTuple):
    """Largest recent memory use of a guest."""

    use: float
    seen_at: float

    def after(self, used: float, made: float, passed: float, memory_seconds: float) -> Peak:
        """Return the record after new statistics."""
        if used >= self.use:
            return Peak(used, made)
        if made - self.seen_at > memory_seconds:
            return Peak(used + (self.use - used) * math.exp(-passed / memory_seconds), self.seen_at)
        return self


class StallFloor(NamedTuple):
    """Usable memory below which a guest stalled, or its kernel killed programs."""

    usable: float | None = None
    seen_at: float = 0.0
    stalling: bool = False
    killed: float | None = None
    """Usable memory below which the kernel killed programs; at most `usable`."""

    def after(self, usable: float, made: float, passed: float, memory_seconds: float, *, stalls: bool) -> StallFloor:
        """Return the record after new statistics. A single stall is ignored, because a starting program also waits for its pages."""
        floor, seen_at, killed = self.usable, self.seen_at, self.killed
        if stalls and self.stalling:
            raised = usable + max(STALL_STEP_KIB, STALL_STEP_SHARE * usable)
            if floor is None or raised >= floor:
                floor, seen_at = raised, made
        elif floor is not None and made - seen_at > memory_seconds:
            left = math.exp(-passed / memory_seconds)
            floor, killed = left * floor, None if killed is None else left * killed
        return StallFloor(floor, seen_at, stalls, killed)

    def after_kills(self, usable: float, lacked: float, now: float) -> StallFloor:
        """Return the record after kills. The need is unknown, so part of the missing memory counts as needed."""
        needed = usable + max(STALL_STEP_KIB, KILLED_SHARE * lacked)
        return StallFloor(max(self.usable or 0.0, needed), now, self.stalling, max(self.killed or 0.0, needed))


class Burst(NamedTuple):
    """Recently repeated rise of a guest's use to near its peak."""

    rise: float | None = None
    seen_at: float = -math.inf
    baseline: float | None = None
    """Smallest use between bursts."""
    rising: bool = False

    def after(self, used: float, made: float, peak: Peak, memory_seconds: float) -> Burst:
        """Return the record after new statistics, which `peak` does not include."""
        if self.rise is not None and made - self.seen_at > memory_seconds:
            return self._replace(rise=None).after(used, made, peak, memory_seconds)
        baseline = self.baseline
        if used <= BASELINE_SHARE * peak.use:
            stays = not self.rising and baseline is not None and used >= baseline
            return self if stays else Burst(self.rise, self.seen_at, used if baseline is None else min(used, baseline))
        if baseline is None or used < BURST_SHARE * peak.use or not (self.rising or made - peak.seen_at > BETWEEN_BURSTS_SECONDS):
            return self
        return Burst(max(self.rise or 0.0, used - baseline), made, baseline, rising=True)


class Usage(NamedTuple):
    """Use of memory by a guest's kernel and programs. Changes only with new statistics."""

    statistics: LastStatistics
    kernel: KernelMemory
    growth_rate: float
    """Largest recent mean growth between two statistics, in KiB/s."""
    cache_share: float
    """Largest recent fraction of usable memory that was page cache."""
    peak: Peak
    burst: Burst = Burst()
    stall_floor: StallFloor = StallFloor()

    def after(
        self, guest: GuestMemory, made: float, total: float, usable: float, past: tuple[float | None, SizeRequest | None], seconds: float
    ) -> Usage:
        """Return the record after new statistics.

        :param past: previous size, and the last request
        """
        last, kernel, peak, floor = self.statistics, self.kernel, self.peak, self.stall_floor
        size, said, (size_before, request) = guest.size, guest.statistics, past
        passed, used = made - last.made, total - usable if total > usable else 0.0
        rate = (used - last.used) / passed if used > last.used else 0.0
        if rate < self.growth_rate:
            rate += (self.growth_rate - rate) * math.exp(-passed / seconds)
        rests = total == kernel.total == last.total and size == size_before == last.size
        if not rests or size is None or size - total != kernel.reserved:  # nearly all balloons rest
            kernel = kernel.after(last, total, size, size_before, made, request)
        statistics, own_total = LastStatistics(made, used, total, size), kernel.total
        if own_total is None:
            return Usage(statistics, kernel, rate, self.cache_share, peak, self.burst, floor)
        used = own_total - usable if own_total > usable else 0.0
        share = said.cache_share(usable, 0.0 if request is None else _away(request, own_total + (kernel.reserved or 0.0)))
        if share < self.cache_share:
            share = self.cache_share + (share - self.cache_share) * -math.expm1(-passed / seconds)
        burst = self.burst.after(used, made, peak, seconds)
        if used >= peak.use or made - peak.seen_at > seconds:
            peak = peak.after(used, made, passed, seconds)
        if floor.stalling or floor.usable or said.swap_in or said.major_faults or said.stalled:  # true for few guests
            floor = floor.after(usable, made, passed, seconds, stalls=said.stalls(usable))
        return Usage(statistics, kernel, rate, share, peak, burst, floor)


class ProcessPast(NamedTuple):
    """Memory of the guest's QEMU process."""

    rss: float | None = None
    qemu_overhead: float = PROCESS_KIB
    measured: float | None = None
    """`qemu_overhead` as last measured."""
    stored: float = 0.0
    """Host memory and swap that the process held in the last snapshot."""
    stored_most: float = 0.0
    growth: float = 0.0
    """Growth of `rss` between the last two snapshots."""

    def after(self, guest: GuestMemory) -> ProcessPast:
        """Return the record after a snapshot."""
        rss = guest.process.rss
        if rss is None:
            return self._replace(rss=None, growth=0.0)
        measured = self.measured if guest.process.measured_overhead is None else guest.process.measured_overhead
        stored = rss + (guest.process.host_swap or 0.0)
        overhead = PROCESS_KIB if measured is None else measured
        growth = 0.0 if self.rss is None else max(0.0, rss - self.rss)
        return ProcessPast(rss, overhead, measured, stored, max(stored, self.stored_most), growth)


class KeptHeadroom(NamedTuple):
    """Usable memory of a guest after it ran out of memory."""

    usable: float
    at: float


class LearnedHabits(NamedTuple):
    """Habits of one guest."""

    first_report: float
    usage: Usage
    process: ProcessPast
    size: float | None
    freed_at: float
    """Time of the last decrease of use or RSS; for a new guest, of its first report."""
    kept_headroom: KeptHeadroom | None = None

    def after(self, guest: GuestMemory, now: float, request: SizeRequest | None, lacked: float, memory_seconds: float) -> LearnedHabits:
        """Return the record after one more snapshot.

        :param lacked: KiB between the guest's size and maximum when its kernel killed programs; 0 without kills
        """
        usage, freed_at, size, maximum = self.usage, self.freed_at, guest.size, guest.maximum
        said, rss, rss_before = guest.statistics, guest.process.rss, self.process.rss
        age, total, usable = said.age, said.total, said.usable
        if age is not None and total is not None and usable is not None:
            made, last = now - age, usage.statistics
            if made - last.made > SAME_STATISTICS_SECONDS:
                usage = usage.after(guest, made, total, usable, (self.size, request), memory_seconds)
                if last.used - usage.statistics.used > STRAY_KIB:
                    freed_at = now
        if lacked > 0 and usable is not None and size is not None and maximum is not None:
            usage = usage._replace(stall_floor=usage.stall_floor.after_kills(usable, lacked, now))
        process = self.process.after(guest)
        if rss_before is not None and rss is not None and rss_before - rss > STRAY_KIB:
            freed_at = now
        return LearnedHabits(self.first_report, usage, process, size, freed_at, self.kept_headroom)

    def after_absence(self) -> LearnedHabits:
        """Return the record after a cycle without guests. Growth in that cycle does not count as sudden."""
        return self._replace(process=self.process._replace(rss=None, growth=0.0))

    def after_plug(self, kib: float) -> LearnedHabits:
        """Return the record after memory was plugged in. The guest's kernel counts it later or never."""
        kernel = self.usage.kernel
        if kernel.reserved is None:
            return self
        return self._replace(usage=self.usage._replace(kernel=kernel._replace(reserved=kernel.reserved + kib)))

    def after_running_out(self, usable: float, now: float, seconds: float) -> LearnedHabits:
        """Return the record after the guest ran out of memory."""
        kept = self.kept_headroom
        most = max(usable, kept.usable) if kept is not None and now - kept.at < seconds else usable
        return self._replace(kept_headroom=KeptHeadroom(most, now))


def first_learned(guest: GuestMemory, now: float) -> LearnedHabits | None:
    """Return the record of a guest's first report; None if its statistics are incomplete."""
    rss, measured, size, said = guest.process.rss, guest.process.measured_overhead, guest.size, guest.statistics
    overhead = PROCESS_KIB if measured is None else measured
    age, total, usable, caches = said.age, said.total, said.usable, said.caches
    if age is None or total is None or usable is None:
        return None
    made, used = now - age, max(0.0, total - usable)
    touched = 0.0 if rss is None or caches is None else min(rss - overhead - caches, total)
    ballooned = 0.0 if size is None else max(0.0, total - size)
    # These statistics may date from a sweep by the previous mom. The next ones show how much of the balloon the kernel counts.
    share = said.cache_share(usable, max(0.0, (size or 0.0) - total))
    usage = Usage(
        LastStatistics(made, used, total, size), KernelMemory(ballooned=ballooned), growth_rate=0.0, cache_share=share,
        peak=Peak(max(0.0, used - ballooned, touched), made),  # the guest has used all memory that the host backs
    )  # fmt: skip
    stored = (rss or 0.0) + (guest.process.host_swap or 0.0)
    process = ProcessPast() if rss is None else ProcessPast(rss, overhead, measured, stored=stored, stored_most=stored)
    return LearnedHabits(made, usage, process, size, now)


def _away(request: SizeRequest, size: float) -> float:
    # A sweep holds this memory, or held it when the statistics were made.
    most = request.began_at if request.began_at > request.target else request.target
    return most - size if most > size else 0.0
