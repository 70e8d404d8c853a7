"""The balloon law's parameters: settings of the plugin, each with its unit and its reason. Everything that needs one reads it here."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field

from mom_core import Duration, Size, StrictModel

Ratio = Annotated[float, Field(ge=0, le=100)]

BALLOON_KIB_PER_SECOND: Final = 900_000.0
"""KiB/s. What a virtio balloon moves; a step is no larger than what it moves in a cycle, so that it is done when the next one begins."""

SLOW_BALLOON_KIB_PER_SECOND: Final = 450_000.0
"""KiB/s. What a slow one moves: for so long a guest is waited for."""

UNKNOWN_REACTION_SECONDS: Final = 0.5
"""s. How long it takes to notice that a guest that is swept grows, and to give its headroom back, until that was measured on this host: at
most 0.45 s for guests without KVM on a host with work for all CPUs (benchmarks/sweeps/bench_collisions.py). With KVM, less."""


class LawParameters(StrictModel):
    """What guests keep, when they suffer, and how memory moves."""

    # --- the host

    return_above: Annotated[float, Field(ge=1, le=100)] = 1.5
    """Times the high watermark: with more available, guests get back what was taken. What they do with it must not lead straight to a
    shortage."""
    tight_below: Annotated[float, Field(ge=0, le=1)] = 0.7
    """Times the high watermark: with less available, guests give of their margins."""
    bursts_above: Annotated[float, Field(ge=1, le=100)] = 1.25
    """Times the hard watermark: with more available, guests get their headroom for bursts again."""
    slack: Annotated[float, Field(ge=0, le=1)] = 0.02
    """Times the high watermark: a smaller shortage is not worth taking page cache or margins."""
    rise_share: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Ratio of what guests are expected to take together before long (plugin forecast): so much is available before they take it, of
    memory that hurts no guest. The error that forecasts had is in it already. 0: nothing goes by what is expected."""

    # --- what a guest keeps

    margin: Size = 80 << 20
    """What a guest keeps above its need when it gives. Guests of 1 GiB with bursts of 450 MiB have been run with 40 MiB and 10 %, and their
    kernels killed programs; with 80 MiB and 25 % they did not."""
    margin_percent: Annotated[float, Field(ge=0, le=1000)] = 25.0
    """The same as a percentage of the need; both count together."""
    target_headroom: Ratio = 2.0
    """Times the margin: what should be usable in a guest."""
    tight_margin: Ratio = 0.6
    """Times the margin: what a guest has beyond its burst at least, unless the host is below its hard watermark."""
    least: Ratio = 0.25
    """Times the margin: what a guest keeps in any case."""
    runs_out: Ratio = 0.2
    """Times the margin: with less usable, a guest runs out of memory."""
    grows_to: Ratio = 1.5
    """Times the margin: a guest that runs out grows to this at least, so that it need not ask again at once."""
    exhausted: Ratio = 0.1
    """Times the margin: with less usable, a guest wants more than its past tells."""
    grows_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Ratio of what was taken from a guest: it grows by this at least when it wants more than its past tells, as how much is unknown."""

    fills: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Ratio of what is usable: a guest with more page cache fills what it is given with more of it, so headroom is not free for it."""

    # --- how memory moves

    shrink_share: Annotated[float, Field(ge=0.01, le=1)] = 0.5
    """Ratio of what a guest can spare: it gives no more in a cycle. Even by statistics from before its last step, which promise too much by
    that step, it gives no more than it can spare."""
    step: Annotated[Size, Field(ge=1 << 20)] = 16 << 20
    """A smaller step is not worth a command, and a smaller shortage no step."""
    sweep_step: Annotated[Size, Field(ge=1 << 20)] = 48 << 20
    """A guest is swept for this much at least, as a sweep costs it two changes of its balloon."""
    sweep_step_share: Annotated[float, Field(ge=0, le=1)] = 0.03
    """The same as a ratio of its size, whichever is more; but no more than half of what its balloon moves in a cycle."""
    sweep_keeps: Size = 32 << 20
    """What a sweep leaves a guest at least above its need and its page cache, until it has its headroom back."""
    growth_rate: Size = 320 << 20
    """What a guest may take in a second, until it was known for `remember_bursts`: one program that fills memory takes so much. A sweep
    leaves a guest what it takes until mom has noticed and has given its headroom back, unless its balloon deflates by itself (autodeflate)
    or the host is below its low watermark."""
    sweep_least: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Ratio of a guest's maximum: a sweep leaves a guest that bursts again and again headroom for such a burst in one piece, up to this, as
    long as the host is not tight. Linux refuses a program that asks for more than there is; one that asks for more than half is rare."""
    sweep_statistics_age: Annotated[Duration, Field(gt=0, le=60)] = 3.0
    """A guest whose statistics are older is not chosen for a sweep. They come once in a second or two, and their time is known in whole
    seconds. The sweep itself begins by statistics of a second at most: it waits for the next where these are older."""
    sweep_wait: Annotated[Duration, Field(gt=0, le=60)] = 3.0
    """For so long a sweep may take, besides the time that a slow balloon needs, before the guest gets its headroom back anyway."""
    sweep_rest: Annotated[Duration, Field(ge=0, le=3600)] = 5.0
    """For so long a guest is left in peace after its size has changed, unless the host is below its hard watermark."""
    reporting_settles: Annotated[Duration, Field(ge=0, le=600)] = 5.0
    """For so long a guest with free page reporting must not have freed memory, nor its process have handed any back, before it is swept for
    the rest. Linux reports in rounds of two seconds, a sixteenth of its free pieces in each: in two rounds without any, it is done."""
    start_rest: Annotated[Duration, Field(ge=0, le=3600)] = 60.0
    """For so long after its kernel has first told of its memory a guest that was just started gives nothing, unless the host is below its
    hard watermark: its programs have not begun yet, and what it uses until then says nothing of them. A guest that mom meets later is no
    longer new when its process has run for so long. Of one that mom has seen come, no policy takes anything either."""
    return_share: Annotated[float, Field(gt=0, le=1)] = 0.10
    """Ratio of a guest's maximum: it gets back no more in a cycle, or a `step` where that is more, slower than it can be taken: what was
    touched costs another shrink."""
    untouched_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Ratio of what guests have got back and not used yet: so much of it counts as used when guests that suffer are to grow."""
    statistics_age: Annotated[Duration, Field(gt=0, le=600)] | None = None
    """Older statistics are not acted upon. Unset: 1.6 cycles, and 2 s at least, as their age is known in whole seconds."""


