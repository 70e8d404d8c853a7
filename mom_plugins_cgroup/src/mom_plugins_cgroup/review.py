"""What all plugins' decisions come to: impossible ones are refused, no guest is pushed below what it needs or was promised. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from mom_core import Decision, Guest, Revision, Snapshot, format_kib
from mom_plugins_cgroup import knobs
from mom_plugins_cgroup.devices import ImpossibleLimit, completed
from mom_plugins_cgroup.names import (
    ANON,
    CONTROL_NAMES,
    CPU_WEIGHT,
    CURRENT,
    FILE,
    LIST_CONTROLS,
    LOCKED,
    MEMORY_CONTROLS,
    MEMORY_HIGH,
    MEMORY_MIN,
    NO_LIMIT,
    SHMEM,
    STALL,
    SWAP,
    SWAP_MAX,
)
from mom_plugins_cgroup.need import Need

_STEP_SHARE = 0.05
_LEAST_STEP_KIB = 16 << 10
_MOST_STEP_KIB = 256 << 10
"""A limit comes down on what a guest holds by 5 % a cycle, 16 MiB at least and 256 MiB at most: what was wrong shows as pressure before
the next step, and a usual disk takes a quarter of a second for it."""

_PROTECTED_SHARE = 0.8
"""Of the host's memory. What memory.min protects is out of reach for the kernel; without a fifth left it kills any process."""

LIBVIRTS_WEIGHT = "cpu_shares"
"""The control of another plugin that sets the same weight, through libvirt."""


@dataclass(frozen=True, slots=True)
class HostBounds:
    """What limits of all guests depend on, in KiB (None: unknown), and the size of a page."""

    total_kib: int | None
    swap_free_kib: int | None
    page_kib: int


@dataclass(frozen=True, slots=True)
class Judge:
    """What is known beside the snapshot.

    `unified_of` tells whether a guest's (its id first) control belongs to cgroups v2, `hindrance` why it cannot be set, empty if it can.
    `stall` is the share of time (0 to 1) that a guest may wait for memory while it is limited further.
    """

    host: HostBounds
    need_of: Callable[[Guest], Need]
    unified_of: Callable[[str, str], bool]
    hindrance: Callable[[str, str], str]
    stall: float


def reviewed(snapshot: Snapshot, decisions: Sequence[Decision], judge: Judge) -> Iterable[Revision]:
    """The revisions of these decisions; those on other plugins' controls, and on reclaim, are left alone."""
    weighed = {decision.entity.id for decision in decisions if decision.control == LIBVIRTS_WEIGHT}
    protected = _protected(snapshot)
    for decision in decisions:
        guest = snapshot.guests.get(decision.entity.id)
        control = decision.control
        if guest is None or control not in CONTROL_NAMES:
            continue
        reason = judge.hindrance(guest.id, control)
        if reason:
            yield Revision(decision, None, reason)
        elif control in MEMORY_CONTROLS:
            yield from _memory(guest, decision, judge, protected)
        elif control in LIST_CONTROLS:
            yield from _list(guest, decision)
        elif control == CPU_WEIGHT:
            complaint = knobs.weight_complaint(decision.value, unified=judge.unified_of(guest.id, control))
            if not complaint and guest.id in weighed:
                complaint = f"{LIBVIRTS_WEIGHT} is decided for this guest too: libvirt and mom would set the same weight"
            if complaint:
                yield Revision(decision, None, complaint)
            elif judge.unified_of(guest.id, control) and isinstance(decision.value, float) and not decision.value.is_integer():
                yield Revision(decision, replace(decision, value=float(round(decision.value))), "cgroups v2 take whole weights")


def _memory(guest: Guest, decision: Decision, judge: Judge, protected: dict[str, int]) -> Iterable[Revision]:
    wanted = decision.value
    if not isinstance(wanted, int) or wanted < NO_LIMIT:
        yield Revision(decision, None, "a limit is a number of KiB, or -1 for no limit")
        return
    value, reason = wanted, ""
    if wanted != NO_LIMIT and wanted % judge.host.page_kib:
        value, reason = wanted - wanted % judge.host.page_kib, "cut to whole pages"
    dropped = ""
    if decision.control == MEMORY_HIGH:
        value, dropped, slower = _high(guest, value, judge)
        reason = slower or reason
    elif decision.control == MEMORY_MIN:
        dropped = _too_much_protected(guest, value, judge.host, protected)
    if dropped:
        yield Revision(decision, None, dropped)
    elif value != wanted:
        yield Revision(decision, replace(decision, value=value), reason)


