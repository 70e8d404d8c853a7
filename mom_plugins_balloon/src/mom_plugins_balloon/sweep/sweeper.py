"""Plans sweeps, runs each in its own thread, and records outcomes."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Protocol, runtime_checkable

from mom_core import BalloonControl, Decision, Entity, Guest, NoChangeNeeded, PluginContext, Refused, Source, StateError, Value
from mom_kvm import pid_of, stale_seconds
from mom_plugins_balloon.balloon_state import BalloonFile, UnfinishedSweep
from mom_plugins_balloon.ballooned_guests import BalloonedGuests
from mom_plugins_balloon.law.reasons import ReasonCode
from mom_plugins_balloon.memory import GuestMemory
from mom_plugins_balloon.names import CONTROL, GAIN, REASON, SUGGESTED, SWEPT_NOW
from mom_plugins_balloon.parameters import UNKNOWN_REACTION_SECONDS, LawParameters
from mom_plugins_balloon.remembered import Remembered
from mom_plugins_balloon.sweep.limits import END_SECONDS, FIRST_SLICE_KIB, FRESH_SECONDS, SLICE_KIB
from mom_plugins_balloon.sweep.qemu_process import QemuProcess
from mom_plugins_balloon.sweep.records import REST_SECONDS, SweepEnd, SweepOutcome, SweepPlan
from mom_plugins_balloon.sweep.sweep import Sweep, SweptBalloon

GAVE, LASTED, ENDED, REST, MISSED = "sweep_gave", "sweep_seconds", "sweep_end", "sweep_rest", "sweep_missed"
REACTION = "balloon_reaction"

LATELY_SECONDS: Final = 15.0
"""s. The slowest reaction and the smallest slice of this period count: busy CPUs last seconds."""

REACTION_SECONDS: Final = 0.35
"""s. Reaction of a hypervisor that performs sweeps itself: the slowest real guest (benchmarks/sweeps/bench_collisions.py)."""

RESIZE_SLACK_KIB: Final = 16 * 1024
"""KiB. libvirt and QEMU round sizes."""


class Sweeper:
    """Running sweeps. Thread-safe.

    :param file: keeps a note of each sweep until its deflate command
    :param wake: called in a sweep's thread after the last one, if the host gained memory
    """

    def __init__(self, log: logging.Logger, file: BalloonFile, wake: Callable[[str], None]) -> None:
        self._log, self._file, self._wake = log, file, wake
        self._lock = threading.RLock()
        self._under_way: dict[str, Sweep] = {}
        self._threads: list[threading.Thread] = []
        self._outcomes: list[SweepOutcome] = []
        self._most = max(1, (os.cpu_count() or 1) // 2)
        """Maximum number of balloons that inflate at the same time: each keeps a CPU busy. One reclaims 0.5 GiB/s, more than a burst needs.
        """
        self._turns = threading.Semaphore(self._most)

    def begin(self, sweep: Sweep) -> None:
        """Start a sweep in its own thread. Raises `NoChangeNeeded` if the sweep has to wait, and `Refused` if it cannot start."""
        identity = sweep.guest.id
        with self._lock:
            if identity in self._under_way:
                raise NoChangeNeeded("its sweep is still running")
            if len(self._under_way) >= 2 * self._most:
                raise NoChangeNeeded(f"the maximum number of sweeps is running ({self._most}): this guest has to wait")
            before, thread = self._file.state.sweeps, threading.Thread(target=self._perform, args=(sweep,), name="mom-sweep", daemon=True)
            self._under_way[identity] = sweep
            try:
                self._file.write(sweeps={**before, identity: sweep.unfinished})
                thread.start()
            except (StateError, RuntimeError) as error:  # RuntimeError: the systemd unit's thread limit is reached
                del self._under_way[identity]
                self._note(before)
                raise Refused(f"cannot start the sweep, or record it for recovery after a crash: {error}") from error
            self._threads = [*(earlier for earlier in self._threads if earlier.is_alive()), thread]

    def take_over(self, identity: str) -> bool:
        """End a guest's sweep, because the guest gets another size. Return whether it was being swept."""
        with self._lock:
            sweep = self._under_way.get(identity)
        if sweep is not None:
            sweep.take_over()
        return sweep is not None

    def settle(self, identity: str) -> None:
        """Drop the note of a guest whose sweep no longer sets its size."""
        with self._lock:
            sweep = self._under_way.get(identity)
            sweeps = self._file.state.sweeps
            if (sweep is None or sweep.taken_over) and identity in sweeps:
                self._note({other: note for other, note in sweeps.items() if other != identity})

    def stop(self, identity: str) -> None:
        """End a guest's sweep, if any, and deflate its balloon."""
        with self._lock:
            if (sweep := self._under_way.get(identity)) is not None:
                sweep.stop()

    def stop_all(self, seconds: float = END_SECONDS) -> None:
        """End all sweeps, and wait within the time limit for guests' headroom."""
        until = time.monotonic() + seconds
        with self._lock:
            for sweep in self._under_way.values():
                sweep.stop()
            threads = self._threads
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))

    def inflating(self) -> frozenset[str]:
        """Return the ids of guests whose sweeps have their turn."""
        with self._lock:
            return frozenset(identity for identity, sweep in self._under_way.items() if sweep.inflates)

    def outcomes(self) -> list[SweepOutcome]:
        """Return the outcomes since the last call."""
        with self._lock:
            outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def unfinished(self) -> Mapping[str, UnfinishedSweep]:
        """Return notes of sweeps that were cut off. Their guests may lack headroom."""
        with self._lock:
            return {identity: note for identity, note in self._file.state.sweeps.items() if identity not in self._under_way}

    def _note(self, sweeps: Mapping[str, UnfinishedSweep]) -> None:
        try:
            self._file.write(sweeps=sweeps)
        except StateError as error:
            self._log.warning("cannot record the running sweeps: %s", error.message)

    def _perform(self, sweep: Sweep) -> None:
        outcome = sweep.perform(self._turns)
        with self._lock:
            del self._under_way[sweep.guest.id]
            self._outcomes.append(outcome)
            if outcome.is_back:
                self.settle(sweep.guest.id)
            last = not self._under_way
        self._log.debug("sweep of %s: %s", sweep.guest, outcome)
        if sweep.on_end is not None:
            sweep.on_end(outcome)
        if last and outcome.gave > SLICE_KIB:
            self._wake("guests were swept")


