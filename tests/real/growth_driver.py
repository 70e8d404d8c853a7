"""Driver that runs in a guest with its own cgroups v2: guests grow as fast as they can, with mom and without.

Processes (`grow.c`) in control groups like libvirt's stand for guests. `mom run` and `mom restore` are forked children, because imports
take 15 s on an emulated CPU. `cgroup_image` packs the driver. Each measurement is JSON in a line after `FACT`.
"""

import importlib
import json
import mmap
import os
import re
import select
import shutil
import signal
import struct
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from grouped_processes import HYPERVISOR, MIB, SLOW_SECONDS, end, fact, group_of, open_groups, start, until

from mom_core import HypervisorError, Value
from mom_daemon.cli.frame import run
from mom_kvm import Helper, write_group_files
from mom_plugins_host.cgroup import CgroupPlugin

NAMES = ("a", "b", "c", "d", "e", "f")
NO_PRIORITIES: Mapping[str, int] = {}
FIRST_MIB = 8
"""Memory of each guest before it grows."""

WANTED = 1.5
"""Memory that all guests want, as a ratio of the machine's available memory."""

REACTION_SHARE = 0.09
"""Ratio of available memory while reactions are measured, between the plugin's watermarks of 10 % and 2 %."""

WINDOW_SECONDS = 10.0
SAMPLE_SECONDS = 0.05
ALIVE_SECONDS = 4.0
"""Longest pause of a process. At its limit, a process sleeps up to 2 s before its next pages."""

PAGE = 4096
PAGES_PER_MIB = MIB * 1024 // PAGE

_MEMINFO = os.open("/proc/meminfo", os.O_RDONLY)

CONFIG = Path("/etc/mom/growth.yaml")
FOLDER = Path("/tmp/growth")
WRITES, EVENTS, LOG = FOLDER / "writes", FOLDER / "events", FOLDER / "log"


# --- guests ------------------------------------------------------------------------------------------------------------------------


class Grower:
    """Process that holds a requested amount of memory."""

    def __init__(self, name: str, most_mib: int, fields: Mapping[str, Value], *, huge: bool) -> None:
        self.name = name
        FOLDER.mkdir(exist_ok=True)
        file = FOLDER / f"{name}.pages"
        file.write_bytes(bytes(PAGE))
        with file.open("r+b") as opened:
            self._shared = mmap.mmap(opened.fileno(), PAGE)
        self.process = start(name, ["/bin/grow", str(most_mib), str(int(huge)), str(file)], most_mib, fields=fields)

    def _number(self, place: int) -> int:
        return int(struct.unpack_from("<Q", self._shared, 8 * place)[0])

    def _set(self, place: int, number: int) -> None:
        struct.pack_into("<Q", self._shared, 8 * place, number)

    @property
    def mib(self) -> float:
        return self._number(1) / PAGES_PER_MIB

    def holds(self, mib: float) -> bool:
        return self.mib >= mib

    @property
    def beats(self) -> int:
        return self._number(2)

    @property
    def longest_pause(self) -> float:
        """Longest pause in seconds, including the present one."""
        present = time.monotonic() - self._number(5) / 1e6 if self._number(4) else 0.0
        return max(self._number(3) / 1e6, present)

    @property
    def is_killed(self) -> bool:
        return self.process.poll() is not None

    def want(self, mib: float) -> None:
        self._set(3, 0)
        self._set(0, int(mib * PAGES_PER_MIB))

    @property
    def limit_mib(self) -> float | None:
        text = (group_of(self.name) / "memory.high").read_text().strip()
        return None if text == "max" else int(text) / 2**20


@contextmanager
def growers(
    most_mib: float, names: Sequence[str] = NAMES, priorities: Mapping[str, int] = NO_PRIORITIES, *, huge: bool = False
) -> Iterator[list[Grower]]:
    """Start guests with little memory. Kill them at the end."""
    fields: Mapping[str, Mapping[str, Value]] = {name: {"priority": priority} for name, priority in priorities.items()}
    guests = [Grower(name, int(most_mib) + 2, fields.get(name, {}), huge=huge) for name in names]
    try:
        for guest in guests:
            guest.want(FIRST_MIB)
        until(lambda: all(guest.mib >= FIRST_MIB for guest in guests), SLOW_SECONDS, 0.05)
        yield guests
    finally:
        for guest in guests:
            end(guest.name, guest.process)
            del HYPERVISOR.known[guest.name]
        time.sleep(0.5)  # until the kernel counts the free memory


