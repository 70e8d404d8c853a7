"""The plugins against the conformance kit."""

from moving_hypervisor import MovingHypervisor

from mom_core import Hypervisor
from mom_devkit import ConformanceTests
from mom_plugins_sla import EvictionPlugin, SlaPlugin


class TestSlaConformance(ConformanceTests):
    plugin = SlaPlugin


class TestEvictionConformance(ConformanceTests):
    plugin = EvictionPlugin

    def hypervisor(self) -> Hypervisor:
        return MovingHypervisor()
