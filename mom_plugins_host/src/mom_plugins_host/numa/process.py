"""A guest's QEMU process as the kernel shows it: on which nodes its memory is, and where its vCPUs run."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mom_kvm import ProcessStat, open_process_file, parse_number_list, read_kernel_file

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