def available_mib() -> float:
    return int(os.pread(_MEMINFO, 256, 0).partition(b"MemAvailable:")[2].split()[0]) / MIB


def oom_kills() -> int:
    return number_in("/proc/vmstat", "oom_kill")


def number_in(file: str, name: str) -> int:
    return next(int(line.split()[1]) for line in Path(file).read_text().splitlines() if line.split()[0] == name)


# --- mom -------------------------------------------------------------------------------------------------------------------------------


def forked(work: Callable[[], int], log: Path) -> int:
    """Return the process id of a child that does this work and prints into `log`."""
    for name in ("mom_daemon.run", "mom_daemon.restore"):
        importlib.import_module(name)
    if child := os.fork():
        return child
    code = 70
    try:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(file, 1)
        os.dup2(file, 2)
        code = work()
    except BaseException:  # noqa: BLE001  # nothing of it may go on in the child
        traceback.print_exc()
    sys.stdout.flush()
    os._exit(code)


def spare(score: int) -> None:
    """Let the kernel kill other processes first."""
    Path("/proc/self/oom_score_adj").write_text(str(score))


def stamped(writes: Sequence[Helper.GroupWrite]) -> Sequence[HypervisorError | None]:
    """Write files, and log the begin and end of each write in WRITES."""
    failures: list[HypervisorError | None] = []
    for write in writes:
        began = time.monotonic()
        failures += write_group_files([write])
        name = write.path.partition("machine-qemu-")[2].partition(".")[0]
        line = f"{began} {time.monotonic()} {name} {write.text}\n"
        file = os.open(WRITES, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, line.encode())
        os.close(file)
    return failures


class MomProcess:
    """`mom run` like in the unit, without a helper."""

    def __init__(self, plugins: Mapping[str, object]) -> None:
        plugins = {"processes": {}, "host": {}, **plugins}
        folders = {"state_directory": f"{FOLDER}/state", "run_directory": f"{FOLDER}/run"}
        CONFIG.write_text(json.dumps({"mode": "enforce", "interval": "1s", "plugins": plugins, **folders}))  # JSON is YAML
        for file in (WRITES, LOG):
            file.unlink(missing_ok=True)
        self.pid = 0
        self.began = 0.0
        self.start()

    def start(self) -> None:
        self.began = time.monotonic()
        self.pid = forked(self._run, LOG)

    def _run(self) -> int:
        spare(-900)
        CgroupPlugin.write = staticmethod(stamped)
        return run(["run", "-c", str(CONFIG)])

    def ready(self) -> None:
        """Wait until growth on credit works, if it is enabled."""
        until(lambda: (FOLDER / "run/keep").exists() or os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT), SLOW_SECONDS)
        time.sleep(2.5)
        if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            raise RuntimeError(LOG.read_text()[-4000:])

    def signal(self, number: int) -> int:
        """Send a signal, and return the exit code."""
        os.kill(self.pid, number)
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        return os.waitstatus_to_exitcode(status)


@contextmanager
def mom(**plugins: object) -> Iterator[MomProcess]:
    """Run `mom run` with these plugins and settings."""
    for name in ("state", "run"):
        shutil.rmtree(FOLDER / name, ignore_errors=True)
    process = MomProcess(plugins)
    try:
        process.ready()
        yield process
    finally:
        if process.pid and (code := process.signal(signal.SIGTERM)):
            fact("mom ended", [code, LOG.read_text()[-4000:]])


