"""Asks all guests in the background, each in its own time, so that no cycle ever waits for a guest.

One thread runs an asyncio loop; it belongs to the collector, which ends and joins it. A guest that does not answer costs a place among
those that are asked at once, until its time is up; from then on it shares a few places with others of its kind, and is asked less often.
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
from dataclasses import dataclass, field
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
"""So many guests are asked over sockets at once: those that answered last time, and apart from them those that did not. A process has
1,024 descriptors unless it is told otherwise."""

_CALLS_AT_ONCE = 4
_DOUBTFUL_CALLS_AT_ONCE = 2
"""The same through the hypervisor: each holds a thread here and one of libvirtd's twenty."""

_LONGEST_WAIT_SECONDS = 120.0
"""A way that did not lead to an answer is tried again after twice the time each time, up to this: an agent may be installed meanwhile."""

_SPREAD = 0.1
"""A guest's period is longer or shorter by up to this share, always by the same, so that not all are asked at the same moment."""

_SHORT_PERIODS = 3
_LONGEST_SHORT_PERIOD_SECONDS = MOST_SHORT_SECONDS / _SHORT_PERIODS
"""A guest is told that its host is short of memory for so many periods and a timeout from then on, and that again in each visit: what it
does for its host ends by itself if nobody comes any more. It believes no more than `MOST_SHORT_SECONDS`."""

_FACTS_PERIODS = 3
"""Facts that could not be read again for so many periods are unknown."""


@dataclass(frozen=True, slots=True)
class AgentTarget:
    """A guest to be asked, and where, in the order of preference. Another `incarnation`, and all that was known is forgotten."""

    guest: Entity
    incarnation: str
    places: tuple[AgentAddress, ...]


@dataclass(slots=True)
class _Trial:
    """A way, and how it went so far."""

    place: AgentAddress
    way: AgentWay | GuestdWay
    failures: int = 0
    not_before: float = 0.0
    asked: float | None = None
    """When it led to an answer last, by the loop's clock; None while it does not."""
    why: str = ""


@dataclass(frozen=True, slots=True)
class AgentState:
    """All that is known of one guest. Replaced, never changed, so that it can be read from any thread.

    `by` is the way on which the last sample came, `facts_at` when the facts were read (seconds); `untrusted` counts the visits after which
    something was not believed, `complaint` says what it was at the last one; `disabled` are commands that the agent lacks; `silence` says
    why there is no answer.
    """

    sample: AgentSample | None = None
    by: AgentKind | None = None
    facts: Mapping[str, Value] = field(default_factory=dict)
    facts_at: float | None = None
    rounds: int = 0
    failures: int = 0
    untrusted: int = 0
    complaint: str = ""
    disabled: tuple[str, ...] = ()
    silence: str = ""


@dataclass(slots=True, eq=False)
class _Followed:
    """A guest that is being asked. Belongs to the loop's thread, apart from `state`, which any thread may read."""

    target: AgentTarget
    trials: list[_Trial]
    state: AgentState = field(default_factory=AgentState)
    task: asyncio.Task[None] | None = None
    due: asyncio.Event = field(default_factory=asyncio.Event)
    """Set where the next visit is not to wait for its time."""
    surprised: bool = False
    """Something has gone wrong that is none of the failures that are expected: said once."""


@dataclass(slots=True)
class _RoundResult:
    """One round's result so far."""

    sample: AgentSample | None = None
    by: AgentKind | None = None
    facts: Mapping[str, Value] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)
    answered: bool = False
    resting: bool = False
    """A way was left out that answered last time, as it is not yet time to ask on it again."""

    @property
    def of_memory(self) -> bool:
        """There are figures of its memory: an agent that may not read files still tells how busy the guest is."""
        return self.sample is not None and self.sample.of_memory


