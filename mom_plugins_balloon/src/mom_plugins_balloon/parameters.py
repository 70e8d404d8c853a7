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
"""Assumed time until a guest that grows during its sweep has its headroom back. Without KVM on a busy host, it was at most 0.45 s
(benchmarks/sweeps/bench_collisions.py)."""


class LawParameters(StrictModel):
    """Memory that guests keep, signs of a shortage, and speeds of reclaim."""

    # --- the host

    return_above: Annotated[float, Field(ge=1, le=100)] = 1.5
    """Multiple of the high watermark: with more available memory, guests get memory back. The gap above the watermark prevents a new
    shortage."""
    tight_below: Annotated[float, Field(ge=0, le=1)] = 0.7
    """Multiple of the high watermark: with less available memory, mom takes part of guests' margins."""
    bursts_above: Annotated[float, Field(ge=1, le=100)] = 1.25
    """Multiple of the hard watermark: with more available memory, guests get their headroom for bursts back."""
    slack: Annotated[float, Field(ge=0, le=1)] = 0.02
    """Multiple of the high watermark: for a smaller shortage, mom takes no page cache and no margins."""
    rise_share: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of the growth that the `forecast` plugin expects. mom makes this share available in advance, without harm to guests. 0: mom
    ignores forecasts."""

    # --- a guest's own memory

    margin: Size = 80 << 20
    """Memory that a guest keeps above its need. In tests with bursts of 450 MiB in guests of 1 GiB, kernels killed programs at 40 MiB and a
    `margin_percent` of 10, but not at 80 MiB and 25."""
    margin_percent: Annotated[float, Field(ge=0, le=1000)] = 25.0
    """Percentage of the need, added to `margin`."""
    target_headroom: Ratio = 2.0
    """Multiple of the margin: headroom that a guest should have."""
    tight_margin: Ratio = 0.6
    """Beyond its burst, a guest keeps this multiple of the margin, unless the host is below its hard watermark."""
    least: Ratio = 0.25
    """A guest always keeps this multiple of the margin."""
    runs_out: Ratio = 0.2
    """Multiple of the margin: with less usable memory, a guest runs out of memory."""
    grows_to: Ratio = 1.5
    """Multiple of the margin: a guest that ran out of memory grows to at least this headroom."""
    exhausted: Ratio = 0.1
    """Multiple of the margin: with less usable memory, mom assumes that a guest needs more memory than ever before."""
    grows_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """A guest that needs more memory than ever before gets back this share of the memory taken from it."""

    fills: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Share of usable memory. mom expects a guest with more page cache than this to use new memory as page cache."""

    # --- how memory moves

    shrink_share: Annotated[float, Field(ge=0.01, le=1)] = 0.5
    """Largest share of a guest's spare memory that mom takes in one cycle, because statistics may overstate spare memory."""
    step: Annotated[Size, Field(ge=1 << 20)] = 16 << 20
    """Smallest change that is worth a command."""
    sweep_step: Annotated[Size, Field(ge=1 << 20)] = 48 << 20
    """Smallest gain that is worth a sweep, which needs two changes of the balloon."""
    sweep_step_share: Annotated[float, Field(ge=0, le=1)] = 0.03
    """`sweep_step` as a share of the guest's size; the larger value applies."""
    sweep_keeps: Size = 32 << 20
    """Memory that a sweep leaves to a guest above its need and page cache."""
    growth_rate: Size = 320 << 20
    """Assumed growth per second of a guest that mom has known for less than `remember_bursts`: one program that fills memory grows this
    fast. A sweep leaves memory for this growth, except with autodeflate or below the low watermark."""
    sweep_least: Annotated[float, Field(ge=0, le=1)] = 0.5
    """A sweep leaves memory for one burst, but at most this share of the guest's maximum. Linux refuses allocations larger than free
    memory, but allocations of more than half of the memory are rare."""
    sweep_statistics_age: Annotated[Duration, Field(gt=0, le=60)] = 3.0
    """Maximum age of a guest's statistics when mom chooses the guest for a sweep. The sweep waits for statistics of the last second."""
    sweep_wait: Annotated[Duration, Field(gt=0, le=60)] = 3.0
    """Time limit of a sweep, in addition to the time that a slow balloon needs."""
    sweep_rest: Annotated[Duration, Field(ge=0, le=3600)] = 5.0
    """mom does not sweep a guest for this time after a change of its size, unless the host is below its hard watermark."""
    reporting_settles: Annotated[Duration, Field(ge=0, le=600)] = 5.0
    """With free page reporting, mom sweeps a guest that has freed no memory for this time. Linux reports freed memory every 2 s, and has
    finished after two rounds without freed memory."""
    start_rest: Annotated[Duration, Field(ge=0, le=3600)] = 60.0
    """mom takes no memory from a new guest for this time after its first statistics, unless the host is below its hard watermark. A new
    guest's use does not show the need of its programs yet. A guest whose process has run for longer is not new."""
    return_share: Annotated[float, Field(gt=0, le=1)] = 0.10
    """Share of a guest's maximum that mom returns in one cycle, but at least `step`. Returns are slower than reclaim, because mom may have
    to reclaim the memory again."""
    untouched_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """mom counts this share of returned, untouched memory as used before it lets stalling guests grow."""
    statistics_age: Annotated[Duration, Field(gt=0, le=600)] | None = None
    """Maximum age of statistics for the law. Unset: 1.6 cycles, at least 2 s, because ages are in whole seconds."""


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

    dead_band: Annotated[Size, Field(ge=0)] = 8 << 20
    """Smallest change of size that mom makes; guests' use varies by as much."""

    host_reserve: SizeOrShare = Portion(share=0.05)
    """Memory for the host's own programs and for QEMU, which mom does not promise to guests."""

    stale_after: Duration | None = None
    """mom does not shrink a guest whose statistics are older than this. Unset: three cycles, at least 10 s."""

    reservations: ReservationSettings = ReservationSettings()
    """Reservations of memory for launches."""


class BalloonGuestSettings(GuestSettings):
    """Promise to a guest."""

    guarantee: SizeOrShare | Literal["start"] | None = None
    """mom never shrinks the guest below this: `6GiB`, `75%` of its maximum, or `start`, its size at its start. If memory is plugged in
    later, `start` grows in proportion."""
