"""Plugin `cgroup`: memory limits and protection of guests' control groups."""

from mom_plugins_host.cgroup.plugin import CgroupPlugin as CgroupPlugin
