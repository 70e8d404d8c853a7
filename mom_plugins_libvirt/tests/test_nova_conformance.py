"""The plugin against the conformance kit."""

from mom_devkit import ConformanceTests
from mom_plugins_libvirt import NovaPlugin


class TestConformance(ConformanceTests):
    plugin = NovaPlugin
