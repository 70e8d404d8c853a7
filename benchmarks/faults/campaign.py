"""The campaign of faults: what becomes of real guests when mom, and all that it works with, breaks under a squeeze.

    python benchmarks/faults/campaign.py run --faults 2000 --seed 1 [--kinds NAME …] [--resume] [--pause-while FILE]
    python benchmarks/faults/campaign.py report [--docs docs]

Faults are chosen at random, by the seed, and follow each other as soon as all is in order again; some come together. Several lanes
go on at the same time, each with a libvirtd, guests and a mom of its own. Each fault is a line in results/faults.jsonl; of one that broke
something, results/traces keeps what was seen and what all logs say. The machine needs what tests/real needs, root, 6 GiB of memory, a
compressed swap of its own (zram), a loop device, and gcc. mom runs as it does on hosts: as a
user without power, with mom-helper, kept by a supervisor that does what the shipped units do.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
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
from fault_scene import HERE, ROOT, SWAP_MIB, NotNow, Plan, Scene, SomethingIsLeft, scene  # as above
from guest_image import build  # as above
from guests_told import grown  # as above
from host_swap import compressed_swap  # as above
from squeeze_report import results_in  # as above

RESULTS: Final = HERE / "results"

TROUBLE: Final = (SomethingIsLeft, RuntimeError, OSError, AssertionError, subprocess.SubprocessError, libvirt.libvirtError)
"""What keeps a fault from being tried, which says nothing of mom."""

TOGETHER: Final = 0.2
"""Of the faults, so many come with the next one, where they do not touch the same."""

LONGEST_SECONDS: Final = 120.0
"""Until a scene is given up: how late something was that was too late is worth knowing."""

FIRST_SECONDS, SQUEEZED_SECONDS = 180.0, 60.0
"""For the first time that all is in order, and until guests have given what they do not use, at most."""

HOST_WIDE: Final = frozenset({"swap", "memory"})
"""What all lanes share: such a fault happens in one of them at a time, and all of them feel it."""

HOST_WIDE_SECONDS: Final = 600.0
"""Until another lane's is over, at most."""

STARVED_SECONDS: Final = 2.0
"""Between two looks, which are a tenth of a second apart: other programs had the processors, and what was late says nothing of mom."""

SCENES_IN_VAIN: Final = 3
"""One after the other, until a lane is given up."""


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
    asked = time.monotonic()
    made.let_guests_boot()
    for guest in made.guests.values():
        guest.seen.take_least()
    made.longest_gap = 0.0
    kills, starts, began, late = made.kills, made.mom.starts, time.monotonic(), ""
    before = dict(made.guests)
    not_now: dict[int, str] = {}
    courses = [_Course(one, one.kind.course(made, one.random)) for one in faults]
    try:
        under_way = list(courses)
        while under_way:
            for one in list(under_way):
                try:
                    said = one.step()
                except NotNow as error:
                    not_now[one.fault.number], said = str(error), None
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
    why_not = waits = made.why_not_in_order(since)
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
    starved: dict[str, str] = {}
    if broke == ["late"] and made.longest_gap > STARVED_SECONDS:
        starved["not_tried"] = f"other programs had the machine, for {made.longest_gap:.1f} s at a time: {late or why_not}"
        broke = []
    return {
        **starved,
        "not_now": not_now,
        "waited": round(began - asked, 1),
        "lasted": round(over - began, 1),
        "recovery": None if why_not else round(now - over, 1),
        "last": waits,
        "broke": broke,
        "below": below,
        "killed": killed,
        "lost": lost,
        "late": late or why_not,
        "burst_worst": max(bursts, default=None),
        "longest_gap": round(made.longest_gap, 1),
        "available": round(available_mib()),
        "load": round(os.getloadavg()[0], 1),
    }


