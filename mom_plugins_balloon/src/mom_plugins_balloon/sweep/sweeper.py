"""Planner, runner and recorder of sweeps, each in its own thread."""

from __future__ import annotations

import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Protocol, runtime_checkable

from mom_core import Entity, Guest, NoChangeNeeded, PluginContext, Value
from mom_kvm import pid_of, stale_seconds
from mom_plugins_balloon.ballooned_guests import BalloonedGuests
from mom_plugins_balloon.law.reasons import ReasonCode
from mom_plugins_balloon.memory import GuestMemory
from mom_plugins_balloon.names import GAIN, MISSED, REASON, REST, SUGGESTED, SWEPT_NOW
from mom_plugins_balloon.parameters import UNKNOWN_REACTION_SECONDS
from mom_plugins_balloon.remembered import Remembered
from mom_plugins_balloon.sizes import BalloonControl
from mom_plugins_balloon.sweep.constants import FRESH_SECONDS, SLICE_KIB, STOP_SECONDS
from mom_plugins_balloon.sweep.qemu_process import QemuProcess
from mom_plugins_balloon.sweep.records import SweepEnd, SweepOutcome, SweepPlan
from mom_plugins_balloon.sweep.sweep import Sweep, SweptBalloon

GAVE, ENDED = "sweep_gave", "sweep_end"
REACTION = "balloon_reaction"

LATELY_SECONDS: Final = 15.0
"""Sweeps that ended within this time count: mom uses their slowest reaction."""

OWN_SWEEP_REACTION_SECONDS: Final = 0.35
"""Assumed reaction if the hypervisor performs sweeps itself: that of the slowest real guest (benchmarks/sweeps/bench_collisions.py)."""


@runtime_checkable
class SweepControl(Protocol):
    """Hypervisor that performs sweeps itself, such as the simulated one."""

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
class PlannedSweep:
    """Sweep that the law plans for the host, or for a guest that is about to migrate. A policy may stop it earlier, but not deepen it."""

    bottom: float  #: smallest size in KiB
    gain: float  #: planned gain in KiB at `bottom`; 0 for all memory
    within: float = math.inf  #: seconds after which the sweep takes no more memory
    on_end: Callable[[SweepOutcome], object] | None = None

    @classmethod
    def of_law(cls, guest: Guest) -> PlannedSweep | None:
        """Return the sweep that the law suggests; None without one."""
        suggested = guest.number(SUGGESTED)
        return cls(suggested, guest.number(GAIN) or 0.0) if suggested and guest.fields.get(REASON) == ReasonCode.SWEEP.value else None


