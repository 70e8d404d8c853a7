"""Policies that are tried on some guests: a trial that decides for those guests, and is watched."""

from __future__ import annotations

import dataclasses
import fnmatch
import hashlib
import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from mom_core import HOST_ID, Decision, Guest, Problem, Severity, ShadowDecisions, Snapshot, Source, Value, printable
from mom_kvm import Canary, CanaryState, unhealthy_reasons
from mom_plugins_policy.language.errors import Fault
from mom_plugins_policy.language.policy import Policy, Result
from mom_plugins_policy.rollout.notes import PolicyNotes
from mom_plugins_policy.rollout.verdict import (
    ASKED_TOO_MUCH,
    SIZE,
    CanaryVerdict,
    Evidence,
    HostFigures,
    KillCounts,
    Tally,
    WatchedCycle,
    is_below_need,
    judge,
    worse,
)

_SHOWN: Final = 5  # errors of one evaluation


class InForce(NamedTuple):
    """Decisions of the policies in force in this cycle, without ignored controls, and the errors."""

    decisions: Sequence[Decision]
    errors: Sequence[Fault]
    ignored: Sequence[str]


def rank(identity: str) -> float:
    """Where a guest stands among all there could be, from 0 to 1: by its UUID alone, so that it is the same one after a restart, on any
    host, and whoever else comes or goes."""
    return int.from_bytes(hashlib.sha256(identity.encode()).digest()[:8], "big") / 2**64


@dataclass(frozen=True, slots=True)
class ChosenGuests:
    """Who is in the trial: those whose name or id matches `pattern`, or those that do not rank above `cut`."""

    pattern: str = ""
    cut: float = 0.0

    @classmethod
    def of_share(cls, share: float, guests: Iterable[Guest]) -> ChosenGuests:
        """So large a share of these guests, at least one; and of those that come later, those that rank no higher."""
        if share == 1:
            return cls(cut=1.0)
        ranks = sorted(rank(guest.id) for guest in guests)
        return cls(cut=ranks[max(1, math.ceil(share * len(ranks))) - 1] if ranks else 0.0)

    @property
    def everything(self) -> bool:
        """True for all guests, whichever come: then what is decided for the host is tried, too."""
        return self.cut == 1.0

    def has(self, guest: Guest) -> bool:
        """True if this guest is in it."""
        if self.pattern:
            return fnmatch.fnmatchcase(guest.name, self.pattern) or fnmatch.fnmatchcase(guest.id, self.pattern)
        return rank(guest.id) <= self.cut


