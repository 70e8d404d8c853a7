"""Tables and pictures from kept runs, and the document that holds them."""

from __future__ import annotations

import gzip
import itertools
import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from managers import MANAGERS
from merit import Moment, spread
from mixes import Mix, Protocol
from moving_picture import LANES, lane, picture
from needs import Needs, could_be_taken, needs_in

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Run = Mapping[str, Any]

COLOURS = {
    "nothing": "#7f7f7f", "mom-original": "#D55E00", "pve": "#CC79A7", "ksm": "#E69F00", "mom": "#0072B2",
    "mom-truthful": "#F0E442", "mom-offload": "#009E73", "mom-asked": "#56B4E9",
}  # fmt: skip

LINE_WIDTH = 150
"""Characters in a line of the page."""

KILLED, LOST, HARMED = "guest workload killed", "guest lost", "guests harmed"


def of(runs: Sequence[Run], mix: str, manager: str) -> list[Run]:
    """The runs of one mix under one manager."""
    return [run for run in runs if run["mix"] == mix and run["manager"] == manager]


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown; figures stand to the right."""
    right = [all(_is_figure(row[column]) for row in rows) for column in range(len(heading))]
    lines = [heading, ["---:" if one else "---" for one in right], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _is_figure(text: str) -> bool:
    return bool(re.fullmatch(r"[-\d.,%: ()to]*", text))


def figure(values: Sequence[float | None], digits: int = 0, factor: float = 1.0) -> str:
    """Median of several runs, and from the least to the most where they differ."""
    known = [factor * value for value in values if value is not None]
    if not known:
        return "-"
    found = spread(known)
    median, least, most = (f"{value:,.{digits}f}" for value in (found.median, found.least, found.most))
    return median if least == most else f"{median} ({least} to {most})"


def ends(runs: Sequence[Run]) -> str:
    """How they ended."""
    told = []
    for ended, group in itertools.groupby(sorted(runs, key=lambda run: str(run["ended"])), key=lambda run: str(run["ended"])):
        same = list(group)
        text = f"{sum(run['kills'] for run in same)} killed" if ended == KILLED else ended
        text += f" at {figure([run['seconds'] for run in same])} s"
        told.append(f"{len(same)} of them: {text}" if len(runs) > 1 and len(same) < len(runs) else text)
    return ", ".join(told)


def main_table(runs: Sequence[Run], mix: str, known: Sequence[Bound] = ()) -> str:
    """One mix, all managers, everything that matters; and what could be taken at all, where runs know it."""
    heading = [
        "manager",
        "runs",
        "taken at ≥ 95 % of the work, MiB",
        "ended by",
        "worst burst growth, s",
        "mean",
        "p99 of a slot, ms",
        "work in all",
        "guests' swap at the end, MiB",
        "manager's CPU, % of one",
    ]
    rows = []
    for name, manager in MANAGERS.items():
        mine = of(runs, mix, name)
        if mine:
            rows.append(
                [
                    manager.title,
                    str(len(mine)),
                    figure([run["taken"] for run in mine]),
                    ends(mine),
                    figure([run["burst_worst"] for run in mine], 1),
                    figure([run["burst"] for run in mine], 1),
                    figure([run["p99_ms"] for run in mine]),
                    figure([run["work"] for run in mine], 1, 100) + " %",
                    figure([run["swap"] for run in mine]),
                    figure([run["manager_cpu_percent"] for run in mine], 2) if name != "nothing" else "-",
                ]
            )
    free = [run for run in runs if run["mix"] == mix]
    if free:
        rows.append(
            [
                "unsqueezed",
                str(len(free)),
                "-",
                "-",
                figure([run["burst_worst_unsqueezed"] for run in free], 1),
                figure([run["burst_unsqueezed"] for run in free], 1),
                figure([run["p99_ms_unsqueezed"] for run in free]),
                "100 %",
                "-",
                "-",
            ]
        )
    if known:
        rows.append([NEEDED, str(len(known)), *bound_cells(known), *["-"] * 6])
    return table(heading, rows)


NEEDED = "nothing left that no guest needs"


def bound_cells(known: Sequence[Bound]) -> tuple[str, str]:
    """What could be taken, and what mom took of that."""
    return figure([one.could for one in known]), f"mom took {figure([one.percent for one in known])} % of it"


@dataclass(frozen=True)
class Bound:
    """Of one run: what guests needed, MiB that could be taken without taking memory that programs use, and those that were."""

    needs: Needs
    capacity: float
    could: float
    taken: float

    @property
    def percent(self) -> float:
        """What was taken of what could be."""
        return 100 * self.taken / self.could


def bounds(results: Path, runs: Sequence[Run], mix: str, protocol: Protocol) -> list[Bound]:
    """Of those runs of mom in which guests were looked into, from their traces."""
    found = []
    for run in of(runs, mix, "mom"):
        needs = needs_in([Moment.from_json(moment) for moment in traced(results, run)]) if "trace" in run else None
        if needs is not None:
            capacity = run["held_before"] + protocol.available
            found.append(Bound(needs, capacity, could_be_taken(capacity, protocol.floor, needs), run["taken"]))
    return found


def needs_text(known: Sequence[Bound], protocol: Protocol) -> str:
    """Return of what parts that bound is made, in the last of these runs."""
    if not known:
        return "No run under mom has recorded yet what its guests needed."
    last = known[-1]
    needs = last.needs
    text = (
        f"At the beginning of the last run under mom, the guests' memory and the host's available memory were {last.capacity:,} MiB "
        f"together. Of these, {protocol.floor:,} MiB had to remain available. Programs used {needs.programs:,.0f} MiB at the same time, "
        f"and guests' kernels needed {needs.kernels:,.0f} MiB more. QEMU processes used {needs.processes:,.0f} MiB besides the guests' "
        f"memory, and KSM had merged {needs.merged:,.0f} MiB. So {last.could:,.0f} MiB could be taken, and {last.taken:,} MiB were. At "
        f"the end the host had backed another {max(0.0, needs.free):,.0f} MiB of guests' memory."
    )
    return textwrap.fill(text, LINE_WIDTH)


def figures_table(runs: Sequence[Run], mixes: Mapping[str, Mix], known: Mapping[str, Sequence[Bound]]) -> str:
    """The same figures for all: each mix under each manager, with balloons that do something by themselves and without."""
    heading = [
        "mix", "manager", "balloons", "runs", "sold, MiB", "taken, MiB", "ended by", "programs killed", "bursts that came late",
        "slowest burst, s", "p99 of a slot, ms", "work",
    ]  # fmt: skip
    rows = []
    for mix, content in mixes.items():
        if not any(run["mix"] == mix for run in runs):
            rows.append([f"`{mix}`", "not run yet", "", "0", f"{content.sold:,}", *["-"] * 7])
        for name, manager in MANAGERS.items():
            for switches, mine in sorted(by_switches(of(runs, mix, name)).items()):
                rows.append([f"`{mix}`", manager.title, switches or "plain", f"{len(mine)}", f"{content.sold:,}", *_figures(mine)])
        if known.get(mix):
            rows.append([f"`{mix}`", NEEDED, "", f"{len(known[mix])}", f"{content.sold:,}", *bound_cells(known[mix]), *["-"] * 5])
    return table(heading, rows)


def _figures(mine: Sequence[Run]) -> list[str]:
    late, bursts = [run.get("bursts_late") for run in mine], [run["bursts"] for run in mine]
    return [
        figure([run["taken"] for run in mine]),
        ends(mine),
        figure([run["kills"] for run in mine]),
        f"{figure(late)} of {figure(bursts)}" if any(bursts) and any(one is not None for one in late) else "-",
        figure([run["burst_worst"] for run in mine], 1),
        figure([run["p99_ms"] for run in mine]),
        figure([run["work"] for run in mine], 1, 100) + " %",
    ]


def by_switches(runs: Sequence[Run]) -> Mapping[str, list[Run]]:
    """Runs by what their guests' balloons do by themselves."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        on = ", ".join(text for name, text in (("fpr", "free page reporting"), ("autodeflate", "autodeflate")) if run.get(name))
        found.setdefault(on, []).append(run)
    return found


