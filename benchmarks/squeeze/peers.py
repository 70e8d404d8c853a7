"""The laws of others as functions from numbers to numbers, written from descriptions of what they do: oVirt MOM, Proxmox VE, ksmtuned.

All memory in KiB.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MIB = 1024
GIB = 1024 * MIB


@dataclass(frozen=True)
class HostSeen:
    """The host: its memory, what holds nothing or page cache, and what programs can have."""

    total: float
    free: float
    available: float


@dataclass(frozen=True)
class GuestSeen:
    """A guest: its size now, the most and the least that it may have, what holds nothing in it, as it said last, and its weight."""

    size: float
    maximum: float
    unused: float
    least: float = 0.0
    shares: float = 1000.0


Sample = tuple[HostSeen, Mapping[str, GuestSeen]]

# --- oVirt MOM -------------------------------------------------------------------------------------------------------------------------

MOM_SECONDS = 10.0
"""Between two evaluations of its policy."""

MOM_SAMPLE_SECONDS = 5.0
MOM_SAMPLES = 10
"""It looks at host and guests so often, and its policy sees the averages of so many samples."""

MOM_PRESSURE = 0.20
"""Ratio of the host's memory: with less of it free, guests shrink."""

MOM_CHANGE = 0.05
"""Ratio of a guest's size: the most by which it changes in one evaluation."""

MOM_GUARD = 0.20
"""Ratio of a guest's size: what it keeps above what it uses, while the host has enough. With less, it keeps as large a part as the host has
free, and below `MOM_CRITICAL` less than it uses."""

MOM_CRITICAL = 0.05
MOM_LEAST_CHANGE = 0.0025


def mom_targets(history: Sequence[Sample]) -> dict[str, float]:
    """The sizes that MOM's law sets, from its samples, oldest first."""
    host, guests = history[-1]
    free = statistics.fmean(sample[0].free for sample in history) / host.total
    guard = min(MOM_GUARD, free - MOM_CRITICAL if free <= MOM_CRITICAL else free)
    targets = {}
    for name, guest in guests.items():
        seen = [sample[1][name] for sample in history if name in sample[1]]
        used = statistics.fmean(one.size - one.unused for one in seen)
        least = max(guest.least, used + guard * guest.size)
        if free < MOM_PRESSURE:
            size = max((1 - MOM_CHANGE) * guest.size, least)
            if size > guest.size:
                continue
        else:
            size = min(guest.maximum, max((1 + MOM_CHANGE) * guest.size, least))
        if abs(size - guest.size) > MOM_LEAST_CHANGE * guest.size:
            targets[name] = size
    return targets


# --- Proxmox VE ------------------------------------------------------------------------------------------------------------------------

PVE_SECONDS = 10.0
PVE_USED = 0.80
"""Ratio of the host's memory that is to be used (`ballooning-target` of the node, 80 where it says nothing)."""

PVE_DEAD_BAND = 10 * MIB
PVE_STEP = 100 * MIB
"""The most by which a guest changes in one round."""

PVE_RELAXED = 0.25
"""Ratio of its least size: a guest with more than that free gives first."""

PVE_LEAST = 0.5
"""Ratio of a guest's memory that it is configured to have at least. PVE's administrators say this for each guest; a half is what
they take who do not know better."""


def pve_targets(host: HostSeen, guests: Mapping[str, GuestSeen]) -> dict[str, float]:
    """The sizes that PVE's law sets.

    When the host has memory left, guests under pressure grow first; when it lacks some, relaxed ones give first. Where that moves nobody,
    all take part. A guest without a least size or without shares is left alone.
    """
    goal = PVE_USED * host.total - (host.total - host.available)
    if abs(goal) < PVE_DEAD_BAND:
        return {}
    moved = {name: guest for name, guest in guests.items() if guest.least and guest.shares}
    first = {name: guest for name, guest in moved.items() if _is_relaxed(guest) == (goal < 0)}
    for group in (first, moved):
        steps = {name: max(-PVE_STEP, min(PVE_STEP, size - group[name].size)) for name, size in _levelled(group, goal).items()}
        targets = {name: group[name].size + step for name, step in steps.items() if round(step)}
        if targets:
            return targets
    return {}


def _is_relaxed(guest: GuestSeen) -> bool:
    return guest.unused > PVE_RELAXED * guest.least and guest.size >= guest.least


def _levelled(guests: Mapping[str, GuestSeen], goal: float) -> dict[str, float]:
    """The sizes at which what these guests have above their least, and `goal` beside that, is divided by their shares. What one cannot
    take or give is divided among the others."""
    sizes: dict[str, float] = {}
    open_ = dict(guests)
    amount = sum(guest.size - guest.least for guest in guests.values()) + goal
    while open_:
        each = amount / sum(guest.shares for guest in open_.values())
        wanted = {name: guest.least + each * guest.shares for name, guest in open_.items()}
        clamped = {name: max(guest.least, min(guest.maximum, wanted[name])) for name, guest in open_.items()}
        stopped = {name: size for name, size in clamped.items() if size != wanted[name]}
        if not stopped:
            return sizes | wanted
        amount -= sum(size - open_.pop(name).least for name, size in stopped.items())
        sizes |= stopped
    return sizes


# --- ksmtuned, whose law MOM has, too --------------------------------------------------------------------------------------------------

KSMTUNED_SECONDS = 60.0
KSM_BOOST, KSM_DECAY = 300, -50
"""Pages by which each wake-up scans more or less from one look to the next."""

KSM_PAGES = (64, 1250)
"""Pages in a wake-up, at least and at most."""

KSM_SLEEP_MS = 10
"""Milliseconds between two wake-ups of a host of 16 GiB; less on a larger one."""

KSM_SHARE, KSM_LEAST = 0.20, 2 * GIB
"""Of the host's memory, and at least: what is to be free beyond what has been promised."""


@dataclass(frozen=True)
class KsmWish:
    """What is to stand in KSM's knobs."""

    run: bool
    pages: int
    sleep_ms: int


def ksmtuned(pages: int, total: float, committed: float, free: float) -> KsmWish:
    """What ksmtuned wants next, from the pages that it scans now, the host's memory, what guests' processes may use, and what is free."""
    sleep = max(10, round(KSM_SLEEP_MS * 16 * GIB / total))
    threshold = max(KSM_SHARE * total, KSM_LEAST)
    if committed + threshold < total and free > threshold:
        return KsmWish(False, pages, sleep)
    pages += KSM_BOOST if free < threshold else KSM_DECAY
    return KsmWish(True, max(KSM_PAGES[0], min(KSM_PAGES[1], pages)), sleep)
