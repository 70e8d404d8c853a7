"""Services for launches: make memory available, reserve it, read descriptions."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from mom_core import Entity, MomError, format_kib


class ReservationState(StrEnum):
    """State of a reservation. The last three are final."""

    MAKING = "making"  #: guests are still freeing memory for it
    READY = "ready"  #: the memory is available
    TAKEN = "taken"  #: its guest has started, and has not touched all memory yet
    USED = "used"  #: its guest has all memory
    EXPIRED = "expired"  #: no guest started before the deadline
    RELEASED = "released"  #: released by a client

    @property
    def lasts(self) -> bool:
        """True while memory is reserved."""
        return self in {ReservationState.MAKING, ReservationState.READY, ReservationState.TAKEN}


@dataclass(frozen=True, slots=True)
class Reservation:
    """Memory reserved for a launch. Sizes in KiB; `created_at` in seconds since the epoch.

    `name` is a pattern for the guest's name or id; empty for the first new guest that fits. `kept_kib` falls while `guest` touches its
    memory. `there_kib` is free now; `expected_kib` must still come from guests.
    """

    id: str
    memory_kib: int
    state: ReservationState
    name: str = ""
    who: str = ""
    created_at: float = 0.0
    expires_in_seconds: float = 0.0
    kept_kib: int = 0
    there_kib: int = 0
    expected_kib: int = 0
    expected_in_seconds: float | None = None
    guest: Entity | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Room:
    """Memory that could be reserved, and its parts. Sizes in KiB.

    :param available_kib: memory available without swapping
    :param host_keeps_kib: part of `available_kib` for the host itself
    :param reserved_kib: part of `available_kib` for reservations
    :param can_free_kib: memory that guests can free within their guarantees and needs
    :param why: why guests can free little or nothing
    :param can_offload_kib: further gain from offloading cold memory
    :param returning_kib: memory kept for guests' memory that may return from swap
    :param rising_kib: memory kept for guests' expected growth
    :param rising_until: seconds since the epoch; 0 if unknown
    """

    available_kib: int
    host_keeps_kib: int
    reserved_kib: int
    can_free_kib: int
    guaranteed_kib: int
    why: str = ""
    can_offload_kib: int = 0
    returning_kib: int = 0
    rising_kib: int = 0
    rising_until: float = 0.0

    @property
    def rise(self) -> str:
        """Expected growth of guests, as text."""
        by = f"by {time.strftime('%H:%M', time.localtime(self.rising_until))}" if self.rising_until else "soon"
        return f"guests are expected to use {format_kib(self.rising_kib)} more {by}" if self.rising_kib else ""

    @property
    def most_kib(self) -> int:
        """Largest possible reservation, in KiB."""
        return max(0, self.unreserved_kib + self.can_free_kib + self.can_offload_kib)

    @property
    def free_kib(self) -> int:
        """Part of `most_kib` that is already available."""
        return max(0, min(self.most_kib, self.unreserved_kib))

    @property
    def unreserved_kib(self) -> int:
        """Available memory without the host's part, reservations, `returning_kib` and `rising_kib`. May be negative."""
        return self.available_kib - self.host_keeps_kib - self.returning_kib - self.rising_kib - self.reserved_kib


class ReservationRefused(MomError):
    """The memory is not available, or will not be available in time. `room` has the possible sizes."""

    def __init__(self, message: str, *, room: Room, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.room = room


class Reservations(Protocol):
    """Reservations of this host. Thread-safe.

    Reservations shrink no guest below its guarantee or need. Calls raise `MomError` while the host's memory is unknown.
    """

    def room(self) -> Room:
        """Return the memory that can be reserved now."""

    def reserve(self, memory_kib: int, seconds: float, *, name: str = "", who: str = "") -> Reservation:
        """Reserve memory for `seconds`, or raise `ReservationRefused`.

        :param name: pattern for the guest's name or id, such as `db-*`
        :param who: for the log, such as `user root, process 812`
        """

    def reservations(self) -> Sequence[Reservation]:
        """Return active reservations, oldest first, then ended ones."""

    def release(self, identity: str, *, who: str = "") -> Reservation:
        """End a reservation. Raises `MomError` for an unknown id."""


@dataclass(frozen=True, slots=True)
class LaunchedGuest:
    """Guest that is about to start. `why_none` is why it needs no memory of the host, such as huge pages."""

    name: str
    memory_kib: int
    id: str = ""
    why_none: str = ""


class LaunchState(StrEnum):
    """State of a launch."""

    WAITING = "waiting"  #: other guests are still freeing memory for it
    STARTS = "starts"  #: the guest may start
    REFUSED = "refused"  #: the guest must not start


@dataclass(frozen=True, slots=True)
class Launch:
    """Guest that is about to start, and whether it may.

    `reservation` is an id, `until` the latest monotonic time of the decision, `note` why it is refused or starts without all of its memory.
    """

    guest: LaunchedGuest
    state: LaunchState
    reservation: str = ""
    until: float = 0.0
    note: str = ""
    hint: str = ""


class Launches(Protocol):
    """Makes memory available before starts. Thread-safe; does not wait."""

    def begin(self, guest: LaunchedGuest, *, patience: float, who: str = "") -> Launch:
        """Reserve memory for this guest. If the guest's memory is unknown, the guest may start.

        :param patience: seconds that the caller waits for the decision
        :param who: for the log, such as `user root, process 812`
        """

    def look(self, launch: Launch) -> Launch:
        """Return the present state; repeat this call while the start is delayed."""


class LaunchReader(Protocol):
    """Reads a guest's description before it runs. Thread-safe; does not wait.

    libvirt answers no bulk query during a guest's hook, so callers report delayed starts.
    """

    def read(self, description: str, identity: str) -> LaunchedGuest | None:
        """Return the described guest; None if the description is invalid, or of another platform.

        :param description: such as libvirt's domain XML; untrusted
        :param identity: the guest's id if the description lacks it, such as Proxmox VE's number
        """

    def launches(self, guest: LaunchedGuest) -> None:
        """Record that this guest's start is delayed."""

    def launched(self, guest: LaunchedGuest) -> None:
        """Record that the start is no longer delayed."""
