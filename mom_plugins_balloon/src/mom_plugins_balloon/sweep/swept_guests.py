"""The sweeps of this host's guests: which may begin, what became of them, and what a mom before this one was cut off in."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, partial
from typing import Final, NamedTuple, Protocol, runtime_checkable

from mom_core import BalloonControl, Decision, Entity, Guest, NoChangeNeeded, PluginContext, Refused, Source, Value
from mom_plugins_balloon.ballooned_guests import CONTROL, BalloonedGuest, BalloonedGuests, SizeRequest
from mom_plugins_balloon.law.reasons import ReasonCode
from mom_plugins_balloon.learned_needs import learn_from_sweep
from mom_plugins_balloon.memory import GuestMemory
from mom_plugins_balloon.names import GAIN, REASON, SUGGESTED, SWEPT_NOW
from mom_plugins_balloon.parameters import UNKNOWN_REACTION_SECONDS, LawParameters
from mom_plugins_balloon.shrinks_under_way import TWO_SIZES
from mom_plugins_balloon.sweep.sweep import FRESH_SECONDS, REST_SECONDS, QemuProcess, Sweep, SweepEnd, Sweeper, SweepOutcome, SweepPlan
from mom_toolkit import pid_of, stale_seconds

GAVE, LASTED, ENDED, REST, MISSED = "sweep_gave", "sweep_seconds", "sweep_end", "sweep_rest", "sweep_missed"
REACTION = "balloon_reaction"

TOLD_SECONDS: Final = 60.0
"""s. For so long a guest's fields tell of its last sweep."""

MISSED_SECONDS: Final = 600.0
"""s. For so long a guest is not swept again for what its sweeps went down for and did not get: its kernel has that where the balloon does
not come to, or QEMU holds it. Such a sweep lasts a second, so that a guest has its headroom in 599 of 600."""

IN_VAIN_SHARE: Final = 0.25
IN_VAIN_SECONDS: Final = 120.0
"""Ratio of what the host was to get, and s. A guest of which it has got less for so long is not swept for as long: it may seem to have
freed memory, and be at work, whenever it is looked at. What is counted on of it, no other guest is swept for. Bursts are over sooner."""

LATELY_SECONDS: Final = 15.0
"""s. The slowest reaction of so long counts, and the smallest slices. Bursts that keep the host's CPUs busy last seconds; and where the
reaction was slow few guests are swept, so that no further sweep may show that this is over."""

REACTION_SECONDS: Final = 0.35
"""s. The reaction where a hypervisor sweeps by itself: the slowest of real guests (benchmarks/sweeps/bench_collisions.py)."""

RESIZE_SLACK_KIB: Final = 16 * 1024
"""KiB. As libvirt and QEMU tell sizes in steps of their own."""


@runtime_checkable
class SweepControl(Protocol):
    """A hypervisor that sweeps guests by itself, as a simulated one, whose time threads know nothing of."""

    def sweep_balloon(self, guest: Entity, bottom_kib: int) -> int:
        """Take what the guest has used and freed, down to that size, and leave it the size that it has; KiB that the host got."""


@runtime_checkable
class GuestStatistics(Protocol):
    """A hypervisor that can be asked between two cycles what a guest says of its memory."""

    def usable_memory(self, guest: Entity) -> tuple[float, float] | None:
        """When the guest's last statistics were made (s since the epoch), and KiB that are usable by them; None: it says nothing.

        Raises `HypervisorError`.
        """

    def size_now(self, guest: Entity) -> float | None:
        """What the guest's balloon leaves it, in KiB, while it moves; None: its balloon does not say. Raises `HypervisorError`."""


class LeavingSweep(NamedTuple):
    """The sweep of a guest that is to be moved: what the host is to get by it (KiB; 0: all), seconds within which it takes memory, and who
    is told what became of it."""

    gain: float
    within: float
    told: Callable[[SweepOutcome], object]


def is_sweep(guest: Guest, target: Value) -> bool:
    """True if this size is the law's suggestion of a sweep, and not a size that another wants it to keep."""
    return guest.fields.get(REASON) == ReasonCode.SWEEP.value and guest.fields.get(SUGGESTED) == target


