"""Review of decisions on control groups."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from mom_core import Decision, Guest, Revision, Snapshot, format_kib
from mom_kvm import PAGE_KIB, GroupLimit
from mom_plugins_host.cgroup import groups as cgroup
from mom_plugins_host.cgroup.groups import NO_LIMIT

_STEP_SHARE: Final = 0.05
_LEAST_STEP_KIB: Final = 16 << 10
_MOST_STEP_KIB: Final = 256 << 10
"""In each cycle, mom sets a limit at most one step below the guest's memory. A step is 5 % of this memory, but 16 to 256 MiB.
Pressure then reveals a wrong limit before the next step."""

_STALL_PERCENT: Final = 0.1
"""mom does not lower the limit of a guest that waits for memory for at least this percentage of time."""

_PROTECTED_SHARE: Final = 0.8
"""Largest share of the host's memory that memory.min of all guests together may protect. The kernel needs the rest to avoid OOM kills."""


class GroupNeed(NamedTuple):
    """Memory that a guest's control group must be able to hold, in KiB.

    :param kib: the whole need; None if unknown (`why_not` says why)
    :param promised: part of the need that is guaranteed, including QEMU's own memory; 0 without a guarantee
    """

    kib: int | None
    promised: int
    why_not: str


def need_of(guest: Guest, guaranteed_kib: float | None, overhead_kib: int, stale_after: float) -> GroupNeed:
    """Return a guest's need: QEMU's overhead + max(guarantee, balloon size - usable memory).

    :param guaranteed_kib: guarantee; None if unknown or not promised
    :param stale_after: age in seconds above which statistics do not count
    """
    promised = max(0, int(guaranteed_kib or 0))
    if promised:
        promised += overhead_kib
    size, usable, age = (guest.number(name) for name in ("balloon_cur", "mem_usable", "stats_age"))
    if size is None or usable is None:
        return GroupNeed(None, promised, "its statistics are missing")
    if age is None or age > stale_after:
        return GroupNeed(None, promised, "the age of its statistics is unknown" if age is None else f"its statistics are {age:.0f} s old")
    return GroupNeed(max(promised, int(max(0, size - usable)) + overhead_kib), promised, "")


class HostBounds(NamedTuple):
    """The host's memory and free swap in KiB (None: unknown); functions for a guest's need, and for the tightest limit of its swap."""

    total_kib: int | None
    swap_free_kib: int | None
    need_of: Callable[[Guest], GroupNeed]
    swap_limit_of: Callable[[Guest], GroupLimit | None]


def reviewed(snapshot: Snapshot, decisions: Sequence[Decision], host: HostBounds) -> Iterable[Revision]:
    """Yield revisions of decisions on control groups."""
    protected = _Protected(snapshot)
    swap_max = {
        decision.entity.id: decision.value
        for decision in decisions
        if decision.control == cgroup.SWAP_MAX and isinstance(decision.value, int) and decision.value >= 0
    }
    highs: dict[str, int] = {}
    for decision in sorted(decisions, key=lambda decision: decision.control == cgroup.SWAP_MAX):  # swap.max depends on memory.high
        guest, limit = snapshot.guests.get(decision.entity.id), decision.value
        if guest is None or decision.control not in cgroup.KNOBS:
            continue
        if not isinstance(limit, int) or limit < NO_LIMIT:
            yield Revision(decision, None, "invalid limit: use a number of KiB, or -1 for no limit")
            continue
        value, reason, refusal = limit, "", ""
        if limit != NO_LIMIT and limit % PAGE_KIB:
            value, reason = limit - limit % PAGE_KIB, "rounded down to whole pages"
        if decision.control == cgroup.MEMORY_HIGH:
            value, refusal, slower = _raised(guest, value, host) or _high(guest, value, host, swap_max.get(guest.id))
            reason = slower or reason
            if not refusal:
                highs[guest.id] = value
        elif decision.control == cgroup.SWAP_MAX:
            refusal = _strands(guest, value, highs.get(guest.id, guest.number(cgroup.MEMORY_HIGH)))
        elif decision.control == cgroup.MEMORY_MIN:
            refusal = protected.too_much(guest, value, host)
        if refusal:
            yield Revision(decision, None, refusal)
        elif value != limit:
            yield Revision(decision, replace(decision, value=value), reason)


