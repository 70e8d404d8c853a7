"""Queries to all guests in the background, so that no cycle waits for a guest.

One asyncio thread queries all guests over a limited number of connections, and queries silent guests less often.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar
from zlib import crc32

from mom_core import Entity, NotSupported, Value
from mom_kvm import Callers
from mom_plugins_guestagent.fields import SHORT_LEFT, STATISTICS
from mom_plugins_guestagent.figures import AgentSample, judge
from mom_plugins_guestagent.guestd import MOST_SHORT_SECONDS
from mom_plugins_guestagent.guestd_client import GuestdWay
from mom_plugins_guestagent.qemu_agent import AgentWay, PassOn
from mom_plugins_guestagent.settings import AgentSettings
from mom_plugins_guestagent.ways import OF_AGENTS, AgentAddress, AgentKind
from mom_plugins_guestagent.wire import Misbehaves, NoAnswer

T = TypeVar("T")

_SOCKETS_AT_ONCE = 256
_DOUBTFUL_SOCKETS_AT_ONCE = 64
"""Most open sockets to guests that answered the last query, and to other guests. A process has 1,024 descriptors by default."""

_CALLS_AT_ONCE = 4
_DOUBTFUL_CALLS_AT_ONCE = 2
"""Most simultaneous calls through the hypervisor, likewise. Each call occupies a thread here, and one of libvirtd's twenty threads."""

_LONGEST_WAIT_SECONDS = 120.0
"""The pause before the next query of a silent agent doubles up to this limit: somebody may install an agent."""

_SPREAD = 0.1
"""Fraction by which the guests' periods vary, so that queries are spread over time."""

_SHORT_PERIODS = 3
_LONGEST_SHORT_PERIOD_SECONDS = MOST_SHORT_SECONDS / _SHORT_PERIODS
"""After a message that the host is short of memory, a guest helps for this many periods. Guests accept at most `MOST_SHORT_SECONDS`."""

_FACTS_PERIODS = 3


@dataclass(frozen=True, slots=True)
class AgentTarget:
    """Guest with the addresses of its agents, the preferred first. When `incarnation` changes, mom discards the guest's state."""

    guest: Entity
    incarnation: str
    places: tuple[AgentAddress, ...]


@dataclass(slots=True)
class _Trial:
    place: AgentAddress
    way: AgentWay | GuestdWay
    failures: int = 0
    not_before: float = 0.0
    answered_at: float | None = None
    """Time of the last answer by the loop's clock; None while the way fails."""
    why: str = ""


@dataclass(frozen=True, slots=True)
class AgentState:
    """State of the queries to one guest. Any thread may read it."""

    sample: AgentSample | None = None
    by: AgentKind | None = None
    facts: Mapping[str, Value] = field(default_factory=dict)
    facts_at: float | None = None
    rounds: int = 0
    failures: int = 0
    untrusted: int = 0
    """Number of queries with implausible answers."""
    complaint: str = ""
    disabled: tuple[str, ...] = ()
    silence: str = ""


@dataclass(slots=True, eq=False)
class _Followed:
    # Only the loop's thread uses this record, except `state`.

    target: AgentTarget
    trials: list[_Trial]
    state: AgentState = field(default_factory=AgentState)
    task: asyncio.Task[None] | None = None
    due: asyncio.Event = field(default_factory=asyncio.Event)
    surprised: bool = False


@dataclass(slots=True)
class _RoundResult:
    sample: AgentSample | None = None
    by: AgentKind | None = None
    facts: Mapping[str, Value] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)
    answered: bool = False
    resting: bool = False
    """Whether a working way was skipped because its long period is not over."""

    @property
    def of_memory(self) -> bool:
        return self.sample is not None and self.sample.of_memory


