"""Settings, fields, control and columns of cold memory."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

import mom_core
from mom_core import ControlSpec, Duration, FieldSpec, GuestColumn, PluginSettings, Scope, Size, Unit


class OffloadSettings(PluginSettings):
    """Limits for moving guests' cold memory to swap."""

    ahead: bool = False
    """Move cold memory even while more than `mem_watermark_high` is available."""
    stall: Annotated[Duration, Field(gt=0, le=0.5)] = 0.02
    """Longest time in each second that a guest may wait for memory. If the guest waits longer, mom moves no more of its memory. While less
    than 70 % of `mem_watermark_high` is available, the limit is up to four times as high."""
    cpu_share: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Share of one CPU for reclaim and compression. The share doubles while less than 70 % of `mem_watermark_high` is available. A CPU
    moves 100 to 300 MiB per second."""
    disk_writes: Size = 32 << 30
    """Limit of disk writes per day on average, because they wear out SSDs: 32 GiB are a tenth of the rating of a usual 1 TB disk. A day
    without writes allows twice as much on the next. 0: no writes."""


class OffloadGuestSettings(mom_core.GuestSettings):
    """Settings of a guest's cold memory."""

    offload: bool | None = None
    """Whether the guest's cold memory may go to the host's swap. Overrides the service class."""


CLASSES_ANSWER: Final = "mem_guarantee_share"
"""Field that each guest has if the plugin for service classes works. Its value may be unknown."""

OFFLOAD: Final = "offload"
STATE: Final = "offload_state"
OFFLOADED: Final = "offloaded"
REFAULTS: Final = "offload_refaults"
WORKING_SET: Final = "working_set"
WORKING_SET_AGE: Final = "working_set_age"
COLD: Final = "cold"

ROOM: Final = "offload_room"
RATIO: Final = "offload_ratio"
NET: Final = "offload_net"

MAY_OFFLOAD: Final = "may_offload"
"""Field that says whether the guest's service class permits offload."""

_MOST_PACE: Final = 1 << 30


def _guest(name: str, unit: Unit, description: str, source: str = "mom") -> FieldSpec:
    return FieldSpec(name, unit, Scope.GUEST, description, source)


def _host(name: str, unit: Unit, description: str, source: str = "mom") -> FieldSpec:
    return FieldSpec(name, unit, Scope.HOST, description, source)


FIELDS: Final = (
    _guest(WORKING_SET, Unit.KIB, "the guest's memory in use (working set) when mom last measured it; the guest may need less"),
    _guest(WORKING_SET_AGE, Unit.SECONDS, "time since working_set was measured"),
    _guest(COLD, Unit.KIB, "memory of the guest beyond its working_set, in the host's memory or in its swap"),
    _guest(REFAULTS, Unit.KIB_PER_SECOND, "memory that the guest reads back from the host's swap", "memory.stat pgmajfault"),
    _guest(OFFLOAD, Unit.KIB_PER_SECOND, "rate at which mom moves the guest's cold memory to the host's swap"),
    _guest(OFFLOADED, Unit.KIB, "cold memory that mom has moved to the host's swap since it first saw the guest"),
    _guest(STATE, Unit.TEXT, "reason why no memory of the guest goes to swap now; unknown if some does"),
    _host(ROOM, Unit.KIB, "room for guests' memory in the host's swap; a twentieth of the swap must stay free", "/proc/swaps"),
    _host(RATIO, Unit.RATIO, "compression ratio of guests' memory in swap; unknown while swap holds little", "mm_stat"),
    _host(NET, Unit.KIB, "host memory gained in the last cycle: moved memory minus memory read back and the compressed copy"),
)

CONTROLS: Final = (
    ControlSpec(
        OFFLOAD,
        Unit.KIB_PER_SECOND,
        Scope.GUEST,
        "highest rate at which mom may move the guest's cold memory to the host's swap in this cycle",
        OFFLOAD,
        0,
        _MOST_PACE,
        renewed=True,
    ),
)


COLUMNS: Final = (
    GuestColumn(
        "cold", (COLD,), Unit.KIB, "untouched memory, in the host's memory or in its swap", 45, 3, metric="mom_guest_cold_bytes"
    ),
    GuestColumn("learnt", (WORKING_SET_AGE,), Unit.SECONDS, "time since mom measured `cold`", 45, 5, "mom_guest_working_set_age_seconds"),
    GuestColumn(
        "working set", (WORKING_SET,), Unit.KIB, "memory in use when mom last measured it", rank=None,
        metric="mom_guest_working_set_bytes",
    ),
)  # fmt: skip
