"""Scene of the faults: real guests, a libvirtd, mom with its supervisor, helper and disk, and a swap, always short of memory."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from grouped_guests import grouped_guests
from guests_told import Listener
from host_swap import HostSwap, compressed_swap
from ksm import UNMERGE, read_ksm
from libvirt_mom import another_host
from private_libvirtd import PREFIX, PrivateLibvirtd
from processes import descendants, set_nice
from real_guests import Lab, RealGuest
from supervised import SupervisedMom
from witness import SecondMonitor, Watched, as_json

from mom_devkit import wait_until
from mom_devkit.without_root import USER, HelperProcess

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
GUEST_MIB: Final = 320
"""Memory of each guest. It holds 40 MiB, 60 MiB more for 10 of every 30 s, and 60 MiB that it hardly ever touches. With its kernel, that is
up to 200 MiB: mom can take 100."""

DEMAND: Final = "{begin},40,60,30,33,{phase},0,0,160,300,0,0,60,0,{seed}"

PROMISES: Final = {"half": 0.5, "most": 0.75, "all": 1.0, "none": 0.0}
"""Guarantees as ratios of guests' memory, by the first word of their names. Most have a half: a larger guarantee leaves nothing to take."""

ORDER: Final = ("half", "half", "most", "half", "none", "half", "all", "half", "half", "most", "half", "none")

FRESH_SECONDS: Final = 5.0
"""Largest age of statistics. An emulated guest on a busy host sends them every two seconds."""

CYCLES: Final = 2
"""mom has recovered after this many complete cycles."""

BOOT_SECONDS: Final = 180.0
"""An emulated guest boots in five seconds on an idle host, and in a minute on a busy one."""

BOOT_AT_ONCE: Final = 1
"""Guests that may boot while the next fault happens."""

SQUEEZED_MIB: Final = 16
"""Memory that mom has taken from a squeezed guest, at least."""

SWAP_MIB: Final = 256

DISK_MIB: Final = 16
LOOK_SECONDS: Final = 0.1
KEPT_MOMENTS: Final = 900
"""Samples in a trace: a minute and a half."""

TAIL_BYTES: Final = 60_000

_DECLARED: Final = """
[guests campaign]
users = root
slices = machine
"""


class SomethingIsLeft(Exception):
    """The scene cannot be repaired: another one has to be made."""


class NotNow(Exception):
    """A fault cannot be tried at this moment. Nothing was changed."""


@dataclass(frozen=True)
class Plan:
    """Number of guests, whether mom may use the host's KSM, and how nice guests are."""

    guests: int = 12
    ksm: bool = True
    nice: int = 0


@dataclass
class Guest:
    """One of the guests."""

    real: RealGuest
    pid: int
    seen: Watched
    started: float = field(default_factory=time.monotonic)

    @property
    def name(self) -> str:
        return self.real.name

    @property
    def runs(self) -> bool:
        return Path(f"/proc/{self.pid}").exists()


