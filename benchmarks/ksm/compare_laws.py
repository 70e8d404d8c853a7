"""Compare KSM laws on real guests: pages merged after 60 s and 300 s, and the CPU time of ksmd.

    python benchmarks/ksm/compare_laws.py [ksmtuned] [advisor] [mom] [mom-gentle] [full] [--keep FOLDER] [--show] [--page docs/ksm-law.md]
                                          [--picture docs/ksm-law.svg]

Six guests hold 128 MiB of memory that is equal in all of them, 24 MiB of their own, and 8 MiB that changes all the time. Another holds
random memory. Each law starts with nothing merged. Then:

    0 s … 300 s   pages merged, and CPU time of ksmd
    300 s …       a seventh equal guest starts: time until 90 % of what it shares is merged, from when it holds it
    then          two guests with random memory replace all equal ones: 60 s to settle, and ksmd's CPU time in 40 s after

ksmtuned    its rule (benchmarks/squeeze/peers.py) once a minute; memory counts as short until the equal guests have ended
advisor     the kernel's scan-time advisor with its defaults (Linux 6.8 or later)
mom         `mom run` with its default policy and short memory
mom-gentle  the same with enough memory, but more sold than there is
full        30000 pages without sleep for 90 s: the bound

KSM must not be in use. Its settings are restored. It needs what tests/real needs: libvirtd, QEMU, 3 GiB of memory, and nine minutes a law
in which no other program starts large things. `--keep` stores each law's course in a folder; `--show` shows what is stored there.
`--page` replaces the table on a page.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

sys.path += [str(Path(__file__).resolve().parents[2] / folder) for folder in ("tests/real", "benchmarks/shared", "benchmarks/squeeze")]

from guest_lab import guest_lab  # only found from here on
from ksm import KSM, ksm_restored, read_ksm, write_ksm  # as above
from peers import GIB, ksmtuned  # as above
from processes import set_nice  # as above
from real_guests import Lab, RealGuest  # as above
from tables import filled, table, tell  # as above

from mom_devkit import wait_until
from mom_kvm import ProcessStat

PAGE = os.sysconf("SC_PAGE_SIZE")
GUEST_MIB, COMMON_MIB, OWN_MIB, CHANGING_MIB = 288, 128, 24, 8
EQUAL, RANDOM_AFTER = 6, 2
WHOLE_SECONDS, BOUND_SECONDS, PATIENCE_SECONDS, SETTLE_SECONDS, IDLE_SECONDS = 300.0, 90.0, 120.0, 60.0, 40.0
MARKS = (60.0, 300.0)
DEFAULTS = {"advisor_mode": "none", "pages_to_scan": "100", "sleep_millisecs": "20", "smart_scan": "1"}
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
"""Memory always counts as short."""

SOLD = "{sold_share: 0.01}"
"""The host always counts as oversold."""

Tick = Callable[[bool], None]
"""Called all the time with whether memory counts as short."""


@dataclass(frozen=True)
class Moment:
    """KSM at so many seconds: pages saved, and ksmd's CPU seconds."""

    at: float
    sharing: int
    cpu: float


@dataclass
class Course:
    """Course of one law.

    `new_guest` is the time until a new guest was merged (s; `None`: not in time). CPU times are ksmd's, meanwhile and in an idle minute.
    """

    law: str
    moments: list[Moment] = field(default_factory=list)
    new_guest: float | None = None
    new_guest_cpu: float | None = None
    idle_cpu: float | None = None

    def at(self, seconds: float) -> Moment | None:
        """Return the last moment until then; `None` if the course ended before."""
        return next((one for one in reversed(self.moments) if seconds - 5 < one.at <= seconds + 0.5), None)

    def row(self) -> list[str]:
        cells = [self.law]
        for moment in map(self.at, MARKS):
            spent = 0.0 if moment is None else moment.cpu - self.moments[0].cpu
            cells += ["-"] * 3 if moment is None else [f"{moment.sharing}", f"{spent:.1f}", f"{moment.sharing / max(spent, 0.01):.0f}"]
        late = "-" if self.law == "full" else f"> {PATIENCE_SECONDS:.0f}"
        cells.append(late if self.new_guest is None else f"{self.new_guest:.0f}")
        cells.append("-" if self.new_guest_cpu is None else f"{self.new_guest_cpu:.1f}")
        cells.append("-" if self.idle_cpu is None else f"{self.idle_cpu:.2f}")
        return cells


