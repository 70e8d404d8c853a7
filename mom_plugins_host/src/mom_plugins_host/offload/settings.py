"""What an operator writes about cold memory in YAML, for all guests and for single ones."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

import mom_core
from mom_core import Duration, PluginSettings, Size


class OffloadSettings(PluginSettings):
    """How far guests' cold memory goes to swap."""

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
    """A guest's cold memory."""

    offload: bool | None = None
    """Whether memory that the guest does not touch may go to the host's swap, instead of what its class says."""
