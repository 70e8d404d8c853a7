"""Sweeps that meet bursts: real guests whose bursts begin on purpose from before a sweep's first command until after its end.

    python benchmarks/sweeps/bench_collisions.py run [--guests 4] [--sweeps 500] [--seed 1]
    python benchmarks/sweeps/bench_collisions.py report [--docs docs]

Each guest of 1.5 GiB has no swap and no autodeflate, and fills 700 MiB at 320 MiB/s every few seconds. When its bursts begin is seen from
its CPU time, so that a sweep can be begun any time before that: in steps of 100 ms, from 1.5 s before until 0.2 s after. A sweep is what
`mom_plugins_balloon.sweep` does, with the depth that the balloon law gives it. One burst in seven is left alone, to compare with. Keeps a
line for each burst in `results/collisions.jsonl`, and reports of all that are there. Real guests need what tests/real needs.
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
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "real"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "squeeze"))

from guest_image import build
from plain_qemu import BALLOON, PlainGuest, PlainHost, ask
from squeeze_report import filled, results_in, table

from mom_core import Entity, Scope
from mom_plugins_balloon.parameters import UNKNOWN_REACTION_SECONDS, LawParameters
from mom_plugins_balloon.sweep.qemu_process import ProcessReading, QemuProcess
from mom_plugins_balloon.sweep.records import SweepCost, SweepOutcome, SweepPlan
from mom_plugins_balloon.sweep.sweep import Sweep, SweptBalloon

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
RESULTS = Path(__file__).with_name("results") / "collisions.jsonl"
GROUPS = [
    ("before the sweep", -math.inf, 0.0),
    ("while the guest was watched, 0.2 s", 0.1, 0.2),
    ("0.3 to 0.6 s after the sweep began", 0.3, 0.6),
    ("0.7 to 1.0 s after it began", 0.7, 1.0),
    ("1.1 to 1.5 s after it began, or had ended", 1.1, math.inf),
]
"""s from the beginning of a sweep to that of the burst, at least and at most."""


Met = Mapping[str, Any]
"""One burst: `before`, how long before it the sweep began (s; None: it was left alone); `filled`, how long it took to fill (s); how many
programs were `killed` in the guest since the one before; and of the sweep how it did `end`, what it `gave` (KiB), and for how many
`seconds` the guest was without its room (0: it was not begun); of one that was begun, its `reaction` (s)."""


class Squeezed:
    """One guest, its bursts and its sweeps."""

    def __init__(self, guest: PlainGuest, place: int, tell: Callable[[Met], object]) -> None:
        self.tell = tell
        self.guest = guest
        self.place = place
        self.process = QemuProcess(guest.pid, Path("/proc"))
        self.entity = Entity(Scope.GUEST, guest.uuid, guest.name)
        self.reactions: list[float] = []
        self.cost = SweepCost()

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
        return self._reading().cpu_seconds

    def _reading(self) -> ProcessReading:
        reading = self.process.read()
        if reading is None:
            raise SystemExit(f"{self.guest.name} has ended")
        return reading

    def plan(self, size: int) -> SweepPlan:
        """As the law would sweep it."""
        stats = self.statistics()["stats"]
        law, reaction = LawParameters(), max(self.reactions[-20:], default=UNKNOWN_REACTION_SECONDS)
        keeps = max(law.sweep_keeps / KIB, law.growth_rate / KIB * reaction)
        held = size - stats["stat-free-memory"] / KIB
        reserved = size - stats["stat-total-memory"] / KIB
        backed = max(0.0, self._reading().resident - PROCESS_KIB)
        above, hollow, wait = size - max(held + keeps, BURST_MIB * KIB + reserved), max(0.0, size - backed), law.sweep_wait
        gain = max(0.0, min(above, backed - held))
        bottom, usable = min(size, int(size - min(above, gain + hollow))), stats["stat-free-memory"] / KIB
        return SweepPlan(size=size, bottom=bottom, gain=gain, hollow=hollow, wait=wait, usable=usable, cost=self.cost)

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
        outcome = Sweep(self.entity, "1", plan, SweptBalloon(self.resize, self.size_now, self.usable), self.process.read).perform()
        if outcome.began:
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
            earlier, begins = self.told(), begins + PERIOD_SECONDS
            before = None if number % (LEFT_ALONE + 1) == 0 else round(order.choice(steps) * STEP_SECONDS, 1)
            outcome = None if before is None else self.sweep(begins - before, size)
            time.sleep(max(0.0, begins + PERIOD_SECONDS - 2.2 - time.monotonic()))
            told = self.told()
            filled = told["filled"] if told["bursts"] > earlier["bursts"] else None
            met: dict[str, Any] = {"before": before, "filled": filled, "killed": int(told["kills"] - earlier["kills"])}
            if outcome is not None:
                met |= {"end": str(outcome.end), "gave": round(outcome.gave), "seconds": round(outcome.seconds, 2)}
                met |= {"reaction": round(outcome.reaction, 2)} if outcome.began else {}
            self.tell(met)


def run(guests: int, sweeps: int, seed: int) -> None:
    """Have so many sweeps met by bursts."""
    RESULTS.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mom-sweeps-") as folder, RESULTS.open("a", encoding="utf-8") as file:
        host, alone = PlainHost(Path(folder), build()), threading.Lock()

        def tell(met: Met) -> None:
            with alone:
                file.write(json.dumps({"seed": seed, **met}) + "\n")
                file.flush()

        try:
            squeezed = []
            for place in range(guests):
                phase = place * PERIOD_SECONDS // guests
                demand = f"{int(time.time())},{BASE_MIB},{BURST_MIB},{PERIOD_SECONDS},{DUTY_PERCENT},{phase},0,0,{GROWTH_MIB},1000"
                squeezed.append(Squeezed(host.start(f"guest{place}", 1536, f"momtest.demand={demand}"), place, tell))
            for one in squeezed:
                one.guest.wait_until_up()
            time.sleep(2 * PERIOD_SECONDS)
            each = -(-sweeps // guests)
            orders = [random.Random(seed + one.place) for one in squeezed]  # noqa: S311  # an order of moments, no secrets
            threads = [threading.Thread(target=one.run, args=(each, order)) for one, order in zip(squeezed, orders, strict=True)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            host.destroy_all()


def report(met: Sequence[Met]) -> str:
    """What became of them, in words and as a table."""
    if not met:
        return "None was tried yet."
    alone = [one for one in met if one["before"] is None]
    swept = [one for one in met if one["before"] is not None]
    begun = [one for one in swept if one["seconds"]]
    worst, usual = (max(one["filled"] or math.inf for one in some) for some in (swept, alone))
    rows = []
    for name, least, most in GROUPS:
        some = [one for one in swept if least <= one["before"] <= most]
        filled = [one["filled"] or math.inf for one in some]
        ends = Counter(one["end"] for one in some)
        told = ", ".join(f"`{end}` {count}" for end, count in ends.most_common())
        if some:
            gave = statistics.median(one["gave"] / KIB for one in some)
            rows.append([name, str(len(some)), f"{gave:.0f}", f"{statistics.median(filled):.2f}", f"{max(filled):.2f}", told])
    head = ["the burst began", "sweeps", "gave, MiB", "filled in, s", "at worst", "how the sweeps ended"]
    return (
        f"{len(swept)} sweeps of real guests without swap and without autodeflate, which fill 700 MiB at 320 MiB/s. "
        f"Programs killed: {sum(one['killed'] for one in met)}. "
        f"The slowest burst took {worst:.2f} s, of those left alone {usual:.2f} s. "
        f"A guest was without its room for {max(one['seconds'] for one in begun):.2f} s at most, and gave up to "
        f"{max(one['gave'] for one in begun) / KIB:.0f} MiB in that.\n\n{table(head, rows)}"
    )


def main() -> None:
    """Run them, or tell of those that were run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_subparsers(dest="what", required=True)
    runs = what.add_parser("run", help="have bursts meet sweeps")
    runs.add_argument("--guests", type=int, default=4)
    runs.add_argument("--sweeps", type=int, default=500)
    runs.add_argument("--seed", type=int, default=1)
    what.add_parser("report", help="tell of all that were run").add_argument("--docs", type=Path, help="the folder with safety.md")
    asked = parser.parse_args()
    if asked.what == "run":
        run(asked.guests, asked.sweeps, asked.seed)
    told = report(list(results_in(RESULTS)))
    print(told)
    if asked.what == "report" and asked.docs is not None:
        page = asked.docs / "safety.md"
        page.write_text(filled(page.read_text("utf-8"), {"collisions": told}), "utf-8")


if __name__ == "__main__":
    main()
