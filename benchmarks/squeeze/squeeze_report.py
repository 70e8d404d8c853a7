"""Tables and pictures of results, and the figures that pages name."""

from __future__ import annotations

import gzip
import itertools
import json
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from managers import MANAGERS
from merit import Moment, Run, spread
from mixes import Mix, Protocol
from moving_picture import LANES, lane, picture
from needs import Needs, could_be_taken, needs_in
from tables import table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {
    "nothing": "#7f7f7f", "mom-original": "#D55E00", "pve": "#CC79A7", "ksm": "#E69F00", "mom": "#0072B2",
    "mom-truthful": "#F0E442", "mom-offload": "#009E73", "mom-asked": "#56B4E9",
}  # fmt: skip

LINE_WIDTH = 150
"""Characters in a line of the page."""

REPORTING = "free page reporting"

KILLED, LOST, HARMED = "guest workload killed", "guest lost", "guests harmed"


def of(runs: Sequence[Run], mix: str, manager: str) -> list[Run]:
    """Return the runs of one mix under one manager."""
    return [run for run in runs if run["mix"] == mix and run["manager"] == manager]


def figure(values: Sequence[float | None], digits: int = 0, factor: float = 1.0) -> str:
    """Return the median of several runs, with the range if they differ."""
    numbers = [factor * value for value in values if value is not None]
    if not numbers:
        return "-"
    all_of_them = spread(numbers)
    median, least, most = (f"{value:,.{digits}f}" for value in (all_of_them.median, all_of_them.least, all_of_them.most))
    return median if least == most else f"{median} ({least} to {most})"


def ends(runs: Sequence[Run]) -> str:
    """Return how runs ended."""
    texts = []
    for ended, group in itertools.groupby(sorted(runs, key=lambda run: str(run["ended"])), key=lambda run: str(run["ended"])):
        same = list(group)
        text = f"{sum(run['kills'] for run in same)} killed" if ended == KILLED else ended
        text += f" at {figure([run['seconds'] for run in same])} s"
        texts.append(f"{len(same)} of them: {text}" if len(runs) > 1 and len(same) < len(runs) else text)
    return ", ".join(texts)


Column = Callable[[Sequence[Run]], str]
"""Returns the text of a cell for runs of one mix under one manager."""


def of_key(key: str, digits: int = 0, factor: float = 1.0, unit: str = "") -> Column:
    """Return a column with the figure of that key."""
    return lambda runs: figure([run[key] for run in runs], digits, factor) + unit


def manager_cpu(runs: Sequence[Run]) -> str:
    return "-" if runs[0]["manager"] == "nothing" else figure([run["manager_cpu_percent"] for run in runs], 2)


MAIN: Final[Mapping[str, Column]] = {
    "runs": lambda runs: str(len(runs)),
    "taken at ≥ 95 % of the work, MiB": of_key("taken"),
    "ended by": ends,
    "worst burst growth, s": of_key("burst_worst", 1),
    "mean": of_key("burst", 1),
    "p99 of a slot, ms": of_key("p99_ms"),
    "work in all": of_key("work", 1, 100, " %"),
    "guests' swap at the end, MiB": of_key("swap"),
    "manager's CPU, % of one": manager_cpu,
}


def main_table(runs: Sequence[Run], mix: str, limits: Sequence[Bound] = ()) -> str:
    """Return all figures of one mix under each manager, and what could be taken at all."""
    rows = [[manager.title, *(cell(mine) for cell in MAIN.values())] for name, manager in MANAGERS.items() if (mine := of(runs, mix, name))]
    if free := [run for run in runs if run["mix"] == mix]:
        keys = (("burst_worst_unsqueezed", 1), ("burst_unsqueezed", 1), ("p99_ms_unsqueezed", 0))
        figures = [figure([run[key] for run in free], digits) for key, digits in keys]
        rows.append(["unsqueezed", str(len(free)), "-", "-", *figures, "100 %", "-", "-"])
    if limits:
        rows.append([NEEDED, str(len(limits)), *bound_cells(limits), *["-"] * 6])
    return table(["manager", *MAIN], rows)


NEEDED = "upper bound: all memory that no guest needs"


def bound_cells(limits: Sequence[Bound]) -> tuple[str, str]:
    """Return what could be taken, and how much of that mom took."""
    return figure([one.could for one in limits]), f"mom took {figure([one.percent for one in limits])} % of it"


@dataclass(frozen=True)
class Bound:
    """What guests of one run needed; MiB that could be taken without memory that programs use; MiB that were taken."""

    needs: Needs
    capacity: float
    could: float
    taken: float

    @property
    def percent(self) -> float:
        """Return what was taken of what could be."""
        return 100 * self.taken / self.could