@dataclass
class Scene:
    """Everything that faults happen to. A thread keeps mom and its helper running, and watches guests, ten times a second."""

    plan: Plan
    folder: Path
    lab: Lab
    helper: HelperProcess
    mom: SupervisedMom
    swap: HostSwap
    guests: dict[str, Guest] = field(default_factory=dict)
    moments: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=KEPT_MOMENTS))
    ksm_before: Mapping[str, str] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _stack: ExitStack = field(default_factory=ExitStack)
    _other: PrivateLibvirtd | None = None
    longest_gap: float = 0.0
    """Longest pause between two samples, in seconds."""
    _looked: float = field(default_factory=time.monotonic)
    _gone_kills: int = 0

    @property
    def libvirtd(self) -> PrivateLibvirtd:
        return self.lab.libvirtd

    def add(self, promise: str, *, arguments: str = "", honest: bool = True, speaks: bool = True) -> Guest:
        """Start a guest, and add it to `guests`.

        :param promise: its guarantee, a word of `PROMISES`
        :param arguments: more for its kernel
        :param honest: whether its statistics are true
        :param speaks: whether it keeps its balloon's driver
        """
        number = next(self._numbers)
        name = f"{promise}-{number:04d}"
        second = self.libvirtd.folder / f"{name}.second"
        begin = int(time.time())
        demand = DEMAND.format(begin=begin, phase=number * 7 % 30, seed=number + 1)
        real = self.lab.start(
            name,
            mib=GUEST_MIB,
            arguments=f"momtest.demand={demand} momtest.zram=64 {arguments}",
            options=("-qmp", f"unix:{second},server=on,wait=off"),
        )
        guest = self._watched(real, promise, second)
        guest.seen.honest, guest.seen.speaks, guest.seen.boots = honest, speaks, True
        self.guests[real.name] = guest
        return guest

    def _watched(self, real: RealGuest, promise: str, second: Path) -> Guest:
        wait_until(second.exists, f"{real.name} has a monitor")
        set_nice(real.pid, self.plan.nice)
        seen = Watched(real.name, GUEST_MIB, PROMISES[promise] * GUEST_MIB, SecondMonitor(second), Listener(real.log), size=GUEST_MIB)
        return Guest(real, real.pid, seen)

    def end(self, guest: Guest) -> None:
        """Stop watching a guest that has ended or was moved."""
        self.guests.pop(guest.name, None)
        guest.seen.monitor.close()
        self._gone_kills += guest.seen.kills

    def replace(self, guest: Guest) -> None:
        """Start another guest for one that has ended. It boots while other faults happen."""
        self.end(guest)
        self.add(guest.name.removeprefix(PREFIX).partition("-")[0])

    def let_guests_boot(self) -> None:
        """Wait until at most one guest still boots. Raise `SomethingIsLeft` if one takes too long."""

        def enough() -> bool:
            booting = [one for one in self.guests.values() if one.seen.boots]
            for one in booting:
                if time.monotonic() - one.started > BOOT_SECONDS:
                    raise SomethingIsLeft(f"{one.name} has not booted in {BOOT_SECONDS:.0f} s")
            return len(booting) <= BOOT_AT_ONCE

        self.until(enough, "guests have booted", BOOT_SECONDS)

    @property
    def other(self) -> PrivateLibvirtd:
        """Return another host to which guests can be moved. The first call starts it."""
        if self._other is None:
            self._other = self._stack.enter_context(another_host(self.libvirtd))
        return self._other

    @property
    def honest(self) -> list[Guest]:
        """Return the guests at work with true statistics."""
        return [one for one in self.guests.values() if one.seen.honest and one.seen.speaks and not one.seen.boots]

    @property
    def squeezable(self) -> set[str]:
        """Return the guests from which mom can take memory."""
        return {one.name for one in self.honest if one.seen.promised == PROMISES["half"] * GUEST_MIB}

    @property
    def squeezed(self) -> set[str]:
        """Return the squeezable guests from which mom has taken memory now."""
        return {name for name in self.squeezable if self.guests[name].seen.size < GUEST_MIB - SQUEEZED_MIB}

    @property
    def kills(self) -> int:
        """Return how many programs guests' kernels have killed since the scene was made."""
        return self._gone_kills + sum(one.seen.kills for one in self.guests.values())

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Keep mom running, and watch guests, until the end of the block."""
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(LOOK_SECONDS):
                self._look()

        thread = threading.Thread(target=watch, name="watch")
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            for guest in self.guests.values():
                guest.seen.monitor.close()

    def _look(self) -> None:
        self.mom.tend()
        if not self.helper.pid:
            self.helper.start()
        now = time.monotonic()
        self.longest_gap, self._looked = max(self.longest_gap, now - self._looked), now
        guests = dict(self.guests)
        for guest in guests.values():
            guest.seen.look(now)
        status = self.status()
        self.moments.append(
            {
                "at": round(now, 2),
                "mom": [
                    self.mom.pid,
                    status.get("cycle", {}).get("number"),
                    status.get("host", {}).get("fields", {}).get("host_memory_state"),
                ],
                "guests": as_json({name: one.seen for name, one in guests.items()}),
            }
        )

    def tick(self) -> None:
        """Let a tenth of a second pass."""
        time.sleep(LOOK_SECONDS)

    def pass_time(self, seconds: float) -> None:
        """Let some seconds pass."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.tick()

    def until(self, is_so: Callable[[], bool], what: str, most: float) -> None:
        """Wait until it is so. Raise `SomethingIsLeft` if it takes longer."""
        began = time.monotonic()
        while not is_so():
            if time.monotonic() - began > most:
                raise SomethingIsLeft(f"{most:.0f} s were not enough until {what}")
            self.tick()

    def status(self) -> Mapping[str, Any]:
        """Return what mom reports about itself; nothing if it does not."""
        with suppress(OSError, ValueError):
            content: dict[str, Any] = json.loads((self.mom.run_directory / "status.json").read_text())
            return content
        return {}

    @property
    def cycle(self) -> tuple[int, int]:
        """Return mom's pid, and the number of its last cycle."""
        status = self.status()
        return status.get("pid", 0), status.get("cycle", {}).get("number", 0)

    def why_not_in_order(self, since: tuple[int, int]) -> str:
        """Return what is missing until all is in order; empty: nothing.

        :param since: `cycle` when the fault was over
        """
        return what_is_missing(self.status(), self.mom.pid, since, {name: one.seen for name, one in self.guests.items()})

    def why_not_as_before(self) -> str:
        """Return what is missing until all changes of mom are restored; empty: nothing."""
        if not self.mom.is_over:
            return "mom has ended and has put everything back"
        for name, guest in self.guests.items():
            if not guest.seen.is_whole:
                return f"{name} has its {GUEST_MIB} MiB back, of which it has {guest.seen.size:.0f}"
        for name, before in self.ksm_before.items():
            if self.plan.ksm and ksm_knobs().get(name) != before:
                return f"KSM's {name} is {before} again"
        with suppress(FileNotFoundError):
            if entries := json.loads((self.state / "ledger.json").read_text())["content"]:
                return f"nothing stands in the ledger: {json.dumps(entries)[:300]}"
        return ""

    @property
    def disk(self) -> Path:
        """Return the file system with mom's log and its state."""
        return self.folder / "disk"

    @property
    def state(self) -> Path:
        """Return mom's state directory: a mount of its own of a folder on `disk`."""
        return self.folder / "state"

    def write_policy(self, name: str, text: str | None) -> None:
        """Write or remove a policy, and let mom read all policies again."""
        path = self.folder / "policy.d" / f"{name}.policy"
        if text is None:
            path.unlink(missing_ok=True)
        else:
            path.write_text(text)
        self.mom.send(signal.SIGHUP)

    def helpers(self) -> list[int]:
        """Return the helper's processes."""
        return [self.helper.pid, *descendants(self.helper.pid)] if self.helper.pid else []

    def takers(self) -> list[int]:
        """Return the processes that move cold memory: the nice ones of the helper."""
        return [pid for pid in self.helpers()[1:] if _niceness(pid) > 0]

    def keep_trace(self, path: Path, fault: Mapping[str, object]) -> None:
        """Write a trace with the samples and the ends of all logs."""
        logs = {"mom": self.mom.log, "helper": self.helper.folder / "log", "libvirtd": self.libvirtd.folder / "libvirtd.log"}
        content = {
            "fault": fault,
            "moments": list(self.moments),
            "status": self.status(),
            "logs": {name: _tail(file) for name, file in logs.items()},
            "guests": {name: _tail(one.real.log, 3000) for name, one in self.guests.items()},
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        with gzip.open(path, "wt") as file:
            json.dump(content, file)

    def make_room_in_log(self) -> None:
        """Truncate mom's log, so that only faults fill the disk."""
        with suppress(OSError):
            if self.mom.log.stat().st_size > DISK_MIB << 17:
                os.truncate(self.mom.log, 0)


def what_is_missing(status: Mapping[str, Any], pid: int, since: tuple[int, int], guests: Mapping[str, Watched]) -> str:
    """Return what is missing in mom's status until all is in order; empty: nothing. A booting guest has no statistics yet.

    :param pid: of the running mom; 0: none
    :param since: pid and cycle when the fault was over
    """
    said_by, number = status.get("pid", 0), status.get("cycle", {}).get("number", 0)
    if not pid or said_by != pid:
        return "mom runs"
    if number < CYCLES + (since[1] if pid == since[0] else 0):
        return f"mom has completed {CYCLES} cycles"
    for plugin in status.get("plugins", ()):
        if plugin["state"] != "ok":
            return f"its plugin {plugin['name']} works, which is {plugin['state']}: {plugin['last_error']}"
    table = status.get("guests", {})
    rows = {row["name"]: row for row in (dict(zip(table["columns"], row, strict=False)) for row in table.get("rows", ()))}
    if missing := guests.keys() - rows.keys():
        return f"it knows {', '.join(sorted(missing))}"
    if left := rows.keys() - guests.keys():
        return f"it knows no {', '.join(sorted(left))} any more"
    return next(filter(None, (_what_it_lacks(rows[name], one) for name, one in guests.items() if one.honest and not one.boots)), "")


def _what_it_lacks(row: Mapping[str, Any], guest: Watched) -> str:
    """Return what mom must still learn about a guest, or forget."""
    usable, age = row.get("mem_usable"), row.get("stats_age")
    if not guest.speaks:
        return "" if usable is None else f"it believes nothing of {guest.name}, which has no driver"
    if row.get("blocked"):
        return f"{guest.name} can be resized, which is not so: {row['blocked']}"
    is_fresh = usable is not None and isinstance(age, int | float) and age <= FRESH_SECONDS
    return "" if is_fresh else f"it has fresh statistics of {guest.name}"


def _niceness(pid: int) -> int:
    with suppress(OSError):
        return os.getpriority(os.PRIO_PROCESS, pid)
    return 0


def _tail(path: Path, most: int = TAIL_BYTES) -> str:
    with suppress(OSError), path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - most))
        return file.read().decode(errors="replace")
    return ""


