"""Memory of the host that is kept for launches: what a plugin that can make room offers to who asks for room.

Who makes room knows guests and what they can spare; who asks (a control socket, an admission) knows neither. Both know only this.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from mom_core import Entity, MomError, format_kib


class ReservationState(StrEnum):
    """How a reservation is. The first three last; the others are ends."""

    MAKING = "making"  #: guests still give for it
    READY = "ready"  #: the memory is there, to be used
    TAKEN = "taken"  #: a guest has come for it, and has not touched all of it yet
    USED = "used"  #: a guest came for it, and has it
    EXPIRED = "expired"  #: no guest came before the deadline
    RELEASED = "released"  #: it was given up

    @property
    def lasts(self) -> bool:
        """True where memory is kept in this state."""
        return self in {ReservationState.MAKING, ReservationState.READY, ReservationState.TAKEN}


@dataclass(frozen=True, slots=True)
class Reservation:
    """Memory that is kept for a launch, as it was in the last cycle. Sizes in KiB.

    `name` is a pattern for the name or the id of the guest that it is for; empty: for the first new guest that fits. `created_at`
    is seconds since the epoch, `expires_in_seconds` is left. `kept_kib` is what is kept still: less than `memory_kib` when
    `guest`, which has come for it, has touched a part. `there_kib` of that is free now, `expected_kib` is still to come from guests, and
    `expected_in_seconds` says until when, None when that is not known. `note` says in words what an operator should know; empty: nothing.
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

    :param available_kib: what programs can have on the host now without swapping
    :param host_keeps_kib: what of that the host keeps for itself whatever is reserved
    :param reserved_kib: what is kept for others already
    :param can_free_kib: what guests can give within their guarantees and needs
    :param guaranteed_kib: what all guests together are guaranteed
    :param why: why guests give nothing, or less than one might think; empty: there is nothing to say
    :param can_offload_kib: what the host gains besides when cold memory of guests goes to its swap, as far as that can be counted on
    :param returning_kib: what is kept for guests that may want back what is in the host's swap of them
    :param rising_kib: what is kept as guests are expected to take it before long, by their days
    :param rising_until: by when they will have; seconds since the epoch, 0: unknown
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
        """What guests are expected to take, for people; empty: nothing is."""
        by = f"by {time.strftime('%H:%M', time.localtime(self.rising_until))}" if self.rising_until else "before long"
        return f"{format_kib(self.rising_kib)} will be taken by guests {by}, as usual" if self.rising_kib else ""

    @property
    def most_kib(self) -> int:
        """The largest reservation that can be had."""
        return max(0, self.unreserved_kib + self.can_free_kib + self.can_offload_kib)

    @property
    def free_kib(self) -> int:
        """The part of that which is there already."""
        return max(0, min(self.most_kib, self.unreserved_kib))

    @property
    def unreserved_kib(self) -> int:
        """What is there beyond what is kept for others, the host, what may come back from its swap, and what guests are expected to take;
        negative where that lacks."""
        return self.available_kib - self.host_keeps_kib - self.returning_kib - self.rising_kib - self.reserved_kib


class ReservationRefused(MomError):
    """Memory that cannot be had, or not in time. `room` says how much could be."""

    def __init__(self, message: str, *, room: Room, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.room = room


class Reservations(Protocol):
    """The reservations of this host. Any thread may call this.

    While memory is reserved, the host field `mem_reserved` holds how much (KiB): policies add it to what the host is to have
    available. No reservation makes a guest smaller than its guarantee or its need, and a guest that runs out of memory comes first.

    All raise `MomError` before the first cycle, and while nothing is known of the host's memory.
    """

    def room(self) -> Room:
        """Return the memory that could be reserved now."""

    def reserve(self, memory_kib: int, seconds: float, *, name: str = "", who: str = "") -> Reservation:
        """Keep so much for so long. Raises `ReservationRefused` at once when it cannot be had, and `UnitError` for what makes no sense.

        What several ask for adds up; never more is promised than can be had.

        :param name: a pattern, such as `db-*`, for the name or id of the guest that it is for
        :param who: for the log, such as `user root, process 812`
        """

    def reservations(self) -> Sequence[Reservation]:
        """Return those that last, oldest first, and after them the last ones that have ended."""

    def release(self, identity: str, *, who: str = "") -> Reservation:
        """End the reservation with this id. Raises `MomError` when there is none."""
