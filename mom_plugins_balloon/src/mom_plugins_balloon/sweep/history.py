"""History of one guest's sweeps."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Final

from mom_plugins_balloon.sweep.records import SweepCost, SweepEnd, SweepOutcome

REST_SECONDS: Final = {
    SweepEnd.AT_WORK: 2.0,
    SweepEnd.GREW: 10.0,
    SweepEnd.LATE: 60.0,
    SweepEnd.SLOW: 10.0,
    SweepEnd.UNSEEN: 600.0,
    SweepEnd.FAILED: 60.0,
    SweepEnd.NOTHING_MORE: 10.0,
}
"""s. Time until the next sweep of the guest. A burst or a lack of CPU lasts seconds, a stuck balloon much longer."""

SHOWN_SECONDS: Final = 60.0
"""s. A guest's fields show its last sweep for so long."""

MISSED_SECONDS: Final = 600.0
"""s. A guest is not swept for so long for memory that its sweeps missed. The balloon cannot reach that memory, or QEMU uses it. A
vain sweep lasts a second, and the guest has its headroom in 599 of 600 s."""

IN_VAIN_SHARE: Final = 0.25
IN_VAIN_SECONDS: Final = 120.0
"""Ratio of the planned gain, and s. A guest whose sweeps give less for so long rests for as long. It may seem to have freed memory, and be
at work at each sweep. While mom counts on its memory, it sweeps no other guest. Bursts are over sooner."""


@dataclass(frozen=True, slots=True)
class SweepHistory:
    """History of one guest's sweeps. Times are monotonic seconds."""

    last: SweepOutcome | None = None
    cost: SweepCost = field(default_factory=SweepCost)
    rests_until: float = -math.inf
    in_vain_since: float = math.inf  #: no sweep has given enough since
    missed: float = 0.0  #: KiB that sweeps since `missed_since` were planned for and did not get
    missed_since: float = -math.inf

    def shown(self, now: float) -> SweepOutcome | None:
        """Return the last sweep, if it ended lately."""
        return self.last if self.last is not None and now - self.last.ended < SHOWN_SECONDS else None

    def missed_lately(self, now: float) -> float:
        """Return the KiB that sweeps of the last ten minutes missed."""
        return self.missed if now - self.missed_since < MISSED_SECONDS else 0.0

    def after(self, outcome: SweepOutcome, now: float, *, explained: bool) -> SweepHistory:
        """Return the history with one more outcome.

        :param explained: mom has learned why the sweep missed memory, and will not plan for it again
        """
        pause, since = REST_SECONDS.get(outcome.end, 0.0), self.in_vain_since
        if outcome.gave > IN_VAIN_SHARE * outcome.plan.gain:
            since = math.inf
        elif pause:
            since = min(since, outcome.ended)
            pause = max(pause, IN_VAIN_SECONDS) if outcome.ended - since >= IN_VAIN_SECONDS else pause
        history = replace(self, last=outcome, cost=outcome.cost, rests_until=outcome.ended + pause, in_vain_since=since)
        if not outcome.missed or explained:
            return history
        if now - self.missed_since < MISSED_SECONDS:
            return replace(history, missed=self.missed + outcome.missed)
        return replace(history, missed=outcome.missed, missed_since=now)
