"""Hooks shared by all plugins with a mover."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from mom_core import Finding, MomError, Severity, hookimpl
from mom_kvm import Mover


class CheckedMover(Mover, Protocol):
    """Mover that can check itself."""

    def check(self) -> str:
        """Return a sentence for `mom doctor`. Raise `MomError` if unusable."""


class MoverPlugin:
    """Plugin that offers a mover.

    :param subject: name in `mom doctor`
    :param ready: raises `MomError` for an unusable configuration
    """

    def __init__(self, mover: CheckedMover, subject: str, ready: Callable[[], None]) -> None:
        self._mover, self._subject, self._ready = mover, subject, ready

    @hookimpl
    def mom_setup(self) -> None:
        """Check the configuration. Raise `MomError` if it is unusable."""
        self._ready()

    @hookimpl
    def mom_services(self) -> Mapping[type, Any]:
        """Offer the mover."""
        return {Mover: self._mover}

    @hookimpl
    def mom_doctor(self) -> Iterable[Finding]:
        """Report the mover's check."""
        try:
            self._ready()
            yield Finding(Severity.OK, self._subject, self._mover.check())
        except MomError as error:
            yield Finding(Severity.ERROR, self._subject, error.message, error.hint)