def cold_table(runs: Sequence[Run], mixes: Mapping[str, Mix]) -> str:
    """Mixes on hosts with compressed swap: what could be taken, what guests felt, and what it cost."""
    heading = [
        "mix", "manager", "runs", "taken at ≥ 95 % of the work, MiB", "worst burst until then, s", "p99 of a slot until then, ms",
        "of the unsqueezed", "taken unfelt, MiB", "ended by", "work in all", "in the host's swap: held, takes, MiB",
        "kernel's CPU for swapping, % of one", "manager's CPU, %",
    ]  # fmt: skip
    rows = []
    for mix in mixes:
        for name, manager in MANAGERS.items():
            mine = of(runs, mix, name)
            if not mine:
                continue
            slower = [
                run["p99_ms_until_taken"] / run["p99_ms_unsqueezed"] if run["p99_ms_until_taken"] and run["p99_ms_unsqueezed"] else None
                for run in mine
            ]
            stores = [run["host_swap"] or (0, 0) for run in mine]
            rows.append(
                [
                    f"`{mix}`",
                    manager.title if any(run["host_swap"] for run in mine) else f"{manager.title}, without swap",
                    str(len(mine)),
                    figure([run["taken"] for run in mine]),
                    figure([run["burst_worst_until_taken"] for run in mine], 1),
                    figure([run["p99_ms_until_taken"] for run in mine]),
                    figure(slower, 1) + " times",
                    figure([run["taken_unfelt"] for run in mine]),
                    ends(mine),
                    figure([run["work"] for run in mine], 1, 100) + " %",
                    f"{figure([held for held, _ in stores])}, {figure([takes for _, takes in stores])}",
                    figure([run["compression_cpu_percent"] for run in mine], 1),
                    figure([run["manager_cpu_percent"] for run in mine], 2) if name != "nothing" else "-",
                ]
            )
    return table(heading, rows) if rows else "Nothing has been measured yet."


