"""Errors: a base class, and a subclass for each reaction of callers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class MomError(Exception):
    """Base of all errors that mom raises on purpose.

    :param message: one sentence for an operator
    :param hint: advice
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class ConfigError(MomError):
    """Invalid configuration; `problems` lists all mistakes in file order."""

    @dataclass(frozen=True, slots=True, order=True)
    class Problem:
        """Mistake in a configuration. Positions start at 1; 0 if unknown."""

        file: str
        line: int
        column: int
        message: str
        hint: str = ""

        def __str__(self) -> str:
            where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
            return f"{where}: {self.message}" + (f" ({self.hint})" if self.hint else "")

    def __init__(self, problems: Sequence[ConfigError.Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class UnitError(MomError, ValueError):
    """Duration or size with a missing or unknown unit, or out of range."""


class PluginError(MomError):
    """Unusable plugin. `errors` lists the errors of several plugins, or only this error."""

    def __init__(self, message: str, *, plugin: str, distribution: str = "", hint: str = "", errors: Sequence[PluginError] = ()) -> None:
        super().__init__(message, hint=hint)
        self.plugin = plugin
        self.distribution = distribution
        self.errors: tuple[PluginError, ...] = tuple(errors) or (self,)

    @classmethod
    def of(cls, errors: Sequence[PluginError]) -> PluginError:
        """Join one or more errors into one."""
        return errors[0] if len(errors) == 1 else cls("\n".join(map(str, errors)), plugin=errors[0].plugin, errors=errors)


class DeadlineExceeded(MomError):
    """A plugin exceeded its deadline. mom calls the plugin again after the late call has returned."""


class StateError(MomError):
    """Unusable state file. Without a usable ledger, mom makes only changes that it can undo."""


class HypervisorError(MomError):
    """The hypervisor is unreachable, or a request failed for a reason that no subclass covers."""


class GuestGone(HypervisorError):
    """The guest does not exist any more, or is not running."""


class GuestBusy(HypervisorError):
    """Another job runs on the guest; the same call may succeed later."""


class Refused(HypervisorError):
    """The request is not allowed at present; nothing was sent."""


class NoChangeNeeded(HypervisorError):
    """Nothing was sent: the value is already in force, or will be."""


class NotSupported(Refused):
    """Not available here: no balloon device, no such file, a read-only connection."""


class PermissionDenied(HypervisorError):
    """The hypervisor or the kernel denies this process the request."""
