"""Conformance tests of the plugin."""

from mom_devkit import ConformanceTests
from mom_plugins_balloon import BalloonPlugin


class TestConformance(ConformanceTests):
    plugin = BalloonPlugin
