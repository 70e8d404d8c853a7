"""One squeeze: real guests with a mix, a manager, and a program that takes memory from them until something gives."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from guest_hosts import REAL, Balloon, Disk, GuestHost
from guests_told import Listener, Work, work
from host_swap import HostSwap, compressed_swap
from managers import REFUSES, Manager, Running, Where, at_work
from merit import LATE_BURST_SECONDS, WINDOW_SECONDS, WORK_FLOOR, Moment, most_at_work, taken_at_work, taken_unfelt
from mixes import BALLAST_SECONDS, LEAD_SECONDS, Mix
from needs import look_into
from processes import descendants, set_nice, system_seconds, thread_seconds
from programs import WINDOW_SECONDS as LATENCY_SECONDS
from programs import Latencies, latencies, result

sys.path.insert(0, str(REAL))

from ballast import available_mib  # only found from here on
from steady_host import anonymous_mib, merged_mib, store_mib  # as above

from mom_devkit import wait_until

NICE = -15
"""Of guests, and of what watches them, so that what else runs here takes little CPU time from them."""

BOOT_SECONDS = 1.5
READY_SECONDS = 30
"""For each guest, and for all of them: from the first start to the moment at which their periods begin."""

FIRST_WORK_SECONDS = 600
"""Until a guest works: nine Debian systems on two emulated CPUs take minutes to boot."""

LEFT_MIB = 150
"""That program never leaves less available: it must not be what exhausts the host when others take memory suddenly. On a host with swap it
leaves half of the floor: only then the kernel swaps."""

BACK_SECONDS = 10.0
"""Guests have their work back when they do enough of it in each time of this length from then on."""

REFUSED_SECONDS = 60.0
"""The ramp is over when it has been held for so long."""

HARMED_SHARE, HARMED_SECONDS = 0.8, 90.0
"""With less than this ratio of the work for so long the guests are done for, and what comes after counts for nothing."""

INSIDE_SECONDS = 10
"""Guests are looked into once in so many seconds: it takes 3 ms of CPU time for each."""

SIZES_SECONDS = 0.25
"""Between two looks at the guests' sizes: a sweep lasts up to two seconds."""

_NOTICEABLE_KIB: Final = 16 * 1024
"""A guest counts as shrunk if it is below its full size by at least this much."""


@dataclass(slots=True)
class Deficit:
    """Memory that guests lack compared with their full sizes."""

    kib_seconds: float = 0.0
    guest_seconds: float = 0.0
    longest: float = 0.0
    """Longest uninterrupted time in seconds for which a guest was below its full size."""
    _last: float | None = None
    _since: dict[str, float] = field(default_factory=dict)

    def add(self, missing: Mapping[str, float], now: float) -> float:
        """Add the KiB that each guest lacks at the time `now` (seconds). Return the total without negligible amounts."""
        lacking = {name: kib for name, kib in missing.items() if kib >= _NOTICEABLE_KIB}
        elapsed = 0.0 if self._last is None else max(0.0, now - self._last)
        self._last = now
        self.kib_seconds += sum(lacking.values()) * elapsed
        self.guest_seconds += len(missing) * elapsed
        self._since = {name: self._since.get(name, now) for name in lacking}
        self.longest = max([self.longest, *(now - since for since in self._since.values())])
        return sum(lacking.values())

    @property
    def per_hour(self) -> float:
        """Mean deficit of a guest per hour, in GiB times seconds."""
        return self.kib_seconds / (1 << 20) / (self.guest_seconds / 3600) if self.guest_seconds else 0.0


