"""Sweeps that meet bursts: real guests whose bursts begin on purpose from before a sweep's first command until after its end.

    python benchmarks/sweeps/bench_collisions.py [--guests 3] [--sweeps 500] [--seed 1]

Each guest of 1.5 GiB has no swap and no autodeflate, and fills 700 MiB at 320 MiB/s every few seconds. When its bursts begin is seen from
its CPU time, so that a sweep can be begun any time before that: in steps of 100 ms, from 1.5 s before until 0.2 s after. A sweep is what
`mom_plugins_balloon.sweeps` does, with the depth that the balloon law gives it. One burst in seven is left alone, to compare with. Prints
a line for each distance, and the worst of all. Real guests need what tests/real needs.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import defaultdict, deque
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "real"))

from guest_image import build
from plain_qemu import BALLOON, PlainGuest, PlainHost, ask

from mom_core import Entity, Scope
from mom_plugins_balloon.parameters import UNKNOWN_REACTION_SECONDS, LawParameters
from mom_plugins_balloon.sweeps import QemuProcess, Sweep, SweepCost, SweepOutcome, SweepPlan, described

PERIOD_SECONDS, DUTY_PERCENT, BASE_MIB, BURST_MIB, GROWTH_MIB = 10, 50, 80, 700, 320
STEP_SECONDS, BEFORE_STEPS, AFTER_STEPS = 0.1, 15, 2
LEFT_ALONE = 6
KIB = 1024
LOOK_SECONDS, LOOKS, CALM_SECONDS = 0.01, 20, 1.0
BUSY_SECONDS, WAKE_SECONDS = 0.02, 0.005
"""s, and a number of looks. A burst has begun where 20 looks, 0.2 s, have 0.02 s of CPU time for the first time in a second: a program that
fills memory which the host has backed needs 0.028 on a fast machine, an idle guest 0.004. It began where the first 5 ms were spent."""
PROCESS_KIB = 80 * KIB
"""What QEMU holds beside the guest here."""


class Met(NamedTuple):
    """One burst: how long before it the sweep began (s; None: it was left alone), how long it took to fill, and the sweep."""

    before: float | None
    filled: float
    outcome: SweepOutcome | None


class Squeezed:
    """One guest, its bursts and its sweeps."""

    def __init__(self, guest: PlainGuest, place: int) -> None:
        self.guest = guest
        self.place = place
        self.process = QemuProcess(guest.pid, Path("/proc"))
        self.entity = Entity(Scope.GUEST, guest.uuid, guest.name)
        self.met: list[Met] = []
        self.reactions: list[float] = []
        self.cost: SweepCost | None = None

    def told(self) -> dict[str, float]:
        """The last line of its workload."""
        lines = [line for line in self.guest.printed.splitlines() if line.startswith("DEMAND ") and "took=" in line]
        return {
            name: float(value) for name, _, value in (word.partition("=") for word in lines[-1].split() if "=" in word) if name != "took"
        }

    def burst_begins(self) -> float:
        """Wait for a burst; when it began (monotonic seconds): a program that fills memory in slots is idle for a part of each."""
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
        used = self.process.cpu_seconds()
        if used is None:
            raise SystemExit(f"{self.guest.name} has ended")
        return used

    def plan(self, size: int) -> SweepPlan:
        """As the law would sweep it."""
        stats = self.statistics()["stats"]
        law, reaction = LawParameters(), max(self.reactions[-20:], default=UNKNOWN_REACTION_SECONDS)
        keeps = max(law.sweep_keeps / KIB, law.growth_rate / KIB * reaction)
        held = size - stats["stat-free-memory"] / KIB
        reserved = size - stats["stat-total-memory"] / KIB
        memory = self.process.memory()
        backed = 0.0 if memory is None else max(0.0, memory.resident - PROCESS_KIB)
        above, hollow, wait = size - max(held + keeps, BURST_MIB * KIB + reserved), max(0.0, size - backed), law.sweep_wait
        gain = max(0.0, min(above, backed - held))
        return SweepPlan(size, min(size, int(size - min(above, gain + hollow))), gain, hollow, wait, stats["stat-free-memory"] / KIB)

    def statistics(self) -> dict[str, Any]:
        """Its last ones."""
        said: dict[str, Any] = self.guest.ask("qom-get", path=BALLOON, property="guest-stats")
        return said

    def usable(self) -> tuple[float, float]:
        """When its last statistics were made, and the KiB that are free by them: it reads no files that could be let go."""
        said = self.statistics()
        return said["last-update"], said["stats"]["stat-free-memory"] / KIB

    def sweep(self, at: float, size: int) -> SweepOutcome:
        """Sweep it at that time."""
        time.sleep(max(0.0, at - 0.1 - time.monotonic()))
        plan = self.plan(size)
        time.sleep(max(0.0, at - time.monotonic()))
        outcome = Sweep(self.entity, "1", plan, self.resize, self.process, self.cost, self.usable, self.size_now).perform()
        if outcome.lowest < size:
            self.reactions.append(outcome.reaction)
        self.cost = outcome.cost
        return outcome

    def resize(self, kib: int) -> None:
        """Ask it for a size."""
        ask(self.guest.second, "balloon", value=kib * KIB)

    def size_now(self) -> float:
        """What its balloon leaves it now, in KiB."""
        return int(self.guest.ask("query-balloon")["actual"]) / KIB

    def run(self, sweeps: int, order: random.Random) -> None:
        """So many bursts that are met by sweeps, and some that are not."""
        size = self.guest.size_mib * KIB
        self.guest.ask("qom-set", path=BALLOON, property="guest-stats-polling-interval", value=1)
        steps = list(range(-AFTER_STEPS, BEFORE_STEPS + 1))
        begins = self.burst_begins()
        for number in range(sweeps + sweeps // LEFT_ALONE):
            bursts, begins = self.told()["bursts"], begins + PERIOD_SECONDS
            before = None if number % (LEFT_ALONE + 1) == 0 else order.choice(steps) * STEP_SECONDS
            outcome = None if before is None else self.sweep(begins - before, size)
            time.sleep(max(0.0, begins + PERIOD_SECONDS - 2.2 - time.monotonic()))
            told = self.told()
            filled = told["filled"] if told["bursts"] > bursts else float("inf")
            self.met.append(Met(before, filled, outcome))
            if filled > 3:
                print(before, filled, outcome and described(outcome), outcome and outcome.lowest // KIB, flush=True)


def main() -> None:
    """Run them all, and print what became of the bursts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--guests", type=int, default=3)
    parser.add_argument("--sweeps", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mom-sweeps-") as folder:
        host = PlainHost(Path(folder), build())
        try:
            squeezed = []
            for place in range(asked.guests):
                phase = place * PERIOD_SECONDS // asked.guests
                demand = f"{int(time.time())},{BASE_MIB},{BURST_MIB},{PERIOD_SECONDS},{DUTY_PERCENT},{phase},0,0,{GROWTH_MIB},1000"
                squeezed.append(Squeezed(host.start(f"guest{place}", 1536, f"momtest.demand={demand}"), place))
            for one in squeezed:
                one.guest.wait_until_up()
            time.sleep(2 * PERIOD_SECONDS)
            each = -(-asked.sweeps // asked.guests)
            orders = [random.Random(asked.seed + one.place) for one in squeezed]  # noqa: S311  # an order of moments, no secrets
            threads = [threading.Thread(target=one.run, args=(each, order)) for one, order in zip(squeezed, orders, strict=True)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            show(squeezed)
        finally:
            host.destroy_all()


def show(squeezed: list[Squeezed]) -> None:
    """Print what became of them."""
    met = [one for guest in squeezed for one in guest.met]
    alone = [one.filled for one in met if one.before is None]
    usual = statistics.median(alone)
    by_distance: dict[float, list[Met]] = defaultdict(list)
    for one in met:
        if one.before is not None:
            by_distance[one.before].append(one)
    print(f"bursts left alone: {len(alone)}, filled in {usual:.2f} s (median), {max(alone):.2f} s (worst)")
    print("before  sweeps  begun  gave MiB  lasted s  filled s (median, worst)  ends")
    for before in sorted(by_distance):
        some = by_distance[before]
        begun = [one.outcome for one in some if one.outcome is not None and one.outcome.lowest < one.outcome.plan.size]
        gave = statistics.mean(one.gave / KIB for one in begun) if begun else 0.0
        lasted = max((one.seconds for one in begun), default=0.0)
        filled = [one.filled for one in some]
        ends: dict[str, int] = defaultdict(int)
        for one in some:
            ends[str(one.outcome.end) if one.outcome else ""] += 1
        print(
            f"{before:6.1f}  {len(some):6}  {len(begun):5}  {gave:8.0f}  {lasted:8.2f}  "
            f"{statistics.median(filled):6.2f}  {max(filled):6.2f}  {dict(ends)}"
        )
    outcomes = [one.outcome for one in met if one.outcome is not None]
    begun = [one for one in outcomes if one.lowest < one.plan.size]
    swept = [one.filled for one in met if one.before is not None]
    print(
        json.dumps(
            {
                "sweeps": len(outcomes),
                "begun": len(begun),
                "killed": sum(int(one.told()["kills"]) for one in squeezed),
                "worst_burst_s": max(swept),
                "unsqueezed_worst_s": max(alone),
                "unsqueezed_median_s": usual,
                "longest_s": max((one.seconds for one in begun), default=None),
                "largest_gave_mib": round(max((one.gave for one in begun), default=0) / KIB),
                "slowest_reaction_s": max((one.reaction for one in begun), default=None),
            }
        )
    )


if __name__ == "__main__":
    main()
