"""Looks at guests' processes one after the other, in a thread of its own: the kernel walks all page tables to say where memory is.

A look at a guest costs CPU time by its memory, so the thread is bounded: after each look it rests until no more than the given share of one
CPU was used. What was found last stands until the guest's next turn, with its age.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mom_plugins_numa.process import Process, Vcpu, memory_by_node

_SMOOTHING = 0.5
"""How much a new look counts for where CPU time is spent: a vCPU is seen on one CPU at one moment, so that a few looks make an average."""

_JOIN_SECONDS = 0.3
"""How long the end waits for a look that has begun. It ends by itself, and is of a daemon thread."""

_LEAST_CPU_SECONDS = 0.02
"""Less CPU time than this, two of the kernel's ticks, says nothing about where a guest works."""


@dataclass(frozen=True, slots=True)
class MemoryLook:
    """What was found. `at` in monotonic seconds; memory in KiB by node; `cpus`: the share of CPU time by node; `usage` in percent of a CPU.

    `seconds` is the CPU time that the look took; `error` says why it found nothing of the memory.
    """

    at: float
    started: int
    memory: Mapping[int, int]
    vcpus: tuple[Vcpu, ...] = ()
    cpus: Mapping[int, float] = field(default_factory=dict)
    usage: float | None = None
    seconds: float = 0.0
    error: str = ""


def look_at(process: Process, nodes_of: Mapping[int, int], before: MemoryLook | None, now: float) -> MemoryLook | None:
    """Look at one process; None when it is not there.

    :param nodes_of: on which node each CPU is
    :param before: what was found the last time
    """
    began = time.thread_time()
    started = process.started()
    if started is None:
        return None
    if before is not None and before.started != started:
        before = None
    vcpus = tuple(process.vcpus())
    cpus, usage = _cpu_time(vcpus, nodes_of, before, now)
    try:
        memory, error = memory_by_node(process.areas()), ""
    except OSError as problem:
        memory, error = {}, problem.strerror or str(problem)
    return MemoryLook(now, started, memory, vcpus, cpus, usage, time.thread_time() - began, error)


def _cpu_time(
    vcpus: tuple[Vcpu, ...], nodes_of: Mapping[int, int], before: MemoryLook | None, now: float
) -> tuple[dict[int, float], float | None]:
    """Where CPU time is spent, and how much of it since the last look."""
    earlier = {vcpu.number: vcpu.seconds for vcpu in before.vcpus} if before is not None else {}
    spent = {vcpu.number: max(0.0, vcpu.seconds - earlier[vcpu.number]) for vcpu in vcpus if vcpu.number in earlier}
    total = sum(spent.values())
    usage = 100 * total / (now - before.at) if before is not None and spent and now > before.at else None
    seen: dict[int, float] = {}
    for vcpu in vcpus:
        node = nodes_of.get(vcpu.cpu)
        if node is not None:
            seen[node] = seen.get(node, 0.0) + (spent.get(vcpu.number, 0.0) if total > _LEAST_CPU_SECONDS else 1.0)
    amount = sum(seen.values())
    if amount <= 0:
        return {}, usage
    now_shares = {node: part / amount for node, part in seen.items()}
    if before is None or not before.cpus:
        return now_shares, usage
    every = now_shares.keys() | before.cpus.keys()
    return {node: _SMOOTHING * now_shares.get(node, 0.0) + (1 - _SMOOTHING) * before.cpus.get(node, 0.0) for node in sorted(every)}, usage


class Lookout:
    """Keeps looking at the guests that it was told of, until it is ended.

    :param root: where /proc is found
    :param every: seconds from one look at a guest to the next, at least
    :param share: of one CPU, that looking may use
    :param nodes_of: gives on which node each CPU is
    """

    def __init__(self, root: Path, every: float, share: float, nodes_of: Callable[[], Mapping[int, int]]) -> None:
        self._proc = root / "proc"
        self._every = every
        self._rest_for_each_second = 1 / share - 1
        self._nodes_of = nodes_of
        self._changed = threading.Condition()
        self._pids: Mapping[str, int] = {}
        self._looks: dict[str, MemoryLook] = {}
        self._tried: dict[str, float] = {}
        self._thread: threading.Thread | None = None
        self._ended = False
        self.spent = 0.0
        """Seconds of CPU time that looking has taken."""

    def follow(self, pids: Mapping[str, int]) -> Mapping[str, MemoryLook]:
        """These are the guests now, with their process ids; returns what was found of them last. Begins to look when there are any."""
        with self._changed:
            if pids != self._pids:
                for gone in [guest for guest, pid in self._pids.items() if pids.get(guest) != pid]:
                    self._looks.pop(gone, None)
                    self._tried.pop(gone, None)
                self._pids = dict(pids)
                self._changed.notify()
            if self._thread is None and pids and not self._ended:
                self._thread = threading.Thread(target=self._run, name="mom-numa-lookout", daemon=True)
                self._thread.start()
            return dict(self._looks)

    def end(self) -> None:
        """Look no more."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(_JOIN_SECONDS)

    def _run(self) -> None:
        while (turn := self._next()) is not None:
            guest, pid, before = turn
            began = time.thread_time()
            look = look_at(Process(self._proc / str(pid)), self._nodes_of(), before, time.monotonic())
            took = time.thread_time() - began
            with self._changed:
                self.spent += took
                self._tried[guest] = time.monotonic()
                if self._pids.get(guest) == pid:
                    if look is None:
                        self._looks.pop(guest, None)
                    else:
                        self._looks[guest] = look
                if not self._ended:
                    self._changed.wait_for(lambda: self._ended, took * self._rest_for_each_second)

    def _next(self) -> tuple[str, int, MemoryLook | None] | None:
        """The guest whose turn it is, when it has come; None at the end."""
        with self._changed:
            while not self._ended:
                guest = min(self._pids, key=lambda one: self._tried.get(one, float("-inf")), default=None)
                if guest is None:
                    self._changed.wait()
                    continue
                wait = self._tried.get(guest, float("-inf")) + self._every - time.monotonic()
                if wait <= 0:
                    return guest, self._pids[guest], self._looks.get(guest)
                self._changed.wait(wait)
        return None