class AgentCollector:
    """Collector of statistics from agents, in its own thread from `start` to `stop`."""

    def __init__(self, asking: AgentSettings, log: logging.Logger, pass_on: PassOn | None = None) -> None:
        self._asking = asking
        self._log = log
        self.pass_on = pass_on
        self._loop, self._stopping = asyncio.new_event_loop(), asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="guestagent", daemon=True)
        self._callers = Callers("guestagent-call", _CALLS_AT_ONCE + _DOUBTFUL_CALLS_AT_ONCE)
        self._guests: dict[str, _Followed] = {}
        self._targets: dict[str, AgentTarget] = {}
        self._maxima: Mapping[str, int] = {}
        self._known: AbstractSet[str] = frozenset()
        self._short: AbstractSet[str] = frozenset()
        self._lanes = {
            (False, True): asyncio.Semaphore(_SOCKETS_AT_ONCE),
            (False, False): asyncio.Semaphore(_DOUBTFUL_SOCKETS_AT_ONCE),
            (True, True): asyncio.Semaphore(_CALLS_AT_ONCE),
            (True, False): asyncio.Semaphore(_DOUBTFUL_CALLS_AT_ONCE),
        }
        """Limits of simultaneous queries, keyed by (whether through the hypervisor, whether the guest answered the last query)."""
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
        """Query only these guests from now on."""
        followed = {target.guest.id: target for target in targets}
        if followed != self._targets and not self._stopped:
            self._targets = followed
            self._loop.call_soon_threadsafe(self._follow, followed)

    def learn(self, maxima: Mapping[str, int], known: AbstractSet[str], short: AbstractSet[str] = frozenset()) -> None:
        """Record the hypervisor's view of guests.

        :param maxima: largest memory in KiB
        :param known: guests with fresh balloon statistics; if mom reaches them through the hypervisor, it queries them less often
        :param short: guests to tell that the host is short of memory
        """
        new = short - self._short
        self._maxima, self._known, self._short = maxima, known, short
        if new and not self._stopped:
            self._loop.call_soon_threadsafe(self._hurry, new)

    def states(self) -> Mapping[str, AgentState]:
        """Return the states, keyed by guest id."""
        return {identity: followed.state for identity, followed in self._guests.items()}

    def fields(self, identities: Sequence[str], of_driver: AbstractSet[str] = frozenset()) -> dict[str, dict[str, Value]]:
        """Return fresh fields, keyed by guest id. For guests in `of_driver`, leave out the fields that the balloon driver reports."""
        now, guests, by_hypervisor = time.monotonic(), self._guests, self._known
        followed = [identity for identity in identities if identity in guests]
        return {
            identity: _fields(
                guests[identity].state, now, self._asking, identity in by_hypervisor, STATISTICS if identity in of_driver else frozenset()
            )
            for identity in followed
        }

    # --- the loop ----------------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._stopping.wait())  # the end of run() cancels all tasks

    def _follow(self, wanted: Mapping[str, AgentTarget]) -> None:
        guests = {}
        for identity, target in wanted.items():
            before = self._guests.get(identity)
            if before is not None and before.target.incarnation == target.incarnation:
                if before.target.places != target.places:
                    before.target = target
                    before.trials = self._trials(target, before.trials)
                guests[identity] = before
            else:
                followed = _Followed(target, self._trials(target, []))
                followed.task = self._loop.create_task(self._keep_asking(followed))
                guests[identity] = followed
        for identity, followed in self._guests.items():
            if guests.get(identity) is not followed and followed.task is not None:
                followed.task.cancel()
        self._guests = guests

    def _hurry(self, identities: AbstractSet[str]) -> None:
        for identity in identities & self._guests.keys():
            if _may_be_told(self._guests[identity].state):
                self._guests[identity].due.set()

    def _short_seconds(self, identity: str) -> int:
        period = min(self._asking.period, _LONGEST_SHORT_PERIOD_SECONDS)
        return math.ceil(min(MOST_SHORT_SECONDS, _SHORT_PERIODS * period + self._asking.timeout)) if identity in self._short else 0

    def _trials(self, target: AgentTarget, before: Sequence[_Trial]) -> list[_Trial]:
        earlier, seconds = {trial.place: trial for trial in before}, self._asking.timeout
        agent = partial(AgentWay, seconds=seconds, guest=target.guest, call=self._call, pass_on=self._passed_on)
        short = partial(self._short_seconds, target.guest.id)
        new = (_Trial(place, agent(place) if place.kind in OF_AGENTS else GuestdWay(place, seconds, short)) for place in target.places)
        return [earlier.get(trial.place, trial) for trial in new]

    def _passed_on(self, guest: Entity, command: str, seconds: float) -> str:
        if self.pass_on is None:
            raise NotSupported("the hypervisor does not pass commands to agents")
        return self.pass_on(guest, command, seconds)

    async def _keep_asking(self, followed: _Followed) -> None:
        period = self._asking.period * _spread(followed)
        while True:
            began = self._loop.time()
            try:
                await self._round(followed)
            except Exception:  # noqa: BLE001  # containment: an error with one guest must not end the queries of that guest
                self._log.log(logging.DEBUG if followed.surprised else logging.ERROR, "asking %s", followed.target.guest, exc_info=True)
                followed.surprised = True
            # Wait for the next period, and until at least one way may be tried again.
            tries = [trial.not_before for trial in followed.trials]
            wait = max(began + period, min(tries, default=0.0)) - self._loop.time()
            if followed.target.guest.id in self._short and _may_be_told(followed.state):
                wait = min(wait, _LONGEST_SHORT_PERIOD_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await followed.due.wait()
            followed.due.clear()

    async def _round(self, followed: _Followed) -> None:
        state = followed.state
        facts_due = state.facts_at is None or self._loop.time() - state.facts_at >= self._asking.facts_period
        result = _RoundResult()
        for trial in followed.trials:
            await self._try(followed, trial, result, facts_due)
        followed.state = self._next(followed, result, facts_due)

    async def _try(self, followed: _Followed, trial: _Trial, result: _RoundResult, facts_due: bool) -> None:
        if result.of_memory and (result.facts or not facts_due):
            return
        began = self._loop.time()
        if began < trial.not_before:
            return
        if self._rests(followed, trial, began):
            result.resting = True
            return
        try:
            # Guests that do not answer must not delay other guests.
            async with self._lanes[trial.place.kind is AgentKind.AGENT_HYPERVISOR, not trial.failures]:
                answer = await trial.way.visit(figures=not result.of_memory, facts=facts_due)
        except (TimeoutError, NoAnswer, Misbehaves) as error:
            trial.failures += 1
            trial.answered_at = None
            wait = min(_LONGEST_WAIT_SECONDS, self._asking.period * 2 ** min(trial.failures, 10))
            trial.not_before = self._loop.time() + wait
            trial.why = "no answer in time" if isinstance(error, TimeoutError) else str(error)
            if isinstance(error, Misbehaves):
                result.complaints.append(error.message)
            return
        trial.failures, trial.not_before, trial.answered_at, trial.why = 0, 0.0, began, ""
        result.answered = True
        result.facts = {**(answer.facts or {}), **result.facts}
        if answer.figures and not result.of_memory:
            maximum = self._maxima.get(followed.target.guest.id)
            sample = judge(answer.figures, time.monotonic(), followed.state.sample, maximum)
            result.complaints.extend(sample.lies)
            if result.sample is None or sample.of_memory:
                result.sample, result.by = sample, trial.place.kind

    def _rests(self, followed: _Followed, trial: _Trial, now: float) -> bool:
        # A round through the hypervisor takes a dozen commands, which are expensive.
        if trial.place.kind is not AgentKind.AGENT_HYPERVISOR or trial.answered_at is None or followed.target.guest.id not in self._known:
            return False
        # Use the round that is nearest to the end of the long period.
        return now - trial.answered_at < self._asking.hypervisor_period * _spread(followed) - self._asking.period / 2

    def _next(self, followed: _Followed, result: _RoundResult, facts_due: bool) -> AgentState:
        state = followed.state
        disabled = tuple(name for trial in followed.trials if isinstance(trial.way, AgentWay) for name in trial.way.disabled)
        if disabled and not state.disabled and not result.of_memory:
            text = "the agent of %s is not allowed to run %s: the guest's memory statistics stay unknown"
            self._log.info(text, followed.target.guest, ", ".join(disabled))
        silence = "; ".join(f"{trial.place.kind}: {trial.why}" for trial in followed.trials if trial.why)
        # Do not replace a fresh sample that has memory statistics by one without them.
        age = time.monotonic() - state.sample.monotonic if state.sample else 0.0
        by_hypervisor = followed.target.guest.id in self._known
        has_memory = (
            state.sample is not None and state.sample.of_memory and age <= self._asking.stale(state.by, by_hypervisor=by_hypervisor)
        )
        if result.of_memory or (result.sample is not None and not has_memory):
            state = replace(state, sample=result.sample, by=result.by)
        if facts_due and result.answered:
            state = replace(state, facts=result.facts, facts_at=self._loop.time())
        return replace(
            state,
            rounds=state.rounds + 1,
            failures=state.failures + (not result.answered and not result.resting),
            untrusted=state.untrusted + bool(result.complaints),
            complaint="; ".join(result.complaints),
            disabled=disabled,
            silence="" if result.sample is not None or result.resting else silence,
        )


def _spread(followed: _Followed) -> float:
    share = crc32(followed.target.guest.id.encode()) / (1 << 32)
    return 1 + _SPREAD * (2 * share - 1)


def _may_be_told(state: AgentState) -> bool:
    return state.sample is not None and SHORT_LEFT in state.sample.fields


def _fields(state: AgentState, now: float, asking: AgentSettings, by_hypervisor: bool, left_out: AbstractSet[str]) -> dict[str, Value]:
    fields: dict[str, Value] = {}
    if state.sample is not None:
        age = now - state.sample.monotonic
        fields["guest_agent_age"] = round(age, 3)
        if age <= asking.stale(state.by, by_hypervisor=by_hypervisor):
            fields.update((name, value) for name, value in state.sample.fields.items() if name not in left_out)
            fields["guest_agent"] = str(state.by)
    if state.facts_at is not None and now - state.facts_at <= _FACTS_PERIODS * asking.facts_period:
        fields.update(state.facts)
    if state.rounds:
        fields["guest_agent_failures"] = state.failures
        fields["guest_agent_untrusted"] = state.untrusted
    return fields
