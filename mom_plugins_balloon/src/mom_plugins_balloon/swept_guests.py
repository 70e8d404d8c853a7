"""The sweeps of this host's guests: which may begin, what became of them, and what a mom before this one was cut off in."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Final, Protocol, runtime_checkable

from pydantic import Field, TypeAdapter

from mom_core import (
    BalloonControl,
    Decision,
    Entity,
    Guest,
    NoChangeNeeded,
    PluginContext,
    Refused,
    Snapshot,
    Source,
    StateError,
    Value,
    as_whole,
)
from mom_plugins_balloon.law import ReasonCode
from mom_plugins_balloon.names import REASON, SUGGESTED
from mom_plugins_balloon.parameters import UNKNOWN_REACTION_SECONDS, LawParameters
from mom_plugins_balloon.requests import Requests
from mom_plugins_balloon.spare_memory import CONTROL
from mom_plugins_balloon.sweeps import REST_SECONDS, QemuProcess, Sweep, SweepEnd, Sweeper, SweepOutcome

GAVE, LASTED, ENDED, REST = "sweep_gave", "sweep_seconds", "sweep_end", "sweep_rest"
REACTION = "balloon_reaction"

TOLD_SECONDS: Final = 60.0
"""s. For so long a guest's fields tell of its last sweep."""

REACTIONS: Final = 20
"""Sweeps by whose slowest reaction the next ones go: what was slow once, on a host that was busy, is not for ever."""

REACTION_SECONDS: Final = 0.35
"""s. The reaction where a hypervisor sweeps by itself: the slowest of real guests (benchmarks/sweeps/bench_collisions.py)."""

RESIZE_SLACK_KIB: Final = 16 * 1024
"""KiB. As libvirt and QEMU tell sizes in steps of their own."""

_Kib = Annotated[int, Field(gt=0, lt=1 << 53)]
_FORM: Final = TypeAdapter(dict[str, tuple[str, _Kib, _Kib]])


@runtime_checkable
class SweepControl(Protocol):
    """A hypervisor that sweeps guests by itself, as a simulated one, whose time threads know nothing of."""

    def sweep_balloon(self, guest: Entity, bottom_kib: int) -> int:
        """Take what the guest has used and freed, down to that size, and leave it the size that it has; KiB that the host got."""
        ...


