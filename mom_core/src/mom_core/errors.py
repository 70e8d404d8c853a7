"""Errors: one base class, and a kind for each possible reaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class MomError(Exception):
    """Base of all errors that mom raises on purpose.

    :param message: what is wrong, in one sentence for an operator
    :param hint: advice; may be empty
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


@dataclass(frozen=True, slots=True, order=True)
class ConfigProblem:
    """Fault in a configuration: position (1-based, 0 if unknown), message, and advice."""

    file: str
    line: int
    column: int
    message: str
    hint: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{where}: {self.message}" + (f" ({self.hint})" if self.hint else "")


class ConfigError(MomError):
    """Invalid configuration. `problems` holds all faults in the order of the file."""

    def __init__(self, problems: Sequence[ConfigProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class UnitError(MomError, ValueError):
    """Duration or size without a unit, with an unknown one, or out of range."""


class PluginError(MomError):
    """Unusable plugin, with its distribution (empty if there is none).

    `errors` are those of several plugins, or only this one.
    """

    def __init__(self, message: str, *, plugin: str, distribution: str = "", hint: str = "", errors: Sequence[PluginError] = ()) -> None:
        super().__init__(message, hint=hint)
        self.plugin = plugin
        self.distribution = distribution
        self.errors: tuple[PluginError, ...] = tuple(errors) or (self,)

    @classmethod
    def of(cls, errors: Sequence[PluginError]) -> PluginError:
        """Join these errors, at least one, into one."""
        return errors[0] if len(errors) == 1 else cls("\n".join(map(str, errors)), plugin=errors[0].plugin, errors=errors)


class DeadlineExceeded(MomError):
    """A plugin exceeded its deadline. Its call may still run; mom does not call it again before it ends."""


class StateError(MomError):
    """A state file cannot be written or used. Without the ledger, mom applies no control."""


class HypervisorError(MomError):
    """The hypervisor is unreachable, or the request failed for a reason without a kind of its own."""


class GuestGone(HypervisorError):
    """The guest does not exist any more, or is not running."""


class GuestBusy(HypervisorError):
    """A job holds the guest; the same call may succeed later."""


class Refused(HypervisorError):
    """Not allowed at present; nothing was sent."""


class NoChangeNeeded(HypervisorError):
    """Nothing had to be sent: the value is in force as far as it matters, or on its way."""


class NotSupported(Refused):
    """Not available for this guest or host: no balloon device, no such file, a read-only connection."""


class PermissionDenied(HypervisorError):
    """The hypervisor or the kernel denies this process the request."""