def _high(guest: Guest, wanted: int, judge: Judge) -> tuple[int, str, str]:
    """The limit that may be set now, why none may be (empty: it may), and why it is another one than was wanted."""
    standing, current = guest.number(MEMORY_HIGH), guest.number(CURRENT)
    if wanted == NO_LIMIT or standing is None:  # the core refuses what is unknown
        return wanted, "", ""
    need = judge.need_of(guest)
    least = max(need.promised, need.kib or 0)
    if wanted < least:
        if standing == NO_LIMIT or standing >= least:
            return wanted, f"the guest needs {format_kib(least)}: what it uses or was promised, and QEMU's own", ""
        return -(-least // judge.host.page_kib) * judge.host.page_kib, "", "raised to what the guest uses or was promised, and QEMU's own"
    if standing != NO_LIMIT and wanted >= standing:
        return wanted, "", ""
    if need.kib is None or current is None:
        return wanted, f"it is not limited further: {need.why_not or 'what it holds is unknown'}", ""
    excess = current - wanted
    if excess <= 0 or not judge.unified_of(guest.id, MEMORY_HIGH):  # v1's soft limit takes nothing by itself
        return wanted, "", ""
    stall = guest.number(STALL)
    if stall is None or stall / 100 >= judge.stall:
        known = "unknown" if stall is None else f"{stall:g} %"
        return wanted, f"it is not limited further: the time that it waits for memory is {known}", ""
    room = room_for(guest.fields, judge.host.swap_free_kib)
    if excess > room:
        return wanted, f"{format_kib(excess)} would have to go, and there is swap or cache for {format_kib(room)} only", ""
    step = min(_MOST_STEP_KIB, max(_LEAST_STEP_KIB, int(current * _STEP_SHARE)))
    if excess <= step:
        return wanted, "", ""
    value = int(current - step) // judge.host.page_kib * judge.host.page_kib
    value = max(wanted, value if standing == NO_LIMIT else min(value, int(standing)))
    return value, "", f"in steps of {format_kib(step)} a cycle"


def room_for(fields: Mapping[str, object], swap_free_kib: int | None) -> int:
    """How much of a guest's memory can go, in KiB: to the swap that is free for it unless it is locked, and by dropping caches."""
    numbers = {name: value for name, value in fields.items() if isinstance(value, int | float)}
    cache = max(0, numbers.get(FILE, 0) - numbers.get(SHMEM, 0))
    most = numbers.get(SWAP_MAX, NO_LIMIT)
    free = swap_free_kib or 0
    if most != NO_LIMIT:
        free = min(free, max(0, int(most - numbers.get(SWAP, 0))))
    return int(cache + min(free, max(0, numbers.get(ANON, 0) + numbers.get(SHMEM, 0) - numbers.get(LOCKED, 0))))


def _protected(snapshot: Snapshot) -> dict[str, int]:
    """What memory.min protects now, in KiB, by guest: no more than what the guest holds."""
    found = {}
    for guest in snapshot.guests.values():
        least, current = guest.number(MEMORY_MIN), guest.number(CURRENT)
        if least:
            found[guest.id] = int((current or 0) if least == NO_LIMIT else least)
    return found


def _too_much_protected(guest: Guest, wanted: int, host: HostBounds, protected: dict[str, int]) -> str:
    """Why memory.min may not be so much; empty if it may, and then it counts for the guests that follow."""
    now = protected.get(guest.id, 0)
    protects = int(guest.number(CURRENT) or 0) if wanted == NO_LIMIT else wanted
    if protects > now:
        if host.total_kib is None:
            return "how much memory the host has is unknown"
        others = sum(protected.values()) - now
        most = int(host.total_kib * _PROTECTED_SHARE)
        if others + protects > most:
            left = format_kib(max(0, most - others))
            return f"all guests together may protect 80 % of the host's memory, of which {left} are left; use cgroup_memory_low"
    protected[guest.id] = protects
    return ""


def _list(guest: Guest, decision: Decision) -> Iterable[Revision]:
    present = guest.fields.get(decision.control)
    if present is None or decision.value == present:
        return
    try:
        wanted = completed(decision.control, decision.value, present)
    except ImpossibleLimit as error:
        yield Revision(decision, None, str(error))
        return
    if wanted != decision.value:
        yield Revision(decision, replace(decision, value=wanted), "completed with what stays as it is")
