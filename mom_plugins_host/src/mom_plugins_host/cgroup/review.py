"""Review of all plugins' decisions: impossible ones are refused, no guest is pushed below what it needs or was promised. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from mom_core import Decision, Guest, Revision, Snapshot, format_kib
from mom_kvm import GroupLimit
from mom_plugins_host.cgroup.groups import (
    ANON,
    CURRENT,
    FILE,
    KNOBS,
    LOCKED,
    MEMORY_HIGH,
    MEMORY_MIN,
    NO_LIMIT,
    SHMEM,
    STALL,
    SWAP,
    SWAP_MAX,
)

_STEP_SHARE: Final = 0.05
_LEAST_STEP_KIB: Final = 16 << 10
_MOST_STEP_KIB: Final = 256 << 10
"""A limit comes down on what a guest holds by 5 % a cycle, 16 MiB at least and 256 MiB at most: what was wrong shows as pressure before
the next step, and a usual disk takes a quarter of a second for it."""

_STALL_PERCENT: Final = 0.1
"""Of the time. A guest that waits for memory as long is not limited further: Meta's senpai holds containers below that."""

_PROTECTED_SHARE: Final = 0.8
"""Of the host's memory. What memory.min protects is out of reach for the kernel; without a fifth left it kills any process."""


class GroupNeed(NamedTuple):
    """KiB that the guest's group must be able to hold; None when it is unknown, and then why. `promised` counts in any case."""

    kib: int | None
    promised: int
    why_not: str


def need_of(guest: Guest, guaranteed_kib: float | None, overhead_kib: int, stale_after: float) -> GroupNeed:
    """The need of a guest by its own statistics.

    Its need is its size less what is usable in it, as for balloons; `overhead_kib` comes on top of that and of what was promised.

    :param guaranteed_kib: what it was promised; None: nothing, as far as is known
    :param stale_after: seconds after which its statistics say nothing any more
    """
    promised = max(0, int(guaranteed_kib or 0))
    if promised:
        promised += overhead_kib
    size, usable, age = (guest.number(name) for name in ("balloon_cur", "mem_usable", "stats_age"))
    if size is None or usable is None:
        return GroupNeed(None, promised, "its statistics are missing")
    if age is None or age > stale_after:
        return GroupNeed(None, promised, "its statistics have no age" if age is None else f"its statistics are {age:.0f} s old")
    return GroupNeed(max(promised, int(max(0, size - usable)) + overhead_kib), promised, "")


@dataclass(frozen=True, slots=True)
class HostBounds:
    """The figures that limits of all guests depend on, in KiB (None: unknown), the size of a page, and what each guest needs.

    `swap_limits_of` are the limits of what a guest's group and those above it may swap, as far as one of them can be the tightest;
    `swap_taken` is by group what guests that were decided on earlier in this cycle have to swap, in KiB.
    """

    total_kib: int | None
    swap_free_kib: int | None
    page_kib: int
    need_of: Callable[[Guest], GroupNeed]
    swap_limits_of: Callable[[Guest], Sequence[GroupLimit]]
    swap_taken: Mapping[str, int] = field(default_factory=dict)


