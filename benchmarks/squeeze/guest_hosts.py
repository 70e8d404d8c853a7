"""Real guests that are squeezed: a libvirtd of their own starts them, and a second monitor of each reports its balloon."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

sys.path += [str(Path(__file__).resolve().parents[2] / folder) for folder in ("tests/real", "benchmarks/shared")]

from guest_image import GuestImage  # only found from here on
from guest_lab import guest_lab  # as above
from plain_qemu import BALLOON  # as above
from private_libvirtd import PREFIX  # as above
from real_guests import Lab, RealGuest, disk  # as above

REAL = Path(__file__).resolve().parents[2] / "tests" / "real"

PERIOD_SECONDS: Final = 2
"""Guests send statistics this often, whatever a manager asks for."""

ANSWER_SECONDS: Final = 0.5
"""A guest that takes longer to answer is left out."""

KIB_PER_MIB: Final = 1024

Record = Mapping[str, int]
"""A guest's balloon by libvirt's names (`balloon.current`), in KiB; `balloon.last-update` in seconds since the epoch."""


@dataclass(frozen=True)
class Disk:
    """Empty disk: MiB, and reads per second at most (0: no limit)."""

    mib: int
    reads_per_second: int = 0


@dataclass(frozen=True)
class Balloon:
    """Balloon device of a guest."""

    reporting: bool = False
    autodeflate: bool = False


ROOT: Final = " root=/dev/vda rw"
"""For the kernel of a guest with a root disk."""
ROOT_DISK: Final = (
    "<disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='none'/><source file='{path}'/>"
    "<target dev='vda' bus='virtio'/></disk>"
)


def overlay(folder: Path, name: str, disk: Path) -> Path:
    """Create a disk that holds one guest's changes to a root disk of several guests."""
    path = folder / f"{name}.qcow2"
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(disk), "-F", "raw", str(path)]
    subprocess.run(command, check=True, timeout=ANSWER_SECONDS * 100)
    return path


@dataclass
class _Monitor:
    """Open connection to a monitor that only the squeeze uses."""

    sock: socket.socket
    maximum_kib: int
    rest: bytes = b""
    asked: int = 0
    answers: dict[int, Any] = field(default_factory=dict)

    def ask(self, command: str, **arguments: object) -> int:
        """Send a command, and return its number."""
        self.asked += 1
        self.sock.sendall(json.dumps({"execute": command, "arguments": arguments, "id": self.asked}).encode() + b"\n")
        return self.asked

    def answer(self, number: int) -> Any:
        """Return the answer to a command; `None` for an error. Raise `OSError` if it does not come in time."""
        while number not in self.answers:
            data = self.sock.recv(65536)
            if not data:
                raise ConnectionError("the guest has ended")
            *lines, self.rest = (self.rest + data).split(b"\n")
            for message in map(json.loads, filter(None, map(bytes.strip, lines))):
                if "id" in message:
                    self.answers[message["id"]] = message.get("return")
        answer = self.answers.pop(number)
        self.answers.clear()  # late answers belong to an earlier second
        return answer


