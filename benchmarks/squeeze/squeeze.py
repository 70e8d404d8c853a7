"""The squeeze: how much of the host's memory can be taken before real guests suffer, under one manager or another.

    python benchmarks/squeeze/squeeze.py run [MIX …] [--managers NAME …] [--runs 3]   runs what has not been run yet, one after the other
    python benchmarks/squeeze/squeeze.py run [MIX …] --on qemu                        the same guests, started without libvirt
    python benchmarks/squeeze/squeeze.py simulate [MIX …]                             the same mixes on the simulated host
    python benchmarks/squeeze/squeeze.py quick                                        a small one in ten minutes, with its table and picture
    python benchmarks/squeeze/squeeze.py still [MIX]                                  whether mom keeps still where nothing changes
    python benchmarks/squeeze/squeeze.py report [--docs docs]                         tables, pictures, pages from all results

Each run is kept at its end: a line in results/runs.jsonl, and what was seen each second beside it. It needs what tests/real needs, root,
and a machine with memory for the mix (24 GiB for `bursty`, 16 for others) and little else to do; `bursty` takes 15 minutes for each run,
others 5.
"""

from __future__ import annotations

import argparse
import fcntl
import gzip
import json
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import debian_image  # only found from here on
import one_run  # as above
import programs  # as above
import squeeze_report  # as above
from guest_hosts import HOSTS, REAL, LibvirtHost, by_libvirt  # as above
from managers import MANAGERS  # as above
from merit import Moment  # as above
from mixes import QUICK, Mix, read_mixes  # as above

sys.path.insert(0, str(REAL))

from guest_image import CannotBuild, build  # as above

from mom_core import MomError

SWITCHES = ("fpr", "autodeflate")
"""What balloons do by themselves, for all guests of a run."""

RESULTS = Path(__file__).resolve().parent / "results"
RUNS = "runs.jsonl"
"""A line for each run."""

QUICK_MANAGERS = ("nothing", "mom-original", "mom")
"""Nobody, who takes too much of everybody, and mom."""

ON_PAGE = ("bursty", "needs", "days", "programs", "cold", "mixes", "machine")
"""Parts of the report that stand on docs/squeeze.md. The others are only printed."""

PAUSE_SECONDS = 8.0
"""Between two runs: others who wait for the lock take turns."""


def told(text: str) -> None:
    """For whoever waits."""
    print(f"{time.strftime('%H:%M:%S', time.gmtime())} {text}", flush=True)


def squeezed() -> Mapping[str, Mix]:
    """The mixes that are compared."""
    return {name: mix for name, mix in read_mixes().items() if name != QUICK}


def kept(results: Path, name: str = RUNS) -> list[dict[str, Any]]:
    """All runs so far."""
    path = results / name
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def keep(results: Path, result: dict[str, Any], trace: Sequence[Moment], name: str = RUNS) -> None:
    """Add a run."""
    (results / "traces").mkdir(parents=True, exist_ok=True)
    number = 1 + sum(one["mix"] == result["mix"] and one["manager"] == result["manager"] for one in kept(results, name))
    result = {**result, "trace": f"{result['mix']}.{result['manager']}.{number}.jsonl.gz"}
    with gzip.open(results / "traces" / result["trace"], "wt") as file:
        file.writelines(json.dumps(moment.as_json(), separators=(",", ":")) + "\n" for moment in trace)
    with (results / name).open("a") as file:
        file.write(json.dumps(result) + "\n")


@contextmanager
def locked(path: Path | None) -> Iterator[None]:
    """Alone with that file, if one is given: others who need a quiet machine wait for it, too."""
    if path is None:
        yield
        return
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def done(runs: Sequence[Mapping[str, Any]], wished: Sequence[object], label: str) -> int:
    """How many runs there are of that mix, manager, deafness, floor, host, compressed swap, and switches of balloons; without a label,
    whatever their labels."""

    def what(one: Mapping[str, Any]) -> Sequence[object]:
        apart = one.get("floor"), one.get("on", "libvirt"), one.get("zram"), *switched(one)
        return one["mix"], one["manager"], one["deaf"], *apart

    return sum(what(one) == wished and label in {"", one["label"]} for one in runs)


def switched(run: Mapping[str, Any]) -> tuple[bool, ...]:
    """Which of the switches are on in a run."""
    return tuple(bool(run.get(name)) for name in SWITCHES)


