"""What goes wrong during a squeeze: guests that hang, die, come, or fall silent, libvirtd and mom themselves, and a full disk."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guest_hosts import LibvirtHost
from guests_told import Work, work
from managers import MANAGERS, Running, Where, at_work, mom_command, started
from mixes import Mix
from one_run import Squeeze
from real_guests import RealGuest  # one_run knows where it is

from mom_devkit import wait_until

TAKEN_MIB = 5800
"""So much is taken before anything goes wrong. With 6000 available at the beginning, guests hold less by then than they would without a
manager."""

WAIT_SECONDS = 40.0
"""For a recovery: four times what it may take."""

HANGS_SECONDS, FULL_SECONDS, REST_SECONDS = 10.0, 15.0, 15.0
"""A guest hangs, and the disk is full, for so long; and between two faults guests have time for a burst."""

FRESH_SECONDS = 3.0
"""A guest is known when its statistics are no older: it sends them every two seconds at most."""

SMALL_DISK = "4m"


@dataclass
class Scene:
    """The squeeze during which all happens."""

    squeeze: Squeeze
    running: Running
    host: LibvirtHost
    told: Callable[[str], None]

    def row(self, name: str) -> Mapping[str, Any] | None:
        """What mom knows of a guest now; None when it knows of none by that name."""
        guests = self.running.status().get("guests", {})
        for row in guests.get("rows", []):
            fields = dict(zip(guests["columns"], row, strict=False))
            if fields["name"] == self.squeeze.guests[name].name:
                return fields
        return None

    def knows(self, name: str) -> bool:
        """Whether mom knows what that guest uses, from statistics that are fresh, and can resize it."""
        row = self.row(name)
        if row is None or row.get("mem_usable") is None or row.get("blocked"):
            return False
        age = row.get("stats_age")
        return isinstance(age, int | float) and age <= FRESH_SECONDS

    def knows_all_but(self, without: str) -> bool:
        """The same of all guests but one, which has lost its balloon driver."""
        return all(self.knows(name) for name in self.squeeze.guests if name != without)

    @property
    def cycle(self) -> tuple[int, int]:
        """mom's process, and the number of its last cycle."""
        status = self.running.status()
        return status.get("pid", 0), status.get("cycle", {}).get("number", 0)

    def until(self, so: Callable[[], bool], most: float = WAIT_SECONDS) -> float | None:
        """Seconds until it is so; None when it is not so in time. The squeeze is watched meanwhile."""
        began = time.monotonic()
        looked = 0.0
        while time.monotonic() - began < most:
            if so():
                return time.monotonic() - began
            if time.monotonic() - looked > 1:
                self.squeeze.look()
                looked = time.monotonic()
            time.sleep(0.1)
        return None

    def work_of_others(self, names: Sequence[str], begin: float) -> Work:
        """What all but these guests have done since then."""
        return work((one for name, one in self.squeeze.listeners.items() if name not in names), begin, time.monotonic())


@dataclass(frozen=True)
class Fault:
    """What goes wrong, what counts as recovered, what happens (it gives the seconds until then), and to whom."""

    fault: str
    means: str
    happen: Callable[[Scene], float | None]
    to: tuple[str, ...] = ()


def hangs(scene: Scene) -> float | None:
    """A guest's process stands still."""
    pid = scene.squeeze.guests["worker-01"].pid
    os.kill(pid, signal.SIGSTOP)
    try:
        scene.until(lambda: False, HANGS_SECONDS)
    finally:
        os.kill(pid, signal.SIGCONT)
    return scene.until(lambda: scene.knows("worker-01"))


def dies(scene: Scene) -> float | None:
    """A guest's process is killed."""
    os.kill(scene.squeeze.guests["worker-02"].pid, signal.SIGKILL)
    recovered = scene.until(lambda: scene.row("worker-02") is None)
    del scene.squeeze.guests["worker-02"], scene.squeeze.listeners["worker-02"]
    return recovered


def come(scene: Scene) -> float | None:
    """Two more are started, and want what those that are there already have."""
    names = ("late-1", "late-2")
    begin = int(time.time()) + 20
    for name in names:
        scene.squeeze.add(name, 1024, f"momtest.demand={begin},150,200,60,35,0,0,0,320,4000 momtest.zram=256")
    return scene.until(lambda: all(scene.knows(name) for name in names))


def silent(scene: Scene) -> float | None:
    """Somebody switches a guest's statistics off."""
    guest = scene.squeeze.guests["worker-03"]
    assert isinstance(guest, RealGuest)
    guest.domain.setMemoryStatsPeriod(0)
    return scene.until(lambda: "<stats period='0'" not in guest.domain.XMLDesc() and "<stats period" in guest.domain.XMLDesc())


