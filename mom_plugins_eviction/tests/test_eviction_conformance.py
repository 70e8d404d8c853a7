"""The plugin against the conformance kit."""

from moving_hypervisor import MovingHypervisor

from mom_core import Hypervisor
from mom_devkit import ConformanceTests
from mom_plugins_eviction import EvictionPlugin


class TestConformance(ConformanceTests):
    plugin = EvictionPlugin

    def hypervisor(self) -> Hypervisor:
        return MovingHypervisor()
