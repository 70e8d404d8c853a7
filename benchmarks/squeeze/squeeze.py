"""Measure how much of the host's memory each memory manager can take before real guests suffer.

    python benchmarks/squeeze/squeeze.py run [MIX …] [--managers NAME …] [--runs 3]   runs without a result, one after the other
    python benchmarks/squeeze/squeeze.py simulate [MIX …]                             the same mixes on the simulated host
    python benchmarks/squeeze/squeeze.py quick                                        a small squeeze in ten minutes
    python benchmarks/squeeze/squeeze.py report [--docs docs]                         tables and pictures of all results

Each run adds a line to results/runs.jsonl, and a file with a sample for each second. It needs what tests/real needs, root, and a machine
with memory for the mix (24 GiB for `bursty`, 16 for others) and little else to do. A run of `bursty` takes 15 minutes, others 5.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

sys.path += [str(Path(__file__).resolve().parents[2] / folder) for folder in ("tests/real", "benchmarks/shared")]

import debian_image  # only found from here on
import one_run  # as above
import programs  # as above
import squeeze_report  # as above
from guest_hosts import guest_host  # as above
from guest_image import CannotBuild, build  # as above
from managers import MANAGERS  # as above
from merit import Moment  # as above
from mixes import QUICK, Mix, read_mixes  # as above
from tables import filled, results_in, tell  # as above

from mom_core import MomError

SWITCHES = ("fpr", "autodeflate")
"""Options that change the balloons of all guests."""

RESULTS = Path(__file__).resolve().parent / "results"
QUICK_MANAGERS = ("nothing", "mom-original", "mom")


def compared_mixes() -> Mapping[str, Mix]:
    """Return all mixes but the one for a first look."""
    return {name: mix for name, mix in read_mixes().items() if name != QUICK}


def kept(results: Path) -> list[Mapping[str, Any]]:
    """Return the runs so far."""
    return list(results_in(results / "runs.jsonl"))


def keep(results: Path, run: Mapping[str, Any], trace: Sequence[Moment]) -> None:
    """Add a run to the results."""
    traces = results / "traces"
    traces.mkdir(parents=True, exist_ok=True)
    names = (f"{run['mix']}.{run['manager']}.{number}.jsonl.gz" for number in itertools.count(1))
    name = next(name for name in names if not (traces / name).exists())
    with gzip.open(traces / name, "wt") as file:
        file.writelines(json.dumps(moment.as_json(), separators=(",", ":")) + "\n" for moment in trace)
    with (results / "runs.jsonl").open("a") as file:
        file.write(json.dumps({**run, "trace": name}) + "\n")


def done(runs: Iterable[Mapping[str, Any]], wanted: Mapping[str, Any]) -> int:
    """Return how many of these runs have the wanted mix, manager, switches and label. An empty label matches all."""
    names = ("mix", "manager", *SWITCHES, *(["label"] if wanted["label"] else []))
    return sum(all(run.get(name, False) == wanted.get(name, False) for name in names) for run in runs)


def switches_on(options: argparse.Namespace) -> Mapping[str, bool]:
    """Return the switches for a result. It says nothing of those that are off."""
    return {name: True for name in SWITCHES if getattr(options, name)}


def compared(mix: Mix) -> list[str]:
    """Return the managers that are compared when none are named: offloading needs a swap, and truthful sizes show on recorded days."""
    needed = {"mom-offload": bool(mix.protocol.zram), "mom-truthful": mix.recorded, "mom-asked": False}
    return [name for name in MANAGERS if needed.get(name, True)]


def chosen_mixes(options: argparse.Namespace) -> Mapping[str, Mix]:
    """Return the named mixes, or all, as the options change them. With a folder of recorded days, `days` gets its name, too."""
    mixes, chosen = compared_mixes(), {}
    for name in options.mixes or mixes:
        mix = mixes[name].with_switches(reporting=options.fpr, autodeflate=options.autodeflate)
        if mix.recorded:
            mix = mix.with_days(options.days, options.day)
        chosen[f"{name}-{options.days.resolve().name}" if mix.recorded and options.days else name] = mix
    return chosen


def squeeze_all(options: argparse.Namespace) -> None:
    squeeze_each(options, chosen_mixes(options), options.managers)


def squeeze_each(options: argparse.Namespace, mixes: Mapping[str, Mix], managers: Sequence[str] | None) -> None:
    """Squeeze these mixes under these managers, or those that are compared. Leave out what was run often enough."""
    with suppress(PermissionError):
        os.nice(one_run.NICE)
        one_run.favour(os.getpid())
    images = {debian: debian_image.build() if debian else build() for debian in {mix.debian for mix in mixes.values()}}
    for (name, mix), number in itertools.product(mixes.items(), range(options.runs)):
        for manager in managers or compared(mix):
            wanted = {"mix": name, "manager": manager, "label": options.label, **switches_on(options)}
            if done(kept(options.results), wanted) > number:
                continue
            with tempfile.TemporaryDirectory(prefix="mom-squeeze-", dir="/tmp") as folder:
                where = Path(folder) if options.keep is None else options.keep / f"{name}.{manager}.{time.time():.0f}"
                where.mkdir(parents=True, exist_ok=True)
                try:
                    with guest_host(images[mix.debian]) as host:
                        run, trace = one_run.run(name, mix, MANAGERS[manager], host, where, tell)
                except (RuntimeError, AssertionError) as error:
                    tell(f"{name}, {manager}: {error}")
                    continue
            keep(options.results, {**run, **wanted}, trace)
            tell(
                f"{name}, {manager}: {run['ended']} at {run['seconds']} s, taken {run['taken']} MiB, work {run['work']:.3f}, "
                f"worst burst {run['burst_worst']} s"
            )


def squeeze_quickly(options: argparse.Namespace) -> None:
    """Squeeze the small mix under those managers that differ most, and show a table and a picture."""
    mix = read_mixes()[QUICK]
    began = time.monotonic()
    squeeze_each(options, {QUICK: mix}, QUICK_MANAGERS)
    runs = [run for run in kept(options.results) if run["mix"] == QUICK]
    picture = options.results / "squeeze.png"
    squeeze_report.draw_course(options.results, runs, QUICK, picture)
    bounds = {QUICK: squeeze_report.bounds(options.results, runs, QUICK, mix.protocol)}
    print(f"\n{squeeze_report.machine(runs)}\n\n{squeeze_report.figures_table(runs, {QUICK: mix}, bounds)}\n")
    tell(f"that took {(time.monotonic() - began) / 60:.0f} minutes; {picture} shows each second of it")


def simulate(options: argparse.Namespace) -> None:
    """Simulate the mixes under all managers, and print the results."""
    import on_simulator

    from mom_kvm import SimulationSetup

    mixes = {name: mix for name, mix in chosen_mixes(options).items() if not mix.debian}
    for name, mix in mixes.items():
        for manager in compared(mix):
            with SimulationSetup.quiet(logging.CRITICAL):
                run = on_simulator.simulated(mix, manager)
            print(f"{name:<10} {manager:<14} {run['taken']:>7,} MiB  {run['ended']} at {run['seconds']} s", flush=True)


def headlines(results: Path) -> Mapping[str, str]:
    """Return the figures on other pages, by their names there."""
    return squeeze_report.headlines(squeeze_report.by_switches(kept(results)))


def report(options: argparse.Namespace) -> None:
    """Print tables. With `--docs`, write them and pictures into the pages."""
    runs = kept(options.results)
    plain = squeeze_report.by_switches(runs).get("", [])
    synthetic = {name: mix for name, mix in compared_mixes().items() if not (mix.debian or mix.recorded)}
    mixes, swapping = ({name: mix for name, mix in synthetic.items() if bool(mix.protocol.zram) is swaps} for swaps in (False, True))
    chosen = [run for run in plain if run["mix"] in mixes]
    bounds = {name: squeeze_report.bounds(options.results, chosen, name, mix.protocol) for name, mix in mixes.items()}
    parts = {
        "machine": squeeze_report.machine(chosen),
        "bursty": squeeze_report.main_table(chosen, "bursty", bounds["bursty"]),
        "needs": squeeze_report.needs_text(bounds["bursty"], mixes["bursty"].protocol),
        "days": squeeze_report.days_table(plain),
        "programs": programs.programs_table(options.results, runs),
    }
    others = {"mixes": squeeze_report.figures_table(runs, mixes, bounds), "cold": squeeze_report.cold_table(plain, swapping)}
    for name, part in (parts | others).items():
        print(f"{name}\n\n{part}\n")
    if options.docs is not None:
        squeeze_report.draw_course(options.results, chosen, "bursty", options.docs / "squeeze-bursty.png")
        squeeze_report.draw_moving(options.results, chosen, "bursty", options.docs / "squeeze-moving.svg")
        squeeze_report.draw_mixes(chosen, mixes, options.docs / "squeeze-mixes.png")
        for page, its_parts in ((options.docs / "squeeze.md", parts), (Path(__file__).with_name("README.md"), others)):
            page.write_text(filled(page.read_text("utf-8"), its_parts), "utf-8")
        figures = headlines(options.results)
        for page in [options.docs.resolve().parent / "README.md", *options.docs.glob("*.md")]:
            if page.exists() and squeeze_report.PLACES.search(text := page.read_text("utf-8")):
                page.write_text(squeeze_report.restated(text, figures), "utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    real = verbs.add_parser("run", help="squeeze real guests; skip runs that have a result")
    real.add_argument("--managers", nargs="+", choices=list(MANAGERS))
    real.add_argument("--runs", type=int, default=1, help="of each (default: %(default)s)")
    real.add_argument("--label", default="", help="stored with results, such as a version; runs with other labels do not count as done")
    real.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the logs of guests and managers")
    simulated = verbs.add_parser("simulate", help="squeeze simulated guests, in seconds")
    for verb in (real, simulated):
        verb.add_argument("mixes", nargs="*", choices=[*compared_mixes(), []])
        verb.add_argument("--days", type=Path, metavar="FOLDER", help="machines for `days`: CSV of GWA-T-12 (default: made-up machines)")
        verb.add_argument("--day", type=date.fromisoformat, default="2013-08-13", help="the day in these files (default: %(default)s)")
        verb.add_argument("--fpr", action="store_true", help="guests report free pages")
        verb.add_argument("--autodeflate", action="store_true", help="balloons deflate when a guest runs out of memory")
    quick = verbs.add_parser("quick", help="a small squeeze in ten minutes, on a machine with 6 GiB of free memory")
    quick.set_defaults(runs=1, fpr=False, autodeflate=False, label="", keep=None)
    reporting = verbs.add_parser("report", help="print tables of all results")
    reporting.add_argument("--docs", type=Path, metavar="FOLDER", help="write tables and pictures into the pages in this folder")
    for verb in (real, simulated, quick, reporting):
        verb.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # guests and libvirtd end, as after ctrl-C
    try:
        {"run": squeeze_all, "simulate": simulate, "quick": squeeze_quickly, "report": report}[options.verb](options)
    except (MomError, CannotBuild) as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
