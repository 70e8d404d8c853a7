"""Names of the control, fields and guest properties; `fields.py` describes this plugin's fields."""

from typing import Final

CONTROL: Final = "balloon_target"

PINNED: Final = "pinned"
"""Guest property: why the host gains nothing from shrinking the guest."""

SUGGESTED: Final = "balloon_suggested"

REASON: Final = "balloon_reason"

SWEPT_NOW, REST, MISSED = "sweep_under_way", "sweep_rest", "sweep_missed"

GAIN: Final = "sweep_gain"

RESERVED: Final = "mem_reserved"
"""Host field: memory reserved for launches."""

AHEAD: Final = "mem_rise_ahead"

RISE: Final = "host_rise_expected"
EXPECTED: Final = "mem_used_expected"
EXPECTED_SOON: Final = "mem_used_expected_soon"
RISES_IN: Final = "mem_rises_in"
WEIGHT: Final = "mem_expected_weight"
"""Fields of a forecasting plugin. For all guests together: expected growth. For each guest: usual use, largest use soon, seconds until it
grows, and weight of the forecast."""

STOPPED_BELOW: Final = "mem_evicts_below"
"""Host field: available memory below which a platform such as Kubernetes evicts guests."""

GROUP_ROOM: Final = "host_limit_room"
"""Field: memory that a guest can still take within the limits of its control groups."""

REACH: Final = "balloon_least"
"""Field: smallest size that a guest's balloon can reach; unknown without a limit."""

GIVE_BACK: Final = "give_back"
"""Field: why mom returns the guest's memory and then keeps its size."""

SET_BY: Final = "balloon_set_by"
"""Field: policy line or plugin that set the last balloon target."""

OBSTACLE: Final = "balloon_obstacle"
RESTS: Final = "balloon_rest"

START_REST: Final = "balloon_start_rest"

STARTED: Final = "balloon_start"

UNHEALTHY: Final = "unhealthy"
KILLED: Final = "killed_lately"
SUFFERS: Final = "suffers"
