"""Break mom, and everything that it works with, while real guests are squeezed, and measure the effect on the guests.

    python benchmarks/faults/campaign.py run --faults 2000 --seed 1 [--kinds NAME …] [--resume]
    python benchmarks/faults/campaign.py report [--docs docs]

The seed chooses the faults. The next fault comes when all is in order again; some come in pairs. results/faults.jsonl has a line for each
fault. For a fault that broke something, results/traces has samples and the ends of all logs. It needs what tests/real needs, root, 6 GiB of
memory, zram, a loop device, and gcc. mom runs as on hosts: as a user without privileges, with mom-helper, under a supervisor that does what
the shipped units do.
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

sys.path += [str(Path(__file__).resolve().parents[2] / folder) for folder in ("tests/real", "benchmarks/shared", "benchmarks/squeeze")]

import fault_report  # only found from here on
from ballast import available_mib  # as above
from fault_kinds import KINDS, LIMIT_SECONDS, Course, Kind, Until  # as above
from fault_scene import HERE, ROOT, Guest, NotNow, Plan, Scene, SomethingIsLeft, scene  # as above
from guests_told import grown  # as above
from tables import results_in, tell  # as above

RESULTS: Final = HERE / "results"

TROUBLE: Final = (SomethingIsLeft, RuntimeError, OSError, AssertionError, subprocess.SubprocessError, libvirt.libvirtError)
"""Errors that keep a fault from being tried, and say nothing about mom."""

TOGETHER: Final = 0.2
"""Ratio of faults that come with the next one, if they do not touch the same."""

LONGEST_SECONDS: Final = 120.0
"""Time limit of a scene for late recoveries: how late they were is worth knowing."""

FIRST_SECONDS, SQUEEZED_SECONDS = 180.0, 10.0
"""Time limits until all is in order for the first time, and until each guest has given memory: most give by sweeps, which take a moment."""

STARVED_SECONDS: Final = 2.0
"""Pause between two samples. After a longer one, a late recovery says nothing about mom: other programs used the CPUs."""

SCENES_IN_VAIN: Final = 3


@dataclass(frozen=True)
class Chosen:
    """One fault of a campaign."""

    number: int
    kind: Kind
    random: Random

    def meets(self, other: Chosen) -> bool:
        """Return whether both touch the same."""
        return self.kind.alone or other.kind.alone or bool(self.kind.touches & other.kind.touches)


def chosen(seed: int, number: int, kinds: Sequence[str]) -> Chosen:
    """Return the fault of that number. Each kind comes once before any comes again."""
    turn, place = divmod(number - 1, len(kinds))
    order = Random(f"{seed}/{turn}/order").sample(sorted(kinds), len(kinds))  # noqa: S311  # the same order each time
    return Chosen(number, KINDS[order[place]], Random(f"{seed}/{number}"))  # noqa: S311  # as above


def in_turn(seed: int, numbers: Sequence[int], kinds: Sequence[str]) -> Iterator[Sequence[Chosen]]:
    """Yield all faults in turn, alone or in pairs."""
    left = [chosen(seed, number, kinds) for number in numbers]
    while left:
        first = left.pop(0)
        if left and first.random.random() < TOGETHER and not first.meets(left[0]):
            yield first, left.pop(0)
        else:
            yield (first,)


@dataclass
class _Course:
    """Fault in progress: what it waits for, since when."""

    fault: Chosen
    course: Course
    until: Until | float = 0.0
    since: float = 0.0
    ended: bool = False

    def step(self) -> str:
        """Continue if possible. Return why a promise was not kept."""
        now = time.monotonic()
        if isinstance(self.until, Until):
            why_not = self.until.why_not()
            if why_not and now - self.since < self.until.seconds:
                return ""
            if why_not and self.until.promised:
                self.ended = True
                return why_not
            if why_not:
                raise SomethingIsLeft(f"{self.until.seconds:.0f} s were not enough until {why_not}")
        elif now - self.since < self.until:
            return ""
        try:
            self.until, self.since = next(self.course), now
        except StopIteration:
            self.ended = True
        return ""


def suffer(made: Scene, faults: Sequence[Chosen]) -> dict[str, Any]:
    """Let these faults happen together. Return the result as JSON.

    Raise one of `TROUBLE` if a fault could not be tried.
    """
    asked = time.monotonic()
    made.let_guests_boot()
    for guest in made.guests.values():
        guest.seen.take_least()
    made.longest_gap = 0.0
    kills, starts, before, began = made.kills, made.mom.starts, dict(made.guests), time.monotonic()
    late, not_now = happen(made, faults)
    if late and not made.mom.pid:
        made.mom.start()
    over = time.monotonic()
    since = made.cycle
    why_not = waits = made.why_not_in_order(since)
    while why_not and time.monotonic() - over < LONGEST_SECONDS:
        made.tick()
        waits, why_not = why_not, made.why_not_in_order(since)
        if time.monotonic() - over > LIMIT_SECONDS:
            late = late or f"after {LIMIT_SECONDS:.0f} s it was still to come that {waits}"
    now = time.monotonic()
    ended_by_itself = made.mom.starts > starts and not any("mom" in one.kind.touches for one in faults)
    bursts = [seconds for guest in made.guests.values() for seconds in grown(guest.seen.listener.heard, began, now)]
    return {
        **broken(made, before, made.kills - kills, late or why_not, ended_by_itself),
        "not_now": not_now,
        "waited": round(began - asked, 1),
        "lasted": round(over - began, 1),
        "recovery": None if why_not else round(now - over, 1),
        "last": waits,
        "burst_worst": max(bursts, default=None),
        "longest_gap": round(made.longest_gap, 1),
        "available": round(available_mib()),
        "load": round(os.getloadavg()[0], 1),
    }


def happen(made: Scene, faults: Sequence[Chosen]) -> tuple[str, dict[int, str]]:
    """Let faults happen until all are over. Return why a promise was not kept, and why some could not be tried at this moment."""
    late, not_now = "", {}
    courses = [_Course(one, one.kind.course(made, one.random)) for one in faults]
    try:
        while not all(one.ended for one in courses):
            for one in courses:
                try:
                    why_not = "" if one.ended else one.step()
                    late = late or why_not
                except NotNow as error:
                    not_now[one.fault.number], one.ended = str(error), True
            made.tick()
    finally:
        for one in courses:
            one.course.close()  # its last part repairs what it broke
    return late, not_now


def broken(made: Scene, before: dict[str, Guest], killed: int, late: str, ended_by_itself: bool) -> dict[str, Any]:
    """Return which promises were broken, with details.

    :param before: guests before the fault
    """
    watched = {**before, **made.guests}
    below = {name: [round(one.seen.least), round(one.seen.promised)] for name, one in watched.items() if one.seen.is_below}
    lost = [name for name, one in made.guests.items() if not one.runs]
    promises = {"guarantee": below, "killed": killed, "guest lost": lost, "late": late, "mom ended by itself": ended_by_itself}
    broke = [promise for promise, is_broken in promises.items() if is_broken]
    starved = {}
    if broke == ["late"] and made.longest_gap > STARVED_SECONDS:
        starved = {"not_tried": f"other programs had the machine, for {made.longest_gap:.1f} s at a time: {late}"}
        broke = []
    return {**starved, "broke": broke, "below": below, "killed": killed, "lost": lost, "late": late}


@dataclass
class Campaign:
    """Faults of a seed, and their results so far."""

    seed: int
    kinds: Sequence[str]
    plan: Plan
    results: Path
    tell: Callable[[str], None]

    @property
    def path(self) -> Path:
        return self.results / "faults.jsonl"

    def done(self) -> set[int]:
        """Return the numbers of faults with a result."""
        return {one["number"] for one in results_in(self.path) if one["seed"] == self.seed}

    def run(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """Let those of these faults happen that have no result. Return the results."""
        results: list[dict[str, Any]] = []
        done, in_vain = self.done(), 0
        groups = list(in_turn(self.seed, [number for number in numbers if number not in done], self.kinds))
        self.results.mkdir(parents=True, exist_ok=True)
        compile_all()
        while groups:
            with scene(self.plan, self.tell) as made:
                try:
                    _in_order_first(made)
                except SomethingIsLeft as error:
                    in_vain += 1
                    self.tell(f"{error}; {made.why_not_in_order((0, 0))}")
                    if in_vain == SCENES_IN_VAIN:
                        raise
                    continue
                in_vain, is_usable = 0, True
                while groups and is_usable:
                    lines, is_usable = self._suffered(made, groups.pop(0))
                    results += lines
        return results

    def _suffered(self, made: Scene, faults: Sequence[Chosen]) -> tuple[list[dict[str, Any]], bool]:
        """Let faults happen. Return their results, and whether the scene can be used for the next."""
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        names = [one.kind.name for one in faults]
        try:
            result = suffer(made, faults)
        except TROUBLE as error:
            result = {"not_tried": f"{type(error).__name__}: {error}"[:500], "broke": [], "recovery": None}
        not_now, is_usable = result.pop("not_now", {}), result.get("recovery", 0.0) is not None
        lines: list[dict[str, Any]] = []
        for one in faults:
            others = [name for name in names if name != one.kind.name]
            line = {"seed": self.seed, "number": one.number, "kind": one.kind.name, "when": when, "with": others, **result}
            if result["broke"] or result.get("late") or not is_usable:
                line["trace"] = f"{self.seed}.{faults[0].number}.json.gz"
            if one.number in not_now:
                line |= {"not_tried": not_now[one.number], "broke": []}
            lines.append(line)
        if "trace" in lines[0]:
            made.keep_trace(self.results / "traces" / lines[0]["trace"], lines[0])
        with self.path.open("a") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
        trouble = result.get("not_tried") or ", ".join(filter(None, (*result["broke"], result.get("late", ""))))
        recovery = f"in order after {result['recovery']} s"
        self.tell(f"{faults[0].number:5d} {' and '.join(names)}: {trouble or recovery}")
        made.make_room_in_log()
        return lines, is_usable


def _in_order_first(made: Scene) -> None:
    """Wait until mom works and has taken memory from each guest: not at once, as some guests have a burst at any time."""
    made.until(lambda: not made.why_not_in_order((0, 0)), "all is in order for the first time", FIRST_SECONDS)
    squeezed, end = made.squeezed, time.monotonic() + SQUEEZED_SECONDS
    while made.squeezable - squeezed and time.monotonic() < end:
        made.tick()
        squeezed |= made.squeezed


def compile_all() -> None:
    """Compile this checkout: mom's user cannot write compiled files, and would compile it at each start."""
    subprocess.run([sys.executable, "-m", "compileall", "-q", *ROOT.glob("mom_*/src")], check=False, stdout=subprocess.DEVNULL)