class SweptGuests:
    """Begins sweeps, and keeps what became of them."""

    def __init__(self, context: PluginContext, law: LawParameters) -> None:
        self._context = context
        self._law = law
        self._file = context.state_file("sweeps.json", "the file of sweeps under way", _FORM, loss="a guest may keep less than its room")
        self._cut_off: Mapping[str, tuple[str, int, int]] | None = None
        """Sweeps by the mom before this one, by guest id: incarnation, least and former size; None: not looked at yet."""
        self._sweeper = Sweeper(context.log, self._note, context.wake)
        self._last: dict[str, SweepOutcome] = {}
        self._rests: dict[str, float] = {}
        """Until when guests are not swept again (monotonic seconds)."""
        self._reactions: list[float] = []
        self._cheapest: dict[str, float] = {}
        """CPU seconds that the balloon of each guest needed for a KiB at least."""

    # --- begin ---------------------------------------------------------------------------------------------------------------------

    def is_sweep(self, guest: Guest, target: int) -> bool:
        """Whether this size is the law's suggestion of a sweep, and not a size that somebody wants it to keep."""
        return guest.fields.get(REASON) == ReasonCode.SWEEP.value and guest.fields.get(SUGGESTED) == target

    def begin(self, hypervisor: BalloonControl, guest: Guest, target: int, size: int, age: float | None) -> None:
        """Sweep a guest of this size. Raises `HypervisorError`.

        :param age: seconds since its statistics were made
        """
        if isinstance(hypervisor, SweepControl):
            gave = hypervisor.sweep_balloon(guest.entity, target)
            now = self._context.monotonic()
            self._took(
                SweepOutcome(
                    guest.entity, guest.incarnation, size - target, target, size, gave, 1.0, REACTION_SECONDS, now, SweepEnd.ARRIVED
                )
            )
            return
        if age is None or age > self._law.sweep_statistics_age:
            raise NoChangeNeeded("its statistics are too old by now to sweep it")
        pid = as_whole(guest.properties.get("pid"))
        if not pid:
            self._rests[guest.id] = self._context.monotonic() + REST_SECONDS[SweepEnd.UNSEEN]
            raise Refused("its process is not known: whether it is at work while it is swept could not be seen")

        def command(kib: int) -> None:
            hypervisor.set_balloon(guest.entity, kib)

        process = QemuProcess(pid, self._context.root / "proc")
        self._cut_off_before()
        cheapest = self._cheapest.get(guest.id, math.inf)
        self._sweeper.begin(Sweep(guest.entity, guest.incarnation, size, target, command, process, self._law.sweep_wait, cheapest))

    def take_over(self, identity: str) -> None:
        """The guest gets another size: its sweep ends, and commands nothing any more."""
        self._sweeper.take_over(identity)

    def is_under_way(self, identity: str) -> bool:
        """Whether the guest is swept now."""
        return self._sweeper.is_under_way(identity)

    # --- what became of them ---------------------------------------------------------------------------------------------------------

    def follow(self, requests: Requests) -> Sequence[SweepOutcome]:
        """Take in what has ended: the guest was asked for its room again, which the requests are told."""
        outcomes = self._sweeper.outcomes()
        for outcome in outcomes:
            identity = outcome.guest.id
            if outcome.end is SweepEnd.GONE:
                requests.forget(identity)
            elif outcome.end is not SweepEnd.TAKEN_OVER:
                requests.sent(identity, int(outcome.back), outcome.lowest, outcome.ended, outcome.incarnation)
            self._took(outcome)
        return outcomes

    def _took(self, outcome: SweepOutcome) -> None:
        self._last[outcome.guest.id] = outcome
        if outcome.reaction and outcome.lowest < outcome.back:
            self._reactions = [*self._reactions, outcome.reaction][-REACTIONS:]
        self._cheapest[outcome.guest.id] = outcome.cheapest
        if outcome.end in REST_SECONDS:
            self._rests[outcome.guest.id] = outcome.ended + REST_SECONDS[outcome.end]

    @property
    def reaction(self) -> float:
        """Seconds until a guest that grows while it is swept has its room again, by the slowest of the last sweeps."""
        return max(self._reactions, default=UNKNOWN_REACTION_SECONDS)

    def columns(self, guests: Sequence[Guest], now: float) -> dict[str, Sequence[Value]]:
        """What became of these guests' last sweeps, and in how many seconds they may be swept again."""
        self._last = {identity: one for identity, one in self._last.items() if now - one.ended < TOLD_SECONDS}
        self._rests = {identity: until for identity, until in self._rests.items() if until > now}
        if len(self._cheapest) > len(guests) > 0:
            self._cheapest = {guest.id: self._cheapest[guest.id] for guest in guests if guest.id in self._cheapest}
        columns: dict[str, Sequence[Value]] = {}
        if self._last:
            last = [one if (one := self._last.get(guest.id)) and one.incarnation == guest.incarnation else None for guest in guests]
            columns[GAVE] = [None if one is None else int(one.gave) for one in last]
            columns[LASTED] = [None if one is None else round(one.seconds, 2) for one in last]
            columns[ENDED] = [None if one is None else one.end.value for one in last]
        if self._rests:
            columns[REST] = [None if (until := self._rests.get(guest.id)) is None else round(until - now, 1) for guest in guests]
        return columns

    # --- what was cut off --------------------------------------------------------------------------------------------------------------

    def was_swept_at(self, identity: str, size: int) -> bool:
        """Whether a guest has this size because the mom before this one was cut off while it swept it."""
        one = self._cut_off_before().get(identity)
        return one is not None and one[1] - RESIZE_SLACK_KIB <= size <= one[2] + RESIZE_SLACK_KIB

    def ends_of_cut_off(self, snapshot: Snapshot, source: Source) -> Sequence[Decision]:
        """What guests get back whose sweep was cut off; once, in the first cycle that sees guests."""
        cut_off = self._cut_off_before()
        if not cut_off or not snapshot.guests:
            return ()
        self._cut_off = {}
        ends = []
        for identity, (incarnation, bottom, back) in cut_off.items():
            guest = snapshot.guests.get(identity)
            size = None if guest is None or guest.incarnation != incarnation else guest.number("balloon_cur")
            if guest is not None and size is not None and bottom - RESIZE_SLACK_KIB <= size < back:
                ends.append(
                    Decision(guest.entity, CONTROL, back, "mom was cut off while it swept the guest: it gets its room back", source)
                )
        return ends

    def _cut_off_before(self) -> Mapping[str, tuple[str, int, int]]:
        if self._cut_off is None:
            self._cut_off = {}
            with suppress(StateError):
                self._cut_off = (self._file.read() if self._context.serves else self._file.look()) or {}
        return self._cut_off

    def _note(self, under_way: Mapping[str, tuple[str, int, int]]) -> None:
        """Note on disk what is under way. Raises `StateError`."""
        self._file.write(under_way, durable=False)