@dataclass
class Squeeze:
    """Guests of one mix on one host, and what takes memory from them."""

    mix: Mix
    host: GuestHost
    folder: Path
    memory: dict[str, float] = field(default_factory=dict)
    """Full size of each guest, in MiB."""
    sizes: dict[str, float] = field(default_factory=dict)
    """Last known size of each guest, in MiB."""
    deficit: Deficit = field(default_factory=Deficit)
    listeners: dict[str, Listener] = field(default_factory=dict)
    trace: list[Moment] = field(default_factory=list)
    reference: Work | None = None
    unsqueezed: float = 1.0
    latencies: Latencies = field(default_factory=dict)
    began: float = 0.0
    capacity: float = 0.0
    ballast: subprocess.Popen[bytes] | None = None
    swap: HostSwap | None = None
    warms: float | None = None
    kernel_rate: float = 0.0

    def start(self) -> None:
        """Start all guests, and wait until they work."""
        begin = int(time.time() + READY_SECONDS + BOOT_SECONDS * self.mix.count)
        protocol = self.mix.protocol
        warms = protocol.begins + protocol.warms if protocol.warms else 0.0
        if warms:
            self.warms = time.monotonic() + begin - time.time() + warms
        for member in self.mix.members():
            one = member.group
            disk = Disk(one.files, one.disk) if one.files else None
            balloon = Balloon(one.reporting, one.autodeflate) if one.balloon else None
            load = member.arguments(begin, warms)
            guest = self.host.start(member.name, one.memory, load, disk, balloon=balloon, code_cache=one.code_cache)
            favour(guest.pid)
            self.listeners[member.name] = Listener(guest.log)
            self.memory[member.name] = self.sizes[member.name] = one.memory
            time.sleep(BOOT_SECONDS)
        for name, listener in self.listeners.items():
            wait_until(partial(_heard, listener), f"{name} works", FIRST_WORK_SECONDS)
        self.wait(max(0.0, begin - time.time()))

    def wait(self, seconds: float) -> None:
        """Let time pass, and listen."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(1.0, left))
            self.listen()

    def listen(self) -> None:
        """Hear what guests have said."""
        now = time.monotonic()
        for listener in self.listeners.values():
            listener.listen(now)

    def work(self, begin: float, end: float) -> Work:
        """Return what all guests did between two moments."""
        return work(self.listeners.values(), begin, end)

    def held(self) -> float:
        """Return the MiB that guests hold, less what is merged, and with what is compressed of them."""
        return sum(anonymous_mib(pid) for pid in self.host.pids().values()) - merged_mib() + store_mib(self.store)

    @property
    def store(self) -> str:
        """Return the file with the usage of the host's compressed swap; empty without one."""
        return "" if self.swap is None else self.swap.store

    def kernel_seconds(self) -> float:
        """Return the CPU time that guests' processes have spent in the kernel."""
        return system_seconds(self.host.pids().values())

    def measure_reference(self) -> None:
        """Measure what guests do unsqueezed, watched as during the ramp, and with as much available memory as at its beginning."""
        begin, kernel = time.monotonic(), self.kernel_seconds()
        for second in range(self.mix.protocol.reference):
            self.watch_sizes(begin + second + 1)
            self.look()
        self.trace, self.deficit = [], Deficit()
        self.reference = self.work(begin, time.monotonic())
        self.kernel_rate = (self.kernel_seconds() - kernel) / (time.monotonic() - begin)
        self.unsqueezed = self.reference.share
        self.latencies = latencies(self.listeners.values(), begin, time.monotonic())
        if self.unsqueezed < 0.5:
            raise RuntimeError(f"guests do {100 * self.unsqueezed:.0f} % of their work unsqueezed: this machine has too few CPUs")

    @contextmanager
    def ramp(self) -> Iterator[None]:
        """Take memory until the end of the block, at first only as much as the ramp begins with: it waits for `begin`."""
        protocol = self.mix.protocol
        self.capacity = protocol.available + self.held()
        if available_mib() < protocol.available:
            raise RuntimeError(f"only {available_mib()} MiB are available, and the ramp begins at {protocol.available}")
        plan = {
            "capacity_mib": self.capacity,
            "begin": time.monotonic() + BALLAST_SECONDS,
            "loads": [],
            "pid_folder": str(self.host.pid_folder),
            "floor_mib": LEFT_MIB if self.swap is None else protocol.floor / 2,
            "store": self.store,
            "ramp_mib_s": protocol.ramp,
            "hold": str(self.hold_file),
        }
        self.hold_file.touch()
        (self.folder / "plan.json").write_text(json.dumps(plan))
        command = [sys.executable, str(REAL / "steady_host.py"), str(self.folder / "plan.json")]
        with (self.folder / "ballast.log").open("wb") as log:
            self.ballast = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)
        try:
            self.wait(BALLAST_SECONDS)
            yield
        finally:
            self.free_host()

    def free_host(self) -> None:
        """Free the memory that was taken, so that the manager can restore what it changed."""
        assert self.ballast is not None
        self.ballast.kill()
        self.ballast.wait()

    @property
    def hold_file(self) -> Path:
        """Return the file that holds the ramp while it exists."""
        return self.folder / "hold"

    def watch_sizes(self, until: float) -> None:
        """Add to the deficit until that moment of the monotonic clock."""
        while (left := until - time.monotonic()) > 0:
            self.sizes |= self.host.sizes()
            self.deficit.add({name: (mib - self.sizes[name]) * 1024 for name, mib in self.memory.items()}, time.monotonic())
            time.sleep(min(SIZES_SECONDS, left))

    def look(self, says: str = "", inside: bool = False) -> Moment:
        """Return a sample of this moment, and keep it in the trace.

        :param inside: look into guests, too, which waits for processes that do not answer
        """
        self.listen()
        now = time.monotonic()
        available, held = available_mib(), self.held()
        done = self.work(now - WINDOW_SECONDS, now)
        kills = self.work(self.began, now).kills
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
        ballast = anonymous_mib(self.ballast.pid) if self.ballast is not None else 0.0
        moment = Moment(
            time=now - self.began,
            taken=self.capacity - available - held,
            available=available,
            guests=held,
            merged=merged_mib(),
            strangers=total - available - held - ballast,
            work=done.share / self.unsqueezed,
            kills=kills,
            swap=done.swap,
            sizes=self.sizes | self.host.sizes(),
            says=says,
            programs=sum(listener.heard[-1].held for listener in self.listeners.values() if listener.heard),
            host_swap=self.swap.held_mib()[0] if self.swap is not None else 0.0,
            inside=look_into(self.host.records(), self.host.pids(), self.listeners) if inside else {},
            p99_ms=done.p99_ms,
            burst=max(done.bursts, default=None),
            latencies=latencies(self.listeners.values(), now - LATENCY_SECONDS, now),
        )
        self.trace.append(moment)
        return moment

    def lost(self) -> list[str]:
        """Return the guests whose process has ended."""
        return list(self.memory.keys() - self.host.pids().keys())


