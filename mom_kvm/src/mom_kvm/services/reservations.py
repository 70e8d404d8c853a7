"""Memory of the host that is kept for launches: service of a plugin that makes room, for a control socket or an admission."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from mom_core import Entity, MomError, format_kib


class ReservationState(StrEnum):
    """State of a reservation. The first three last; the others are ends."""

    MAKING = "making"  #: guests still give for it
    READY = "ready"  #: the memory is there, to be used
    TAKEN = "taken"  #: a guest has come for it, and has not touched all of it yet
    USED = "used"  #: a guest came for it, and has it
    EXPIRED = "expired"  #: no guest came before the deadline
    RELEASED = "released"  #: it was given up

    @property
    def lasts(self) -> bool:
        """True if memory is kept in this state."""
        return self in {ReservationState.MAKING, ReservationState.READY, ReservationState.TAKEN}


@dataclass(frozen=True, slots=True)
class Reservation:
    """Memory kept for a launch, as of the last cycle. Sizes in KiB.

    `name` is a pattern for the guest's name or id; empty: the first new guest that fits. `created_at` is in seconds since the epoch.
    `kept_kib` is less than `memory_kib` once `guest` has come and touched a part. `there_kib` of it is free now; `expected_kib` must still
    come from guests, within `expected_in_seconds` (None: unknown). `note` is for an operator; empty: nothing.
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

    :param available_kib: available to programs on the host now without swapping
    :param host_keeps_kib: part of that which the host keeps for itself
    :param reserved_kib: kept for others already
    :param can_free_kib: guests can give it within their guarantees and needs
    :param guaranteed_kib: guarantees of all guests
    :param why: why guests give little or nothing; empty: no remark
    :param can_offload_kib: further reliable gain from moving guests' cold memory to swap
    :param returning_kib: kept for guests' memory that may return from the host's swap
    :param rising_kib: kept for the expected growth of guests
    :param rising_until: time of that growth; seconds since the epoch, 0: unknown
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
        """Expected growth of guests, for people; empty: none."""
        by = f"by {time.strftime('%H:%M', time.localtime(self.rising_until))}" if self.rising_until else "before long"
        return f"{format_kib(self.rising_kib)} will be taken by guests {by}, as usual" if self.rising_kib else ""

    @property
    def most_kib(self) -> int:
        """Largest possible reservation."""
        return max(0, self.unreserved_kib + self.can_free_kib + self.can_offload_kib)

    @property
    def free_kib(self) -> int:
        """Part of it that is available already."""
        return max(0, min(self.most_kib, self.unreserved_kib))

    @property
    def unreserved_kib(self) -> int:
        """Available memory beyond the parts for the host, other reservations, memory returning from swap, and expected growth; may be
        negative."""
        return self.available_kib - self.host_keeps_kib - self.returning_kib - self.rising_kib - self.reserved_kib


class ReservationRefused(MomError):
    """Memory that cannot be had, or not in time. `room` says how much could be."""

    def __init__(self, message: str, *, room: Room, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.room = room


class Reservations(Protocol):
    """Reservations of this host. For any thread.

    The host field `mem_reserved` has the reserved KiB: policies add it to what the host should have available. No reservation makes a guest
    smaller than its guarantee or need, and a guest that runs out of memory comes first.

    All calls raise `MomError` before the first cycle, and while the host's memory is unknown.
    """

    def room(self) -> Room:
        """Return the memory that could be reserved now."""

    def reserve(self, memory_kib: int, seconds: float, *, name: str = "", who: str = "") -> Reservation:
        """Keep so much memory for so long. Raises `ReservationRefused` at once if it cannot be had, and `UnitError` for invalid numbers.

        Requests add up; mom never promises more than can be had.

        :param name: pattern for the guest's name or id, such as `db-*`
        :param who: for the log, such as `user root, process 812`
        """

    def reservations(self) -> Sequence[Reservation]:
        """Return the lasting ones, oldest first, then the last ended ones."""

    def release(self, identity: str, *, who: str = "") -> Reservation:
        """End the reservation with this id. Raises `MomError` when there is none."""
