"""The plugin against the conformance kit."""

from mom_devkit import ConformanceTests
from mom_plugins_guestagent import GuestAgentPlugin


class TestConformance(ConformanceTests):
    plugin = GuestAgentPlugin
