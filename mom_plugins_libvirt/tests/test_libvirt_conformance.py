"""Conformance tests of the plugins."""

from mom_devkit import ConformanceTests
from mom_plugins_libvirt import LibvirtPlugin, NovaPlugin


class TestNovaConformance(ConformanceTests):
    plugin = NovaPlugin


class TestLibvirtConformance(ConformanceTests):
    plugin = LibvirtPlugin
    settings = {"uri": "test:///default"}
    may_touch = True
