"""Complaints about decisions: effects of a policy on guests, in the recorded state."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from mom_core import ControlSpec, Decision, Guest, Snapshot, as_number, format_kib
from mom_kvm import field_number, need_of

BALLOON: Final = "balloon_target"

REVERSALS: Final = 4
"""Changes of direction of an oscillation: up, down, up, down. A burst has two."""

WINDOW_SECONDS: Final = 600.0
"""s. Window of an oscillation. A working law settles within it under constant load."""

SMALLEST_SWING: Final = 0.02
"""Ratio of a value. Smaller changes are below the dead band of any memory law."""


class Complaint(StrEnum):
    """Kind of complaint."""

    BELOW_NEED = "below-need"
    OSCILLATION = "oscillation"
    BOUNDS = "bounds"


@dataclass(slots=True)
class ComplaintCount:
    """Complaints about one control: number, first time, and worst case."""

    complaint: Complaint
    entity: str
    control: str
    count: int
    first: float
    worst: float
    example: str


@dataclass(slots=True)
class _Swing:
    value: float
    direction: int = 0
    turned: deque[float] = field(default_factory=lambda: deque(maxlen=REVERSALS))


class Complaints:
    """Complaints about a series of decisions."""

    def __init__(self) -> None:
        self.controls: dict[str, ControlSpec] = {}
        """Keyed by name, for their bounds."""
        self.decisions = 0
        self.cases: dict[tuple[Complaint, str, str], ComplaintCount] = {}
        self._swings: dict[tuple[str, str], _Swing] = {}

    def add(self, snapshot: Snapshot, decisions: Iterable[Decision]) -> None:
        """Check one cycle's decisions, before any review."""
        for decision in decisions:
            self.decisions += 1
            if not isinstance(decision.value, int | float):
                continue
            number = as_number(decision.value)
            value = float(number) if number is not None else math.inf if decision.value > 0 else -math.inf
            guest = snapshot.guests.get(decision.entity.id)
            spec = self.controls.get(decision.control)
            if spec is not None:
                self._check_bounds(snapshot, decision, spec, value, guest)
                if math.isfinite(value):
                    self._check_swing(snapshot, decision, value)
            if decision.control == BALLOON and guest is not None:
                self._check_need(snapshot, decision, value, guest)

    def of(self, complaint: Complaint) -> list[ComplaintCount]:
        """Return the complaints of a kind, the worst first."""
        return sorted((c for c in self.cases.values() if c.complaint is complaint), key=lambda c: (-c.worst, -c.count, c.entity))

    def _note(self, complaint: Complaint, snapshot: Snapshot, decision: Decision, worst: float, example: str) -> None:
        key = (complaint, decision.entity.id, decision.control)
        case = self.cases.get(key)
        if case is None:
            self.cases[key] = ComplaintCount(complaint, str(decision.entity), decision.control, 1, snapshot.time, worst, example)
            return
        case.count += 1
        if worst > case.worst:
            case.worst, case.example = worst, example

    def _check_bounds(self, snapshot: Snapshot, decision: Decision, spec: ControlSpec, value: float, guest: Guest | None) -> None:
        low, high = spec.minimum, spec.maximum
        if decision.control == BALLOON and guest is not None:
            most = field_number(guest.fields, "balloon_max", math.nan)
            high = high if math.isnan(most) else most
        if not math.isfinite(value):
            self._note(Complaint.BOUNDS, snapshot, decision, math.inf, f"{value} is not a number")
        elif low is not None and value < low:
            self._note(Complaint.BOUNDS, snapshot, decision, low - value, f"{value:.10g} is below {low:.10g}")
        elif high is not None and value > high:
            self._note(Complaint.BOUNDS, snapshot, decision, value - high, f"{value:.10g} is above {high:.10g}")

    def _check_swing(self, snapshot: Snapshot, decision: Decision, value: float) -> None:
        key = (decision.entity.id, decision.control)
        swing = self._swings.get(key)
        if swing is None:
            self._swings[key] = _Swing(value)
            return
        change = value - swing.value
        if abs(change) < SMALLEST_SWING * max(abs(value), abs(swing.value)):
            return
        direction = 1 if change > 0 else -1
        if swing.direction and direction != swing.direction:
            swing.turned.append(snapshot.monotonic)
            if len(swing.turned) == REVERSALS and snapshot.monotonic - swing.turned[0] <= WINDOW_SECONDS:
                text = f"between {min(value, swing.value):.10g} and {max(value, swing.value):.10g}"
                self._note(Complaint.OSCILLATION, snapshot, decision, abs(change), text)
        swing.value, swing.direction = value, direction

    def _check_need(self, snapshot: Snapshot, decision: Decision, value: float, guest: Guest) -> None:
        need, why = need_of(guest)
        if need is not None and value < need:
            self._note(Complaint.BELOW_NEED, snapshot, decision, need - value, f"{format_kib(value)}, while it {why} {format_kib(need)}")