def ksmd_seconds() -> float:
    """Return the CPU time of ksmd, by the scheduler's account."""
    pid = ProcessStat.id_of("ksmd", Path("/proc"))
    if not pid:
        raise SystemExit("ksmd is not visible from here")
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def now(began: float) -> Moment:
    return Moment(time.monotonic() - began, int((KSM / "pages_sharing").read_text()), ksmd_seconds())


def merged_pages(guest: RealGuest) -> int:
    """Return how many pages of this guest are merged."""
    counts = dict(line.split() for line in Path(f"/proc/{guest.pid}/ksm_stat").read_text().splitlines())
    return int(counts.get("ksm_merging_pages", 0))


@contextmanager
def law_at_work(name: str, lab: Lab) -> Iterator[Tick]:
    """Run a law until the end of the block."""
    if name.startswith("mom"):
        with _mom(lab, SHORT if name == "mom" else SOLD):
            yield lambda short: None
    elif name == "ksmtuned":
        yield _Ksmtuned()
    else:
        if name == "advisor" and "advisor_mode" not in read_ksm():
            raise SystemExit("this kernel has no KSM advisor: Linux 6.8 or later has one")
        knobs = {"advisor_mode": "scan-time"} if name == "advisor" else {"sleep_millisecs": "0", "pages_to_scan": "30000"}
        write_ksm({**knobs, "run": "1"})
        yield lambda short: None


class _Ksmtuned:
    def __init__(self) -> None:
        self.pages, self.due = 0, time.monotonic()

    def __call__(self, short: bool) -> None:
        if time.monotonic() < self.due:
            return
        self.due += 60
        total = 16 * GIB
        wish = ksmtuned(self.pages, total, total, 0 if short else total)
        self.pages = wish.pages
        write_ksm({"sleep_millisecs": str(wish.sleep_ms), "pages_to_scan": str(wish.pages), "run": "1"})


@contextmanager
def _mom(lab: Lab, law: str) -> Iterator[None]:
    with tempfile.TemporaryDirectory(prefix="mom-ksm-") as name:
        config, log = Path(name) / "mom.yaml", Path(name) / "log"
        config.write_text(CONFIG.format(folder=name, uri=lab.libvirtd.uri, pids=lab.libvirtd.pid_folder, law=law))
        with log.open("ab") as file:
            process = subprocess.Popen([Path(sys.executable).parent / "mom", "run", "-c", config], stdout=file, stderr=file)
        try:
            yield
        finally:
            process.terminate()
            process.wait(20)
            if "rror" in (text := log.read_text()):
                sys.stderr.write(text[-2000:])


def start(lab: Lab, name: str, *, equal: bool) -> RealGuest:
    """Start a guest, with precedence for its threads where that is allowed."""
    workload = (OWN_MIB, CHANGING_MIB, COMMON_MIB, 0) if equal else (OWN_MIB + COMMON_MIB, CHANGING_MIB, 0, 0)
    guest = lab.start(name, mib=GUEST_MIB, workload=workload)
    set_nice(guest.pid, -15)
    return guest


def holds_all(guest: RealGuest) -> bool:
    """Return whether the guest's program holds all of its memory."""
    return bool(guest.beats)


def is_merged(guest: RealGuest) -> bool:
    """Return whether 90 % of the guest's common memory is merged."""
    return merged_pages(guest) >= COMMON_MIB * (1 << 20) // PAGE * 0.9


class Watch:
    """Lets a law run, and records its course."""

    def __init__(self, course: Course, tick: Tick) -> None:
        self.course, self.tick = course, tick
        self.began, self.last = time.monotonic(), -1.0

    def run(self, most: float, is_done: Callable[[], bool] = lambda: False, *, short: bool = True) -> float | None:
        """Run until it is done, for so many seconds at most. Return how long it took; `None`: it is not done."""
        began = time.monotonic()
        while not (done := is_done()) and time.monotonic() - began < most:
            self.tick(short)
            if time.monotonic() - self.began - self.last >= 1:
                self._record()
            time.sleep(0.2)
        self._record()
        return time.monotonic() - began if done else None

    def _record(self) -> None:
        self.course.moments.append(now(self.began))
        self.last = self.course.moments[-1].at


