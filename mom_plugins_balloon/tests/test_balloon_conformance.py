"""The plugin against the conformance kit."""

from mom_core.testing import ConformanceTests
from mom_plugins_balloon import BalloonPlugin


class TestConformance(ConformanceTests):
    plugin = BalloonPlugin
