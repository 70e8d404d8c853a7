"""Services for launches of guests: reserve memory, make it available, read guests' descriptions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from mom_core import Entity, MomError, format_kib


@dataclass(frozen=True, slots=True)
class Reservation:
    """Memory reserved for a launch. Sizes are in KiB. `created_at` is in seconds since the epoch.

    `name` is a pattern for the guest's name or ID; empty for the first new guest that fits. `kept_kib` is still reserved, and falls while
    `guest` touches its memory. `there_kib` of `kept_kib` is free now. Other guests must still free `expected_kib`.
    """

    class State(StrEnum):
        """State of a reservation. The last three are final."""

        MAKING = "making"  #: guests are still freeing memory for it
        READY = "ready"  #: the memory is available
        TAKEN = "taken"  #: its guest has started, but has not touched all of its memory yet
        USED = "used"  #: its guest has touched all of its memory
        EXPIRED = "expired"  #: no guest started before the deadline
        RELEASED = "released"  #: released by a client

        @property
        def lasts(self) -> bool:
            """Whether memory is still reserved in this state."""
            return self in {Reservation.State.MAKING, Reservation.State.READY, Reservation.State.TAKEN}

    @dataclass(frozen=True, slots=True)
    class Room:
        """Memory that could be reserved, and its parts. Sizes in KiB.

        :param available_kib: memory available without swapping
        :param host_keeps_kib: part of `available_kib` for the host itself
        :param reserved_kib: part of `available_kib` for reservations
        :param can_free_kib: memory that guests can give up within their guarantees and needs
        :param why: why guests can give up little or nothing
        :param can_offload_kib: further gain from moving cold memory to swap
        :param returning_kib: memory kept free because guests' memory may return from swap
        :param rising_kib: memory kept free for guests' expected growth
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

        @property
        def rise(self) -> str:
            """Expected growth of guests, as text."""
            return f"guests are expected to soon use {format_kib(self.rising_kib)} more" if self.rising_kib else ""

        @property
        def most_kib(self) -> int:
            """Largest possible reservation."""
            return max(0, self.unreserved_kib + self.can_free_kib + self.can_offload_kib)

        @property
        def free_kib(self) -> int:
            """Part of `most_kib` that is already available."""
            return max(0, min(self.most_kib, self.unreserved_kib))

        @property
        def unreserved_kib(self) -> int:
            """Available memory minus the host's part, reservations, `returning_kib` and `rising_kib`. It may be negative."""
            return self.available_kib - self.host_keeps_kib - self.returning_kib - self.rising_kib - self.reserved_kib

    class Refused(MomError):
        """Error: the memory cannot be made available in time. `room` shows how much can be reserved."""

        def __init__(self, message: str, *, room: Reservation.Room, hint: str = "") -> None:
            super().__init__(message, hint=hint)
            self.room = room

    id: str
    memory_kib: int
    state: Reservation.State
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


class Reservations(Protocol):
    """Service that reserves memory of this host. Thread-safe.

    To reserve memory, mom shrinks no guest below its guarantee or its need. Calls raise `MomError` while the host's memory is unknown.
    """

    def room(self) -> Reservation.Room:
        """Return the memory that can be reserved now."""

    def reserve(self, memory_kib: int, seconds: float, *, name: str = "", who: str = "") -> Reservation:
        """Reserve memory for `seconds`. Raise `Reservation.Refused` if mom cannot make it available.

        :param name: pattern for the guest's name or ID, such as `db-*`
        :param who: caller for the log, such as `user root, process 812`
        """

    def reservations(self) -> Sequence[Reservation]:
        """Return active reservations, oldest first, then ended ones."""

    def release(self, identity: str, *, who: str = "") -> Reservation:
        """End a reservation. Raise `MomError` if its ID is unknown."""


@dataclass(frozen=True, slots=True)
class LaunchedGuest:
    """Guest that is about to start. `why_none` says why mom need not make memory available, for example because of huge pages."""

    @dataclass(frozen=True, slots=True)
    class Launch:
        """Guest that is about to start, and whether it may start.

        `reservation` is an ID. mom decides at the monotonic time `until` at the latest. `note` says why mom refuses the guest, or starts it
        with less memory.
        """

        class State(StrEnum):
            """State of a launch."""

            WAITING = "waiting"  #: other guests are still freeing memory for it
            STARTS = "starts"  #: the guest may start
            REFUSED = "refused"  #: the guest must not start

        guest: LaunchedGuest
        state: LaunchedGuest.Launch.State
        reservation: str = ""
        until: float = 0.0
        note: str = ""
        hint: str = ""

    name: str
    memory_kib: int
    id: str = ""
    why_none: str = ""


class Launches(Protocol):
    """Service that makes memory available before a guest starts. Thread-safe; does not wait."""

    def begin(self, guest: LaunchedGuest, *, patience: float, who: str = "") -> LaunchedGuest.Launch:
        """Begin to make memory available for a guest. If the guest's memory is unknown, the guest may start.

        :param patience: seconds for which the caller waits for the decision
        """

    def look(self, launch: LaunchedGuest.Launch) -> LaunchedGuest.Launch:
        """Return the launch in its present state. Call this repeatedly while the start is delayed."""


class LaunchReader(Protocol):
    """Reader of a guest's description before the guest runs. Thread-safe; does not wait.

    While a guest's start hook runs, libvirt's bulk queries wait if they include the guest. So callers report starts that they delay.
    """

    def read(self, description: str, identity: str) -> LaunchedGuest | None:
        """Return the guest that a description describes; None if it is invalid, or belongs to another platform.

        :param description: untrusted text, such as libvirt's domain XML
        :param identity: the guest's ID if the description lacks it, such as Proxmox VE's VMID
        """

    def launches(self, guest: LaunchedGuest) -> None:
        """Record that the caller delays this guest's start."""

    def launched(self, guest: LaunchedGuest) -> None:
        """Record that the caller no longer delays this guest's start."""
