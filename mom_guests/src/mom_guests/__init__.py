"""What every hypervisor of QEMU guests needs, however it reaches them. A library for plugins, and no plugin itself.

Their fields; what is believed of what guests say; what the host sees of their processes; the watch for those in need.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_WHERE = {
    "columns": ("COLUMNS",),
    "disk_limits": ("DISK_LIMITS", "wanted_limits"),
    "fields": ("PERIOD", "guest_fields", "host_fields"),
    "guest_cgroup": ("Cgroups", "CpuCounters", "cgroups_of"),
    "host_side": ("HostSide",),
    "plugin_of_guests": ("PluginOfGuests", "ReportingGuests"),
    "qemu_process": ("Merged", "merged", "swapped_kib", "times_of"),
    "reporting": ("why_silent",),
    "resizes": ("Resizes",),
    "statistics": ("Reading", "Record", "convert", "possible_maximum"),
    "watch": ("BalloonStatistics", "GuestWatch", "Memory", "Statistics", "usable_soon", "why_wake"),
}
_MODULE_OF = {name: module for module, names in _WHERE.items() for name in names}

if TYPE_CHECKING:
    from mom_guests.columns import COLUMNS as COLUMNS
    from mom_guests.disk_limits import DISK_LIMITS as DISK_LIMITS
    from mom_guests.disk_limits import wanted_limits as wanted_limits
    from mom_guests.fields import PERIOD as PERIOD
    from mom_guests.fields import guest_fields as guest_fields
    from mom_guests.fields import host_fields as host_fields
    from mom_guests.guest_cgroup import Cgroups as Cgroups
    from mom_guests.guest_cgroup import CpuCounters as CpuCounters
    from mom_guests.guest_cgroup import cgroups_of as cgroups_of
    from mom_guests.host_side import HostSide as HostSide
    from mom_guests.plugin_of_guests import PluginOfGuests as PluginOfGuests
    from mom_guests.plugin_of_guests import ReportingGuests as ReportingGuests
    from mom_guests.qemu_process import Merged as Merged
    from mom_guests.qemu_process import merged as merged
    from mom_guests.qemu_process import swapped_kib as swapped_kib
    from mom_guests.qemu_process import times_of as times_of
    from mom_guests.reporting import why_silent as why_silent
    from mom_guests.resizes import Resizes as Resizes
    from mom_guests.statistics import Reading as Reading
    from mom_guests.statistics import Record as Record
    from mom_guests.statistics import convert as convert
    from mom_guests.statistics import possible_maximum as possible_maximum
    from mom_guests.watch import BalloonStatistics as BalloonStatistics
    from mom_guests.watch import GuestWatch as GuestWatch
    from mom_guests.watch import Memory as Memory
    from mom_guests.watch import Statistics as Statistics
    from mom_guests.watch import usable_soon as usable_soon
    from mom_guests.watch import why_wake as why_wake


def __getattr__(name: str) -> object:
    """Imported when first used: commands that only list plugins are to be fast."""
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'mom_guests' has no attribute {name!r}")
    return getattr(import_module(f"mom_guests.{module}"), name)