def days_table(runs: Sequence[Run]) -> str:
    """Return the table of recorded days: kills and work, memory that guests were sold and did not see, and memory taken."""
    heading = [
        "days", "manager", "runs", "programs killed", "work", "p99 of a slot, ms", "slowest burst, s", "late bursts",
        "deficit, GiB·s per guest-hour", "longest deficit, s", "taken at ≥ 95 % of the work, MiB", "ended by",
    ]  # fmt: skip
    rows = []
    for mix in sorted({run["mix"] for run in runs if run["mix"].split("-")[0] == "days"}):
        for name, manager in MANAGERS.items():
            mine = of(runs, mix, name)
            if mine:
                taken, ended, kills, late, slowest, p99, work = _figures(mine)
                deficits = [figure([run[key] for run in mine], 1) for key in ("deficit", "deficit_longest")]
                days = mix.partition("-")[2] or "made up"
                rows.append([days, manager.title, str(len(mine)), kills, work, p99, slowest, late, *deficits, taken, ended])
    return table(heading, rows) if rows else "Nothing has been measured yet."


def warming_text(runs: Sequence[Run]) -> str:
    """What became of guests that began to use what was cold."""
    lines = []
    for run in runs:
        if one := run.get("warming"):
            back = "not back before the end" if one["back"] is None else f"back for good after {one['back']:.0f} s"
            taken = "an unknown amount was" if one["taken"] is None else f"{one['taken']:,} MiB were"
            least = "unknown" if one["least_work"] is None else f"{100 * one['least_work']:.1f} %"
            lines.append(
                f"- {MANAGERS[run['manager']].title}: {taken} taken by then; the least work in any 10 s was {least}, and 95 % of it were "
                f"{back}; {run['kills']} programs were killed."
            )
    return "\n".join(lines) or "Nothing has been measured yet."


OTHER_HOSTS: Final = {"qemu": "QEMU alone", "kubevirt": "a libvirt for each guest"}
"""What starts guests, instead of one libvirt for all, and how it is called."""


def hosts_table(runs: Sequence[Run], mixes: Mapping[str, Mix]) -> str:
    """mom on guests of libvirt and on guests that were started otherwise, side by side: the last runs of the same mix."""
    rows = []
    for mix in mixes:
        mine = of(runs, mix, "mom")
        others = {title: [run for run in mine if run.get("on") == on] for on, title in OTHER_HOSTS.items()}
        # Only runs of the same version say anything of the difference.
        labels = {one["label"] for some in others.values() for one in some}
        libvirts = [run for run in mine if "on" not in run and run["label"] in labels]
        for name, some in (("libvirt", libvirts), *others.items()):
            if some:
                taken = [run["taken"] for run in some]
                bursts = (figure([run["burst_worst"] for run in some], 1), figure([run["burst"] for run in some], 1))
                cpu = figure([run["manager_cpu_percent"] for run in some], 2)
                rows.append([f"`{mix}`", name, str(len(some)), figure(taken), ends(some), *bursts, cpu])
    heading = ["mix", "guests of", "runs", "taken, MiB", "ended by", "worst burst growth, s", "mean", "mom's CPU, % of one"]
    return table(heading, rows) if rows else "No run without libvirt is kept yet."


