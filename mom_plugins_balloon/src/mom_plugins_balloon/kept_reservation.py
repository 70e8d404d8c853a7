"""Record of a reservation, and limits of reservations."""

from __future__ import annotations

import fnmatch
import glob
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import Field

from mom_core import Guest, UnitError, format_duration, format_kib, printable
from mom_kvm import LaunchedGuest

LEAST_KIB: Final = 1024
MOST_KIB: Final = 1 << 40
"""KiB, 1 MiB to 1 PiB. Other sizes are mistakes in the unit."""

LEAST_SECONDS: Final = 1.0
LONGEST_SECONDS: Final = 86400.0
"""s. Reservations are for launches; `host_free` of the balloon plugin keeps memory for longer."""

MOST_RESERVATIONS: Final = 256
"""A management system that requests more has an error."""

_LONGEST_NAME: Final = 200

_Moment = Annotated[float, Field(ge=0, lt=1 << 36)]
"""Seconds since the epoch, or since the host's boot."""


@dataclass(frozen=True, slots=True)
class KeptReservation:
    """Reservation as mom stores it. All times except `created` are monotonic."""

    id: str
    memory_kib: Annotated[int, Field(ge=LEAST_KIB, le=MOST_KIB)]
    name: str
    """Pattern of a guest's name or id, or an empty string for any guest that fits."""
    who: str
    created: _Moment
    made: _Moment
    deadline: _Moment
    guest: str = ""
    """Id of the arrived guest."""
    guest_name: str = ""
    incarnation: str = ""
    taken_at: _Moment | None = None
    launch: str = ""
    """Id or name of the only guest that may use the reservation before `launch_until`."""
    launch_until: _Moment = 0.0
    before: KeptReservation | None = None
    """Earlier reservation that the launch took over; None if there was none."""

    @property
    def is_of_launch(self) -> bool:
        """Whether a launch made the reservation, which then ends with the launched guest."""
        return bool(self.launch) and self.before is None

    @property
    def specificity(self) -> tuple[bool, int]:
        """Sort key: named reservations first, then the smallest."""
        return not self.name, self.memory_kib

    def fits(self, guest: Guest | LaunchedGuest, size: float | None, now: float) -> bool:
        """Return whether a guest of this size may use the reservation."""
        if self.launch and now < self.launch_until:
            return self.launch in {guest.id, guest.name}
        if self.name:
            return any(_matches(name, self.name) for name in (guest.name, guest.id) if name)
        return size is not None and size <= self.memory_kib


@dataclass(frozen=True, slots=True)
class KeptReservations:
    """Reservations and guests of one boot of the host."""

    boot: str
    monotonic: _Moment
    guests: dict[str, str]
    reservations: Annotated[tuple[KeptReservation, ...], Field(max_length=MOST_RESERVATIONS)]


def check_request(memory_kib: int, seconds: float, name: str) -> None:
    """Raise `UnitError` if size, time or name is out of range."""
    if not LEAST_KIB <= memory_kib <= MOST_KIB:
        hint = f"from {format_kib(LEAST_KIB)} to {format_kib(MOST_KIB)}"
        raise UnitError(f"reservation of {format_kib(memory_kib)} is out of range", hint=hint)
    if not LEAST_SECONDS <= seconds <= LONGEST_SECONDS:
        hint = f"from {format_duration(LEAST_SECONDS)} to {format_duration(LONGEST_SECONDS)}; for longer, set host_free"
        raise UnitError(f"reservation for {seconds:g} s is out of range", hint=hint)
    if len(name) > _LONGEST_NAME or not name.isprintable():
        hint = f"use at most {_LONGEST_NAME} printable characters"
        raise UnitError(f"invalid pattern {printable(name)!r} for a guest's name or id", hint=hint)


def pattern_of(guest: LaunchedGuest) -> str:
    """Return a pattern that matches only this guest."""
    patterns = (glob.escape(name) for name in (guest.name, guest.id, printable(guest.name, _LONGEST_NAME // 4)) if name)
    return next(pattern for pattern in patterns if pattern.isprintable() and len(pattern) <= _LONGEST_NAME)


def _matches(name: str, pattern: str) -> bool:
    # Plain names avoid the cache of `fnmatch` (40 MiB).
    return fnmatch.fnmatchcase(name, pattern) if glob.has_magic(pattern) else name == pattern
