"""The campaign of faults: what becomes of real guests when mom, and all that it works with, breaks under a squeeze.

    python benchmarks/faults/campaign.py run --faults 2000 --seed 1 [--kinds NAME …] [--resume] [--pause-while FILE]
    python benchmarks/faults/campaign.py report [--docs docs]

Faults are chosen at random, by the seed, and follow each other as soon as all is in order again; some come together. Each is a line in
results/faults.jsonl; of one that broke something, results/traces keeps what was seen and what all logs say. The machine needs what
tests/real needs, root, 6 GiB of memory, a compressed swap of its own (zram), a loop device, and gcc. mom runs as it does on hosts: as a
user without power, with mom-helper, kept by a supervisor that does what the shipped units do.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

import libvirt  # type: ignore[import-untyped]  # it has no types

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests/real"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "squeeze"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import fault_report  # only found from here on
from ballast import available_mib  # as above
from fault_kinds import KINDS, LIMIT_SECONDS, Course, Kind, Until  # as above
from fault_scene import HERE, Plan, Scene, SomethingIsLeft, scene  # as above
from guest_image import build  # as above
from guests_told import grown  # as above

RESULTS: Final = HERE / "results"

TROUBLE: Final = (SomethingIsLeft, RuntimeError, OSError, AssertionError, subprocess.SubprocessError, libvirt.libvirtError)
"""What keeps a fault from being tried, which says nothing of mom."""

TOGETHER: Final = 0.2
"""Of the faults, so many come with the next one, where they do not touch the same."""

LONGEST_SECONDS: Final = 120.0
"""Until a scene is given up: how late something was that was too late is worth knowing."""

FIRST_SECONDS, SQUEEZED_SECONDS = 180.0, 20.0
"""For the first time that all is in order, and until guests have given what they do not use."""


@dataclass(frozen=True)
class Chosen:
    """One fault of a campaign."""

    number: int
    kind: Kind
    random: Random

    def meets(self, other: Chosen) -> bool:
        """Whether both touch the same."""
        return self.kind.alone or other.kind.alone or bool(self.kind.touches & other.kind.touches)


def chosen(seed: int, number: int, kinds: Sequence[str]) -> Chosen:
    """The fault of that number, whatever came before it: each kind comes once before any comes again."""
    turn, place = divmod(number - 1, len(kinds))
    order = Random(f"{seed}/{turn}/order").sample(sorted(kinds), len(kinds))  # noqa: S311  # it is to be the same every time
    return Chosen(number, KINDS[order[place]], Random(f"{seed}/{number}"))  # noqa: S311  # as above


def in_turn(seed: int, numbers: Sequence[int], kinds: Sequence[str]) -> Iterator[Sequence[Chosen]]:
    """All faults in turn, those together that come together."""
    left = [chosen(seed, number, kinds) for number in numbers]
    while left:
        first = left.pop(0)
        if left and first.random.random() < TOGETHER and not first.meets(left[0]):
            yield first, left.pop(0)
        else:
            yield (first,)


@dataclass
class _Course:
    """A fault under way: what it waits for, since when."""

    fault: Chosen
    course: Course
    until: Until | float = 0.0
    since: float = 0.0

    def step(self) -> str | None:
        """Go on if it may: empty; None: it is over; else why what was promised has not come about."""
        now = time.monotonic()
        if isinstance(self.until, Until):
            why_not = self.until.why_not()
            if why_not and now - self.since < self.until.seconds:
                return ""
            if why_not and self.until.promised:
                return why_not
            if why_not:
                raise SomethingIsLeft(f"{self.until.seconds:.0f} s were not enough until {why_not}")
        elif now - self.since < self.until:
            return ""
        try:
            self.until, self.since = next(self.course), now
        except StopIteration:
            return None
        return ""


def suffer(made: Scene, faults: Sequence[Chosen]) -> dict[str, Any]:
    """Have these faults happen together, and see what becomes of it; what is known of it, as JSON.

    Raises `SomethingIsLeft`, `RuntimeError` or `OSError` when it could not be tried as it should be.
    """
    for guest in made.guests.values():
        guest.seen.take_least()
    kills, starts, began, late = made.kills, made.mom.starts, time.monotonic(), ""
    before = dict(made.guests)
    courses = [_Course(one, one.kind.course(made, one.random)) for one in faults]
    try:
        under_way = list(courses)
        while under_way:
            for one in list(under_way):
                said = one.step()
                if said is None or said:
                    under_way.remove(one)
                    late = late or said or ""
            made.tick()
    finally:
        for one in courses:
            one.course.close()  # its last part puts right what it broke
    if late and not made.mom.pid:
        made.mom.start()
    over = time.monotonic()
    since = made.cycle
    why_not = made.why_not_in_order(since)
    while why_not and time.monotonic() - over < LONGEST_SECONDS:
        made.tick()
        waits, why_not = why_not, made.why_not_in_order(since)
        if time.monotonic() - over > LIMIT_SECONDS:
            late = late or f"after {LIMIT_SECONDS:.0f} s it was still to come that {waits}"
    now = time.monotonic()
    watched = {**before, **made.guests}
    below = {name: [round(one.seen.least), round(one.seen.promised)] for name, one in watched.items() if one.seen.is_below}
    killed = made.kills - kills
    lost = [name for name, one in made.guests.items() if not one.runs]
    ended_by_itself = made.mom.starts > starts and not any("mom" in one.kind.touches for one in faults)
    bursts = [took for one in made.guests.values() for took in grown(one.seen.listener.heard, began, now)]
    broke = [
        *(["guarantee"] if below else []),
        *(["killed"] if killed else []),
        *(["guest lost"] if lost else []),
        *(["late"] if late or why_not else []),
        *(["mom ended by itself"] if ended_by_itself else []),
    ]
    return {
        "lasted": round(over - began, 1),
        "recovery": None if why_not else round(now - over, 1),
        "broke": broke,
        "below": below,
        "killed": killed,
        "lost": lost,
        "late": late or why_not,
        "burst_worst": max(bursts, default=None),
        "available": round(available_mib()),
        "load": round(os.getloadavg()[0], 1),
    }


def in_order_first(made: Scene) -> None:
    """Until mom is at work and has taken what it finds, before anything goes wrong."""
    made.until(lambda: not made.why_not_in_order((0, 0)), "all is in order for the first time", FIRST_SECONDS)
    made.pass_time(SQUEEZED_SECONDS)


@dataclass
class Campaign:
    """What is to be done, and what was."""

    seed: int
    kinds: Sequence[str]
    plan: Plan
    results: Path
    tell: Callable[[str], None]
    pauses: Callable[[], bool] = lambda: False

    @property
    def path(self) -> Path:
        """The lines."""
        return self.results / "faults.jsonl"

    def done(self) -> set[int]:
        """The numbers that this seed's campaign has behind it."""
        return {one["number"] for one in fault_report.results_in(self.path) if one["seed"] == self.seed}

    def run(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """All of these that are not done yet; a line for each."""
        found: list[dict[str, Any]] = []
        groups = list(in_turn(self.seed, [number for number in numbers if number not in self.done()], self.kinds))
        while groups:
            if self.pauses():
                self.tell("pausing")
            while self.pauses():
                time.sleep(5)
            with scene(self.plan, self.tell) as made:
                in_order_first(made)
                while groups and not self.pauses():
                    lines, whole = self._suffered(made, groups.pop(0))
                    found += lines
                    if not whole:
                        break
        return found

    def _suffered(self, made: Scene, faults: Sequence[Chosen]) -> tuple[list[dict[str, Any]], bool]:
        """Lines for these, and whether the scene can be gone on with."""
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        names = [one.kind.name for one in faults]
        try:
            seen = suffer(made, faults)
        except TROUBLE as error:
            seen = {"not_tried": f"{type(error).__name__}: {error}"[:500], "broke": []}
        lines: list[dict[str, Any]] = []
        trace = f"{self.seed}.{faults[0].number}.json.gz"
        for one in faults:
            others = [name for name in names if name != one.kind.name]
            line = {"seed": self.seed, "number": one.number, "kind": one.kind.name, "when": when, "with": others, **seen}
            if seen["broke"] or "not_tried" in seen:
                line["trace"] = trace
            lines.append(line)
        if "trace" in lines[0]:
            made.keep_trace(self.results / "traces" / trace, lines[0])
        self.results.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
        in_order = f"in order after {seen.get('recovery')} s"
        said = seen.get("not_tried") or " ".join(filter(None, (", ".join(seen["broke"]), seen.get("late", "")))) or in_order
        self.tell(f"{faults[0].number:5d} {' and '.join(names)}: {said}")
        made.make_room_in_log()
        return lines, "not_tried" not in seen and seen["recovery"] is not None


def told(text: str) -> None:
    """For whoever waits."""
    print(f"{time.strftime('%H:%M:%S', time.gmtime())} {text}", flush=True)


def run(options: argparse.Namespace) -> None:
    """A campaign, or the rest of one."""
    build()
    pauses = options.pause_while.exists if options.pause_while else lambda: False
    plan = Plan(options.guests, not options.no_ksm, options.nice, options.available)
    campaign = Campaign(options.seed, options.kinds or list(KINDS), plan, options.results, told, pauses)
    if campaign.done() and not options.resume:
        sys.exit(f"{campaign.path} has results with the seed {options.seed}: go on with --resume, or choose another seed")
    began = time.monotonic()
    found = campaign.run(range(1, options.faults + 1))
    hours = (time.monotonic() - began) / 3600
    told(f"{len(found)} faults in {hours:.2f} hours, {len(found) / hours:.0f} an hour")
    print(fault_report.summary(found))
    print(fault_report.table_of(found))


def report(options: argparse.Namespace) -> None:
    """The table of all results, printed, and put into the page."""
    found = list(fault_report.results_in(options.results / "faults.jsonl"))
    print(f"{fault_report.summary(found)}\n\n{fault_report.table_of(found)}")
    if options.docs is not None:
        fault_report.fill(options.docs / "safety.md", found)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run or report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    campaign = verbs.add_parser("run", help="have things go wrong")
    campaign.add_argument("--faults", type=int, default=100, metavar="N", help="how many (default: %(default)s)")
    campaign.add_argument("--seed", type=int, default=1, help="which (default: %(default)s)")
    campaign.add_argument("--kinds", nargs="+", choices=sorted(KINDS), metavar="NAME", help=f"only of these: {', '.join(sorted(KINDS))}")
    campaign.add_argument("--resume", action="store_true", help="go on with a campaign of this seed")
    campaign.add_argument("--pause-while", type=Path, metavar="FILE", help="end guests and mom while there is that file")
    campaign.add_argument("--guests", type=int, default=12, help="how many guests of 320 MiB (default: %(default)s)")
    campaign.add_argument("--no-ksm", action="store_true", help="leave the host's KSM alone, as other programs here use it")
    campaign.add_argument("--nice", type=int, default=0, help="of guests, where others work on this machine (default: %(default)s)")
    campaign.add_argument(
        "--available",
        type=int,
        default=0,
        metavar="MIB",
        help="take the host's memory but for so much; 0: tell mom to keep more than there is",
    )
    told_all = verbs.add_parser("report", help="print the table, and put it into the page")
    told_all.add_argument("--docs", type=Path, help="the folder with safety.md")
    for verb in (campaign, told_all):
        verb.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # as ctrl-C does: so that guests and libvirtd end, too
    {"run": run, "report": report}[options.verb](options)


if __name__ == "__main__":
    main()
