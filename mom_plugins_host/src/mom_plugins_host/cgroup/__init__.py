"""Plugin `cgroup`."""

from mom_plugins_host.cgroup.plugin import CgroupPlugin as CgroupPlugin
