"""Services for launches: make memory available, read descriptions."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


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
