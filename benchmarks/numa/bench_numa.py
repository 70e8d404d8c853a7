"""What it costs to know where guests are on NUMA nodes.

    python benchmarks/numa/bench_numa.py [--guests 1000] [--gib 2] [--json]

collect    the fields of all guests in a cycle: what was seen last, and what the hypervisor has set
review     a decision on each guest
sample     one sample of a guest, on a host of files: threads, numa_maps of usual length
kernel     numa_maps of a real process with so much memory, in pages of 4 KiB and, where the kernel has them, of 2 MiB: the walk through its
           page tables, for each GiB
"""

from __future__ import annotations

import argparse
import ctypes
import json
import mmap
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from mom_core import Decision, PluginContext, Value
from mom_core.testing import snapshot
from mom_devkit import FakeGuest, FakeHypervisor, host_of
from mom_kvm import NO_PROMISES
from mom_plugins_host.numa import NumaPlugin
from mom_plugins_host.numa.process import Process
from mom_plugins_host.numa.review import reviewed
from mom_plugins_host.numa.sampler import take_sample

GIB = 1 << 20  # KiB
AREAS = 700
"""Lines in numa_maps of a QEMU process: libraries, stacks and heaps of some dozen threads, and the guest's memory."""


def process_files(pid: int, vcpus: int = 4) -> dict[str, str]:
    def stat(name: str) -> str:
        return f"{pid} ({name}) S " + " ".join(["1"] * 60) + "\n"

    lines = "".join(f"7f{index:010x} default anon=3 dirty=3 N0=2 N1=1 kernelpagesize_kB=4\n" for index in range(AREAS))
    files = {f"proc/{pid}/numa_maps": lines, f"proc/{pid}/stat": stat("qemu-system-x86")}
    for thread in range(12):
        name = f"CPU {thread}/KVM" if thread < vcpus else "worker"
        folder = f"proc/{pid}/task/{pid + thread}"
        files |= {f"{folder}/comm": name + "\n", f"{folder}/stat": stat(name), f"{folder}/status": "Cpus_allowed_list:\t0-31\n"}
    return files


def nodes_files() -> dict[str, str]:
    files = {}
    for node in (0, 1):
        folder = f"sys/devices/system/node/node{node}"
        files[f"{folder}/meminfo"] = f"Node {node} MemTotal: {512 * GIB} kB\nNode {node} MemFree: {256 * GIB} kB\n"
        files[f"{folder}/cpulist"] = f"{16 * node}-{16 * node + 15}\n"
        files[f"{folder}/distance"] = "10 21\n" if node == 0 else "21 10\n"
    return files


def milliseconds(function: Callable[[], object], rounds: int = 20) -> float:
    """The median of CPU time."""
    took = []
    for _ in range(rounds):
        began = time.process_time()
        function()
        took.append(1000 * (time.process_time() - began))
    return statistics.median(took)


def measure_cycle(count: int, folder: Path) -> dict[str, float]:
    root = host_of(folder, {**nodes_files(), **process_files(1000)})
    every = frozenset(range(32))
    guests = [FakeGuest(f"g{number:04d}", id=f"g{number:04d}", pins=[every] * 4, properties={"pid": 1000}) for number in range(count)]
    hypervisor = FakeHypervisor(guests)
    plugin = NumaPlugin(NumaPlugin.Settings.model_validate({"look_share": 1.0}), PluginContext(root=root, state_directory=folder / "state"))
    plugin.mom_collect_host()
    listed = hypervisor.guests()
    try:
        end = time.monotonic() + 300
        while sum("numa_memory" in fields for fields in plugin.mom_collect_guests(hypervisor, listed).values()) < count:
            if time.monotonic() > end:
                raise TimeoutError("not all guests were sampled")
            time.sleep(0.2)
        collect = milliseconds(lambda: plugin.mom_collect_guests(hypervisor, listed))
        collected = plugin.mom_collect_guests(hypervisor, listed)
        host = plugin.mom_collect_host()
    finally:
        plugin.mom_teardown()
    known: dict[str, Value] = {"balloon_cur": 4 * GIB, "numa_nodeset": "0-1"}
    snap = snapshot(host=dict(host), guests={name: {**fields, **known} for name, fields in collected.items()})
    decisions = [Decision(guest.entity, "numa_nodeset", "1") for guest in snap.guests.values()]
    return {
        "collect_ms": collect,
        "review_ms": milliseconds(lambda: list(reviewed(snap, decisions, NO_PROMISES))),
        "sample_ms": milliseconds(lambda: take_sample(Process(root / "proc/1000"), {cpu: cpu // 16 for cpu in range(32)}, None, 0.0)),
    }


def measure_kernel(gib: float) -> dict[str, float]:
    """On memory of this process itself: the walk is the same from outside."""
    size = int(gib * (1 << 30))
    found: dict[str, float] = {}
    for name, advice in (("4k", mmap.MADV_NOHUGEPAGE), ("2m", mmap.MADV_HUGEPAGE)):
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        memory.madvise(advice)
        first = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        ctypes.memset(first, 1, size)
        process = Process(Path("/proc/self"))
        found[f"kernel_{name}_ms_per_gib"] = milliseconds(process.memory, 5) / gib
        memory.madvise(mmap.MADV_DONTNEED)
    return found


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--guests", type=int, default=1000)
    parser.add_argument("--gib", type=float, default=2.0)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        found = {"guests": float(asked.guests), **measure_cycle(asked.guests, Path(folder)), **measure_kernel(asked.gib)}
    if asked.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:24} {value:10.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