def switches_on(options: argparse.Namespace) -> Mapping[str, Any]:
    """What a result says of the switches: nothing of those that are off, as earlier results."""
    return {name: True for name in SWITCHES if getattr(options, name)}


def compared(mix: Mix) -> list[str]:
    """Return the managers that are compared when none are named: offloading needs a swap, and truthful sizes show on recorded days."""
    needed = {"mom-offload": bool(mix.protocol.zram), "mom-truthful": mix.recorded, "mom-asked": False}
    return [name for name in MANAGERS if needed.get(name, True)]


def run_all(options: argparse.Namespace) -> None:
    """What has not been run as often as wished."""
    chosen = chosen_mixes(options)
    if options.zram is not None:
        chosen = {name: mix.with_zram(options.zram) for name, mix in chosen.items()}
    squeeze_each(options, chosen, options.managers)


def chosen_mixes(options: argparse.Namespace) -> Mapping[str, Mix]:
    """Return the named mixes, or all, as the options change them. With a folder of recorded days, `days` gets its name, too."""
    mixes, chosen = squeezed(), {}
    for name in options.mixes or mixes:
        mix = mixes[name].with_switches(reporting=options.fpr, autodeflate=options.autodeflate)
        if mix.recorded:
            mix = mix.with_days(options.days, options.day)
        chosen[f"{name}-{options.days.resolve().name}" if mix.recorded and options.days else name] = mix
    return chosen


def squeeze_each(options: argparse.Namespace, mixes: Mapping[str, Mix], managers: Sequence[str]) -> None:
    """These mixes, under these managers or, where none are named, those that are compared; as often as wished and not done yet."""
    with suppress(PermissionError):
        os.nice(one_run.NICE)
        one_run.favour(os.getpid())
    images = {debian: debian_image.build() if debian else build() for debian in {mix.debian for mix in mixes.values()}}
    wished = (
        (name, number, manager)
        for name, mix in mixes.items()
        for number in range(options.runs)
        for manager in managers or compared(mix)
        if options.on == "libvirt" or not (MANAGERS[manager].by_libvirt or mix.debian)
    )
    for name, number, manager in wished:
        apart_by = options.floor, options.on, options.zram, *switched(vars(options))
        if done(kept(options.results), (name, manager, options.deaf, *apart_by), options.label) > number:
            continue
        mix = mixes[name] if options.floor is None else mixes[name].with_floor(options.floor)
        with locked(options.lock), tempfile.TemporaryDirectory(prefix="mom-squeeze-", dir="/tmp") as folder:
            where = Path(folder) if options.keep is None else options.keep / f"{name}.{manager}.{time.time():.0f}"
            where.mkdir(parents=True, exist_ok=True)
            try:
                with HOSTS[options.on](images[mix.debian]) as host:
                    result, trace = one_run.run(name, mix, MANAGERS[manager], host, where, told, options.deaf)
            except (RuntimeError, AssertionError) as error:
                told(f"{name}, {manager}: {error}")
                continue
            apart = {} if options.floor is None else {"floor": options.floor}
            apart |= {} if options.on == "libvirt" else {"on": options.on}
            apart |= {} if options.zram is None else {"zram": options.zram}
            apart |= switches_on(options)
            keep(options.results, {**result, **apart, "label": options.label}, trace)
        told(
            f"{name}, {manager}: {result['ended']} at {result['seconds']} s, taken {result['taken']} MiB, work {result['work']:.3f}, "
            f"worst burst {result['burst_worst']} s"
        )
        time.sleep(PAUSE_SECONDS)


def look_quickly(options: argparse.Namespace) -> None:
    """The small mix under those managers that differ most, with a table and a picture at the end: for a first look, on any machine."""
    mix = read_mixes()[QUICK]
    began = time.monotonic()
    squeeze_each(options, {QUICK: mix}, QUICK_MANAGERS)
    runs = [run for run in kept(options.results) if run["mix"] == QUICK]
    picture = options.results / "squeeze.png"
    squeeze_report.draw_course(options.results, runs, QUICK, picture)
    known = {QUICK: squeeze_report.bounds(options.results, runs, QUICK, mix.protocol)}
    print(f"\n{squeeze_report.machine(runs)}\n\n{squeeze_report.figures_table(runs, {QUICK: mix}, known)}\n")
    told(f"that took {(time.monotonic() - began) / 60:.0f} minutes; each second of it is drawn in {picture}")


