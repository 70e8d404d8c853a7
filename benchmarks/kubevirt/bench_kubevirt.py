"""What a node full of virt-launcher pods costs mom, each with a libvirt of its own.

    python benchmarks/kubevirt/bench_kubevirt.py [--pods 200] [--hanging 20] [--garbage 5] [--cycles 12] [--interval 2]

Pods are stand-ins (tests/real/stand_in_libvirt.py): a process as user 107 in a control group and a mount namespace of its own that answers
by libvirt's wire, and one that stands for QEMU. `mom run` manages them, with the plugins host, kubevirt, balloon and policy.

steady    whole cycles, and the part of the plugin kubevirt in them: wall time; CPU time and memory of mom's process
new       from the start of a new pod's process until its guest is in mom's report
hanging   the same cycles after some pods were stopped by SIGSTOP, and others began that answer garbage
restore   a policy makes all guests smaller that answer, and mom is killed; how long `mom restore` takes to put them back
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "real"))

from launcher_pods import TestPod, TestPods  # only found from here on
from mom_run import MomRun  # as above
from private_libvirtd import CannotStart  # as above

NAMESPACE = "bench"
SIZED = '(with Guests guest (guest.Control "balloon_target" (* 900 1024)))'
FULL_KIB, SIZED_KIB = 1024 << 10, 900 << 10

CYCLE_TARGET_MS = 250.0
MEMORY_TARGET_MIB = 150.0
NEW_TARGET_SECONDS = 2.0
RESTORE_TARGET_SECONDS = 30.0

_TICKS = os.sysconf("SC_CLK_TCK")
_PATIENCE_SECONDS = 120.0


class Watched:
    """A `mom run`, by its status file and by the kernel."""

    def __init__(self, mom: MomRun) -> None:
        self._mom = mom
        self._file = mom.folder / "run" / "status.json"

    @property
    def status(self) -> dict[str, Any]:
        """Of its last cycle."""
        found: dict[str, Any] = json.loads(self._file.read_text())
        return found

    @property
    def guests(self) -> dict[str, bool]:
        """By name, whether anything can be changed of them."""
        return {row["name"]: "*" not in row["blocked"] for row in json.loads(self._mom.verb("guests", "--json").stdout)}

    def waits_for(self, what: str, seconds: float = _PATIENCE_SECONDS) -> float:
        """Seconds until this guest is in the report."""
        began = time.monotonic()
        while what not in self._file.read_text():
            if time.monotonic() - began > seconds:
                raise RuntimeError(f"{what} is not there after {seconds:g} s")
            time.sleep(0.02)
        return time.monotonic() - began

    def cycles(self, many: int) -> dict[str, float]:
        """Figures of the next so many cycles."""
        walls: list[float] = []
        parts: list[float] = []
        last = self.status["cycle"]["number"]
        cpu, began = self._cpu(), time.monotonic()
        while len(walls) < many:
            status = self.status
            if status["cycle"]["number"] == last:
                time.sleep(0.05)
                continue
            last = status["cycle"]["number"]
            walls.append(status["cycle"]["duration_seconds"] * 1e3)
            (plugin,) = (one for one in status["plugins"] if one["name"] == "kubevirt")
            parts.append(sum(plugin["durations_seconds"].values()) * 1e3)
        spent, lasted = self._cpu() - cpu, time.monotonic() - began
        return {
            "cycle ms": statistics.median(walls),
            "worst ms": max(walls),
            "kubevirt ms": statistics.median(parts),
            "CPU ms a cycle": spent * 1e3 / many,
            "CPU %": 100 * spent / lasted,
            "memory MiB": self._memory(),
        }

    @property
    def _pid(self) -> int:
        assert self._mom.process is not None
        return self._mom.process.pid

    def _cpu(self) -> float:
        words = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / _TICKS

    def _memory(self) -> float:
        line = next(line for line in Path(f"/proc/{self._pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024


def main() -> int:
    """Measure, print, and say whether the targets were met."""
    parser = argparse.ArgumentParser(description="What pods of KubeVirt cost mom.")
    parser.add_argument("--pods", type=int, default=200)
    parser.add_argument("--hanging", type=int, default=20, help="of them: those that are stopped")
    parser.add_argument("--garbage", type=int, default=5, help="more, that answer garbage")
    parser.add_argument("--cycles", type=int, default=12)
    parser.add_argument("--interval", type=float, default=2.0, help="seconds between two cycles")
    arguments = parser.parse_args()
    try:
        pods = TestPods()
    except CannotStart as error:
        print(f"skipped: {error}")
        return 0
    try:
        with tempfile.TemporaryDirectory(prefix="mom-bench-") as folder:
            return _told(_measured(pods, MomRun(Path(folder)), arguments), arguments)
    finally:
        pods.remove_all()


def _started(pods: TestPods, many: int, **stand_in: object) -> list[TestPod]:
    started = [pods.start(NAMESPACE, f"vm{len(pods.pods)}", stand_in) for _ in range(many)]
    for pod in started:
        pod.wait_until_it_listens()
    return started


def _measured(pods: TestPods, run: MomRun, arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    launchers = _started(pods, arguments.pods)
    plugins = {"kubevirt": pods.settings(), "balloon": {}, "policy": {}}
    run.configure(plugins, policies={}, interval=f"{arguments.interval}s")
    mom = Watched(run)
    try:
        began = time.monotonic()
        run.start()
        _wait_until(lambda: sum(mom.guests.values()) == len(launchers), "all guests are managed")
        figures = {"start": {"s": time.monotonic() - began}, "steady": mom.cycles(arguments.cycles)}
        new = []
        for _ in range(3):
            began = time.monotonic()
            (pod,) = _started(pods, 1)
            mom.waits_for(f"{NAMESPACE}/{pod.name}")
            new.append(time.monotonic() - began)
            launchers.append(pod)
        figures["new"] = {"s": statistics.median(new), "worst s": max(new)}
        still, well = launchers[: arguments.hanging], launchers[arguments.hanging :]
        for pod in still:
            pod.stop(signal.SIGSTOP)
        _started(pods, arguments.garbage, lie="garbage")
        figures["hanging"] = mom.cycles(arguments.cycles)
        free = [name for name, is_free in mom.guests.items() if is_free]
        figures["hanging"]["managed"] = len(free)
        figures["hanging"]["should be managed"] = len(well)
        run.configure(plugins, policies={"90_size": SIZED}, interval=f"{arguments.interval}s")
        run.reload()
        _wait_until(lambda: max(_sizes(well)) <= SIZED_KIB, "all others are smaller")
        run.kill()
        began = time.monotonic()
        run.verb("restore")
        figures["restore"] = {"s": time.monotonic() - began, "put back": sum(size == FULL_KIB for size in _sizes(well)), "of": len(well)}
    finally:
        run.kill()
    return figures


def _wait_until(look: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + _PATIENCE_SECONDS
    while not look():
        if time.monotonic() > end:
            raise RuntimeError(f"it does not come to be that {what}")
        time.sleep(0.5)


def _sizes(launchers: Sequence[TestPod]) -> list[int]:
    found = []
    for pod in launchers:
        connection = pod.connect()
        ((_, record),) = connection.getAllDomainStats()
        found.append(int(record["balloon.current"]))
        connection.close()
    return found


def _told(figures: dict[str, dict[str, float]], arguments: argparse.Namespace) -> int:
    print(f"{arguments.pods} pods; then {arguments.hanging} of them hang, and {arguments.garbage} more answer garbage")
    for name, each in figures.items():
        print(f"  {name:<8} " + ", ".join(f"{what} {value:.1f}" for what, value in each.items()))
    met = {
        f"a cycle in {CYCLE_TARGET_MS:g} ms": max(figures["steady"]["cycle ms"], figures["hanging"]["cycle ms"]) <= CYCLE_TARGET_MS,
        f"{MEMORY_TARGET_MIB:g} MiB": max(figures["steady"]["memory MiB"], figures["hanging"]["memory MiB"]) <= MEMORY_TARGET_MIB,
        f"a new guest in {NEW_TARGET_SECONDS:g} s": figures["new"]["worst s"] <= NEW_TARGET_SECONDS,
        "all others managed": figures["hanging"]["managed"] == figures["hanging"]["should be managed"],
        f"put back in {RESTORE_TARGET_SECONDS:g} s": figures["restore"]["s"] <= RESTORE_TARGET_SECONDS
        and figures["restore"]["put back"] == figures["restore"]["of"],
    }
    for what, is_met in met.items():
        print(f"  {what}: {'met' if is_met else 'MISSED'}")
    return 0 if all(met.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
