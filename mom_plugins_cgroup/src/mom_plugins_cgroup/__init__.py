"""Control groups of guests for mom: fields, limits, proactive reclaim."""

from mom_plugins_cgroup.plugin import CgroupPlugin

__all__ = ["CgroupPlugin"]
__version__ = "0.1.0"