def order_table(runs: Sequence[Run], simulated: Sequence[Run], mixes: Mapping[str, Mix]) -> str:
    """Real and simulated side by side, and in how many pairs of managers the simulator has the same one ahead."""
    names = [name for name in MANAGERS if any(run["manager"] == name for run in simulated)]
    rows = []
    for mix in mixes:
        real = {name: spread([run["taken"] for run in of(runs, mix, name)]).median for name in MANAGERS if of(runs, mix, name)}
        guessed = {run["manager"]: float(run["taken"]) for run in simulated if run["mix"] == mix}
        both = {name: taken for name, taken in guessed.items() if name in real}
        if len(both) < 2:
            continue
        cells = [f"{figure([real.get(name)])} / {guessed[name]:,.0f}" if name in guessed else "-" for name in names]
        same, pairs = same_order(real, both)
        rows.append([f"`{mix}`", *cells, f"{same} of {pairs}"])
    heading = ["mix: real / simulated, MiB", *(MANAGERS[name].title for name in names), "pairs in the same order"]
    return table(heading, rows) if rows else "Nothing has been measured yet that could be compared."


TIE_SHARE = 0.05
"""Managers whose figures differ by less than this ratio are as good as each other: two runs of the same differ as much."""


def same_order(real: Mapping[str, float], guessed: Mapping[str, float]) -> tuple[int, int]:
    """Of the pairs of managers that differ on real guests, how many the simulator has in the same order; and how many pairs that are."""
    same = pairs = 0
    for one, other in itertools.combinations(sorted(guessed), 2):
        apart = real[one] - real[other]
        if abs(apart) < TIE_SHARE * max(real[one], real[other]):
            continue
        pairs += 1
        same += (guessed[one] - guessed[other]) * apart > 0
    return same, pairs


def traced(results: Path, run: Run) -> list[dict[str, Any]]:
    """What was seen each second."""
    with gzip.open(results / "traces" / run["trace"], "rt") as file:
        return [json.loads(line) for line in file]


