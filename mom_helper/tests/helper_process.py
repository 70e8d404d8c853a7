"""Helper as a process, with files of settings in a folder, guests in control groups, and clients as another user."""

import array
import json
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from helper_processes import TestedHelper

from mom_helper.orders import MOST_TEXT, ORDER, Answer, Order

ENGINE, GUEST, STRANGER = 65534, 64055, 64056
"""Users: the engine (`nobody`, because the helper takes a name), one with guests, and one without guests."""


def as_user(user: int, work: Callable[[], Any], seconds: float = 60) -> Any:
    """Run a function in a process of that user without capabilities. Return its result (JSON)."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
            answer = {"answer": work()}
        except BaseException as error:  # noqa: BLE001  # a fork of a test must not go on as another one
            answer = {"error": f"{type(error).__name__}: {error}"}
        with os.fdopen(writing, "w") as file:
            json.dump(answer, file)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        if not select.select([file], [], [], seconds)[0]:
            os.kill(pid, signal.SIGKILL)
        text = file.read()
    os.waitpid(pid, 0)
    told = json.loads(text or '{"error": "it did not end"}')
    assert "error" not in told, told["error"]
    return told["answer"]


class Client:
    """Connection that can send any bytes."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(20)
        self.socket.connect(str(path))
        self._id = 0

    def order(self, number: int, *words: int, descriptors: Sequence[int] = ()) -> tuple[Answer, bytes, list[int]]:
        """Send an order. Return the answer, its text, and received descriptors."""
        self._id += 1
        self.send(ORDER.pack(*Order(number, self._id, *words)), descriptors)
        while True:
            answer, text, received = self.answer()
            if answer.id == self._id:
                return answer, text, received

    def send(self, message: bytes, descriptors: Sequence[int] = ()) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        self.socket.sendmsg([message], rights)

    def answer(self) -> tuple[Answer, bytes, list[int]]:
        message, ancillary, _, _ = self.socket.recvmsg(ORDER.size + MOST_TEXT, socket.CMSG_SPACE(40))
        if not message:
            raise EOFError("the helper has closed the connection")
        received = [one for _, _, content in ancillary for one in array.array("i", content)]
        return Answer(*ORDER.unpack(message[: ORDER.size])), message[ORDER.size :], received

    def error(self, number: int, *words: int, descriptors: Sequence[int] = ()) -> int:
        """Send an order. Return its error number, and close received descriptors."""
        answer, _, received = self.order(number, *words, descriptors=descriptors)
        for one in received:
            os.close(one)
        return answer.error


class RunningHelper(TestedHelper):
    """Helper with declared files `a` (1 to 1000) and `b` (0, 1 or 2) in its folder. `c` is not declared."""

    def __init__(self, more: str = "", group: "Group | None" = None) -> None:
        """With a group, plain files replace the kernel's groups, which may lack a memory controller."""
        super().__init__("")
        self.state, self.declared, self.groups = self.folder / "state", self.folder / "helper.d", self.folder / "groups"
        if group is not None:
            self._groups = self.groups
            group.mirrored(self.groups, memory_high="max\n", memory_low="0\n")
        self.knobs = {name: self.folder / name for name in "abc"}
        for knob in self.knobs.values():
            knob.write_text("100\n" if knob.name != "b" else "1\n")
        (self.declared / "test.conf").write_text(
            f"[knob {self.knobs['a']}]\nleast = 1\nmost = 1000\n[knob {self.knobs['b']}]\nvalues = 0 1 2\n"
            f"[group memory.high]\nleast = 1048576\nmax = yes\n[guests test]\nusers = {GUEST}\nslices = mom-test.slice\n{more}"
        )

    def inode(self, group: "Group") -> int:
        """Return the inode that identifies a group in orders."""
        return self.folder_of(group).stat().st_ino

    def folder_of(self, group: "Group") -> Path:
        """Return the group's folder in the tree of plain files."""
        return self.groups / group.path.lstrip("/")

    def values(self) -> dict[str, str]:
        return {name: knob.read_text().strip() for name, knob in self.knobs.items()}

    def ask(self, work: Callable[[Client], Any], user: int = ENGINE, seconds: float = 60) -> Any:
        """Return the result of a function for a client of that user."""
        return as_user(user, lambda: work(Client(self.socket)), seconds)


def unified_mount() -> Path:
    """Return the mount of the unified control groups. Skip the test without it, or without root."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    root = next((Path(line.split()[4]) for line in lines if " - cgroup2 " in line), None)
    if root is None or os.geteuid() != 0:
        pytest.skip("the unified hierarchy of control groups, and root, are needed")
    return root


class Group:
    """Control group of the unified hierarchy with processes. Skips the test if it cannot be made."""

    def __init__(self, name: str) -> None:
        self.path = f"/{name}"
        self.folder = unified_mount() / name
        try:
            self.folder.mkdir(parents=True)
        except OSError as error:
            pytest.skip(f"no control group can be made: {error.strerror}")
        self.started: list[subprocess.Popen[bytes]] = []

    def process(self, user: int) -> tuple[int, int]:
        """Start a process of this user in the group. Return its pid and start time."""
        one = subprocess.Popen(["sleep", "1000"], user=user, group=user, extra_groups=[])
        self.started.append(one)
        (self.folder / "cgroup.procs").write_text(str(one.pid))
        return one.pid, int(Path(f"/proc/{one.pid}/stat").read_text().rpartition(")")[2].split()[19])

    def mirrored(self, tree: Path, **files: str) -> Path:
        """Write these files to the group's folder in a tree of plain files (`memory_high` is memory.high). Return the folder."""
        folder = tree / self.path.lstrip("/")
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name.replace("_", ".")).write_text(content)
        return folder

    def close(self) -> None:
        for one in self.started:
            one.kill()
            one.wait(20)
        until = time.monotonic() + 10
        folder = self.folder
        while folder.exists() and time.monotonic() < until:
            with suppress(OSError):
                folder.rmdir()
        with suppress(OSError):  # other groups may be in it, and the top group stays
            for above in folder.parents:
                above.rmdir()
