"""Conformance tests of the plugins, on hosts of files."""

import pytest
from numa_trees import nodes_tree, process_tree
from offload_hosts import SCOPE, V2_MOUNT, ZRAM, MovingHypervisor, process

from mom_core import Hypervisor
from mom_devkit import ConformanceTests, FakeGuest, FakeHypervisor
from mom_kvm import NodeTune
from mom_plugins_host.cgroup import CgroupPlugin
from mom_plugins_host.host import HostPlugin
from mom_plugins_host.numa import NumaPlugin
from mom_plugins_host.offload import OffloadPlugin
from mom_plugins_host.oom import OomPlugin
from mom_plugins_host.qos import QosPlugin

GROUP = f"sys/fs/cgroup{SCOPE}"


class TestHost(ConformanceTests):
    plugin = HostPlugin


class TestQos(ConformanceTests):
    plugin = QosPlugin
    values = {
        "vcpu_quota": (50_000, 70_000),
        "vcpu_period": (50_000, 200_000),
        "cpu_shares": (512, 2048),
        "io_tune": ([{"name": "vda", "total_bytes_sec": 1 << 20}], [{"name": "vda", "total_bytes_sec": 2 << 20}]),
        "net_tune": ([{"name": "vnet0", "inbound": {"average": 100}}], [{"name": "vnet0", "inbound": {"average": 200}}]),
    }


class TestNuma(ConformanceTests):
    plugin = NumaPlugin
    host = {**nodes_tree(), **{name: text for pid in (1000, 2000) for name, text in process_tree(pid, {0: 50, 1: 50}).items()}}
    values = {"vcpu_pins": ("0-3", "4-5;6-7"), "numa_nodeset": ("1", "0")}

    def hypervisor(self) -> Hypervisor:
        pins = [frozenset(range(8)), frozenset(range(8))]
        nodes = NodeTune("strict", frozenset({0, 1}))
        return FakeHypervisor([FakeGuest(f"vm{pid}", pins=list(pins), nodes=nodes, properties={"pid": pid}) for pid in (1000, 2000)])


class TestCgroup(ConformanceTests):
    plugin = CgroupPlugin
    host = {
        "proc/self/mountinfo": V2_MOUNT,
        "proc/meminfo": "MemTotal: 16777216 kB\nSwapFree: 8388608 kB\n",
        f"{GROUP}/memory.current": "1073741824\n",
        f"{GROUP}/memory.stat": "anon 1073741824\nfile 0\nshmem 0\n",
        f"{GROUP}/memory.swap.current": "0\n",
        f"{GROUP}/memory.high": "max\n",
        f"{GROUP}/memory.low": "0\n",
        f"{GROUP}/memory.min": "0\n",
        f"{GROUP}/memory.swap.max": "max\n",
    }
    values = {
        "cgroup_memory_high": (1200 << 10, 1100 << 10),
        "cgroup_memory_low": (300 << 10, 500 << 10),
        "cgroup_memory_min": (200 << 10, 400 << 10),
        "cgroup_swap_max": (100 << 10, 200 << 10),
        "memory_credit": (1, 0),
    }

    def hypervisor(self) -> Hypervisor:
        return FakeHypervisor([FakeGuest("vm1", properties={"cgroups": {"": SCOPE}})])


class TestOom(ConformanceTests):
    plugin = OomPlugin
    host = {f"proc/{pid}/oom_score_adj": "0\n" for pid in (1000, 2000)}
    values = {"oom_score_adj": (500, 1000)}

    def hypervisor(self) -> Hypervisor:
        return FakeHypervisor([FakeGuest(f"vm{pid}", properties={"pid": pid}) for pid in (1000, 2000)])


@pytest.mark.processes  # starts a worker
class TestOffload(ConformanceTests):
    plugin = OffloadPlugin
    host = {
        **ZRAM,
        **process(1000),
        "proc/self/mountinfo": V2_MOUNT,
        f"{GROUP}/memory.reclaim": "",
        f"{GROUP}/memory.current": "1073741824\n",
        f"{GROUP}/memory.stat": "anon 1073741824\npgmajfault 5\n",
    }
    values = {"offload": (1000, 2000)}

    def hypervisor(self) -> Hypervisor:
        return FakeHypervisor([FakeGuest("vm1", properties={"pid": 1000, "cgroups": {"": SCOPE}})])


class TestOffloadByTheHypervisor(ConformanceTests):
    plugin = OffloadPlugin
    host = ZRAM
    values = {"offload": (1000, -2000)}
    settings = {"ahead": True}

    def hypervisor(self) -> Hypervisor:
        return MovingHypervisor([FakeGuest("vm1"), FakeGuest("vm2")])
