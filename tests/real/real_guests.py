"""Real guests for tests: start, watch their output, and end them."""

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
"""First part of a guest's kernel command line. It skips three things: the check of the timer, which fails on a busy host; self-tests of
ciphers, which take a sixth of the boot; and mitigations, which take a tenth of an emulated CPU."""


@dataclass(frozen=True)
class Beat:
    """Line that the workload prints each second: its age, its slowest pass in ms, and the kernel's OOM kills."""

    seconds: int
    worst_ms: float
    kills: int


def beats_in(printed: str) -> list[Beat]:
    """Return the workload's lines in a guest's output."""
    return [Beat(int(s), float(w), int(k)) for s, w, k in _BEAT.findall(printed)]


class PrintingGuest:
    """Guest with its output."""

    def __init__(self, name: str, identity: str, log: Path) -> None:
        self.name = name
        self.uuid = identity
        self.log = log

    @property
    def printed(self) -> str:
        """Output of the guest."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    @property
    def beats(self) -> list[Beat]:
        """Lines of its workload, oldest first."""
        return beats_in(self.printed)

    def wait_until_up(self) -> Self:
        """Wait until it has booted."""
        wait_until(lambda: "GUEST up" in self.printed, f"{self.name} is up", 180)
        return self

    def wait_until_it_works(self) -> Self:
        """Wait until its workload holds all its memory."""
        wait_until(lambda: self.beats, f"{self.name} works", 180)
        return self

    def works_on(self) -> None:
        """Wait until its workload continues."""
        seen = len(self.beats)
        wait_until(lambda: len(self.beats) > seen + 1, f"{self.name} works on", 60)


class RealGuest(PrintingGuest):
    """Guest of libvirt."""

    def __init__(self, lab: Lab, domain: Any, log: Path) -> None:
        super().__init__(domain.name(), domain.UUIDString(), log)
        self.entity = Entity(Scope.GUEST, self.uuid, self.name)
        self._lab = lab

    @property
    def domain(self) -> Any:
        """Domain of the guest."""
        return self._lab.connection.lookupByUUIDString(self.uuid)

    @property
    def pid(self) -> int:
        """Pid of its QEMU."""
        found = _processes().get(self.uuid)
        assert found is not None, f"{self.name} has no process"
        return found

    @property
    def size_mib(self) -> float:
        """Balloon's actual size in MiB, from libvirt."""
        actual: int = self.domain.memoryStats()["actual"]
        return actual / 1024

    def group(self, controller: str) -> Path:
        """Return its control group, from /proc: a killed libvirtd leaves groups of the same name."""
        for line in Path(f"/proc/{self.pid}/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controller in controllers.split(","):
                # QEMU's threads may be in groups below the guest's.
                return Path("/sys/fs/cgroup") / controller / path.lstrip("/").removesuffix("/emulator")
        raise AssertionError(f"{self.name} has no group of {controller}")

    def destroy(self) -> None:
        """End the guest at once."""
        self.domain.destroy()


class Lab:
    """Guests on one libvirtd.

    :param suffix: end of all guests' names
    """

    def __init__(self, libvirtd: PrivateLibvirtd, image: GuestImage, suffix: str = "") -> None:
        import libvirt  # type: ignore[import-untyped]  # it has no types

        self._libvirt = libvirt
        self.libvirtd = libvirtd
        self._image = image
        self._suffix = suffix
        self._numbers = itertools.count()
        self._connection: Any = None

    @property
    def connection(self) -> Any:
        """Connection to libvirtd: a new one after libvirtd was restarted."""
        try:
            self._connection.getVersion()
        except (AttributeError, self._libvirt.libvirtError):
            self._connection = self._libvirt.open(self.libvirtd.uri)
        return self._connection

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

        :param name: name without prefix and suffix
        :param period: statistics period in seconds; 0 for no statistics
        :param balloon: model of the balloon device, or `none`
        :param balloon_options: additional attributes of the balloon device, as XML
        :param workload: MiB of cold, warm, common and former memory
        :param memory: XML instead of `mib`
        :param features: XML of additional features
        :param devices: XML of additional devices
        :param arguments: additional arguments for the kernel
        :param options: additional options of QEMU, unknown to libvirt
        :param persistent: whether libvirt keeps the definition when the guest ends
        :param identity: UUID; by default a new one
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
        """End all guests of tests on this libvirtd."""
        processes = _processes()
        ours = [domain for domain in self.connection.listAllDomains() if domain.name().startswith(PREFIX)]
        for domain in ours:
            with suppress(OSError, KeyError):  # it may have ended by itself
                os.kill(processes[domain.UUIDString()], signal.SIGKILL)  # all at once, because QEMU takes a second or two to end
        for domain in ours:
            with suppress(self._libvirt.libvirtError):  # as above
                domain.destroy()
            with suppress(self._libvirt.libvirtError):  # it was transient
                domain.undefineFlags(self._libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE)


def disk(lab: Lab, name: str, mib: int, target: str = "vda", reads_per_second: int = 0) -> str:
    """Return XML of an empty disk. Reading it does not use the host's page cache.

    :param reads_per_second: limit of reads; 0 for none
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
    """Return pids of QEMU on this host, keyed by the guests' UUIDs."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):
            arguments = (folder / "cmdline").read_text(errors="replace").split("\0")
            found[arguments[arguments.index("-uuid") + 1]] = int(folder.name)
    return found


@contextmanager
def steady_host(folder: Path, pid_folder: Path, less_mib: int) -> Iterator[float]:
    """Keep the host's memory for guests constant, at its present amount less `less_mib`. Yield the available MiB.

    :param folder: folder for the plan
    :param pid_folder: folder of guests' pid files
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
    """Return a new suffix for names. Otherwise, guests could get control groups of a killed run, with their limits."""
    return f"-{uuid.uuid4().hex[:8]}"


def not_here(reason: str) -> NoReturn:
    """Skip a test because of this machine. With MOM_REQUIRE_REAL=1, fail it."""
    if os.environ.get("MOM_REQUIRE_REAL", "") not in {"", "0"}:
        pytest.fail(f"MOM_REQUIRE_REAL is set, and {reason}")
    pytest.skip(reason)