# --- figures ---------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Write:
    """Limit that mom has written: seconds of CLOCK_MONOTONIC, and bytes; None for no limit."""

    began: float
    ended: float
    guest: str
    limit: int | None

    @classmethod
    def all(cls) -> list["Write"]:
        """Return all writes of the present mom."""
        lines = map(str.split, WRITES.read_text().splitlines()) if WRITES.exists() else ()
        return [cls(float(began), float(ended), guest, None if text == "max" else int(text)) for began, ended, guest, text in lines]


@dataclass(frozen=True)
class Sample:
    """Available memory and guests' memory in MiB, and guests' heartbeats."""

    at: float
    available: float
    held: Sequence[float]
    beats: Sequence[int]

    @classmethod
    def now(cls, guests: Sequence[Grower]) -> "Sample":
        return cls(time.monotonic(), available_mib(), [guest.mib for guest in guests], [guest.beats for guest in guests])


@dataclass(frozen=True)
class Run:
    """Observations in the 10 s after the first limit, or after guests began to grow. MiB and seconds."""

    kills: int
    limited_after: float | None
    """Time from the begin of growth to the first limit."""
    least_available: float
    growth: Sequence[float]
    """Growth of each guest after the first limit, as a ratio of its wanted growth."""
    pauses: Sequence[float]
    """Longest pause of each guest."""
    goes_on: Sequence[bool]
    slowest_write: float


@contextmanager
def grown_together(*, credit: bool, huge: bool = False) -> Iterator[tuple[Run, list[Grower], MomProcess]]:
    """Let six guests grow to more than the machine has. Yield what happened, while mom still runs."""
    goal = WANTED * available_mib() / len(NAMES)
    with growers(goal, huge=huge) as guests, mom(cgroup={"credit": credit}) as process:
        before, written = oom_kills(), WRITES.stat().st_size if WRITES.exists() else 0
        samples, until_at = [Sample.now(guests)], time.monotonic() + WINDOW_SECONDS * (3 if credit else 1)
        for guest in guests:
            guest.want(goal)
        is_limited = False
        while samples[-1].at < until_at:
            time.sleep(SAMPLE_SECONDS)
            samples.append(Sample.now(guests))
            if credit and not is_limited and WRITES.stat().st_size > written:
                is_limited, until_at = True, samples[-1].at + WINDOW_SECONDS
        run_ = _run_of(guests, samples, goal, oom_kills() - before)
        for guest in guests:
            guest.want(guest.mib)  # the end of mom removes limits
        yield run_, guests, process


def _run_of(guests: Sequence[Grower], samples: Sequence[Sample], goal: float, kills: int) -> Run:
    writes = [write for write in Write.all() if write.ended > samples[0].at]
    limited = min((write.began for write in writes), default=None)
    last = samples[-1]
    first = samples[0] if limited is None else next((sample for sample in samples if sample.at >= limited), last)
    alive = next(sample for sample in reversed(samples) if sample.at <= last.at - ALIVE_SECONDS or sample is samples[0])
    return Run(
        kills=kills,
        limited_after=None if limited is None else limited - samples[0].at,
        least_available=min(sample.available for sample in samples),
        growth=[(end - begin) / (goal - begin) if goal > begin else 1.0 for begin, end in zip(first.held, last.held, strict=True)],
        pauses=[guest.longest_pause for guest in guests],
        goes_on=[not guest.is_killed and now > then for guest, then, now in zip(guests, alive.beats, last.beats, strict=True)],
        slowest_write=max((write.ended - write.began for write in writes), default=0.0),
    )


def fact_of(name: str, run_: Run) -> None:
    figures = asdict(run_)
    fact(name, json.loads(json.dumps(figures), parse_float=lambda text: round(float(text), 3)))


# --- from a guest's event to its new limit -------------------------------------------------------------------------------------------


