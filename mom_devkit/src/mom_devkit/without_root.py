"""A test as another user than root, for whom a real mom-helper does what only root may: as mom runs on a host."""

from __future__ import annotations

import os
import pwd
import secrets
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Final
from unittest.mock import patch

import mom_helper
from mom_devkit.patience import wait_until
from mom_kvm import HELPER_SOCKET_VARIABLE, Helper, Hierarchies

USER: Final = "nobody"
"""Whom mom is in such a test: a user that every host has, and that owns nothing."""

LIBVIRT_HELPER_SOCKET_VARIABLE: Final = "MOM_LIBVIRT_HELPER_SOCKET"
"""An environment variable that names another socket of mom-libvirt-helper than the usual one."""

_PROGRAM: Final = Path(mom_helper.__file__).parent


class HelperProcess:
    """A mom-helper of a test's own, which follows the orders of user nobody, or of another one.

    :param declarations: what root lets it write, and whose processes are guests, as in a file of /etc/mom/helper.d
    :param groups: a tree of plain files that it sees where the kernel's control groups (v2) are, as these may have no controller for
        memory here; None: the kernel's own
    """

    _variable = HELPER_SOCKET_VARIABLE

    def __init__(self, declarations: str, groups: Path | None = None, user: str = USER) -> None:
        self._groups, self._user = groups, user
        self._made = tempfile.TemporaryDirectory(prefix="mom-helper-", ignore_cleanup_errors=True)
        self.folder = Path(self._made.name)
        self.folder.chmod(0o755)  # the folder of the socket must be within reach
        self.socket = self.folder / "socket"
        (self.folder / "helper.d").mkdir()
        (self.folder / "helper.d/test.conf").write_text(declarations)
        (self.folder / "state").mkdir(mode=0o700)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What has a process of that user find it."""
        return {self._variable: str(self.socket)}

    @property
    def log(self) -> str:
        """What it has logged."""
        return (self.folder / "log").read_text()

    @property
    def pid(self) -> int:
        """Its process; 0 while there is none."""
        return self._process.pid if self._process is not None and self._process.poll() is None else 0

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self.socket.unlink(missing_ok=True)
        places = ("--socket", self.socket, "--state", self.folder / "state", "--declarations", self.folder / "helper.d")
        command = [*self._seeing_groups(), *self._serving(), "--user", self._user, *map(str, places)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/")
        wait_until(self._listens, lambda: f"mom-helper does not listen: {self.log}", 60)

    def _listens(self) -> bool:
        """True once that user may connect."""
        return self.socket.is_socket() and bool(self.socket.stat().st_mode & stat.S_IWGRP)

    def kill(self) -> None:
        """End it as `kill -9` does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(60)
            self._process = None

    def processes(self) -> Sequence[int]:
        """Its own, those of its connections, and the one that takes memory."""
        found = [] if self._process is None else [self._process.pid]
        for pid in found:
            with suppress(OSError):  # it has ended
                found += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return found

    def put_back(self) -> subprocess.CompletedProcess[str]:
        """Put back what stood there before the first order, as its unit does after it was stopped."""
        command = [*self._seeing_groups(), *self._command("put-back", "--state", str(self.folder / "state"))]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd="/")

    def close(self) -> None:
        """End it, and leave nothing behind."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
            self.kill()
        self._made.cleanup()

    def _serving(self) -> list[str]:
        return self._command("serve")

    def _seeing_groups(self) -> list[str]:
        """What its command begins with, to see that tree."""
        mount = _hierarchies().mount_of(Hierarchies.UNIFIED)
        if self._groups is None or mount is None:
            return []
        return ["unshare", "--mount", "sh", "-c", f'mount --bind {self._groups} {mount.folder} && exec "$@"', "sh"]

    @staticmethod
    def _command(*arguments: str) -> list[str]:
        return [sys.executable, "-I", "-S", str(_PROGRAM), *arguments]


class LibvirtHelperProcess(HelperProcess):
    """A mom-libvirt-helper of a test's own, for guests of the libvirt at this URI."""

    _variable = LIBVIRT_HELPER_SOCKET_VARIABLE

    def __init__(self, uri: str, declarations: str = "", user: str = USER) -> None:
        super().__init__(declarations, user=user)
        self._uri = uri

    def _serving(self) -> list[str]:
        return [sys.executable, "-I", str(_PROGRAM), "serve-libvirt", "--uri", self._uri]


