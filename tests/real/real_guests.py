"""Real guests for tests: started, watched through what they print, and ended."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Self
from xml.sax.saxutils import escape, quoteattr

import pytest
from guest_image import GuestImage
from private_libvirtd import PREFIX, PrivateLibvirtd
from steady_host import BLOCK_MIB, anonymous_mib, capacity_mib, pids_in

from mom_core import Entity, Scope
from mom_devkit import wait_until

_BEAT = re.compile(r"BEAT (\d+) worst_ms=([\d.]+) kills=(-?\d+)")

_XML = """<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
<name>{name}</name><uuid>{uuid}</uuid>{memory}<vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type><kernel>{kernel}</kernel><initrd>{initrd}</initrd>
<cmdline>{arguments}</cmdline></os><features><acpi/>{features}</features>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
<serial type='file'><source path={log}/><target port='0'/></serial>
{balloon}{devices}</devices>{options}</domain>"""

COMMAND_LINE = "console=ttyS0 quiet no_timer_check cryptomgr.notests nokaslr mitigations=off "
"""What a guest's kernel is told before all else. It does not check its timer: on a busy host, emulated ticks come too late for that, and it
would look for another one. Nor its ciphers, which it does not use: that takes a sixth of its start. And it does nothing against attackers
from within, for which an emulated processor would take a tenth of it."""


@dataclass(frozen=True)
class Beat:
    """A line that the workload prints every second: its age, its worst pass in ms, and how often its kernel killed for lack of memory."""

    seconds: int
    worst_ms: float
    kills: int


def beats_in(printed: str) -> list[Beat]:
    """The workload's lines in what a guest has printed."""
    return [Beat(int(s), float(w), int(k)) for s, w, k in _BEAT.findall(printed)]


class PrintingGuest:
    """A guest, and what it has printed."""

    def __init__(self, name: str, identity: str, log: Path) -> None:
        self.name = name
        self.uuid = identity
        self.log = log

    @property
    def printed(self) -> str:
        """All that it has printed."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    @property
    def beats(self) -> list[Beat]:
        """Its workload's lines, oldest first."""
        return beats_in(self.printed)

    def wait_until_up(self) -> Self:
        """Wait until its kernel has handed over."""
        wait_until(lambda: "GUEST up" in self.printed, f"{self.name} is up", 180)
        return self

    def wait_until_it_works(self) -> Self:
        """Wait until its workload holds all that it was told to hold."""
        wait_until(lambda: self.beats, f"{self.name} works", 180)
        return self

    def works_on(self) -> None:
        """Wait until it has done more than it has."""
        seen = len(self.beats)
        wait_until(lambda: len(self.beats) > seen + 1, f"{self.name} works on", 60)


