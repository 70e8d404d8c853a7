"""The plugin against the conformance kit."""

from mom_core.hypervisor import Hypervisor
from mom_devkit import ConformanceTests, FakeGuest, FakeHypervisor
from mom_plugins_cgroup import CgroupPlugin

SCOPE = "/machine.slice/machine-qemu.scope"
FOLDER = f"sys/fs/cgroup{SCOPE}"
GROUP = {
    "cgroup.controllers": "cpu io memory\n",
    "memory.current": "1073741824\n",
    "memory.stat": "anon 1073741824\nfile 0\nshmem 0\nworkingset_refault_anon 0\nworkingset_refault_file 0\n",
    "memory.swap.current": "0\n",
    "memory.pressure": "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
    "memory.high": "max\n",
    "memory.low": "0\n",
    "memory.min": "0\n",
    "memory.swap.max": "max\n",
    "memory.reclaim": "",
    "cpu.weight": "100\n",
    "io.max": "",
    "io.latency": "",
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
        "cgroup_cpu_weight": (50.0, 200.0),
        "cgroup_io_max": (
            [{"device": "8:0", "rbps": 1 << 20, "wbps": -1, "riops": -1, "wiops": -1}],
            [{"device": "8:0", "rbps": 2 << 20, "wbps": -1, "riops": 9, "wiops": -1}],
        ),
        "cgroup_io_latency": ([{"device": "8:0", "target": 5000}], [{"device": "8:0", "target": 9000}]),
        "cgroup_reclaim": (1000, 2000),
    }

    def hypervisor(self) -> Hypervisor:
        return FakeHypervisor([FakeGuest("vm1", properties={"cgroups": {"": SCOPE}})])
