"""KSM laws side by side on real guests: what each has merged after 60 s and 300 s, and what CPU time of ksmd that took.

    python benchmarks/ksm/compare_laws.py [ksmtuned] [advisor] [mom] [mom-gentle] [full] [--keep FOLDER] [--show] [--page docs/ksm-law.md]
                                          [--picture docs/ksm-law.svg] [--json]

Six guests that hold 128 MiB of memory that is the same in all of them, 24 MiB of their own, and 8 MiB that changes all the time, and one
that holds only random memory. Each law begins with nothing merged. Then:

    0 s … 300 s   what is merged, and the CPU time of ksmd
    300 s …       a seventh equal guest is started: how long until 90 % of what it shares is merged, from when it holds it
    then          all equal guests end, two with random memory take their place: 60 s to settle, and ksmd's CPU time in 40 s after

ksmtuned    its rule, from descriptions of it: every 60 s 300 pages more while memory counts as short, else 50 less, 64 to 1250; sleeps
            10 ms. Memory counts as short here all the time, until the equal guests have ended
advisor     the kernel's own, scan-time, with its defaults (Linux 6.8 or later)
mom         `mom run` with its default policy, told that memory is short
mom-gentle  the same, told that memory is not short, but more is sold than there is
full        30000 pages, no sleep: the bound. It ends after 90 s, and leaves the rest out

KSM must not be in use; what stands in its files is put back. It needs what tests/real needs: libvirtd, QEMU, 3 GiB of memory, and nine
minutes a law in which nobody else starts large things. `--keep` keeps each law's course in a folder, and shows all that are kept there;
`--show` measures nothing. `--page` puts the table into a page, in place of the one that begins with `| law |`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "real"))

from guest_image import build, cache_folder  # only found from here on
from private_libvirtd import PrivateLibvirtd  # as above
from real_guests import Lab, RealGuest  # as above

from mom_devkit import wait_until

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KSM = Path("/sys/kernel/mm/ksm")
PAGE = os.sysconf("SC_PAGE_SIZE")
GUEST_MIB, COMMON_MIB, OWN_MIB, CHANGING_MIB = 288, 128, 24, 8
EQUAL, RANDOM_AFTER = 6, 2
WHOLE_SECONDS, BOUND_SECONDS, PATIENCE_SECONDS, SETTLE_SECONDS, IDLE_SECONDS = 300.0, 90.0, 120.0, 60.0, 40.0
MARKS = (60.0, 300.0)
KNOBS = ("run", "pages_to_scan", "sleep_millisecs", "smart_scan", "advisor_mode")
DEFAULTS = {"pages_to_scan": "100", "sleep_millisecs": "20", "smart_scan": "1"}
Law = AbstractContextManager[Callable[[float, bool], None]]
LAWS = ("ksmtuned", "advisor", "mom", "mom-gentle", "full")

CONFIG = """interval: 5s
state_directory: {folder}/state
run_directory: {folder}/run
mode: enforce
plugins:
  host: {{}}
  libvirt: {{uri: "{uri}", pid_directory: "{pids}", stats_period: 2s}}
  ksm: {{law: {law}}}
  policy: {{}}
"""

SHORT = "{start_least: 1TiB, start_least_share: 1.0}"
"""Less than 1024 GiB, or all of it, is available: memory counts as short on this host."""

SOLD = "{sold_share: 0.01}"
"""More than a hundredth of the memory is sold: as on a host that counts as oversold."""


@dataclass(frozen=True)
class Moment:
    """KSM at so many seconds: its counters of pages, bytes saved after costs, ksmd's CPU seconds, whole scans."""

    at: float
    sharing: int
    shared: int
    profit: int
    cpu: float
    scans: int
    pages_to_scan: int


@dataclass
class Course:
    """What one law did. `new_guest` in seconds (None: not in time), `idle_cpu` in CPU seconds of ksmd in a minute with nothing to share."""

    law: str
    moments: list[Moment] = field(default_factory=list)
    new_guest: float | None = None
    new_guest_cpu: float | None = None
    idle_cpu: float | None = None

    def at(self, seconds: float) -> Moment | None:
        """The last moment until then; None if it did not get so far."""
        return next((one for one in reversed(self.moments) if one.at <= seconds + 0.5 and one.at > seconds - 5), None)


