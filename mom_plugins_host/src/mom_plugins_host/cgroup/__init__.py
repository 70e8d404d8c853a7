"""Control groups of guests for mom: limits and protection of memory."""

from mom_plugins_host.cgroup.plugin import CgroupPlugin as CgroupPlugin
