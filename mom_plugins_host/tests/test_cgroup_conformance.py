"""The plugin against the conformance kit."""

from mom_core.hypervisor import Hypervisor
from mom_devkit import ConformanceTests, FakeGuest, FakeHypervisor
from mom_plugins_host.cgroup import CgroupPlugin

SCOPE = "/machine.slice/machine-qemu.scope"
FOLDER = f"sys/fs/cgroup{SCOPE}"
GROUP = {
    "cgroup.controllers": "cpu io memory\n",
    "memory.current": "1073741824\n",
    "memory.stat": "anon 1073741824\nfile 0\nshmem 0\n",
    "memory.swap.current": "0\n",
    "memory.pressure": "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
    "memory.high": "max\n",
    "memory.low": "0\n",
    "memory.min": "0\n",
    "memory.swap.max": "max\n",
}


class TestConformance(ConformanceTests):
    plugin = CgroupPlugin
    host = {
        "proc/self/mountinfo": "31 24 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
        "proc/meminfo": "MemTotal: 16777216 kB\nSwapFree: 8388608 kB\n",
        **{f"{FOLDER}/{name}": text for name, text in GROUP.items()},
    }
    values = {
        "cgroup_memory_high": (1200 << 10, 1100 << 10),
        "cgroup_memory_low": (300 << 10, 500 << 10),
        "cgroup_memory_min": (200 << 10, 400 << 10),
        "cgroup_swap_max": (100 << 10, 200 << 10),
    }

    def hypervisor(self) -> Hypervisor:
        return FakeHypervisor([FakeGuest("vm1", properties={"cgroups": {"": SCOPE}})])
