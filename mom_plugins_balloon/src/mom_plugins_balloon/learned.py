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
"""Assumed memory of QEMU itself until it is measured: 48 MiB with KVM, more without."""

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

    def after(self, last: LastStatistics, total: float, size: float | None, made: float, request: SizeRequest | None) -> KernelMemory:
        """Return the new record. Its `total` is None if the reported total exceeds the size or has not followed the balloon."""
        stays, reserved, counts = last.total == total, self.reserved, self.counts_balloon
        if size is not None and stays and last.size == size and size >= total:
            reserved = size - total  # the balloon has not moved between two statistics
        own_total: float | None = None if counts else total
        if size is not None and last.size is not None:
            least, most = min(size, last.size), max(size, last.size)
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

    def after(self, guest: GuestMemory, made: float, total: float, usable: float, request: SizeRequest | None, seconds: float) -> Usage:
        """Return the record after new statistics."""
        last, kernel, peak, floor, size, said = self.statistics, self.kernel, self.peak, self.stall_floor, guest.size, guest.statistics
        passed, used = made - last.made, max(0.0, total - usable)
        rate = max(0.0, used - last.used) / passed
        if rate < self.growth_rate:
            rate += (self.growth_rate - rate) * math.exp(-passed / seconds)
        rests = total == kernel.total == last.total and size == last.size
        if not rests or size is None or size - total != kernel.reserved:  # true for few guests
            kernel = kernel.after(last, total, size, made, request)
        usage, own_total = self._replace(statistics=LastStatistics(made, used, total, size), kernel=kernel, growth_rate=rate), kernel.total
        if own_total is None:
            return usage
        used = max(0.0, own_total - usable)
        share = said.cache_share(usable, 0.0 if request is None else _away(request, own_total + (kernel.reserved or 0.0)))
        if share < self.cache_share:
            share = self.cache_share + (share - self.cache_share) * -math.expm1(-passed / seconds)
        if floor.stalling or floor.usable or said.swap_in or said.major_faults or said.stalled:  # true for few guests
            floor = floor.after(usable, made, passed, seconds, stalls=said.stalls(usable))
        burst, peak = self.burst.after(used, made, peak, seconds), peak.after(used, made, passed, seconds)
        return usage._replace(cache_share=share, peak=peak, burst=burst, stall_floor=floor)


class ProcessPast(NamedTuple):
    """Memory of the guest's QEMU process."""

    rss: float | None = None
    measured: float | None = None
    """QEMU's own memory as last measured."""
    stored: float = 0.0
    """Host memory and swap that the process held in the last snapshot."""
    stored_most: float = 0.0
    growth: float = 0.0
    """Growth of `rss` between the last two snapshots."""

    @property
    def qemu_overhead(self) -> float:
        """QEMU's own memory."""
        return PROCESS_KIB if self.measured is None else self.measured

    def after(self, guest: GuestMemory) -> ProcessPast:
        """Return the record after a snapshot."""
        now, measured = guest.process, guest.process.measured_overhead
        if now.rss is None:
            return self._replace(rss=None, growth=0.0)
        stored, growth = now.rss + (now.host_swap or 0.0), 0.0 if self.rss is None else max(0.0, now.rss - self.rss)
        return ProcessPast(now.rss, self.measured if measured is None else measured, stored, max(stored, self.stored_most), growth)


class KeptHeadroom(NamedTuple):
    """Usable memory of a guest after it ran out of memory."""

    usable: float
    at: float


class LearnedHabits(NamedTuple):
    """Habits of one guest."""

    first_report: float
    usage: Usage
    process: ProcessPast
    freed_at: float
    """Time of the last decrease of use or RSS; for a new guest, of its first report."""
    kept_headroom: KeptHeadroom | None = None

    def after(self, guest: GuestMemory, now: float, request: SizeRequest | None, lacked: float, memory_seconds: float) -> LearnedHabits:
        """Return the record after one more snapshot.

        :param lacked: KiB between the guest's size and maximum when its kernel killed programs; 0 without kills
        """
        usage, said, process, rss = self.usage, guest.statistics, self.process.after(guest), self.process.rss
        age, total, usable = said.age, said.total, said.usable
        if age is not None and total is not None and usable is not None and now - age - usage.statistics.made > SAME_STATISTICS_SECONDS:
            usage = usage.after(guest, now - age, total, usable, request, memory_seconds)
        freed = self.usage.statistics.used - usage.statistics.used
        if rss is not None and process.rss is not None:
            freed = max(freed, rss - process.rss)
        if lacked > 0 and usable is not None:
            usage = usage._replace(stall_floor=usage.stall_floor.after_kills(usable, lacked, now))
        return LearnedHabits(self.first_report, usage, process, now if freed > STRAY_KIB else self.freed_at, self.kept_headroom)

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
    size, said, process = guest.size, guest.statistics, ProcessPast().after(guest)
    age, total, usable = said.age, said.total, said.usable
    if age is None or total is None or usable is None:
        return None
    made, used, ballooned = now - age, max(0.0, total - usable), 0.0 if size is None else max(0.0, total - size)
    # The guest has used all memory that the host backs.
    touched = 0.0 if process.rss is None or said.caches is None else min(process.rss - process.qemu_overhead - said.caches, total)
    usage = Usage(
        LastStatistics(made, used, total, size), KernelMemory(ballooned=ballooned), growth_rate=0.0,
        # These statistics may date from a sweep by the previous mom. The next ones show how much of the balloon the kernel counts.
        cache_share=said.cache_share(usable, max(0.0, (size or 0.0) - total)), peak=Peak(max(0.0, used - ballooned, touched), made),
    )  # fmt: skip
    return LearnedHabits(made, usage, process, now)


def _away(request: SizeRequest, size: float) -> float:
    # A sweep holds this memory, or held it when the statistics were made.
    return max(0.0, request.began_at - size, request.target - size)
