"""Record of one guest's past. `remember` returns the next record after each cycle, methods after an event.

Sizes are KiB, times monotonic seconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from mom_core import Guest
from mom_plugins_balloon.learned import LearnedHabits
from mom_plugins_balloon.memory import GuestMemory
from mom_plugins_balloon.names import CONTROL
from mom_plugins_balloon.sizes import (
    ASKED_AGAIN_SECONDS,
    CLOCK_SLACK_SECONDS,
    COOPERATIVE,
    DEAD_BAND_KIB,
    SAME_SIZE_KIB,
    SETTLES_SECONDS,
    BalloonSettling,
    Cooperation,
    SizeHistory,
    SizeRequest,
)
from mom_plugins_balloon.sweep.records import SweepEnd, SweepHistory, SweepOutcome


class GuestArrival(NamedTuple):
    """Start of a guest, as far as mom knows it."""

    came: bool = False
    started: float | None = None
    """Time of the start; None if mom has not seen it, or if the guest has claimed a reservation."""
    old_at: float = -math.inf
    """Time from which the guest is no longer new, even without statistics. Infinite if mom has seen its start."""
    rebooted_at: float | None = None

    def after_reboot(self, at: float, now: float, start_rest: float) -> GuestArrival:
        """Return the record after a reboot: the guest is new again."""
        is_known = self.rebooted_at is not None and self.rebooted_at + CLOCK_SLACK_SECONDS >= at
        return self if is_known or at + start_rest <= now else GuestArrival(True, self.started, at + start_rest, at)


class KilledPrograms(NamedTuple):
    """Programs that a guest's kernel has killed. Kills before the first report do not count."""

    total: float
    """Programs killed since the guest's boot."""
    lacks: float
    """By how many KiB the guest was below its maximum at the last report."""
    new: int = 0
    """Programs killed between the last two reports."""
    lacked: float = 0.0
    """The larger `lacks` of the last two reports: the guest may have got memory back since the kill."""

    def after(self, total: float, lacks: float) -> KilledPrograms:
        """Return the record after one more report."""
        return KilledPrograms(total, lacks, max(0, int(total - self.total)), max(lacks, self.lacks))


class Remembered(NamedTuple):
    """Past of one incarnation of a guest."""

    incarnation: str
    arrival: GuestArrival | None = None
    """None if this run of mom has not listed the guest yet."""
    request: SizeRequest | None = None
    resized: bool = False
    sizes: SizeHistory = SizeHistory()
    maximum: float | None = None
    settling: BalloonSettling | None = None
    cooperation: Cooperation = COOPERATIVE
    sweeps: SweepHistory = SweepHistory()
    learned: LearnedHabits | None = None
    killed: KilledPrograms | None = None
    missed_lists: int = 0

    @property
    def pending(self) -> int | None:
        """Target that the guest has not reached yet; None without one."""
        return None if self.request is None or self.request.arrived else self.request.target

    @property
    def has_come(self) -> bool:
        """Whether mom has seen the guest arrive or reboot."""
        return self.arrival is not None and self.arrival.came

    def started_after(self, moment: float) -> bool:
        """Return whether the guest started after `moment` and no reservation was used for this start."""
        return self.arrival is not None and self.arrival.started is not None and self.arrival.started > moment

    def start_rest(self, seconds: float, now: float) -> float:
        """Return the time until mom may take memory from a new guest; 0 for other guests.

        :param seconds: rest after its first statistics
        """
        arrival = self.arrival
        if arrival is None or arrival.old_at <= now:
            return 0.0
        reported = now if self.learned is None else max(self.learned.first_report, arrival.rebooted_at or -math.inf)
        return max(0.0, min(arrival.old_at, reported + seconds) - now)

    def why_not_send(self, target: int, memory: GuestMemory, now: float) -> str:
        """Return why a request for `target` KiB is not worth a command; empty if it is.

        Growth to the maximum, or towards the guarantee, is always worth a command.
        """
        request, heading, why = self.request, memory.size or 0.0, "the change is smaller than the dead band"
        if request is not None and not request.arrived:
            if not request.answered or now - request.at > ASKED_AGAIN_SECONDS:
                return ""
            heading, why = float(request.target), "the guest is already moving to this size"
        is_worth = abs(target - heading) >= DEAD_BAND_KIB or (target == memory.maximum != heading) or heading < memory.guarantee <= target
        return "" if is_worth else why

    def why_origin_unknown(self, size: float | None, maximum: float | None, now: float) -> str:
        """Return why the original size is still unknown; empty if it is known."""
        if self.resized or size is None or (maximum is not None and size > maximum - SAME_SIZE_KIB):
            return ""
        rests = SETTLES_SECONDS - self.sizes.rested_for(now)
        return f"its balloon may still be moving: its original size will be known in {rests:.1f} s" if rests > 0 else ""

    def most_since(self, moment: float, now: float) -> float | None:
        """Return the largest size that the guest may have had since `moment`."""
        request, largest = self.request, self.sizes.largest_since(moment)
        if request is None or request.arrived or largest is None or now - request.at > ASKED_AGAIN_SECONDS:
            return largest
        return max(largest, float(request.target))

    def without_start(self) -> Remembered:
        """Return this record of a guest that can claim no further reservation."""
        return self if self.arrival is None else self._replace(arrival=self.arrival._replace(started=None))

    def after_sweep(self, outcome: SweepOutcome, now: float) -> Remembered:
        """Return the record after a sweep. If the guest still lacks its headroom, the sweep's request remains."""
        request = self.request
        if request is not None and request.sweeps and request.target == outcome.plan.bottom and outcome.is_back:
            is_gone = outcome.end is SweepEnd.GONE
            request = None if is_gone else SizeRequest(outcome.plan.size, outcome.lowest, outcome.ended)
        return self._replace(request=request, sweeps=self.sweeps.after(outcome, now))


def remember(before: Remembered, guest: Guest, seen: Sequence[float | None], now: float, start_rest: float) -> Remembered:
    """Return a guest's record after one more cycle.

    :param seen: size, maximum, seconds since the last reboot, and programs killed since the boot
    """
    (size, maximum, reboot_age, kills), arrival, learned, killed = seen, before.arrival, before.learned, before.killed
    if maximum is not None and before.maximum is not None and maximum > before.maximum and learned is not None:
        learned = learned.after_plug(maximum - before.maximum)
    if arrival is not None and reboot_age is not None:
        arrival = arrival.after_reboot(now - reboot_age, now, start_rest)
    sizes = before.sizes if size is None else before.sizes.after(size, now)
    request, cooperation = before.request, before.cooperation
    if request is not None and not request.arrived and size is not None and abs(size - request.target) < DEAD_BAND_KIB:
        request = replace(request, arrived=True)
    if request is not None or cooperation != COOPERATIVE:
        cooperation = cooperation.after(request, size, now, excused=bool(guest.why_blocked(CONTROL)))
    if kills is not None or (killed is not None and killed.new):
        lacks = 0.0 if maximum is None or size is None else max(0.0, maximum - size)
        total = killed.total if kills is None and killed is not None else kills or 0.0
        killed = KilledPrograms(total, lacks) if killed is None else killed.after(total, lacks)
    maximum = before.maximum if maximum is None else maximum
    return before._replace(
        arrival=arrival, request=request, sizes=sizes, maximum=maximum, cooperation=cooperation, learned=learned, killed=killed
    )
