"""Settings of the plugin and of guests, and the parameters of the balloon law."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import Field

from mom_core import Duration, GuestSettings, PluginSettings, Portion, Size, StrictModel
from mom_plugins_balloon.states import StateGoal

BALLOON_KIB_PER_SECOND: Final = 900_000.0
"""Speed of a virtio balloon. mom asks for no more than a balloon moves in one cycle."""

SLOW_BALLOON_KIB_PER_SECOND: Final = 450_000.0
"""Speed of a slow balloon. It decides how long mom waits for a guest."""

STEP_KIB: Final = 16 * 1024.0
"""Smallest change of size that is worth a command."""

SHRINK_SHARE: Final = 0.5
"""Largest ratio of a guest's spare memory that mom takes in one cycle, because statistics may overstate spare memory."""

SWEEP_KEEPS_KIB: Final = 32 * 1024.0
"""Memory that a sweep leaves to a guest above its need and page cache."""

SWEEP_WAIT_SECONDS: Final = 3.0
"""Time limit of a sweep, in addition to the time that a slow balloon needs."""

UNKNOWN_REACTION_SECONDS: Final = 0.5
"""Assumed time until a guest that grows during its sweep has its headroom back. Without KVM on a busy host, it was at most 0.45 s
(benchmarks/sweeps/bench_collisions.py)."""


def longest_move_seconds(kib: float) -> float:
    """Return how long a slow balloon may take to move so much memory in a sweep."""
    return SWEEP_WAIT_SECONDS + kib / SLOW_BALLOON_KIB_PER_SECOND


class LawParameters(StrictModel):
    """Parameters of the law that operators may want to change. All other numbers are constants of the law."""

    return_above: Annotated[float, Field(ge=1, le=100)] = 1.5
    """Multiple of the high watermark: with more available memory, guests get memory back. The gap above the watermark prevents a new
    shortage."""
    tight_below: Annotated[float, Field(ge=0, le=1)] = 0.7
    """Multiple of the high watermark: with less available memory, mom takes part of guests' margins."""
    margin: Size = 80 << 20
    """Memory that a guest keeps above its need. In tests with bursts of 450 MiB in guests of 1 GiB, kernels killed programs at 40 MiB and a
    `margin_percent` of 10, but not at 80 MiB and 25."""
    margin_percent: Annotated[float, Field(ge=0, le=1000)] = 25.0
    """Percentage of the need, added to `margin`."""
    target_headroom: Annotated[float, Field(ge=0, le=100)] = 2.0
    """Multiple of the margin: headroom that a guest should have."""
    sweep_step: Annotated[Size, Field(ge=1 << 20)] = 48 << 20
    """Smallest gain that is worth a sweep, which needs two changes of the balloon."""
    growth_rate: Size = 320 << 20
    """Assumed growth per second of a guest that mom has known for less than `remember_bursts`: one program that fills memory grows this
    fast. A sweep leaves memory for this growth, except with autodeflate or below the low watermark."""
    start_rest: Annotated[Duration, Field(ge=0, le=3600)] = 60.0
    """mom takes no memory from a new guest for this time after its first statistics, unless the host is below its hard watermark. A new
    guest's use does not show the need of its programs yet. A guest whose process has run for longer is not new."""


class WhenShort(StrEnum):
    """Action for a launch whose memory does not become available in time."""

    WARN = "warn"  #: the guest starts, and mom logs the missing memory
    REFUSE = "refuse"  #: the guest does not start, and the caller gets the reason


class LaunchSettings(StrictModel):
    """Launches: a hypervisor's hook, or another program, asks mom for memory before it starts a guest (`mom hook`)."""

    wait: Annotated[Duration, Field(ge=0, le=300)] = 10.0
    """Longest delay of a guest's start until its memory is available. After an increase, run `mom hook install` again."""
    when_short: WhenShort = WhenShort.WARN
    """If the memory is not available in time, `warn` starts the guest anyway; `refuse` does not start it."""


class ReservationSettings(StrictModel):
    """Settings of reservations for launches."""

    host_keeps: Size | None = None
    """Memory that the host keeps available in addition to reservations. Unset: the default of `host_hard`, or the largest growth of all
    guests within 3 s if that is more. Policies must keep more than this available."""
    settle: Annotated[Duration, Field(ge=0, le=3600)] = 60.0
    """After a guest has arrived, mom keeps its reservation until the guest has touched all its memory, but no longer than this."""
    launches: LaunchSettings = LaunchSettings()
    """Launches for which a hypervisor's hook asks mom to reserve memory."""


class BalloonSettings(PluginSettings):
    """Settings that protect guests and keep host memory available, under all policies."""

    law: LawParameters = LawParameters()
    """Parameters of the balloon law."""

    host_free: Size | None = None
    """High watermark: with less available memory, mom takes memory from guests. Unset: computed from the host's size and its guests'
    growth."""

    host_hard: Size | None = None
    """Hard watermark: with less available memory, mom also takes headroom for bursts. Unset: computed from the host's size, for example 0.4
    GiB of 24 GiB."""

    goal: StateGoal = StateGoal.BALANCED
    """`density`: the host keeps memory for the largest recent growth of its guests. `safe`: for all memory that guests could
    take. `balanced`: in between. `truthful` is like `balanced`, but guests keep their full sizes while the host is above its hard
    watermark: mom only sweeps them."""

    remember_bursts: Annotated[Duration, Field(gt=0)] = 900.0
    """Time for which a guest's largest use counts in full. After twice this time, a third of its excess over present use counts."""

    reserve: Size = 32 << 20
    """Memory that a shrunk guest keeps above its need, so that it can start processes."""

    reserve_percent: Annotated[float, Field(ge=0, le=100)] = 5.0
    """`reserve` as a percentage of the guest's need; the larger value applies."""

    host_reserve: Portion = Portion(share=0.05)
    """Memory for the host's own programs and for QEMU, which mom does not promise to guests."""

    reservations: ReservationSettings = ReservationSettings()
    """Reservations of memory for launches."""


class BalloonGuestSettings(GuestSettings):
    """Promise to a guest."""

    guarantee: Portion | Literal["start"] | None = None
    """mom never shrinks the guest below this: `6GiB`, `75%` of its maximum, or `start`, its size at its start. If memory is plugged in
    later, `start` grows in proportion."""
