"""Helpers for plugins of all hypervisors."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, TypeVar, cast

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
    Value,
    printable,
)

Capability = TypeVar("Capability")
Tune = TypeVar("Tune", DiskTune, NetTune)

UNDESCRIBED: Final = "the guest's description has not been read yet"
"""Reason in `Guest.blocked`, under `*`, while the guest's guarantee is unknown."""

PROMISED_NOTHING: Final[Mapping[str, Value]] = MappingProxyType({"mem_guarantee": "0KiB"})
"""Property of a guest whose definition contains no promise. Without this property, a guest's promise counts as unknown."""


def capable(hypervisor: Hypervisor, capability: Callable[..., Capability], what: str) -> Capability:
    """Return the hypervisor. Raise `NotSupported` if it lacks the capability.

    :param what: for the message, such as `resize guests`
    """
    if not isinstance(hypervisor, cast("type", capability)):
        raise NotSupported(f"{hypervisor.uri} cannot {what}")
    return cast("Capability", hypervisor)


def check_size(target_kib: int, maximum_kib: int | None, guest: str) -> None:
    """Raise `NotSupported` if the guest cannot have this size."""
    if target_kib < 1:
        raise NotSupported(f"{target_kib} KiB is not a valid size for {guest}")
    if maximum_kib is not None and target_kib > maximum_kib:
        raise NotSupported(f"{target_kib} KiB is more than the {maximum_kib} KiB that {guest} can have")


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
