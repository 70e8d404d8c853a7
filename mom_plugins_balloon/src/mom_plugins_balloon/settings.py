"""Settings of the plugin, of the whole host and of single guests."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mom_core import Duration, GuestSettings, PluginSettings, Portion, Size, SizeOrShare
from mom_plugins_balloon.parameters import LawParameters, ReservationSettings
from mom_plugins_balloon.states import StateGoal


class BalloonSettings(PluginSettings):
    """Safety of guests and memory of the host, whatever a policy decides."""

    law: LawParameters = LawParameters()
    """Parameters of the balloon law: memory that guests keep, signs that they suffer, and speeds of moving memory."""

    host_free: Size | None = None
    """High watermark: with less available, guests give memory. Unset: computed from the host's size and the recent growth of its guests."""

    host_hard: Size | None = None
    """Hard watermark: with less available, guests give margins, too, and get no headroom for bursts back. Unset: half of the least memory
    that a host of its size keeps."""

    goal: StateGoal = StateGoal.BALANCED
    """`density` (the host keeps as much as guests were seen to take at once), `safe` (it keeps all that guests could take), or
    `balanced`."""

    remember_bursts: Annotated[Duration, Field(gt=0)] = 900.0
    """A guest's largest use of memory counts in full for so long. After as long again, a third of it above the present use counts."""

    reserve: Size = 32 << 20
    """Least memory that a shrunk guest keeps above its need: a guest without spare memory cannot even start a process."""

    reserve_percent: Annotated[float, Field(ge=0, le=100)] = 5.0
    """The same as a percentage of the guest's need; the larger of the two counts. A large guest also grows by larger amounts."""

    dead_band: Annotated[Size, Field(ge=0)] = 8 << 20
    """A smaller change is not worth a command: guests use and free as much all the time."""

    host_reserve: SizeOrShare = Portion(share=0.05)
    """Memory that the host keeps and cannot promise to guests: for its own programs, and for QEMU's own memory."""

    stale_after: Duration | None = None
    """A guest with older statistics is not shrunk. Unset: three cycles, and at least 10 s."""

    reservations: ReservationSettings = ReservationSettings()
    """Reservations of memory for launches."""


class BalloonGuestSettings(GuestSettings):
    """Promise to a guest."""

    guarantee: SizeOrShare | Literal["start"] | None = None
    """The guest is never shrunk below this: `6GiB`, or `75%` of its maximum, or its size at its `start`. If memory was plugged in since,
    `start` is the same share of its new maximum."""
