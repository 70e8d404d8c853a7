"""Puts balloons back to what they were before mom, and leaves alone what somebody else has set since."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from mom_core import BalloonControl, Decision, Hypervisor, HypervisorError, LedgerEntry, Outcome, Source, Status, Value, format_kib
from mom_plugins_balloon.asking import ask
from mom_plugins_balloon.requests import Request

SOURCE = Source("restore")

WATCH_SECONDS = 0.3
"""How long a guest is watched whose size the ledger does not explain. A virtio balloon moves 260 MiB in that time."""

READ_BACK_SECONDS = 0.5
"""How long to wait for the guests to follow before saying what they have. A clean stop takes 2 s in all."""

POLL_SECONDS = 0.1

MOVED_KIB = 512
"""KiB. A guest that came so much nearer to its target while it was watched is moving."""


class Sighting(NamedTuple):
    """A guest's size in KiB when restoring began, and a moment later."""

    first: float
    later: float


def is_ours(entry: LedgerEntry, seen: Sighting, request: Request | None, tolerance: float) -> bool:
    """Whether a guest's size is mom's doing, so that mom may put it back; otherwise somebody else has resized the guest.

    It is, when the ledger explains it, or when the guest is moving towards what mom set last, or tried to. When this very process made
    the last request and has not seen it arrive, every size on the way counts.

    :param request: what this process asked of the guest, if it did
    :param tolerance: guests do not stop on the KiB
    """
    if entry.explains(seen.first, tolerance):
        return True
    asked = [size for value in (entry.applied, *entry.attempted) if (size := _size(value)) is not None]
    if any(abs(seen.first - size) - abs(seen.later - size) >= MOVED_KIB for size in asked):
        return True
    if request is None or request.arrived:
        return False
    low, high = min(request.began_at, request.target), max(request.began_at, request.target)
    return low - tolerance <= seen.first <= high + tolerance