@contextmanager
def events_noted() -> Iterator[None]:
    """Let another process log in EVENTS when a group reaches its limit."""
    EVENTS.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        _note_events()
    try:
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _note_events() -> None:
    out = os.open(EVENTS, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    epoll, names, counts = select.epoll(), {}, {}
    for name in NAMES:
        file = os.open(group_of(name) / "memory.events", os.O_RDONLY)
        names[file], counts[file] = name, os.pread(file, PAGE, 0)
        epoll.register(file, select.EPOLLPRI)
    while True:
        for file, _ in epoll.poll():
            now, text = time.monotonic(), os.pread(file, PAGE, 0)
            if text != counts[file]:
                counts[file] = text
                os.write(out, f"{now} {names[file]}\n".encode())


def delays(growth: Sequence[tuple[str, float, float]]) -> list[float]:
    """Return the seconds from each guest's first event since its last larger limit to the end of the write of the next larger one.

    :param growth: guests, with the begin and end of their growth. Limits after the end do not count
    """
    limits: dict[str, int] = {}
    raises: list[tuple[float, str]] = []
    for write in Write.all():
        if write.guest in limits and (write.limit or sys.maxsize) > limits[write.guest]:
            raises.append((write.ended, write.guest))
        limits[write.guest] = write.limit or sys.maxsize
    events = [(float(at), name) for at, name in map(str.split, EVENTS.read_text().splitlines())]
    found = []
    for name, began, ended in growth:
        served = began
        for at in (at for at, of in events if of == name and began < at < ended):
            if at > served and (ends := [end for end, of in raises if of == name and at < end < ended]):
                served = ends[0]
                found.append(served - at)
    return found


def react(rounds: int) -> None:
    """Let one guest after the other grow and shrink. The host is short of memory, but always has some to give."""
    left = REACTION_SHARE * number_in("/proc/meminfo", "MemTotal:") / MIB
    with growers(200) as guests, mom(cgroup={"credit": True}), events_noted(), growers(4096, ("ballast",)) as (ballast,):
        ballast.want(available_mib() - left)
        until(lambda: limits_of(guests) == len(guests), SLOW_SECONDS, 0.05)
        least, pauses, growth = left, [], []
        for number in range(rounds):
            guest = guests[number % len(guests)]
            began = time.monotonic()
            guest.want(FIRST_MIB + left / 3)
            until(partial(guest.holds, FIRST_MIB + left / 3 - 1), SLOW_SECONDS, 0.005)
            growth.append((guest.name, began, time.monotonic()))
            least = min(least, available_mib())
            pauses.append(guest.longest_pause)
            guest.want(FIRST_MIB)
            time.sleep(0.3)
        fact("reaction", {"delays": delays(growth), "pauses": pauses, "left": left, "least": least})


# --- ends of mom ---------------------------------------------------------------------------------------------------------------------


def limits_of(guests: Sequence[Grower]) -> int:
    return sum(guest.limit_mib is not None for guest in guests)


def time_to_lift(guests: Sequence[Grower], began: float, seconds: float = 20.0) -> float | None:
    """Return the seconds from `began` until no guest has a limit."""
    return time.monotonic() - began if until(lambda: not limits_of(guests), seconds, 0.002) else None


@contextmanager
def held_back() -> Iterator[tuple[list[Grower], MomProcess]]:
    """Start six guests that grow against their limits."""
    goal = WANTED * available_mib() / len(NAMES)
    with growers(goal) as guests, mom(cgroup={"credit": True}) as process:
        for guest in guests:
            guest.want(goal)
        until(lambda: limits_of(guests) == len(guests), SLOW_SECONDS, 0.02)
        time.sleep(3.0)
        yield guests, process


def restore_in_child(began_file: Path) -> int:
    began_file.write_text(str(time.monotonic()))
    return run(["restore", "-c", str(CONFIG), "--as-left", f"{FOLDER}/run", "--if-unclean", "--timeout", "10"])


def end_mom(way: str, guests: Sequence[Grower], process: MomProcess) -> None:
    """End mom in this way while guests are held back."""
    limits = limits_of(guests)
    number = {"SIGTERM": signal.SIGTERM, "SIGUSR2": signal.SIGUSR2}.get(way, signal.SIGKILL)
    began = time.monotonic()
    if number == signal.SIGKILL:
        process.signal(number)
    for guest in guests:
        guest.want(guest.mib)  # without limits, they would exhaust the machine
    if number != signal.SIGKILL:
        began = time.monotonic()
        os.kill(process.pid, number)
    told: dict[str, object] = {"limits": limits, "way": way}
    if way == "restore":
        for attempt in ("first", "second"):
            told[attempt] = _restored(guests)
    elif way == "next mom":
        process.start()
        told["lifted"] = time_to_lift(guests, process.began)
    else:
        told["lifted"] = time_to_lift(guests, began)
    told["left"] = limits_of(guests)
    fact(f"end {way}", told)
    if number != signal.SIGKILL:
        os.waitpid(process.pid, 0)
        process.pid = 0


def _restored(guests: Sequence[Grower]) -> Mapping[str, object]:
    """Run `mom restore` like the unit."""
    log, stamp = FOLDER / "restored", FOLDER / "began"
    log.unlink(missing_ok=True)
    stamp.unlink(missing_ok=True)
    child = forked(lambda: restore_in_child(stamp), log)
    lifted = until(lambda: not limits_of(guests) or os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT), 60, 0.002)
    now = time.monotonic()
    _, status = os.waitpid(child, 0)
    seconds = now - float(stamp.read_text())
    is_free = lifted and not limits_of(guests)
    return {"code": os.waitstatus_to_exitcode(status), "seconds": seconds, "free": is_free, "said": log.read_text()[-600:]}