def _heard(listener: Listener) -> bool:
    listener.listen(time.monotonic())
    return bool(listener.heard)


def favour(pid: int) -> None:
    """Prefer this process, all its threads and, where the kernel groups processes by session, its session."""
    with suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(NICE))
    set_nice(pid, NICE)


def run(
    name: str, mix: Mix, manager: Manager, host: GuestHost, folder: Path, told: Callable[[str], None]
) -> tuple[dict[str, Any], Sequence[Moment]]:
    """Squeeze guests. Return the result and the trace."""
    with compressed_swap(mix.protocol.zram) as swap:
        return squeezed(name, Squeeze(mix, host, folder, swap=swap), manager, told)


def squeezed(name: str, squeeze: Squeeze, manager: Manager, told: Callable[[str], None]) -> tuple[dict[str, Any], Sequence[Moment]]:
    """Squeeze guests on a host that has its swap. Return the result and the trace."""
    host, folder = squeeze.host, squeeze.folder
    told(f"{name}, {manager.title}: starting {squeeze.mix.count} guests")
    try:
        squeeze.start()
        squeeze.wait(squeeze.mix.protocol.settle)
        with squeeze.ramp():
            squeeze.measure_reference()
            with at_work(manager, Where(host, folder)) as running:
                squeeze.wait(LEAD_SECONDS / 2)
                if own := squeeze.mix.protocol.emulator:
                    host.grow_emulators(own)
                squeeze.wait(LEAD_SECONDS / 2)
                squeeze.began = time.monotonic()
                squeeze.hold_file.unlink()
                ksmd, compressing = thread_seconds("ksmd"), compression_seconds(squeeze, running)
                cpu = running.cpu_seconds
                ended = until_something_gives(squeeze, running, told)
                seconds = time.monotonic() - squeeze.began
                cpu, ksmd = running.cpu_seconds - cpu, thread_seconds("ksmd") - ksmd
                compressing = compression_seconds(squeeze, running) - compressing - squeeze.kernel_rate * seconds
                result = summary(squeeze, ended, seconds)
                squeeze.free_host()
        result |= {"manager_cpu_percent": percent(cpu, seconds)}
        result |= {"ksmd_cpu_percent": percent(ksmd, seconds), "compression_cpu_percent": percent(max(0.0, compressing), seconds)}
        result |= {"when": time.strftime("%Y-%m-%d %H:%M", time.gmtime()), "host": described()}
        return result, squeeze.trace
    finally:
        with suppress(Exception):  # whatever state guests are in: the host's end is theirs, too
            host.destroy_all()
        for listener in squeeze.listeners.values():
            with suppress(OSError):
                (folder / f"{listener.path.stem}.log").write_bytes(listener.path.read_bytes())


