"""The names of the law's fields."""

from typing import Final

CONTROL: Final = "balloon_target"
"""Control: the size that mom asks a guest for."""

PINNED: Final = "pinned"
"""Property of a guest: why the host gains nothing from shrinking it."""

SUGGESTED: Final = "balloon_suggested"
"""The field with the size that the law suggests; unknown where a guest keeps what it has."""

REASON: Final = "balloon_reason"
"""The field with the code of the reason, as `law.ReasonCode`."""

SWEPT_NOW: Final = "sweep_under_way"
"""The field that is 1 while the balloon of a guest that is swept takes memory."""

GAIN: Final = "sweep_gain"
"""The field with what the host is to get by the sweep that the law suggests."""

RESERVED: Final = "mem_reserved"
"""The host field with what is kept for launches, that policies read."""

AHEAD: Final = "mem_rise_ahead"
"""The host field with what guests are expected to take before long and do not hold already, as far as it is made available before then."""

RISE: Final = "host_rise_expected"
EXPECTED: Final = "mem_used_expected"
EXPECTED_SOON: Final = "mem_used_expected_soon"
RISES_IN: Final = "mem_rises_in"
WEIGHT: Final = "mem_expected_weight"
"""Fields of whoever learns guests' days: what they are expected to use more together before long; and of a guest, what it usually uses at
this time, the most that it will use before long, in how many seconds it begins to use more, and how much all that counts."""

STOPPED_BELOW: Final = "mem_evicts_below"
"""The host field with what a platform, such as Kubernetes, stops guests below: the watermarks are above it."""

GROUP_ROOM: Final = "host_limit_room"
"""The field of a guest with what the memory limits of its control groups still leave it."""

LEAST: Final = "balloon_least"
"""The field of a guest with what its balloon can bring it to at least; unknown where that reaches all of its memory."""

GIVE_BACK: Final = "give_back"
"""The field of a guest that says why mom is to give back what it took, and to leave the guest as it is until that is over."""

KEPT: Final = "mem_kept_headroom"
"""Field: usable memory that a guest got when it ran out, for a minute."""

OBSTACLE: Final = "balloon_obstacle"
RESTS: Final = "balloon_rest"

START_REST: Final = "balloon_start_rest"
"""The field with how long a guest that was just started gives nothing."""

STARTED: Final = "balloon_start"
"""The field with what a guest was started with, where that was less than it could have."""
