"""Settings, fields, control and columns of cold memory."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

import mom_core
from mom_core import ControlSpec, Duration, FieldSpec, GuestColumn, PluginSettings, Scope, Size, Unit


class OffloadSettings(PluginSettings):
    """Limits for moving guests' cold memory to swap."""

    ahead: bool = False
    """Take cold memory also while the host has as much available as it is to have."""
    stall: Annotated[Duration, Field(gt=0, le=0.5)] = 0.02
    """How long in each second a guest may wait for memory before nothing more is taken from it. 20 ms are 2 % of its work at most; up to
    four times that while the host has less than 70 % of what it is to have: balloons take what hurts more then."""
    cpu_share: Annotated[float, Field(gt=0, le=1)] = 0.25
    """How much of one CPU the kernel may use for taking and compressing; twice that while the host has less than 70 % of what it is
    to have. A CPU takes 100 to 300 MiB in a second."""
    disk_writes: Size = 32 << 30
    """What may be written to disks in a day, as their cells wear: 32 GiB are a tenth of what one of 1 TB is made for. 0: nothing."""


class OffloadGuestSettings(mom_core.GuestSettings):
    """Settings of a guest's cold memory."""

    offload: bool | None = None
    """Whether memory that the guest does not touch may go to the host's swap, instead of what its class says."""


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
WRITTEN: Final = "offload_written"

RISES_IN: Final = "mem_rises_in"
"""Guest field with the time until a guest will use more memory, from a plugin that learns guests' days; unknown: not soon."""

MAY_OFFLOAD: Final = "may_offload"
"""Guest field with the permission of a guest's service class; unknown without a class."""

_MOST_PACE: Final = 1 << 30
"""KiB/s: 1 TiB a second is more than any host moves."""


def _guest(name: str, unit: Unit, description: str, source: str = "mom") -> FieldSpec:
    return FieldSpec(name, unit, Scope.GUEST, description, source)


def _host(name: str, unit: Unit, description: str, source: str = "mom") -> FieldSpec:
    return FieldSpec(name, unit, Scope.HOST, description, source)


FIELDS: Final = (
    _guest(WORKING_SET, Unit.KIB, "the guest's memory in use (working set) when mom last measured it; it may need less"),
    _guest(WORKING_SET_AGE, Unit.SECONDS, "time since working_set was measured"),
    _guest(COLD, Unit.KIB, "memory of the guest beyond its working_set, in the host's swap or about to go there"),
    _guest(REFAULTS, Unit.KIB_PER_SECOND, "memory that the guest reads back from the host's swap", "memory.stat pgmajfault"),
    _guest(OFFLOAD, Unit.KIB_PER_SECOND, "speed of the guest's cold memory on its way to the host's swap; negative: it comes back"),
    _guest(OFFLOADED, Unit.KIB, "cold memory that mom has moved to the host's swap since it knows the guest"),
    _guest(STATE, Unit.TEXT, "reason why no memory of the guest goes to swap now; unknown if some does"),
    _host(ROOM, Unit.KIB, "guests' memory that still fits into the host's swap, less a twentieth that stays free", "/proc/swaps"),
    _host(RATIO, Unit.RATIO, "compression ratio of guests' memory in swap; unknown while swap holds little", "mm_stat"),
    _host(NET, Unit.KIB, "host memory gained in the last cycle: moved memory, less memory read back and the compressed copy"),
    _host(WRITTEN, Unit.KIB, "cold memory written to disks in the last day"),
    FieldSpec.reads(RISES_IN, Unit.SECONDS, Scope.GUEST),
)

CONTROLS: Final = (
    ControlSpec(
        OFFLOAD,
        Unit.KIB_PER_SECOND,
        Scope.GUEST,
        "highest speed of the guest's cold memory on its way to the host's swap in this cycle; negative: it comes back",
        OFFLOAD,
        -_MOST_PACE,
        _MOST_PACE,
        renewed=True,
    ),
)


COLUMNS: Final = (
    GuestColumn(
        "cold", (COLD,), Unit.KIB, "untouched memory, in the host's memory or in its swap", 45, 3, metric="mom_guest_cold_bytes"
    ),
    GuestColumn("learnt", (WORKING_SET_AGE,), Unit.SECONDS, "time since cold was measured", 45, 5, "mom_guest_working_set_age_seconds"),
    GuestColumn(
        "working set", (WORKING_SET,), Unit.KIB, "its memory in use when mom last measured it", rank=None,
        metric="mom_guest_working_set_bytes",
    ),
)  # fmt: skip