def _high(guest: Guest, limit: int, host: HostBounds, swap_max: int | None) -> tuple[int, str, str]:
    """Return the limit for this cycle, the reason to refuse it, and the reason for a changed limit. Reasons may be empty.

    :param swap_max: swap limit in KiB from another decision of this cycle
    """
    standing, current = guest.number(cgroup.MEMORY_HIGH), guest.number(cgroup.CURRENT)
    if limit == NO_LIMIT:
        return limit, "", ""
    if standing is None:
        return limit, "its present limit is unknown", ""
    need = host.need_of(guest)
    least = max(need.promised, need.kib or 0)
    if limit < least:
        if standing == NO_LIMIT or standing >= least:
            return limit, f"the guest needs {format_kib(least)}: its use or guarantee, and QEMU's own memory", ""
        return _whole_pages(least), "", "raised to the guest's use or guarantee, and QEMU's own memory"
    if standing != NO_LIMIT and limit >= standing:
        return limit, "", ""
    if need.kib is None or current is None:
        return limit, f"its limit is not lowered: {need.why_not or 'its memory use is unknown'}", ""
    excess = current - limit
    if excess <= 0:
        return limit, "", ""
    stall = guest.number(cgroup.STALL)
    if stall is None or stall >= _STALL_PERCENT:
        share = "an unknown share" if stall is None else f"{stall:g} %"
        return limit, f"its limit is not lowered: the guest waits for memory {share} of the time", ""
    free = _free_swap(guest, host)
    if swap_max is not None:
        free = min(free, max(0, swap_max - int(guest.number(cgroup.SWAP) or 0)))
    room = _reclaimable(guest, free)
    if excess > room:
        return limit, f"{format_kib(excess)} must be reclaimed, but swap and page cache allow only {format_kib(room)}", ""
    step = _step(current)
    if excess <= step:
        return limit, "", ""
    value = int(current - step) // PAGE_KIB * PAGE_KIB
    value = max(limit, value if standing == NO_LIMIT else min(value, int(standing)))
    return value, "", f"lowered by at most {format_kib(step)} per cycle"


def _raised(guest: Guest, limit: int, host: HostBounds) -> tuple[int, str, str] | None:
    # The kernel would delay the allocations of a guest that cannot shrink to `limit`.
    current, standing = guest.number(cgroup.CURRENT), guest.number(cgroup.MEMORY_HIGH)
    is_known = host.swap_free_kib is not None and all(
        guest.number(name) is not None for name in (cgroup.ANON, cgroup.FILE, cgroup.SHMEM, cgroup.LOCKED)
    )
    if not is_known or current is None or standing is None or NO_LIMIT in (limit, standing):
        return None
    over = current - max(limit, standing)
    if over <= 0 or over <= _reclaimable(guest, _free_swap(guest, host)):
        return None
    need = host.need_of(guest)
    # One step above its current memory; otherwise the kernel delays the next page.
    least = max(need.promised, need.kib or 0, int(current) + _step(current))
    return _whole_pages(least), "", "raised above the guest's memory: too little swap and page cache to reclaim memory above the limit"


def _strands(guest: Guest, swap_max: int, high: float | None) -> str:
    """Return why `swap_max` must not be set, or an empty string."""
    # `high` is the value of memory.high after this cycle.
    current, standing = guest.number(cgroup.CURRENT), guest.number(cgroup.SWAP_MAX)
    lowers = swap_max != NO_LIMIT and standing is not None and not 0 <= standing <= swap_max
    if not lowers or current is None or high is None or high == NO_LIMIT:
        return ""
    above = int(current + (guest.number(cgroup.SWAP) or 0) - high)
    if above <= _reclaimable(guest, 0) + swap_max:
        return ""
    return f"{format_kib(above)} of the guest's memory must fit into swap, because memory.high limits the guest to {format_kib(high)}"


def _step(current: float) -> int:
    return min(_MOST_STEP_KIB, max(_LEAST_STEP_KIB, int(current * _STEP_SHARE)))


def _whole_pages(kib: int) -> int:
    return -(-kib // PAGE_KIB) * PAGE_KIB


def _free_swap(guest: Guest, host: HostBounds) -> int:
    free, limit = host.swap_free_kib or 0, host.swap_limit_of(guest)
    return free if limit is None else min(free, max(0, limit.room))


def _reclaimable(guest: Guest, swap_kib: int) -> int:
    # Count the KiB of page cache, and of unlocked memory that fits into free swap.
    file, shmem, anon, locked = (guest.number(name) or 0 for name in (cgroup.FILE, cgroup.SHMEM, cgroup.ANON, cgroup.LOCKED))
    return int(max(0, file - shmem) + min(swap_kib, max(0, anon + shmem - locked)))


class _Protected:
    def __init__(self, snapshot: Snapshot) -> None:
        protected = [(guest, least) for guest in snapshot.guests.values() if (least := guest.number(cgroup.MEMORY_MIN))]
        self._kib = {guest.id: self._of(guest, int(least)) or 0 for guest, least in protected}
        self._all = sum(self._kib.values())

    @staticmethod
    def _of(guest: Guest, least: int) -> int | None:
        if least != NO_LIMIT:
            return least
        sizes = [kib for name in ("balloon_max", cgroup.CURRENT) if (kib := guest.number(name)) is not None]
        return int(max(sizes)) if sizes else None

    def too_much(self, guest: Guest, limit: int, host: HostBounds) -> str:
        # Return why memory.min must not be so high, or an empty string.
        now, protects = self._kib.get(guest.id, 0), self._of(guest, limit)
        if protects is None:
            return "the guest's maximum memory is unknown"
        if protects > now:
            if host.total_kib is None:
                return "the host's memory is unknown"
            left_kib = max(0, int(host.total_kib * _PROTECTED_SHARE) - (self._all - now))
            if protects > left_kib:
                left = format_kib(left_kib)
                return f"the sum of all memory.min is limited to 80 % of the host's memory: {left} are left; use cgroup_memory_low"
        self._kib[guest.id] = protects
        self._all += protects - now
        return ""
