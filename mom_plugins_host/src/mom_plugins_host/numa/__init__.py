"""Plugin `numa`: NUMA nodes of the host and its guests."""

from mom_plugins_host.numa.plugin import NumaPlugin as NumaPlugin
