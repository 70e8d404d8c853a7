"""Laws of other managers as pure functions, written from their descriptions: oVirt MOM, Proxmox VE, ksmtuned.

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
    """Memory of the host: total, free or page cache, and available."""

    total: float
    free: float
    available: float


@dataclass(frozen=True)
class GuestSeen:
    """Guest: current, largest and least size, free memory by its last statistics, and weight."""

    size: float
    maximum: float
    unused: float
    least: float = 0.0
    shares: float = 1000.0


Sample = tuple[HostSeen, Mapping[str, GuestSeen]]

# --- oVirt MOM -------------------------------------------------------------------------------------------------------------------------

MOM_SECONDS = 10.0
"""Between two evaluations of the policy."""

MOM_SAMPLE_SECONDS = 5.0
MOM_SAMPLES = 10
"""Interval of samples, and the number of samples whose averages the policy sees."""

MOM_PRESSURE = 0.20
"""Ratio of the host's memory. With less free memory, guests shrink."""

MOM_CHANGE = 0.05
"""Ratio of a guest's size: largest change in one evaluation."""

MOM_GUARD = 0.20
"""Ratio of a guest's size that it keeps above its use while the host has enough memory. If not, it keeps the host's free ratio,
and below `MOM_CRITICAL` less than it uses."""

MOM_CRITICAL = 0.05
MOM_LEAST_CHANGE = 0.0025


def mom_targets(history: Sequence[Sample]) -> dict[str, float]:
    """Return the sizes that MOM's law sets.

    :param history: samples, oldest first
    """
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
"""Ratio of the host's memory to use: the default of the node's `ballooning-target`."""

PVE_DEAD_BAND = 10 * MIB
PVE_STEP = 100 * MIB
"""Largest change of a guest in one round."""

PVE_RELAXED = 0.25
"""Ratio of the least size. A guest with more free memory gives first."""

PVE_LEAST = 0.5
"""Ratio of a guest's memory: its least size. Administrators set it for each guest; a half is a common choice."""


def pve_targets(host: HostSeen, guests: Mapping[str, GuestSeen]) -> dict[str, float]:
    """Return the sizes that PVE's law sets.

    If the host has memory left, guests under pressure grow first. If it lacks memory, relaxed guests shrink first. If none of these can
    change, all take part. Guests without a least size or shares never change.
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
    """Divide the guests' memory above their least sizes, and `goal`, by their shares. Others share what a guest cannot take or give."""
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
"""Change of the pages per wake-up, from one minute to the next."""

KSM_PAGES = (64, 1250)
"""Least and largest pages per wake-up."""

KSM_SLEEP_MS = 10
"""ms between two wake-ups on a host of 16 GiB; less on larger hosts."""

KSM_SHARE, KSM_LEAST = 0.20, 2 * GIB
"""Free memory wanted besides what was promised: ratio of the host's memory, and the least amount."""


@dataclass(frozen=True)
class KsmWish:
    """Settings of KSM."""

    run: bool
    pages: int
    sleep_ms: int


def ksmtuned(pages: int, total: float, committed: float, free: float) -> KsmWish:
    """Return the settings that ksmtuned makes next.

    :param pages: per wake-up now
    :param committed: memory that guests' processes may use
    """
    sleep = max(10, round(KSM_SLEEP_MS * 16 * GIB / total))
    threshold = max(KSM_SHARE * total, KSM_LEAST)
    if committed + threshold < total and free > threshold:
        return KsmWish(False, pages, sleep)
    pages += KSM_BOOST if free < threshold else KSM_DECAY
    return KsmWish(True, max(KSM_PAGES[0], min(KSM_PAGES[1], pages)), sleep)