def until_something_gives(squeeze: Squeeze, running: Running, told: Callable[[str], None]) -> str:
    """Follow the ramp until it is over. Return why."""
    protocol = squeeze.mix.protocol
    refused_since = harmed_since = None
    due = squeeze.began
    while True:
        due += 1.0
        squeeze.watch_sizes(due)
        # What is in the host's swap cannot be told apart from what a guest does without.
        moment = squeeze.look(running.says, inside=squeeze.swap is None and len(squeeze.trace) % INSIDE_SECONDS == 0)
        if len(squeeze.trace) % 30 == 0:
            told(_line(moment))
        if moment.kills:
            return "guest workload killed"
        if squeeze.lost():
            return "guest lost"
        exhausted = moment.available < protocol.floor and still_below(protocol.floor)
        if exhausted or squeeze.ballast is None or squeeze.ballast.poll() is not None:
            return "host exhausted"
        if running.ended:
            raise RuntimeError(f"{running.manager.title} has ended: {(running.where.folder / 'manager.log').read_text()[-2000:]}")
        # What a host with swap says is full, its kernel still has room for: those are squeezed until that is gone, too.
        refused_since = _since(refused_since, squeeze.swap is None and moment.says in REFUSES, moment.time)
        warm = squeeze.warms is not None and time.monotonic() >= squeeze.warms
        if refused_since is None and not warm:
            squeeze.hold_file.unlink(missing_ok=True)
        else:
            squeeze.hold_file.touch()
            if refused_since is not None and moment.time - refused_since > REFUSED_SECONDS:
                return "manager refuses"
        harmed_since = _since(harmed_since, moment.work < HARMED_SHARE, moment.time)
        if harmed_since is not None and moment.time - harmed_since > HARMED_SECONDS:
            return "guests harmed"
        if moment.time > protocol.seconds:
            return "end of the ramp"


def _since(before: float | None, so: bool, now: float) -> float | None:
    return (now if before is None else before) if so else None


def still_below(floor: int) -> bool:
    """Return whether it is so after the program that takes memory has had time to make up for what others took."""
    time.sleep(0.3)
    return available_mib() < floor


def _line(moment: Moment) -> str:
    mean = sum(moment.sizes.values()) / max(1, len(moment.sizes))
    return (
        f"  {moment.time:4.0f} s: taken {moment.taken:6.0f}, available {moment.available:5.0f}, guests {moment.guests:6.0f}, others "
        f"{moment.strangers:5.0f}, mean size {mean:5.0f} MiB, work {100 * moment.work:5.1f} % {moment.says}"
    )


