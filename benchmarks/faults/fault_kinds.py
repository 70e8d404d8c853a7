"""Kinds of faults.

Each is a generator that breaks something, and repairs it at its end. It yields seconds to wait, or a condition to wait for. When it is
over, all must be in order again within `LIMIT_SECONDS`.
"""

from __future__ import annotations

import math
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

from ballast import available_mib
from fault_scene import ROOT, Guest, NotNow, Scene, open_to_others
from host_swap import PREFERRED, swaps

LIMIT_SECONDS: Final = 30.0
"""Time limit until all is in order again, or restored if mom has ended."""

SHORTEST_SECONDS: Final = 0.5
"""Shortest time for which something is broken: half of mom's interval."""

SEEN_SECONDS: Final = 1.5
"""Shortest time for faults that mom meets once in a cycle: at least one cycle falls into it."""

MIGRATION_SECONDS: Final = 60.0

LEAST_LEFT_MIB: Final = 1500
"""Memory that a program leaves that takes the host's memory all at once."""

OPEN_DISK_SECONDS: Final = 5.0

HOLD_SECONDS: Final = 60.0
"""Time limit until memory or swap is full."""

LATE_SECONDS: Final = 15.0
"""Longest life of additional guests."""


class Until(NamedTuple):
    """Condition that a fault waits for: why it is not met yet (empty: it is), and the time limit.

    :param promised: whether mom promises it
    """

    why_not: Callable[[], str]
    seconds: float = LIMIT_SECONDS
    promised: bool = True


Course = Generator["float | Until", None, None]


@dataclass(frozen=True)
class Kind:
    """Kind of fault. Faults that touch the same do not come together; those that are `alone` never do."""

    name: str
    says: str
    course: Callable[[Scene, Random], Course]
    touches: frozenset[str] = frozenset()
    alone: bool = False


KINDS: dict[str, Kind] = {}


def kind(says: str, *touches: str, alone: bool = False) -> Callable[[Callable[[Scene, Random], Course]], Callable[[Scene, Random], Course]]:
    """Add a kind, named for its function."""

    def add(course: Callable[[Scene, Random], Course]) -> Callable[[Scene, Random], Course]:
        name = course.__name__.replace("_", "-")
        KINDS[name] = Kind(name, says, course, frozenset(touches), alone)
        return course

    return add


def some(scene: Scene, random: Random, least: int = 1, most: int = 1) -> list[Guest]:
    """Return some guests with true statistics."""
    guests = sorted(scene.honest, key=lambda one: one.name)
    return random.sample(guests, min(len(guests), random.randint(least, most)))


def some_seconds(random: Random, most: float, least: float = SHORTEST_SECONDS) -> float:
    """Draw the seconds for which something is broken, with equal odds for one to two, two to four, and four to eight seconds."""
    return least * math.exp(random.uniform(0, math.log(most / least)))


@contextmanager
def stopped(pids: Sequence[int]) -> Iterator[None]:
    """Stop these processes until the end of the block."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def kill(pids: Sequence[int]) -> None:
    """SIGKILL for each of these processes."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


# --- mom ----------------------------------------------------------------------------------------------------------------------------


@kind("mom is killed, and started again", "mom")
def mom_killed(scene: Scene, random: Random) -> Course:
    scene.mom.send(signal.SIGKILL)
    yield 0.2


@kind("mom stands still for some seconds", "mom")
def mom_stands_still(scene: Scene, random: Random) -> Course:
    with stopped([pid] if (pid := scene.mom.pid) else []):
        yield some_seconds(random, 8)


@kind("mom hangs until its watchdog ends it", "mom", "libvirtd", alone=True)
def mom_hangs(scene: Scene, random: Random) -> Course:
    pid = scene.mom.pid
    scene.mom.send(signal.SIGSTOP)
    yield Until(lambda: "" if scene.mom.pid not in {0, pid} else "another mom runs")


@kind("mom is restarted", "mom")
def mom_restarted(scene: Scene, random: Random) -> Course:
    scene.mom.restart()
    yield 0.2


@kind("mom is stopped, and started later", "mom", alone=True)
def mom_stopped(scene: Scene, random: Random) -> Course:
    scene.mom.stop()
    yield Until(scene.why_not_as_before)
    scene.mom.start()


@kind("mom is killed and not started again; later it is", "mom", alone=True)
def mom_given_up(scene: Scene, random: Random) -> Course:
    scene.mom.give_up()
    yield Until(scene.why_not_as_before)
    scene.mom.start()


