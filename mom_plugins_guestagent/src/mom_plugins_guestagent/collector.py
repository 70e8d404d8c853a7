"""Queries to all guests in the background, so that no cycle waits for a guest.

One asyncio thread uses a limited number of connections, and queries silent guests less often.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar
from zlib import crc32

from mom_core import Entity, NotSupported, Value
from mom_kvm import Callers
from mom_plugins_guestagent.clients import AgentWay, GuestdWay, Misbehaves, NoAnswer, PassOn
from mom_plugins_guestagent.fields import STATISTICS, AgentSample, judge
from mom_plugins_guestagent.ways import OF_AGENTS, AgentAddress, AgentKind, Way

T = TypeVar("T")

_SOCKETS_AT_ONCE = 256
"""Maximum number of open sockets."""

_CALLS_AT_ONCE = 4
_DOUBTFUL_CALLS_AT_ONCE = 2
"""Limits of calls through the hypervisor: to guests that answered the last query, and to others. Each occupies a thread of mom, and one of
libvirtd's twenty."""

_LONGEST_WAIT_SECONDS = 120.0
"""The pause before the next query of a silent agent doubles up to this limit."""

_SPREAD = 0.1

_SHORT_PERIODS = 3
"""A message that the host is short of memory has effect for this many periods and a timeout."""

TIMEOUT_SECONDS = 3.0
"""Timeout of one query."""

HYPERVISOR_SECONDS = 60.0
"""Time between two queries through the hypervisor to a guest with balloon statistics, because a query takes a dozen commands."""

_STALE_PERIODS = 3
_STALE_LONG_PERIODS = 2
"""Numbers of periods, and of periods of `HYPERVISOR_SECONDS`, after which statistics are stale."""


@dataclass(frozen=True, slots=True)
class AgentTarget:
    """Guest with the addresses of its agents, the preferred address first. When `incarnation` changes, mom discards the guest's state."""

    guest: Entity
    incarnation: str
    places: tuple[AgentAddress, ...]


@dataclass(slots=True, eq=False)
class AgentState:
    """State of the queries to one guest. Only the loop's thread changes it; any thread may read it."""

    target: AgentTarget
    ways: Sequence[Way] = ()
    sample: AgentSample | None = None
    by: AgentKind | None = None
    facts: Mapping[str, Value] = field(default_factory=dict)
    rounds: int = 0
    failures: int = 0
    untrusted: int = 0
    """Number of queries with implausible answers."""
    complaint: str = ""
    silence: str = ""
    task: asyncio.Task[None] | None = None

    @property
    def disabled(self) -> tuple[str, ...]:
        """Commands that the guest's agents lack or may not run."""
        return tuple(name for way in self.ways for name in way.disabled)

    @property
    def spread(self) -> float:
        """Factor for the time between this guest's queries, to spread all guests' queries."""
        return 1 + _SPREAD * (2 * crc32(self.target.guest.id.encode()) / (1 << 32) - 1)


