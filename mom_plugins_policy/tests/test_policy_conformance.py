"""The plugin against the conformance kit."""

from mom_devkit import ConformanceTests
from mom_plugins_policy import PolicyPlugin


class TestConformance(ConformanceTests):
    plugin = PolicyPlugin
