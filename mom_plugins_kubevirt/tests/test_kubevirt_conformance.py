"""The plugin against the conformance kit."""

from mom_devkit import ConformanceTests
from mom_plugins_kubevirt import KubevirtPlugin


class TestConformance(ConformanceTests):
    plugin = KubevirtPlugin