def number(name: str) -> int:
    """A count of KSM's; 0 where this kernel does not have it."""
    try:
        return int((KSM / name).read_text())
    except OSError:
        return 0


def ksmd_seconds() -> float:
    """CPU time of ksmd, by the scheduler's account where there is one."""
    for folder in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        with suppress(OSError):
            if (folder / "comm").read_text() == "ksmd\n":
                return int((folder / "schedstat").read_text().split()[0]) / 1e9
    raise SystemExit("ksmd is not seen from here")


def now(began: float) -> Moment:
    """KSM now."""
    return Moment(
        time.monotonic() - began,
        number("pages_sharing"),
        number("pages_shared"),
        number("general_profit"),
        ksmd_seconds(),
        number("full_scans"),
        number("pages_to_scan"),
    )


def merged_pages(guest: RealGuest) -> int:
    """Pages of this guest that are merged, as its process' ksm_stat has it."""
    for line in Path(f"/proc/{guest.pid}/ksm_stat").read_text().splitlines():
        name, _, count = line.partition(" ")
        if name == "ksm_merging_pages":
            return int(count)
    return 0


@contextmanager
def own_ksm() -> Iterator[None]:
    """KSM with nothing merged and the kernel's defaults; at the end it is as it was."""
    before = {name: (KSM / name).read_text() for name in KNOBS if (KSM / name).exists()}
    try:
        reset()
        yield
    finally:
        reset()
        for name in ("pages_to_scan", "sleep_millisecs", "smart_scan", "advisor_mode", "run"):
            if name in before:
                text = before[name]
                (KSM / name).write_text(text.partition("[")[2].partition("]")[0] or text)  # of several words, the one that is chosen


def reset() -> None:
    """Unmerge everything."""
    (KSM / "run").write_text("2")
    if (KSM / "advisor_mode").exists():
        (KSM / "advisor_mode").write_text("none")
    for name, value in DEFAULTS.items():
        with suppress(OSError):  # older kernels have no smart_scan
            (KSM / name).write_text(value)


@contextmanager
def ksmtuned() -> Iterator[Callable[[float, bool], None]]:
    """Its rule; called with the seconds so far and whether memory counts as short."""
    state = {"pages": 0, "due": 0.0}

    def tick(seconds: float, short: bool) -> None:
        if seconds < state["due"]:
            return
        state["due"] += 60
        state["pages"] = max(64, min(1250, state["pages"] + (300 if short else -50)))
        (KSM / "sleep_millisecs").write_text("10")
        (KSM / "pages_to_scan").write_text(str(int(state["pages"])))
        (KSM / "run").write_text("1")

    yield tick


@contextmanager
def advisor() -> Iterator[Callable[[float, bool], None]]:
    """The kernel's own."""
    if not (KSM / "advisor_mode").exists():
        raise SystemExit("this kernel has no KSM advisor: Linux 6.8 or later has one")
    (KSM / "advisor_mode").write_text("scan-time")
    (KSM / "run").write_text("1")
    yield lambda seconds, short: None


@contextmanager
def full() -> Iterator[Callable[[float, bool], None]]:
    """As fast as it goes."""
    (KSM / "sleep_millisecs").write_text("0")
    (KSM / "pages_to_scan").write_text("30000")
    (KSM / "run").write_text("1")
    yield lambda seconds, short: None


@contextmanager
def mom(libvirtd: PrivateLibvirtd, parameters: str) -> Iterator[Callable[[float, bool], None]]:
    """`mom run`, as an operator has it, with these parameters of its law."""
    with tempfile.TemporaryDirectory(prefix="mom-ksm-") as name:
        folder = Path(name)
        text = CONFIG.format(folder=folder, uri=libvirtd.uri, pids=libvirtd.pid_folder, law=parameters)
        (folder / "mom.yaml").write_text(text)
        with (folder / "log").open("ab") as log:
            command = [str(Path(sys.executable).parent / "mom"), "run", "-c", str(folder / "mom.yaml")]
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield lambda seconds, short: None
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)
            told = (folder / "log").read_text()
            if "rror" in told:
                sys.stderr.write(told[-2000:])