def bounds(results: Path, runs: Sequence[Run], mix: str, protocol: Protocol) -> list[Bound]:
    """Return the bounds of those runs under mom whose traces say what guests needed."""
    limits = []
    for run in of(runs, mix, "mom"):
        needs = needs_in([Moment.from_json(moment) for moment in traced(results, run)]) if "trace" in run else None
        if needs is not None:
            capacity = run["held_before"] + protocol.available
            limits.append(Bound(needs, capacity, could_be_taken(capacity, protocol.floor, needs), run["taken"]))
    return limits


def needs_text(limits: Sequence[Bound], protocol: Protocol) -> str:
    """Return the parts of the bound in the last of these runs, as text."""
    if not limits:
        return "No run under mom has recorded yet what its guests needed."
    last = limits[-1]
    needs = last.needs
    text = (
        f"At the beginning of the last run under mom, the guests' memory and the host's available memory were {last.capacity:,} MiB "
        f"together. Of these, {protocol.floor:,} MiB had to remain available. Programs used {needs.programs:,.0f} MiB at the same time, "
        f"and guests' kernels needed {needs.kernels:,.0f} MiB more. QEMU processes used {needs.processes:,.0f} MiB besides the guests' "
        f"memory, and KSM had merged {needs.merged:,.0f} MiB. So {last.could:,.0f} MiB could be taken, and {last.taken:,} MiB were. At "
        f"the end the host had backed another {max(0.0, needs.free):,.0f} MiB of guests' memory."
    )
    return textwrap.fill(text, LINE_WIDTH)


def late_bursts(runs: Sequence[Run]) -> str:
    late, bursts = [run.get("bursts_late") for run in runs], [run["bursts"] for run in runs]
    return f"{figure(late)} of {figure(bursts)}" if any(bursts) and any(count is not None for count in late) else "-"


ALL_MIXES: Final[Mapping[str, Column]] = {
    "taken, MiB": of_key("taken"),
    "ended by": ends,
    "programs killed": of_key("kills"),
    "bursts that came late": late_bursts,
    "slowest burst, s": of_key("burst_worst", 1),
    "p99 of a slot, ms": of_key("p99_ms"),
    "work": of_key("work", 1, 100, " %"),
}


def figures_table(runs: Sequence[Run], mixes: Mapping[str, Mix], limits: Mapping[str, Sequence[Bound]]) -> str:
    """Return the same figures for each mix under each manager, for each kind of balloon."""
    rows = []
    for mix, content in mixes.items():
        sold = f"{content.sold:,}"
        if not any(run["mix"] == mix for run in runs):
            rows.append([f"`{mix}`", "not run yet", "", "0", sold, *["-"] * len(ALL_MIXES)])
        for name, manager in MANAGERS.items():
            for switches, mine in sorted(by_switches(of(runs, mix, name)).items()):
                cells = [cell(mine) for cell in ALL_MIXES.values()]
                rows.append([f"`{mix}`", manager.title, switches or "plain", f"{len(mine)}", sold, *cells])
        if limits.get(mix):
            rows.append([f"`{mix}`", NEEDED, "", f"{len(limits[mix])}", sold, *bound_cells(limits[mix]), *["-"] * 5])
    return table(["mix", "manager", "balloons", "runs", "sold, MiB", *ALL_MIXES], rows)


