"""The ladder over time: pressure must last, a step is announced before it is taken, its effect is waited for, and all of it is undone.

It knows no clock and no hypervisor: `climb` is given both as numbers, and says what is wanted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mom_plugins_sla.eviction.jobs import Job, JobState
from mom_plugins_sla.eviction.settings import EvictionSettings
from mom_plugins_sla.eviction.steps import EvictionCandidate, HostPressure, Step, choose, most_stopped


@dataclass(frozen=True, slots=True)
class Announced:
    """Step that is to be taken at `due` (monotonic seconds; `at`: since the epoch), unless it is not wanted any more by then."""

    identity: str
    name: str
    step: Step
    due: float
    at: float = 0.0


class Announcements:
    """Steps that mom or policies want, each announced before: it waits for its warning, for as long as it is wanted in every cycle."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, Step], Announced] = {}

    @property
    def waiting(self) -> Sequence[Announced]:
        """First to last."""
        return tuple(self._waiting.values())

    def waits(self, identity: str, step: Step) -> bool:
        """Return True while a step that is wanted waits for its warning, or for its turn."""
        return (identity, step) in self._waiting

    def ask(self, identity: str, name: str, step: Step, now: float, warning: float, time: float = 0.0) -> Announced:
        """It is wanted now."""
        return self._waiting.setdefault((identity, step), Announced(identity, name, step, now + warning, time + warning))

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
    """Where it stands: since when the host has been full, since when there has been room for each guest that is to come back, by its id,
    when the last step was taken (monotonic seconds), and which is next; and of guests that came back lately, by their ids, what each takes
    (KiB), and when it came."""

    settings: EvictionSettings
    hard_since: float | None = None
    calm_since: Mapping[str, float] = field(default_factory=dict)
    last_step: float = float("-inf")
    chosen: tuple[str, Step] | None = None
    returned: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def waits(self, now: float) -> bool:
        """Return True while the effect of the last step is still to be seen."""
        return now - self.last_step < self.settings.apart

    def takes(self, now: float) -> None:
        """The step that was chosen is taken."""
        self.last_step, self.chosen = now, None


def climb(
    ladder: Ladder,
    now: float,
    pressure: HostPressure,
    candidates: Sequence[EvictionCandidate],
    stopped: Sequence[Job],
    guests: int,
    *,
    gone: int = 0,
    moved: int = 0,
    busy: bool = False,
    held: Mapping[str, float] | None = None,
) -> Job | None:
    """Move the ladder on: `chosen` of it is then the step that is wanted at this moment, to be announced and then taken.

    Returns what was done to a guest that is to come back, if one is.

    :param candidates: the guests that run and to which something may be done
    :param stopped: those that were stopped before, first to last
    :param guests: how many there are in all, those that are stopped or gone included
    :param gone: how many were stopped lately, and cannot come back
    :param moved: how many were moved away lately
    :param busy: whether something is being done to a guest still: its effect cannot be seen yet
    :param held: what the host holds of each guest that came back lately, in KiB by its id
    """
    if busy:
        ladder.last_step = now
    hard = pressure.is_hard(ladder.settings, already=ladder.hard_since is not None)
    if not hard:
        ladder.hard_since = None
    elif ladder.hard_since is None:
        ladder.hard_since = now
    if hard:
        ladder.calm_since = {}
        _up(ladder, now, pressure, candidates, _open_steps(len(stopped) + gone, moved, guests, ladder.settings.share))
        return None
    ladder.chosen = None
    return _down(ladder, now, pressure, stopped, held or {})


def _open_steps(stopped: int, moved: int, guests: int, share: float) -> frozenset[Step]:
    """Return the steps of which the safety bounds leave some."""
    may_stop = stopped < most_stopped(guests, share)
    may_move = moved < most_stopped(guests + moved, share)
    return frozenset(step for step in Step if (may_move if step is Step.MIGRATE else may_stop))


def _up(ladder: Ladder, now: float, pressure: HostPressure, candidates: Sequence[EvictionCandidate], steps: frozenset[Step]) -> None:
    able = [replace(candidate, allowed=candidate.allowed & steps) for candidate in candidates]
    if ladder.chosen not in {(item.identity, step) for item in able for step in item.allowed}:
        ladder.chosen = None
    lasting = ladder.hard_since is not None and now - ladder.hard_since >= ladder.settings.after
    if ladder.chosen is None and lasting and not ladder.waits(now):
        total, available = pressure.total or 0.0, pressure.available or 0.0
        chosen = choose(able, max(0.0, ladder.settings.calm * total - available))
        ladder.chosen = None if chosen is None else (chosen[0].identity, chosen[1])


def _down(ladder: Ladder, now: float, pressure: HostPressure, stopped: Sequence[Job], held: Mapping[str, float]) -> Job | None:
    returning = [item for item in stopped if item.comes_back and item.state is JobState.DONE]
    # One that boots takes its memory in minutes: until then it is not there for the next one.
    still = {item.guest for item in stopped}
    lately = {guest: one for guest, one in ladder.returned.items() if guest not in still and now - one[1] < ladder.settings.calm_for}
    taken = sum(max(0.0, needs - held.get(guest, 0.0)) for guest, (needs, _) in lately.items())
    before = ladder.calm_since
    calm = [item for item in returning if pressure.is_calm(ladder.settings, _lacks(item) + taken)]
    ladder.returned, ladder.calm_since = lately, {item.guest: before.get(item.guest, now) for item in calm}
    due = [item for item in returning if now - ladder.calm_since.get(item.guest, now) >= ladder.settings.calm_for]
    if not due or ladder.waits(now):
        return None
    chosen = due[-1]  # who was stopped last, and so at the dearest rung, comes back first; one that is too large keeps no other away
    ladder.last_step, ladder.returned = now, {**lately, chosen.guest: (_lacks(chosen), now)}
    return chosen


def _lacks(one: Job) -> float:
    """What a guest takes of the host when it goes on, in KiB: one that is paused has its memory still."""
    return 0.0 if one.step is Step.PAUSE else one.needs
