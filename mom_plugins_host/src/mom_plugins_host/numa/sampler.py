"""A guest's QEMU process as the kernel shows it: on which nodes its memory is, and where its vCPUs run.

Reads where guests' processes are, one after the other, in a thread of its own: the kernel walks all page tables to say where memory is.

A sample of a guest costs CPU time by its memory, so the thread is bounded: after each sample it rests until no more than the given share of
one CPU was used. A sample stands until the guest's next turn, with its age."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mom_core import Value
from mom_kvm import ProcessStat, open_process_file, parse_number_list, read_kernel_file
from mom_plugins_host.numa.nodes import format_list, remote_share, shares

MOST_MAPS = 64 << 20
"""Bytes of numa_maps that are read at most: 100 bytes for each of 65,530 areas (vm.max_map_count), tenfold."""

_AREA = re.compile(rb"^[0-9a-f]{1,16} .*?( N[0-9]+=[0-9].*)$", re.MULTILINE)
_ON_NODE = re.compile(rb" N([0-9]{1,4})=([0-9]{1,15})")
_PAGE_SIZE = re.compile(rb" kernelpagesize_kB=([0-9]{1,8})")
_VCPU = re.compile(rb"CPU ([0-9]{1,4})/(?:KVM|TCG|HVF|HAX)\s*")
_ALLOWED = re.compile(rb"^Cpus_allowed_list:\s*([0-9,-]+)$", re.MULTILINE)


def parse_numa_maps(text: bytes) -> dict[int, int]:
    """KiB of a process on each node, from /proc/PID/numa_maps (numa(7)). Lines that are not understood are left out."""
    sizes: dict[int, int] = {}
    for area in _AREA.findall(text):
        page = _PAGE_SIZE.search(area)
        if page is not None:
            for node, count in _ON_NODE.findall(area):
                sizes[int(node)] = sizes.get(int(node), 0) + int(count) * int(page[1])
    return sizes


@dataclass(frozen=True, slots=True)
class Vcpu:
    """A vCPU's thread: its number, the CPU on which it ran last, those on which it may run, and the CPU time that it has used."""

    number: int
    cpu: int
    allowed: frozenset[int]
    seconds: float


@dataclass(frozen=True, slots=True)
class Process:
    """One process, by its folder in /proc."""

    folder: Path

    def memory(self) -> dict[int, int]:
        """Its KiB on each node; nothing where that may not be read. The kernel walks all of its page tables for it."""
        try:
            with os.fdopen(open_process_file(self.folder, "numa_maps"), "rb") as file:
                return parse_numa_maps(file.read(MOST_MAPS))
        except OSError:
            return {}

    def vcpus(self) -> list[Vcpu]:
        """The threads of its vCPUs, by number. libvirt has QEMU name its threads; without names, there are none here."""
        return sorted(self._vcpus(), key=lambda vcpu: vcpu.number)

    def _vcpus(self) -> Iterator[Vcpu]:
        try:
            threads = os.listdir(self.folder / "task")  # noqa: PTH208  # names only, of which there may be hundreds
        except OSError:
            return
        for thread in threads:
            task = self.folder / "task" / thread
            named = _VCPU.fullmatch(read_kernel_file(task / "comm"))
            if named is None:
                continue
            stat = ProcessStat.of(task)
            allowed = _ALLOWED.search(read_kernel_file(task / "status"))
            if stat is not None and stat.processor is not None and allowed is not None:
                yield Vcpu(int(named[1]), stat.processor, parse_number_list(allowed[1].decode()) or frozenset(), stat.cpu_seconds)


_SMOOTHING = 0.5
"""How much a new sample counts for where CPU time is spent: a vCPU is seen on one CPU at one moment, a few samples make an average."""

_NEVER = float("-inf")

_JOIN_SECONDS = 0.3
"""How long the end waits for a sample that has begun. It ends by itself, and is of a daemon thread."""

_LEAST_CPU_SECONDS = 0.02
"""Less CPU time than this, two of the kernel's ticks, says nothing about where a guest works."""


@dataclass(frozen=True, slots=True)
class GuestSample:
    """Where a guest was `at` that time (monotonic seconds): the `fields` about it without their age, and what the next sample goes on from.

    `cpus` is the share of the vCPUs' time by node.
    """

    at: float
    started: int
    vcpus: Sequence[Vcpu]
    cpus: Mapping[int, float]
    fields: Mapping[str, Value]


def take_sample(process: Process, nodes_of: Mapping[int, int], before: GuestSample | None, now: float) -> GuestSample | None:
    """Read one process; None when it is not there.

    :param nodes_of: on which node each CPU is
    :param before: the sample before this one
    """
    stat = ProcessStat.of(process.folder)
    if stat is None:
        return None
    if before is not None and before.started != stat.started:  # another process with that number
        before = None
    vcpus = process.vcpus()
    cpus = _cpu_shares(vcpus, nodes_of, before)
    return GuestSample(now, stat.started, vcpus, cpus, _sample_fields(vcpus, cpus, process.memory(), nodes_of))


