"""Plugin `numa`: memory and CPUs of nodes and guests."""

from mom_plugins_host.numa.plugin import NumaPlugin as NumaPlugin
