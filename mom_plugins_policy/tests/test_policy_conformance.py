"""The plugin against the conformance kit."""

from mom_core.testing import ConformanceTests
from mom_plugins_policy import PolicyPlugin


class TestConformance(ConformanceTests):
    plugin = PolicyPlugin
