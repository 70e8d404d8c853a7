"""The names of fields and of the control."""

from __future__ import annotations

from typing import Final

OFFLOAD: Final = "offload"
STATE: Final = "offload_state"
OFFLOADED: Final = "offloaded"
RETURNS: Final = "offload_returns"
WORKING_SET: Final = "working_set"
WORKING_SET_AGE: Final = "working_set_age"
COLD: Final = "cold"

ROOM: Final = "offload_room"
RATIO: Final = "offload_ratio"
NET: Final = "offload_net"
WRITTEN: Final = "offload_written"
ALL_COLD: Final = "offload_cold"
CPU: Final = "offload_cpu_usage"