@kind("mom is killed twice, the second time as it starts", "mom")
def mom_killed_as_it_starts(scene: Scene, random: Random) -> Course:
    pid = scene.mom.pid
    scene.mom.send(signal.SIGKILL)
    yield Until(lambda: "" if scene.mom.pid not in {0, pid} else "another mom runs")
    yield some_seconds(random, 2)
    scene.mom.send(signal.SIGKILL)


BAD_CONFIGURATIONS: Final = ("plugins: [broken", "", "interval: -1\n", "\0" * 100)


@kind("mom is told to read a configuration that is wrong", "mom")
def configuration_broken(scene: Scene, random: Random) -> Course:
    text = scene.mom.config.read_text()
    try:
        scene.mom.config.write_text(random.choice([*BAD_CONFIGURATIONS, text.replace('"host"', '"hosst"')]))
        scene.mom.send(signal.SIGHUP)
        yield some_seconds(random, 4)
    finally:
        scene.mom.config.write_text(text)
    scene.mom.send(signal.SIGHUP)
    yield 0.5


# --- libvirtd -----------------------------------------------------------------------------------------------------------------------


def _start_libvirtd(scene: Scene) -> None:
    scene.libvirtd.start()
    open_to_others(scene.libvirtd)


@kind("libvirtd is killed, and started again", "libvirtd")
def libvirtd_killed(scene: Scene, random: Random) -> Course:
    scene.libvirtd.kill()
    yield some_seconds(random, 5)
    _start_libvirtd(scene)


@kind("libvirtd stands still for some seconds, in which mom goes on", "libvirtd", "mom")
def libvirtd_stands_still(scene: Scene, random: Random) -> Course:
    with stopped([scene.libvirtd.pid]):
        _, number = scene.cycle
        yield some_seconds(random, 8)
        yield Until(lambda: "" if scene.cycle[1] > number + 1 else "mom completes cycles without libvirtd")


@kind("libvirtd stands still, and is killed then", "libvirtd")
def libvirtd_hangs_and_is_killed(scene: Scene, random: Random) -> Course:
    with stopped([scene.libvirtd.pid]):
        yield some_seconds(random, 5)
        scene.libvirtd.kill()
    _start_libvirtd(scene)


@kind("libvirtd is restarted", "libvirtd")
def libvirtd_restarted(scene: Scene, random: Random) -> Course:
    pid = scene.libvirtd.pid
    os.kill(pid, signal.SIGTERM)
    yield Until(lambda: f"libvirtd (process {pid}) has ended" if Path(f"/proc/{pid}").exists() else "", 60, promised=False)
    _start_libvirtd(scene)


# --- guests -------------------------------------------------------------------------------------------------------------------------


@kind("a guest's QEMU, and so its monitor, stands still for some seconds", "guests")
def guest_hangs(scene: Scene, random: Random) -> Course:
    with stopped([one.pid for one in some(scene, random)]):
        yield some_seconds(random, 8)


@kind("half of the guests stand still for some seconds", "guests")
def guests_hang(scene: Scene, random: Random) -> Course:
    half = max(1, len(scene.honest) // 2)
    with stopped([one.pid for one in some(scene, random, half, half)]):
        yield some_seconds(random, 8)


@kind("a guest's QEMU is killed; another one is started in its place", "libvirtd", "guests")
def guest_killed(scene: Scene, random: Random) -> Course:
    (guest,) = some(scene, random)
    kill([guest.pid])
    yield _gone(guest)
    scene.replace(guest)


@kind("a guest is shut down by its plug; another one is started in its place", "libvirtd", "guests")
def guest_ends(scene: Scene, random: Random) -> Course:
    (guest,) = some(scene, random)
    guest.real.destroy()
    yield _gone(guest)
    scene.replace(guest)


@kind("two more guests are started, and end as they boot or when they work", "libvirtd", "guests")
def guests_start(scene: Scene, random: Random) -> Course:
    late = [scene.add(random.choice(["half", "none"])) for _ in range(2)]
    end = time.monotonic() + random.uniform(1, LATE_SECONDS)
    yield Until(lambda: "they boot" if any(one.seen.boots for one in late) and time.monotonic() < end else "", promised=False)
    for one in late:
        one.real.destroy()
        yield _gone(one)
        scene.end(one)


@kind("a guest is moved to another host; another one is started in its place", "libvirtd", "guests")
def guest_moves(scene: Scene, random: Random) -> Course:
    import libvirt  # type: ignore[import-untyped]  # it has no types

    (guest,) = some(scene, random)
    destination = libvirt.open(scene.other.uri)
    # The monitor at the destination must not take the place of the one here before the guest has left.
    xml = guest.real.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_MIGRATABLE).replace(".second,", ".moved,")
    uri = f"unix://{scene.other.folder}/migration"
    moved = subprocess.Popen(
        [sys.executable, "-c", _MOVE, scene.libvirtd.uri, scene.other.uri, guest.real.uuid, uri, xml], stderr=subprocess.PIPE, text=True
    )
    yield Until(lambda: "it has arrived" if moved.poll() is None else "", MIGRATION_SECONDS, promised=False)
    _, errors = moved.communicate()
    if moved.returncode:
        raise RuntimeError(f"{guest.name} cannot be moved: {errors[-500:]}")
    destination.lookupByUUIDString(guest.real.uuid).destroy()
    destination.close()
    scene.replace(guest)


