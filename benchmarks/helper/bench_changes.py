"""What a cycle costs a mom without root, beside one that is root: with many guests, of which some have their limits changed. As root.

    python benchmarks/helper/bench_changes.py [--guests 1000] [--changed 100] [--cycles 40] [--json]

Two engines run the same cycles, turn and turn about: one as root, which writes by itself, one as another user with a real mom-helper. Each
guest has a process of another user in a control group of its own, and is held to a limit of its memory (memory.high), which is another one
for some of them in each cycle. The engines list, collect what the kernel counts of these processes and groups, evaluate the default policy,
review, set, and keep a ledger on disk. Where this machine's kernel has no controller for memory in the unified hierarchy, files in memory
stand for its files there.

root      ms of CPU time of a cycle as root: the median
user      ms of CPU time of a cycle of the other one, without its helper
helper    ms of CPU time that the helper takes for such a cycle
more      percent that user and helper together take more than root: the median of cycles that ran one after the other
waited    percent by which such a cycle takes longer, by the clock
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from mom_core import (
    Clock,
    Decision,
    Engine,
    FieldSpec,
    Guest,
    Hypervisor,
    PluginContext,
    PluginSettings,
    Scope,
    Status,
    Unit,
    Value,
    hookimpl,
)
from mom_devkit import FakeGuest, FakeHypervisor, config_of
from mom_devkit.without_root import USER, HelperProcess, another_user
from mom_kvm import HELPER_SOCKET_VARIABLE, Hierarchies, HostSide
from mom_plugins_host.cgroup import CgroupPlugin

TARGETS = {"more": 5.0}

INTERVAL = 5.0
WARM_UP = 4
GUEST_USER = "daemon"
SLICE = "mom-bench.slice"
DECLARATIONS = f"[group memory.high]\nleast = 0\nmax = yes\n[guests bench]\nusers = {GUEST_USER}\nslices = {SLICE}\n"

KIB_IN_GIB = 1 << 20
LIMITS = (6 * KIB_IN_GIB, 7 * KIB_IN_GIB)
"""KiB: above what any of the guests holds, so that nothing has to go for them."""

_PRESSURE = "some avg10=0.00 avg60=0.00 avg300=0.00 total=12345\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=2345\n"
_FILES = {
    "memory.current": f"{2 << 30}\n",
    "memory.swap.current": "0\n",
    "memory.high": "max\n",
    "memory.low": "0\n",
    "memory.min": "0\n",
    "memory.max": "max\n",
    "memory.swap.max": "max\n",
    "memory.stat": "".join(f"{name} 4096\n" for name in ("anon", "file", "shmem", *(f"a_counter_of_some_name_{n}" for n in range(50)))),
    "cpu.stat": "usage_usec 1000\nuser_usec 500\nsystem_usec 500\n",
    **dict.fromkeys(("memory.pressure", "cpu.pressure", "io.pressure"), _PRESSURE),
}

_GUEST_FIELDS = {
    **dict.fromkeys(("balloon_cur", "balloon_max", "balloon_min", "mem_available", "mem_unused", "mem_usable"), Unit.KIB),
    "stats_age": Unit.SECONDS,
    "host_psi_memory_some_avg10": Unit.PERCENT,
}

_MOST_FILES = 65536
"""As mom.service has it."""

_HOST_FIELDS = {"mem_available": 8192 * KIB_IN_GIB, "mem_free": 4096 * KIB_IN_GIB, "mem_really_available": 4096 * KIB_IN_GIB}
"""KiB: it has room for all."""


# --- an engine ------------------------------------------------------------------------------------------------------------------------


class Setup:
    """What both engines have: the guests' processes by name, and the number of those that change."""

    def __init__(self, processes: Mapping[str, int], changed: int) -> None:
        self.processes, self.changed, self.number = processes, changed, 0
        known = {"stats_age": 1.0, "host_psi_memory_some_avg10": 0.0}
        guests = [FakeGuest(name, f"id-{name}", 2 * KIB_IN_GIB, 2 * KIB_IN_GIB, fields=dict(known)) for name in processes]
        self.hypervisor = FakeHypervisor(guests)

    def limit_of(self, index: int) -> int:
        """The KiB that a guest is held to in this cycle."""
        turns, rest = divmod(self.number * self.changed, len(self.processes))
        return LIMITS[(turns + (index < rest)) % 2]


