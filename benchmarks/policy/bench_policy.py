"""How long policies take to evaluate and to compile, beside a plain interpreter; and how long the balloon law takes.

    python benchmarks/policy/bench_policy.py [--guests 100,1000,10000] [--rounds 30]

The balloon law suggests sizes on hosts under pressure, so that nearly every guest is resized, without service classes (which say what it
costs to take memory from a guest) and with them; the default policies for balloons and KSM take what it suggests; `dense` is a policy of 50
lines that looks at every guest. The ways are measured in turn, round by round, in one process; the median is told. `plain` is the
tree-walking interpreter of the tests on the dense policy: what evaluation costs where nothing is compiled. The law is measured besides with
1,000 guests of which nine in ten are expected to use more before long, and with the same of which nothing is, in three states of a host.
"""

from __future__ import annotations

import argparse
import gc
import math
import platform
import random
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.resources import files
from pathlib import Path

from mom_core import Snapshot, Value
from mom_core.model import GuestTable
from mom_core.testing import snapshot
from mom_plugins_balloon.gate import ShrinkLimits
from mom_plugins_balloon.names import SUGGESTED
from mom_plugins_balloon.parameters import LawParameters
from mom_plugins_balloon.seen import suggestions
from mom_plugins_balloon.states import HostWanted
from mom_plugins_policy import Policy, PolicyError

sys.path.insert(0, str(Path(__file__).parents[2] / "mom_plugins_policy" / "tests"))
from plain_interpreter import Plain

TARGET_LAW_MS = {1000: 8.0, 10_000: 80.0}
TARGET_MS = {1000: 10.0}
TARGET_COMPILE_MS = 30.0
TARGET_HOSTILE_MS = 100.0
TARGET_HOSTILE_MIB = 50.0
PLAIN_ROUNDS = 3

HOSTILE = {
    "(<< 1 1000000000)": "(<< 1 1000000000)",
    '(* 1000000000 "x")': '(* 1000000000 "x")',
    "endless recursion": "(def f (x) (f x)) (f 1)",
    "recursion that branches": "(def f (n) (if (< n 0) 0 (+ (f (- n 1)) (f (- n 1))))) (f 150)",
    "50 MB of parentheses": "(" * 50_000_000,
    "1 MB of parentheses": "()" * 500_000,
    "a 1 MB integer": "1" * 1_000_000,
    "100,000 nested let": "(let ((x 1)) " * 70_000,
    "400 nested let": "(let ((x 1)) " * 400 + "1" + ")" * 400,
    "lists that double": "(defvar l (with Guests g 1)) " + "(set l (+ l l)) " * 100,
    "strings that double": '(defvar s "ab") ' + "(set s (+ s s)) " * 100,
    "integers that double": "(defvar i 3) " + "(set i (* i i)) " * 100,
    "loops in loops": "(defvar l (with Guests g 1)) " + "(set l (+ l l)) " * 10 + "(with l a (with l b (with l c (with l d 1))))",
}
"""Texts that are written to exhaust the host."""
LIMITS = ShrinkLimits(32 * 1024, 0.05, 15.0)
"""As a plugin without settings has them, in cycles of 5 s."""


