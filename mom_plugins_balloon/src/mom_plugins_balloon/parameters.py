"""Settings of the plugin and of guests, and the parameters of the balloon law."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import Field

from mom_core import Duration, GuestSettings, PluginSettings, Portion, Size, SizeOrShare, StrictModel
from mom_plugins_balloon.states import StateGoal

Ratio = Annotated[float, Field(ge=0, le=100)]

BALLOON_KIB_PER_SECOND: Final = 900_000.0
"""Speed of a virtio balloon. mom asks for no more than a balloon moves in one cycle."""

SLOW_BALLOON_KIB_PER_SECOND: Final = 450_000.0
"""Speed of a slow balloon. It decides how long mom waits for a guest."""

UNKNOWN_REACTION_SECONDS: Final = 0.5
"""Time that mom assumes, until measured, to notice growth during a sweep and return the headroom. Measured without KVM on a busy host: at
most 0.45 s (benchmarks/sweeps/bench_collisions.py)."""


class LawParameters(StrictModel):
    """Memory that guests keep, signs of a shortage, and speeds of reclaim."""

    # --- the host

    return_above: Annotated[float, Field(ge=1, le=100)] = 1.5
    """Multiple of the high watermark: with more available memory, guests get memory back. The gap prevents a new shortage."""
    tight_below: Annotated[float, Field(ge=0, le=1)] = 0.7
    """Multiple of the high watermark: with less available memory, mom takes part of guests' margins."""
    bursts_above: Annotated[float, Field(ge=1, le=100)] = 1.25
    """Multiple of the hard watermark: with more available memory, guests get their headroom for bursts back."""
    slack: Annotated[float, Field(ge=0, le=1)] = 0.02
    """Multiple of the high watermark: for a smaller shortage, mom takes no page cache and no margins."""
    rise_share: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Ratio of the growth that the `forecast` plugin expects. mom makes this much memory available in advance, without harm to guests. 0
    ignores forecasts."""

    # --- a guest's own memory

    margin: Size = 80 << 20
    """Memory that a guest keeps above its need. With bursts of 450 MiB in guests of 1 GiB, kernels killed programs at 40 MiB and 10 %, but
    not at 80 MiB and 25 %."""
    margin_percent: Annotated[float, Field(ge=0, le=1000)] = 25.0
    """Percentage of the need, added to `margin`."""
    target_headroom: Ratio = 2.0
    """Multiple of the margin: headroom that a guest should have."""
    tight_margin: Ratio = 0.6
    """Multiple of the margin: memory that a guest keeps beyond its burst, unless the host is below its hard watermark."""
    least: Ratio = 0.25
    """Multiple of the margin: memory that a guest always keeps."""
    runs_out: Ratio = 0.2
    """Multiple of the margin: with less usable memory, a guest runs out of memory."""
    grows_to: Ratio = 1.5
    """Multiple of the margin: least headroom after growth of a guest that ran out of memory."""
    exhausted: Ratio = 0.1
    """Multiple of the margin: with less usable memory, a guest needs more than its past shows."""
    grows_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Ratio of the memory taken from a guest. The guest grows by this much if it needs more than its past shows."""

    fills: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Ratio of usable memory. A guest with more page cache than this fills new memory with page cache."""

    # --- how memory moves

    shrink_share: Annotated[float, Field(ge=0.01, le=1)] = 0.5
    """Largest share of a guest's spare memory that mom takes in one cycle, because statistics may overstate spare memory."""
    step: Annotated[Size, Field(ge=1 << 20)] = 16 << 20
    """Smallest change that is worth a command."""
    sweep_step: Annotated[Size, Field(ge=1 << 20)] = 48 << 20
    """Smallest gain that is worth a sweep, which needs two changes of the balloon."""
    sweep_step_share: Annotated[float, Field(ge=0, le=1)] = 0.03
    """The smallest gain as a ratio of the guest's size; the larger of both counts."""
    sweep_keeps: Size = 32 << 20
    """Memory that a sweep leaves to a guest above its need and page cache."""
    growth_rate: Size = 320 << 20
    """Growth per second of a guest that mom has known for less than `remember_bursts`; one program that fills memory grows this fast. A
    sweep leaves memory for this growth, except with autodeflate or below the low watermark."""
    sweep_least: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Largest headroom that a sweep leaves for one burst, as a ratio of the guest's maximum. Linux refuses allocations larger than free
    memory, but allocations of more than half the memory are rare."""
    sweep_statistics_age: Annotated[Duration, Field(gt=0, le=60)] = 3.0
    """Maximum age of statistics for choosing a guest to sweep. The sweep itself waits for statistics of at most a second."""
    sweep_wait: Annotated[Duration, Field(gt=0, le=60)] = 3.0
    """Time limit of a sweep, in addition to the time that a slow balloon needs."""
    sweep_rest: Annotated[Duration, Field(ge=0, le=3600)] = 5.0
    """After a change of its size, a guest is not swept for this time, unless the host is below its hard watermark."""
    reporting_settles: Annotated[Duration, Field(ge=0, le=600)] = 5.0
    """A guest with free page reporting is swept after this time without freed memory. Linux reports every 2 s, and has finished after two
    rounds without any."""
    start_rest: Annotated[Duration, Field(ge=0, le=3600)] = 60.0
    """mom takes no memory from a new guest for this time after its first statistics, unless the host is below its hard watermark. A new
    guest's use does not show the need of its programs yet. A guest whose process is older is not new."""
    return_share: Annotated[float, Field(gt=0, le=1)] = 0.10
    """Ratio of a guest's maximum that mom returns in one cycle, or a `step` if that is more. Returns are slower than reclaim, because
    touched memory must be reclaimed again."""
    untouched_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Ratio of returned, untouched memory that counts as used before stalling guests grow."""
    statistics_age: Annotated[Duration, Field(gt=0, le=600)] | None = None
    """mom ignores older statistics. Unset: 1.6 cycles, at least 2 s, because ages are in whole seconds."""


class WhenShort(StrEnum):
    """Action for a launch whose memory does not become available in time."""

    WARN = "warn"  #: the guest starts, and mom logs the missing memory
    REFUSE = "refuse"  #: the guest does not start, and the caller gets the reason


class LaunchSettings(StrictModel):
    """Launches: a hypervisor's hook, or another program, asks mom before it starts a guest (`mom hook`)."""

    wait: Annotated[Duration, Field(ge=0, le=300)] = 10.0
    """Longest delay of a guest's start until its memory is available. After an increase, run `mom hook install` again."""
    when_short: WhenShort = WhenShort.WARN
    """If the memory is not available in time: `warn` starts the guest, `refuse` does not."""


