"""What guests that are squeezed are started by, and asked through: libvirt, a libvirt for each guest, or nothing but QEMU. All start the
same guests."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Protocol, cast

REAL = Path(__file__).resolve().parents[2] / "tests" / "real"
sys.path.insert(0, str(REAL))

from guest_image import GuestImage, cache_folder  # noqa: E402  # only found from here on
from launcher_pods import USER, TestPod, TestPods  # noqa: E402  # as above
from plain_qemu import BALLOON, PlainGuest, PlainHost  # noqa: E402  # as above
from private_libvirtd import PREFIX, PrivateLibvirtd  # noqa: E402  # as above
from real_guests import Lab, RealGuest, disk  # noqa: E402  # as above

PERIOD_SECONDS: Final = 2
"""Guests are asked so often for statistics, whoever else wants them."""

ANSWER_SECONDS: Final = 0.5
"""A guest that does not answer within this is left out of what is seen in this second."""

KIB_PER_MIB: Final = 1024

Record = Mapping[str, int]
"""What is known of a guest's balloon, by libvirt's names (`balloon.current`), in KiB; `balloon.last-update` in seconds since the epoch."""


@dataclass(frozen=True)
class Disk:
    """MiB of nothing on a disk, and how many reads a second it does at most; 0: as fast as it is."""

    mib: int
    reads_per_second: int = 0


@dataclass(frozen=True)
class Balloon:
    """A guest's balloon device, and what it does by itself."""

    reporting: bool = False
    autodeflate: bool = False


PLAIN: Final = Balloon()

ROOT: Final = " root=/dev/vda rw"
"""For the kernel of a guest that has a root disk."""
ROOT_DISK: Final = (
    "<disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='none'/><source file='{path}'/>"
    "<target dev='vda' bus='virtio'/></disk>"
)


def overlay(folder: Path, name: str, disk: Path) -> Path:
    """Create a disk for one guest, on which it changes a root disk that others use, too."""
    path = folder / f"{name}.qcow2"
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(disk), "-F", "raw", str(path)]
    subprocess.run(command, check=True, timeout=ANSWER_SECONDS * 100)
    return path


class StartedGuest(Protocol):
    """A guest: its name for mom, and the file with what it prints."""

    name: str
    log: Path

    @property
    def pid(self) -> int:
        """Its QEMU process."""


class GuestHost(Protocol):
    """Starts guests, and knows of their balloons what can be known without asking the guests."""

    pid_folder: Path
    """Holds a file NAME.pid for each guest."""

    @property
    def uri(self) -> str:
        """How libvirt is reached; empty where there is none."""

    @property
    def plugin(self) -> Mapping[str, object]:
        """The plugin of mom that finds these guests, with its settings, as in mom's YAML file."""

    def start(self, name: str, mib: int, arguments: str, disk: Disk | None = None, *, balloon: Balloon | None = PLAIN) -> StartedGuest:
        """Start a guest with these arguments for its kernel, and with a balloon or without."""

    def records(self) -> dict[str, Record]:
        """What is known of each guest's balloon, by the name that it was started by; nothing of guests that cannot be asked now."""

    def sizes(self) -> dict[str, float]:
        """MiB that the balloons leave guests."""

    def pids(self) -> dict[str, int]:
        """The processes of the guests that run."""

    def destroy_all(self) -> None:
        """End all guests."""


@dataclass
class _Monitor:
    """A connection to a monitor that is kept: nothing but the squeeze uses it."""

    sock: socket.socket
    maximum_kib: int
    rest: bytes = b""
    asked: int = 0
    answers: dict[int, Any] = field(default_factory=dict)

    def ask(self, command: str, **arguments: object) -> int:
        """Ask, and give the number of the question."""
        self.asked += 1
        self.sock.sendall(json.dumps({"execute": command, "arguments": arguments, "id": self.asked}).encode() + b"\n")
        return self.asked

    def answer(self, number: int) -> Any:
        """What it returned; raises `OSError` where it does not in time."""
        while number not in self.answers:
            data = self.sock.recv(65536)
            if not data:
                raise ConnectionError("the guest has ended")
            *lines, self.rest = (self.rest + data).split(b"\n")
            for told in map(json.loads, filter(None, map(bytes.strip, lines))):
                if "id" in told:
                    self.answers[told["id"]] = told.get("return")
        found = self.answers.pop(number)
        self.answers.clear()  # what came too late is of an earlier second
        return found