def reviewed(snapshot: Snapshot, decisions: Sequence[Decision], host: HostBounds) -> Iterable[Revision]:
    """The revisions of these decisions; those on other plugins' controls are left alone."""
    protected = _Protected(snapshot)
    swap_max = {one.entity.id: one.value for one in decisions if one.control == SWAP_MAX and isinstance(one.value, int) and one.value >= 0}
    highs: dict[str, int] = {}
    swap_free = host.swap_free_kib  # with what is kept for guests on their way down, which `host` does not count
    for decision in sorted(decisions, key=lambda one: one.control == SWAP_MAX):  # after what memory.high comes to
        guest, wanted = snapshot.guests.get(decision.entity.id), decision.value
        if guest is None or decision.control not in KNOBS:
            continue
        if not isinstance(wanted, int) or wanted < NO_LIMIT:
            yield Revision(decision, None, "a limit is a number of KiB, or -1 for no limit")
            continue
        value, reason, refusal = wanted, "", ""
        if wanted != NO_LIMIT and wanted % host.page_kib:
            value, reason = wanted - wanted % host.page_kib, "cut to whole pages"
        if decision.control == MEMORY_HIGH:
            raised = _raised(guest, value, replace(host, swap_free_kib=swap_free, swap_taken={}))
            value, refusal, slower = raised or _high(guest, value, host, swap_max.get(guest.id))
            reason = slower or reason
            if not refusal:  # what this guest has to swap is not there for the next one
                highs[guest.id] = value
                host = _less_swap(host, guest, _to_swap(guest, wanted, value))
        elif decision.control == SWAP_MAX:
            refusal = _strands(guest, value, highs.get(guest.id, guest.number(MEMORY_HIGH)))
        elif decision.control == MEMORY_MIN:
            refusal = protected.too_much(guest, value, host)
        if refusal:
            yield Revision(decision, None, refusal)
        elif value != wanted:
            yield Revision(decision, replace(decision, value=value), reason)


def _high(guest: Guest, wanted: int, host: HostBounds, swap_max: int | None) -> tuple[int, str, str]:
    """The limit that may be set now, why none may be (empty: it may), and why it is another one than was wanted.

    :param swap_max: the limit of its swap that is decided in this cycle, in KiB; None: none
    """
    standing, current = guest.number(MEMORY_HIGH), guest.number(CURRENT)
    if wanted == NO_LIMIT:
        return wanted, "", ""
    if standing is None:
        return wanted, "what its limit stands at is unknown", ""
    need = host.need_of(guest)
    least = max(need.promised, need.kib or 0)
    if wanted < least:
        if standing == NO_LIMIT or standing >= least:
            return wanted, f"the guest needs {format_kib(least)}: what it uses or was promised, and QEMU's own", ""
        return _whole_pages(least, host), "", "raised to what the guest uses or was promised, and QEMU's own"
    if standing != NO_LIMIT and wanted >= standing:
        return wanted, "", ""
    if need.kib is None or current is None:
        return wanted, f"it is not limited further: {need.why_not or 'what it holds is unknown'}", ""
    excess = current - wanted
    if excess <= 0:
        return wanted, "", ""
    stall = guest.number(STALL)
    if stall is None or stall >= _STALL_PERCENT:
        told = "unknown" if stall is None else f"{stall:g} %"
        return wanted, f"it is not limited further: the time that it waits for memory is {told}", ""
    free = _free_swap(guest, host)
    if swap_max is not None:
        free = min(free, max(0, swap_max - int(guest.number(SWAP) or 0)))
    room = _reclaimable(guest, free)
    if excess > room:
        return wanted, f"{format_kib(excess)} would have to go, and there is swap or cache for {format_kib(room)} only", ""
    step = _step(current)
    if excess <= step:
        return wanted, "", ""
    value = int(current - step) // host.page_kib * host.page_kib
    value = max(wanted, value if standing == NO_LIMIT else min(value, int(standing)))
    return value, "", f"in steps of {format_kib(step)} a cycle"


def _raised(guest: Guest, wanted: int, host: HostBounds) -> tuple[int, str, str] | None:
    """As `_high`, of a guest that holds more than the limit at which it stands, and for which it is known that it could never come down
    to that: each page that it wants would be held up. None: it can, or that is not known."""
    current, standing = guest.number(CURRENT), guest.number(MEMORY_HIGH)
    known = host.swap_free_kib is not None and all(guest.number(name) is not None for name in (ANON, FILE, SHMEM, LOCKED))
    if not known or current is None or standing is None or NO_LIMIT in (wanted, standing):
        return None
    over = current - max(wanted, standing)
    if over <= 0 or over <= _reclaimable(guest, _free_swap(guest, host)):
        return None
    need = host.need_of(guest)
    # A step above what it holds: at just that, its next page would be held up.
    least = max(need.promised, need.kib or 0, int(current) + _step(current))
    return _whole_pages(least, host), "", "raised above what the guest holds: there is no swap or cache for what is over its limit"


