"""Scene made from a recording: each guest demands as much memory as the recorded guest used.

A guest that was short of memory demanded more than it used, so its simulated demand is too low.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from mom_core import Guest, MomError, Value, load_config
from mom_kvm import PastCycles, PlatformProperties, field_number, pages_kib
from mom_plugins_sim.guest import HIGH_SHARE, kernel_size, low_watermark
from mom_plugins_sim.ksm import MERGEABLE
from mom_plugins_sim.scene import FOREVER, GuestScene, Scene
from mom_plugins_sim.workload import Trace, Workload
from mom_plugins_sim.world import CLASS

SILENT_SHARE = 0.9
"""Assumed memory use of a guest without statistics, as a fraction of its size."""

READ_RATE = 4 << 10
"""Assumed rate in KiB/s at which guests read files. Recordings do not contain the rate."""

COLD_SHARE = 0.5
"""Fraction of a guest's average recorded cold memory that is cold in the simulation."""

SWAP_SHARE = 0.25
"""Assumed swap size of a guest that swapped, as a fraction of its memory. Recordings do not contain the size."""

_CLOCK = ("year", "month", "day", "hour", "minute", "second")


@dataclass(slots=True)
class _RecordedGuest:
    guest: Guest
    memory: float
    size: float
    arrives: float
    last: float
    rigid: bool
    period: float = 0.0
    files: float = 0.0
    cached: float = 0.0
    swaps: bool = False
    cold: list[float] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    used: list[float] = field(default_factory=list)


def recording_at(path: Path) -> PastCycles:
    """Open a recording with the `record` plugin. Raise `MomError` if that fails."""
    recorder: Any = load_config({"plugins": {"record": {}}}).plugins["record"].loaded.plugin_class
    recording: PastCycles = recorder.mom_source(PastCycles, None, Path(), Path(), path)
    return recording


def scene_of_recording(recording: PastCycles, since: float, until: float) -> Scene:
    """Return the scene of the period (seconds since the epoch). Raise `MomError` if the recording has no cycle in this period."""
    recorded_guests: dict[str, _RecordedGuest] = {}
    host_times: list[float] = []
    host_used: list[float] = []
    total = swap = ratio = duplicate = 0.0
    begins: float | None = None
    clock = previous = now = 0.0
    for recorded in recording.cycles(since, until):
        snapshot = recorded.report.snapshot
        if begins is None:
            begins = recorded.report.time
            clock = _clock(snapshot.host.fields, begins)
        now = max(previous, recorded.report.time - begins)  # the host's clock may have been set back
        fields = snapshot.host.fields
        total, swap = max(total, field_number(fields, "mem_available")), max(swap, field_number(fields, "swap_total"))
        held = 0.0
        ratio = max(ratio, field_number(fields, "offload_ratio"))
        for identity, guest in snapshot.guests.items():
            held += field_number(guest.fields, "rss")
            _add_cycle(recorded_guests, identity, guest, now)
        free = fields.get("mem_really_available")
        if isinstance(free, int | float) and total and (now > previous or not host_times):
            merged = pages_kib(fields, "ksm_pages_sharing")
            duplicate = max(duplicate, merged / max(held, 1.0) / MERGEABLE)
            host_times.append(now)
            # The simulated host counts compressed memory itself.
            compressed = field_number(fields, "swap_usage") / ratio if ratio else 0.0
            host_used.append(max(0.0, total - free - held + merged - compressed))
        previous = now
    if begins is None or not total:
        hint = "`mom record show` shows the period that the recording covers"
        raise MomError(f"{recording.where} has no cycle in that period", hint=hint)
    reserve = min(0.01 * total, 256.0 * 1024)
    loads = [Trace(host_times, [max(0.0, used - reserve) for used in host_used])] if host_times else []
    guests = [_scene(identity, guest, now, min(duplicate, 0.9)) for identity, guest in recorded_guests.items()]
    on_disk, in_memory = (0.0, swap) if ratio else (swap, 0.0)
    return Scene(total, guests, 0, on_disk, loads, base=0.0, host_zram=in_memory, begins=clock)


def _clock(fields: Mapping[str, Value], time: float) -> float:
    year, month, day, hour, minute, second = (fields.get(f"time_{part}") for part in _CLOCK)
    try:
        return datetime.fromisoformat(f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z").timestamp()
    except (TypeError, ValueError):
        return time


def _add_cycle(recorded_guests: dict[str, _RecordedGuest], identity: str, guest: Guest, now: float) -> None:
    fields = guest.fields
    size, maximum = field_number(fields, "balloon_cur"), field_number(fields, "balloon_max")
    recorded = recorded_guests.get(identity)
    if recorded is None:
        if not size:
            return  # the hypervisor has not reported the balloon yet
        recorded = recorded_guests[identity] = _RecordedGuest(guest, max(size, maximum), size, now, now, rigid=True)
    # A guest with a balloon may be blocked for a while, such as during a pause or a migration.
    recorded.rigid = recorded.rigid and bool({"*", "balloon_target"} & guest.blocked.keys())
    recorded.last = now
    recorded.memory = max(recorded.memory, maximum)
    recorded.period = max(recorded.period, field_number(fields, "balloon_stats_period"))
    cold = fields.get("cold")
    if isinstance(cold, int | float):
        recorded.cold.append(cold)
    recorded.swaps = recorded.swaps or field_number(fields, "swap_out") > 0
    usable = fields.get("mem_usable")
    if size and isinstance(usable, int | float):
        cache = field_number(fields, "mem_disk_caches")
        recorded.files = max(recorded.files, cache)
        if not recorded.used:
            recorded.cached = cache
        used = max(0.0, size - usable)
        if not recorded.used or recorded.used[-1] != used:
            recorded.times.append(now)
            recorded.used.append(used)


def _scene(identity: str, recorded: _RecordedGuest, ends: float, duplicate: float) -> GuestScene:
    silent = not recorded.used
    kernel, low = kernel_size(recorded.memory), low_watermark(recorded.memory)
    if silent:
        recorded.times, recorded.used = [0.0], [SILENT_SHARE * recorded.size]
    elif recorded.times[-1] < recorded.last:  # the last value must hold to the guest's end, because traces repeat
        recorded.times.append(recorded.last)
        recorded.used.append(recorded.used[-1])
    # The inverse of `SimulatedGuestMemory.usable`: subtract kernel, high watermark and unusable cache from the used memory.
    demand = [max(0.0, used - kernel - low * HIGH_SHARE - min(recorded.files / 2, low)) for used in recorded.used]
    files, least = recorded.files, min(demand)
    cold = min(COLD_SHARE * statistics.fmean(recorded.cold), least) if recorded.cold else 0.0
    sold_as = recorded.guest.properties.get(CLASS)
    return GuestScene(
        identity,
        recorded.guest.name,
        recorded.memory,
        Workload(Trace(recorded.times, demand), files, READ_RATE, files / 4, duplicate, cold=cold),
        swap=SWAP_SHARE * recorded.memory if recorded.swaps else 0.0,
        cached=recorded.cached / files if files else 1.0,
        statistics_period=recorded.period or 2.0,
        statistics_first=math.fmod(len(recorded.guest.name), recorded.period or 2.0),
        silent=silent,
        rigid=recorded.rigid,
        arrives=recorded.arrives,
        departs=FOREVER if recorded.last >= ends else recorded.last,
        size=recorded.size,
        sold_as=sold_as if isinstance(sold_as, str) else None,
        properties=PlatformProperties.listed(recorded.guest),
    )
