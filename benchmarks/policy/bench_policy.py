"""Measure how long the balloon law and the default policies take on hosts under pressure.

    python benchmarks/policy/bench_policy.py [--guests 1000,10000] [--rounds 30]

The law suggests another size for nearly every guest, without service classes and with them. The default policies for
balloons and KSM then take its suggestions. All are measured in turns in one process, and the medians printed.
"""

from __future__ import annotations

import argparse
import gc
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from importlib.resources import files

from mom_core import Snapshot, Value
from mom_core.model import GuestTable
from mom_core.testing import snapshot
from mom_plugins_balloon.gate import ShrinkLimits
from mom_plugins_balloon.names import SUGGESTED
from mom_plugins_balloon.parameters import LawParameters
from mom_plugins_balloon.seen import suggestions
from mom_plugins_balloon.states import HostWanted
from mom_plugins_policy import Policy

TARGET_LAW_MS = {1000: 8.0, 10_000: 80.0}
TARGET_MS = {1000: 10.0}
"""Of the policies, decisions included."""
LIMITS = ShrinkLimits(32 * 1024, 0.05, 15.0)
"""Those of a plugin without settings, in cycles of 5 s."""


def crowded_host(guests: int, *, classes: bool) -> Snapshot:
    """Return a host short of memory with guests of all sorts. With `classes`, guests differ in the cost of taking their memory."""
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
        "mem_available": total, "mem_really_available": min(total // 10, 1 << 22),
        "mem_watermark_high": 3 << 20, "mem_watermark_hard": 1 << 20, "mem_watermark_low": 1 << 19, "mem_reserved": 0, "offload_net": None,
        "mem_free": total // 10, "cpu_count": 16, "ksm_run": 1,
        "ksm_pages_to_scan": 500, "ksm_sleep_millisecs": 100, "ksm_full_scans": 7, "ksm_clock": 1000.0,
        "ksm_saved": 1 << 20, "ksm_yield": 2048.0, "ksmd_cpu_usage": 12.5, "ksm_advisor_mode": "none",
        "ksm_suggested_run": 1, "ksm_suggested_pages": 700, "ksm_suggested_sleep": 20,
    }  # fmt: skip
    return snapshot(host=host, guests=made, properties={"host": {"name": "host", "interval": 5.0}})


def with_columns(made: Snapshot) -> Snapshot:
    """Return the snapshot with guests' fields in columns, as the engine collects them."""
    listed = [replace(guest, fields={}) for guest in made.guests.values()]
    return replace(made, guests=GuestTable(listed, made.columns))


def median_ms(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median CPU time of each in ms."""
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


def measure(guests: int, rounds: int, *, classes: bool) -> dict[str, float]:
    """Return the median times, and how many guests are resized."""
    texts = {
        "40_ksm": files("mom_plugins_ksm").joinpath("ksm.policy").read_text("utf-8"),
        "50_balloon": files("mom_plugins_balloon").joinpath("balloon.policy").read_text("utf-8"),
    }
    policy = Policy.compile(texts)
    bare = crowded_host(guests, classes=classes)
    suggest = partial(suggestions, with_columns(bare), LawParameters(), HostWanted(), LIMITS, interval=5.0)
    sizes = zip(bare.guests.values(), suggest()[0], strict=True)
    suggested = {guest.id: {**guest.fields, SUGGESTED: size.target} for guest, size in sizes}
    snap = snapshot(host=bare.host.fields, guests=suggested, properties={"host": {"name": "host", "interval": 5.0}})
    ways: dict[str, Callable[[], object]] = {
        "law": suggest,
        "policy": partial(policy.evaluate, snap),
        "decisions": partial(decided, policy, snap),
    }
    return {"resized": len(decided(policy, snap)), **median_ms(ways, rounds)}


def decided(policy: Policy, snap: Snapshot) -> Sequence[object]:
    result = policy.evaluate(snap)
    if result.errors:
        raise SystemExit(f"the default policies fail: {result.errors[0]}")
    return result.decisions


def missed(guests: int, row: dict[str, float]) -> Iterator[str]:
    """Yield what took longer than its target."""
    for name, targets in (("law", TARGET_LAW_MS), ("decisions", TARGET_MS)):
        if guests in targets and row[name] > targets[guests]:
            yield f"MISSED: {name} of {guests} guests took {row[name]:.2f} ms, wanted {targets[guests]:.0f}"


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--guests", default="1000,10000", help="numbers of guests, with commas (default: %(default)s)")
    arguments.add_argument("--rounds", type=int, default=30)
    options = arguments.parse_args()
    print(f"Python {platform.python_version()}, {platform.machine()}; medians of CPU time in ms\n")
    print(f"{'guests':>7} {'classes':>8} {'resized':>8} {'law':>9} {'policy':>9} {'with decisions':>15}")
    late: list[str] = []
    for guests in map(int, options.guests.split(",")):
        for classes in (False, True):
            row = measure(guests, options.rounds, classes=classes)
            print(f"{guests:>7} {'yes' if classes else 'no':>8} {row['resized']:>8}", end="")
            print(f" {row['law']:>9.3f} {row['policy']:>9.3f} {row['decisions']:>15.3f}", flush=True)
            late += missed(guests, row)
    print("\n".join(late))
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main())