def in_order_first(made: Scene) -> None:
    """Until mom is at work and has taken what it finds, before anything goes wrong."""
    made.until(lambda: not made.why_not_in_order((0, 0)), "all is in order for the first time", FIRST_SECONDS)
    end = time.monotonic() + SQUEEZED_SECONDS
    while not made.is_squeezed and time.monotonic() < end:  # on a busy machine, some are in a burst at any time
        made.tick()


@dataclass
class Campaign:
    """What is to be done, and what was.

    :param lane: which part of it this is, of so many that go on at the same time
    """

    seed: int
    kinds: Sequence[str]
    plan: Plan
    results: Path
    tell: Callable[[str], None]
    pauses: Callable[[], bool] = lambda: False
    lane: int = 0
    lanes: int = 1

    @property
    def path(self) -> Path:
        """The lines."""
        return self.results / "faults.jsonl"

    def done(self) -> set[int]:
        """The numbers that this seed's campaign has behind it."""
        return {one["number"] for one in results_in(self.path) if one["seed"] == self.seed}

    def run(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """Of these, those of the lane that are not done yet; a line for each."""
        found: list[dict[str, Any]] = []
        done, in_vain = self.done(), 0
        groups = list(in_turn(self.seed, [number for number in numbers if number not in done], self.kinds))[self.lane :: self.lanes]
        self.results.mkdir(parents=True, exist_ok=True)
        compile_all()
        while groups:
            if self.pauses():
                self.tell("pausing")
            while self.pauses():
                time.sleep(5)
            with scene(self.plan, self.tell) as made:
                try:
                    in_order_first(made)
                except SomethingIsLeft as error:
                    in_vain += 1
                    self.tell(f"{error}; {made.why_not_in_order((0, 0))}")
                    if in_vain == SCENES_IN_VAIN:
                        raise
                    continue
                in_vain = 0
                while groups and not self.pauses():
                    lines, whole = self._suffered(made, groups.pop(0))
                    found += lines
                    if not whole:
                        break
        return found

    @contextmanager
    def _in_turn(self, made: Scene, faults: Sequence[Chosen]) -> Iterator[None]:
        """No two lanes break what all of them share at the same time."""
        if not any(one.kind.touches & HOST_WIDE for one in faults):
            yield
            return
        with (self.results / "host-wide").open("w") as lock:

            def has_it() -> bool:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return False
                return True

            made.until(has_it, "other lanes leave swap and memory alone", HOST_WIDE_SECONDS)
            yield

    def _suffered(self, made: Scene, faults: Sequence[Chosen]) -> tuple[list[dict[str, Any]], bool]:
        """Lines for these, and whether the scene can be gone on with."""
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        names = [one.kind.name for one in faults]
        try:
            with self._in_turn(made, faults):
                seen = suffer(made, faults)
        except TROUBLE as error:
            seen = {"not_tried": f"{type(error).__name__}: {error}"[:500], "broke": [], "recovery": None}
        lines: list[dict[str, Any]] = []
        not_now = seen.pop("not_now", {})
        whole = seen.get("recovery", 0.0) is not None
        trace = f"{self.seed}.{faults[0].number}.json.gz"
        for one in faults:
            others = [name for name in names if name != one.kind.name]
            line = {"seed": self.seed, "number": one.number, "kind": one.kind.name, "when": when, "with": others, **seen}
            if seen["broke"] or seen.get("late") or not whole:
                line["trace"] = trace
            if one.number in not_now:
                line |= {"not_tried": not_now[one.number], "broke": []}
            lines.append(line)
        if "trace" in lines[0]:
            made.keep_trace(self.results / "traces" / trace, lines[0])
        with self.path.open("ab", buffering=0) as file:  # in one piece, as other lanes write there, too
            file.write("".join(json.dumps(line) + "\n" for line in lines).encode())
        in_order = f"in order after {seen.get('recovery')} s"
        said = seen.get("not_tried") or " ".join(filter(None, (", ".join(seen["broke"]), seen.get("late", "")))) or in_order
        self.tell(f"{faults[0].number:5d} {' and '.join(names)}: {said}")
        made.make_room_in_log()
        return lines, whole


def compile_all() -> None:
    """mom's user cannot keep what it compiles of this checkout, and would compile it at each start."""
    subprocess.run([sys.executable, "-m", "compileall", "-q", *ROOT.glob("mom_*/src")], check=False, stdout=subprocess.DEVNULL)


def told(text: str) -> None:
    """For whoever waits."""
    print(f"{time.strftime('%H:%M:%S', time.gmtime())} {text}", flush=True)


def _campaign(options: argparse.Namespace, plan: Plan, lane: int = 0) -> Campaign:
    """That lane's part of it. One mom only has the host's KSM, which there is once."""
    pauses = options.pause_while.exists if options.pause_while else lambda: False
    plan = replace(plan, ksm=plan.ksm and lane == 0, first=lane * plan.guests)

    def tell(text: str) -> None:
        told(f"lane {lane + 1}: {text}" if options.lanes > 1 else text)

    return Campaign(options.seed, options.kinds or list(KINDS), plan, options.results, tell, pauses, lane, options.lanes)


def _lane(options: argparse.Namespace, plan: Plan, lane: int) -> None:
    """One of several, as a process."""
    end_with_guests()
    _campaign(options, plan, lane).run(range(1, options.faults + 1))


def run(options: argparse.Namespace) -> None:
    """A campaign, or the rest of one."""
    build()
    plan = Plan(options.guests, not options.no_ksm, options.nice, options.available)
    campaign = _campaign(options, plan)
    before = campaign.done()
    if before and not options.resume:
        sys.exit(f"{campaign.path} has results with the seed {options.seed}: go on with --resume, or choose another seed")
    began = time.monotonic()
    if options.lanes == 1:
        campaign.run(range(1, options.faults + 1))
    else:
        _run_lanes(options, plan)
    found = [one for one in results_in(campaign.path) if one["seed"] == options.seed and one["number"] not in before]
    hours = (time.monotonic() - began) / 3600
    told(f"{len(found)} faults in {hours:.2f} hours, {len(found) / hours:.0f} an hour")
    print(fault_report.summary(found))
    print(fault_report.table_of(found))


def _run_lanes(options: argparse.Namespace, plan: Plan) -> None:
    """All lanes until the last has ended, on one swap."""
    processes = multiprocessing.get_context("spawn")
    with compressed_swap(SWAP_MIB * options.lanes) as swap:
        lanes = [processes.Process(target=_lane, args=(options, replace(plan, swap=swap), lane)) for lane in range(options.lanes)]
        try:
            for one in lanes:
                one.start()
            for one in lanes:
                one.join()
        finally:
            for one in lanes:
                if one.is_alive():
                    one.terminate()
            for one in lanes:
                one.join()


def end_with_guests() -> None:
    """SIGTERM does what ctrl-C does, so that guests and libvirtd end, too."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


def report(options: argparse.Namespace) -> None:
    """The table of all results, printed, and put into the page."""
    found = list(results_in(options.results / "faults.jsonl"))
    print(f"{fault_report.summary(found)}\n\n{fault_report.table_of(found)}")
    if options.docs is not None:
        readme = options.docs.parent / "benchmarks/faults/README.md"
        fault_report.fill(options.docs / "safety.md", readme, found)


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
    campaign.add_argument("--lanes", type=int, default=3, help="how many moms, each with guests of its own (default: %(default)s)")
    campaign.add_argument("--guests", type=int, default=4, help="how many guests of 320 MiB each of them has (default: %(default)s)")
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
    told_all.add_argument("--docs", type=Path, help="the folder with safety.md, in a clone")
    for verb in (campaign, told_all):
        verb.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    if options.verb == "run" and options.available and options.lanes > 1:
        parser.error("--available needs --lanes 1, as the host has its memory once")
    end_with_guests()
    {"run": run, "report": report}[options.verb](options)


if __name__ == "__main__":
    main()