def run(law: str, lab: Lab) -> Course:
    """Measure one law."""
    course = Course(law)
    equal = [start(lab, f"{law}-equal{n}", equal=True) for n in range(EQUAL)]
    for guest in (*equal, start(lab, f"{law}-random", equal=False)):
        wait_until(partial(holds_all, guest), f"{guest.name} works", 240)
    time.sleep(3)
    with ksm_restored(DEFAULTS), law_at_work(law, lab) as tick:
        watch = Watch(course, tick)
        watch.run(BOUND_SECONDS if law == "full" else WHOLE_SECONDS)
        tell(f"{law}: {course.moments[-1]}")
        if law != "full":
            _measure_changes(law, lab, equal, watch)
    lab.destroy_all()
    return course


def _measure_changes(law: str, lab: Lab, equal: Sequence[RealGuest], watch: Watch) -> None:
    """Measure the merging of a new guest, and the CPU time with nothing to share."""
    new = start(lab, f"{law}-new", equal=True)
    watch.run(120, partial(holds_all, new))
    cpu = ksmd_seconds()
    watch.course.new_guest = watch.run(PATIENCE_SECONDS, partial(is_merged, new))
    if watch.course.new_guest is not None:
        watch.course.new_guest_cpu = ksmd_seconds() - cpu
    for guest in (*equal, new):
        guest.destroy()
    for count in range(RANDOM_AFTER):
        start(lab, f"{law}-random{count}", equal=False)
    watch.run(SETTLE_SECONDS, short=False)
    cpu = ksmd_seconds()
    watch.run(IDLE_SECONDS, short=False)
    watch.course.idle_cpu = (ksmd_seconds() - cpu) * 60 / IDLE_SECONDS
    tell(f"{law}: new guest {watch.course.new_guest} s, idle {watch.course.idle_cpu:.2f} CPU s a minute")


def table_of(courses: Sequence[Course]) -> str:
    heading = ["law"]
    for mark in MARKS:
        heading += [f"pages saved at {mark:.0f} s", "CPU s", "pages per CPU s"]
    heading += ["new guest merged after, s", "CPU s", "nothing to share: CPU s a minute"]
    return table(heading, [course.row() for course in courses])


def draw(courses: Sequence[Course], path: Path) -> None:
    """Draw the saved memory and the CPU time over time."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    mpl.rcParams.update({"svg.hashsalt": "mom", "font.size": 9})
    figure, (upper, lower) = pyplot.subplots(2, 1, figsize=(8, 6), sharex=True, layout="constrained")
    for course in courses:
        part = [moment for moment in course.moments if moment.at <= WHOLE_SECONDS]
        seconds = [moment.at for moment in part]
        upper.plot(seconds, [moment.sharing * PAGE / (1 << 20) for moment in part], label=course.law)
        lower.plot(seconds, [moment.cpu - part[0].cpu for moment in part], label=course.law)
    upper.set_ylabel("saved, MiB")
    lower.set_ylabel("ksmd, CPU seconds")
    lower.set_xlabel("seconds since the law began")
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
    upper.legend()
    figure.savefig(path, metadata={"Date": None})


def kept_in(folder: Path) -> Iterator[Course]:
    """Yield the stored courses."""
    for law in LAWS:
        if (path := folder / f"{law}.json").exists():
            content = json.loads(path.read_text())
            yield Course(**{**content, "moments": [Moment(**moment) for moment in content["moments"]]})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("laws", nargs="*", choices=[*LAWS, []], help="default: all")
    parser.add_argument("--keep", type=Path, help="a folder for results")
    parser.add_argument("--show", action="store_true", help="only show stored results")
    parser.add_argument("--page", type=Path)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    keep: Path = options.keep or Path(tempfile.mkdtemp(prefix="mom-ksm-kept-"))
    keep.mkdir(parents=True, exist_ok=True)
    if not options.show:
        if read_ksm().get("run") == "1":
            raise SystemExit("KSM is in use on this host: stop it first")
        with guest_lab() as lab:
            for law in options.laws or LAWS:
                (keep / f"{law}.json").write_text(json.dumps(asdict(run(law, lab))))
    courses = list(kept_in(keep))
    print(table_of(courses))
    if options.page:
        options.page.write_text(filled(options.page.read_text(), {"laws": table_of(courses)}))
    if options.picture:
        draw(courses, options.picture)


if __name__ == "__main__":
    main()
