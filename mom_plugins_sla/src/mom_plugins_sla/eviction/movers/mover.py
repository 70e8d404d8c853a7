"""Movers, their plugins, and optional capabilities of hypervisors for evictions, tested with `isinstance`.

Several threads call the methods. A method takes limited time, and raises `GuestGone` for a guest that has ended.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Final, Protocol, runtime_checkable

from mom_core import Entity, Finding, MomError, Severity, hookimpl, printable
from mom_kvm import Destination, GuestState, MoverAbilities


@runtime_checkable
class LifecycleControl(Protocol):
    """Control of guests' states. Long calls block for `timeout_seconds` at most."""

    def standings(self, guests: Sequence[Entity]) -> Mapping[str, GuestState]:
        """Return the states of running and stopped guests, keyed by guest id."""

    def pause(self, guest: Entity) -> None:
        """Stop the guest's vCPUs. Its memory stays allocated."""

    def resume(self, guest: Entity) -> None:
        """Continue a paused guest."""

    def save(self, guest: Entity, timeout_seconds: float) -> None:
        """Save the guest to disk. After the timeout (`GuestBusy`), the guest continues to run."""

    def shut_down(self, guest: Entity) -> None:
        """Request a shutdown, which some guests ignore."""

    def start(self, guest: Entity, timeout_seconds: float) -> None:
        """Boot a guest, or continue a saved one."""


@runtime_checkable
class MigrationControl(Protocol):
    """Live migration of guests."""

    def migrate(self, guest: Entity, destination: Destination, timeout_seconds: float) -> None:
        """Migrate the running guest, and return once it runs on the destination.

        After an error, the guest still runs here: `NotSupported` if the migration is impossible, `GuestBusy` after the timeout, or another
        `HypervisorError`. After `TimeoutError` the outcome is unknown.
        """


class MoveStanding(StrEnum):
    """State of a move."""

    RUNNING = "running"
    DONE = "done"  #: the guest has left this host
    FAILED = "failed"  #: ended, and the guest is still on this host
    UNKNOWN = "unknown"  #: any of these states


@dataclass(frozen=True, slots=True)
class MoveReport:
    """State of a move, and why it failed."""

    standing: MoveStanding
    error: str = ""


@dataclass(frozen=True, slots=True)
class MoveJob:
    """Move of a guest.

    :param id: unique, never reused
    :param seconds: timeout
    :param time: start, in seconds since the epoch
    :param reference: result of the mover's `begin`; empty if there is none yet, or if it was lost
    """

    guest: Entity
    destination: Destination
    id: str
    seconds: float
    time: float = 0.0
    reference: str = ""


class Mover(Protocol):
    """Program or service that moves guests. Thread-safe.

    `name`, `abilities` and `why_not` must not block. Other calls run in threads of their own.
    """

    @property
    def name(self) -> str:
        """Name in messages and state files, such as the plugin's."""

    @property
    def abilities(self) -> MoverAbilities:
        """Present abilities of the mover."""

    def why_not(self, destination: Destination) -> str:
        """Return why the mover cannot move guests there; empty if it can."""

    def begin(self, job: MoveJob) -> str:
        """Start a move once for each `job.id`, and return a reference for `look`.

        The reference has at most 400 characters, and stays valid after a restart of mom.

        Raises `HypervisorError` only if nothing was started. If that is uncertain, it returns an empty string or raises another error.
        """

    def look(self, job: MoveJob) -> MoveReport:
        """Return the state of the move. mom repeats a failed move, so return `UNKNOWN` in doubt."""

    def cancel(self, job: MoveJob) -> None:
        """Cancel the move if possible; `look` returns the outcome. Raises `HypervisorError` if the request fails."""


RUNNING: Final = MoveReport(MoveStanding.RUNNING)
DONE: Final = MoveReport(MoveStanding.DONE)
UNKNOWN: Final = MoveReport(MoveStanding.UNKNOWN)


def why_failed(error: BaseException) -> str:
    """Return the error message; for a bug, with the error's type."""
    return printable(str(error) if isinstance(error, MomError) else f"{type(error).__name__}: {error}", 400)


def failed(error: str) -> MoveReport:
    """Return the report of a failed move, whose guest is still here."""
    return MoveReport(MoveStanding.FAILED, printable(error, 400))


class MoverPlugin(ABC):
    """Plugin that is a `Mover`."""

    subject: ClassVar[str]
    """Name in `mom doctor`."""

    def __init__(self, name: str, abilities: MoverAbilities) -> None:
        self.name, self.abilities = name, abilities

    @abstractmethod
    def ready(self) -> None:
        """Raise `MomError` for an unusable configuration."""

    @abstractmethod
    def check(self) -> str:
        """Return a sentence for `mom doctor`. Raise `MomError` if the mover cannot be used now."""

    @hookimpl
    def mom_setup(self) -> None:
        self.ready()

    @hookimpl
    def mom_services(self) -> Mapping[type, Any]:
        return {Mover: self}

    @hookimpl
    def mom_doctor(self) -> Iterable[Finding]:
        try:
            self.ready()
            yield Finding(Severity.OK, self.subject, self.check())
        except MomError as error:
            yield Finding(Severity.ERROR, self.subject, error.message, error.hint)
