"""The verdict on a trial of policies on some guests: figures in, an end with its reason out.

What speaks against a policy is compared with the same guests before and with the other guests now, so that a bad day of the host is not
laid at its door. What is not known speaks for neither side: without enough figures nothing is promoted.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from mom_core import Guest, Host, Value, as_number
from mom_kvm import CanaryGroup, CanaryState, HealthLimits, need_of

RECENT_CYCLES: Final = 6
"""The cycles that count as now: half a minute at 5 s."""

LEAST_UNHEALTHY: Final = 3
"""Samples of unhealthy guests, in two cycles at least, before anything is concluded: one bad moment proves nothing."""

MORE_NOW: Final = 0.10
MORE_IN_ALL: Final = 0.05
"""By how much the share of samples of unhealthy guests may exceed twice (now) or one and a half times (in all) what is usual. Now: one
guest of ten, all the time."""

LEAST_CYCLES: Final = 5
LEAST_KNOWN: Final = 0.5
"""The least that promotes: so many cycles, and so large a share of samples in which it is known how guests are."""

BAD_HOST_CYCLES: Final = 3
"""Of the recent ones, in which the host fared worse than before."""

SIZE: Final = "balloon_target"
"""The control that sets a guest's memory."""

ASKED_TOO_MUCH: Final = "to be made smaller than they need"

# --- when a host does -----------------------------------------------------------------------------------------------------------------

SWAP_OUT_PAGES: Final = 256.0
"""Pages a second: 1 MiB/s."""

HOST_SHARE: Final = 0.05
HOST_LOSS: Final = 0.5
"""Ratios. With less of the host's memory available than the first, and than the second of what was available before, the trial has cost the
host memory: what a host has available goes up and down, and a large one has 2 % in the best of times."""


@dataclass(slots=True)
class Tally:
    """Samples of guests of one group, added up."""

    samples: int = 0
    known: int = 0
    killed: int = 0
    unhealthy: Counter[str] = field(default_factory=Counter)

    @property
    def rate(self) -> float | None:
        """The share of samples in which a guest was unhealthy, of those in which that is known; None: of none."""
        return self.unhealthy.total() / self.known if self.known else None

    def add(self, trouble: str | None, killed: int = 0) -> None:
        """Look at a guest."""
        self.samples += 1
        self.known += trouble is not None
        if trouble:
            self.unhealthy[trouble] += 1
        self.killed += killed

    def add_all(self, other: Tally) -> None:
        """Add another one."""
        self.samples += other.samples
        self.known += other.known
        self.killed += other.killed
        self.unhealthy.update(other.unhealthy)

    def group(self, guests: int) -> CanaryGroup:
        """For who looks at the trial."""
        return CanaryGroup(guests, self.samples, self.known, self.unhealthy.total(), self.killed)


class HostFigures(NamedTuple):
    """How the host is: percent of time that any task waits for memory, pages a second to swap, ratio of memory available; None: unknown."""

    pressure: float | None
    swap_out: float | None
    available: float | None

    @classmethod
    def of(cls, host: Host) -> HostFigures:
        """From a snapshot."""
        total, available = host.number("mem_available"), host.number("mem_really_available")
        share = None if not total or available is None else available / total
        return cls(host.number("psi_memory_some_avg10"), host.number("swap_out_rate"), share)


def worse(now: HostFigures, before: Sequence[HostFigures]) -> str:
    """In what the host is worse than it was at any time before; empty: in nothing that is known, now and before."""
    pressure = max((one.pressure for one in before if one.pressure is not None), default=math.inf)
    swap_out = max((one.swap_out for one in before if one.swap_out is not None), default=math.inf)
    available = min((one.available for one in before if one.available is not None), default=0.0)
    if now.pressure is not None and now.pressure > pressure + HealthLimits.PRESSURE_PERCENT:
        return f"programs of the host wait for memory {now.pressure:.0f} % of the time, before at most {pressure:.0f} %"
    if now.swap_out is not None and now.swap_out > max(SWAP_OUT_PAGES, 2 * swap_out):
        return f"the host writes {now.swap_out:.0f} pages a second to its swap, before at most {swap_out:.0f}"
    if now.available is not None and now.available < min(HOST_SHARE, HOST_LOSS * available):
        return f"{100 * now.available:.1f} % of the host's memory is available, before at least {100 * available:.1f} %"
    return ""


@dataclass(slots=True)
class WatchedCycle:
    """One cycle of a trial: the guests on which it is made, the others, and in what the host was worse (None: unknown), and what failed."""

    canary: Tally
    others: Tally
    host: str | None
    fault: str = ""


class CanaryVerdict(NamedTuple):
    """The end of a trial, and why; while it is to go on, it is `RUNNING`."""

    state: CanaryState
    reason: str = ""


