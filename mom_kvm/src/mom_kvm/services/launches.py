"""Launches of guests: services of a plugin that makes room, and of a plugin that reads guests' descriptions.

Who asks (a control socket, which a hook of the hypervisor calls) knows neither guests' memory nor how a platform describes a guest.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


@dataclass(frozen=True, slots=True)
class LaunchedGuest:
    """A guest that is about to be started, with `memory_kib`.

    `name` is what its hypervisor will call it, and `id` the id that it will have, where its description tells. `why_none` says why the host
    need not have memory available for it, such as that it has huge pages; empty: it must.
    """

    name: str
    memory_kib: int
    id: str = ""
    why_none: str = ""


class LaunchState(StrEnum):
    """How a launch is."""

    WAITING = "waiting"  #: memory is being made for it
    STARTS = "starts"  #: the guest may be started
    REFUSED = "refused"  #: it must not be started


@dataclass(frozen=True, slots=True)
class Launch:
    """A guest that is about to be started, and whether it may be.

    `reservation` is the id of what is kept for it; empty: nothing is. `until` is when it is decided at the latest, by the clock that mom
    measures time with. `note` says why it is refused, or starts though not all of its memory is there; empty: all of it is. `hint` has
    figures, and what could be done about that.
    """

    guest: LaunchedGuest
    state: LaunchState
    reservation: str = ""
    until: float = 0.0
    note: str = ""
    hint: str = ""


class Launches(Protocol):
    """Who makes memory before guests start. Any thread may call this; neither call waits."""

    def begin(self, guest: LaunchedGuest, *, patience: float, who: str = "") -> Launch:
        """Have memory kept for this guest, and made where it is not there.

        What may be refused is the operator's to say; whatever keeps mom from knowing starts the guest.

        :param patience: seconds that who asks waits for the decision at most
        :param who: for the log, such as `user root, process 812`
        """

    def look(self, launch: Launch) -> Launch:
        """Return the same launch as it is by now: ask again while it waits."""


class LaunchReader(Protocol):
    """A hypervisor's plugin that can read how its platform describes a guest before it runs. Any thread may call this; no call waits.

    Libvirt answers no question about all guests while a hook of one of them runs. So who lets a launch wait says so before, and after.
    """

    def read(self, description: str, identity: str) -> LaunchedGuest | None:
        """Return the guest of this description; None for an invalid description, or another platform's.

        :param description: such as libvirt's domain XML, or a file of /etc/pve/qemu-server; what a tenant can write there may be anything
        :param identity: the platform's own word for the guest, where the description does not have it, such as Proxmox VE's number
        """

    def launches(self, guest: LaunchedGuest) -> None:
        """Note that this guest's start waits from now on."""

    def launched(self, guest: LaunchedGuest) -> None:
        """Note that this guest's start waits no longer."""