def beats_of(guest: RealGuest) -> bool:
    """Whether it holds all that it was told to hold."""
    return bool(guest.beats)


def law_of(name: str, libvirtd: PrivateLibvirtd) -> Law:
    """The law of that name."""
    if name.startswith("mom"):
        return mom(libvirtd, SHORT if name == "mom" else SOLD)
    return {"ksmtuned": ksmtuned, "advisor": advisor, "full": full}[name]()


def begin(lab: Lab, name: str, equal: bool) -> RealGuest:
    """A guest, and its threads before everybody else's where that is allowed."""
    workload = (OWN_MIB, CHANGING_MIB, COMMON_MIB, 0) if equal else (OWN_MIB + COMMON_MIB, CHANGING_MIB, 0, 0)
    guest = lab.start(name, mib=GUEST_MIB, workload=workload)
    with suppress(OSError, AssertionError):
        for task in Path(f"/proc/{guest.pid}/task").iterdir():
            os.setpriority(os.PRIO_PROCESS, int(task.name), -15)
    return guest


def run(law: str, libvirtd: PrivateLibvirtd, lab: Lab, say: Callable[[str], None]) -> Course:
    """One law from nothing merged to nothing to share."""
    course = Course(law)
    equal = [begin(lab, f"{law}-equal{n}", True) for n in range(EQUAL)]
    other = [begin(lab, f"{law}-random", False)]
    for guest in (*equal, *other):
        wait_until(partial(beats_of, guest), f"{guest.name} works", 240)
    time.sleep(3)
    with law_of(law, libvirtd) as tick:
        began, last = time.monotonic(), -1.0

        def watch(until: float, done: Callable[[], bool] = lambda: False, short: bool = True) -> bool:
            nonlocal last
            while (seconds := time.monotonic() - began) < until and not done():
                tick(seconds, short)
                if seconds - last >= 1:
                    course.moments.append(now(began))
                    last = seconds
                time.sleep(0.2)
            course.moments.append(now(began))
            return seconds < until

        watch(BOUND_SECONDS if law == "full" else WHOLE_SECONDS)
        say(f"{law}: {course.moments[-1]}")
        if law != "full":
            equal.append(begin(lab, f"{law}-new", True))
            new = equal[-1]
            watch(time.monotonic() - began + 120, lambda: bool(new.beats))
            held, cpu = time.monotonic() - began, ksmd_seconds()
            wanted = COMMON_MIB * (1 << 20) // PAGE * 0.9
            if watch(held + PATIENCE_SECONDS, lambda: merged_pages(new) >= wanted):
                course.new_guest = time.monotonic() - began - held
                course.new_guest_cpu = ksmd_seconds() - cpu
            say(f"{law}: new guest {course.new_guest} s")
            for guest in equal:
                guest.destroy()
            for count in range(RANDOM_AFTER):
                begin(lab, f"{law}-random{count}", False)
            watch(time.monotonic() - began + SETTLE_SECONDS, short=False)
            cpu, since = ksmd_seconds(), time.monotonic()
            watch(since - began + IDLE_SECONDS, short=False)
            course.idle_cpu = (ksmd_seconds() - cpu) * 60 / (time.monotonic() - since)
            say(f"{law}: idle {course.idle_cpu:.2f} CPU s a minute")
    lab.destroy_all()
    return course


