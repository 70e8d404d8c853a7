"""What an operator writes about control groups in YAML, for all guests and for single ones."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

import mom_core
from mom_core import Duration, PluginSettings, Size
from mom_plugins_cgroup.knobs import WEIGHT_V2

Max = Literal["max"]
_MOST_BYTES = 1 << 60

_Limit = Annotated[Size, Field(ge=0, le=_MOST_BYTES)] | Max
_PerSecond = Annotated[Size, Field(gt=0, le=_MOST_BYTES)] | Max
_Operations = Annotated[int, Field(gt=0, le=_MOST_BYTES)] | Max


class _Limits(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, allow_inf_nan=False)


class IoLimit(_Limits):
    """Limits of a disk of the host; `max` is none."""

    rbps: _PerSecond | None = None
    """What is read in a second."""
    wbps: _PerSecond | None = None
    """What is written in a second."""
    riops: _Operations | None = None
    """Reads in a second."""
    wiops: _Operations | None = None
    """Writes in a second."""


class GroupLimits(_Limits):
    """What a guest's control group is set to. What is left out stays as it is."""

    memory_high: _Limit | None = None
    """Above this, the kernel takes memory from the guest and slows it down. Never below what the guest needs."""
    memory_low: _Limit | None = None
    """Below this, the kernel takes memory from the guest only when no other has any to give."""
    memory_min: _Limit | None = None
    """Below this, the kernel never takes memory from the guest."""
    swap_max: _Limit | None = None
    """How much of the guest may be in the host's swap."""
    cpu_weight: Annotated[int, Field(ge=WEIGHT_V2[0], le=WEIGHT_V2[1])] | None = None
    """The guest's weight when CPUs are short; 100 is usual, with cgroups v1 too."""
    io_max: dict[str, IoLimit] | None = None
    """Limits of the host's disks for this guest, by the disk's name (`sda`) or number (`8:0`)."""
    io_latency: dict[str, Annotated[Duration, Field(gt=0, le=60)]] | None = None
    """Latency targets on the host's disks, by the disk's name or number: guests with higher targets are held back for it."""
    reclaim: bool | None = None
    """Whether memory that the guest does not touch is taken from it ahead of need, instead of what is said for all guests."""


class CgroupSettings(PluginSettings):
    """What is done for all guests; nothing, unless it is switched on."""

    reclaim: bool = False
    """Take memory that guests do not touch ahead of need, in small steps, for as long as they do not feel it."""
    reclaim_ratio: Annotated[float, Field(gt=0, le=0.1)] = 0.005
    """How much of a guest's memory is taken in a minute, at most, where reclaim is on."""
    reclaim_stall: Annotated[Duration, Field(gt=0, le=0.1)] = 0.001
    """How long in each second a guest's tasks may wait for memory before nothing more is taken from it."""
    protect: bool = False
    """Have the kernel spare what guests are guaranteed: sets memory.low to it."""
    overhead: Size = 64 << 20
    """What QEMU itself takes, on top of what a guest needs or is guaranteed."""
    stale_after: Duration | None = None
    """A guest whose statistics are older is not limited further. Three cycles, and at least 10 s, if it is not given."""


class CgroupGuestSettings(mom_core.GuestSettings):
    """A guest's control group."""

    cgroup: GroupLimits | None = None
    """What the guest's control group is set to."""
