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
    _guest(WORKING_SET, Unit.KIB, "what the guest was last seen to get along with in the host's memory; it may need less"),
    _guest(WORKING_SET_AGE, Unit.SECONDS, "how long ago working_set was seen"),
    _guest(COLD, Unit.KIB, "what the guest has beyond its working_set: in the host's swap already, or to go there"),
    _guest(REFAULTS, Unit.KIB_PER_SECOND, "what comes back from the host's swap because the guest touches it", "memory.stat pgmajfault"),
    _guest(OFFLOAD, Unit.KIB_PER_SECOND, "how fast the guest's cold memory goes to the host's swap; negative: comes back; 0: neither"),
    _guest(OFFLOADED, Unit.KIB, "cold memory of the guest that mom has let go to the host's swap since it knows the guest"),
    _guest(STATE, Unit.TEXT, "why nothing of the guest goes to swap now; unknown if something does"),
    _host(ROOM, Unit.KIB, "guests' memory that the host's swap still takes, less a twentieth that is kept", "/proc/swaps"),
    _host(RATIO, Unit.RATIO, "how much guests' memory goes into one KiB of compressed memory; unknown while little is in it", "mm_stat"),
    _host(NET, Unit.KIB, "what cold memory gave in the last cycle: what went, less what came back and what it takes compressed"),
    _host(WRITTEN, Unit.KIB, "cold memory that was written to disks in the last day"),
    FieldSpec.reads(RISES_IN, Unit.SECONDS, Scope.GUEST),
)

CONTROLS: Final = (
    ControlSpec(
        OFFLOAD,
        Unit.KIB_PER_SECOND,
        Scope.GUEST,
        "let the guest's cold memory go to the host's swap, at most so fast, in this cycle; negative: have it come back; decided in each",
        OFFLOAD,
        -_MOST_PACE,
        _MOST_PACE,
        renewed=True,
    ),
)


COLUMNS: Final = (
    GuestColumn(
        "cold", (COLD,), Unit.KIB, "what it does not touch, in the host's memory or in its swap", 45, 3, metric="mom_guest_cold_bytes"
    ),
    GuestColumn("learnt", (WORKING_SET_AGE,), Unit.SECONDS, "how long ago cold was learnt", 45, 5, "mom_guest_working_set_age_seconds"),
    GuestColumn(
        "working set", (WORKING_SET,), Unit.KIB, "what it was last seen to get along with in the host's memory", rank=None,
        metric="mom_guest_working_set_bytes",
    ),
)  # fmt: skip
