"""The plugin against the conformance kit."""

from mom_devkit import ConformanceTests
from mom_plugins_forecast import ForecastPlugin


class TestConformance(ConformanceTests):
    plugin = ForecastPlugin