class AgentCollector:
    """Collector of statistics from agents, in its own thread from `start` to `stop`."""

    def __init__(self, period: float, log: logging.Logger, pass_on: PassOn | None = None) -> None:
        self._period = period
        self._log = log
        self.pass_on = pass_on
        self._loop, self._stopping = asyncio.new_event_loop(), asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="guestagent", daemon=True)
        self._callers = Callers("guestagent-call", _CALLS_AT_ONCE + _DOUBTFUL_CALLS_AT_ONCE)
        self._guests: dict[str, AgentState] = {}
        self._targets: dict[str, AgentTarget] = {}
        self._maxima: Mapping[str, int] = {}
        self._known: AbstractSet[str] = frozenset()
        self._short: AbstractSet[str] = frozenset()
        self._sockets = asyncio.Semaphore(_SOCKETS_AT_ONCE)
        self._calls = asyncio.Semaphore(_CALLS_AT_ONCE)
        self._doubtful_calls = asyncio.Semaphore(_DOUBTFUL_CALLS_AT_ONCE)
        self._stopped = False

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, patience: float) -> None:
        """Close all connections, and stop the thread. Wait at most `patience` seconds."""
        if self._stopped:
            return
        self._stopped = True
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(patience / 2)
        else:
            self._loop.close()
        self._callers.close(patience / 2)

    def _call(self, function: Callable[[], T]) -> asyncio.Future[T]:
        return asyncio.wrap_future(self._callers.start(function))

    # --- from other threads ------------------------------------------------------------------------------------------------------

    def follow(self, targets: Sequence[AgentTarget]) -> None:
        """Query only `targets` from now on."""
        followed = {target.guest.id: target for target in targets}
        if followed != self._targets and not self._stopped:
            self._targets = followed
            self._loop.call_soon_threadsafe(self._follow, followed)

    def learn(self, maxima: Mapping[str, int], known: AbstractSet[str], short: AbstractSet[str] = frozenset()) -> None:
        """Record the hypervisor's view of guests.

        :param maxima: the guests' largest memory in KiB, keyed by ID
        :param known: guests with fresh balloon statistics; if mom reaches them through the hypervisor, it queries them less often
        :param short: guests to tell that the host is short of memory
        """
        self._maxima, self._known, self._short = maxima, known, short

    def states(self) -> Mapping[str, AgentState]:
        """Return the states, keyed by guest ID."""
        return self._guests

    def fields(self, identities: Sequence[str], of_driver: AbstractSet[str] = frozenset()) -> dict[str, dict[str, Value]]:
        """Return fresh fields, keyed by guest ID. For guests in `of_driver`, leave out the fields that the balloon driver reports."""
        guests = self._guests
        followed = (identity for identity in identities if identity in guests)
        return {identity: self._fields(guests[identity], STATISTICS if identity in of_driver else frozenset()) for identity in followed}

    def _fields(self, state: AgentState, left_out: AbstractSet[str]) -> dict[str, Value]:
        fields: dict[str, Value] = {}
        now, sample, by = time.monotonic(), state.sample, state.by
        if sample is not None:
            fields["guest_agent_age"] = round(now - sample.monotonic, 3)
            if self._is_fresh(state, sample):
                fields.update((name, value) for name, value in sample.fields.items() if name not in left_out)
                fields["guest_agent"] = str(by)
        fields.update(state.facts)
        if state.rounds:
            fields["guest_agent_failures"] = state.failures
            fields["guest_agent_untrusted"] = state.untrusted
        return fields

    def _is_fresh(self, state: AgentState, sample: AgentSample) -> bool:
        periods, period = _STALE_PERIODS, self._period
        if state.by is AgentKind.AGENT_HYPERVISOR and state.target.guest.id in self._known:
            periods, period = _STALE_LONG_PERIODS, max(period, HYPERVISOR_SECONDS)
        return time.monotonic() - sample.monotonic <= periods * period + TIMEOUT_SECONDS

    # --- the loop ----------------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._stopping.wait())  # the end of run() cancels all tasks

    def _follow(self, wanted: Mapping[str, AgentTarget]) -> None:
        guests = {}
        for identity, target in wanted.items():
            state = self._guests.get(identity)
            if state is None or state.target.incarnation != target.incarnation:
                state = AgentState(target, self._ways(target, ()))
                state.task = self._loop.create_task(self._keep_asking(state))
            elif state.target.places != target.places:
                state.target, state.ways = target, self._ways(target, state.ways)
            guests[identity] = state
        for identity, state in self._guests.items():
            if guests.get(identity) is not state and state.task is not None:
                state.task.cancel()
        self._guests = guests

    def _ways(self, target: AgentTarget, before: Sequence[Way]) -> list[Way]:
        earlier, seconds = {way.place: way for way in before}, TIMEOUT_SECONDS
        agent = partial(AgentWay, seconds=seconds, guest=target.guest, call=self._call, pass_on=self._passed_on)
        short = partial(self._short_seconds, target.guest.id)
        return [
            earlier.get(place) or (agent(place) if place.kind in OF_AGENTS else GuestdWay(place, seconds, short)) for place in target.places
        ]

    def _short_seconds(self, identity: str) -> int:
        return math.ceil(_SHORT_PERIODS * self._period + TIMEOUT_SECONDS) if identity in self._short else 0

    def _passed_on(self, guest: Entity, command: str, seconds: float) -> str:
        if self.pass_on is None:
            raise NotSupported("the hypervisor does not pass commands to agents")
        return self.pass_on(guest, command, seconds)

    async def _keep_asking(self, state: AgentState) -> None:
        period = self._period * state.spread
        while True:
            began = self._loop.time()
            try:
                await self._round(state)
            except Exception:  # noqa: BLE001  # containment: an error with one guest must not end the queries of that guest
                self._log.exception("querying %s failed", state.target.guest)
            # Wait for the next period, and until at least one way may be tried again.
            wait = max(began + period, min((way.not_before for way in state.ways), default=0.0)) - self._loop.time()
            await asyncio.sleep(wait)

    async def _round(self, state: AgentState) -> None:
        sample: AgentSample | None = None
        by: AgentKind | None = None
        complaints: list[str] = []
        answered = resting = False
        for way in state.ways:
            if sample is not None:
                break
            if self._rests(state, way):
                resting = True
            elif self._loop.time() >= way.not_before and (figures := await self._visit(way, complaints)) is not None:
                answered = True
                state.facts = {**state.facts, **way.facts}
                if figures:
                    maximum, by = self._maxima.get(state.target.guest.id), way.place.kind
                    sample = judge(figures, time.monotonic(), state.sample, maximum)
                    complaints.extend(sample.lies)
        if sample is not None:
            state.by, state.sample = by, sample  # another thread reads `by` after `sample`
        state.failures += not answered and not resting
        state.untrusted += bool(complaints)
        state.complaint = "; ".join(complaints)
        silences = (f"{way.place.kind}: {way.why}" for way in state.ways if way.why)
        state.silence = "" if sample is not None or resting else "; ".join(silences)
        state.rounds += 1

    async def _visit(self, way: Way, complaints: list[str]) -> Mapping[str, object] | None:
        began = self._loop.time()
        try:
            # Guests that do not answer must not delay other guests.
            by_calls = self._doubtful_calls if way.failures else self._calls
            async with by_calls if way.place.kind is AgentKind.AGENT_HYPERVISOR else self._sockets:
                figures = await way.visit()
        except (TimeoutError, NoAnswer, Misbehaves) as error:
            way.failures += 1
            way.answers, way.answered_at = 0, None
            way.not_before = self._loop.time() + min(_LONGEST_WAIT_SECONDS, self._period * 2 ** min(way.failures, 10))
            way.why = "no answer in time" if isinstance(error, TimeoutError) else str(error)
            if isinstance(error, Misbehaves):
                complaints.append(error.message)
            return None
        way.answers += 1
        way.failures, way.not_before, way.answered_at, way.why = 0, 0.0, began, ""
        return figures

    def _rests(self, state: AgentState, way: Way) -> bool:
        # A round through the hypervisor takes a dozen commands, which are expensive.
        if way.place.kind is not AgentKind.AGENT_HYPERVISOR or way.answered_at is None or state.target.guest.id not in self._known:
            return False
        # Use the round that is nearest to the end of the long period.
        return self._loop.time() - way.answered_at < HYPERVISOR_SECONDS * state.spread - self._period / 2
