"""What `mom doctor` says of guests whose balloon devices could do more by themselves, the same under each hypervisor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias

from mom_core import Finding, Severity, Value, printable
from mom_guests.fields import AUTODEFLATE, REPORTING

_MOST_NAMES: Final = 5
"""So many guests are named; a host may have hundreds."""

_WORTH_MENTION_KIB: Final = 64 << 10
"""Memory that a guest's process holds and the guest does not use, from which on a number is worth saying."""

NamedFields: TypeAlias = tuple[str, Mapping[str, Value]]
"""A guest's name and its fields."""


def could_have(guests: Sequence[NamedFields], reporting_by: str, autodeflate_by: str) -> Iterable[Finding]:
    """What these guests could have switched on, and what that would bring; nothing of it is wrong. docs/reporting.md has the measurements.

    :param guests: those whose balloons work
    :param reporting_by: how free page reporting is switched on; empty where it cannot be
    :param autodeflate_by: how autodeflate is switched on
    """
    silent = [guest for guest in guests if guest[1].get(REPORTING) == 0]
    if silent and reporting_by:
        held_kib = sum(_held_for_nothing(fields) for _, fields in silent)
        now = f", here now up to {held_kib >> 10} MiB" if held_kib >= _WORTH_MENTION_KIB else ""
        gain = f"with it the host gets back what a guest has freed, of 450 MiB about 420 in 10 s{now}"
        cure = f"to have it: {reporting_by}; from the guest's next start; QEMU 5.1, in the guest Linux 5.7"
        yield Finding(Severity.OK, "free page reporting", f"off for {_told(silent)}; {gain}", cure)
    stiff = [guest for guest in guests if guest[1].get(AUTODEFLATE) == 0]
    if stiff:
        gain = "with it a guest that runs out takes back from its balloon within a second, instead of a kill"
        cure = (
            f"to have it: {autodeflate_by}; from the guest's next start; not where a guest must never get more than the host has given it"
        )
        yield Finding(Severity.OK, "autodeflate", f"off for {_told(stiff)}; {gain}", cure)


def _told(guests: Sequence[NamedFields]) -> str:
    names = [name for name, _ in guests]
    return f"{count_of(names)}: {names_of(names)}"


def _held_for_nothing(fields: Mapping[str, Value]) -> int:
    """KiB that a guest's process holds on the host beyond what the guest uses: at most what is free in the guest."""
    rss, size, unused = fields.get("rss"), fields.get("balloon_cur"), fields.get("mem_unused")
    if not (isinstance(rss, int) and isinstance(size, int) and isinstance(unused, int)):
        return 0
    return max(0, min(unused, rss - (size - unused)))


def count_of(guests: Sequence[object]) -> str:
    """How many guests these are."""
    return f"{len(guests)} guest" + ("" if len(guests) == 1 else "s")


def names_of(names: Sequence[str]) -> str:
    """The first of these guests' names, and how many more there are."""
    more = len(names) - _MOST_NAMES
    return ", ".join(printable(name) for name in names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