class SweptGuests:
    """Sweeps of this host's guests. The methods about running sweeps are thread-safe."""

    def __init__(self, context: PluginContext, records: BalloonedGuests) -> None:
        self._context, self._records = context, records
        self._lately: deque[SweepOutcome] = deque()
        self._lock = threading.RLock()
        self._under_way: dict[str, Sweep] = {}
        self._threads: list[threading.Thread] = []
        self._outcomes: list[SweepOutcome] = []
        self._most = max(1, (os.cpu_count() or 1) // 2)
        """Maximum number of balloons that inflate at once: each keeps a CPU busy."""
        self._turns = threading.Semaphore(self._most)

    def start(self, sweep: Sweep) -> None:
        """Start a sweep in its own thread. Raises `NoChangeNeeded` if the sweep has to wait."""
        identity = sweep.guest.id
        with self._lock:
            if identity in self._under_way:
                raise NoChangeNeeded("its sweep is still running")
            if len(self._under_way) >= 2 * self._most:
                raise NoChangeNeeded("too many sweeps are running or waiting: this guest has to wait")
            thread = threading.Thread(target=self._perform, args=(sweep,), name="mom-sweep", daemon=True)
            thread.start()  # raises `RuntimeError` at the systemd unit's thread limit
            self._under_way[identity] = sweep
            self._threads = [*(earlier for earlier in self._threads if earlier.is_alive()), thread]

    def take_over(self, identity: str) -> bool:
        """End a guest's sweep, because the guest gets another size. Return whether a sweep was running."""
        with self._lock:
            sweep = self._under_way.get(identity)
        if sweep is not None:
            sweep.take_over()
        return sweep is not None

    def stop(self, identity: str) -> None:
        """End a guest's sweep, if any, and deflate its balloon."""
        with self._lock:
            if (sweep := self._under_way.get(identity)) is not None:
                sweep.stop()

    def stop_all(self, seconds: float = STOP_SECONDS) -> None:
        """End all sweeps, and wait at most this long until guests have their headroom back."""
        until = time.monotonic() + seconds
        with self._lock:
            for sweep in self._under_way.values():
                sweep.stop()
            threads = self._threads
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))

    def inflating(self) -> frozenset[str]:
        """Return the IDs of guests whose sweeps watch them or inflate their balloons now."""
        with self._lock:
            return frozenset(identity for identity, sweep in self._under_way.items() if sweep.inflates)

    def outcomes(self) -> list[SweepOutcome]:
        """Return the outcomes since the last call."""
        with self._lock:
            outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def unreported(self) -> frozenset[str]:
        """Return the IDs of guests whose sweeps are running, or whose outcome is still to be read."""
        with self._lock:
            return frozenset((*self._under_way, *(outcome.guest.id for outcome in self._outcomes)))

    def _perform(self, sweep: Sweep) -> None:
        outcome = sweep.perform(self._turns)
        with self._lock:
            del self._under_way[sweep.guest.id]
            self._outcomes.append(outcome)
            last = not self._under_way
        self._context.log.debug("sweep of %s: %s", sweep.guest, outcome)
        if sweep.on_end is not None:
            sweep.on_end(outcome)
        if last and outcome.gave > SLICE_KIB:
            self._context.wake("guests were swept")

    def begin(
        self, hypervisor: BalloonControl, guest: Guest, past: Remembered, memory: GuestMemory, target: int, planned: PlannedSweep
    ) -> SweepOutcome | None:
        """Sweep a guest of the last snapshot. Raises `HypervisorError` if the sweep cannot begin.

        :return: None if the sweep is running in its thread
        """
        if isinstance(hypervisor, SweepControl):
            outcome = self._swept_by(hypervisor, guest, memory, target)
            self._record(outcome)
            if planned.on_end is not None:
                planned.on_end(outcome)
            return outcome
        entity, now = guest.entity, self._context.monotonic()
        balloon, freshest = SweptBalloon(partial(hypervisor.set_balloon, entity)), FRESH_SECONDS
        if isinstance(hypervisor, GuestStatistics):
            balloon = replace(balloon, size=partial(hypervisor.size_now, entity), statistics=partial(hypervisor.usable_memory, entity))
            freshest = stale_seconds(self._context.interval)
        age = memory.statistics.age
        if age is None or (age := age + max(0.0, now - self._records.snapshot.monotonic)) > freshest:
            raise NoChangeNeeded("its statistics are too old for a sweep")
        size = int(memory.size or 0.0)
        gain = max(0.0, planned.gain - (target - planned.bottom)) or float(size - target)
        plan = SweepPlan(
            size=size, bottom=target, gain=gain, hollow=max(0.0, size - target - gain), usable=memory.statistics.usable or 0.0,
            measured=now - age, within=planned.within, cost=past.sweeps.cost,
        )  # fmt: skip
        process = QemuProcess(pid_of(guest) or 0, self._context.root / "proc")  # a sweep of an unknown process fails
        self.start(Sweep(entity, guest.incarnation, plan, balloon, process.read, planned.on_end))
        return None

    def _swept_by(self, hypervisor: SweepControl, guest: Guest, memory: GuestMemory, target: int) -> SweepOutcome:
        gave = hypervisor.sweep_balloon(guest.entity, target)
        plan = SweepPlan(size=int(memory.size or 0.0), bottom=target, gain=gave)
        return SweepOutcome(
            guest=guest.entity, incarnation=guest.incarnation, plan=plan, end=SweepEnd.ARRIVED if gave > 0 else SweepEnd.AT_WORK,
            ended=self._context.monotonic(), lowest=target, gave=gave, seconds=1.0, reaction=OWN_SWEEP_REACTION_SECONDS,
        )  # fmt: skip

    def follow(self) -> None:
        """Record the outcomes of ended sweeps."""
        for outcome in self.outcomes():
            self._record(outcome)

    def _record(self, outcome: SweepOutcome) -> None:
        if outcome.reaction and outcome.began:
            self._lately.append(outcome)
        past = self._records.of(outcome.guest.id)
        if past is None or past.incarnation != outcome.incarnation:
            return
        self._records.put(outcome.guest.id, past.after_sweep(outcome, self._context.monotonic()))

    @property
    def reaction(self) -> float:
        """Seconds until a guest that grows during its sweep has its headroom back, in the slowest recent sweep."""
        now, lately = self._context.monotonic(), self._lately
        while lately and now - lately[0].ended > LATELY_SECONDS:
            lately.popleft()
        return max((outcome.reaction for outcome in lately), default=UNKNOWN_REACTION_SECONDS)

    def columns(self, guests: Sequence[Guest], records: Sequence[Remembered], now: float) -> dict[str, Sequence[Value]]:
        """Return guests' fields about sweeps."""
        inflating, histories = self.inflating(), [record.sweeps for record in records]
        last = [history.shown(now) for history in histories]
        return {
            SWEPT_NOW: [1 if guest.id in inflating else None for guest in guests],
            GAVE: [None if sweep is None else int(sweep.gave) for sweep in last],
            ENDED: [None if sweep is None else sweep.end.value for sweep in last],
            MISSED: [int(history.missed_lately(now)) or None for history in histories],
            REST: [round(history.rests_until - now, 1) if history.rests_until > now else None for history in histories],
        }
