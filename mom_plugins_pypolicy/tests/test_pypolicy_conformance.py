"""The plugin against the conformance kit."""

from mom_devkit import ConformanceTests
from mom_plugins_pypolicy import PypolicyPlugin


class TestConformance(ConformanceTests):
    plugin = PypolicyPlugin