class GuestHost:
    """Guests of one libvirtd. libvirt learns sizes up to a second late, so the squeeze reads them from a second monitor of each guest."""

    def __init__(self, lab: Lab, root: Path | None) -> None:
        self.uri = lab.libvirtd.uri
        self.pid_folder = lab.libvirtd.pid_folder
        self._lab = lab
        self._root = root
        self._monitors: dict[str, _Monitor] = {}

    @property
    def plugin(self) -> Mapping[str, object]:
        """Return the plugin of mom that finds these guests, with its settings."""
        return {"libvirt": self._lab.libvirtd.settings()}

    def start(
        self, name: str, mib: int, arguments: str, disk: Disk | None = None, *, balloon: Balloon | None, code_cache: int = 0
    ) -> RealGuest:
        """Start a guest.

        :param arguments: for its kernel
        :param code_cache: MiB that the emulator may use for translated code; 0 for its own choice
        :param balloon: `None`: no balloon
        """
        model, options = "none", ""
        if balloon is not None:
            switches = {"freePageReporting": balloon.reporting, "autodeflate": balloon.autodeflate}
            model, options = "virtio", " ".join(f"{switch}='on'" for switch, on in switches.items() if on)
        second = self._lab.libvirtd.folder / f"{name}.second"
        guest = self._lab.start(
            name,
            mib=mib,
            period=PERIOD_SECONDS,
            balloon=model,
            balloon_options=options,
            features=f"<tcg><tb-cache unit='MiB'>{code_cache}</tb-cache></tcg>" if code_cache else "",
            devices=self._disk(name, disk),
            arguments=arguments + (ROOT if self._root else ""),
            options=("-qmp", f"unix:{second},server=on,wait=off"),
        )
        self._connect(name, second, mib)
        return guest

    def _disk(self, name: str, wanted: Disk | None) -> str:
        if self._root is not None:
            return ROOT_DISK.format(path=overlay(self._lab.libvirtd.folder, name, self._root))
        return "" if wanted is None else disk(self._lab, name, wanted.mib, reads_per_second=wanted.reads_per_second)

    def _connect(self, name: str, path: Path, mib: int) -> None:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(ANSWER_SECONDS * 20)
        sock.connect(str(path))
        monitor = self._monitors[name] = _Monitor(sock, mib * KIB_PER_MIB)
        monitor.answer(monitor.ask("qmp_capabilities"))
        monitor.answer(monitor.ask("qom-set", path=BALLOON, property="guest-stats-polling-interval", value=PERIOD_SECONDS))
        sock.settimeout(ANSWER_SECONDS)

    def records(self) -> dict[str, Record]:
        """Return the balloon of each guest that answers."""
        sizes = self._answers("query-balloon")
        statistics = self._answers("qom-get", path=BALLOON, property="guest-stats")
        return {name: _record(sizes[name], statistics[name], self._monitors[name].maximum_kib) for name in sizes.keys() & statistics.keys()}

    def grow_emulators(self, mib: int) -> None:
        """Let each QEMU take this memory for itself."""
        self._answers("object-add", **{"qom-type": "memory-backend-ram", "id": "own", "size": mib << 20, "prealloc": True})

    def sizes(self) -> dict[str, float]:
        """Return the size of each guest that answers, in MiB."""
        return {name: balloon["actual"] / (1 << 20) for name, balloon in self._answers("query-balloon").items()}

    def _answers(self, command: str, **arguments: object) -> dict[str, Any]:
        """Ask all monitors before waiting for the first answer."""
        numbers, answers = {}, {}
        for name, monitor in self._monitors.items():
            with suppress(OSError):  # the guest has ended, or hangs
                numbers[name] = monitor.ask(command, **arguments)
        for name, number in numbers.items():
            with suppress(OSError):  # as above
                if (answer := self._monitors[name].answer(number)) is not None:
                    answers[name] = answer
        return answers

    def pids(self) -> dict[str, int]:
        """Return the QEMU processes of running guests."""
        pids = {}
        for file in self.pid_folder.glob("*.pid"):
            with suppress(OSError, ValueError):  # the guest starts or ends at this moment
                pids[file.stem.removeprefix(PREFIX)] = int(file.read_text())
        return pids

    def destroy_all(self) -> None:
        """End all guests."""
        while self._monitors:
            self._monitors.popitem()[1].sock.close()
        self._lab.destroy_all()


_UNKNOWN: Final = (1 << 64) - 1
_NAMES: Final = {"unused": "stat-free-memory", "available": "stat-total-memory", "usable": "stat-available-memory"}


def _record(balloon: Mapping[str, int], answer: Mapping[str, Any], maximum_kib: int) -> Record:
    """Convert QEMU's names and bytes to libvirt's names and KiB."""
    record = {"balloon.current": balloon["actual"] // KIB_PER_MIB, "balloon.maximum": maximum_kib}
    for name, theirs in _NAMES.items():
        if answer["stats"].get(theirs, _UNKNOWN) != _UNKNOWN:
            record[f"balloon.{name}"] = answer["stats"][theirs] // KIB_PER_MIB
    if answer["last-update"]:
        record["balloon.last-update"] = answer["last-update"]
    return record


V1_MEMORY = Path("/sys/fs/cgroup/memory/memory.force_empty")
"""Each guest has a memory group of its own, as under systemd: the kernel needs it to tell cold memory from hot."""


@contextmanager
def guest_host(image: GuestImage) -> Iterator[GuestHost]:
    """Start a libvirtd until the end of the block."""
    with guest_lab(image, ("memory",) if V1_MEMORY.exists() else ()) as lab:
        yield GuestHost(lab, image.disk)
