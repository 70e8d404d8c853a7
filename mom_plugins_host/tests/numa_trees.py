"""Hosts of files with NUMA nodes and QEMU processes, in the kernel's formats."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mom_devkit import host_of

GIB = 1 << 20
"""KiB."""

_MEMINFO = """Node {node} MemTotal:       {total} kB
Node {node} MemFree:        {free} kB
Node {node} MemUsed:         {used} kB
Node {node} Active(anon):     588120 kB
Node {node} Active(file):   {active} kB
Node {node} Inactive(file): {inactive} kB
Node {node} HugePages_Total:     0
"""


def nodes_tree(
    count: int = 2, *, total: int = 64 * GIB, free: Sequence[int] | None = None, cpus: int = 4, cache: int = 0
) -> dict[str, str]:
    """Return files of nodes. Sizes in KiB; `cpus` is the number on each node."""
    files = {"sys/devices/system/node/online": f"0-{count - 1}\n", "proc/sys/kernel/numa_balancing": "0\n"}
    for node in range(count):
        here = total // 2 if free is None else free[node]
        folder = f"sys/devices/system/node/node{node}"
        files[f"{folder}/meminfo"] = _MEMINFO.format(
            node=node, total=total, free=here, used=total - here, active=cache // 2, inactive=cache - cache // 2
        )
        files[f"{folder}/cpulist"] = f"{node * cpus}-{(node + 1) * cpus - 1}\n"
        files[f"{folder}/distance"] = " ".join("10" if other == node else "21" for other in range(count)) + "\n"
    return files


def stat_line(pid: int, name: str, ticks: int, cpu: int, started: int = 4711) -> str:
    """Return a line of /proc/PID/stat."""
    words = ["S", "1", *["0"] * 9, str(ticks), "0", *["0"] * 6, str(started), *["0"] * 16, str(cpu), *["0"] * 13]
    return f"{pid} ({name}) " + " ".join(words) + "\n"


def process_tree(
    pid: int, memory: Mapping[int, int], vcpus: Sequence[tuple[int, int]] = (), *, started: int = 4711, start: int = 0x7F0000000000
) -> dict[str, str]:
    """Return the files of a QEMU process.

    :param memory: pages of 4 KiB on each node, in one area
    :param vcpus: last CPU, allowed CPUs and clock ticks of each vCPU
    """
    folder = f"proc/{pid}"
    pages = " ".join(f"N{node}={count}" for node, count in memory.items() if count)
    files = {
        f"{folder}/stat": stat_line(pid, "qemu-system-x86", 0, 0, started),
        f"{folder}/numa_maps": "5651410b9000 default file=/usr/bin/qemu-system-x86_64\n"
        f"{start:x} default anon={sum(memory.values())} dirty=9 {pages} kernelpagesize_kB=4\n"
        "7ffd90000000 default stack anon=1 dirty=1 N1=1 kernelpagesize_kB=4\n",
        f"{folder}/task/{pid}/comm": "qemu-system-x86\n",
        f"{folder}/task/{pid}/stat": stat_line(pid, "qemu-system-x86", 5, 0, started),
    }
    for vcpu, (cpu, ticks) in enumerate(vcpus):
        task = f"{folder}/task/{pid + 1 + vcpu}"
        files[f"{task}/comm"] = f"CPU {vcpu}/KVM\n"
        files[f"{task}/stat"] = stat_line(pid + 1 + vcpu, f"CPU {vcpu}/KVM", ticks, cpu, started)
    return files


def tree(folder: Path, *files: Mapping[str, str]) -> Path:
    """Write a host with all these files."""
    return host_of(folder, {name: text for some in files for name, text in some.items()})
