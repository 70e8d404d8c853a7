"""The hooks that all plugins with a mover of their own have; each has settings of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from mom_core import Finding, MomError, Severity, hookimpl
from mom_kvm import Mover


class CheckedMover(Mover, Protocol):
    """Mover that can see whether it will work."""

    def check(self) -> str:
        """Return the sentence of `mom doctor` on it; raises `MomError` when it cannot move guests."""


class MoverPlugin:
    """Offers a mover.

    :param subject: what `mom doctor` calls it
    :param ready: raises `MomError` where what is configured cannot do: then mom does not start
    """

    def __init__(self, mover: CheckedMover, subject: str, ready: Callable[[], None]) -> None:
        self._mover, self._subject, self._ready = mover, subject, ready

    @hookimpl
    def mom_setup(self) -> None:
        """See that there is what it needs. Raises `MomError`."""
        self._ready()

    @hookimpl
    def mom_services(self) -> Mapping[type, Any]:
        """Return the mover."""
        return {Mover: self._mover}

    @hookimpl
    def mom_doctor(self) -> Iterable[Finding]:
        """Yield how it is."""
        try:
            self._ready()
            yield Finding(Severity.OK, self._subject, self._mover.check())
        except MomError as error:
            yield Finding(Severity.ERROR, self._subject, error.message, error.hint)
