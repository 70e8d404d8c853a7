"""The simulator beside real guests: the same course of events, under the same policy, and how far apart the two are.

    python benchmarks/simulator/compare_real.py [--seconds 480] [--picture docs/simulator.png] [--keep FOLDER] [--again FOLDER]

Five real QEMU guests are managed by `mom run`; the same guests are simulated. Programs in the guests hold a base of memory, want more in
bursts, and read files; two guests have swap. Whatever else runs on this host, a program beside the guests keeps constant what there is for
guests, and takes a part of that for a while. `--keep` leaves all behind; `--again` takes the real part from there, and simulates anew.

It needs what tests/real needs: libvirtd, QEMU, 6 GiB of memory, and ten minutes in which nobody else starts large things.
"""

from __future__ import annotations

import argparse
import math
import os
import pickle
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "real"))

from compared import Course, Member, Track, difference, lag, real, simulated  # only found from here on
from guest_image import build, cache_folder  # as above
from private_libvirtd import PrivateLibvirtd  # as above
from real_guests import Lab  # as above

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SETTLED = 20.0
"""Seconds that are not compared at the beginning: statistics come, and mom starts."""

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
    """Of the host, and of each guest: what, of whom, bias, root mean square (MiB), that in percent of the guest's size, lag (s)."""
    found = []
    apart = difference(first.available, second.available, SETTLED, seconds)
    found.append(("available", "host", apart.bias, apart.rms, math.nan, float(lag(first.available, second.available, seconds))))
    for kind in ("size", "usable", "unused", "cache", "resident"):
        for one in MEMBERS:
            mine, its = first.guests[one.name][kind], second.guests[one.name][kind]
            apart = difference(mine, its, SETTLED, seconds)
            late = float(lag(mine, its, seconds)) if kind == "size" else math.nan
            found.append((kind, one.name, apart.bias, apart.rms, 100 * apart.rms / one.mib, late))
    return found


def told(first: Track, second: Track, seconds: float) -> str:
    """For people."""
    lines = [f"{'MiB':<11}{'':<9}{'bias':>8}{'rms':>8}{'rms %':>8}{'early s':>9}"]
    for kind, name, bias, rms, percent, late in rows(first, second, seconds):
        cells = "".join(
            " " * width if math.isnan(cell) else f"{cell:>{width}.1f}" for cell, width in ((bias, 8), (rms, 8), (percent, 8), (late, 9))
        )
        lines.append(f"{kind:<11}{name:<9}{cells}")
    lines.append(f"\n{'':<24}{'real':>8}{'simulated':>11}")
    for label, one, other in (
        ("balloon commands", len(first.commands), len(second.commands)),
        ("of these to shrink", shrinks(first), shrinks(second)),
        ("programs killed", sum(first.killed.values()), sum(second.killed.values())),
        ("work lost, s", round(sum(first.lost.values()), 1), round(sum(second.lost.values()), 1)),
    ):
        lines.append(f"{label:<24}{one:>8}{other:>11}")
    if first.filled:
        lines.append(f"bursts were filled in {min(first.filled):.2f} to {max(first.filled):.2f} s")
    return "\n".join(lines)


def shrinks(track: Track) -> int:
    """Commands that made a guest smaller than the one before, or than its maximum."""
    sizes = {one.name: float(one.mib) for one in MEMBERS}
    count = 0
    for _, name, size in track.commands:
        count += size < sizes[name]
        sizes[name] = size
    return count


def draw(first: Track, second: Track, seconds: float, path: Path) -> None:
    """Both on one picture: the host, and each guest."""
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
    """Run both, and say how far apart they are."""
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
            planned = Course(MEMBERS, options.seconds, ROOM_MIB, LOADS)
            libvirtd = PrivateLibvirtd(cache_folder())
            try:
                libvirtd.start()
                first, course, capacity = real(planned, Lab(libvirtd, build()), folder / "real")
            finally:
                libvirtd.stop()
            kept.write_bytes(pickle.dumps((course, first, capacity)))
        second = simulated(course, capacity, folder / "simulated")
    if options.picture:
        draw(first, second, course.seconds, options.picture)
    print(told(first, second, course.seconds))
    print(f"load of this machine at the end: {os.getloadavg()[1]:.1f}")


if __name__ == "__main__":
    main()