_MOVE: Final = """
import sys, libvirt
here, there, uuid, uri, xml = sys.argv[1:]
domain = libvirt.open(here).lookupByUUIDString(uuid)
parameters = {libvirt.VIR_MIGRATE_PARAM_URI: uri, libvirt.VIR_MIGRATE_PARAM_DEST_XML: xml}
domain.migrate3(libvirt.open(there), parameters, libvirt.VIR_MIGRATE_LIVE)
"""


@kind("a guest's balloon driver tells nonsense, and sets sizes that cannot be", "libvirtd", "guests")
def guest_lies(scene: Scene, random: Random) -> Course:
    liar = scene.add("half", arguments=f"momtest.liar=1,{random.randrange(1, 1 << 31)}", honest=False)
    yield Until(lambda: "" if "LIAR told" in liar.real.printed else f"{liar.name} lies", 120, promised=False)
    yield some_seconds(random, 6, SEEN_SECONDS)
    liar.real.destroy()
    yield _gone(liar)
    scene.end(liar)


@kind("a guest takes its balloon driver out", "libvirtd", "guests")
def guest_loses_its_driver(scene: Scene, random: Random) -> Course:
    odd = scene.add("half", arguments="momtest.unload=2", speaks=False)
    yield Until(lambda: "" if "GUEST driver gone" in odd.real.printed else f"{odd.name} has no driver", 120, promised=False)
    since = scene.cycle
    yield Until(lambda: scene.why_not_in_order(since))
    odd.real.destroy()
    yield _gone(odd)
    scene.end(odd)


@kind("a guest's statistics are switched off", "libvirtd", "guests")
def guest_falls_silent(scene: Scene, random: Random) -> Course:
    (guest,) = some(scene, random)
    guest.real.domain.setMemoryStatsPeriod(0)

    def still_off() -> str:
        xml = guest.real.domain.XMLDesc()
        return "they are on again" if "<stats period='0'" in xml or "<stats period" not in xml else ""

    yield Until(still_off)


def _gone(guest: Guest) -> Until:
    return Until(lambda: f"{guest.name} has ended" if guest.runs else "", 60, promised=False)


# --- the helper and the taker -------------------------------------------------------------------------------------------------------


@kind("the helper is killed, and started again", "helper")
def helper_killed(scene: Scene, random: Random) -> Course:
    kill([scene.helper.pid])
    yield 0.2


@kind("the helper stands still for some seconds", "helper")
def helper_stands_still(scene: Scene, random: Random) -> Course:
    with stopped(scene.helpers()):
        yield some_seconds(random, 8)


@kind("the taker of cold memory is killed", "helper")
def taker_killed(scene: Scene, random: Random) -> Course:
    kill(scene.takers())
    yield 0.2


@kind("the taker of cold memory stands still for some seconds", "helper")
def taker_stands_still(scene: Scene, random: Random) -> Course:
    with stopped(scene.takers()):
        yield some_seconds(random, 8)


# --- the disk of the ledger ---------------------------------------------------------------------------------------------------------


@kind("the disk of mom's ledger and log is full", "disk")
def disk_full(scene: Scene, random: Random) -> Course:
    filler = scene.disk / "filler"
    try:
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1024))
        yield some_seconds(random, 8, SEEN_SECONDS)
    finally:
        filler.unlink(missing_ok=True)


@kind("the disk of mom's ledger cannot be written to", "disk")
def disk_read_only(scene: Scene, random: Random) -> Course:
    _mounted(scene, "ro")
    try:
        yield some_seconds(random, 8, SEEN_SECONDS)
    finally:
        _mounted(scene, "rw")


def _mounted(scene: Scene, how: str) -> None:
    end = time.monotonic() + OPEN_DISK_SECONDS
    while subprocess.run(["mount", "-o", f"remount,bind,{how}", scene.state], check=False, capture_output=True).returncode:
        if time.monotonic() > end:  # a file was open for writing all that time
            raise RuntimeError(f"{scene.state} cannot be mounted {how}")
        time.sleep(0.01)