def by_switches(runs: Sequence[Run]) -> Mapping[str, list[Run]]:
    """Group runs by the switches of their guests' balloons."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        on = ", ".join(text for name, text in (("fpr", REPORTING), ("autodeflate", "autodeflate")) if run.get(name))
        groups.setdefault(on, []).append(run)
    return groups


def slowdown(runs: Sequence[Run]) -> str:
    pairs = [(run["p99_ms_until_taken"], run["p99_ms_unsqueezed"]) for run in runs]
    return figure([until / free if until and free else None for until, free in pairs], 1) + " times"


def host_swap(runs: Sequence[Run]) -> str:
    stores = [run["host_swap"] or (0, 0) for run in runs]
    return ", ".join(figure(values) for values in zip(*stores, strict=True))


COLD: Final[Mapping[str, Column]] = {
    "runs": lambda runs: str(len(runs)),
    "taken at ≥ 95 % of the work, MiB": of_key("taken"),
    "worst burst until then, s": of_key("burst_worst_until_taken", 1),
    "p99 of a slot until then, ms": of_key("p99_ms_until_taken"),
    "of the unsqueezed": slowdown,
    "taken unfelt, MiB": of_key("taken_unfelt"),
    "ended by": ends,
    "work in all": of_key("work", 1, 100, " %"),
    "in the host's swap: held, takes, MiB": host_swap,
    "kernel's CPU for swapping, % of one": of_key("compression_cpu_percent", 1),
    "manager's CPU, %": manager_cpu,
}


def cold_table(runs: Sequence[Run], mixes: Iterable[str]) -> str:
    """Return what could be taken on hosts with compressed swap, what guests felt, and what it cost."""
    rows = [
        [f"`{mix}`", manager.title, *(cell(mine) for cell in COLD.values())]
        for mix, (name, manager) in itertools.product(mixes, MANAGERS.items())
        if (mine := of(runs, mix, name))
    ]
    return table(["mix", "manager", *COLD], rows) if rows else "Nothing has been measured yet."


DAYS: Final[Mapping[str, Column]] = {
    "runs": lambda runs: str(len(runs)),
    "programs killed": of_key("kills"),
    "work": of_key("work", 1, 100, " %"),
    "p99 of a slot, ms": of_key("p99_ms"),
    "slowest burst, s": of_key("burst_worst", 1),
    "late bursts": late_bursts,
    "deficit, GiB·s per guest-hour": of_key("deficit", 1),
    "longest deficit, s": of_key("deficit_longest", 1),
    "taken at ≥ 95 % of the work, MiB": of_key("taken"),
    "ended by": ends,
}


def days_table(runs: Sequence[Run]) -> str:
    """Return the table of recorded days: kills and work, memory that guests were sold and did not see, and memory taken."""
    mixes = sorted({run["mix"] for run in runs if run["mix"].split("-")[0] == "days"})
    rows = [
        [mix.partition("-")[2] or "made up", manager.title, *(cell(mine) for cell in DAYS.values())]
        for mix, (name, manager) in itertools.product(mixes, MANAGERS.items())
        if (mine := of(runs, mix, name))
    ]
    return table(["days", "manager", *DAYS], rows) if rows else "Nothing has been measured yet."


def traced(results: Path, run: Run) -> list[dict[str, Any]]:
    """Return the samples of a run, one a second."""
    with gzip.open(results / "traces" / run["trace"], "rt") as file:
        return [json.loads(line) for line in file]


def draw_course(results: Path, runs: Sequence[Run], mix: str, path: Path) -> None:
    """Draw the last run of each manager over time: memory and work."""
    from matplotlib.figure import Figure

    chosen = [mine[-1] for name in MANAGERS if (mine := of(runs, mix, name))]
    if not chosen:
        return
    figure_ = Figure(figsize=(12, 2.6 * len(chosen)), layout="constrained")
    grid = figure_.subplots(len(chosen), 2, sharex=True, squeeze=False, width_ratios=(2, 1))
    for (left, right), run in zip(grid, chosen, strict=True):
        trace = traced(results, run)
        times = [moment["time"] for moment in trace]
        left.plot(times, [moment["guests"] for moment in trace], color="#0072B2", label="guests hold")
        left.plot(times, [sum(moment["sizes"].values()) for moment in trace], color="#56B4E9", linewidth=1, label="guests' sizes")
        left.plot(times, [moment["taken"] for moment in trace], color="#D55E00", label="taken")
        left.plot(times, [moment["available"] for moment in trace], color="#009E73", label="available on the host")
        left.set_ylabel("MiB")
        left.set_title(f"{MANAGERS[run['manager']].title}: {run['taken']:,} MiB, {ends([run])}", loc="left", fontsize=10)
        right.plot(times, [100 * moment["work"] for moment in trace], color="#000000")
        right.axhline(95, color="#D55E00", linewidth=0.8)
        right.set_ylim(0, 105)
        right.set_ylabel("work, %")
        _plain(left, right)
    grid[0][0].legend(loc="upper right", frameon=False, ncols=2, fontsize=8)
    grid[-1][0].set_xlabel("seconds")
    grid[-1][1].set_xlabel("seconds")
    figure_.savefig(path, dpi=90)


def draw_moving(results: Path, runs: Sequence[Run], mix: str, path: Path) -> None:
    """Draw the moving picture with the median run of each manager, if each has one."""
    ordered = {name: sorted(of(runs, mix, name), key=lambda run: run["taken"]) for name in LANES}
    if all(ordered.values()):
        medians = {name: mine[(len(mine) - 1) // 2] for name, mine in ordered.items()}
        path.write_text(picture([lane(LANES[name], run, traced(results, run)) for name, run in medians.items()]), encoding="utf-8")


def draw_mixes(runs: Sequence[Run], mixes: Mapping[str, Mix], path: Path) -> None:
    """Draw what could be taken in each mix under each manager. Bars are hatched if guests were killed or harmed."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    names = [mix for mix in mixes if any(run["mix"] == mix for run in runs)]
    if not names:
        return
    figure_ = Figure(figsize=(12, 4), layout="constrained")
    axes = figure_.subplots()
    width = 0.8 / len(MANAGERS)
    for place, name in enumerate(MANAGERS):
        for index, mix in enumerate(names):
            mine = of(runs, mix, name)
            if mine:
                taken = spread([run["taken"] for run in mine])
                harmed = any(run["ended"] in {KILLED, LOST, HARMED} for run in mine)
                at = index + (place - (len(MANAGERS) - 1) / 2) * width
                axes.bar(
                    at, taken.median, width * 0.95, color=COLOURS[name], hatch="///" if harmed else None, edgecolor="white", linewidth=0
                )
                axes.vlines(at, taken.least, taken.most, color="black", linewidth=1)
    axes.set_xticks(range(len(names)), names)
    axes.set_ylabel("MiB taken at ≥ 95 % of the work")
    shown = [name for name in MANAGERS if any(run["manager"] == name for run in runs)]
    patches = [Patch(facecolor=COLOURS[name], label=MANAGERS[name].title) for name in shown]
    axes.legend(
        handles=[*patches, Patch(facecolor="white", edgecolor="grey", hatch="///", label="ended with harm")], frameon=False, fontsize=8
    )
    _plain(axes)
    figure_.savefig(path, dpi=90)


