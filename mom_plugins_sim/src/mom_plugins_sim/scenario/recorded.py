"""From a recording to a scene: a simulated host whose guests want what the recorded ones were seen to use.

What a guest used is known only as far as it told it and had it: a guest that was short of memory wanted more than was seen.
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
from mom_kvm import PastCycles, field_number, pages_kib, platform_properties
from mom_plugins_sim.guest import HIGH_SHARE, kernel_of, low_of
from mom_plugins_sim.ksm import MERGEABLE
from mom_plugins_sim.scene import FOREVER, GuestScene, Scene
from mom_plugins_sim.workload import Trace, Workload
from mom_plugins_sim.world import CLASS

UNTOLD_SHARE = 0.9
"""Of its size, what a guest is taken to use that never told: mom must not count on taking much from it."""

READ_RATE = 4 << 10
"""KiB/s that guests are taken to read: recordings do not tell."""

COLD_SHARE = 0.5
"""Of what was known to be cold of a guest, on average: what it hardly touched then, it may touch another time."""

SWAP_SHARE = 0.25
"""Of its memory, what swap a guest is taken to have that was seen to use some: recordings do not tell."""

_CLOCK = ("year", "month", "day", "hour", "minute", "second")


@dataclass(slots=True)
class _RecordedGuest:
    """A guest as it was seen: times are seconds since the beginning of the scene."""

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
    """The recording, opened by the plugin that writes such. Raises `MomError` when there is none, or that plugin is not installed."""
    recorder: Any = load_config({"plugins": {"record": {}}}).plugins["record"].loaded.plugin_class
    found: PastCycles = recorder.mom_source(PastCycles, None, Path(), Path(), path)
    return found


def scene_of_recording(recording: PastCycles, since: float, until: float) -> Scene:
    """The scene of that time (seconds since the epoch). Raises `MomError` when nothing was recorded then."""
    seen: dict[str, _RecordedGuest] = {}
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
        now = max(previous, recorded.report.time - begins)  # clocks may be set back: the simulation's is not
        fields = snapshot.host.fields
        total, swap = max(total, field_number(fields, "mem_available")), max(swap, field_number(fields, "swap_total"))
        held = 0.0
        ratio = max(ratio, field_number(fields, "offload_ratio"))
        for identity, guest in snapshot.guests.items():
            held += field_number(guest.fields, "rss")
            _look(seen, identity, guest, now)
        free = fields.get("mem_really_available")
        if isinstance(free, int | float) and total and (now > previous or not host_times):
            merged = pages_kib(fields, "ksm_pages_sharing")
            duplicate = max(duplicate, merged / max(held, 1.0) / MERGEABLE)
            host_times.append(now)
            # What compressed memory takes of the host, the simulated one takes again.
            compressed = field_number(fields, "swap_usage") / ratio if ratio else 0.0
            host_used.append(max(0.0, total - free - held + merged - compressed))
        previous = now
    if begins is None or not total:
        raise MomError(f"{recording.where} has no cycle in that time", hint="`mom record show` says from when to when it reaches")
    reserve = min(0.01 * total, 256.0 * 1024)
    loads = [Trace(host_times, [max(0.0, used - reserve) for used in host_used])] if host_times else []
    guests = [_scene(identity, one, now, min(duplicate, 0.9)) for identity, one in seen.items()]
    on_disk, in_memory = (0.0, swap) if ratio else (swap, 0.0)
    return Scene(total, guests, 0, on_disk, loads, base=0.0, host_zram=in_memory, begins=clock)


def _clock(fields: Mapping[str, Value], time: float) -> float:
    """The local time that the host's clock showed, as of UTC; UTC itself where that was not recorded."""
    year, month, day, hour, minute, second = (fields.get(f"time_{part}") for part in _CLOCK)
    try:
        return datetime.fromisoformat(f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z").timestamp()
    except (TypeError, ValueError):
        return time


def _look(seen: dict[str, _RecordedGuest], identity: str, guest: Guest, now: float) -> None:
    fields = guest.fields
    size, most = field_number(fields, "balloon_cur"), field_number(fields, "balloon_max")
    one = seen.get(identity)
    if one is None:
        if not size:
            return  # nothing is known of it yet
        one = seen[identity] = _RecordedGuest(guest, max(size, most), size, now, now, rigid=True)
    # One that was paused, or moved, for a while has a balloon all the same.
    one.rigid = one.rigid and bool({"*", "balloon_target"} & guest.blocked.keys())
    one.last = now
    one.memory = max(one.memory, most)
    one.period = max(one.period, field_number(fields, "balloon_stats_period"))
    cold = fields.get("cold")
    if isinstance(cold, int | float):
        one.cold.append(cold)
    one.swaps = one.swaps or field_number(fields, "swap_out") > 0
    usable = fields.get("mem_usable")
    if size and isinstance(usable, int | float):
        cache = field_number(fields, "mem_disk_caches")
        one.files = max(one.files, cache)
        if not one.used:
            one.cached = cache
        used = max(0.0, size - usable)
        if not one.used or one.used[-1] != used:
            one.times.append(now)
            one.used.append(used)


def _scene(identity: str, one: _RecordedGuest, ends: float, duplicate: float) -> GuestScene:
    silent = not one.used
    kernel, low = kernel_of(one.memory), low_of(one.memory)
    if silent:
        one.times, one.used = [0.0], [UNTOLD_SHARE * one.size]
    elif one.times[-1] < one.last:  # what did not change any more, or was not told, stays so to the end: a trace begins anew after its last
        one.times.append(one.last)
        one.used.append(one.used[-1])
    # The same that is counted as used, the other way round: kernel, high watermark, and the cache that is not counted as usable.
    wanted = [max(0.0, used - kernel - low * HIGH_SHARE - min(one.files / 2, low)) for used in one.used]
    files = one.files
    always = min(wanted)
    cold = min(COLD_SHARE * statistics.fmean(one.cold), always) if one.cold else 0.0
    return GuestScene(
        identity,
        one.guest.name,
        one.memory,
        Workload(Trace(one.times, wanted), files, READ_RATE, files / 4, duplicate, cold=cold),
        swap=SWAP_SHARE * one.memory if one.swaps else 0.0,
        cached=one.cached / files if files else 1.0,
        statistics_period=one.period or 2.0,
        statistics_first=math.fmod(len(one.guest.name), one.period or 2.0),
        silent=silent,
        rigid=one.rigid,
        arrives=one.arrives,
        departs=FOREVER if one.last >= ends else one.last,
        size=one.size,
        sold_as=sold_as if isinstance(sold_as := one.guest.properties.get(CLASS), str) else None,
        properties=platform_properties(one.guest),
    )
