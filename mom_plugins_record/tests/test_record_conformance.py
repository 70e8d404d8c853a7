"""The plugin against the conformance kit."""

from mom_devkit import ConformanceTests
from mom_plugins_record import RecordPlugin


class TestConformance(ConformanceTests):
    plugin = RecordPlugin
