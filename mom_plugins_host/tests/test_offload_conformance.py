"""The plugin against the conformance kit: guests of a host of files, and those of a hypervisor that moves their memory itself."""

import pytest
from offload_hosts import SCOPE, V2_MOUNT, ZRAM, MovingHypervisor, process

from mom_core import Hypervisor
from mom_devkit import ConformanceTests, FakeGuest, FakeHypervisor
from mom_plugins_host.offload import OffloadPlugin


@pytest.mark.processes  # its worker
class TestConformance(ConformanceTests):
    plugin = OffloadPlugin
    host = {
        **ZRAM,
        **process(1000),
        "proc/self/mountinfo": V2_MOUNT,
        f"sys/fs/cgroup{SCOPE}/memory.reclaim": "",
        f"sys/fs/cgroup{SCOPE}/memory.current": "1073741824\n",
        f"sys/fs/cgroup{SCOPE}/memory.stat": "anon 1073741824\npgmajfault 5\n",
    }
    values = {"offload": (1000, 2000)}

    def hypervisor(self) -> Hypervisor:
        """A guest in a group of cgroups v2."""
        return FakeHypervisor([FakeGuest("vm1", properties={"pid": 1000, "cgroups": {"": SCOPE}})])


class TestConformanceWithAHypervisorThatMovesMemoryItself(ConformanceTests):
    plugin = OffloadPlugin
    host = ZRAM
    values = {"offload": (1000, -2000)}
    settings = {"ahead": True}

    def hypervisor(self) -> Hypervisor:
        """One that is asked for all of it."""
        return MovingHypervisor([FakeGuest("vm1"), FakeGuest("vm2")])
