"""Control groups of guests for mom: limits and protection of memory."""

from mom_plugins_cgroup.plugin import CgroupPlugin

__all__ = ["CgroupPlugin"]
__version__ = "0.1.0"
