"""The plugin against the conformance kit, on a host of files with two nodes."""

from numa_trees import nodes_tree, process_tree

from mom_core import Hypervisor
from mom_devkit import ConformanceTests, FakeGuest, FakeHypervisor
from mom_kvm import NodeTune
from mom_plugins_host.numa import NumaPlugin


class TestConformance(ConformanceTests):
    plugin = NumaPlugin
    host = {**nodes_tree(), **{name: text for pid in (1000, 2000) for name, text in process_tree(pid, {0: 50, 1: 50}).items()}}
    values = {"vcpu_pins": ("0-3", "4-5;6-7"), "numa_nodeset": ("1", "0")}

    def hypervisor(self) -> Hypervisor:
        """Guests that are processes of the host of files."""
        pins = [frozenset(range(8)), frozenset(range(8))]
        nodes = NodeTune("strict", frozenset({0, 1}))
        return FakeHypervisor([FakeGuest(f"vm{pid}", pins=list(pins), nodes=nodes, properties={"pid": pid}) for pid in (1000, 2000)])
