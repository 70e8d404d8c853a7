"""Conformance tests of the plugin."""

from mom_devkit import ConformanceTests
from mom_plugins_kubevirt import KubevirtPlugin


class TestConformance(ConformanceTests):
    plugin = KubevirtPlugin