def _plain(*all_axes: Axes) -> None:
    for axes in all_axes:
        axes.spines[["top", "right"]].set_visible(False)


PLACES: Final = re.compile(
    r"<!-- =(?P<name>[^>]+?) -->.*?(?P<end><!-- = -->)|(?<=!\[)[^]]*(?P<path>]\([^)]*\))<!-- of (?P<picture>[^>]+?) -->"
)


def restated(text: str, figures: Mapping[str, str]) -> str:
    """Return a page with these figures between `<!-- =NAME -->` and `<!-- = -->`, and descriptions of pictures before `<!-- of NAME -->`.

    Raise `ValueError` for an unknown name.
    """

    def place(match: re.Match[str]) -> str:
        name = match["name"] or match["picture"]
        if name not in figures:
            raise ValueError(f"no figure is called {name}; there are {', '.join(figures)}")
        if match["picture"]:
            return f"{figures[name]}{match['path']}<!-- of {name} -->"
        return f"<!-- ={name} -->{figures[name]}{match['end']}"

    return PLACES.sub(place, text)


def headlines(runs: Mapping[str, Sequence[Run]]) -> Mapping[str, str]:
    """Return the figures of the mix `bursty` that other pages name, by their names there.

    :param runs: by `by_switches`
    """
    plain, reporting = ([run for run in runs.get(kind, ()) if run["mix"] == "bursty"] for kind in ("", REPORTING))
    mine = of(plain, "bursty", "mom")
    unsqueezed = spread([run["burst_worst_unsqueezed"] for run in plain]).median
    nothing, original, mom = (_gibibytes(of(plain, "bursty", name)) for name in ("nothing", "mom-original", "mom"))
    reported = {f"taken {name}, reporting": _gibibytes(some) for name in ("nothing", "mom") if (some := of(reporting, "bursty", name))}
    return {
        **reported,
        "runs mom": str(len(mine)),
        "burst unsqueezed": f"{unsqueezed:.1f} s",
        "burst worst": f"{max(run['burst_worst'] for run in mine):.1f} s",
        "moving picture": f"Memory taken from a host of twelve guests in ten minutes: {nothing} GiB without a manager,"
        f" {original} GiB under oVirt MOM, {mom} GiB under mom",
    }


def _gibibytes(runs: Sequence[Run]) -> str:
    """Return what was taken in the median of these runs."""
    return f"{spread([run['taken'] for run in runs]).median / 1024:.1f}"


def machine(runs: Sequence[Run]) -> str:
    """Describe the machines of these runs."""
    hosts = {json.dumps(run["host"], sort_keys=True): run["host"] for run in runs}
    return "\n".join(
        f"{host['cpus']} CPUs, {host['memory_gib']} GiB of memory, no swap, Linux {host['kernel']}; guests under {host['guests']}."
        for host in hosts.values()
    )
