"""Conformance tests of the plugins."""

from mom_devkit import ConformanceTests
from mom_plugins_record import ForecastPlugin, RecordPlugin


class TestRecordConformance(ConformanceTests):
    plugin = RecordPlugin


class TestForecastConformance(ConformanceTests):
    plugin = ForecastPlugin