class AgentCollector:
    """Follows guests from `start` to `stop`."""

    def __init__(self, asking: AgentSettings, log: logging.Logger, pass_on: PassOn | None = None) -> None:
        self._asking = asking
        self._log = log
        self.pass_on = pass_on
        """How commands reach agents behind the hypervisor; another one after a reload that made the hypervisor anew."""
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
        """By whether the hypervisor is asked, and whether there was an answer last time."""
        self._stopped = False

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, patience: float) -> None:
        """Hang up everywhere and end the thread; waits for it, and for calls to the hypervisor, `patience` seconds at most."""
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
        """Have a call made that blocks, from the loop's thread."""
        return asyncio.wrap_future(self._callers.start(function))

    # --- from other threads ------------------------------------------------------------------------------------------------------

    def follow(self, targets: Sequence[AgentTarget]) -> None:
        """Ask these guests from now on, and no others."""
        wanted = {target.guest.id: target for target in targets}
        if wanted != self._targets and not self._stopped:
            self._targets = wanted
            self._loop.call_soon_threadsafe(self._follow, wanted)

    def learn(self, maxima: Mapping[str, int], known: AbstractSet[str], short: AbstractSet[str] = frozenset()) -> None:
        """What the hypervisor says, by guest id: how much memory guests can have at most, in KiB, and of which it knows by itself how their
        memory is. Who claims more is not believed; through it, these are asked at the long period only. `short`: who is to be told that
        the host is short of memory, as long as it is."""
        new = short - self._short
        self._maxima, self._known, self._short = maxima, known, short
        if new and not self._stopped:
            self._loop.call_soon_threadsafe(self._hurry, new)

    def states(self) -> Mapping[str, AgentState]:
        """The state of each guest that is followed, by guest id."""
        return {identity: followed.state for identity, followed in self._guests.items()}

    def fields(self, identities: Sequence[str], of_driver: AbstractSet[str] = frozenset()) -> dict[str, dict[str, Value]]:
        """Fresh fields, by guest id; without the statistics of those `of_driver`: their balloon driver may tell them."""
        now, guests, known = time.monotonic(), self._guests, self._known
        asked = [one for one in identities if one in guests]
        return {
            one: _fields(guests[one].state, now, self._asking, one in known, STATISTICS if one in of_driver else frozenset())
            for one in asked
        }

    # --- the loop ----------------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._stopping.wait())  # its end cancels all tasks

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
        """Visit those of them now that may be told something."""
        for identity in identities & self._guests.keys():
            if _may_be_told(self._guests[identity].state):
                self._guests[identity].due.set()

    def _short_seconds(self, identity: str) -> int:
        """For how long that guest is to take its host to be short of memory; 0: it is told nothing."""
        period = min(self._asking.period, _LONGEST_SHORT_PERIOD_SECONDS)
        return math.ceil(min(MOST_SHORT_SECONDS, _SHORT_PERIODS * period + self._asking.timeout)) if identity in self._short else 0

    def _trials(self, target: AgentTarget, before: Sequence[_Trial]) -> list[_Trial]:
        known, seconds = {trial.place: trial for trial in before}, self._asking.timeout
        agent = partial(AgentWay, seconds=seconds, guest=target.guest, call=self._call, pass_on=self._passed_on)
        short = partial(self._short_seconds, target.guest.id)
        new = (_Trial(one, agent(one) if one.kind in OF_AGENTS else GuestdWay(one, seconds, short)) for one in target.places)
        return [known.get(trial.place, trial) for trial in new]

    def _passed_on(self, guest: Entity, command: str, seconds: float) -> str:
        """By the hypervisor of now: ways outlive the one that was there when they were made."""
        if self.pass_on is None:
            raise NotSupported("the hypervisor passes nothing on to agents")
        return self.pass_on(guest, command, seconds)

    async def _keep_asking(self, followed: _Followed) -> None:
        period = self._asking.period * _spread(followed)
        while True:
            began = self._loop.time()
            try:
                await self._round(followed)
            except Exception:  # noqa: BLE001  # containment: what one guest can make go wrong must not end its being asked
                self._log.log(logging.DEBUG if followed.surprised else logging.ERROR, "asking %s", followed.target.guest, exc_info=True)
                followed.surprised = True
            # The next period, or when the first way may be tried again.
            tries = [trial.not_before for trial in followed.trials]
            rest = max(began + period, min(tries, default=0.0)) - self._loop.time()
            if followed.target.guest.id in self._short and _may_be_told(followed.state):
                rest = min(rest, _LONGEST_SHORT_PERIOD_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout(rest):
                    await followed.due.wait()
            followed.due.clear()

    async def _round(self, followed: _Followed) -> None:
        """Ask on one way after the other until there are figures of memory, and facts where they are due."""
        state = followed.state
        facts_due = state.facts_at is None or self._loop.time() - state.facts_at >= self._asking.facts_period
        found = _RoundResult()
        for trial in followed.trials:
            await self._try(followed, trial, found, facts_due)
        followed.state = self._next(followed, found, facts_due)

    async def _try(self, followed: _Followed, trial: _Trial, found: _RoundResult, facts_due: bool) -> None:
        """Ask on this way, if there is something to ask for and it is time to try it."""
        if found.of_memory and (found.facts or not facts_due):
            return
        began = self._loop.time()
        if began < trial.not_before:
            return
        if self._rests(followed, trial, began):
            found.resting = True
            return
        try:
            # Who did not answer last time waits for a place among its own kind.
            async with self._lanes[trial.place.kind is AgentKind.AGENT_HYPERVISOR, not trial.failures]:
                said = await trial.way.visit(figures=not found.of_memory, facts=facts_due)
        except (TimeoutError, NoAnswer, Misbehaves) as error:
            trial.failures += 1
            trial.asked = None
            wait = min(_LONGEST_WAIT_SECONDS, self._asking.period * 2 ** min(trial.failures, 10))
            trial.not_before = self._loop.time() + wait
            trial.why = "no answer in time" if isinstance(error, TimeoutError) else str(error)
            if isinstance(error, Misbehaves):
                found.complaints.append(error.message)
            return
        trial.failures, trial.not_before, trial.asked, trial.why = 0, 0.0, began, ""
        found.answered = True
        found.facts = {**(said.facts or {}), **found.facts}
        if said.figures and not found.of_memory:
            maximum = self._maxima.get(followed.target.guest.id)
            sample = judge(said.figures, time.monotonic(), followed.state.sample, maximum)
            found.complaints.extend(sample.lies)
            if found.sample is None or sample.of_memory:
                found.sample, found.by = sample, trial.place.kind

    def _rests(self, followed: _Followed, trial: _Trial, now: float) -> bool:
        """Tell whether it is too early to ask on this way again: a dozen commands for what the hypervisor mostly knows are dear."""
        if trial.place.kind is not AgentKind.AGENT_HYPERVISOR or trial.asked is None or followed.target.guest.id not in self._known:
            return False
        # Rounds begin a period apart, so the one that is nearest to the end of the long period is the one.
        return now - trial.asked < self._asking.hypervisor_period * _spread(followed) - self._asking.period / 2

    def _next(self, followed: _Followed, found: _RoundResult, facts_due: bool) -> AgentState:
        state = followed.state
        learnt = facts_due and found.answered
        disabled = tuple(name for trial in followed.trials if isinstance(trial.way, AgentWay) for name in trial.way.disabled)
        if disabled and not state.disabled and not found.of_memory:
            self._log.info("the agent of %s may not run %s: how its memory is stays unknown", followed.target.guest, ", ".join(disabled))
        silence = "; ".join(f"{trial.place.kind}: {trial.why}" for trial in followed.trials if trial.why)
        # A sample that says nothing of memory does not take the place of one that does while that is still believed.
        age, known = time.monotonic() - state.sample.monotonic if state.sample else 0.0, followed.target.guest.id in self._known
        told = state.sample is not None and state.sample.of_memory and age <= self._asking.stale(state.by, known=known)
        takes_over = found.of_memory or (found.sample is not None and not told)
        return AgentState(
            sample=found.sample if takes_over else state.sample,
            by=found.by if takes_over else state.by,
            facts=found.facts if learnt else state.facts,
            facts_at=self._loop.time() if learnt else state.facts_at,
            rounds=state.rounds + 1,
            failures=state.failures + (not found.answered and not found.resting),
            untrusted=state.untrusted + bool(found.complaints),
            complaint="; ".join(found.complaints),
            disabled=disabled,
            silence="" if found.sample is not None or found.resting else silence,
        )


def _spread(followed: _Followed) -> float:
    """By how much a guest's periods are longer than they are meant to be, or shorter."""
    share = crc32(followed.target.guest.id.encode()) / (1 << 32)
    return 1 + _SPREAD * (2 * share - 1)


def _may_be_told(state: AgentState) -> bool:
    """Whether the guest's owner lets it do something for a host that is short of memory."""
    return state.sample is not None and SHORT_LEFT in state.sample.fields


def _fields(state: AgentState, now: float, asking: AgentSettings, known: bool, left_out: AbstractSet[str]) -> dict[str, Value]:
    fields: dict[str, Value] = {}
    if state.sample is not None:
        age = now - state.sample.monotonic
        fields["guest_agent_age"] = round(age, 3)
        if age <= asking.stale(state.by, known=known):
            fields.update((name, value) for name, value in state.sample.fields.items() if name not in left_out)
            fields["guest_agent"] = str(state.by)
    if state.facts_at is not None and now - state.facts_at <= _FACTS_PERIODS * asking.facts_period:
        fields.update(state.facts)
    if state.rounds:
        fields["guest_agent_failures"] = state.failures
        fields["guest_agent_untrusted"] = state.untrusted
    return fields
