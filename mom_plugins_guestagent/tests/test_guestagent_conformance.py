"""Conformance tests of the plugin."""

from mom_devkit import ConformanceTests
from mom_plugins_guestagent import GuestAgentPlugin


class TestConformance(ConformanceTests):
    plugin = GuestAgentPlugin
