"""Names of the control, the fields and the properties that several files of the plugin use."""

from typing import Final

CONTROL: Final = "balloon_target"
"""Control: size that mom asks a guest for."""

PINNED: Final = "pinned"
"""Property of a guest: why the host gains nothing from shrinking it."""

SUGGESTED: Final = "balloon_suggested"
"""Field: size that the law suggests; unknown where a guest keeps its size."""

REASON: Final = "balloon_reason"
"""Field: code of the reason, as `law.ReasonCode`."""

SWEPT_NOW: Final = "sweep_under_way"
"""Field: 1 while the balloon of a guest inflates for a sweep."""

GAIN: Final = "sweep_gain"
"""Field: memory that the host gains by the suggested sweep."""

RESERVED: Final = "mem_reserved"
"""Host field: memory kept for launches. Policies read it."""

AHEAD: Final = "mem_rise_ahead"
"""Host field: memory made available for the expected growth of guests."""

RISE: Final = "host_rise_expected"
EXPECTED: Final = "mem_used_expected"
EXPECTED_SOON: Final = "mem_used_expected_soon"
RISES_IN: Final = "mem_rises_in"
WEIGHT: Final = "mem_expected_weight"
"""Fields of a plugin that learns guests' days: the expected growth of all guests; and of one guest its usual use at this time, its largest
use before long, the seconds until it uses more, and the weight of its forecast."""

STOPPED_BELOW: Final = "mem_evicts_below"
"""Host field: with less available, a platform such as Kubernetes stops guests. The watermarks are above it."""

GROUP_ROOM: Final = "host_limit_room"
"""Field: memory that a guest can still take within the limits of its control groups."""

LEAST: Final = "balloon_least"
"""Field: smallest size to which a guest's balloon can bring it; unknown where it reaches all of its memory."""

GIVE_BACK: Final = "give_back"
"""Field: why mom gives back the guest's memory and then keeps its size."""

KEPT: Final = "mem_kept_headroom"
"""Field: usable memory that a guest got when it ran out, for a minute."""

OBSTACLE: Final = "balloon_obstacle"
RESTS: Final = "balloon_rest"

START_REST: Final = "balloon_start_rest"
"""Field: seconds until a guest that was just started gives memory."""

STARTED: Final = "balloon_start"
"""Field: size at the start of a guest, where that was less than its maximum."""

UNHEALTHY: Final = "unhealthy"
KILLED: Final = "killed_lately"
SUFFERS: Final = "suffers"
"""Fields: why a guest is unhealthy, programs killed lately, and both in words."""
