"""Settings of the plugin, of the whole host and of single guests; and the balloon law's parameters, each with its unit and its reason."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import Field

from mom_core import Duration, GuestSettings, PluginSettings, Portion, Size, SizeOrShare, StrictModel
from mom_plugins_balloon.states import StateGoal

Ratio = Annotated[float, Field(ge=0, le=100)]

BALLOON_KIB_PER_SECOND: Final = 900_000.0
"""KiB/s. Speed of a virtio balloon. A step is no larger than a balloon moves in a cycle, and ends before the next one."""

SLOW_BALLOON_KIB_PER_SECOND: Final = 450_000.0
"""KiB/s. Speed of a slow balloon: mom waits for a guest by this speed."""

UNKNOWN_REACTION_SECONDS: Final = 0.5
"""s. Time to notice that a guest grows during its sweep, and to return its headroom, until it was measured on this host. At most 0.45 s for
guests without KVM on a host with work for all CPUs (benchmarks/sweeps/bench_collisions.py); less with KVM."""


class LawParameters(StrictModel):
    """Memory that guests keep, signs that they suffer, and speeds of moving memory."""

    # --- the host

    return_above: Annotated[float, Field(ge=1, le=100)] = 1.5
    """Times the high watermark: with more available, guests get memory back. Their use of it must not lead straight to a shortage."""
    tight_below: Annotated[float, Field(ge=0, le=1)] = 0.7
    """Times the high watermark: with less available, guests give of their margins."""
    bursts_above: Annotated[float, Field(ge=1, le=100)] = 1.25
    """Times the hard watermark: with more available, guests get their headroom for bursts again."""
    slack: Annotated[float, Field(ge=0, le=1)] = 0.02
    """Times the high watermark: a smaller shortage is not worth taking page cache or margins."""
    rise_share: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Ratio of the memory that guests are expected to take together soon (plugin forecast). So much is made available before, by means that
    hurt no guest. Past errors of the forecast are included. 0: the law ignores forecasts."""

    # --- a guest's own memory

    margin: Size = 80 << 20
    """Memory that a guest keeps above its need when it gives. Kernels killed programs in guests of 1 GiB with bursts of 450 MiB at 40 MiB
    and 10 %; at 80 MiB and 25 % they did not."""
    margin_percent: Annotated[float, Field(ge=0, le=1000)] = 25.0
    """The same as a percentage of the need; both count together."""
    target_headroom: Ratio = 2.0
    """Times the margin: the headroom that a guest should have."""
    tight_margin: Ratio = 0.6
    """Times the margin: memory that a guest has beyond its burst at least, unless the host is below its hard watermark."""
    least: Ratio = 0.25
    """Times the margin: memory that a guest keeps in any case."""
    runs_out: Ratio = 0.2
    """Times the margin: with less usable, a guest runs out of memory."""
    grows_to: Ratio = 1.5
    """Times the margin: a guest that runs out grows at least to this, and need not ask again at once."""
    exhausted: Ratio = 0.1
    """Times the margin: with less usable, a guest wants more than its past shows."""
    grows_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Ratio of the memory taken from a guest. It grows by this at least if it wants more than its past shows."""

    fills: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Ratio of usable memory. A guest with more page cache fills new memory with page cache, so headroom is not free for it."""

    # --- how memory moves

    shrink_share: Annotated[float, Field(ge=0.01, le=1)] = 0.5
    """Ratio of the memory that a guest can spare: it gives no larger part in a cycle. Statistics from before its last step promise too much
    by that step; even then it keeps enough."""
    step: Annotated[Size, Field(ge=1 << 20)] = 16 << 20
    """Smallest change that is worth a command. A smaller shortage is not worth a step."""
    sweep_step: Annotated[Size, Field(ge=1 << 20)] = 48 << 20
    """Least memory that is worth a sweep, because a sweep costs it two changes of its balloon."""
    sweep_step_share: Annotated[float, Field(ge=0, le=1)] = 0.03
    """The same as a ratio of its size; the larger of the two counts, up to half of the memory that its balloon moves in a cycle."""
    sweep_keeps: Size = 32 << 20
    """Least memory that a sweep leaves a guest above its need and its page cache, until it has its headroom back."""
    growth_rate: Size = 320 << 20
    """Growth in a second of a guest that mom has known for less than `remember_bursts`: one program that fills memory takes so much. A
    sweep leaves a guest the memory that it takes until mom returns its headroom. Exceptions: its balloon deflates by itself (autodeflate),
    or the host is below its low watermark."""
    sweep_least: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Ratio of a guest's maximum. A sweep leaves a guest with repeated bursts headroom for such a burst in one piece, up to this, unless
    the host is tight. Linux refuses a program that asks for more than there is; one that asks for more than half is rare."""
    sweep_statistics_age: Annotated[Duration, Field(gt=0, le=60)] = 3.0
    """Age: a guest with older statistics is not chosen for a sweep. They come once in a second or two, and their time is known in whole
    seconds. The sweep itself starts with statistics of a second at most, and waits for the next if they are older."""
    sweep_wait: Annotated[Duration, Field(gt=0, le=60)] = 3.0
    """Longest time of a sweep, besides the time that a slow balloon needs, before the guest gets its headroom back anyway."""
    sweep_rest: Annotated[Duration, Field(ge=0, le=3600)] = 5.0
    """Time of rest for a guest after its size has changed, unless the host is below its hard watermark."""
    reporting_settles: Annotated[Duration, Field(ge=0, le=600)] = 5.0
    """Time without freed memory, after which a guest with free page reporting is swept for the remainder. Linux reports in rounds of two
    seconds, a sixteenth of its free pieces in each. After two rounds without any, it is done."""
    start_rest: Annotated[Duration, Field(ge=0, le=3600)] = 60.0
    """Time of rest for a new guest, after its kernel has first reported its memory, unless the host is below its hard watermark.
    Its programs have not begun yet, so its present use says nothing of them. A guest that mom meets later is no longer new when its process
    has run for so long. No policy takes memory from a guest that mom has seen start."""
    return_share: Annotated[float, Field(gt=0, le=1)] = 0.10
    """Ratio of a guest's maximum: it gets back no more in a cycle, or a `step` if that is more. This is slower than memory can be taken,
    because touched memory costs another shrink."""
    untouched_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Ratio of the memory that guests have got back and not used yet. So much of it counts as used when guests that suffer should grow."""
    statistics_age: Annotated[Duration, Field(gt=0, le=600)] | None = None
    """Age: older statistics are not acted on. Unset: 1.6 cycles, and at least 2 s, because their age is known in whole seconds."""


