"""Whether two texts of a balloon policy decide the same, and say the same of it: on random hosts, and all through simulated scenarios.

    git show HEAD~1:mom_plugins_balloon/src/mom_plugins_balloon/balloon.policy > before.policy
    python benchmarks/policy/compare_policies.py [before.policy [after.policy]] [--hosts 2000] [--scenarios squeeze,…] [--cycles 120]

Each snapshot is evaluated by both; entities, controls, exact values, their order, faults and the words of `mom explain` are compared. The
default for both is the default policy. The time that each took is told for both, on the same snapshots.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from mom_cli import declarations_of
from mom_core import Declarations, Snapshot, Value
from mom_core.testing import snapshot
from mom_devkit import run_plugins
from mom_plugins_policy import Policy
from mom_plugins_policy.language.policy import Result
from mom_plugins_policy.tools.reasons import said

MIB = 1024
GIB = 1024 * MIB
NAME = "50_balloon"
FORECAST = files("mom_plugins_balloon").joinpath("forecast.policy").read_text("utf-8")


def default_text() -> str:
    """The balloon policy that the plugin ships."""
    return files("mom_plugins_balloon").joinpath("balloon.policy").read_text("utf-8")


def random_guest(choose: random.Random) -> dict[str, Value]:
    """A guest in any state, of which anything may be unknown."""
    most = choose.choice((1, 2, 4, 16)) * GIB
    size = most if choose.random() < 0.3 else choose.randint(most // 4, most)
    hidden = choose.randint(0, 60 * MIB)
    inside = size - hidden
    usable = int(inside * choose.choice((0.005, 0.03, 0.1, 0.3, 0.8)))
    used, beside = inside - usable, choose.randint(0, 100 * MIB)
    rss = beside + choose.randint(used, size)
    guest: dict[str, Value] = {
        "balloon_cur": size, "balloon_max": most, "mem_usable": usable, "mem_available": inside,
        "stats_age": choose.choice((0, 1, 2, 4, 20)),
        "balloon_min": choose.choice((None, most // 8, most // 2)), "guest_guarantee": choose.choice((None, most // 4, most)),
        "mem_unused": choose.choice((None, usable, usable // 3)), "mem_hidden": hidden, "rss": rss, "rss_beside": beside,
        "host_swap": choose.choice((None, 0, used // 3)),
        "mem_used_peak": choose.choice((None, used, choose.randint(used, inside))),
        "mem_used_before": choose.choice((None, used, used // 2)),
        "mem_usable_hurts": choose.choice((None, None, size // 8)), "mem_cache_share": choose.choice((None, 0.1, 0.1, 0.5)),
        "rss_before": choose.choice((None, rss, rss // 2)), "balloon_target": choose.choice((None, size, choose.randint(most // 4, most))),
        "balloon_target_age": choose.choice((None, 0.5, 3.0, 8.0, 60.0)), "swap_in": choose.choice((None, 0, 0, 0, 5000)),
        "major_fault": choose.choice((None, 0, 0, 0, 900)), "balloon_obstacle": choose.choice((None, None, None, "it gives nothing")),
        "reclaim_cost": choose.choice((None, None, 0.5, 1.0, 2.0, 8.0, 0)),
        "mem_usable_soon": choose.choice((None, None, None, usable // 3)),
    }  # fmt: skip
    return {name: None if choose.random() < 0.01 else value for name, value in guest.items() if choose.random() > 0.01}


def random_hosts(number: int) -> Iterator[Snapshot]:
    """The same hosts each time, from one that has enough to one that has next to nothing."""
    choose = random.Random(number)  # noqa: S311  # the same each time is what is wanted
    for _ in range(number):
        guests = {f"g{one}": random_guest(choose) for one in range(choose.choice((0, 1, 2, 5, 20)))}
        wanted = choose.randint(512 * MIB, 8 * GIB)
        host: dict[str, Value] = {
            "mem_available": 64 * GIB, "mem_really_available": int(wanted * choose.choice((0.05, 0.2, 0.5, 0.8, 1.2, 1.6, 20))),
            "mem_free_wanted": wanted, "mem_free_hard": wanted // 4, "mem_free_low": wanted // 8,
            "mem_reserved": choose.choice((None, 0, 0, GIB)), "offload_net": choose.choice((None, 0, 0, GIB // 8)),
            "balloon_goal": choose.choice((None, "balanced", "density", "safe")),
        }  # fmt: skip
        host = {name: None if choose.random() < 0.03 else value for name, value in host.items()}
        yield snapshot(host=host, guests=guests, properties={"host": {"interval": choose.choice((1.0, 5.0, 10.0))}})


def simulated(scenario: str, cycles: int) -> Iterator[Snapshot]:
    """The snapshots of a simulated host that the default policies look after."""
    with tempfile.TemporaryDirectory() as folder:
        plugins: dict[str, type | dict[str, object]] = {"sim": {"scenario": scenario}, "policy": {}, "balloon": {}}
        yield from (report.snapshot for report in run_plugins(Path(folder), plugins, cycles=cycles).reports)


def answers(result: Result, seen: Snapshot) -> list[object]:
    """All that can be seen of an evaluation, but for the places in the text."""
    decided = [(one.entity.name, one.control, type(one.value), one.value) for one in result.decisions]
    faults = [(fault.kind, fault.entity and fault.entity.name, fault.values) for fault in result.errors]
    words = [(guest.name, said(result, seen, guest, "balloon_target")) for guest in seen.guests.values()]
    return [decided, faults, words]


def differences(before: Policy, after: Policy, snapshots: list[Snapshot]) -> tuple[list[str], float, float]:
    """What the two answer differently, a line for each snapshot, and the seconds that each took."""
    found, spent = [], [0.0, 0.0]
    for number, seen in enumerate(snapshots):
        results = []
        for which, policy in enumerate((before, after)) if number % 2 else reversed([*enumerate((before, after))]):
            began = time.perf_counter()
            results.append((which, policy.evaluate(seen)))
            spent[which] += time.perf_counter() - began
        first, second = (answers(result, seen) for _, result in sorted(results, key=lambda one: one[0]))
        found += [f"snapshot {number}: {one} → {other}" for one, other in zip(first, second, strict=True) if one != other]
    return found, spent[0], spent[1]


def compiled(text: str, declared: Declarations) -> Policy:
    """The policy, after the one that forecasts."""
    return Policy.compile({"40_forecast": FORECAST, NAME: text}, declared)


def main() -> int:
    """Compare, and say what differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, nargs="?")
    parser.add_argument("after", type=Path, nargs="?")
    parser.add_argument("--hosts", type=int, default=2000)
    parser.add_argument("--scenarios", default="squeeze,boot-storm,leak,noisy-neighbour,everything")
    parser.add_argument("--cycles", type=int, default=120)
    options = parser.parse_args()
    declared = declarations_of()
    before, after = (compiled(path.read_text("utf-8") if path else default_text(), declared) for path in (options.before, options.after))
    different = 0
    parts = {"random hosts": random_hosts(options.hosts)}
    parts |= {name: simulated(name, options.cycles) for name in options.scenarios.split(",") if name}
    for name, made in parts.items():
        snapshots = list(made)
        found, one, other = differences(before, after, snapshots)
        different += len(found)
        decided = sum(len(before.evaluate(seen).decisions) for seen in snapshots)
        print(f"{name:16} {len(snapshots):6} snapshots {decided:7} decisions {len(found):5} different   {one:7.3f} s → {other:7.3f} s")
        for line in found[:5]:
            print(f"    {line[:400]}")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
