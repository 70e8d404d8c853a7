"""The plugin against the conformance kit."""

from mom_devkit import ConformanceTests
from mom_plugins_sim import SimPlugin


class TestConformance(ConformanceTests):
    plugin = SimPlugin
    settings = {"guests": 5}