# --- service classes -----------------------------------------------------------------------------------------------------------------


def kill_by_class(*, small: bool) -> Mapping[str, object]:
    """Exhaust the machine with six guests of three classes. Return the kernel's order of kills.

    :param small: whether guests of the lowest class stay small, and those of the highest are the largest
    """
    priorities = dict(zip(NAMES, (50, 10, 90, 10, 90, 50), strict=True))
    sizes = {10: 0.1, 50: 0.3, 90: 0.6} if small else dict.fromkeys((10, 50, 90), WANTED / 6)
    available = available_mib()
    with growers(available, priorities=priorities) as guests, mom(cgroup={}, oom={}):
        scores = {guest.name: int(Path(f"/proc/{guest.process.pid}/oom_score_adj").read_text()) for guest in guests}
        names = {guest.process.pid: guest.name for guest in guests}
        messages = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
        os.lseek(messages, 0, os.SEEK_END)
        for guest in guests:
            guest.want(available * sizes[priorities[guest.name]])
        until(lambda: any(guest.is_killed for guest in guests), 30, 0.05)
        time.sleep(4.0)
        killed = [priorities[names[pid]] for pid in _killed(messages) if pid in names]
        os.close(messages)
    return {"small": small, "scores": {name: [priorities[name], score] for name, score in scores.items()}, "killed": killed}


def _killed(messages: int) -> Iterator[int]:
    """Yield the ids of the processes that the kernel has killed, in order."""
    with suppress(BlockingIOError):
        while line := os.read(messages, 8192).decode(errors="replace"):
            if match := re.search(r"Killed process (\d+)", line):
                yield int(match[1])


# --- programs --------------------------------------------------------------------------------------------------------------------------


def begin() -> None:
    open_groups()
    spare(-1000)


def try_out() -> None:
    """Measure the figures for the test."""
    begin()
    with grown_together(credit=True) as (run_, guests, process):
        fact_of("with credit", run_)
        end_mom("restore", guests, process)
    fact("class", kill_by_class(small=True))
    spare(0)


def measure(runs: int) -> None:
    """Measure all figures for the benchmark."""
    begin()
    fact("machine", {"available_mib": available_mib(), "kernel": os.uname().release, "cpus": os.cpu_count()})
    react(3 * runs)
    for way in ("restore", "next mom", "SIGTERM", "SIGUSR2"):
        with held_back() as (guests, process):
            end_mom(way, guests, process)
    for number in range(runs):
        fact(f"class {number}", kill_by_class(small=number % 2 == 1))
        for kind in ("without", "with", "huge"):
            if kind != "huge" or number % 4 == 0:
                with grown_together(credit=kind != "without", huge=kind == "huge") as (run_, *_):
                    fact_of(f"run {number} {kind}", run_)
    fact("done", True)
