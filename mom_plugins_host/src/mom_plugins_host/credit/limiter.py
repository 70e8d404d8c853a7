"""Keeps guests' limits up to date: a guest that reaches its limit gets the next part of what the host has left."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Collection, Container, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from mom_core import HypervisorError
from mom_kvm import AvailableGauge, GrowthControl
from mom_plugins_host.credit.law import Borrower, credit

LOOK_SECONDS: Final = 0.1
"""Between two looks while limits are set. A guest that reaches its limit causes one at once."""

REST_SECONDS: Final = 1.0
"""Between two looks while the host has plenty; less if all CPUs could use up half of it before."""

SHORTEST_SECONDS: Final = 0.01
"""Between two looks near the high watermark."""

LIFT_SHARE: Final = 0.1
"""mom lifts the limits this far above the high watermark, not on it: available memory always varies."""

SLACK_SHARE: Final = 0.125
"""A limit may be this share of its allowance off before mom writes it again. The law shares out less by as much."""

SLACK_KIB: Final = 1 << 10
"""The kernel counts a group's memory in batches of 256 KiB for each CPU."""

FADES: Final = 0.9
"""Per cycle: after half a minute of cycles of 5 s, half of a burst counts."""


@dataclass(slots=True)
class _Line:
    """A guest's credit line. KiB and seconds."""

    # `slowed` counts how often the limit has slowed the guest down. From then on it `waits`, until it gets more. `delay` is the time in
    # which it waited since the last cycle.

    terms: Borrower
    held_before: int
    limit: int | None = None
    slowed: int = 0
    waits: bool = False
    delay: float = 0.0

    @property
    def is_used_up(self) -> bool:
        return self.limit is not None and self.terms.held >= self.limit - SLACK_KIB

    def is_off(self, limit: int) -> bool:
        # Whether the present limit differs enough from `limit`.
        return self.limit is None or abs(limit - self.limit) > max(SLACK_KIB, SLACK_SHARE * (limit - self.terms.held))


@dataclass(eq=False)
class GrowthLimiter:
    """Limits of all guests on credit. Thread-safe.

    :param cpus: number of the host's CPUs
    """

    control: GrowthControl
    cpus: int = 1
    monotonic: Callable[[], float] = time.monotonic
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _lines: dict[str, _Line] = field(default_factory=dict)
    _high: float | None = None
    _reserve: float = 0.0
    _is_on: bool = False
    _looked_at: float = 0.0

    def update(self, terms: Mapping[str, Borrower], high: float | None, reserve: float, unlimited: Container[str] = ()) -> None:
        """Use a cycle's figures from the next look on.

        :param terms: size, promise and priority of each guest on credit. Other guests lose their limits
        :param high: KiB; with less available memory, limits are set. None: unknown
        :param reserve: KiB for the host itself
        :param unlimited: guests without a limit in this cycle: systemd resets limits when it reloads units
        """
        with self._lock:
            self._high, self._reserve = high, reserve
            self.lift(self.limits().keys() - terms.keys())
            before, self._lines = self._lines, {}
            for name, now in terms.items():
                line = self._lines[name] = _next_line(before.get(name), now)
                if line.limit is not None and name in unlimited:
                    line.limit = 0  # the next look sets or lifts it; it may be newer than this cycle

    def limits(self) -> dict[str, int]:
        """Return all present limits in KiB."""
        with self._lock:
            return {name: line.limit for name, line in self._lines.items() if line.limit is not None}

    def delays(self) -> dict[str, float]:
        """Return for how many seconds each guest's growth was delayed since the last cycle."""
        with self._lock:
            return {name: line.delay for name, line in self._lines.items()}

    def lift(self, names: Collection[str] | None = None) -> Mapping[str, HypervisorError]:
        """Lift these guests' limits; None: all present limits. Return the failures."""
        with self._lock:
            return self._set(dict.fromkeys(self.limits() if names is None else names))

    def look(self) -> float:
        """Set limits by what the host has left. Return the seconds until the next look."""
        with self._lock:
            now, available = self.monotonic(), self.control.available_kib()
            passed, self._looked_at = (now - self._looked_at) * self._is_on, now
            above = 0.0 if self._high is None or available is None else available - self._high
            if self._high is None or available is None or above >= LIFT_SHARE * self._high * self._is_on:
                if self._is_on:
                    self._is_on = bool(self.lift())
                left = max(0.0, (available or math.inf) - self._reserve)
                return max(SHORTEST_SECONDS, min(REST_SECONDS, left / 2 / (AvailableGauge.ALLOCATED_KIB * self.cpus)))
            self._is_on = True
            self._note_growth()
            reserve = self._reserve + SLACK_SHARE * max(0.0, available - self._reserve)
            terms = {name: replace(line.terms, limit=line.limit) for name, line in self._lines.items()}
            limits = credit(available, reserve, terms, slips=self.control.slips())
            changed = [(name, limit) for name, limit in limits.items() if self._lines[name].is_off(limit)]
            self._set(dict(sorted(changed, key=self._is_raised)))
            for line in self._lines.values():
                line.waits = line.waits and line.is_used_up
                line.delay += passed * line.waits
            return LOOK_SECONDS

    def _note_growth(self) -> None:
        for name, held in self.control.held_kib(self._lines.keys()).items():
            line = self._lines[name]
            line.terms = replace(line.terms, held=held, burst=max(line.terms.burst, float(held - line.held_before)))
        for name, count in self.control.slowed([name for name, line in self._lines.items() if line.is_used_up]).items():
            line = self._lines[name]
            if count != line.slowed:
                line.slowed, line.waits, burst = count, True, line.terms.burst
                # It wants more than it was given, but no more than the host keeps for bursts.
                line.terms = replace(line.terms, burst=max(burst, min(2 * burst, self._high or 0.0)))

    def _is_raised(self, change: tuple[str, int | None]) -> bool:
        # Lowered limits come first: what they free is what the others get.
        before, limit = self._lines[change[0]].limit, change[1]
        return before is not None and limit is not None and limit > before

    def _set(self, limits: Mapping[str, int | None]) -> Mapping[str, HypervisorError]:
        failures = self.control.limit_growth(limits) if limits else {}
        for name, limit in limits.items():
            line = self._lines.get(name)
            if line is not None and name not in failures:
                line.limit = limit
        return failures


def _next_line(before: _Line | None, now: Borrower) -> _Line:
    if before is None:
        return _Line(now, now.held)
    burst = max(before.terms.burst * FADES, float(now.held - before.held_before))
    return replace(before, terms=replace(now, burst=burst), held_before=now.held, delay=0.0)
