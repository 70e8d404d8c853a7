"""Conformance tests of the plugin."""

from mom_devkit import ConformanceTests
from mom_plugins_sim import SimPlugin


class TestConformance(ConformanceTests):
    plugin = SimPlugin
    settings = {"guests": 5}
