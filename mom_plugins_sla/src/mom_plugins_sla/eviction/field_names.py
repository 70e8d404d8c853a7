"""Names of guests' fields for evictions."""

from __future__ import annotations

from enum import StrEnum


class EvictionField(StrEnum):
    """Fields that say how a guest may leave its host."""

    MAY_MIGRATE = "may_migrate"  #: 1: may be moved to another host
    MAY_SAVE = "may_save"  #: 1: may be saved to disk
    MAY_PAUSE = "may_pause"  #: 1: may be paused
    MAY_POWER_OFF = "may_power_off"  #: 1: may be shut down
    WARNING = "leave_warning"  #: seconds between announcement and step
    COMES_BACK = "comes_back"  #: 0: does not return when the host has memory again
    ANSWERS = "mem_guarantee_share"  #: each guest has it if the plugin for classes works; the value may be unknown
    CLASS = "sla_class"
    PRIORITY = "priority"  #: 0 to 100; the lowest leaves first
    COST = "reclaim_cost"  #: within a priority, the cheapest guest leaves first