def _sample_fields(
    vcpus: Sequence[Vcpu], cpus: Mapping[int, float], memory: Mapping[int, int], nodes_of: Mapping[int, int]
) -> dict[str, Value]:
    fields: dict[str, Value] = {}
    if vcpus:
        fields["numa_vcpus"] = [
            {
                "vcpu": vcpu.number,
                "cpu": vcpu.cpu,
                "node": nodes_of.get(vcpu.cpu),
                "cpus": format_list(vcpu.allowed),
                "nodes": format_list({nodes_of[cpu] for cpu in vcpu.allowed if cpu in nodes_of}),
            }
            for vcpu in vcpus
        ]
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
    """Where CPU time was spent since the sample before; each vCPU counts alike where there was hardly any."""
    earlier = {vcpu.number: vcpu.seconds for vcpu in before.vcpus} if before is not None else {}
    spent = {vcpu.number: max(0.0, vcpu.seconds - earlier[vcpu.number]) for vcpu in vcpus if vcpu.number in earlier}
    says = sum(spent.values()) > _LEAST_CPU_SECONDS
    by_node: dict[int, float] = {}
    for vcpu in vcpus:
        node = nodes_of.get(vcpu.cpu)
        if node is not None:
            by_node[node] = by_node.get(node, 0.0) + (spent.get(vcpu.number, 0.0) if says else 1.0)
    now = shares(by_node)
    if not now or before is None or not before.cpus:
        return now
    nodes = sorted(now.keys() | before.cpus.keys())
    return {node: _SMOOTHING * now.get(node, 0.0) + (1 - _SMOOTHING) * before.cpus.get(node, 0.0) for node in nodes}


class NodeSampler:
    """Samples the guests that it was told of in turn, until it is ended.

    :param root: where /proc is found
    :param every: seconds from one sample of a guest to the next, at least
    :param share: of one CPU, that this may use
    :param nodes_of: gives on which node each CPU is
    """

    def __init__(self, root: Path, every: float, share: float, nodes_of: Callable[[], Mapping[int, int]]) -> None:
        self._proc = root / "proc"
        self._every = every
        self._rest_for_each_second = 1 / share - 1
        self._nodes_of = nodes_of
        self._changed = threading.Condition()
        self._pids: Mapping[str, int] = {}
        self._samples: dict[str, GuestSample] = {}
        self._tried: dict[str, float] = {}
        """When one was tried of each, the longest ago first, and before them those of which none was: to look for the next among 10,000
        would take more than the samples do."""
        self._thread: threading.Thread | None = None
        self._ended = False
        self.spent = 0.0
        """Seconds of CPU time that all samples took."""

    def follow(self, pids: Mapping[str, int]) -> Mapping[str, GuestSample]:
        """These are the guests now, with their process ids; returns the last sample of each. Begins when there are any."""
        with self._changed:
            if pids != self._pids:
                for gone in [guest for guest, pid in self._pids.items() if pids.get(guest) != pid]:
                    self._samples.pop(gone, None)
                    self._tried.pop(gone, None)
                self._pids = dict(pids)
                tried = {guest: when for guest, when in self._tried.items() if when > _NEVER}
                self._tried = {**{guest: _NEVER for guest in pids if guest not in tried}, **tried}
                self._changed.notify()
            if self._thread is None and pids and not self._ended:
                thread = threading.Thread(target=self._run, name="mom-numa", daemon=True)
                thread.start()
                self._thread = thread  # now: one that could not be started is tried again in the next cycle
            return dict(self._samples)

    def end(self) -> None:
        """Take no more samples."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(_JOIN_SECONDS)

    def _run(self) -> None:
        while (turn := self._next()) is not None:
            guest, pid, before = turn
            began = time.thread_time()
            sample = take_sample(Process(self._proc / str(pid)), self._nodes_of(), before, time.monotonic())
            took = time.thread_time() - began
            with self._changed:
                self.spent += took
                if self._pids.get(guest) == pid:
                    self._tried.pop(guest, None)
                    self._tried[guest] = time.monotonic()
                    if sample is None:
                        self._samples.pop(guest, None)
                    else:
                        self._samples[guest] = sample
                if not self._ended:
                    self._changed.wait_for(lambda: self._ended, took * self._rest_for_each_second)

    def _next(self) -> tuple[str, int, GuestSample | None] | None:
        """The guest whose turn it is, when it has come; None at the end."""
        with self._changed:
            while not self._ended:
                guest = next(iter(self._tried), None)
                if guest is None:
                    self._changed.wait()
                    continue
                wait = self._tried[guest] + self._every - time.monotonic()
                if wait <= 0:
                    return guest, self._pids[guest], self._samples.get(guest)
                self._changed.wait(wait)
        return None