class Monitors:
    """Second monitors of guests, for the squeeze. libvirt knows a size up to a second late: QEMU reports changes once a second."""

    def __init__(self) -> None:
        self._monitors: dict[str, _Monitor] = {}

    def connect(self, name: str, path: Path, mib: int) -> None:
        """Connect to the monitor of a guest with so much memory. Have its balloon send statistics."""
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(ANSWER_SECONDS * 20)
        sock.connect(str(path))
        monitor = self._monitors[name] = _Monitor(sock, mib * KIB_PER_MIB)
        monitor.answer(monitor.ask("qmp_capabilities"))
        monitor.answer(monitor.ask("qom-set", path=BALLOON, property="guest-stats-polling-interval", value=PERIOD_SECONDS))
        sock.settimeout(ANSWER_SECONDS)

    def records(self) -> dict[str, Record]:
        """Return what is known of each guest's balloon."""
        sizes = self._answers("query-balloon")
        statistics = self._answers("qom-get", path=BALLOON, property="guest-stats")
        return {name: _record(sizes[name], statistics[name], self._monitors[name].maximum_kib) for name in sizes.keys() & statistics.keys()}

    def sizes(self) -> dict[str, float]:
        """Return the size of each guest that answers, in MiB."""
        return {name: balloon["actual"] / (1 << 20) for name, balloon in self._answers("query-balloon").items()}

    def _answers(self, command: str, **arguments: object) -> dict[str, Any]:
        """Ask all monitors before waiting for the first answer. Return the answers."""
        numbers, found = {}, {}
        for name, monitor in self._monitors.items():
            with suppress(OSError):  # the guest has ended, or hangs
                numbers[name] = monitor.ask(command, **arguments)
        for name, number in numbers.items():
            with suppress(OSError):  # as above
                answer = self._monitors[name].answer(number)
                if answer is not None:
                    found[name] = answer
        return found

    def close(self) -> None:
        """Close all connections."""
        while self._monitors:
            self._monitors.popitem()[1].sock.close()


class LibvirtHost:
    """Guests of a libvirtd of their own."""

    def __init__(self, libvirtd: PrivateLibvirtd, image: GuestImage, monitors: Monitors | None = None) -> None:
        self.libvirtd = libvirtd
        self.pid_folder = libvirtd.pid_folder
        self._lab = Lab(libvirtd, image)
        self._root = image.disk
        self._connection: Any = None
        self._monitors = monitors or Monitors()

    @property
    def uri(self) -> str:
        """See `GuestHost`."""
        return self.libvirtd.uri

    @property
    def plugin(self) -> Mapping[str, object]:
        """See `GuestHost`."""
        return {"libvirt": {"uri": self.uri, "pid_directory": str(self.pid_folder)}}

    def start(
        self, name: str, mib: int, arguments: str, disk: Disk | None = None, *, balloon: Balloon | None = PLAIN, called: str = ""
    ) -> RealGuest:
        """See `GuestHost`.

        :param called: libvirt's name of the guest after the tests' prefix, where that is not this one
        """
        model, options = "none", ""
        if balloon is not None:
            model, switches = "virtio", {"freePageReporting": balloon.reporting, "autodeflate": balloon.autodeflate}
            options = " ".join(f"{name}='on'" for name, on in switches.items() if on)
        devices = self._disk(name, disk)
        second = self.libvirtd.folder / f"{name}.second"
        guest = self._lab.start(
            called or name,
            mib=mib,
            period=PERIOD_SECONDS,
            balloon=model,
            balloon_options=options,
            devices=devices,
            arguments=arguments + (ROOT if self._root else ""),
            options=("-qmp", f"unix:{second},server=on,wait=off"),
        )
        self._monitors.connect(name, second, mib)
        return guest

    def _disk(self, name: str, wanted: Disk | None) -> str:
        if self._root is not None:
            return ROOT_DISK.format(path=overlay(self.libvirtd.folder, name, self._root))
        return "" if wanted is None else disk(self._lab, name, wanted.mib, reads_per_second=wanted.reads_per_second)

    def records(self) -> dict[str, Record]:
        """See `GuestHost`; one question to libvirt, which asks no guest."""
        import libvirt  # type: ignore[import-untyped]  # it has no types

        flags = libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
        try:
            if self._connection is None:
                self._connection = libvirt.open(self.uri)
            records = self._connection.getAllDomainStats(libvirt.VIR_DOMAIN_STATS_BALLOON, flags)
        except libvirt.libvirtError:  # libvirtd may be away, and may have been restarted
            self._connection = None
            return {}
        return {domain.name().removeprefix(PREFIX): record for domain, record in records}

    def sizes(self) -> dict[str, float]:
        """See `GuestHost`."""
        return self._monitors.sizes()

    def pids(self) -> dict[str, int]:
        """See `GuestHost`."""
        found = {}
        for file in self.pid_folder.glob("*.pid"):
            with suppress(OSError, ValueError):  # the guest may come or go right now
                found[file.stem.removeprefix(PREFIX)] = int(file.read_text())
        return found

    def destroy_all(self) -> None:
        """See `GuestHost`."""
        self._monitors.close()
        self._lab.destroy_all()


