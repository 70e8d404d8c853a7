"""Hooks shared by all mover plugins."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final

from mom_core import Finding, MomError, Severity, hookimpl, printable
from mom_kvm import MoverAbilities
from mom_plugins_sla.eviction.protocols import Mover, MoveReport, MoveStanding


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


RUNNING: Final = MoveReport(MoveStanding.RUNNING)
DONE: Final = MoveReport(MoveStanding.DONE)
UNKNOWN: Final = MoveReport(MoveStanding.UNKNOWN)


def why_failed(error: BaseException) -> str:
    """Return the error message; for a bug, with the error's type."""
    return printable(str(error) if isinstance(error, MomError) else f"{type(error).__name__}: {error}", 400)


def failed(error: str) -> MoveReport:
    """Return the report of a failed move, whose guest is still here."""
    return MoveReport(MoveStanding.FAILED, printable(error, 400))
