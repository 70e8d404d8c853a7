"""A guest's QEMU process as the kernel shows it: on which nodes its memory is, and where its vCPUs run."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mom_plugins_numa.numbers import parse_list
from mom_toolkit import parse_process_stat, read_kernel_file

MOST_MAPS = 64 << 20
"""Bytes of numa_maps or maps that are read at most: 100 bytes for each of 65,530 areas (vm.max_map_count), tenfold."""

_AREA = re.compile(rb"^([0-9a-f]{1,16}) .*?( N[0-9]+=[0-9].*)$", re.MULTILINE)
_ON_NODE = re.compile(rb" N([0-9]{1,4})=([0-9]{1,15})")
_PAGE_SIZE = re.compile(rb" kernelpagesize_kB=([0-9]{1,8})")
_RANGE = re.compile(rb"^([0-9a-f]{1,16})-([0-9a-f]{1,16}) ", re.MULTILINE)
_VCPU = re.compile(rb"CPU ([0-9]{1,4})/(?:KVM|TCG|HVF|HAX)\s*")
_ALLOWED = re.compile(rb"^Cpus_allowed_list:\s*([0-9,-]+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Area:
    """A range of addresses with memory: where it begins, in pages of how many KiB, and how many pages are on each node."""

    start: int
    page_kib: int
    pages: Mapping[int, int]

    def elsewhere_kib(self, node: int) -> int:
        """What is not on that node."""
        return self.page_kib * sum(count for other, count in self.pages.items() if other != node)


def parse_numa_maps(text: bytes) -> list[Area]:
    """The areas that hold memory, from /proc/PID/numa_maps (numa(7)). Lines that are not understood are left out."""
    areas = []
    for start, rest in _AREA.findall(text):
        size = _PAGE_SIZE.search(rest)
        pages = {int(node): int(count) for node, count in _ON_NODE.findall(rest)}
        if size is not None and pages:
            areas.append(Area(int(start, 16), int(size[1]), pages))
    return areas


def memory_by_node(areas: list[Area]) -> dict[int, int]:
    """KiB on each node."""
    found: dict[int, int] = {}
    for area in areas:
        for node, count in area.pages.items():
            found[node] = found.get(node, 0) + count * area.page_kib
    return found


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

    def started(self) -> int | None:
        """When it was started, in the kernel's ticks: with the process id, this is who it is. None when there is none."""
        stat = parse_process_stat(read_kernel_file(self.folder / "stat"))
        return None if stat is None else stat.started

    def areas(self) -> list[Area]:
        """Its memory. The kernel walks all of its page tables for that. Raises `OSError`."""
        with (self.folder / "numa_maps").open("rb") as file:
            return parse_numa_maps(file.read(MOST_MAPS))

    def ends(self) -> dict[int, int]:
        """Where each area ends, by where it begins. Raises `OSError`."""
        with (self.folder / "maps").open("rb") as file:
            return {int(start, 16): int(end, 16) for start, end in _RANGE.findall(file.read(MOST_MAPS))}

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
            stat = parse_process_stat(read_kernel_file(task / "stat"))
            allowed = _ALLOWED.search(read_kernel_file(task / "status"))
            if stat is not None and stat.processor is not None and allowed is not None:
                yield Vcpu(int(named[1]), stat.processor, parse_list(allowed[1].decode()) or frozenset(), stat.cpu_seconds)