@kind("the disk of mom's ledger and log does not answer for some seconds", "disk")
def disk_hangs(scene: Scene, random: Random) -> Course:
    subprocess.run(["fsfreeze", "--freeze", scene.disk], check=True)
    try:
        yield some_seconds(random, 6)
    finally:
        subprocess.run(["fsfreeze", "--unfreeze", scene.disk], check=True)


# --- the host's memory and swap -----------------------------------------------------------------------------------------------------


@kind("the host's compressed swap is full", "swap")
def swap_full(scene: Scene, random: Random) -> Course:
    with _holding(scene, ["--swap", str(_free_in_swap(scene))]) as holds:
        yield holds
        yield some_seconds(random, 6)


def _free_in_swap(scene: Scene) -> int:
    """Return the free MiB of the campaign's swap. Raise `NotNow` if another swap of the host would be filled as soon."""
    other_swaps = dict(swaps())
    free, priority = other_swaps.pop(scene.swap.device, (0, 0))
    if as_soon := [name for name, (_, others) in other_swaps.items() if others >= priority]:
        raise NotNow(f"another swap of the host would be filled as soon: {', '.join(as_soon)}")
    return free >> 10


@kind("the host's swap is taken away, and comes back", "swap")
def swap_goes(scene: Scene, random: Random) -> Course:
    subprocess.run(["swapoff", scene.swap.device], check=False, capture_output=True, timeout=120)
    try:
        yield some_seconds(random, 5)
    finally:
        subprocess.run(["swapon", "--priority", PREFERRED, scene.swap.device], check=False, capture_output=True, timeout=60)


@kind("a program takes a gibibyte of the host's memory at once", "memory")
def memory_taken(scene: Scene, random: Random) -> Course:
    if available_mib() < LEAST_LEFT_MIB + 1024:
        raise NotNow(f"{available_mib():.0f} MiB are available")
    with _holding(scene, ["--memory", "1024"]) as holds:
        yield holds
        yield some_seconds(random, 5)


@contextmanager
def _holding(scene: Scene, words: Sequence[str]) -> Iterator[Until]:
    command = [sys.executable, str(ROOT / "benchmarks/faults/hold.py"), *words]
    output = scene.folder / "held"
    with output.open("wb") as file, subprocess.Popen(command, stdin=subprocess.PIPE, stdout=file) as process:
        try:
            yield Until(lambda: "" if output.stat().st_size else "it is held", HOLD_SECONDS, promised=False)
        finally:
            process.kill()


# --- clocks -------------------------------------------------------------------------------------------------------------------------


JUMPS: Final[Mapping[str, int]] = {"a second": 1, "a minute": 60, "an hour": 3600, "a day": 86400, "ten years": 10 * 365 * 86400}


@kind("mom's wall clock jumps, and jumps back", "clock")
def clock_jumps(scene: Scene, random: Random) -> Course:
    by = random.choice(list(JUMPS.values())) * random.choice([-1, 1])
    try:
        _clock_wrong_by(scene, by)
        yield some_seconds(random, 4)
    finally:
        _clock_wrong_by(scene, 0)


def _clock_wrong_by(scene: Scene, seconds: int) -> None:
    with (scene.folder / "clock").open("r+b", buffering=0) as file:
        file.write(struct.pack("=q", seconds * 10**9))


# --- policies -----------------------------------------------------------------------------------------------------------------------

BAD_POLICIES: Final[Mapping[str, str]] = {
    "fails": '(with Guests guest (guest.Control "balloon_target" (/ 1 0)))',
    "divides": "(/ Host.mem_free 0)",
    "recursion": "(defun endless (n) (endless (+ n 1)))\n(endless 0)",
    "loops": "(defun twice (n) (if (< n 1) 1 (+ (twice (- n 1)) (twice (- n 1)))))\n(with Guests guest (twice 40))",
    "unreadable": "(with Guests guest (((",
    "unknown": "(with Guests guest guest.no_such_field)",
    "greedy": '(with Guests guest (guest.Control "balloon_target" 32768))',
    "negative": '(with Guests guest (guest.Control "balloon_target" -5))',
    "huge": '(with Guests guest (guest.Control "balloon_target" 1000000000000000000))',
    "text": '(with Guests guest (guest.Control "balloon_target" "much"))',
}
"""Policies that fail, loop, cannot be read, or ask for invalid sizes."""


@kind("a policy fails, loops, or wants all that guests have", "policy", "mom")
def policy_bad(scene: Scene, random: Random) -> Course:
    scene.write_policy("99_fault", random.choice(list(BAD_POLICIES.values())))
    try:
        yield some_seconds(random, 5, SEEN_SECONDS)
    finally:
        scene.write_policy("99_fault", None)