def crowded_host(guests: int, *, classes: bool = False, available: int = 1 << 22) -> Snapshot:
    """A host that lacks memory, with so many guests of all sorts, and at most so many KiB available.

    :param classes: the guests have service classes, so that it costs more to take memory from some than from others
    """
    choose = random.Random(guests)  # noqa: S311  # the same hosts each time
    made: dict[str, dict[str, Value]] = {}
    for number in range(guests):
        most = choose.choice((1, 2, 4, 8)) << 20
        size = int(most * choose.uniform(0.5, 1.0))
        made[f"guest{number:05}"] = {
            "balloon_cur": size, "balloon_max": most, "balloon_min": most // 4, "mem_usable": int(size * choose.uniform(0.02, 0.8)),
            "mem_available": size - 65536, "mem_unused": size // choose.choice((2, 5, 10)), "stats_age": choose.choice((0, 1, 2)),
            "rss": size, "rss_before": size, "qemu_overhead": 65536, "kernel_reserved": 65536, "guest_guarantee": None, "host_swap": None,
            "mem_cache_share": choose.choice((0.1, 0.5)), "mem_used_peak": choose.choice((None, size // 2)), "mem_used_before": size,
            "mem_stall_floor": choose.choice((None, None, size // 8)), "balloon_obstacle": None,
            "balloon_target": choose.choice((None, size // 2, size)), "balloon_target_age": choose.choice((None, 0.5, 8.0)),
            "reclaim_cost": choose.choice((None, 0.5, 1.0, 2.0, 4.0, 8.0)) if classes else None,
            "swap_in": choose.choice((0, 0, 0, 5000)), "swap_out": 0, "major_fault": choose.choice((0, 3, 900)), "minor_fault": 1000,
        }  # fmt: skip
    total = 3 * guests << 20
    host: dict[str, Value] = {
        "mem_available": total, "mem_really_available": min(total // 10, available),
        "mem_watermark_high": 3 << 20, "mem_watermark_hard": 1 << 20, "mem_watermark_low": 1 << 19, "mem_reserved": 0, "offload_net": None,
        "balloon_goal": "balanced", "mem_free": total // 10, "cpu_count": 16, "ksm_run": 1,
        "ksm_pages_to_scan": 500, "ksm_sleep_millisecs": 100, "ksm_full_scans": 7, "ksm_clock": 1000.0,
        "ksm_saved": 1 << 20, "ksm_yield": 2048.0, "ksmd_cpu_usage": 12.5, "ksm_advisor_mode": "none",
        "ksm_suggested_run": 1, "ksm_suggested_pages": 700, "ksm_suggested_sleep": 20,
    }  # fmt: skip
    return snapshot(host=host, guests=made, properties={"host": {"name": "host", "interval": 5.0}})


def as_the_engine_has_it(made: Snapshot) -> Snapshot:
    """The same snapshot with guests' fields in columns, as each cycle collects them."""
    listed = [replace(guest, fields={}) for guest in made.guests.values()]
    return replace(made, guests=GuestTable(listed, {guest.id: place for place, guest in enumerate(listed)}, made.columns))


RISING_GUESTS = 1000
RISES_KIB = 300 << 10
"""What a guest is expected to use more before long."""


def rising_host(available: int, *, calm: bool, expected: bool) -> Snapshot:
    """A host with `RISING_GUESTS`, and so many KiB available.

    :param calm: guests have all of their memory; else they are those of a crowded host
    :param expected: nine in ten of them are about to use more
    """
    crowd = crowded_host(RISING_GUESTS)
    choose = random.Random(1)  # noqa: S311  # the same hosts each time
    guests: dict[str, dict[str, Value]] = {}
    for identity, guest in crowd.guests.items():
        most, size = (guest.number(name) or 0.0 for name in ("balloon_max", "mem_available"))
        used, fields = size - (guest.number("mem_usable") or 0.0), dict(guest.fields)
        if calm:
            used = 0.4 * most
            fields |= {
                "balloon_cur": most, "mem_available": most - 65536, "mem_usable": most - 65536 - used, "mem_used_before": used,
                "rss": most / 2, "rss_before": most / 2, "balloon_target": None, "balloon_target_age": None, "swap_in": 0,
                "major_fault": 0,
            }  # fmt: skip
        if expected:
            rises = choose.random() < 0.9
            fields |= {
                "mem_used_expected": used, "mem_used_expected_soon": used + RISES_KIB * rises, "mem_rises_in": 600.0 if rises else None,
                "mem_expected_weight": 1.0,
            }  # fmt: skip
        guests[identity] = fields
    host = {**crowd.host.fields, "mem_really_available": available}
    if expected:
        host["host_rise_expected"] = 4 << 20 if calm else int(0.9 * RISING_GUESTS * RISES_KIB)
    return as_the_engine_has_it(snapshot(host=host, guests=guests, properties={"host": {"name": "host", "interval": 5.0}}))


def with_forecasts(rounds: int) -> dict[str, float]:
    """The law's ms in each state of a host, without and with what is expected of guests."""
    states = {"calm": (6 << 20, True), "soft": (5 << 19, False), "hard": (3 << 18, False)}
    ways: dict[str, Callable[[], object]] = {
        f"{state}{', with forecasts' if expected else ''}": partial(
            suggestions, rising_host(available, calm=calm, expected=expected), LawParameters(), HostWanted(), LIMITS, interval=5.0
        )
        for state, (available, calm) in states.items()
        for expected in (False, True)
    }
    return median_ms(ways, rounds)


def default_policies() -> dict[str, str]:
    """The texts that the plugins ship."""
    return {
        "40_ksm": files("mom_plugins_ksm").joinpath("ksm.policy").read_text("utf-8"),
        "50_balloon": files("mom_plugins_balloon").joinpath("balloon.policy").read_text("utf-8"),
    }


def median_ms(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The median CPU time of each way in milliseconds, as other programs are on the host; one round does each of them once."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, way in ways.items():
                began = time.process_time()
                way()
                taken[name].append((time.process_time() - began) * 1e3)
            gc.collect()
    finally:
        gc.enable()
    return {name: statistics.median(times) for name, times in taken.items()}


def evaluations(counts: list[int], rounds: int) -> list[dict[str, float]]:
    """One row per number of guests."""
    policy, heavy, law = Policy.compile(default_policies()), Policy.compile({"p": dense(50)}), LawParameters()
    rows = []
    for guests, classes in [(guests, classes) for guests in counts for classes in (False, True)]:
        bare = crowded_host(guests, classes=classes)
        suggest = partial(suggestions, as_the_engine_has_it(bare), law, HostWanted(), LIMITS, interval=5.0)
        found = zip(bare.guests.values(), suggest().sizes, strict=True)
        sizes = {guest.id: {**guest.fields, SUGGESTED: size.target} for guest, size in found}
        snap = snapshot(host=bare.host.fields, guests=sizes, properties={"host": {"name": "host", "interval": 5.0}})
        asked = decided(policy, snap)
        ways: dict[str, Callable[[], object]] = {
            "law": suggest,
            "policy": partial(policy.evaluate, snap),
            "policy_decisions": partial(decided, policy, snap),
            "dense": partial(heavy.evaluate, snap),
        }
        times = median_ms(ways, rounds)
        plain = median_ms({"plain": partial(interpreted, heavy, snap)}, PLAIN_ROUNDS if guests <= 1000 else 1)
        rows.append({"guests": guests, "classes": classes, "resized": len(asked), **times, **plain})
    return rows


@dataclass
class Compilation:
    """How long some texts take to compile."""

    name: str
    lines: int
    ms: float


@dataclass
class Answer:
    """How a hostile text was answered: how fast, how many MiB that were kept, and how."""

    name: str
    ms: float
    mib: float
    answer: str


def decided(policy: Policy, snap: Snapshot) -> Sequence[object]:
    """Evaluate, and make the decisions."""
    result = policy.evaluate(snap)
    if result.errors:
        raise SystemExit(f"the default policies fail: {result.errors[0]}")
    return result.decisions


def interpreted(policy: Policy, snap: Snapshot) -> object:
    """Evaluate by walking the tree."""
    return Plain(list(policy.program.forms), snap).run()


def compilations(rounds: int) -> list[Compilation]:
    """How long the default policies, and policies of 200 and 2000 lines, take to compile."""
    texts = default_policies()
    policies = {"40_ksm": {"p": texts["40_ksm"]}, "50_balloon": {"p": texts["50_balloon"]}, "both": texts}
    policies |= {"200 dense lines": {"p": dense(200)}, "2000 dense lines": {"p": dense(2000)}}
    ways: dict[str, Callable[[], object]] = {name: partial(Policy.compile, named) for name, named in policies.items()}
    times = median_ms(ways, max(3, rounds // 3))
    return [Compilation(name, sum(len(text.splitlines()) for text in policies[name].values()), took) for name, took in times.items()]


def dense(lines: int) -> str:
    """A policy without comments or short lines: functions that call each other, loops, conditions and requests."""
    return "\n".join(_DENSE.replace("N", str(number)).replace("D", str(number % 9 + 1)) for number in range(lines // 10))


_DENSE = """(defvar share_N 0.D)
(def spare_N (guest margin)
    (max 0 (- (if (valid guest.mem_unused) guest.mem_unused 0) (* margin (+ guest.balloon_max share_N)))))
(def change_N (guest amount)
    (if (> amount N) (guest.Control "balloon_target" (max guest.balloon_min (- guest.balloon_cur amount))) nil))
(with Guests guest
    (if (and (valid guest.balloon_cur guest.balloon_max) (< guest.balloon_cur guest.balloon_max))
        (let ((amount (* share_N (spare_N guest 0.D))))
            (change_N guest (min amount 1N00)))
        0))"""


def hostile() -> list[Answer]:
    """How long texts take that are written to exhaust the host, and how they are answered."""
    snap = crowded_host(2)
    return [answered(name, text, snap) for name, text in HOSTILE.items()]


def answered(name: str, text: str, snap: Snapshot) -> Answer:
    """One of them."""
    before = peak_mib()
    began = time.perf_counter()
    try:
        result = Policy.compile({"p": text}).evaluate(snap)
        answer = result.errors[0].kind if result.errors else "a value"
    except PolicyError as error:
        answer = f"refused: {error.kind}"
    return Answer(name, (time.perf_counter() - began) * 1e3, peak_mib() - before, answer)


def peak_mib() -> float:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> int:
    """Measure and print; 1 if a target is missed."""
    arguments = argparse.ArgumentParser(description="How long policies take.")
    arguments.add_argument("--guests", default="100,1000,10000")
    arguments.add_argument("--rounds", type=int, default=30)
    given = arguments.parse_args()
    hostiles = hostile()  # first, while this process is small
    evaluated = evaluations([int(count) for count in given.guests.split(",")], given.rounds)
    compiled, rising = compilations(given.rounds), with_forecasts(given.rounds)
    print(f"Python {platform.python_version()}, {platform.machine()}; medians of CPU time in ms")
    print(
        f"\n{'guests':>7} {'classes':>8} {'resized':>8} {'law':>9} {'policy':>9} {'with decisions':>15} {'dense':>9} {'plain':>10}", end=""
    )
    print(f" {'law, us/guest':>14}")
    for row in evaluated:
        print(
            f"{row['guests']:>7} {'yes' if row['classes'] else 'no':>8} {row['resized']:>8} {row['law']:>9.3f} {row['policy']:>9.3f}",
            end=" ",
        )
        print(f"{row['policy_decisions']:>15.3f} {row['dense']:>9.3f} {row['plain']:>10.1f} {row['law'] / row['guests'] * 1e3:>14.2f}")
    print(f"\n{f'law, {RISING_GUESTS} guests':<28} {'ms':>9}")
    for state, took in rising.items():
        print(f"{state:<28} {took:>9.3f}")
    print(f"\n{'compile':<20} {'lines':>7} {'ms':>9}")
    for one in compiled:
        print(f"{one.name:<20} {one.lines:>7} {one.ms:>9.2f}")
    print(f"\n{'hostile text':<26} {'ms':>9} {'MiB':>7}  answer")
    for text in hostiles:
        print(f"{text.name:<26} {text.ms:>9.2f} {text.mib:>7.1f}  {text.answer}")
    return report(evaluated, compiled, hostiles)


def report(evaluated: list[dict[str, float]], compiled: list[Compilation], answered: list[Answer]) -> int:
    """Say which targets are missed."""
    slow = [(f"{row['guests']} guests", row["policy"], TARGET_MS.get(int(row["guests"]), math.inf)) for row in evaluated]
    slow += [(f"the law, {row['guests']} guests", row["law"], TARGET_LAW_MS.get(int(row["guests"]), math.inf)) for row in evaluated]
    slow += [(one.name, one.ms, TARGET_COMPILE_MS) for one in compiled if one.name == "200 dense lines"]
    slow += [(one.name, one.ms, TARGET_HOSTILE_MS) for one in answered]
    missed = [f"{name}: {took:.1f} ms" for name, took, target in slow if took > target]
    missed += [f"{one.name}: {one.mib:.0f} MiB" for one in answered if one.mib > TARGET_HOSTILE_MIB]
    print("\ntargets: " + ("; ".join(f"MISSED {miss}" for miss in missed) or "all met"), file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