@runtime_checkable
class SweepControl(Protocol):
    """Hypervisor that performs sweeps itself, such as the simulated one, which has its own clock."""

    def sweep_balloon(self, guest: Entity, bottom_kib: int) -> int:
        """Sweep a guest down to this size. Return the KiB that the host gained."""


@runtime_checkable
class GuestStatistics(Protocol):
    """Hypervisor that reports a guest's memory between two cycles. Its methods raise `HypervisorError`."""

    def usable_memory(self, guest: Entity) -> tuple[float, float] | None:
        """Return the time of the last statistics (s since the epoch) and the usable KiB; None if there are none."""

    def size_now(self, guest: Entity) -> float | None:
        """Return the guest's size in KiB while its balloon moves; None if unknown."""


@dataclass(frozen=True, slots=True)
class LeavingSweep:
    """Sweep of a guest that is about to migrate."""

    gain: float  #: planned gain in KiB; 0 for all memory
    within: float  #: seconds after which the sweep takes no more memory
    on_end: Callable[[SweepOutcome], object]


def is_sweep(guest: Guest, target: Value) -> bool:
    """Return whether this size is a sweep of the law, not a lasting size. A policy may stop a sweep earlier, but not make it deeper."""
    suggested = guest.number(SUGGESTED)
    return guest.fields.get(REASON) == ReasonCode.SWEEP.value and isinstance(target, int | float) and target >= (suggested or math.inf)


