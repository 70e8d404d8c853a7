"""What plugins do alike with whatever hypervisor is in use."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import TypeVar, cast

from mom_core import Change, Finding, Guest, Hypervisor, HypervisorError, NotSupported, Severity, Target

Capability = TypeVar("Capability")


def capable(hypervisor: Hypervisor, capability: Callable[..., Capability], what: str) -> Capability:
    """The hypervisor as one with that capability.

    :param what: what a hypervisor without it cannot do, such as `resize guests`
    :raises NotSupported: it has not
    """
    if not isinstance(hypervisor, cast("type", capability)):
        raise NotSupported(f"{hypervisor.uri} cannot {what}")
    return cast("Capability", hypervisor)


def set_each(changes: Iterable[Change], set_one: Callable[[Change], object]) -> dict[Target, HypervisorError]:
    """Set each change by itself, and give the errors of those that were not set, as `mom_write` does.

    :param set_one: sets one; raises `HypervisorError`
    """
    errors: dict[Target, HypervisorError] = {}
    for change in changes:
        try:
            set_one(change)
        except HypervisorError as error:
            errors[change.target] = error
    return errors


def listed_guests(hypervisor: Hypervisor | None, subject: str) -> Generator[Finding, None, Sequence[Guest] | None]:
    """The guests for `mom doctor`; None where they cannot be had, of which the finding that is given says why."""
    if hypervisor is None:
        yield Finding(Severity.WARNING, subject, "guests were not looked at: no hypervisor was reached")
        return None
    try:
        return hypervisor.guests()
    except HypervisorError as error:
        yield Finding(Severity.ERROR, subject, f"the guests cannot be looked at: {error}", "see what the hypervisor plugin says above")
        return None