def ksm_knobs() -> dict[str, str]:
    """Return the settings that mom changes. A KSM that has unmerged all pages counts as off."""
    settings = {name: value for name, value in read_ksm().items() if name in {"run", "pages_to_scan", "sleep_millisecs"}}
    return settings | ({"run": "0"} if settings.get("run") == UNMERGE else {})


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Mount a small file system at `folder/disk`, to be filled and frozen, and its folder `state` at `folder/state`."""
    image, disk, state = folder / "disk.img", folder / "disk", folder / "state"
    with image.open("wb") as file:
        file.truncate(DISK_MIB << 20)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", image], check=True, capture_output=True)
    for one in (disk, state):
        one.mkdir()
    subprocess.run(["mount", "-o", "loop", image, disk], check=True)
    try:
        (disk / "state").mkdir(mode=0o750)
        user = pwd.getpwnam(USER)
        os.chown(disk / "state", user.pw_uid, user.pw_gid)
        subprocess.run(["mount", "--bind", disk / "state", state], check=True)
        yield
    finally:
        subprocess.run(["fsfreeze", "--unfreeze", disk], check=False, capture_output=True)
        for one in (state, disk):
            subprocess.run(["umount", "--lazy", one], check=False)


def _clock(folder: Path) -> tuple[Path, Path]:
    """Return a library that falsifies a program's clock, and the file with the error in nanoseconds."""
    library, offset = folder / "clock.so", folder / "clock"
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", library, HERE / "clock.c"], check=True, capture_output=True)
    offset.write_bytes(bytes(8))
    offset.chmod(0o644)
    library.chmod(0o755)
    return library, offset


