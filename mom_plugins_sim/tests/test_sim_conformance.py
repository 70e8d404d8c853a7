"""The plugin against the conformance kit."""

from mom_devkit import ConformanceTests
from mom_plugins_sim import SimPlugin
from mom_plugins_sim.recording.plugin import RecordPlugin


class TestConformance(ConformanceTests):
    plugin = SimPlugin
    settings = {"guests": 5}


class TestRecordConformance(ConformanceTests):
    plugin = RecordPlugin