def rows(courses: Sequence[Course]) -> Iterator[list[str]]:
    """For the table."""
    for one in courses:
        cells = [one.law]
        first = one.moments[0].cpu
        for mark in MARKS:
            at = one.at(mark)
            spent = None if at is None else at.cpu - first
            cells += ["-"] * 3 if at is None or spent is None else [f"{at.sharing}", f"{spent:.1f}", f"{at.sharing / max(spent, 0.01):.0f}"]
        cells.append(f"{one.new_guest:.0f}" if one.new_guest is not None else "-" if one.law == "full" else f"> {PATIENCE_SECONDS:.0f}")
        cells.append(f"{one.new_guest_cpu:.1f}" if one.new_guest_cpu is not None else "-")
        cells.append(f"{one.idle_cpu:.2f}" if one.idle_cpu is not None else "-")
        yield cells


def table(courses: Sequence[Course]) -> str:
    """In Markdown."""
    heading = ["law"]
    for mark in MARKS:
        heading += [f"pages saved at {mark:.0f} s", "CPU s", "pages per CPU s"]
    heading += ["new guest merged after, s", "CPU s", "nothing to share: CPU s a minute"]
    lines = [heading, ["---"] * len(heading), *rows(courses)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def draw(courses: Sequence[Course], path: Path) -> None:
    """What is saved, and the CPU time, over time."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    mpl.rcParams.update({"svg.hashsalt": "mom", "font.size": 9})
    figure, axes = pyplot.subplots(2, 1, figsize=(8, 6), sharex=True, layout="constrained")
    upper: Axes = axes[0]
    lower: Axes = axes[1]
    for one in courses:
        part = [moment for moment in one.moments if moment.at <= WHOLE_SECONDS]
        seconds = [moment.at for moment in part]
        upper.plot(seconds, [moment.sharing * PAGE / (1 << 20) for moment in part], label=one.law)
        lower.plot(seconds, [moment.cpu - part[0].cpu for moment in part], label=one.law)
    upper.set_ylabel("saved, MiB")
    lower.set_ylabel("ksmd, CPU seconds")
    lower.set_xlabel("seconds since the law began")
    for ax in (upper, lower):
        ax.grid(alpha=0.3)
    upper.legend()
    figure.savefig(path, metadata={"Date": None})


def kept_in(folder: Path) -> list[Course]:
    """What was measured before."""
    found: list[Course] = []
    for law in LAWS:
        path = folder / f"{law}.json"
        if path.exists():
            content: Mapping[str, object] = json.loads(path.read_text())
            moments = content.pop("moments")  # type: ignore[attr-defined]  # a dictionary, as json gives it
            found.append(Course(**{**content, "moments": [Moment(**one) for one in moments]}))  # type: ignore[arg-type]  # written by this program
    return found


def put_into(page: Path, text: str) -> None:
    """This table in place of the one that is there."""
    lines = page.read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("| law |"))
    last = next(number for number in range(first, len(lines)) if not lines[number].startswith("|"))
    page.write_text("\n".join([*lines[:first], *text.splitlines(), *lines[last:]]) + "\n")


def say(text: str) -> None:
    """How far it is."""
    sys.stderr.write(f"{text}\n")


def main() -> None:
    """Measure what is asked for, and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("laws", nargs="*", choices=[*LAWS, []], help="all of them, if none is named")
    parser.add_argument("--keep", type=Path, help="a folder for what is measured")
    parser.add_argument("--show", action="store_true", help="only show what is kept")
    parser.add_argument("--page", type=Path)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    laws = options.laws or LAWS
    keep: Path = options.keep or Path(tempfile.mkdtemp(prefix="mom-ksm-kept-"))
    keep.mkdir(parents=True, exist_ok=True)
    if not options.show:
        if number("run") == 1:
            raise SystemExit("KSM is in use on this host: stop it first")
        libvirtd = PrivateLibvirtd(cache_folder())
        try:
            libvirtd.start()
            lab = Lab(libvirtd, build())
            for law in laws:
                with own_ksm():
                    course = run(law, libvirtd, lab, say)
                (keep / f"{law}.json").write_text(json.dumps(asdict(course)))
        finally:
            libvirtd.stop()
    courses = kept_in(keep)
    print(json.dumps([asdict(one) for one in courses]) if options.json else table(courses))
    if options.page:
        put_into(options.page, table(courses))
    if options.picture:
        draw(courses, options.picture)


if __name__ == "__main__":
    main()
