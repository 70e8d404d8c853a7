"""Real guests that a test starts without libvirt, each with a monitor at a socket."""

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
"""Where QEMU has a guest's balloon."""


class PlainGuest(PrintingGuest):
    """One QEMU process."""

    def __init__(self, process: subprocess.Popen[bytes], name: str, identity: str, folder: Path) -> None:
        super().__init__(name, identity, folder / f"{name}.log")
        self.process = process
        self.monitor = folder / f"{name}.qmp"
        self.second = folder / f"{name}.second"

    @property
    def pid(self) -> int:
        """Its process."""
        return self.process.pid

    def ask(self, command: str, **arguments: object) -> Any:
        """What the second monitor, which is the test's own, returns."""
        return ask(self.second, command, **arguments)

    @property
    def size_mib(self) -> int:
        """What it has now, by its balloon."""
        return int(self.ask("query-balloon")["actual"]) >> 20

    @property
    def period(self) -> int:
        """Every how many seconds it is asked for statistics."""
        return int(self.ask("qom-get", path=BALLOON, property="guest-stats-polling-interval"))


def ask(monitor: Path, command: str, **arguments: object) -> Any:
    """What a monitor returns to a client that connects, asks and leaves, as `qm` does."""
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
    """Starts guests in a folder, in sessions of their own as other programs start guests, and ends them."""

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

        :param arguments: more for its kernel's command line
        :param options: more of QEMU's
        :param balloon_options: more of the balloon device's, each after a comma
        :param identity: its UUID; without one, a new one
        :param vmid: start it as Proxmox VE starts the guest with this number
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
        """End all."""
        for guest in self._guests:
            with suppress(OSError):
                guest.process.kill()
            guest.process.wait()


@contextmanager
def plain_host(folder: Path) -> Iterator[PlainHost]:
    """Starts guests in this folder, which end with the block."""
    try:
        host = PlainHost(folder, build())
    except CannotBuild as error:
        not_here(f"there is no guest to start: {error}")
    try:
        yield host
    finally:
        host.destroy_all()