def draw_course(results: Path, runs: Sequence[Run], mix: str, path: Path) -> None:
    """The last run of each manager over time: what was taken, what the host had, what guests held, and their work."""
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
    """Of each manager in the picture, its median run; nothing where one has none."""
    ordered = {name: sorted(of(runs, mix, name), key=lambda run: run["taken"]) for name in LANES}
    if all(ordered.values()):
        medians = {name: mine[(len(mine) - 1) // 2] for name, mine in ordered.items()}
        path.write_text(picture([lane(LANES[name], run, traced(results, run)) for name, run in medians.items()]), encoding="utf-8")


def draw_mixes(runs: Sequence[Run], mixes: Mapping[str, Mix], path: Path) -> None:
    """Bars: what could be taken in each mix under each manager; hatched where guests were killed or harmed."""
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
                found = spread([run["taken"] for run in mine])
                harmed = any(run["ended"] in {KILLED, LOST, HARMED} for run in mine)
                at = index + (place - (len(MANAGERS) - 1) / 2) * width
                axes.bar(
                    at, found.median, width * 0.95, color=COLOURS[name], hatch="///" if harmed else None, edgecolor="white", linewidth=0
                )
                axes.vlines(at, found.least, found.most, color="black", linewidth=1)
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


def refusal_text(runs: Sequence[Run]) -> str:
    """What came of going on below the floor of the mixes."""
    lines = [
        f"`{run['mix']}`, {MANAGERS[run['manager']].title}, down to {run['floor']} MiB: {ends([run])}; {run['taken_at_end']:,} MiB taken, "
        f"{run['available_least']:,} available at the least, {run['kills']} programs killed, {100 * run['work']:.1f} % of the work done "
        f"in all and {100 * run['work_last_minute']:.1f} % in the last minute, the worst burst growth {run['burst_worst'] or 0:.1f} s; "
        f"mom has said {_said(run['states'])}."
        for run in runs
    ]
    nothing = "No run is kept that went on below the floor: the command for it stands at the end of this page."
    return "\n".join(f"- {line}" for line in lines) or nothing


def _said(states: Mapping[str, float]) -> str:
    # Before the squeeze, the program that takes memory makes up for what others take less: less than nothing is taken then.
    when = {state: f"first with {taken:,.0f} MiB taken" if taken > 0 else "before any was taken" for state, taken in states.items()}
    return ", ".join(f"`{state}` {said}" for state, said in when.items()) or "nothing"


def still_text(found: Sequence[Run]) -> str:
    """What mom did in minutes in which nothing changed."""
    lines = [
        f"`{one['mix']}`: with {one['taken']:,} MiB taken and {one['available']:,.0f} MiB available (state {', '.join(one['states'])}), in "
        f"{one['seconds'] / 60:.0f} minutes in which nothing changed, after {one['settled']:.0f} s in which mom could settle: "
        f"{one['sizes_changed']} changes of a balloon, commands: {_counted(one['applied'])}; guests did {100 * one['work']:.1f} % "
        f"of their work, {one['kills']} programs were killed."
        for one in found
    ]
    return "\n\n".join(lines) or "Nothing has been measured yet."


def _counted(commands: Mapping[str, int]) -> str:
    return ", ".join(f"`{control}` {count}" for control, count in sorted(commands.items())) or "none"


def filled(text: str, parts: Mapping[str, str]) -> str:
    """A document whose generated parts, each between `<!-- NAME -->` and `<!-- end -->`, are these."""
    for name, part in parts.items():
        before, found, rest = text.partition(f"<!-- {name} -->\n")
        _, ended, after = rest.partition("<!-- end -->")
        if not (found and ended):
            raise ValueError(f"the document has no place for {name}")
        text = f"{before}{found}\n{part}\n\n{ended}{after}"
    return text


PLACES: Final = re.compile(
    r"<!-- =(?P<name>[^>]+?) -->.*?(?P<end><!-- = -->)|(?<=!\[)[^]]*(?P<path>]\([^)]*\))<!-- of (?P<picture>[^>]+?) -->"
)


def restated(text: str, figures: Mapping[str, str]) -> str:
    """A document whose named figures, each between `<!-- =NAME -->` and `<!-- = -->` on one line, are these, and the descriptions of
    pictures before `<!-- of NAME -->`. (A line that began with a comment would be no Markdown.)

    Raises `ValueError` for a name that is not among them.
    """

    def place(found: re.Match[str]) -> str:
        name = found["name"] or found["picture"]
        if name not in figures:
            raise ValueError(f"no figure is called {name}; there are {', '.join(figures)}")
        if found["picture"]:
            return f"{figures[name]}{found['path']}<!-- of {name} -->"
        return f"<!-- ={name} -->{figures[name]}{found['end']}"

    return PLACES.sub(place, text)


def headlines(runs: Sequence[Run], reporting: Sequence[Run]) -> Mapping[str, str]:
    """The figures of the mix `bursty` that other pages name, by their names there.

    :param reporting: the runs whose guests report their free pages
    """
    taken = {f"taken {name}": _gibibytes(of(runs, "bursty", name)) for name in ("nothing", "mom-original", "pve", "ksm", "mom")}
    mine = of(runs, "bursty", "mom")
    reported = {f"taken {name}, reporting": _gibibytes(told) for name in ("nothing", "mom") if (told := of(reporting, "bursty", name))}
    return {
        **taken,
        **reported,
        "runs mom": str(len(mine)),
        "burst unsqueezed": f"{spread([run['burst_worst_unsqueezed'] for run in runs if run['mix'] == 'bursty']).median:.1f} s",
        "burst worst": f"{max(run['burst_worst'] for run in mine):.1f} s",
        "moving picture": "A host of twelve guests over ten minutes: without a manager and under oVirt MOM's laws"
        f" {taken['taken nothing']} and"
        f" {taken['taken mom-original']} GiB could be taken, under mom {taken['taken mom']}",
    }


def _gibibytes(runs: Sequence[Run]) -> str:
    """What could be taken in the median of these runs."""
    return f"{spread([run['taken'] for run in runs]).median / 1024:.1f}"


def machine(runs: Sequence[Run]) -> str:
    """Where this was measured, in general terms."""
    hosts = {json.dumps(run["host"], sort_keys=True): run["host"] for run in runs}
    return "\n".join(
        f"{host['cpus']} CPUs, {host['memory_gib']} GiB of memory, no swap, Linux {host['kernel']}; guests under {host['guests']}."
        for host in hosts.values()
    )


def results_in(path: Path) -> Iterator[Run]:
    """The lines of a file, if it is there."""
    if path.exists():
        yield from map(json.loads, path.read_text(encoding="utf-8").splitlines())
