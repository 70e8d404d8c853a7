"""The ladder over time: pressure must last, a step is announced before it is taken, its effect is waited for, and all of it is undone.

It knows no clock and no hypervisor: `climb` is given both as numbers, and says what to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from mom_plugins_eviction.jobs import Job, JobState
from mom_plugins_eviction.steps import EvictionCandidate, FullHostLimits, HostPressure, Step, choose, is_calm, is_hard, most_stopped


@dataclass(frozen=True, slots=True)
class LadderPace:
    """How slowly all of it goes, in seconds: pressure must last `after`, steps are `apart`, calm must last `calm_for` before a guest comes
    back. At most `share` of the guests are stopped at once."""

    after: float = 60.0
    apart: float = 60.0
    calm_for: float = 600.0
    share: float = 0.25


@dataclass(frozen=True, slots=True)
class Announced:
    """A step that is to be taken at `due` (monotonic seconds), unless the host is well by then."""

    identity: str
    name: str
    step: Step
    due: float


class Announcements:
    """Steps that policies want, each announced before: it waits for its warning, and only for as long as it is wanted in every cycle."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, Step], Announced] = {}

    @property
    def waiting(self) -> Sequence[Announced]:
        """First to last."""
        return tuple(self._waiting.values())

    def ask(self, identity: str, name: str, step: Step, now: float, warning: float) -> Announced:
        """A policy wants it now."""
        return self._waiting.setdefault((identity, step), Announced(identity, name, step, now + warning))

    def keep(self, wanted: Iterable[tuple[str, Step]]) -> list[Announced]:
        """Forget what is not wanted any more, and return it."""
        still = set(wanted)
        ended = [announced for key, announced in self._waiting.items() if key not in still]
        self._waiting = {key: announced for key, announced in self._waiting.items() if key in still}
        return ended

    def taken(self, identity: str, step: Step) -> None:
        """It is done now."""
        self._waiting.pop((identity, step), None)


@dataclass(slots=True)
class Ladder:
    """Where it stands. All moments are monotonic seconds."""

    limits: FullHostLimits = field(default_factory=FullHostLimits)
    pace: LadderPace = field(default_factory=LadderPace)
    hard_since: float | None = None
    calm_since: float | None = None
    last_step: float = float("-inf")
    announced: Announced | None = None


@dataclass(frozen=True, slots=True)
class Climbed:
    """What `climb` came to: a step that is announced, cancelled (`why`) or to be taken now, or a guest that is to come back."""

    announce: Announced | None = None
    cancel: Announced | None = None
    take: Announced | None = None
    undo: Job | None = None
    why: str = ""


def climb(
    ladder: Ladder,
    now: float,
    pressure: HostPressure,
    candidates: Sequence[EvictionCandidate],
    stopped: Sequence[Job],
    guests: int,
    *,
    moved: int = 0,
    busy: bool = False,
) -> Climbed:
    """What to do at this moment. `ladder` is moved on.

    :param candidates: the guests that run and to which something may be done
    :param stopped: those that were stopped before, first to last
    :param guests: how many there are in all, those that are stopped included
    :param moved: how many were moved away lately
    :param busy: whether something is being done to a guest still: its effect cannot be seen yet
    """
    if busy:
        ladder.last_step = now
    hard = is_hard(pressure, ladder.limits, already=ladder.hard_since is not None)
    if not hard:
        ladder.hard_since = None
    elif ladder.hard_since is None:
        ladder.hard_since = now
    if hard:
        ladder.calm_since = None
        return _up(ladder, now, pressure, candidates, _open_steps(len(stopped), moved, guests, ladder.pace.share))
    if ladder.announced is not None:
        cancelled, ladder.announced = ladder.announced, None
        return Climbed(
            cancel=cancelled, why="the host is not full any more" if hard is False else "how full the host is has become unknown"
        )
    return _down(ladder, now, pressure, stopped)


def _open_steps(stopped: int, moved: int, guests: int, share: float) -> frozenset[Step]:
    """The steps of which the safety bounds leave some."""
    may_stop = stopped < most_stopped(guests, share)
    may_move = moved < most_stopped(guests + moved, share)
    return frozenset(step for step in Step if (may_move if step is Step.MIGRATE else may_stop))


def _up(ladder: Ladder, now: float, pressure: HostPressure, candidates: Sequence[EvictionCandidate], steps: frozenset[Step]) -> Climbed:
    announced = ladder.announced
    able = {one.identity: replace(one, allowed=one.allowed & steps) for one in candidates if one.allowed & steps}
    if announced is not None:
        if announced.identity not in able or announced.step not in able[announced.identity].allowed:
            ladder.announced = None
            return Climbed(cancel=announced, why="it may not, or need not, be done to the guest any more")
        if now < announced.due or now - ladder.last_step < ladder.pace.apart:
            return Climbed()
        ladder.announced, ladder.last_step = None, now
        return Climbed(take=announced)
    lasting = ladder.hard_since is not None and now - ladder.hard_since >= ladder.pace.after
    if not lasting or now - ladder.last_step < ladder.pace.apart:
        return Climbed()
    total, available = pressure.total or 0.0, pressure.available or 0.0
    chosen = choose(tuple(able.values()), max(0.0, ladder.limits.calm_share * total - available))
    if chosen is None:
        return Climbed()
    candidate, step = chosen
    ladder.announced = Announced(candidate.identity, candidate.name, step, now + candidate.warning)
    return Climbed(announce=ladder.announced)


def _down(ladder: Ladder, now: float, pressure: HostPressure, stopped: Sequence[Job]) -> Climbed:
    returning = [one for one in stopped if one.comes_back and one.state is JobState.DONE]
    if not returning:
        ladder.calm_since = None
        return Climbed()
    last = returning[-1]  # who was stopped last, and so at the dearest rung, comes back first
    # One that is paused has its memory still.
    if not is_calm(pressure, ladder.limits, 0.0 if last.step is Step.PAUSE else last.needs):
        ladder.calm_since = None
        return Climbed()
    if ladder.calm_since is None:
        ladder.calm_since = now
    if now - ladder.calm_since < ladder.pace.calm_for or now - ladder.last_step < ladder.pace.apart:
        return Climbed()
    ladder.last_step = now
    return Climbed(undo=last)
