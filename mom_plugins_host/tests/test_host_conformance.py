"""The plugin against the conformance kit."""

from mom_devkit import ConformanceTests
from mom_plugins_host.host import HostPlugin


class TestConformance(ConformanceTests):
    plugin = HostPlugin