class QemuHost:
    """Guests that QEMU is started for by itself. Each has a monitor for mom, and a second one, which is the squeeze's."""

    uri = ""

    def __init__(self, folder: Path, image: GuestImage) -> None:
        self.pid_folder = folder
        self._host = PlainHost(folder, image)
        self._guests: dict[str, PlainGuest] = {}
        self._monitors = Monitors()

    @property
    def plugin(self) -> Mapping[str, object]:
        """See `GuestHost`."""
        return {"qemu": {"sockets": [f"{self.pid_folder}/*.qmp"]}}

    def start(self, name: str, mib: int, arguments: str, disk: Disk | None = None, *, balloon: Balloon | None = PLAIN) -> PlainGuest:
        """See `GuestHost`."""
        # As libvirt starts them: what a process needs beside its guest's memory is part of what is measured.
        options = ["-machine", "pc,usb=off,dump-guest-core=off,memory-backend=pc.ram", "-accel", "tcg", "-cpu", "qemu64", "-m", str(mib)]
        options += ["-object", f"memory-backend-ram,id=pc.ram,size={mib}M", "-no-user-config", "-rtc", "base=utc", "-boot", "strict=on"]
        switches = {} if balloon is None else {"free-page-reporting": balloon.reporting, "deflate-on-oom": balloon.autodeflate}
        guest = self._host.start(
            name,
            arguments=arguments,
            options=[*options, *self._drive(name, disk)],
            balloon=balloon is not None,
            balloon_options="".join(f",{switch}=on" for switch, on in switches.items() if on),
        )
        self._guests[name] = guest
        self._monitors.connect(name, guest.second, mib)
        return guest

    def _drive(self, name: str, wanted: Disk | None) -> list[str]:
        if wanted is None:
            return []
        path = self.pid_folder / f"{name}.raw"
        with path.open("wb") as file:
            file.truncate(wanted.mib << 20)
        speed = f",throttling.iops-read={wanted.reads_per_second}" if wanted.reads_per_second else ""
        return ["-drive", f"file={path},format=raw,if=none,id=disk,cache=none{speed}", "-device", "virtio-blk-pci,drive=disk"]

    def records(self) -> dict[str, Record]:
        """See `GuestHost`."""
        return self._monitors.records()

    def sizes(self) -> dict[str, float]:
        """See `GuestHost`."""
        return self._monitors.sizes()

    def pids(self) -> dict[str, int]:
        """See `GuestHost`."""
        return {name: guest.pid for name, guest in self._guests.items() if guest.process.poll() is None}

    def destroy_all(self) -> None:
        """See `GuestHost`."""
        self._monitors.close()
        self._host.destroy_all()


_UNKNOWN: Final = (1 << 64) - 1
_NAMES: Final = {"unused": "stat-free-memory", "available": "stat-total-memory", "usable": "stat-available-memory"}