def why_not_another_user() -> str:
    """Why this process cannot be another user for a test; empty: it can."""
    if os.geteuid() != 0:
        return "only root can become another user"
    closed = next((path for path in (_PROGRAM, *_PROGRAM.parents) if not path.stat().st_mode & stat.S_IXOTH), None)
    return "" if closed is None else f"other users cannot reach {closed}, from which modules are imported"


@contextmanager
def another_user(name: str = USER) -> Iterator[None]:
    """This process as another user, in all threads, without root's power. It can become root again; programs that it starts cannot."""
    user, groups = pwd.getpwnam(name), os.getgroups()
    os.setgroups([])
    os.setresgid(user.pw_gid, user.pw_gid, 0)
    os.setresuid(user.pw_uid, user.pw_uid, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)
        os.setgroups(groups)


def _hierarchies() -> Hierarchies:
    """Those of this machine."""
    found = Hierarchies(Path("/"))
    found.refresh()
    return found


class MomPower:
    """What a test writes to the host with: as root, or as another user by a mom-helper.

    Called with declarations, it gives the context in which mom's code runs. What it is to reach must be in a folder that other users can
    reach, as `mom_open_folder` is.
    """

    def __init__(self, *, by_helper: bool) -> None:
        self.by_helper = by_helper
        self.helper: HelperProcess | None = None
        self._connection: Helper | None = None

    def __call__(self, declarations: str = "", groups: Path | None = None) -> AbstractContextManager[None]:
        """The context of mom's code. The helper is started by the first call, with what `HelperProcess` takes."""
        return self._with_helper(declarations, groups) if self.by_helper else nullcontext()

    @contextmanager
    def _with_helper(self, declarations: str, groups: Path | None) -> Iterator[None]:
        if self.helper is None:
            self.helper = HelperProcess(declarations, groups)
            self.helper.start()
        with patch.dict(os.environ, self.helper.environment), another_user():
            self._connection = Helper.reached()
            yield

    def close(self) -> None:
        """End the helper."""
        if self._connection is not None:
            self._connection.close()
        if self.helper is not None:
            self.helper.close()


class StandInGuest:
    """A process that stands for a guest's QEMU: another user's, in a control group of its own.

    `DECLARATION` has mom-helper take it for a guest.

    :param command: what runs there; it ends when its standard input does
    :raises OSError: this process may make no control groups
    """

    USER: Final = "daemon"
    DECLARATION: Final = "[guests test]\nusers = daemon\nslices = mom-test.slice\n"

    def __init__(self, command: Sequence[str] = ("cat",)) -> None:
        hierarchies = _hierarchies()
        self.group = f"/mom-test.slice/machine-qemu-{secrets.token_hex(4)}.scope"
        controller = Hierarchies.UNIFIED if hierarchies.mount_of(Hierarchies.UNIFIED) else "memory"
        self.cgroups = {controller: self.group}
        self.folder = Path(hierarchies.folder(controller, self.group) or "/nowhere")
        self.folder.mkdir(parents=True)
        user = pwd.getpwnam(self.USER)
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/", user=user.pw_uid, group=user.pw_gid, extra_groups=[]
        )
        (self.folder / "cgroup.procs").write_text(f"{self.process.pid}")

    @property
    def pid(self) -> int:
        """Its number."""
        return self.process.pid

    def close(self) -> None:
        """End it, and leave no group behind."""
        self.process.kill()
        self.process.communicate()
        with suppress(OSError):  # of another test
            self.folder.rmdir()
            self.folder.parent.rmdir()
