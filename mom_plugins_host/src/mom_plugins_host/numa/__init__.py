"""NUMA for mom: memory and CPUs of nodes and guests."""

from mom_plugins_numa.plugin import NumaPlugin as NumaPlugin
