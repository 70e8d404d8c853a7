"""Thread that samples guests' nodes from the QEMU processes in /proc.

For each sample, the kernel walks all page tables of a guest, so the thread pauses to stay within its share of one CPU.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mom_core import Value
from mom_kvm import LookThread, ProcessStat, read_kernel_file
from mom_plugins_host.numa.nodes import remote_share, shares

MOST_MAPS = 64 << 20
"""Most bytes of numa_maps to read: ten times 100 bytes for each of 65,530 areas (vm.max_map_count)."""

_AREA = re.compile(rb"^[0-9a-f]{1,16} .*?( N[0-9]+=[0-9].*)$", re.MULTILINE)
_ON_NODE = re.compile(rb" N([0-9]{1,4})=([0-9]{1,15})")
_PAGE_SIZE = re.compile(rb" kernelpagesize_kB=([0-9]{1,8})")
_VCPU = re.compile(rb"CPU ([0-9]{1,4})/(?:KVM|TCG|HVF|HAX)\s*")


def parse_numa_maps(text: bytes) -> dict[int, int]:
    """Return the KiB on each node, from /proc/PID/numa_maps (numa(7))."""
    sizes: dict[int, int] = {}
    for area in _AREA.findall(text):
        page = _PAGE_SIZE.search(area)
        if page is not None:
            for node, count in _ON_NODE.findall(area):
                sizes[int(node)] = sizes.get(int(node), 0) + int(count) * int(page[1])
    return sizes


@dataclass(frozen=True, slots=True)
class Vcpu:
    """vCPU thread: its number, last CPU, and CPU time."""

    number: int
    cpu: int
    seconds: float


def vcpus_of(process: Path) -> list[Vcpu]:
    """Return the vCPU threads of a QEMU process, sorted by number; an empty list if QEMU does not name its threads."""
    vcpus: list[Vcpu] = []
    for thread in ProcessStat.ids(process / "task") or ():
        task = process / "task" / str(thread)
        name = _VCPU.fullmatch(read_kernel_file(task / "comm"))
        stat = ProcessStat.of(task) if name is not None else None
        if name is not None and stat is not None and stat.processor is not None:
            vcpus.append(Vcpu(int(name[1]), stat.processor, stat.cpu_seconds))
    return sorted(vcpus, key=lambda vcpu: vcpu.number)


_SMOOTHING = 0.5
"""Weight of a new sample against earlier samples: a single sample sees each vCPU on only one CPU."""

_NEVER = float("-inf")

_JOIN_SECONDS = 0.3

_IDLE_SECONDS = 1.0
"""Longest pause while no guest is due for a sample."""

_LEAST_CPU_SECONDS = 0.02
"""Two ticks of the kernel. With less CPU time, vCPUs count as idle."""


@dataclass(frozen=True, slots=True)
class GuestSample:
    """Nodes of a guest at the monotonic time `at`, and state for the next sample. `cpus`: share of vCPU time, keyed by node."""

    at: float
    started: int
    vcpus: Sequence[Vcpu]
    cpus: Mapping[int, float]
    fields: Mapping[str, Value]


def take_sample(process: Path, nodes_of: Mapping[int, int], before: GuestSample | None, now: float) -> GuestSample | None:
    """Return a sample of one process; None if the process has ended.

    :param process: folder in /proc
    :param nodes_of: node of each CPU
    """
    stat = ProcessStat.of(process)
    if stat is None:
        return None
    if before is not None and before.started != stat.started:  # another process with the same id
        before = None
    vcpus, memory = vcpus_of(process), parse_numa_maps(ProcessStat.read_file(process, "numa_maps", MOST_MAPS))
    cpus = _cpu_shares(vcpus, nodes_of, before)
    return GuestSample(now, stat.started, vcpus, cpus, _sample_fields(cpus, memory))


def _sample_fields(cpus: Mapping[int, float], memory: Mapping[int, int]) -> dict[str, Value]:
    fields: dict[str, Value] = {}
    if cpus:
        fields["numa_cpus"] = [{"node": node, "share": round(share, 4)} for node, share in sorted(cpus.items())]
    if memory:
        fields["numa_memory"] = [{"node": node, "size": size} for node, size in sorted(memory.items())]
        fields["numa_node"] = max(memory, key=lambda node: (memory[node], -node))
        remote = remote_share(memory, cpus)
        if remote is not None:
            fields["numa_remote"] = round(remote, 4)
    return fields


def _cpu_shares(vcpus: Sequence[Vcpu], nodes_of: Mapping[int, int], before: GuestSample | None) -> dict[int, float]:
    # If all vCPUs are idle, they count equally.
    earlier = {vcpu.number: vcpu.seconds for vcpu in before.vcpus} if before is not None else {}
    spent = {vcpu.number: max(0.0, vcpu.seconds - earlier[vcpu.number]) for vcpu in vcpus if vcpu.number in earlier}
    is_busy = sum(spent.values()) > _LEAST_CPU_SECONDS
    by_node: dict[int, float] = {}
    for vcpu in vcpus:
        node = nodes_of.get(vcpu.cpu)
        if node is not None:
            by_node[node] = by_node.get(node, 0.0) + (spent.get(vcpu.number, 0.0) if is_busy else 1.0)
    now = shares(by_node)
    if not now or before is None or not before.cpus:
        return now
    nodes = sorted(now.keys() | before.cpus.keys())
    return {node: _SMOOTHING * now.get(node, 0.0) + (1 - _SMOOTHING) * before.cpus.get(node, 0.0) for node in nodes}


@dataclass(slots=True, eq=False)
class _Turn:
    pid: int
    tried: float = _NEVER
    sample: GuestSample | None = None


class NodeSampler:
    """Sampler of all guests in turn. `root` contains /proc.

    :param every: shortest time between two samples of a guest, in seconds
    :param share: limit of the sampler's CPU time, as a share of one CPU
    """

    def __init__(self, root: Path, every: float, share: float, nodes_of: Callable[[], Mapping[int, int]], log: logging.Logger) -> None:
        self._proc = root / "proc"
        self._every = every
        self._nodes_of = nodes_of
        self._lock = threading.Lock()
        self._turns: dict[str, _Turn] = {}
        self._thread = LookThread("mom-numa", "sampling guests' nodes", self._look, log, share)

    def follow(self, pids: Mapping[str, int]) -> Mapping[str, GuestSample]:
        """Set the guests to sample: PIDs keyed by guest id. Return the last samples. Start the thread if needed."""
        with self._lock:
            before = self._turns
            self._turns = {guest: turn if (turn := before.get(guest)) and turn.pid == pid else _Turn(pid) for guest, pid in pids.items()}
            if pids:
                self._thread.start()  # if it fails, the next cycle tries again
            return {guest: turn.sample for guest, turn in self._turns.items() if turn.sample is not None}

    def end(self) -> None:
        """Stop sampling."""
        self._thread.stop(_JOIN_SECONDS)

    def _look(self) -> float:
        with self._lock:
            turn = min(self._turns.values(), key=lambda turn: turn.tried, default=None)
        seconds = _IDLE_SECONDS if turn is None else turn.tried + self._every - time.monotonic()
        if turn is None or seconds > 0:
            return min(seconds, _IDLE_SECONDS)  # a guest may start meanwhile
        turn.sample = take_sample(self._proc / str(turn.pid), self._nodes_of(), turn.sample, time.monotonic())
        turn.tried = time.monotonic()
        return 0.0
