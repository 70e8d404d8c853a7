"""Sweeps that meet bursts: real guests whose bursts begin at any moment from before a sweep until after its end.

    python benchmarks/sweeps/bench_collisions.py run [--guests 4] [--sweeps 500] [--seed 1]
    python benchmarks/sweeps/bench_collisions.py report [--docs docs]

Each guest of 1.5 GiB has no swap and no autodeflate, and fills 700 MiB at 320 MiB/s every few seconds. Its CPU time shows when its bursts
begin. A sweep begins from 1.5 s before the next burst until 0.2 s after its begin, in steps of 100 ms. It is a sweep of
`mom_plugins_balloon.sweep`, as deep as the balloon law makes it. One burst in seven has no sweep, for comparison.
`results/collisions.jsonl` keeps a line for each burst, and the report is about all of them. Real guests need what tests/real needs.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path += [str(Path(__file__).resolve().parents[2] / folder) for folder in ("tests/real", "benchmarks/shared")]

from plain_qemu import BALLOON, PlainGuest, ask, plain_host
from tables import filled, results_in, table

from mom_core import Entity, Scope
from mom_plugins_balloon.parameters import SWEEP_KEEPS_KIB, UNKNOWN_REACTION_SECONDS, LawParameters
from mom_plugins_balloon.sweep.qemu_process import ProcessReading, QemuProcess
from mom_plugins_balloon.sweep.records import SweepCost, SweepOutcome, SweepPlan
from mom_plugins_balloon.sweep.sweep import Sweep, SweptBalloon

PERIOD_SECONDS, DUTY_PERCENT, BASE_MIB, BURST_MIB, GROWTH_MIB = 10, 50, 80, 700, 320
STEP_SECONDS, BEFORE_STEPS, AFTER_STEPS = 0.1, 15, 2
LEFT_ALONE = 6
KIB = 1024
LOOK_SECONDS, LOOKS, CALM_SECONDS = 0.01, 20, 1.0
BUSY_SECONDS, WAKE_SECONDS = 0.02, 0.005
"""s, and a number of readings. A burst has begun when 20 readings, 0.2 s, show 0.02 s of CPU time for the first time in a second. A program
that fills memory backed by the host uses 0.028 s on a fast machine, an idle guest 0.004. The burst began when the first 5 ms were used."""
PROCESS_KIB = 80 * KIB
"""Memory of QEMU beside the guest's."""
RESULTS = Path(__file__).with_name("results") / "collisions.jsonl"
GROUPS = [
    ("before the sweep", -math.inf, 0.0),
    ("in the first 0.2 s, while mom only watched the guest", 0.1, 0.2),
    ("0.3 to 0.6 s after the sweep began", 0.3, 0.6),
    ("0.7 to 1.0 s after the sweep began", 0.7, 1.0),
    ("1.1 to 1.5 s after the sweep began, or after its end", 1.1, math.inf),
]
"""s from the begin of a sweep to the begin of the burst, at least and at most."""


Burst = Mapping[str, Any]
"""One burst: `before`, seconds from the sweep's begin (None: no sweep); `filled`, seconds to fill its memory (None: it did not in time);
`killed`, programs killed in the guest since the burst before. Of the sweep: `end`, `gave` (KiB), `seconds` without headroom (0: it did not
begin), and `reaction` (s) if it began."""


