"""Helpers for plugins of all hypervisors."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import TypeVar, cast

from mom_core import (
    Change,
    DiskTune,
    Entity,
    Finding,
    Guest,
    Hypervisor,
    HypervisorError,
    NetTune,
    NotSupported,
    Severity,
    Target,
    printable,
)

Capability = TypeVar("Capability")
Tune = TypeVar("Tune", DiskTune, NetTune)


def capable(hypervisor: Hypervisor, capability: Callable[..., Capability], what: str) -> Capability:
    """Return the hypervisor. Raise `NotSupported` if it lacks the capability.

    :param what: for the message, such as `resize guests`
    """
    if not isinstance(hypervisor, cast("type", capability)):
        raise NotSupported(f"{hypervisor.uri} cannot {what}")
    return cast("Capability", hypervisor)


def tune_named(guest: Entity, kind: str, name: str, tunes: Iterable[Tune]) -> Tune:
    """Return the limits of the device `name`. Raise `NotSupported` if the guest lacks it.

    :param kind: for the message, such as `disk`
    """
    by_name = {tune.name: tune for tune in tunes}
    if name not in by_name:
        has = f"; it has {', '.join(map(printable, by_name))}" if by_name else ""
        raise NotSupported(f"{guest} has no {kind} {printable(name)}{has}")
    return by_name[name]


def set_each(changes: Iterable[Change], set_one: Callable[[Change], object]) -> dict[Target, HypervisorError]:
    """Make changes in order. Return the errors of failed changes, keyed by target, like `mom_write`.

    :param set_one: makes a change, or raises `HypervisorError`
    """
    errors: dict[Target, HypervisorError] = {}
    for change in changes:
        try:
            set_one(change)
        except HypervisorError as error:
            errors[change.target] = error
    return errors


def listed_guests(hypervisor: Hypervisor | None, subject: str) -> Generator[Finding, None, Sequence[Guest] | None]:
    """Return the hypervisor's guests. If they cannot be listed, yield a finding and return None."""
    if hypervisor is None:
        yield Finding(Severity.WARNING, subject, "guests were not checked: no hypervisor is reachable")
        return None
    try:
        return hypervisor.guests()
    except HypervisorError as error:
        yield Finding(Severity.ERROR, subject, f"the guests cannot be checked: {error}", "see the hypervisor plugin's finding above")
        return None