class CanaryRun:
    """One such trial while it runs. `evaluate` is called by the evaluator; all else from any thread.

    :param begun: how it began, for who looks
    :param began_at: when, by the monotonic clock
    :param memory: what the policies in force remember: those on trial begin with that
    """

    def __init__(self, begun: Canary, began_at: float, choice: ChosenGuests, policy: Policy, memory: Callable[[], Value]) -> None:
        self.policy = policy
        self.notes = PolicyNotes()
        self.begun = begun
        """Replaced as a whole when files are read again, as `policy`."""
        self.began_at = began_at
        self.choice = choice
        self._memory = memory
        self._lock = threading.Lock()
        self._evidence = Evidence()
        self._host_before: Sequence[HostFigures] = ()
        self._kills = KillCounts()
        self._members: Sequence[Guest] = ()
        self._others = 0
        self._untried: frozenset[str] = frozenset()

    def has(self, guest: Guest) -> bool:
        """True if it decides for this guest."""
        return self.choice.has(guest)

    def prepare(self) -> None:
        """Take over the notes of the policies in force before the first evaluation."""
        if not self._evidence.cycles:
            self.notes.set_memory(self._memory())

    def evaluate(
        self, snapshot: Snapshot, history: Sequence[Snapshot], in_force: InForce
    ) -> tuple[Sequence[Decision], list[ShadowDecisions | Problem]]:
        """Return the decisions that count, and all decisions and errors of the policies on trial."""
        result = self.notes.evaluate(self.policy, snapshot, history)
        found: list[ShadowDecisions | Problem] = [ShadowDecisions(result.decisions)]
        for fault in result.errors[:_SHOWN]:
            message = f"{fault.kind}: {fault.message}"
            found.append(Problem(_on_trial(fault.source), message, fault.entity, Severity.WARNING))
        return self._counted(snapshot, history, in_force, result), found

    def _counted(self, snapshot: Snapshot, history: Sequence[Snapshot], in_force: InForce, result: Result) -> Sequence[Decision]:
        """The decisions of the policies on trial for the guests in the trial, those in force for the others."""
        members = {guest.id: guest for guest in snapshot.guests.values() if self.choice.has(guest)}
        tried = {*members, HOST_ID} if self.choice.everything else members.keys()
        decided = [one for one in result.decisions if one.control not in in_force.ignored]
        own = [
            dataclasses.replace(one, source=_on_trial(one.source), reason=f"{one.reason}, on trial")
            for one in decided
            if one.entity.id in tried
        ]
        mine, theirs = (
            {(one.control, repr(one.value)) for one in several if one.entity.id == HOST_ID} for several in (in_force.decisions, decided)
        )
        known = {_kind(fault) for fault in in_force.errors}  # these policies fail so, too
        concerning = [one for one in result.errors if (one.entity is None or one.entity.id in members) and _kind(one) not in known]
        with self._lock:
            self._untried |= set() if self.choice.everything else {control for control, _ in mine ^ theirs}
            decisions = [*(one for one in in_force.decisions if one.entity.id not in tried), *own]
            failed = printable(str(concerning[0]), 300) if concerning else ""
            self._look(snapshot, history, members, {one.entity.id: one.value for one in decisions if one.control == SIZE}, failed)
        return decisions

    def _look(
        self, snapshot: Snapshot, history: Sequence[Snapshot], members: Mapping[str, Guest], sizes: Mapping[str, Value], fault: str
    ) -> None:
        """Note how all guests fare, and what sizes were decided for whom."""
        since = snapshot.monotonic - self.began_at
        if not self._evidence.cycles:
            self._evidence.before = _tally_before(history, members)
            # This one, too: nothing of what is tried has been done yet, and it may be the first that knows rates.
            self._host_before = [HostFigures.of(one.host) for one in (*history, snapshot)]
        canary, others = Tally(), Tally()
        for guest, trouble in zip(snapshot.guests.values(), unhealthy_reasons(snapshot, since), strict=True):
            tally = canary if guest.id in members else others
            asked_too_much = trouble == "" and is_below_need(guest, sizes.get(guest.id))
            tally.add(ASKED_TOO_MUCH if asked_too_much else trouble, self._kills.news(guest))
        host = HostFigures.of(snapshot.host)
        self._evidence.add(WatchedCycle(canary, others, None if host.available is None else worse(host, self._host_before), fault))
        self._members, self._others = list(members.values()), len(snapshot.guests) - len(members)

    def verdict(self, now: float) -> CanaryVerdict:
        """The verdict on it so far."""
        with self._lock:
            return judge(self._evidence, self.left(now))

    def left(self, now: float) -> float:
        """Seconds until its end."""
        return max(0.0, self.began_at + self.begun.duration_seconds - now)

    def memory(self, in_force: Mapping[str, Value]) -> Value:
        """The notes for when they are in force for all: on the guests that were in the trial, those of the policies on trial; and on the
        host, if that was."""
        members = {guest.id for guest in self._members} | ({HOST_ID} if self.choice.everything else set())
        others = {identity: notes for identity, notes in in_force.items() if identity not in members}
        return others | {identity: notes for identity, notes in self.notes.memory().items() if identity in members}

    def told(self, now: float, state: CanaryState = CanaryState.RUNNING, reason: str = "") -> Canary:
        """For who looks."""
        with self._lock:
            evidence, guests = self._evidence, len(self._members)
            note = f"what it decides for the host ({', '.join(sorted(self._untried))}) is not tried" if self._untried else ""
            return dataclasses.replace(
                self.begun,
                state=state,
                left_seconds=self.left(now) if state is CanaryState.RUNNING else 0.0,
                cycles=evidence.cycles,
                on=tuple(guest.entity for guest in self._members),
                canary=evidence.canary.group(guests),
                others=evidence.others.group(self._others),
                before=evidence.before.group(guests),
                reason=reason,
                note=note,
            )


def _on_trial(source: Source) -> Source:
    """Return a source that shows that it is not a policy in force."""
    return source._replace(name=f"canary {source.name}")


def _tally_before(history: Sequence[Snapshot], members: Mapping[str, Guest]) -> Tally:
    tally, killed = Tally(), KillCounts()
    for older in history:
        for guest, trouble in zip(older.guests.values(), unhealthy_reasons(older), strict=True):
            if guest.id in members:
                tally.add(trouble, killed.news(guest))
    return tally


def _kind(fault: Fault) -> tuple[str, str, str]:
    """The same for the same mistake, wherever in the text it stands."""
    return fault.name, fault.kind, "" if fault.entity is None else fault.entity.id