def run(options: argparse.Namespace) -> None:
    """Run a campaign, or the rest of one."""
    plan = Plan(options.guests, not options.no_ksm, options.nice)
    campaign = Campaign(options.seed, options.kinds or list(KINDS), plan, options.results, tell)
    if campaign.done() and not options.resume:
        sys.exit(f"{campaign.path} has results with the seed {options.seed}: continue with --resume, or choose another seed")
    began = time.monotonic()
    results = campaign.run(range(1, options.faults + 1))
    hours = (time.monotonic() - began) / 3600
    tell(f"{len(results)} faults in {hours:.2f} hours, {len(results) / hours:.0f} an hour")
    print(fault_report.summary(results))
    print(fault_report.table_of(results))


def report(options: argparse.Namespace) -> None:
    """Print the table of all results. With `--docs`, write it into the pages."""
    results = list(results_in(options.results / "faults.jsonl"))
    print(f"{fault_report.summary(results)}\n\n{fault_report.table_of(results)}")
    if options.docs is not None:
        readme = options.docs.parent / "benchmarks/faults/README.md"
        fault_report.fill(options.docs / "safety.md", readme, results)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    campaign = verbs.add_parser("run", help="run a campaign")
    campaign.add_argument("--faults", type=int, default=100, metavar="N", help="number of faults (default: %(default)s)")
    campaign.add_argument("--seed", type=int, default=1, help="choice of faults (default: %(default)s)")
    campaign.add_argument("--kinds", nargs="+", choices=sorted(KINDS), metavar="NAME", help=f"only these kinds: {', '.join(sorted(KINDS))}")
    campaign.add_argument("--resume", action="store_true", help="continue a campaign of this seed")
    campaign.add_argument("--guests", type=int, default=12, help="number of guests of 320 MiB (default: %(default)s)")
    campaign.add_argument("--no-ksm", action="store_true", help="leave the host's KSM alone, if other programs use it")
    campaign.add_argument("--nice", type=int, default=0, help="of guests, if others work on this machine (default: %(default)s)")
    reporting = verbs.add_parser("report", help="print the table of all results")
    reporting.add_argument("--docs", type=Path, metavar="FOLDER", help="write it into safety.md in this folder, and into the README")
    for verb in (campaign, reporting):
        verb.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # guests and libvirtd end, as after ctrl-C
    {"run": run, "report": report}[options.verb](options)


if __name__ == "__main__":
    main()
