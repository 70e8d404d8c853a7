"""The plugin against the conformance kit."""

from mom_devkit import ConformanceTests
from mom_plugins_sla import SlaPlugin


class TestConformance(ConformanceTests):
    plugin = SlaPlugin