class SweptGuests:
    """Begins sweeps, and notes in the records of guests what became of them."""

    def __init__(self, context: PluginContext, law: LawParameters, records: BalloonedGuests) -> None:
        self._context = context
        self._law = law
        self._records = records
        loss = "a guest may keep less than its headroom"
        self._file = context.state_file("sweeps.json", "the file of sweeps under way", TWO_SIZES, loss=loss)
        self.sweeper = Sweeper(context.log, self._note, context.wake)
        self._lately: deque[SweepOutcome] = deque()

    # --- begin ---------------------------------------------------------------------------------------------------------------------

    def begin(
        self, hypervisor: BalloonControl, guest: Guest, past: BalloonedGuest, known: GuestMemory, target: int, leaving: LeavingSweep | None
    ) -> SweepOutcome | None:
        """Sweep a guest of the last snapshot. Raises `HypervisorError`.

        :param past: its record
        :param known: what the snapshot tells of it
        :param leaving: how, as the guest is to be moved; None: it is not
        :return: what became of it where that is known already; None: it is under way
        """
        size, now = int(known.size or 0.0), self._context.monotonic()
        if isinstance(hypervisor, SweepControl):
            held, gave = guest.number("rss"), hypervisor.sweep_balloon(guest.entity, target)
            left = None if held is None else held - gave
            plan = SweepPlan(size, target, gave, 0.0, self._law.sweep_wait)
            told = (plan, target, gave, 1.0, REACTION_SECONDS, now, SweepEnd.ARRIVED if gave > 0 else SweepEnd.AT_WORK)
            outcome = SweepOutcome(guest.entity, guest.incarnation, *told, resident=left)
            self._took(outcome)
            if leaving is not None:
                leaving.told(outcome)
            return outcome
        asks = hypervisor if isinstance(hypervisor, GuestStatistics) else None
        statistics = None if asks is None else partial(asks.usable_memory, guest.entity)
        size_now = None if asks is None else partial(asks.size_now, guest.entity)
        waited = max(0.0, now - self._records.snapshot.monotonic)
        age = None if known.statistics.age is None else known.statistics.age + waited
        if age is None or age > (FRESH_SECONDS if statistics is None else stale_seconds(self._context.interval)):
            raise NoChangeNeeded("its statistics are too old by now to sweep it")
        pid = pid_of(guest)
        if pid is None:
            past.rests_until = now + REST_SECONDS[SweepEnd.UNSEEN]
            raise Refused("its process is not known: whether it is at work while it is swept could not be seen")
        command = partial(hypervisor.set_balloon, guest.entity)
        process = QemuProcess(pid, self._context.root / "proc")
        gain = (guest.number(GAIN) if leaving is None else leaving.gain) or float(size - target)
        hollow, usable = max(0.0, size - target - gain), known.statistics.usable or 0.0
        within, hears = (math.inf, None) if leaving is None else (leaving.within, leaving.told)
        plan = SweepPlan(size, target, gain, hollow, self._law.sweep_wait, usable, now - age, within)
        first_slice = min((one.slice for one in self._of_late()), default=math.inf)
        asked = (command, process, past.sweep_cost, statistics, size_now, first_slice)
        self.sweeper.begin(Sweep(guest.entity, guest.incarnation, plan, *asked, told=hears))
        return None

    # --- what became of them ---------------------------------------------------------------------------------------------------------

    def follow(self) -> None:
        """Take in what has ended: the guest was asked for its headroom again."""
        for outcome in self.sweeper.outcomes():
            self._took(outcome)

    def _took(self, outcome: SweepOutcome) -> None:
        memory = self._records.of(outcome.guest.id)
        if outcome.reaction and outcome.lowest < outcome.plan.size:
            self._lately.append(outcome)
        if memory is None or memory.incarnation != outcome.incarnation:
            return
        if memory.request is not None and memory.request.sweeps and memory.request.target == outcome.plan.bottom:
            size, lowest, ended = outcome.plan.size, outcome.lowest, outcome.ended
            back = SizeRequest(size, lowest, ended) if outcome.is_back else SizeRequest(math.ceil(lowest), size, ended)
            memory.request = None if outcome.end is SweepEnd.GONE else back
        memory.sweep, memory.sweep_cost = outcome, outcome.cost
        memory.rests_until = outcome.ended + _rest_after(outcome, memory)
        learnt = memory.learnt is not None and learn_from_sweep(memory.learnt, outcome)
        if outcome.missed and not learnt:
            if (now := self._context.monotonic()) - memory.missed_since >= MISSED_SECONDS:
                memory.missed, memory.missed_since = 0.0, now
            memory.missed += outcome.missed

    def _of_late(self) -> Iterable[SweepOutcome]:
        now, lately = self._context.monotonic(), self._lately
        while lately and now - lately[0].ended > LATELY_SECONDS:
            lately.popleft()
        return lately

    @property
    def reaction(self) -> float:
        """Seconds until a guest that grows while it is swept has its headroom again, by the slowest of the sweeps of late."""
        return max((one.reaction for one in self._of_late()), default=UNKNOWN_REACTION_SECONDS)

    def columns(self, guests: Sequence[Guest], records: Sequence[BalloonedGuest], now: float) -> dict[str, Sequence[Value]]:
        """Which guests are swept now, what became of their last sweeps, and in how many seconds they may be swept again."""
        last = [one.sweep if one.sweep is not None and now - one.sweep.ended < TOLD_SECONDS else None for one in records]
        columns: dict[str, Sequence[Value]] = {}
        if taking := self.sweeper.taking():
            columns[SWEPT_NOW] = [1 if guest.id in taking else None for guest in guests]
        if any(last):
            columns[GAVE] = [None if one is None else int(one.gave) for one in last]
            columns[LASTED] = [None if one is None else round(one.seconds, 2) for one in last]
            columns[ENDED] = [None if one is None else one.end.value for one in last]
        if any(one.missed for one in records):
            columns[MISSED] = [int(one.missed) if one.missed and now - one.missed_since < MISSED_SECONDS else None for one in records]
        rests = [round(one.rests_until - now, 1) if one.rests_until > now else None for one in records]
        return columns | {REST: rests} if any(rests) else columns

    # --- what was cut off --------------------------------------------------------------------------------------------------------------

    def was_swept_at(self, identity: str, size: int) -> bool:
        """True if a guest has this size because the mom before this one was cut off while it swept it."""
        one = self._cut_off.get(identity)
        return one is not None and one[1] - RESIZE_SLACK_KIB <= size <= one[2] + RESIZE_SLACK_KIB

    def ends_of_cut_off(self, source: Source) -> Sequence[Decision]:
        """What guests get back whose sweep was cut off, until they were asked to have it, or have another size."""
        cut_off, guests = self._cut_off, self._records.snapshot.guests
        if not cut_off or not guests:
            return ()
        ends: list[Decision] = []
        left: dict[str, tuple[str, int, int]] = {}
        for identity, one in cut_off.items():
            incarnation, bottom, back = one
            guest, memory = guests.get(identity), self._records.of(identity)
            if guest is None:
                left[identity] = one  # one list may lack it
            elif guest.incarnation == incarnation and (memory is None or memory.request is None or memory.request.in_doubt):
                size = guest.number("balloon_cur")
                if size is None:
                    left[identity] = one
                elif bottom - RESIZE_SLACK_KIB <= size <= back - self._records.dead_band:
                    left[identity] = one
                    why = "mom was cut off while it swept the guest: it gets its headroom back"
                    ends.append(Decision(guest.entity, CONTROL, back, why, source))
        if left.keys() != cut_off.keys():
            self._cut_off = left
            self.sweeper.note()  # or the next mom would take a size from then for one of that sweep's
        return ends

    @cached_property
    def _cut_off(self) -> Mapping[str, tuple[str, int, int]]:
        """Sweeps by the mom before this one whose guests are not known to have their headroom back: by guest id the incarnation, the least
        and the former size."""
        return self._file.read() or {}

    def _note(self, under_way: Mapping[str, tuple[str, int, int]]) -> None:
        """Note on disk what is under way, with what was cut off and is not back yet. Raises `StateError`."""
        self._file.write({**self._cut_off, **under_way}, durable=False)


def _rest_after(outcome: SweepOutcome, memory: BalloonedGuest) -> float:
    """For how many seconds a guest is not swept again after that."""
    rest = REST_SECONDS.get(outcome.end, 0.0)
    if outcome.gave > IN_VAIN_SHARE * outcome.plan.gain:
        memory.in_vain_since = math.inf
    elif rest:
        memory.in_vain_since = min(memory.in_vain_since, outcome.ended)
        if outcome.ended - memory.in_vain_since >= IN_VAIN_SECONDS:
            rest = max(rest, IN_VAIN_SECONDS)
    return rest
