"""The plugin against the conformance kit."""

from mom_devkit import ConformanceTests
from mom_plugins_libvirt import LibvirtPlugin


class TestConformance(ConformanceTests):
    plugin = LibvirtPlugin
    settings = {"uri": "test:///default"}
    may_touch = True
