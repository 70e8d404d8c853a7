"""Compare the simulator with real guests: the same events under the same policy.

    python benchmarks/simulator/compare_real.py [--seconds 480] [--picture docs/simulator.png] [--keep FOLDER] [--again FOLDER]

`mom run` manages five real QEMU guests, and then the same guests are simulated. Programs in the guests hold a base of memory, want more in
bursts, and read files. Two guests have swap. A program keeps the memory for guests constant, and takes a part of it for a while. `--keep`
stores the real part in a folder, and `--again` only simulates, with the real part from there.

It needs what tests/real needs: libvirtd, QEMU, 6 GiB of memory, and ten minutes in which no other program starts large things.
"""

from __future__ import annotations

import argparse
import math
import pickle
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

sys.path += [str(Path(__file__).resolve().parents[2] / folder) for folder in ("tests/real", "benchmarks/shared")]

from compared import Course, Member, Track, difference, lag, real, simulated  # only found from here on
from guest_lab import guest_lab  # as above
from tables import table  # as above

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SETTLED = 20.0
"""Seconds at the beginning that are not compared: mom starts, and statistics arrive."""

MEMBERS = (
    Member("steady", 768, base=200, files=200, reads=2048),
    Member("bursts", 768, base=120, burst=250, period=120, duty=30, phase=60, files=100, reads=1024),
    Member("reports", 1024, base=150, burst=400, period=150, duty=35, phase=20, files=150, reads=1024, swap=256),
    Member("idle", 512, base=60, files=60, reads=512),
    Member("build", 768, base=350, burst=150, period=90, duty=40, files=100, reads=2048, swap=192),
)
LOADS = ({"at": 150.0, "lasts": 150.0, "mib": 500.0},)
ROOM_MIB = 2100.0


def rows(first: Track, second: Track, seconds: float) -> list[tuple[str, str, float, float, float, float]]:
    """Return rows of figure, guest, bias (MiB), root mean square (MiB, and percent of the guest's size), and lag (s)."""
    table_rows = []
    apart = difference(first.available, second.available, SETTLED, seconds)
    table_rows.append(("available", "host", apart.bias, apart.rms, math.nan, float(lag(first.available, second.available, seconds))))
    for kind in ("size", "usable", "unused", "cache", "resident"):
        for one in MEMBERS:
            mine, its = first.guests[one.name][kind], second.guests[one.name][kind]
            apart = difference(mine, its, SETTLED, seconds)
            late = float(lag(mine, its, seconds)) if kind == "size" else math.nan
            table_rows.append((kind, one.name, apart.bias, apart.rms, 100 * apart.rms / one.mib, late))
    return table_rows


def tables(first: Track, second: Track, seconds: float) -> str:
    """Return the differences, and counts of events, as tables."""
    lines = [
        [kind, name, *("" if math.isnan(cell) else f"{cell:.1f}" for cell in cells)] for kind, name, *cells in rows(first, second, seconds)
    ]
    events = (
        ("balloon commands", len(first.commands), len(second.commands)),
        ("of these to shrink", shrinks(first), shrinks(second)),
        ("programs killed", sum(first.killed.values()), sum(second.killed.values())),
        ("work lost, s", round(sum(first.lost.values()), 1), round(sum(second.lost.values()), 1)),
    )
    counts = [[label, str(real), str(simulated)] for label, real, simulated in events]
    heading = ["", "of", "bias, MiB", "root mean square, MiB", "share of the guest's size, %", "early, s"]
    return f"{table(heading, lines)}\n\n{table(['', 'real', 'simulated'], counts)}"


def shrinks(track: Track) -> int:
    """Return how many commands made a guest smaller."""
    sizes = {one.name: float(one.mib) for one in MEMBERS}
    count = 0
    for _, name, size in track.commands:
        count += size < sizes[name]
        sizes[name] = size
    return count


def draw(first: Track, second: Track, seconds: float, path: Path) -> None:
    """Draw the host and each guest, real and simulated."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 9), layout="constrained")
    axes: Sequence[Axes] = list(figure.subplots(3, 2).flat)
    host = axes[0]
    host.plot(*zip(*first.available, strict=True), color="#7f7f7f", label="real")
    host.plot(*zip(*second.available, strict=True), color="#7f7f7f", linestyle="--", label="simulated")
    host.set_title("host: available", loc="left")
    for load in LOADS:
        host.axvspan(load["at"], load["at"] + load["lasts"], color="#e8e8e8", zorder=0)
    host.legend(loc="lower right", frameon=False)
    for axis, one in zip(axes[1:], MEMBERS, strict=True):
        for track, line in ((first, "-"), (second, "--")):
            for kind, colour in (("size", "#0072B2"), ("usable", "#009E73"), ("resident", "#E69F00")):
                series = track.guests[one.name][kind]
                axis.plot(*zip(*series, strict=True), color=colour, linestyle=line, linewidth=1.3, label=kind if line == "-" else None)
        axis.set_title(f"{one.name}: {one.mib} MiB, {one.base} held" + (f", {one.burst} more in bursts" if one.burst else ""), loc="left")
        axis.set_ylim(0, one.mib * 1.08)
    axes[1].legend(loc="lower right", frameon=False, ncols=3)
    for axis in axes:
        axis.set_xlim(0, seconds)
        axis.set_ylabel("MiB")
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[-2:]:
        axis.set_xlabel("seconds")
    figure.suptitle(
        "The same course on real guests (solid) and simulated ones (dashed); grey: a program takes 500 MiB of the host", fontsize=11
    )
    figure.savefig(path, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=480.0)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--again", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mom-bench-") as name:
        folder = options.keep or options.again or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        kept = folder / "real.pickle"
        if options.again:
            course, first, capacity = pickle.loads(kept.read_bytes())  # noqa: S301  # what this program wrote itself
        else:
            with guest_lab() as lab:
                first, course, capacity = real(Course(MEMBERS, options.seconds, ROOM_MIB, LOADS), lab, folder / "real")
            kept.write_bytes(pickle.dumps((course, first, capacity)))
        second = simulated(course, capacity, folder / "simulated")
    if options.picture:
        draw(first, second, course.seconds, options.picture)
    print(tables(first, second, course.seconds))


if __name__ == "__main__":
    main()