def _strands(guest: Guest, swap_max: int, high: float | None) -> str:
    """Why the limit of its swap may not be lowered to this; empty if it may.

    :param high: what its memory.high comes to in this cycle
    """
    current, standing = guest.number(CURRENT), guest.number(SWAP_MAX)
    lowers = swap_max != NO_LIMIT and standing is not None and not 0 <= standing <= swap_max
    if not lowers or current is None or high is None or high == NO_LIMIT:
        return ""
    above = int(current + (guest.number(SWAP) or 0) - high)
    if above <= _reclaimable(guest, 0) + swap_max:
        return ""
    return f"{format_kib(above)} of the guest has to be in swap, as it may not hold more than {format_kib(high)} (memory.high)"


def _step(current: float) -> int:
    """The most by which a limit comes down in one cycle on a guest that holds this much, in KiB."""
    return min(_MOST_STEP_KIB, max(_LEAST_STEP_KIB, int(current * _STEP_SHARE)))


def _whole_pages(kib: int, host: HostBounds) -> int:
    """As much, or the rest of a page more."""
    return -(-kib // host.page_kib) * host.page_kib


def _free_swap(guest: Guest, host: HostBounds) -> int:
    """The host's swap that a guest may still take, in KiB."""
    rooms = [max(0, one.room - host.swap_taken.get(one.folder, 0)) for one in host.swap_limits_of(guest)]
    return min([host.swap_free_kib or 0, *rooms])


def _less_swap(host: HostBounds, guest: Guest, kib: int) -> HostBounds:
    """The host's bounds when so much of a guest has to be swapped."""
    if not kib:
        return host
    taken = {one.folder: host.swap_taken.get(one.folder, 0) + kib for one in host.swap_limits_of(guest)}
    return replace(host, swap_free_kib=max(0, (host.swap_free_kib or 0) - kib), swap_taken={**host.swap_taken, **taken})


def _to_swap(guest: Guest, wanted: int, value: int) -> int:
    """What of a guest has to be swapped until it holds no more than was wanted, in KiB; `value` is what is set of that now."""
    current = guest.number(CURRENT)
    if wanted == NO_LIMIT or current is None or value >= current:
        return 0
    return max(0, int(current) - wanted - _reclaimable(guest, 0))


def _reclaimable(guest: Guest, swap_kib: int) -> int:
    """How much of a guest's memory can go, in KiB: to the swap that is free for it unless it is locked, and by dropping caches."""
    file, shmem, anon, locked = (guest.number(name) or 0 for name in (FILE, SHMEM, ANON, LOCKED))
    return int(max(0, file - shmem) + min(swap_kib, max(0, anon + shmem - locked)))


class _Protected:
    """Memory that memory.min protects, in KiB, by guest, and all of it. A guest that is protected whatever it holds counts with all that it
    can come to hold."""

    def __init__(self, snapshot: Snapshot) -> None:
        protected = [(guest, least) for guest in snapshot.guests.values() if (least := guest.number(MEMORY_MIN))]
        self._kib = {guest.id: self._of(guest, int(least)) or 0 for guest, least in protected}
        self._all = sum(self._kib.values())

    @staticmethod
    def _of(guest: Guest, least: int) -> int | None:
        """What this much protects; None: unknown."""
        if least != NO_LIMIT:
            return least
        known = [kib for name in ("balloon_max", CURRENT) if (kib := guest.number(name)) is not None]
        return int(max(known)) if known else None

    def too_much(self, guest: Guest, wanted: int, host: HostBounds) -> str:
        """Why memory.min may not be so much; empty if it may, and then it counts for the guests that follow."""
        now, protects = self._kib.get(guest.id, 0), self._of(guest, wanted)
        if protects is None:
            return "how much the guest can hold is unknown"
        if protects > now:
            if host.total_kib is None:
                return "how much memory the host has is unknown"
            others = self._all - now
            most = int(host.total_kib * _PROTECTED_SHARE)
            if others + protects > most:
                left = format_kib(max(0, most - others))
                return f"all guests together may protect 80 % of the host's memory, of which {left} are left; use cgroup_memory_low"
        self._kib[guest.id] = protects
        self._all += protects - now
        return ""
