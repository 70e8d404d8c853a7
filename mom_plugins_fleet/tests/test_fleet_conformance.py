"""Conformance tests of the plugin."""

from mom_devkit import ConformanceTests
from mom_plugins_fleet import FleetPlugin


class TestConformance(ConformanceTests):
    plugin = FleetPlugin
    settings = {"servers": ["nats://localhost:1"], "host": "h1"}