@dataclass(frozen=True, slots=True)
class Restoring:
    """What is known about the guests before they are restored.

    `requests` is what this process asked of guests, by id: empty in a process that has only just started. `maxima` are the largest sizes
    in KiB that guests can have now, as far as they are known; `floors` the smallest to which they may be shrunk, by what they use and
    were promised, as far as that is known: a guest that has grown into what mom gave it keeps it. `tolerance` is by how many KiB a size
    may differ and still be the same.
    """

    requests: Mapping[str, Request]
    maxima: Mapping[str, float]
    tolerance: float
    floors: Mapping[str, float] = field(default_factory=dict)
    sleep: Callable[[float], None] = field(default=time.sleep)

    def restore(self, hypervisor: Hypervisor, entries: Sequence[LedgerEntry]) -> list[Outcome]:
        """Put these guests' balloons back; an outcome for each. Never raises for a single guest."""
        if not isinstance(hypervisor, BalloonControl):
            return _all_failed(entries, f"{hypervisor.uri} cannot resize guests")
        try:
            there = {guest.id: guest.incarnation for guest in hypervisor.guests()}
            seen = self._look(hypervisor, entries)
        except HypervisorError as error:
            return _all_failed(entries, str(error))
        outcomes: list[Outcome] = []
        for entry in entries:
            identity = entry.entity.id
            if identity not in there:
                outcomes.append(Outcome(_decision(entry), None, None, Status.GONE, "the guest is not there any more"))
            elif there[identity] != entry.incarnation:
                outcomes.append(Outcome(_decision(entry), None, None, Status.GONE, "the guest was started anew since"))
            elif identity not in seen:
                outcomes.append(Outcome(_decision(entry), None, None, Status.FAILED, "the guest's size cannot be read"))
            else:
                outcomes.append(self._put_back(hypervisor, entry, seen[identity]))
        return self._read_back(hypervisor, outcomes)

    def _look(self, hypervisor: BalloonControl, entries: Sequence[LedgerEntry]) -> dict[str, Sighting]:
        """What each guest has, and, for those that this leaves doubtful, what they have a moment later."""
        first = hypervisor.balloon_sizes([entry.entity for entry in entries])
        seen = {identity: Sighting(size, size) for identity, size in first.items()}
        doubtful = [e.entity for e in entries if e.entity.id in seen and self._somebody_elses(e, seen[e.entity.id])]
        if doubtful:
            self.sleep(WATCH_SECONDS)
            for identity, size in hypervisor.balloon_sizes(doubtful).items():
                seen[identity] = Sighting(seen[identity].first, size)
        return seen

    def _somebody_elses(self, entry: LedgerEntry, seen: Sighting) -> bool:
        return _size(entry.before) is not None and not is_ours(entry, seen, self.requests.get(entry.entity.id), self.tolerance)

    def _put_back(self, hypervisor: BalloonControl, entry: LedgerEntry, seen: Sighting) -> Outcome:
        decision = _decision(entry)
        before, applied = _size(entry.before), _size(entry.applied)
        size = round(seen.later)
        if before is None:
            return Outcome(decision, size, size, Status.FAILED, f"{entry.before!r:.40} is no size that a guest could have had")
        if self._somebody_elses(entry, seen):
            asked = "" if applied is None else f", not to the {format_kib(applied)} that mom had asked for"
            return Outcome(decision, size, size, Status.LEFT_ALONE, f"somebody else set the guest to {format_kib(size)}{asked}")
        maximum = self.maxima.get(entry.entity.id)
        target = int(before if maximum is None else min(before, maximum))
        # What could not be set may yet come to stand: then even a guest that has its size is asked to keep it.
        if size == target and not entry.attempted and (applied is None or int(applied) == target):
            return Outcome(decision, size, size, Status.UNCHANGED)
        floor = math.ceil(self.floors.get(entry.entity.id, 0.0))
        note = ""
        if target < floor:
            if size <= floor:
                reason = f"the guest uses more now than the {format_kib(target)} that it had before mom, and keeps what it has"
                return Outcome(decision, size, size, Status.LEFT_ALONE, reason)
            target, note = (
                floor,
                f"the guest uses more now than the {format_kib(target)} that it had before mom: asked for {format_kib(floor)}",
            )
        status, error = ask(hypervisor, entry.entity, target)
        return Outcome(decision, size, size, status, error or note)

    def _read_back(self, hypervisor: BalloonControl, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """The outcomes with what the guests really have, after they had a little time to follow: as long as they move, and no longer."""
        targets = {o.decision.entity: _size(o.decision.value) or 0.0 for o in outcomes if o.status is Status.APPLIED}
        waiting = list(targets)
        sizes: dict[str, int] = {}
        error = ""
        for poll in range(round(READ_BACK_SECONDS / POLL_SECONDS) + 1):
            if not waiting:
                break
            if poll:
                self.sleep(POLL_SECONDS)
            try:
                now = hypervisor.balloon_sizes(waiting)
            except HypervisorError as failure:
                error = f"asked, but what the guest has now is unknown: {failure}"
                break
            still = poll > 1 and all(abs(sizes.get(identity, 0) - size) < MOVED_KIB for identity, size in now.items())
            sizes.update(now)
            if still:
                break
            waiting = [guest for guest in waiting if guest.id in now and abs(now[guest.id] - targets[guest]) > self.tolerance]
        return [_with_size(outcome, sizes.get(outcome.decision.entity.id), error) for outcome in outcomes]


def _with_size(outcome: Outcome, size: int | None, error: str) -> Outcome:
    if outcome.status is not Status.APPLIED:
        return outcome
    return replace(outcome, after=size, error=outcome.error if size is not None else error)


def _decision(entry: LedgerEntry) -> Decision:
    return Decision(entry.entity, entry.control, entry.before, "to stand as it did before mom", SOURCE)


def _all_failed(entries: Sequence[LedgerEntry], reason: str) -> list[Outcome]:
    return [Outcome(_decision(entry), None, None, Status.FAILED, reason) for entry in entries]


def _size(value: Value) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else None