class Bench:
    """The hypervisor, what its guests say, their processes, and what is decided for them."""

    setup: Setup

    def __init__(self, settings: PluginSettings, context: PluginContext) -> None:
        del settings
        self._processes = HostSide(lambda name, _: self.setup.processes.get(name), context.root, context.monotonic)

    @hookimpl
    def mom_hypervisor(self) -> Hypervisor:
        """Of memory only."""
        return self.setup.hypervisor

    @hookimpl
    def mom_declare(self) -> Sequence[FieldSpec]:
        """The guests' own, and of what their processes have, what is told here."""
        guests = [FieldSpec(name, unit, Scope.GUEST, "", "") for name, unit in _GUEST_FIELDS.items()]
        return [*guests, *(FieldSpec(name, Unit.KIB, Scope.HOST, "", "") for name in _HOST_FIELDS)]

    @hookimpl
    def mom_collect_host(self) -> Mapping[str, Value]:
        """As large as it must be."""
        return dict(_HOST_FIELDS)

    @hookimpl
    def mom_collect_guests(self, guests: Sequence[Guest]) -> Mapping[str, Mapping[str, Value]]:
        """All of them. What their processes have is looked at as each hypervisor's plugin does."""
        self._processes.follow((guest.id, guest.name, guest.incarnation) for guest in guests)
        self._processes.fields(guest.id for guest in guests)
        for guest in self.setup.hypervisor.known.values():
            guest.properties = self._processes.properties(guest.id)
        return {guest.id: {name: guest.collected()[name] for name in _GUEST_FIELDS} for guest in self.setup.hypervisor.known.values()}

    @hookimpl
    def mom_evaluate(self) -> Sequence[Decision]:
        """Each guest has a limit."""
        entities = [guest.entity for guest in self.setup.hypervisor.guests()]
        return [Decision(one, "cgroup_memory_high", self.setup.limit_of(index), "a benchmark") for index, one in enumerate(entities)]


class Seconds:
    """The engine's clock: one interval passes in each cycle."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def serve_cycles(folder: Path, processes: Mapping[str, int], changed: int, helper: HelperProcess | None) -> None:
    """For each line of standard input, run a cycle, and tell what it took, as JSON."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(_MOST_FILES, hard), hard))
    setup = Setup(processes, changed)
    bench = type("Plugin", (Bench,), {"setup": setup})
    plugins: dict[str, type | Mapping[str, object]] = {"bench": bench, "balloon": {}, "policy": {}, "cgroup": CgroupPlugin}
    logging.disable(logging.ERROR)
    clock = Seconds()
    config = config_of(folder, plugins, {name: {"deadline": "60s"} for name in ("bench", "cgroup")}, interval=INTERVAL)
    with Engine(config, Clock(clock, clock)) as engine:
        for _ in sys.stdin:
            clock.now += INTERVAL
            helped = cpu_seconds(helper.processes()) if helper is not None else 0.0
            spent, began = time.process_time(), time.perf_counter()
            report = engine.cycle()
            waited, spent = time.perf_counter() - began, time.process_time() - spent
            if helper is not None:
                helped = cpu_seconds(helper.processes()) - helped
            applied = [one for one in report.outcomes if one.status is Status.APPLIED]
            wrong = [f"{one.decision.entity.name}: {one.error}" for one in report.outcomes if one.error]
            wrong += [problem.message for problem in report.problems]
            told = {"own": spent * 1e3, "helper": helped * 1e3, "waited": waited * 1e3, "applied": len(applied), "wrong": wrong[:3]}
            setup.number += 1
            sys.stdout.write(json.dumps(told) + "\n")
            sys.stdout.flush()


def cpu_seconds(pids: Sequence[int]) -> float:
    """That these processes have had, to the nanosecond."""
    return sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in pids) / 1e9


def run_engine(folder: Path, processes: Mapping[str, int], changed: int, *, by_helper: bool) -> None:
    """One of the two, in this process."""
    if not by_helper:
        serve_cycles(folder, processes, changed, None)
        return
    helper = HelperProcess(DECLARATIONS)
    helper.start()
    os.environ[HELPER_SOCKET_VARIABLE] = str(helper.socket)
    try:
        with another_user():
            serve_cycles(folder, processes, changed, helper)
    finally:
        helper.close()


# --- guests and groups ----------------------------------------------------------------------------------------------------------------