class WhenShort(StrEnum):
    """Outcome of a launch if its memory is not available in time."""

    WARN = "warn"  #: the guest starts, and mom's log names the missing memory
    REFUSE = "refuse"  #: it does not start, and the caller gets the reason


class LaunchSettings(StrictModel):
    """Behaviour when a hook of the hypervisor, or another program, asks before it starts a guest (`mom hook`)."""

    wait: Annotated[Duration, Field(ge=0, le=300)] = 10.0
    """Longest time that a start waits for its memory. Run `mom hook install` again after making it longer."""
    when_short: WhenShort = WhenShort.WARN
    """Outcome for a guest if its memory is not available in time: `warn` starts it, `refuse` does not and gives the reason."""


class ReservationSettings(StrictModel):
    """Settings of reservations for launches."""

    host_keeps: Size | None = None
    """Memory that the host keeps available beside all reservations; the policy in force must aim at more. Unset: half of the least for a
    host of its size (0.4 GiB of 24), or the largest growth of all guests within 3 s, if that is more."""
    settle: Annotated[Duration, Field(ge=0, le=3600)] = 60.0
    """Longest time that mom keeps the reservation of a guest that has arrived and not touched all of its memory."""
    launches: LaunchSettings = LaunchSettings()
    """What happens before each start of a guest, where a hook asks."""


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
