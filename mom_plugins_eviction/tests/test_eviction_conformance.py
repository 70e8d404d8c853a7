"""The plugin against the conformance kit."""

from mom_devkit import ConformanceTests
from mom_plugins_eviction import EvictionPlugin


class TestConformance(ConformanceTests):
    plugin = EvictionPlugin
