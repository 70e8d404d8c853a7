"""What an operator writes about NUMA in YAML."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

import mom_core
from mom_core import Duration, PluginSettings, Size


class NumaSettings(PluginSettings):
    """How often to look where guests are, and whether to place them."""

    look_every: Annotated[Duration, Field(ge=1, le=86_400)] = 60.0
    """How often it is looked where a guest's memory and vCPUs are, at most: less often where that would take more than `look_share`."""

    look_share: Annotated[float, Field(gt=0, le=1)] = 0.02
    """Share of one CPU that looking may use. The kernel walks all page tables of a guest to tell where its memory is."""

    placement: bool = False
    """Keep each guest on one NUMA node when it fits there, and move a guest when that gains more than it costs."""

    move_rate: Annotated[Size, Field(ge=1 << 20, le=16 << 30)] = 256 << 20
    """How much of a guest's memory is moved in a second, at most."""

    reserve: Annotated[Size, Field(ge=0)] | None = None
    """What a move leaves available on the node to which it goes. Unset: 5 % of the node, and 512MiB at least."""


class NumaGuestSettings(mom_core.GuestSettings):
    """Which guests are placed."""

    numa_placement: bool = True
    """Whether `placement` may pin and move this guest."""
