"""Limits of guests' growth: how far each guest may grow, and updates of the limits.

A guest that reaches its limit gets a further share of the host's remaining memory.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Collection, Container, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from mom_core import HypervisorError
from mom_plugins_host.capabilities import GrowthControl

LEAST_KIB: Final = 16 << 10
"""Growth that mom expects of every guest, so that a guest at rest can start a program."""

ORDINARY_PRIORITY: Final = 50.0
"""Priority of a guest without a service class."""

_PRIORITY_BASE: Final = 10.0
"""Added to priorities of 0 to 100, so that every guest gets an allowance."""

_SLIP: Final = 0.0125
"""A group exceeds its limit by this share without delay, because the kernel skips delays of less than 10 ms."""

_SLIP_KIB: Final = 24.0
"""mom expects an excess of `x` times the limit, where x^3 is `_SLIP`^3 + 24 KiB / limit. The kernel delays a thread by 64 s * x^2 for each
256 KiB. So x^3 grows by 12 KiB / limit each second. 24 KiB allow mom to be two seconds late."""

_STOP: Final = 0.2
"""Largest excess that mom expects, as a share of the limit. From 18 % above the limit on, the kernel's delay is longest: 2 s for
each 64 pages."""


@dataclass(frozen=True, slots=True)
class Borrower:
    """Guest that grows on credit. Units are KiB and seconds.

    :param held: memory that the guest's control group holds
    :param promised: memory that the guest may always hold, including QEMU's own memory; 0: no promise
    :param most: maximum memory that the guest can hold, including QEMU's own memory
    :param priority: of the guest's service class, 0 to 100
    :param held_before: memory that the guest held in the last cycle
    :param burst: expected growth within a cycle, estimated from earlier growth
    :param limit: present limit; None: no limit
    :param slowed: how often the limit has slowed the guest down
    :param waits: whether the guest wants more memory than its limit
    :param delay: time for which the guest has waited since the last cycle
    """

    held: int
    promised: int = 0
    most: float = math.inf
    priority: float = ORDINARY_PRIORITY
    held_before: int = 0
    burst: float = 0.0
    limit: int | None = None
    slowed: int = 0
    waits: bool = False
    delay: float = 0.0

    @property
    def owed(self) -> int:
        """Promised memory that the guest does not hold yet."""
        return max(0, self.promised - self.held)

    @property
    def weight(self) -> float:
        """Weight of the guest when mom divides available memory among guests."""
        return max(self.burst, LEAST_KIB) * (_PRIORITY_BASE + self.priority)


def credit(available: float, reserve: float, guests: Mapping[str, Borrower], *, slips: bool = False) -> dict[str, int]:
    """Return the limit of each guest in KiB: the memory that the guest holds, plus its allowance.

    Promised memory comes first, then likely growth. All allowances together exceed `available - reserve` only if more is promised. More
    available memory never lowers a limit. Unless `slips`, memory that a guest holds beyond its present limit does not count as held.

    :param available: the host's available memory in KiB
    :param reserve: part of the available memory that is for the host itself, in KiB
    :param slips: guests can exceed their limits, because the kernel only delays them and cannot reclaim their memory. Limits are
        then a little lower, and still lower when less than twice the reserve is available.
    """
    owed = sum(guest.owed for guest in guests.values())
    shared = max(0.0, available - reserve - owed)
    total = sum(guest.weight for guest in guests.values())
    shortage = min(1.0, max(0.0, 2.0 - available / reserve)) if reserve else 0.0

    def limit(guest: Borrower) -> float:
        base = guest.held if slips or guest.limit is None else min(guest.held, guest.limit)
        limit = base + guest.owed + shared * (guest.weight / total)
        if not slips:
            return limit
        slip = math.cbrt(_SLIP**3 + _SLIP_KIB / max(1.0, limit))
        return limit / (1.0 + min(_STOP, slip + (_STOP - slip) * shortage**2))

    return {name: max(guest.promised, int(limit(guest))) for name, guest in guests.items()}


# --- updates ---------------------------------------------------------------------------------------------------------------------

LOOK_SECONDS: Final = 0.1
"""Time between two updates of limits while the host is short of memory. A guest at its limit causes an update immediately."""

REST_SECONDS: Final = 1.0
"""Time between two updates of limits while the host has plenty of memory."""

LIFT_SHARE: Final = 0.1
"""mom lifts limits at more available memory than it sets them: the difference is this share of the high watermark."""

SLACK_SHARE: Final = 0.125
"""mom corrects a limit only if the error exceeds this share of the allowance. To compensate, mom grants this share less."""

SLACK_KIB: Final = 1 << 10
"""mom ignores smaller errors of a limit. The kernel counts a group's memory in batches of 256 KiB for each CPU."""

FADES: Final = 0.9
"""mom multiplies a guest's burst by this in each cycle."""