class WhenShort(StrEnum):
    """What becomes of a launch for which the memory cannot be had, or not in time."""

    WARN = "warn"  #: the guest is started, and mom's log says what is missing
    REFUSE = "refuse"  #: it is not started, and who starts it is told why


class LaunchSettings(StrictModel):
    """What happens when a hook of the hypervisor, or another program, asks before it starts a guest (`mom hook`)."""

    wait: Annotated[Duration, Field(ge=0, le=300)] = 10.0
    """How long a start waits at most until the memory for the guest is there. `mom hook install` again where this is made longer."""
    when_short: WhenShort = WhenShort.WARN
    """What becomes of a guest for which the memory cannot be had, or not in time: `warn` starts it, `refuse` does not, and says why."""


class ReservationSettings(StrictModel):
    """How memory is reserved for launches."""

    host_keeps: Size | None = None
    """What the host keeps available beside all that is reserved; the policy in force must aim at more. Unset: half of the least that a host
    of its size keeps (0.4 GiB of 24), below which the default policy has guests give what they may miss, or what guests were seen to take
    together within 3 s, if that is more."""
    settle: Annotated[Duration, Field(ge=0, le=3600)] = 60.0
    """How long memory is kept still for a guest that has come for it, and has not touched all of it."""
    launches: LaunchSettings = LaunchSettings()
    """What happens before each start of a guest, where a hook asks."""
