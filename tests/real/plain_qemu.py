"""Real guests without libvirt, each with a monitor socket."""

import json
import socket
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from guest_image import CannotBuild, GuestImage, build
from real_guests import COMMAND_LINE, PrintingGuest, not_here

from mom_devkit import wait_until

BALLOON = "/machine/peripheral/balloon0"
"""QEMU's path of the balloon device."""


class PlainGuest(PrintingGuest):
    """QEMU process with a guest."""

    def __init__(self, process: subprocess.Popen[bytes], name: str, identity: str, folder: Path) -> None:
        super().__init__(name, identity, folder / f"{name}.log")
        self.process = process
        self.monitor = folder / f"{name}.qmp"
        self.second = folder / f"{name}.second"

    @property
    def pid(self) -> int:
        """Pid of QEMU."""
        return self.process.pid

    def ask(self, command: str, **arguments: object) -> Any:
        """Send a command to the second monitor, which only tests use. Return the result."""
        return ask(self.second, command, **arguments)

    @property
    def size_mib(self) -> int:
        """Balloon's actual size in MiB."""
        return int(self.ask("query-balloon")["actual"]) >> 20

    @property
    def period(self) -> int:
        """Polling interval of statistics in seconds."""
        return int(self.ask("qom-get", path=BALLOON, property="guest-stats-polling-interval"))


def ask(monitor: Path, command: str, **arguments: object) -> Any:
    """Connect to a monitor, send a command and disconnect, like `qm`. Return the result."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(30)
        sock.connect(str(monitor))
        stream = sock.makefile("rwb")
        stream.readline()
        for question in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments}):
            stream.write(json.dumps(question).encode() + b"\n")
            stream.flush()
            while "event" in (answer := json.loads(stream.readline())):
                pass
        return answer.get("return", answer)


class PlainHost:
    """Host of guests in a folder. Each guest runs in a new session."""

    def __init__(self, folder: Path, image: GuestImage) -> None:
        self.folder = folder
        self._image = image
        self._guests: list[PlainGuest] = []

    def start(
        self,
        name: str,
        mib: int = 256,
        arguments: str = "",
        options: Sequence[str] = (),
        vmid: str = "",
        *,
        identity: str = "",
        balloon: bool = True,
        balloon_options: str = "",
    ) -> PlainGuest:
        """Start a guest.

        :param arguments: additional arguments for the kernel
        :param options: additional options of QEMU
        :param balloon_options: additional options of the balloon device, each after a comma
        :param identity: UUID; by default a new one
        :param vmid: number of a guest that is started like on Proxmox VE
        """
        identity = identity or str(uuid.uuid4())
        name = vmid or name
        who = ["-smbios", f"type=1,uuid={identity}"] if vmid else ["-uuid", identity]
        qmp = f"{self.folder}/{name}.qmp,server=on,wait=off"
        monitor = ["-chardev", f"socket,id=qmp,path={qmp}", "-mon", "chardev=qmp,mode=control"] if vmid else ["-qmp", f"unix:{qmp}"]
        command = [
            "qemu-system-x86_64", "-name", f"{name},debug-threads=on", *who, *monitor, "-display", "none", "-nodefaults",
            "-kernel", str(self._image.kernel), "-initrd", str(self._image.initrd),
            "-append", COMMAND_LINE + arguments,
            "-serial", f"file:{self.folder}/{name}.log",
            *(("-device", f"virtio-balloon-pci,id=balloon0{balloon_options}") if balloon else ()),
            "-qmp", f"unix:{self.folder}/{name}.second,server=on,wait=off",
            "-pidfile", f"{self.folder}/{name}.pid",
            *(options or ("-m", str(mib))),
        ]  # fmt: skip
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
        guest = PlainGuest(process, name, identity, self.folder)
        self._guests.append(guest)
        wait_until(guest.second.exists, f"{name} has a monitor")
        return guest

    def destroy_all(self) -> None:
        """End all guests."""
        for guest in self._guests:
            with suppress(OSError):
                guest.process.kill()
            guest.process.wait()


@contextmanager
def plain_host(folder: Path) -> Iterator[PlainHost]:
    """Yield a host of guests in this folder. They end with the block."""
    try:
        host = PlainHost(folder, build())
    except CannotBuild as error:
        not_here(f"there is no guest to start: {error}")
    try:
        yield host
    finally:
        host.destroy_all()
