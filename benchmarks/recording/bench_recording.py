"""Measure what recording costs: bytes for each guest and cycle, and CPU time for each cycle.

    python benchmarks/recording/bench_recording.py [--guests 1000] [--cycles 200]

Each guest has the fields that libvirt, the host side and the balloon plugin collect. They vary like measured ones: free memory by some MiB
from one second to the next, page cache by less, counters at rates of their own. A tenth of the guests is resized in each cycle.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from mom_core import Decision, Guest, Host, Outcome, PluginReport, Report, Snapshot, Source, Status, Value
from mom_plugins_record.recording.cycles import RecordedSession
from mom_plugins_record.recording.reader import Recording
from mom_plugins_record.recording.writer import RecordingLimits, RecordingWriter

BYTES_WANTED = 40.0
"""For each guest and cycle."""

CPU_WANTED_MS = 15.0
"""For a cycle of 1,000 guests."""

KIB_PER_GIB = 1 << 20
RESIZED = 0.1
"""Ratio of guests that are resized in a cycle."""


class Machine:
    """Guest with varying figures."""

    def __init__(self, number: int, source: random.Random) -> None:
        self.source = source
        self.identity = f"{number:08x}-0000-4000-8000-{source.getrandbits(48):012x}"
        self.name = f"guest-{number:05d}.example.org"
        self.most = source.choice([1, 2, 2, 4, 8]) * KIB_PER_GIB
        self.size = float(self.most)
        self.used = source.uniform(0.15, 0.6) * self.most
        self.cache = source.uniform(0.05, 0.3) * self.most
        self.busy = source.random() < 0.6
        self.age = source.uniform(0.0, 1.0)

    def step(self) -> Guest:
        """Return the guest one cycle later."""
        source = self.source
        if self.busy:
            self.used = min(0.9 * self.size, max(0.1 * self.size, self.used + source.gauss(0, 3000)))
            self.cache = max(1000.0, min(self.size - self.used, self.cache + source.gauss(200, 500)))
        unused = max(0.0, self.size - self.used - self.cache)
        fields: dict[str, Value] = {
            "balloon_cur": int(self.size), "balloon_max": self.most, "rss": int(self.size - unused * 0.3),
            "mem_available": int(self.size * 0.97), "mem_unused": int(unused), "mem_usable": int(unused + self.cache * 0.8),
            "mem_disk_caches": int(self.cache), "swap_in": 0.0, "swap_out": 0.0,
            "major_fault": float(source.randrange(3)) if self.busy else 0.0,
            "minor_fault": round(abs(source.gauss(300, 200))) / 2 if self.busy else 0.0,
            "stats_age": round((self.age + source.random() * 0.02) % 1.0, 3), "balloon_stats_period": 1, "vcpu_count": 2,
            "cpu_usage": round(abs(source.gauss(20, 10)), 2) if self.busy else round(source.random(), 2),
            "host_minor_faults": source.randrange(200) if self.busy else source.randrange(3), "host_major_faults": 0, "host_swap": 0,
            "balloon_min": 0, "mem_guarantee": self.most // 2, "balloon_last_target": int(self.size),
        }  # fmt: skip
        pid = 1000 + int(self.identity[:8], 16)
        properties: dict[str, Value] = {"name": self.name, "uuid": self.identity, "state": "running", "pid": pid}
        return Guest(self.identity, self.name, fields, properties, {}, "12@boot")


def reports(guests: int, cycles: int) -> Iterator[Report]:
    """Yield the reports of so many cycles."""
    source = random.Random(1)  # noqa: S311  # the same each time
    machines = [Machine(number, source) for number in range(guests)]
    host = {f"field_{number}": number * 1000 for number in range(70)}
    for number in range(1, cycles + 1):
        outcomes = []
        for machine in source.sample(machines, int(RESIZED * guests)):
            before = int(machine.size)
            machine.size = min(machine.most, max(machine.used * 1.3, machine.size * source.uniform(0.9, 1.1)))
            decision = Decision(
                Guest(machine.identity, machine.name).entity,
                "balloon_target",
                int(machine.size),
                '(guest.Control "balloon_target" (+ guest.balloon_cur change)) in 50_balloon:219:33',
                Source("50_balloon", 219, 33),
            )
            outcomes.append(Outcome(decision, before, int(machine.size), Status.APPLIED))
        seen = [machine.step() for machine in machines]
        fields: dict[str, Value] = {
            **host,
            "mem_really_available": 64 * KIB_PER_GIB + source.randrange(1 << 20),
            "psi_memory_some_avg10": 0.0,
        }
        snapshot = Snapshot(Host("h", fields, {"name": "h"}), {g.id: g for g in seen}, 1.7e9 + number * 5.0, number * 5.0, number)
        plugins = tuple(
            PluginReport(name, PluginReport.State.OK, {"mom_collect_guests": source.random() / 100}, number * 3, 0)
            for name in ("libvirt", "host", "balloon", "ksm", "policy", "record")
        )
        decisions = tuple(outcome.decision for outcome in outcomes)
        yield Report(number, snapshot.time, "enforce", snapshot, decisions, (), tuple(outcomes), (), plugins, 0.01)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--guests", type=int, default=1000)
    parser.add_argument("--cycles", type=int, default=200)
    options = parser.parse_args()
    spent = []
    with tempfile.TemporaryDirectory(prefix="mom-bench-") as folder:
        path = Path(folder)
        writer = RecordingWriter(path, RecordingLimits(86_400.0, 1 << 34))
        writer.open()
        writer.session(RecordedSession("0", "h", {}, {}, (), ()))
        made = list(reports(options.guests, min(options.cycles, 60)))  # later cycles repeat these
        for number in range(options.cycles):
            began = time.process_time()
            writer.cycle(made[number % len(made)])
            spent.append(time.process_time() - began)
        writer.close()
        size = sum(file.stat().st_size for file in path.iterdir())
        began = time.process_time()
        read = sum(1 for _ in Recording(path).cycles())
        reading = time.process_time() - began
    if read != options.cycles:
        raise SystemExit(f"{read} cycles were read back, of {options.cycles}")
    print(f"{options.guests} guests, {options.cycles} cycles")
    print(f"{size / options.cycles / options.guests:.1f} bytes for each guest and cycle, wanted {BYTES_WANTED:.0f}")
    print(f"{1e3 * statistics.mean(spent):.1f} ms of CPU time a cycle, at most {1e3 * max(spent):.1f}, wanted {CPU_WANTED_MS:.0f}")
    print(f"{1e3 * reading / read:.1f} ms to read a cycle")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