class RealGuest(PrintingGuest):
    """One of libvirt's."""

    def __init__(self, lab: Lab, domain: Any, log: Path) -> None:
        super().__init__(domain.name(), domain.UUIDString(), log)
        self.entity = Entity(Scope.GUEST, self.uuid, self.name)
        self._lab = lab

    @property
    def domain(self) -> Any:
        """libvirt's domain, on a connection of the tests' own."""
        return self._lab.connection.lookupByUUIDString(self.uuid)

    @property
    def pid(self) -> int:
        """Its QEMU process."""
        found = _processes().get(self.uuid)
        assert found is not None, f"{self.name} has no process"
        return found

    @property
    def size_mib(self) -> float:
        """What it has now, by libvirt's own account."""
        actual: int = self.domain.memoryStats()["actual"]
        return actual / 1024

    def group(self, controller: str) -> Path:
        """Its own control group, by what the kernel says of its process: a libvirtd that was killed leaves groups of the same name."""
        for line in Path(f"/proc/{self.pid}/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controller in controllers.split(","):
                # QEMU's threads may have groups of their own below that of the guest.
                return Path("/sys/fs/cgroup") / controller / path.lstrip("/").removesuffix("/emulator")
        raise AssertionError(f"{self.name} has no group of {controller}")

    def destroy(self) -> None:
        """Pull its plug."""
        self.domain.destroy()


class Lab:
    """Starts guests on one libvirtd and ends those that are left.

    :param suffix: what the names of all its guests end with
    """

    def __init__(self, libvirtd: PrivateLibvirtd, image: GuestImage, suffix: str = "") -> None:
        import libvirt  # type: ignore[import-untyped]  # it has no types

        self._libvirt = libvirt
        self.libvirtd = libvirtd
        self._image = image
        self._suffix = suffix
        self._numbers = itertools.count()

    @property
    def connection(self) -> Any:
        """A connection of the tests' own, apart from mom's; a new one each time, as libvirtd may have been restarted."""
        return self._libvirt.open(self.libvirtd.uri)

    def start(
        self,
        name: str,
        *,
        mib: int = 192,
        period: int = 1,
        balloon: str = "virtio",
        balloon_options: str = "",
        workload: tuple[int, int, int, int] | None = None,
        memory: str = "",
        features: str = "",
        devices: str = "",
        arguments: str = "",
        options: Sequence[str] = (),
        paused: bool = False,
        persistent: bool = False,
        identity: str = "",
    ) -> RealGuest:
        """Start a guest.

        :param name: without the prefix and the suffix
        :param period: seconds of the statistics period; 0 leaves statistics off
        :param balloon: the balloon device's model, or `none`
        :param balloon_options: more attributes of the balloon device, as XML
        :param workload: MiB of cold, warm, common and former memory
        :param memory: XML instead of `mib`
        :param features: XML of more features
        :param devices: XML of more devices
        :param arguments: more for the guest's kernel command line
        :param options: more of QEMU's, past libvirt
        :param persistent: libvirt knows the guest while it does not run, too
        :param identity: its UUID; without one, a new one
        """
        log = self.libvirtd.folder / f"guest{next(self._numbers)}.log"
        if workload is not None:
            arguments += " momtest.workload=" + ",".join(str(part) for part in workload)
        past_libvirt = "".join(f"<qemu:arg value={quoteattr(one)}/>" for one in options)
        stats = f"<stats period='{period}'/>" if period and balloon != "none" else ""
        xml = _XML.format(
            name=escape(PREFIX + name + self._suffix),
            uuid=identity or uuid.uuid4(),
            memory=memory or f"<memory unit='MiB'>{mib}</memory>",
            kernel=self._image.kernel,
            initrd=self._image.initrd,
            arguments=COMMAND_LINE + arguments,
            log=quoteattr(str(log)),
            features=features,
            balloon=f"<memballoon model='{balloon}' {balloon_options}>{stats}</memballoon>",
            devices=devices,
            options=f"<qemu:commandline>{past_libvirt}</qemu:commandline>" if options else "",
        )
        flags = self._libvirt.VIR_DOMAIN_START_PAUSED if paused else 0
        if not persistent:
            return RealGuest(self, self.connection.createXML(xml, flags), log)
        domain = self.connection.defineXML(xml)
        domain.createWithFlags(flags)
        return RealGuest(self, domain, log)

    def destroy_all(self) -> None:
        """End all guests of the tests on this libvirtd."""
        processes = _processes()
        ours = [domain for domain in self.connection.listAllDomains() if domain.name().startswith(PREFIX)]
        for domain in ours:
            with suppress(OSError, KeyError):  # it may have ended by itself
                os.kill(processes[domain.UUIDString()], signal.SIGKILL)  # all at once: QEMU takes a second or two to end
        for domain in ours:
            with suppress(self._libvirt.libvirtError):  # as above
                domain.destroy()
            with suppress(self._libvirt.libvirtError):  # it was transient
                domain.undefineFlags(self._libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE)


def disk(lab: Lab, name: str, mib: int, target: str = "vda", reads_per_second: int = 0) -> str:
    """XML of a disk for a guest, with so much of nothing on it; what guests read of it does not go through the host's page cache.

    :param reads_per_second: how fast it is at most; 0: as it is
    """
    path = lab.libvirtd.folder / f"{name}.raw"
    with path.open("wb") as file:
        file.truncate(mib << 20)
    speed = f"<iotune><read_iops_sec>{reads_per_second}</read_iops_sec></iotune>" if reads_per_second else ""
    return (
        f"<disk type='file' device='disk'><driver name='qemu' type='raw' cache='none'/><source file={quoteattr(str(path))}/>"
        f"<target dev='{target}' bus='virtio'/>{speed}</disk>"
    )


def _processes() -> dict[str, int]:
    """The QEMU processes of this host by the UUID of their guests."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):
            arguments = (folder / "cmdline").read_text(errors="replace").split("\0")
            found[arguments[arguments.index("-uuid") + 1]] = int(folder.name)
    return found


@contextmanager
def steady_host(folder: Path, pid_folder: Path, less_mib: int) -> Iterator[float]:
    """Keep what the host has for the guests whose process ids are there, less so much; yield how many MiB of it are available now.

    :param folder: for the plan
    """
    pids = pids_in(pid_folder)
    capacity = capacity_mib(pids) - less_mib
    plan = {"capacity_mib": capacity, "begin": time.monotonic(), "loads": [], "floor_mib": 512, "pid_folder": str(pid_folder)}
    (folder / "plan.json").write_text(json.dumps(plan))
    command = [sys.executable, str(Path(__file__).with_name("steady_host.py")), str(folder / "plan.json")]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as follower:
        wait_until(lambda: capacity_mib(pids) < capacity + 2 * BLOCK_MIB, "the host has no more than that", 60)
        yield capacity - sum(anonymous_mib(pid) for pid in pids)
        assert follower.poll() is None, "it was killed: this host had too little memory"
        follower.communicate()


def once() -> str:
    """A suffix for names that nobody has used: a control group that is left from a run that was killed is used again with its limits."""
    return f"-{uuid.uuid4().hex[:8]}"


def not_here(reason: str) -> NoReturn:
    """This machine lacks what a test needs: skips it, or fails it where everything is meant to be there."""
    if os.environ.get("MOM_REQUIRE_REAL", "") not in {"", "0"}:
        pytest.fail(f"MOM_REQUIRE_REAL is set, and {reason}")
    pytest.skip(reason)