@contextmanager
def guests_in_groups(count: int, folder: Path) -> Iterator[dict[str, int]]:
    """So many processes, each in a group of its own, by name."""
    groups = [folder / SLICE / f"machine-qemu-{number}.scope" for number in range(count)]
    started: list[subprocess.Popen[bytes]] = []
    try:
        for group in groups:
            group.mkdir(parents=True)
            started.append(subprocess.Popen(["sleep", "100000"], user=GUEST_USER, group=GUEST_USER, extra_groups=[], cwd="/"))
            (group / "cgroup.procs").write_text(str(started[-1].pid))
        yield {f"guest-{number}": process.pid for number, process in enumerate(started)}
    finally:
        for process in started:
            process.kill()
        for process in started:
            process.wait()
        for group in (*groups, folder / SLICE):
            with suppress(OSError):
                group.rmdir()


def files_for(tree: Path, count: int) -> None:
    """A folder that looks like the mount of control groups with the controller memory."""
    for number in range(count):
        group = tree / SLICE / f"machine-qemu-{number}.scope"
        group.mkdir(parents=True)
        for name, text in _FILES.items():
            (group / name).write_text(text)
    (tree / "cgroup.controllers").write_text("cpu io memory pids\n")


class Side:
    """An engine in a process of its own, with a mount namespace in which the tree of files is where the groups are."""

    def __init__(self, folder: Path, mount: Path, processes: Mapping[str, int], changed: int, *, by_helper: bool) -> None:
        folder.mkdir()
        tree = folder / "tree"
        files_for(tree, len(processes))
        if by_helper:
            shutil.chown(folder, USER)
        named = folder / "processes.json"
        named.write_text(json.dumps(processes))
        bind = f'mount --bind {tree} {mount} && exec "$@"'
        command = ["unshare", "--mount", "sh", "-c", bind, "sh", sys.executable, __file__, "--engine", str(folder)]
        command += ["--changed", str(changed), *(["--by-helper"] if by_helper else [])]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def cycle(self) -> dict[str, Any]:
        """Run one, and give what it took."""
        assert self._process.stdin is not None  # both are pipes
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("an engine has failed")
        return dict(json.loads(line))

    def close(self) -> None:
        """Have it end."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(60)


def measure(count: int, changed: int, cycles: int) -> dict[str, float]:
    """All numbers."""
    hierarchies = Hierarchies(Path("/"))
    hierarchies.refresh()
    mount = hierarchies.mount_of(Hierarchies.UNIFIED)
    if mount is None:
        raise SystemExit("the unified hierarchy of control groups is needed")
    place = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mom-bench-", dir=place)))
        folder.chmod(0o755)
        processes = stack.enter_context(guests_in_groups(count, Path(mount.folder)))
        sides = {}
        for name in ("root", "user"):
            sides[name] = Side(folder / name, Path(mount.folder), processes, changed, by_helper=name == "user")
            stack.callback(sides[name].close)
        rows = []
        for number in range(WARM_UP + cycles):
            order = ("root", "user") if number % 2 else ("user", "root")
            row = {name: sides[name].cycle() for name in order}
            for name, told in row.items():
                if told["wrong"] or (number >= WARM_UP and told["applied"] != changed):
                    raise SystemExit(f"{name}: {told['applied']} of {changed} were changed: {told['wrong']}")
            rows.append(row)
    rows = rows[WARM_UP:]
    more = [100 * ((row["user"]["own"] + row["user"]["helper"]) / row["root"]["own"] - 1) for row in rows]
    waited = [100 * (row["user"]["waited"] / row["root"]["waited"] - 1) for row in rows]
    return {
        "root": statistics.median(row["root"]["own"] for row in rows),
        "user": statistics.median(row["user"]["own"] for row in rows),
        "helper": statistics.median(row["user"]["helper"] for row in rows),
        "more": statistics.median(more),
        "waited": statistics.median(waited),
    }


def main() -> int:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--guests", type=int, default=1000)
    parser.add_argument("--changed", type=int, default=100)
    parser.add_argument("--cycles", type=int, default=40)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--engine", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--by-helper", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("run it as root")
    if arguments.engine is not None:
        processes = json.loads((arguments.engine / "processes.json").read_text())
        run_engine(arguments.engine, processes, arguments.changed, by_helper=arguments.by_helper)
        return 0
    numbers = measure(arguments.guests, arguments.changed, arguments.cycles)
    missed = [name for name, target in TARGETS.items() if numbers[name] > target]
    with suppress(BrokenPipeError):
        if arguments.json:
            sys.stdout.write(json.dumps(numbers) + "\n")
        else:
            for name, number in numbers.items():
                sys.stdout.write(f"{name:9} {number:9.1f}\n")
    for name in missed:
        sys.stderr.write(f"missed: {name}, {TARGETS[name]:g}\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
