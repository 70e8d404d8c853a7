"""The plugin against the conformance kit."""

from mom_devkit import ConformanceTests
from mom_plugins_sla.leaving import LeavingPlugin


class TestConformance(ConformanceTests):
    plugin = LeavingPlugin
