"""The settings of control groups in YAML, for all guests and for single ones."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

import mom_core
from mom_core import Duration, PluginSettings, Size, StrictModel

_Limit = Annotated[Size, Field(ge=0, le=1 << 60)] | Literal["max"]


class GroupLimits(StrictModel):
    """Values of a guest's control group. One that is left out stays as it is."""

    memory_high: _Limit | None = None
    """Above this, the kernel takes memory from the guest and slows it down. Never below what the guest needs."""
    memory_low: _Limit | None = None
    """Below this, the kernel takes memory from the guest only when no other has any to give."""
    memory_min: _Limit | None = None
    """Below this, the kernel never takes memory from the guest."""
    swap_max: _Limit | None = None
    """How much of the guest may be in the host's swap."""


class CgroupSettings(PluginSettings):
    """Settings for all guests; nothing is done unless it is switched on."""

    protect: bool = False
    """Have the kernel spare what guests are guaranteed: sets memory.low to it."""
    overhead: Size = 64 << 20
    """The memory that QEMU itself takes, on top of what a guest needs or is guaranteed."""
    stale_after: Duration | None = None
    """A guest whose statistics are older is not limited further. Three cycles, and at least 10 s, if it is not given."""


class CgroupGuestSettings(mom_core.GuestSettings):
    """A guest's control group."""

    cgroup: GroupLimits | None = None
    """Values of the guest's control group."""
