"""Every way in which mom says no: one base class, and a kind for each thing that a caller can react to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class MomError(Exception):
    """The base of all errors that mom raises on purpose.

    :param message: what is wrong, in one sentence that an operator understands
    :param hint: what to do instead; empty when there is nothing to advise
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


@dataclass(frozen=True, slots=True, order=True)
class ConfigProblem:
    """One thing that is wrong in a configuration: where (1-based line and column, 0 if unknown), what, and what to do."""

    file: str
    line: int
    column: int
    message: str
    hint: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{where}: {self.message}" + (f" ({self.hint})" if self.hint else "")


class ConfigError(MomError):
    """A configuration that cannot be used. `problems` holds all of them, in the order of the file."""

    def __init__(self, problems: Sequence[ConfigProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class UnitError(MomError, ValueError):
    """A duration or size without a unit, with an unknown one, or outside what makes sense."""


class PluginError(MomError):
    """A plugin that cannot be used: which one, and the distribution that provides it (empty when none does).

    `errors` are those of several plugins that cannot be used; else this one alone.
    """

    def __init__(self, message: str, *, plugin: str, distribution: str = "", hint: str = "", errors: Sequence[PluginError] = ()) -> None:
        super().__init__(message, hint=hint)
        self.plugin = plugin
        self.distribution = distribution
        self.errors: tuple[PluginError, ...] = tuple(errors) or (self,)

    @classmethod
    def of(cls, errors: Sequence[PluginError]) -> PluginError:
        """These errors, of which there is at least one, as one."""
        return errors[0] if len(errors) == 1 else cls("\n".join(map(str, errors)), plugin=errors[0].plugin, errors=errors)


class DeadlineExceeded(MomError):
    """A plugin did not answer in time. Its call may still be running; it is not called again before that has ended."""


class StateError(MomError):
    """A file of state cannot be written, or what it holds cannot be used. While the ledger cannot, no control is applied."""


class HypervisorError(MomError):
    """The hypervisor could not do what was asked: it is unreachable, or refused for a reason that has no kind of its own."""


class GuestGone(HypervisorError):
    """The guest does not exist any more, or is not running."""


class GuestBusy(HypervisorError):
    """The guest cannot be asked just now (a job holds it); the same call may succeed later."""


class Refused(HypervisorError):
    """It must not be done as things stand, and nothing was sent."""


class NoChangeNeeded(HypervisorError):
    """Nothing had to be sent, for this reason: it stands so already as far as it matters, or is on its way."""


class NotSupported(Refused):
    """This guest or host has no such thing: no balloon device, no such knob, a read-only connection."""


class PermissionDenied(HypervisorError):
    """The hypervisor or the kernel does not let this process do that."""