def configuration(plan: Plan, folder: Path, libvirtd: PrivateLibvirtd) -> Mapping[str, object]:
    """Return a configuration for small guests, with more memory to keep available than the host has, and cycles of a second."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    short = {"host_free": f"{total * 95 // 100}MiB", "law": {"margin": "24MiB", "tight_below": 1.0, "start_rest": "5s"}}
    return {
        "interval": "1s",
        "state_directory": str(folder / "state"),
        "run_directory": str(folder / "mom/run"),
        "mode": "enforce",
        "plugins": {
            "host": {},
            "libvirt": libvirtd.settings(),
            "balloon": short,
            **({"ksm": {}} if plan.ksm else {}),
            "offload": {},
            "policy": {"directory": str(folder / "policy.d")},
        },
        "guests": {f"{PREFIX}{name}-*": {"guarantee": f"{share:.0%}"} for name, share in PROMISES.items() if share},
    }


@contextmanager
def scene(plan: Plan, tell: Callable[[str], None]) -> Iterator[Scene]:
    """Make a scene that ends with the block. mom and its guests are at work."""
    user = pwd.getpwnam(USER)
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="mom-faults-", dir="/tmp"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o755)
        for name in ("policy.d", "mom", "mom/run"):
            (folder / name).mkdir(mode=0o755)
        for name in ("mom", "mom/run"):
            os.chown(folder / name, user.pw_uid, user.pw_gid)
        swap = stack.enter_context(compressed_swap(SWAP_MIB))
        assert swap is not None
        lab = stack.enter_context(grouped_guests(("memory",)))
        open_to_others(lab.libvirtd)
        stack.enter_context(small_disk(folder))
        helper = HelperProcess((ROOT / "packaging/helper.d/mom.conf").read_text() + _DECLARED)
        stack.callback(helper.close)
        helper.start()
        library, offset = _clock(folder)
        config = folder / "mom.yaml"
        config.write_text(json.dumps(configuration(plan, folder, lab.libvirtd), indent=1))
        environment = {**helper.environment, "LD_PRELOAD": str(library), "FAULTS_CLOCK": str(offset), "PYTHONDONTWRITEBYTECODE": "1"}
        mom = SupervisedMom(config, folder / "mom", folder / "disk/log", environment)
        stack.callback(mom.close)
        stack.callback(lab.destroy_all)
        made = Scene(plan, folder, lab, helper, mom, swap, ksm_before=ksm_knobs())
        stack.enter_context(made._stack)
        stack.enter_context(made.watched())
        tell(f"starting {plan.guests} guests")
        for number in range(plan.guests):
            made.add(ORDER[number % len(ORDER)])
            made.pass_time(0.5)
        made.until(lambda: not any(one.seen.boots for one in made.guests.values()), "all guests work", 300)
        mom.start()
        yield made


def open_to_others(libvirtd: PrivateLibvirtd) -> None:
    """Allow mom's user to reach libvirt, as polkit or a group does on hosts."""
    for path in (libvirtd.socket, *libvirtd.socket.parents, libvirtd.pid_folder):
        if path.is_relative_to(libvirtd.folder):
            path.chmod(path.stat().st_mode | (0o006 if path == libvirtd.socket else 0o005))
