"""The example against the conformance kit."""

from mom_devkit import ConformanceTests
from mom_example_swappiness import SwappinessPlugin


class TestConformance(ConformanceTests):
    plugin = SwappinessPlugin
    host = {"proc/sys/vm/swappiness": "60\n"}