def summary(squeeze: Squeeze, ended: str, seconds: float) -> dict[str, Any]:
    """Return the result as JSON. Memory is in MiB, and times in s unless a name says ms."""
    now = time.monotonic()
    whole, last, before = squeeze.work(squeeze.began, now), squeeze.work(now - WINDOW_SECONDS, now), squeeze.reference
    assert before is not None
    best = most_at_work(squeeze.trace)
    until = squeeze.work(squeeze.began, squeeze.began + (0.0 if best is None else best.time))
    states: dict[str, float] = {}
    for moment in squeeze.trace:
        if moment.says:
            states.setdefault(moment.says, round(moment.taken))
    return {
        "ended": ended,
        "seconds": round(seconds),
        "guests": squeeze.mix.count,
        "sold": squeeze.mix.sold,
        "taken": round(taken_at_work(squeeze.trace)),
        "taken_unfelt": None if before.p99_ms is None else round(taken_unfelt(squeeze.trace, before.p99_ms)),
        "taken_at_end": round(squeeze.trace[-1].taken),
        "held_before": round(squeeze.capacity - squeeze.mix.protocol.available),
        "held_after": round(squeeze.trace[-1].guests),
        "available_least": round(min(moment.available for moment in squeeze.trace)),
        "deficit": rounded(squeeze.deficit.per_hour),
        "deficit_longest": rounded(squeeze.deficit.longest),
        "kills": whole.kills,
        "work_unsqueezed": round(before.share, 4),
        "work": round(whole.share / before.share, 4),
        "work_last_minute": round(last.share / before.share, 4),
        "p99_ms_unsqueezed": rounded(before.p99_ms),
        "p99_ms": rounded(whole.p99_ms),
        "p99_ms_until_taken": rounded(until.p99_ms),
        "burst_unsqueezed": mean(before.bursts),
        "burst": mean(whole.bursts),
        "burst_worst_unsqueezed": max(before.bursts, default=None),
        "burst_worst": max(whole.bursts, default=None),
        "burst_worst_until_taken": max(until.bursts, default=None),
        "bursts": len(whole.bursts),
        "bursts_late": sum(seconds > LATE_BURST_SECONDS for seconds in whole.bursts),
        "lost": squeeze.lost(),
        "swap": round(last.swap),
        "host_swap": [round(mib) for mib in squeeze.swap.held_mib()] if squeeze.swap is not None else None,
        "warming": warming(squeeze, now) if squeeze.warms is not None else None,
        "states": states,
        "strangers": [round(min(m.strangers for m in squeeze.trace)), round(max(m.strangers for m in squeeze.trace))],
        "load": round(os.getloadavg()[1], 1),
        **result(squeeze.trace, squeeze.latencies, latencies(squeeze.listeners.values(), squeeze.began, now)),
    }


def mean(values: Sequence[float]) -> float | None:
    """Return the mean; `None` without values."""
    return round(sum(values) / len(values), 2) if values else None


def rounded(value: float | None) -> float | None:
    """Round to a tenth."""
    return None if value is None else round(value, 1)


def percent(cpu_seconds: float, seconds: float) -> float:
    """Return the ratio to one CPU in percent."""
    return round(100 * cpu_seconds / seconds, 2)


def compression_seconds(squeeze: Squeeze, running: Running) -> float:
    """Return the CPU time of all processes in which the kernel may have compressed memory.

    These are its own thread, mom's reclaim workers, the program that takes memory, and guests' processes. The latter use the kernel for
    other reasons, too: `Squeeze.kernel_rate`.
    """
    pids = [*descendants(running.process.pid)] if running.process is not None else []
    pids += [squeeze.ballast.pid] if squeeze.ballast is not None else []
    return thread_seconds("kswapd0") + system_seconds(pids) + squeeze.kernel_seconds()


def warming(squeeze: Squeeze, now: float) -> dict[str, Any]:
    """Return what was taken when guests began to use cold memory, the least work in any 10 s since, and when the work was back.

    `back` is in seconds; `None` if there was too little work until the end.
    """
    assert squeeze.warms is not None
    taken = [moment.taken for moment in squeeze.trace if moment.time <= squeeze.warms - squeeze.began]
    ends = [squeeze.warms + BACK_SECONDS + second for second in range(int(now - squeeze.warms - BACK_SECONDS) + 1)]
    shares = [squeeze.work(end - BACK_SECONDS, end).share / squeeze.unsqueezed for end in ends]
    short = [end for end, share in zip(ends, shares, strict=True) if share < WORK_FLOOR]
    back = 0.0 if not short else None if short[-1] == ends[-1] else short[-1] - squeeze.warms
    return {"taken": round(taken[-1]) if taken else None, "least_work": round(min(shares), 4) if shares else None, "back": rounded(back)}


def described() -> dict[str, Any]:
    """Return this machine in general terms."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 30)
    return {
        "cpus": os.cpu_count(),
        "memory_gib": round(total, 1),
        "kernel": platform.release().split("-")[0],
        "guests": "software emulation",
    }
