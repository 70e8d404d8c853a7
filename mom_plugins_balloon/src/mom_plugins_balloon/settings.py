"""Settings of the plugin, of the whole host and of single guests."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mom_core import Duration, GuestSettings, PluginSettings, Portion, Size, SizeOrShare
from mom_plugins_balloon.parameters import LawParameters, ReservationSettings
from mom_plugins_balloon.states import StateGoal


class BalloonSettings(PluginSettings):
    """How careful to be with guests, whatever a policy decides."""

    law: LawParameters = LawParameters()
    """The balloon law's parameters: what guests keep, when they suffer, how memory moves."""

    host_free: Size | None = None
    """What the host is to have available: with less, guests give memory. Unset: worked out from the host's size, and from what guests
    were seen to take at once."""

    host_hard: Size | None = None
    """The hard watermark: with less available, guests give what they may miss, too, and get no headroom for bursts back. Unset: half of
    the least that a host of its size keeps."""

    goal: StateGoal = StateGoal.BALANCED
    """What matters most: `density` (the host keeps what guests were seen to take at once), `safe` (it keeps all that they could), or
    `balanced`."""

    remember_bursts: Annotated[Duration, Field(gt=0)] = 900.0
    """For how long a guest's largest use of memory is remembered in full; after as long again, a third of it above the present use."""

    reserve: Size = 32 << 20
    """What a guest keeps at least above its need when it is shrunk: a guest without any spare memory cannot even start a process."""

    reserve_percent: Annotated[float, Field(ge=0, le=100)] = 5.0
    """The same as a percentage of the guest's need; the larger of the two counts. A large guest also grows by larger amounts."""

    dead_band: Annotated[Size, Field(ge=0)] = 8 << 20
    """A smaller change is not worth a command: guests use and free as much all the time."""

    host_reserve: SizeOrShare = Portion(share=0.05)
    """What the host keeps for itself and cannot promise to guests: its own programs, and what guests' processes hold besides."""

    stale_after: Duration | None = None
    """A guest whose statistics are older is not shrunk. Three cycles, and at least 10 s, if it is not given."""

    reservations: ReservationSettings = ReservationSettings()
    """How memory is reserved for launches."""


class BalloonGuestSettings(GuestSettings):
    """What a guest is promised."""

    guarantee: SizeOrShare | Literal["start"] | None = None
    """The guest is never shrunk below this: `6GiB`, or `75%` of the most that it can have, or what it had at its `start`. Where memory
    was plugged in since, that is the same share of all that it can have now."""
