"""Names of the control, fields and properties that several files use."""

from typing import Final

CONTROL: Final = "balloon_target"
"""Control: size that mom requests from a guest."""

PINNED: Final = "pinned"
"""Guest property: why the host gains nothing from shrinking the guest."""

SUGGESTED: Final = "balloon_suggested"
"""Field: size that the law suggests; unknown: the guest keeps its size."""

REASON: Final = "balloon_reason"
"""Field: code of the reason (`law.ReasonCode`)."""

SWEPT_NOW: Final = "sweep_under_way"
"""Field: 1 while the balloon inflates for a sweep."""

GAIN: Final = "sweep_gain"
"""Field: gain of the host from the suggested sweep."""

RESERVED: Final = "mem_reserved"
"""Host field: memory reserved for launches. Policies read it."""

AHEAD: Final = "mem_rise_ahead"
"""Host field: memory kept available for the expected growth of guests."""

RISE: Final = "host_rise_expected"
EXPECTED: Final = "mem_used_expected"
EXPECTED_SOON: Final = "mem_used_expected_soon"
RISES_IN: Final = "mem_rises_in"
WEIGHT: Final = "mem_expected_weight"
"""Fields of a forecasting plugin: expected growth of all guests; and of each guest its usual use, its largest use soon, the seconds until
it grows, and the weight of the forecast."""

STOPPED_BELOW: Final = "mem_evicts_below"
"""Host field: with less available, a platform such as Kubernetes evicts guests. The watermarks are above it."""

GROUP_ROOM: Final = "host_limit_room"
"""Field: memory that a guest can still take within the limits of its control groups."""

LEAST: Final = "balloon_least"
"""Field: smallest size that a guest's balloon can reach; unknown: any."""

GIVE_BACK: Final = "give_back"
"""Field: why mom returns the guest's memory and then keeps its size."""

KEPT: Final = "mem_kept_headroom"
"""Field: usable memory that a guest got when it ran out, for a minute."""

OBSTACLE: Final = "balloon_obstacle"
RESTS: Final = "balloon_rest"

START_REST: Final = "balloon_start_rest"
"""Field: seconds until a new guest gives memory."""

STARTED: Final = "balloon_start"
"""Field: size at the guest's start, if that was less than its maximum."""

UNHEALTHY: Final = "unhealthy"
KILLED: Final = "killed_lately"
SUFFERS: Final = "suffers"
"""Fields: why a guest is unhealthy, programs killed recently, and both in words."""