class SweptGuests:
    """Sweeps of this host's guests."""

    def __init__(self, context: PluginContext, law: LawParameters, records: BalloonedGuests, file: BalloonFile) -> None:
        self._context, self._law, self._records = context, law, records
        self.sweeper = Sweeper(context.log, file, context.wake)
        self._lately: deque[SweepOutcome] = deque()

    def begin(
        self, hypervisor: BalloonControl, guest: Guest, past: Remembered, memory: GuestMemory, target: int, leaving: LeavingSweep | None
    ) -> SweepOutcome | None:
        """Sweep a guest of the last snapshot. Raises `HypervisorError` if the sweep cannot begin.

        :return: None if the sweep is running in its thread
        """
        if isinstance(hypervisor, SweepControl):
            outcome = self._swept_by(hypervisor, guest, memory, target)
            self._record(outcome)
            if leaving is not None:
                leaving.on_end(outcome)
            return outcome
        entity, now = guest.entity, self._context.monotonic()
        balloon, freshest = SweptBalloon(partial(hypervisor.set_balloon, entity)), FRESH_SECONDS
        if isinstance(hypervisor, GuestStatistics):
            balloon = replace(balloon, size=partial(hypervisor.size_now, entity), statistics=partial(hypervisor.usable_memory, entity))
            freshest = stale_seconds(self._context.interval)
        age = memory.statistics.age
        if age is None or (age := age + max(0.0, now - self._records.snapshot.monotonic)) > freshest:
            raise NoChangeNeeded("its statistics are too old for a sweep")
        pid = pid_of(guest)
        if pid is None:
            rests = replace(past.sweeps, rests_until=now + REST_SECONDS[SweepEnd.UNSEEN])
            self._records.put(guest.id, past._replace(sweeps=rests))
            raise Refused("its QEMU process is unknown: mom could not see whether the guest is busy during a sweep")
        plan = replace(self._plan(guest, memory, target, leaving), measured=now - age, cost=past.sweeps.cost)
        read, on_end = QemuProcess(pid, self._context.root / "proc").read, None if leaving is None else leaving.on_end
        self.sweeper.begin(Sweep(entity, guest.incarnation, plan, balloon, read, on_end))
        return None

    def _plan(self, guest: Guest, memory: GuestMemory, target: int, leaving: LeavingSweep | None) -> SweepPlan:
        size = int(memory.size or 0.0)
        gain = (self._gain_at(guest, target) if leaving is None else leaving.gain) or float(size - target)
        first = min([FIRST_SLICE_KIB, *(outcome.next_slice for outcome in self._recent())])
        return SweepPlan(
            size=size, bottom=target, gain=gain, hollow=max(0.0, size - target - gain), wait=self._law.sweep_wait,
            usable=memory.statistics.usable or 0.0, within=math.inf if leaving is None else leaving.within, first_slice=first,
        )  # fmt: skip

    @staticmethod
    def _gain_at(guest: Guest, target: int) -> float:
        # A policy may leave a part of the planned gain to the guest.
        gain, suggested = guest.number(GAIN), guest.number(SUGGESTED)
        return 0.0 if gain is None or suggested is None else max(0.0, gain - (target - suggested))

    def _swept_by(self, hypervisor: SweepControl, guest: Guest, memory: GuestMemory, target: int) -> SweepOutcome:
        resident, gave = guest.number("rss"), hypervisor.sweep_balloon(guest.entity, target)
        plan = SweepPlan(size=int(memory.size or 0.0), bottom=target, gain=gave, wait=self._law.sweep_wait)
        return SweepOutcome(
            guest=guest.entity, incarnation=guest.incarnation, plan=plan, end=SweepEnd.ARRIVED if gave > 0 else SweepEnd.AT_WORK,
            ended=self._context.monotonic(), lowest=target, gave=gave, seconds=1.0, reaction=REACTION_SECONDS,
            resident=None if resident is None else resident - gave,
        )  # fmt: skip

    def follow(self) -> None:
        """Record the outcomes of ended sweeps."""
        for outcome in self.sweeper.outcomes():
            self._record(outcome)

    def _record(self, outcome: SweepOutcome) -> None:
        if outcome.reaction and outcome.began:
            self._lately.append(outcome)
        past = self._records.of(outcome.guest.id)
        if past is None or past.incarnation != outcome.incarnation:
            return
        self._records.put(outcome.guest.id, past.after_sweep(outcome, self._context.monotonic()))

    def _recent(self) -> Iterable[SweepOutcome]:
        now, lately = self._context.monotonic(), self._lately
        while lately and now - lately[0].ended > LATELY_SECONDS:
            lately.popleft()
        return lately

    @property
    def reaction(self) -> float:
        """Seconds until a guest that grows during its sweep has its headroom back: the slowest recent sweep."""
        return max((outcome.reaction for outcome in self._recent()), default=UNKNOWN_REACTION_SECONDS)

    def columns(self, guests: Sequence[Guest], records: Sequence[Remembered], now: float) -> dict[str, Sequence[Value]]:
        """Return guests' fields about sweeps."""
        inflating, histories = self.sweeper.inflating(), [record.sweeps for record in records]
        last = [history.shown(now) for history in histories]
        return {
            SWEPT_NOW: [1 if guest.id in inflating else None for guest in guests],
            GAVE: [None if sweep is None else int(sweep.gave) for sweep in last],
            LASTED: [None if sweep is None else round(sweep.seconds, 2) for sweep in last],
            ENDED: [None if sweep is None else sweep.end.value for sweep in last],
            MISSED: [int(history.missed_lately(now)) or None for history in histories],
            REST: [round(history.rests_until - now, 1) if history.rests_until > now else None for history in histories],
        }

    def explain(self, identity: str, size: int) -> bool:
        """Return whether a guest has this size because its sweep was cut off."""
        sweep = self.sweeper.unfinished().get(identity)
        return sweep is not None and sweep.bottom - RESIZE_SLACK_KIB <= size <= sweep.size + RESIZE_SLACK_KIB

    def ends_of_cut_off(self, source: Source) -> Iterable[Decision]:
        """Yield decisions that return headroom to guests whose sweeps were cut off."""
        for identity, sweep in self.sweeper.unfinished().items():
            guest = self._records.snapshot.guests.get(identity)
            if guest is None:
                continue  # a single list may lack the guest
            if not self._lacks_headroom(guest, sweep):
                self.sweeper.settle(identity)  # an old note would explain later sizes of the guest, too
            elif guest.number("balloon_cur") is not None:
                why = "mom was interrupted while it swept the guest: the guest gets its headroom back"
                yield Decision(guest.entity, CONTROL, sweep.size, why, source)

    def _lacks_headroom(self, guest: Guest, sweep: UnfinishedSweep) -> bool:
        past, size = self._records.of(guest.id), guest.number("balloon_cur")
        request = None if past is None else past.request
        if guest.incarnation != sweep.incarnation or (request is not None and not (request.in_doubt or request.sweeps)):
            return False
        return size is None or sweep.bottom - RESIZE_SLACK_KIB <= size <= sweep.size - self._records.dead_band
