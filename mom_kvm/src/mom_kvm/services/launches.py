"""Launches of guests: services of a plugin that makes room, and of a plugin that reads guests' descriptions.

The asking side, such as a control socket that a hypervisor's hook calls, knows neither guests' memory nor a platform's descriptions.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


@dataclass(frozen=True, slots=True)
class LaunchedGuest:
    """Guest that is about to start, with `memory_kib`.

    `name` is its hypervisor's name for it; `id` is its future id, if its description tells. `why_none` says why it needs no available
    memory of the host, such as huge pages; empty: it does.
    """

    name: str
    memory_kib: int
    id: str = ""
    why_none: str = ""


class LaunchState(StrEnum):
    """State of a launch."""

    WAITING = "waiting"  #: memory is being made for it
    STARTS = "starts"  #: the guest may be started
    REFUSED = "refused"  #: it must not be started


@dataclass(frozen=True, slots=True)
class Launch:
    """Guest that is about to start, and whether it may.

    `reservation` is the id of its reservation; empty: none. `until` is the latest time of the decision, by mom's monotonic clock. `note`
    says why it is refused, or starts without all of its memory; empty: all is there. `hint` has figures, and a cure.
    """

    guest: LaunchedGuest
    state: LaunchState
    reservation: str = ""
    until: float = 0.0
    note: str = ""
    hint: str = ""


class Launches(Protocol):
    """Makes memory before guests start. For any thread; does not wait."""

    def begin(self, guest: LaunchedGuest, *, patience: float, who: str = "") -> Launch:
        """Reserve memory for this guest, and make missing memory.

        The operator decides what is refused; anything that mom does not know starts the guest.

        :param patience: seconds that the asking side waits for the decision
        :param who: for the log, such as `user root, process 812`
        """

    def look(self, launch: Launch) -> Launch:
        """Return the launch as it is now; repeat while it waits."""


class LaunchReader(Protocol):
    """Hypervisor's plugin that reads how its platform describes a guest before it runs. For any thread; does not wait.

    libvirt answers no question about all guests during a guest's hook. So callers announce a waiting launch before and after.
    """

    def read(self, description: str, identity: str) -> LaunchedGuest | None:
        """Return the guest of this description; None: invalid, or another platform's.

        :param description: such as libvirt's domain XML, or a file of /etc/pve/qemu-server; a tenant's parts may hold anything
        :param identity: the platform's id of the guest if the description lacks it, such as Proxmox VE's number
        """

    def launches(self, guest: LaunchedGuest) -> None:
        """Note that this guest's start waits from now on."""

    def launched(self, guest: LaunchedGuest) -> None:
        """Note that this guest's start waits no longer."""