class Squeezed:
    """Guest with its bursts and its sweeps."""

    def __init__(self, guest: PlainGuest, write: Callable[[Burst], object]) -> None:
        self.write = write
        self.guest = guest
        self.process = QemuProcess(guest.pid, Path("/proc"))
        self.entity = Entity(Scope.GUEST, guest.uuid, guest.name)
        self.reactions: list[float] = []
        self.cost = SweepCost()

    def demand(self) -> dict[str, float]:
        """Return the last line of its workload."""
        lines = [line for line in self.guest.printed.splitlines() if line.startswith("DEMAND ") and "took=" in line]
        return {
            name: float(value) for name, _, value in (word.partition("=") for word in lines[-1].split() if "=" in word) if name != "took"
        }

    def burst_begins(self) -> float:
        """Wait for a burst, and return its begin in monotonic seconds. A program that fills memory in slots pauses in each."""
        looks: deque[tuple[float, float]] = deque([(time.monotonic(), self._cpu_seconds())], maxlen=LOOKS)
        calm_until = time.monotonic() + CALM_SECONDS
        while True:
            time.sleep(LOOK_SECONDS)
            now, used = time.monotonic(), self._cpu_seconds()
            looks.append((now, used))
            if used - looks[0][1] > BUSY_SECONDS:
                if now > calm_until:
                    return next(at for at, spent in looks if spent - looks[0][1] > WAKE_SECONDS)
                calm_until = now + CALM_SECONDS

    def _cpu_seconds(self) -> float:
        return self._reading().cpu_seconds

    def _reading(self) -> ProcessReading:
        reading = self.process.read()
        if reading is None:
            raise SystemExit(f"{self.guest.name} has ended")
        return reading

    def plan(self, size: int) -> SweepPlan:
        """Return the plan that the law would make."""
        stats = self.statistics()["stats"]
        law, reaction = LawParameters(), max(self.reactions[-20:], default=UNKNOWN_REACTION_SECONDS)
        keeps = max(SWEEP_KEEPS_KIB, law.growth_rate / KIB * reaction)
        held = size - stats["stat-free-memory"] / KIB
        reserved = size - stats["stat-total-memory"] / KIB
        backed = max(0.0, self._reading().resident - PROCESS_KIB)
        above, hollow = size - max(held + keeps, BURST_MIB * KIB + reserved), max(0.0, size - backed)
        gain = max(0.0, min(above, backed - held))
        bottom, usable = min(size, int(size - min(above, gain + hollow))), stats["stat-free-memory"] / KIB
        return SweepPlan(size=size, bottom=bottom, gain=gain, hollow=hollow, usable=usable, cost=self.cost)

    def statistics(self) -> dict[str, Any]:
        """Return the last statistics."""
        statistics: dict[str, Any] = self.guest.ask("qom-get", path=BALLOON, property="guest-stats")
        return statistics

    def usable(self) -> tuple[float, float]:
        """Return when its last statistics were made, and its free KiB: it has no page cache worth reclaiming."""
        latest = self.statistics()
        return latest["last-update"], latest["stats"]["stat-free-memory"] / KIB

    def sweep(self, at: float, size: int) -> SweepOutcome:
        """Sweep the guest at that time."""
        time.sleep(max(0.0, at - 0.1 - time.monotonic()))
        plan = self.plan(size)
        time.sleep(max(0.0, at - time.monotonic()))
        outcome = Sweep(self.entity, "1", plan, SweptBalloon(self.resize, self.size_now, self.usable), self.process.read).perform()
        if outcome.began:
            self.reactions.append(outcome.reaction)
        self.cost = outcome.cost
        return outcome

    def resize(self, kib: int) -> None:
        """Ask it for a size."""
        ask(self.guest.second, "balloon", value=kib * KIB)

    def size_now(self) -> float:
        """Return the KiB that its balloon leaves now."""
        return int(self.guest.ask("query-balloon")["actual"]) / KIB

    def run(self, sweeps: int, order: random.Random) -> None:
        """Run so many bursts with a sweep, and some without."""
        size = self.guest.size_mib * KIB
        self.guest.ask("qom-set", path=BALLOON, property="guest-stats-polling-interval", value=1)
        steps = list(range(-AFTER_STEPS, BEFORE_STEPS + 1))
        begins = self.burst_begins()
        for number in range(sweeps + sweeps // LEFT_ALONE):
            earlier, begins = self.demand(), begins + PERIOD_SECONDS
            before = None if number % (LEFT_ALONE + 1) == 0 else round(order.choice(steps) * STEP_SECONDS, 1)
            outcome = None if before is None else self.sweep(begins - before, size)
            time.sleep(max(0.0, begins + PERIOD_SECONDS - 2.2 - time.monotonic()))
            demand = self.demand()
            filled = demand["filled"] if demand["bursts"] > earlier["bursts"] else None
            burst: dict[str, Any] = {"before": before, "filled": filled, "killed": int(demand["kills"] - earlier["kills"])}
            if outcome is not None:
                burst |= {"end": str(outcome.end), "gave": round(outcome.gave), "seconds": round(outcome.seconds, 2)}
                burst |= {"reaction": round(outcome.reaction, 2)} if outcome.began else {}
            self.write(burst)


def run(guests: int, sweeps: int, seed: int) -> None:
    """Run so many sweeps against bursts, and write the results."""
    RESULTS.parent.mkdir(exist_ok=True)
    lock = threading.Lock()
    with (
        tempfile.TemporaryDirectory(prefix="mom-sweeps-") as folder,
        RESULTS.open("a", encoding="utf-8") as file,
        ThreadPoolExecutor(guests) as pool,
        plain_host(Path(folder)) as host,
    ):

        def write(burst: Burst) -> None:
            with lock:
                file.write(json.dumps({"seed": seed, **burst}) + "\n")
                file.flush()

        squeezed = []
        for place in range(guests):
            phase = place * PERIOD_SECONDS // guests
            demand = f"{int(time.time())},{BASE_MIB},{BURST_MIB},{PERIOD_SECONDS},{DUTY_PERCENT},{phase},0,0,{GROWTH_MIB},1000"
            squeezed.append(Squeezed(host.start(f"guest{place}", 1536, f"momtest.demand={demand}"), write))
        for guest in squeezed:
            guest.guest.wait_until_up()
        time.sleep(2 * PERIOD_SECONDS)
        orders = [random.Random(seed + place) for place in range(guests)]  # noqa: S311  # an order of moments, no secrets
        for _ in pool.map(Squeezed.run, squeezed, [-(-sweeps // guests)] * guests, orders):
            pass


def report(bursts: Sequence[Burst]) -> str:
    """Return a summary of bursts with a table."""
    if not bursts:
        return "None was tried yet."
    alone = [burst for burst in bursts if burst["before"] is None]
    swept = [burst for burst in bursts if burst["before"] is not None]
    begun = [burst for burst in swept if burst["seconds"]]
    worst, usual = (max(burst["filled"] or math.inf for burst in group) for group in (swept, alone))
    rows = []
    for name, least, most in GROUPS:
        group = [burst for burst in swept if least <= burst["before"] <= most]
        filled = [burst["filled"] or math.inf for burst in group]
        ends = Counter(burst["end"] for burst in group)
        counts = ", ".join(f"`{end}` {count}" for end, count in ends.most_common())
        if group:
            gave = statistics.median(burst["gave"] / KIB for burst in group)
            rows.append([name, str(len(group)), f"{gave:.0f}", f"{statistics.median(filled):.2f}", f"{max(filled):.2f}", counts])
    head = ["the burst began", "sweeps", "memory given, median MiB", "burst time, median s", "slowest, s", "how the sweeps ended"]
    return (
        f"{len(swept)} sweeps of real guests without swap and without autodeflate. Each burst fills 700 MiB at 320 MiB/s. "
        f"Programs killed: {sum(burst['killed'] for burst in bursts)}. "
        f"The slowest burst took {worst:.2f} s, and without a sweep {usual:.2f} s. "
        f"During a sweep, a guest lacked its headroom for at most {max(burst['seconds'] for burst in begun):.2f} s, and gave at most "
        f"{max(burst['gave'] for burst in begun) / KIB:.0f} MiB.\n\n{table(head, rows)}"
    )


def main() -> None:
    """Run the benchmark, or report its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    runs = verbs.add_parser("run", help="run sweeps against bursts")
    runs.add_argument("--guests", type=int, default=4)
    runs.add_argument("--sweeps", type=int, default=500)
    runs.add_argument("--seed", type=int, default=1)
    verbs.add_parser("report", help="report all results").add_argument("--docs", type=Path, help="the folder with safety.md")
    arguments = parser.parse_args()
    if arguments.verb == "run":
        run(arguments.guests, arguments.sweeps, arguments.seed)
    text = report(list(results_in(RESULTS)))
    print(text)
    if arguments.verb == "report" and arguments.docs is not None:
        page = arguments.docs / "safety.md"
        page.write_text(filled(page.read_text("utf-8"), {"collisions": text}), "utf-8")


if __name__ == "__main__":
    main()