def driver(scene: Scene) -> float | None:
    """A guest takes its balloon driver out."""
    begin = int(time.time()) + 20
    guest = scene.squeeze.add("odd", 512, f"momtest.demand={begin},100,0,60,0,0,0,0,320,1000 momtest.unload=20")
    wait_until(lambda: "GUEST driver gone" in guest.log.read_text(errors="replace"), "its driver is gone", 90)
    return scene.until(lambda: (row := scene.row("odd")) is not None and row.get("mem_usable") is None)


def libvirtd_restarts(scene: Scene) -> float | None:
    """libvirtd is killed and started again."""
    scene.host.libvirtd.kill()
    time.sleep(1)
    scene.host.libvirtd.start()
    began = time.monotonic()
    _, number = scene.cycle
    recovered = scene.until(lambda: scene.cycle[1] > number + 1 and scene.knows_all_but("odd"))
    return None if recovered is None else time.monotonic() - began


def mom_dies(scene: Scene) -> float | None:
    """mom is killed, and started again five seconds later."""
    running = scene.running
    assert running.process is not None
    running.process.kill()
    running.process.wait()
    scene.until(lambda: False, 5)
    began = time.monotonic()
    running.process = started(mom_command(running.where), running.where)
    pid = running.process.pid
    recovered = scene.until(lambda: scene.cycle[0] == pid and scene.knows_all_but("odd"))
    return None if recovered is None else time.monotonic() - began


def disk_full(scene: Scene) -> float | None:
    """The disk with mom's log and ledger is full for a while; it must go on. The time is the longest between two of its cycles."""
    logs = scene.running.where.logs
    assert logs is not None
    filler = logs / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 4096)
    longest, last, changed = 0.0, scene.cycle, time.monotonic()
    end = time.monotonic() + FULL_SECONDS
    while time.monotonic() < end:
        if scene.cycle != last:
            longest, last, changed = max(longest, time.monotonic() - changed), scene.cycle, time.monotonic()
        time.sleep(0.1)
    filler.unlink()
    scene.squeeze.look()
    return max(longest, time.monotonic() - changed) if not scene.running.ended else None


FAULTS = (
    Fault("a guest hangs for 10 s", "mom has fresh statistics of it and can resize it, from when it goes on", hangs, ("worker-01",)),
    Fault("a guest is killed", "mom counts on it no more", dies, ("worker-02",)),
    Fault("two guests are started", "mom knows what they use, from the call that starts the second", come, ("late-1", "late-2")),
    Fault("a guest's statistics are switched off", "they are on again", silent),
    Fault("a guest unloads its balloon driver", "mom believes its last statistics no more", driver, ("odd",)),
    Fault("libvirtd is killed and restarted", "mom knows all guests, from when libvirtd answers again", libvirtd_restarts),
    Fault("mom is killed and restarted", "it knows all guests, from its start", mom_dies),
    Fault("the disk of its log and ledger is full for 15 s", "it goes on: the longest time between two cycles", disk_full),
)


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of a few MiB."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=False)


def run(mix: Mix, host: LibvirtHost, folder: Path, told: Callable[[str], None]) -> list[dict[str, Any]]:
    """All faults during one squeeze; one result for each, as JSON."""
    squeeze = Squeeze(mix, host, folder)
    found: list[dict[str, Any]] = []
    told(f"starting {mix.count} guests")
    try:
        squeeze.start()
        squeeze.settle()
        with small_disk(folder / "logs") as logs, at_work(MANAGERS["mom"], Where(host, folder, logs)) as running, squeeze.ramp():
            scene = Scene(squeeze, running, host, told)
            while squeeze.look(running.says).taken < TAKEN_MIB:
                time.sleep(0.5)
            squeeze.hold_file.touch()
            scene.until(lambda: False, REST_SECONDS)
            for fault in FAULTS:
                found.append(_suffered(scene, fault))
                scene.until(lambda: False, REST_SECONDS)
    finally:
        squeeze.destroy()
    return found


def _suffered(scene: Scene, fault: Fault) -> dict[str, Any]:
    before = scene.squeeze.look()
    scene.told(f"{fault.fault}: taken {before.taken:.0f} MiB, available {before.available:.0f} MiB")
    began = time.monotonic()
    recovery = fault.happen(scene)
    scene.until(lambda: False, REST_SECONDS / 2)
    others = scene.work_of_others(fault.to, began)
    kills = scene.squeeze.work(began, time.monotonic()).kills
    scene.told(f"  recovered after {recovery} s, {kills} killed, work of the others {others.share:.3f}")
    return {
        "fault": fault.fault,
        "means": fault.means,
        "recovery": None if recovery is None else round(recovery, 2),
        "waited": WAIT_SECONDS,
        "kills": kills,
        "work_others": round(others.share / scene.squeeze.unsqueezed, 4),
        "taken": round(before.taken),
    }