@dataclass(slots=True)
class Evidence:
    """All that a trial has shown so far; `before` is how the same guests fared before."""

    before: Tally = field(default_factory=Tally)
    canary: Tally = field(default_factory=Tally)
    others: Tally = field(default_factory=Tally)
    recent: deque[WatchedCycle] = field(default_factory=lambda: deque(maxlen=RECENT_CYCLES))
    cycles: int = 0
    host_known: int = 0

    def add(self, cycle: WatchedCycle) -> None:
        """One more cycle."""
        self.canary.add_all(cycle.canary)
        self.others.add_all(cycle.others)
        self.recent.append(cycle)
        self.cycles += 1
        self.host_known += cycle.host is not None


def judge(evidence: Evidence, left_seconds: float) -> CanaryVerdict:
    """The verdict on a trial with so much time left."""
    against = _against_now(evidence)
    if against:
        return CanaryVerdict(CanaryState.ROLLED_BACK, against)
    if left_seconds > 0:
        return CanaryVerdict(CanaryState.RUNNING)
    missing = _missing(evidence)
    if missing:
        return CanaryVerdict(CanaryState.ROLLED_BACK, f"too little is known to promote it: {missing}")
    canary, before, others = evidence.canary, evidence.before, evidence.others
    if canary.unhealthy.total() >= LEAST_UNHEALTHY and (canary.rate or 0.0) > 1.5 * _usual(before, others) + MORE_IN_ALL:
        return CanaryVerdict(CanaryState.ROLLED_BACK, _unhealthy(canary, before, others))
    fared = f"guests fared as well as before and as the others: unhealthy in {_compared(canary, before, others)}"
    return CanaryVerdict(CanaryState.PROMOTED, fared)


def _against_now(evidence: Evidence) -> str:
    """The reason against it, so clearly that the end need not come."""
    recent = evidence.recent
    faults = [cycle.fault for cycle in recent if cycle.fault]
    if len(faults) >= BAD_HOST_CYCLES:
        return f"it fails: {faults[-1]}"
    canary, others = Tally(), Tally()
    for cycle in recent:
        canary.add_all(cycle.canary)
        others.add_all(cycle.others)
    if evidence.canary.killed and _each(evidence.canary) > 2 * max(_each(evidence.others), _each(evidence.before)):
        return f"kernels of guests killed {evidence.canary.killed} programs for want of memory"
    enough = canary.unhealthy.total() >= LEAST_UNHEALTHY and evidence.cycles > 1
    if enough and (canary.rate or 0.0) > 2 * _usual(evidence.before, others) + MORE_NOW:
        return _unhealthy(canary, evidence.before, others)
    bad = [cycle.host for cycle in recent if cycle.host]
    return bad[-1] if len(bad) >= BAD_HOST_CYCLES else ""


def _each(tally: Tally) -> float:
    return tally.killed / tally.samples if tally.samples else 0.0


def _usual(before: Tally, others: Tally) -> float:
    """The share of samples of unhealthy guests that are not the trial's."""
    return max(before.rate or 0.0, others.rate or 0.0)


def _unhealthy(canary: Tally, before: Tally, others: Tally) -> str:
    what = canary.unhealthy.most_common(1)[0][0]
    return f"guests are {what}: {_compared(canary, before, others)}"


def _compared(canary: Tally, before: Tally, others: Tally) -> str:
    return f"{_samples(canary)}, {_samples(others)} of the others, {_samples(before)} before"


def _samples(tally: Tally) -> str:
    return f"{tally.unhealthy.total()} of {tally.known} samples" if tally.known else "no samples"


def _missing(evidence: Evidence) -> str:
    canary = evidence.canary
    if evidence.cycles < LEAST_CYCLES:
        return f"there were only {evidence.cycles} cycles"
    if not canary.samples:
        return "there was no guest to try it on"
    if canary.known < LEAST_KNOWN * canary.samples:
        return f"how guests are is known in only {canary.known} of {canary.samples} samples"
    if evidence.host_known < LEAST_KNOWN * evidence.cycles:
        return f"how the host is was known in only {evidence.host_known} of {evidence.cycles} cycles"
    return ""


def is_below_need(guest: Guest, wanted: Value) -> bool:
    """True if a size that was decided for a guest, in KiB, is less than it needs or is guaranteed. Review lets that happen to no guest; a
    policy that asks for it is wrong all the same."""
    target, need = as_number(wanted), need_of(guest)[0]
    return target is not None and need is not None and target < need


class KillCounts:
    """Programs that guests' kernels have killed for want of memory, from one look at each to the next.

    A guest that does not tell for a while is compared with what it told last: where programs are killed, its agent may be late, too. What
    stood there at first is no news.
    """

    def __init__(self) -> None:
        self._told: dict[str, tuple[str, float]] = {}
        """The incarnation of each guest, and how many there were then, by id."""

    def news(self, guest: Guest) -> int:
        """How many of its programs were killed since it told last; 0 while it does not tell."""
        count, before = guest.number("guest_oom_kills"), self._told.get(guest.id)
        if count is None:
            return 0
        self._told[guest.id] = guest.incarnation, count
        return 0 if before is None or before[0] != guest.incarnation else max(0, int(count - before[1]))