def _record(balloon: Mapping[str, int], told: Mapping[str, Any], maximum_kib: int) -> Record:
    """A guest's balloon by libvirt's names, from what QEMU says in bytes."""
    found = {"balloon.current": balloon["actual"] // KIB_PER_MIB, "balloon.maximum": maximum_kib}
    for name, theirs in _NAMES.items():
        if told["stats"].get(theirs, _UNKNOWN) != _UNKNOWN:
            found[f"balloon.{name}"] = told["stats"][theirs] // KIB_PER_MIB
    if told["last-update"]:
        found["balloon.last-update"] = told["last-update"]
    return found


class PodsHost:
    """Guests of a libvirt for each, in a pod of its own, as KubeVirt starts them."""

    uri = ""

    def __init__(self, pods: TestPods, image: GuestImage) -> None:
        self.pid_folder = pods.folder / "pids"
        self.pid_folder.mkdir()
        self._pods = pods
        self._image = pods.image(image)
        self._pids: dict[str, int] = {}
        self._monitors = Monitors()
        self._connections: dict[str, Any] = {}

    @property
    def plugin(self) -> Mapping[str, object]:
        """See `GuestHost`."""
        return {"kubevirt": self._pods.settings()}

    def start(self, name: str, mib: int, arguments: str, disk: Disk | None = None, *, balloon: Balloon | None = PLAIN) -> RealGuest:
        """See `GuestHost`."""
        pod = self._pods.start(f"{PREFIX}squeeze", name)
        pod.wait_until_it_listens()
        (pod.folder / f"{name}.raw").touch()
        os.chown(pod.folder / f"{name}.raw", USER, USER)  # what is to be its disk
        host = LibvirtHost(_as_libvirtd(pod), self._image, self._monitors)
        guest = host.start(name, mib, arguments, disk, balloon=balloon, called=f"squeeze_{name}")
        guest.name = f"{pod.namespace}/{name}"
        self._pids[name] = guest.pid
        (self.pid_folder / f"{name}.pid").write_text(f"{guest.pid}")
        self._connections[name] = pod.connect()
        return guest

    def records(self) -> dict[str, Record]:
        """See `GuestHost`; one question to each libvirt."""
        import libvirt

        flags = libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
        found: dict[str, Record] = {}
        for name, connection in self._connections.items():
            with suppress(libvirt.libvirtError):  # the guest has ended
                for _, record in connection.getAllDomainStats(libvirt.VIR_DOMAIN_STATS_BALLOON, flags):
                    found[name] = record
        return found

    def sizes(self) -> dict[str, float]:
        """See `GuestHost`."""
        return self._monitors.sizes()

    def pids(self) -> dict[str, int]:
        """See `GuestHost`."""
        return {name: pid for name, pid in self._pids.items() if Path(f"/proc/{pid}").exists()}

    def destroy_all(self) -> None:
        """See `GuestHost`."""
        while self._connections:
            self._connections.popitem()[1].close()
        self._monitors.close()
        self._pids.clear()
        self._pods.remove_all()


def _as_libvirtd(pod: TestPod) -> PrivateLibvirtd:
    """What starts guests asks for its URI, its folder, and the folder of process ids."""
    return cast(PrivateLibvirtd, pod)


V1_MEMORY = Path("/sys/fs/cgroup/memory/memory.force_empty")
"""Each guest has a memory group of its own, as where systemd runs libvirt: by it the kernel tells cold memory from hot."""


@contextmanager
def by_libvirt(image: GuestImage) -> Iterator[LibvirtHost]:
    """A libvirtd from here to the end of the block."""
    libvirtd = PrivateLibvirtd(cache_folder(), controllers=("memory",) if V1_MEMORY.exists() else ())
    try:
        libvirtd.start()
        yield LibvirtHost(libvirtd, image)
    finally:
        libvirtd.stop()


@contextmanager
def by_qemu(image: GuestImage) -> Iterator[QemuHost]:
    """A folder for monitors from here to the end of the block; no libvirtd is started."""
    with TemporaryDirectory(prefix="mom-squeeze-qemu-", dir="/tmp") as folder:
        host = QemuHost(Path(folder), image)
        try:
            yield host
        finally:
            host.destroy_all()


@contextmanager
def by_pods(image: GuestImage) -> Iterator[PodsHost]:
    """A node of pods from here to the end of the block; each has a libvirtd of its own."""
    host = PodsHost(TestPods(), image)
    try:
        yield host
    finally:
        host.destroy_all()


HOSTS: Final[Mapping[str, Callable[[GuestImage], AbstractContextManager[GuestHost]]]] = {
    "libvirt": by_libvirt,
    "qemu": by_qemu,
    "kubevirt": by_pods,
}
"""How guests can be started, by name."""