def keep_still(options: argparse.Namespace) -> None:
    """Ten minutes in which nothing changes; what was kept of that mix is replaced."""
    import still

    with host_of_guests(options.lock) as (host, folder):
        found = still.run(options.mix, squeezed()[options.mix], host, folder, told)
    path = options.results / "still.jsonl"
    replace(path, [*(one for one in squeeze_report.results_in(path) if one["mix"] != options.mix), found])
    print(squeeze_report.still_text([found]))


@contextmanager
def host_of_guests(lock: Path | None) -> Iterator[tuple[LibvirtHost, Path]]:
    """A libvirtd that guests are started by, and a folder, with the precedence that guests have."""
    with suppress(PermissionError):
        os.nice(one_run.NICE)
        one_run.favour(os.getpid())
    image = build()
    with locked(lock), tempfile.TemporaryDirectory(prefix="mom-squeeze-", dir="/tmp") as folder, by_libvirt(image) as host:
        yield host, Path(folder)


def replace(path: Path, results: Iterable[Mapping[str, Any]]) -> None:
    """These results instead of what is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(one) + "\n" for one in results))


def simulate(options: argparse.Namespace) -> None:
    """All managers on the simulator; what was there of these mixes is replaced."""
    import on_simulator

    from mom_kvm import quiet

    mixes = {name: mix for name, mix in chosen_mixes(options).items() if not mix.debian}
    path = options.results / "simulated.jsonl"
    here = switched(vars(options))
    found = [one for one in squeeze_report.results_in(path) if one["mix"] not in mixes or switched(one) != here]
    for name, mix in mixes.items():
        for manager in compared(mix):
            with quiet(logging.CRITICAL):
                result = {"mix": name, **on_simulator.simulated(mix, manager)}
            result |= switches_on(options)
            print(f"{name:<10} {manager:<14} {result['taken']:>7,} MiB  {result['ended']} at {result['seconds']} s", flush=True)
            found.append(result)
    replace(path, found)


def headlines(results: Path, label: str = "") -> Mapping[str, str]:
    """What other pages say of kept results, by the names that it has there."""
    everything = [run for run in kept(results) if not run.keys() & {"floor", "on", "zram"}]
    runs = [run for run in everything if not any(switched(run)) and (label in {"", run["label"]} or run["manager"] != "mom")]
    return squeeze_report.headlines(runs, squeeze_report.by_switches(everything).get("free page reporting", []))


def report(options: argparse.Namespace) -> None:
    """Tables and pictures."""
    all_of_them = kept(options.results)
    everything = [run for run in all_of_them if not any(switched(run))]
    simulated = [run for run in squeeze_report.results_in(options.results / "simulated.jsonl") if not any(switched(run))]
    synthetic = {name: mix for name, mix in squeezed().items() if not (mix.debian or mix.recorded)}
    mixes, swapping = ({name: mix for name, mix in synthetic.items() if bool(mix.protocol.zram) is swaps} for swaps in (False, True))
    runs = [run for run in everything if not run.keys() & {"floor", "on", "zram"}]
    chosen = [run for run in runs if run["mix"] in mixes and (options.label in {"", run["label"]} or run["manager"] != "mom")]
    told_apart = [run for run in all_of_them if any(switched(run)) and not run.keys() & {"floor", "on", "zram"}]
    known = {name: squeeze_report.bounds(options.results, chosen, name, mix.protocol) for name, mix in mixes.items()}
    parts = {
        "machine": squeeze_report.machine(chosen),
        "bursty": squeeze_report.main_table(chosen, "bursty", known["bursty"]),
        "needs": squeeze_report.needs_text(known["bursty"], mixes["bursty"].protocol),
        "mixes": squeeze_report.figures_table([*chosen, *told_apart], mixes, known),
        "days": squeeze_report.days_table(runs),
        "cold": squeeze_report.cold_table([run for run in everything if not run.keys() & {"floor", "on"}], swapping),
        "programs": programs.programs_table([run for run in all_of_them if not run.keys() & {"floor", "on", "zram"}]),
        "warming": squeeze_report.warming_text(runs),
        "hosts": squeeze_report.hosts_table([run for run in everything if not run.keys() & {"floor", "zram"}], mixes),
        "refusal": squeeze_report.refusal_text([run for run in everything if "floor" in run]),
        "order": squeeze_report.order_table(runs, simulated, squeezed()),
        "still": squeeze_report.still_text(list(squeeze_report.results_in(options.results / "still.jsonl"))),
    }
    for name, part in parts.items():
        print(f"{name}\n\n{part}\n")
    if options.docs is not None:
        squeeze_report.draw_course(options.results, chosen, "bursty", options.docs / "squeeze-bursty.png")
        squeeze_report.draw_moving(options.results, chosen, "bursty", options.docs / "squeeze-moving.svg")
        squeeze_report.draw_mixes(chosen, mixes, options.docs / "squeeze-mixes.png")
        page = options.docs / "squeeze.md"
        on_page = {name: parts[name] for name in ON_PAGE}
        page.write_text(squeeze_report.filled(page.read_text("utf-8"), on_page), "utf-8")
        figures = headlines(options.results, options.label)
        for page in [options.docs.resolve().parent / "README.md", *options.docs.glob("*.md")]:
            if page.exists() and squeeze_report.PLACES.search(text := page.read_text("utf-8")):
                page.write_text(squeeze_report.restated(text, figures), "utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run, simulate or report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run", help="run what has not been run yet")
    run.add_argument("mixes", nargs="*", choices=[*squeezed(), []])
    run.add_argument("--managers", nargs="+", choices=list(MANAGERS))
    run.add_argument("--runs", type=int, default=1, help="of each")
    run.add_argument("--on", choices=list(HOSTS), default="libvirt", help="what starts the guests; told apart (default: %(default)s)")
    run.add_argument("--deaf", action="store_true", help="go on taking memory when mom says that no more should be taken")
    run.add_argument("--floor", type=int, metavar="MIB", help="go on down to so little, to see who refuses; told apart")
    run.add_argument("--zram", type=int, metavar="MIB", help="another compressed swap of the host; 0: none; told apart")
    run.add_argument("--label", default="", help="kept with the results, such as a version; what was run without it is run again")
    run.add_argument("--lock", type=Path, help="a file that is locked during each run")
    run.add_argument("--keep", type=Path, help="a folder for what guests and managers say")
    on_model = verbs.add_parser("simulate", help="on the simulated host")
    on_model.add_argument("mixes", nargs="*", choices=[*squeezed(), []])
    for verb in (run, on_model):
        verb.add_argument("--days", type=Path, metavar="FOLDER", help="machines for `days`: CSV of GWA-T-12 (default: made-up machines)")
        verb.add_argument("--day", type=date.fromisoformat, default="2013-08-13", help="the day in these files (default: %(default)s)")
        verb.add_argument("--fpr", action="store_true", help="guests report their free pages by themselves; told apart")
        verb.add_argument("--autodeflate", action="store_true", help="balloons give back before guests run out; told apart")
    quick = verbs.add_parser("quick", help="a small squeeze in ten minutes, for a first look on any machine with 6 GiB of memory to spare")
    quick.add_argument("--lock", type=Path, help="a file that is locked during each run")
    quick.set_defaults(runs=1, on="libvirt", floor=None, zram=None, fpr=False, autodeflate=False, deaf=False, label="", keep=None)
    calm = verbs.add_parser(
        "still", help="whether mom keeps still for ten minutes in which nothing changes, on a host that is short of memory"
    )
    calm.add_argument("mix", nargs="?", default="steady", choices=list(squeezed()))
    calm.add_argument("--lock", type=Path, help="a file that is locked meanwhile")
    told_all = verbs.add_parser("report", help="print tables, and write them and pictures into documents")
    told_all.add_argument("--docs", type=Path, help="the folder in which squeeze.md is to be filled and pictures drawn")
    told_all.add_argument("--label", default="", help="of mom's runs only those with this label")
    for verb in (run, on_model, quick, calm, told_all):
        verb.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # as ctrl-C does: so that guests and libvirtd end, too
    verb_of = {"run": run_all, "simulate": simulate, "quick": look_quickly, "still": keep_still, "report": report}
    try:
        verb_of[options.verb](options)
    except (MomError, CannotBuild) as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
