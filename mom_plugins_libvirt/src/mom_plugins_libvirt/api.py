"""What mom uses of libvirt's Python binding, as types: the binding itself has none, and tests stand in for it with these."""

# ruff: noqa: N802, N803  # the names are libvirt's

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol


class Domain(Protocol):
    """A guest, as libvirt hands it out. `name`, `UUIDString` and `ID` are answered without asking libvirtd."""

    def name(self) -> str:
        """The guest's name."""
        ...

    def UUIDString(self) -> str:
        """The guest's UUID."""
        ...

    def ID(self) -> int:
        """A number that is new each time the guest is started."""
        ...

    def isActive(self) -> int:
        """1 while the guest runs."""
        ...

    def isPersistent(self) -> int:
        """1 when libvirt knows the guest also while it does not run."""
        ...

    def state(self, flags: int = 0) -> Sequence[int]:
        """How the guest is, and why."""
        ...

    def hasManagedSaveImage(self, flags: int = 0) -> int:
        """1 when libvirt keeps the guest's memory in a file."""
        ...

    def suspend(self) -> int:
        """Let the guest's CPUs stand still."""
        ...

    def resume(self) -> int:
        """Let them go on."""
        ...

    def shutdown(self) -> int:
        """Ask the guest's system to shut down."""
        ...

    def managedSave(self, flags: int = 0) -> int:
        """Keep the guest's memory in a file, and end it."""
        ...

    def create(self) -> int:
        """Start the guest, from its file if there is one."""
        ...

    def abortJob(self) -> int:
        """Give up the long job that is under way with the guest."""
        ...

    def migrate3(self, dconn: object, params: Mapping[str, object], flags: int = 0) -> Domain:
        """Move the guest to another libvirt."""
        ...

    def XMLDesc(self, flags: int = 0) -> str:
        """The guest's description."""
        ...

    def jobStats(self, flags: int = 0) -> Mapping[str, object]:
        """The long job that is under way with the guest: `type` 0 for none, and `operation`."""
        ...

    def setMemoryFlags(self, memory: int, flags: int = 0) -> int:
        """Ask the balloon for this size in KiB."""
        ...

    def setMemoryStatsPeriod(self, period: int, flags: int = 0) -> int:
        """Have the guest's statistics read every so many seconds."""
        ...

    def schedulerParametersFlags(self, flags: int = 0) -> Mapping[str, object]:
        """What limits the guest's CPU time, by libvirt's names."""
        ...

    def setSchedulerParametersFlags(self, params: Mapping[str, int], flags: int = 0) -> int:
        """Change that."""
        ...

    def setBlockIoTune(self, disk: str, params: Mapping[str, int], flags: int = 0) -> int:
        """Limit one disk."""
        ...

    def setInterfaceParameters(self, device: str, params: Mapping[str, int], flags: int = 0) -> int:
        """Limit one network interface."""
        ...

    def vcpuPinInfo(self, flags: int = 0) -> Sequence[Sequence[bool]]:
        """For each vCPU whether it may run on each of the host's CPUs."""
        ...

    def pinVcpuFlags(self, vcpu: int, cpumap: Sequence[bool], flags: int = 0) -> int:
        """Let a vCPU run on these CPUs only."""
        ...

    def setNumaParameters(self, params: Mapping[str, str], flags: int = 0) -> int:
        """Say from which NUMA nodes new memory comes."""
        ...


Record = Mapping[str, object]
"""One guest's statistics, as `getAllDomainStats` names them."""

EventCallback = Callable[..., None]


class LibvirtConnection(Protocol):
    """An open connection to libvirtd."""

    def getAllDomainStats(self, stats: int = 0, flags: int = 0) -> Sequence[tuple[Domain, Record]]:
        """The statistics of all guests in one call."""
        ...

    def domainListGetStats(self, doms: Sequence[Domain], stats: int = 0, flags: int = 0) -> Sequence[tuple[Domain, Record]]:
        """The statistics of these guests in one call; those that are gone are missing in the answer."""
        ...

    def isAlive(self) -> int:
        """1 while the connection stands; answered without asking libvirtd."""
        ...

    def lookupByUUIDString(self, uuidstr: str) -> Domain:
        """The guest with this UUID."""
        ...

    def domainEventRegisterAny(self, dom: Domain | None, eventID: int, cb: EventCallback, opaque: object) -> int:
        """Have `cb` called on each event of this kind."""
        ...

    def domainEventDeregisterAny(self, callbackID: int) -> int:
        """End that."""
        ...

    def registerCloseCallback(self, cb: Callable[[object, int, object], None], opaque: object) -> int:
        """Have `cb(connection, reason, opaque)` called when the connection has ended."""
        ...

    def unregisterCloseCallback(self) -> int:
        """End that."""
        ...

    def setKeepAlive(self, interval: int, count: int) -> int:
        """Ask libvirtd every so many seconds whether it is there, and end the connection after so many that were not answered."""
        ...

    def close(self) -> int:
        """Let the connection go."""
        ...


def binding() -> Any:
    """The libvirt module, with its habit of printing every error to stderr switched off.

    Loaded when it is first needed: the commands that only list plugins must not pay for it. Raises `ImportError` where it is missing.
    """
    import libvirt  # type: ignore[import-untyped]  # the binding has no types; the protocols above say what is used of it

    libvirt.registerErrorHandler(_silent, None)
    return libvirt


def _silent(context: object, error: object) -> None:
    """Errors arrive as exceptions, too."""
