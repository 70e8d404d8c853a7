"""The plugin against the conformance kit."""

from mom_devkit import ConformanceTests
from mom_plugins_vdsm import VdsmPlugin


class TestConformance(ConformanceTests):
    plugin = VdsmPlugin