class ReservationSettings(StrictModel):
    """Settings of reservations for launches."""

    host_keeps: Size | None = None
    """Memory that the host keeps available in addition to reservations. Unset: the larger of half of the least memory for the host's size
    (0.4 GiB of 24 GiB), and the largest growth of all guests within 3 s. The policy must keep more than this available."""
    settle: Annotated[Duration, Field(ge=0, le=3600)] = 60.0
    """Longest time that mom keeps the reservation of an arrived guest, until it has touched all its memory."""
    launches: LaunchSettings = LaunchSettings()
    """Launches for which a hook asks mom."""


class BalloonSettings(PluginSettings):
    """Settings that protect guests and keep host memory available, under all policies."""

    law: LawParameters = LawParameters()
    """Parameters of the balloon law."""

    host_free: Size | None = None
    """High watermark: with less available memory, mom takes memory from guests. Unset: computed from the host's size and its guests'
    growth."""

    host_hard: Size | None = None
    """Hard watermark: with less available memory, mom also takes headroom for bursts. Unset: half of the least memory for the host's size.
    """

    goal: StateGoal = StateGoal.BALANCED
    """`density`: the host keeps memory for the largest recent growth of its guests. `safe`: for all memory that guests could
    take. `balanced`: in between. `truthful` is like `balanced`, but guests keep their full sizes while the host is above its hard
    watermark: mom only sweeps them."""

    remember_bursts: Annotated[Duration, Field(gt=0)] = 900.0
    """Time for which a guest's largest use counts in full. After the same time again, a third of the excess counts."""

    reserve: Size = 32 << 20
    """Memory that a shrunk guest keeps above its need, so that it can start processes."""

    reserve_percent: Annotated[float, Field(ge=0, le=100)] = 5.0
    """`reserve` as a percentage of the guest's need; the larger of both counts."""

    dead_band: Annotated[Size, Field(ge=0)] = 8 << 20
    """Smaller changes are not worth a command: guests' use varies by as much."""

    host_reserve: SizeOrShare = Portion(share=0.05)
    """Memory for the host's own programs and for QEMU, which mom does not promise to guests."""

    stale_after: Duration | None = None
    """A guest with older statistics is not shrunk. Unset: three cycles, at least 10 s."""

    reservations: ReservationSettings = ReservationSettings()
    """Reservations of memory for launches."""


class BalloonGuestSettings(GuestSettings):
    """Promise to a guest."""

    guarantee: SizeOrShare | Literal["start"] | None = None
    """The guest is never shrunk below this: `6GiB`, `75%` of its maximum, or `start`, its size at its start (the same share of the maximum
    after memory was plugged in)."""