@dataclass(eq=False)
class GrowthLimiter:
    """Limits of all guests on credit. Thread-safe.

    Guests have limits as soon as they could together use up the host's remaining memory. If an update is late,
    guests may be delayed, but they cannot exhaust the host.
    """

    control: GrowthControl
    monotonic: Callable[[], float] = time.monotonic
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _guests: dict[str, Borrower] = field(default_factory=dict)
    _high: float | None = None
    _reserve: float = 0.0
    _is_on: bool = False
    _looked_at: float = 0.0

    def update(self, guests: Mapping[str, Borrower], high: float | None, reserve: float, unlimited: Container[str] = ()) -> None:
        """Store a cycle's figures for later calls of `look`.

        :param guests: sizes, promise and priority of each guest on credit. Other guests lose their limits
        :param high: watermark in KiB, below which the host is short of memory, and guests have limits; None: unknown
        :param reserve: KiB for the host itself
        :param unlimited: guests whose groups have no limit in this cycle, because systemd resets limits when it reloads units
        """
        with self._lock:
            self._high, self._reserve = high, reserve
            self.lift(self.limits().keys() - guests.keys())
            previous, self._guests = self._guests, {}
            for name, now in guests.items():
                before = previous.get(name, now)
                burst = max(before.burst * FADES, float(now.held - (before.held_before or now.held)))
                # 0 makes the next look set or lift the limit. mom may have set it after this cycle's reading.
                limit = 0 if before.limit is not None and name in unlimited else before.limit
                self._guests[name] = replace(now, held_before=now.held, burst=burst, limit=limit, slowed=before.slowed, waits=before.waits)

    def limits(self) -> dict[str, int]:
        """Return all present limits in KiB."""
        with self._lock:
            return {name: guest.limit for name, guest in self._guests.items() if guest.limit is not None}

    def delays(self) -> dict[str, float]:
        """Return for how many seconds each guest's growth was delayed since the last cycle."""
        with self._lock:
            return {name: guest.delay for name, guest in self._guests.items()}

    def lift(self, names: Collection[str] | None = None) -> Mapping[str, HypervisorError]:
        """Lift these guests' limits; None: all present limits. Return the errors."""
        with self._lock:
            return self._set(dict.fromkeys(self.limits() if names is None else names))

    def look(self) -> float:
        """Set limits according to the memory that the host has left. Return the seconds until the next look."""
        with self._lock:
            now = self.monotonic()
            passed, self._looked_at = now - self._looked_at, now
            self._note_growth()
            available = self.control.available_kib()  # read after the guests' memory, so that growth in between is not handed out twice
            if available is None or self._high is None or available >= self._needed(self._high):
                self._is_on = bool(self.lift())
                return REST_SECONDS
            self._is_on = True
            reserve = self._reserve + SLACK_SHARE * max(0.0, available - self._reserve)
            limits = credit(available, reserve, self._guests, slips=self.control.slips())
            changed = [name for name, limit in limits.items() if _is_off(self._guests[name], limit)]
            # Lower limits first: other guests get the memory that this frees.
            changed.sort(key=lambda name: limits[name] - (self._guests[name].limit or math.inf))
            self._set({name: limits[name] for name in changed})
            for name, guest in self._guests.items():
                if guest.waits:
                    waits = _is_used_up(guest)
                    self._guests[name] = replace(guest, waits=waits, delay=guest.delay + passed * waits)
            return LOOK_SECONDS if available < self._high else REST_SECONDS

    def _needed(self, high: float) -> float:
        can_grow = sum(max(0.0, guest.most - guest.held) for guest in self._guests.values())
        return max(high, self._reserve + can_grow) + LIFT_SHARE * high * self._is_on

    def _note_growth(self) -> None:
        for name, held in self.control.held_kib(self._guests).items():
            guest = self._guests[name]
            if held != guest.held:
                self._guests[name] = replace(guest, held=held, burst=max(guest.burst, float(held - guest.held_before)))
        for name, count in self.control.slowed([name for name, guest in self._guests.items() if _is_used_up(guest)]).items():
            guest = self._guests[name]
            if count != guest.slowed:
                # The guest wants more than its allowance. Expect at most the memory that the host keeps for bursts.
                burst = max(guest.burst, min(2 * max(guest.burst, LEAST_KIB), self._high or 0.0))
                self._guests[name] = replace(guest, slowed=count, waits=True, burst=burst)

    def _set(self, limits: Mapping[str, int | None]) -> Mapping[str, HypervisorError]:
        failures = self.control.limit_growth(limits) if limits else {}
        for name in limits.keys() & self._guests.keys() - failures.keys():
            self._guests[name] = replace(self._guests[name], limit=limits[name])
        return failures


def _is_used_up(guest: Borrower) -> bool:
    return guest.limit is not None and guest.held >= guest.limit - SLACK_KIB


def _is_off(guest: Borrower, limit: int) -> bool:
    return guest.limit is None or abs(limit - guest.limit) > max(SLACK_KIB, SLACK_SHARE * (limit - guest.held))
