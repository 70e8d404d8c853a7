"""Timing of steps (the ladder): pressure must last; mom announces a step, waits for its effect, and undoes the step later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mom_plugins_sla.eviction.jobs import Job, JobState
from mom_plugins_sla.eviction.settings import EvictionSettings
from mom_plugins_sla.eviction.steps import CALM_SHARE, EvictionCandidate, HostPressure, Step, choose


@dataclass(frozen=True, slots=True)
class Announced:
    """Step that mom takes at the monotonic time `due` if cycles still request it then. `at` is the same time since the epoch."""

    identity: str
    name: str
    step: Step
    due: float
    at: float


@dataclass(slots=True)
class Ladder:
    """Timing of steps on guests. Times are monotonic seconds. Keys are guest ids.

    :param calm_since: time since which each guest could return
    :param returned: need (KiB) and time of recently returned guests
    """

    settings: EvictionSettings
    hard_since: float | None = None
    calm_since: Mapping[str, float] = field(default_factory=dict)
    last_step: float = float("-inf")
    chosen: tuple[str, Step] | None = None
    returned: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def waits(self, now: float) -> bool:
        """Return whether the last step is too recent to show its effect."""
        return now - self.last_step < self.settings.apart

    def begin(self, now: float) -> None:
        """Record that the chosen step begins."""
        self.last_step, self.chosen = now, None


def climb(
    ladder: Ladder,
    now: float,
    pressure: HostPressure,
    candidates: Sequence[EvictionCandidate],
    stopped: Sequence[Job],
    *,
    busy: bool = False,
    held: Mapping[str, float] | None = None,
) -> Job | None:
    """Set `ladder.chosen` to the step to announce. Return the job of a guest that can return now, or None.

    :param stopped: stopped guests' jobs, sorted like `Jobs.stopped`
    :param held: resident KiB of recently returned guests keyed by id
    """
    if busy:
        ladder.last_step = now
    hard = pressure.is_hard(already=ladder.hard_since is not None)
    if not hard:
        ladder.hard_since = None
    elif ladder.hard_since is None:
        ladder.hard_since = now
    if hard:
        ladder.calm_since = {}
        _up(ladder, now, pressure, candidates)
        return None
    ladder.chosen = None
    return _down(ladder, now, pressure, stopped, held or {})


def _up(ladder: Ladder, now: float, pressure: HostPressure, candidates: Sequence[EvictionCandidate]) -> None:
    if ladder.chosen not in {(item.identity, step) for item in candidates for step in item.allowed}:
        ladder.chosen = None
    stays_full = ladder.hard_since is not None and now - ladder.hard_since >= ladder.settings.after
    if ladder.chosen is None and stays_full and not ladder.waits(now):
        total, available = pressure.total or 0.0, pressure.available or 0.0
        chosen = choose(candidates, max(0.0, CALM_SHARE * total - available))
        ladder.chosen = None if chosen is None else (chosen[0].identity, chosen[1])


def _down(ladder: Ladder, now: float, pressure: HostPressure, stopped: Sequence[Job], held: Mapping[str, float]) -> Job | None:
    returning = [item for item in stopped if item.comes_back and item.state is JobState.DONE]
    # A guest takes minutes to fill its memory after boot; reserve its remaining need.
    stopped_ids, calm_for = {item.guest for item in stopped}, ladder.settings.calm_for
    recent = {
        guest: (needs, since) for guest, (needs, since) in ladder.returned.items() if guest not in stopped_ids and now - since < calm_for
    }
    expected = sum(max(0.0, needs - held.get(guest, 0.0)) for guest, (needs, _) in recent.items())
    before = ladder.calm_since
    calm = [item for item in returning if pressure.is_calm(_additional_need(item) + expected)]
    ladder.returned, ladder.calm_since = recent, {item.guest: before.get(item.guest, now) for item in calm}
    due = [item for item in returning if now - ladder.calm_since.get(item.guest, now) >= calm_for]
    if not due or ladder.waits(now):
        return None
    chosen = due[-1]  # the guest stopped last returns first; a guest without room does not block others
    ladder.last_step, ladder.returned = now, {**recent, chosen.guest: (_additional_need(chosen), now)}
    return chosen


def _additional_need(job: Job) -> float:
    # The need is in KiB. A paused guest still has its memory.
    return 0.0 if job.step is Step.PAUSE else job.needs
