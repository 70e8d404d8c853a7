"""Tools for tests of an unprivileged mom with a real mom-helper."""

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
from mom_devkit.runs import wait_until
from mom_kvm import Helper, Hierarchies

USER: Final = "nobody"
"""User as which mom runs in tests."""

_PROGRAM: Final = Path(mom_helper.__file__).parent


class HelperProcess:
    """mom-helper for a test.

    :param declarations: declarations of files and guests, as in a file in /etc/mom/helper.d
    :param groups: folder of plain files that stands in for control groups (v2); None for the kernel's control groups
    """

    _variable: str = Helper.SOCKET_VARIABLE

    def __init__(self, declarations: str, groups: Path | None = None, user: str = USER) -> None:
        self._groups, self._user = groups, user
        self._directory = tempfile.TemporaryDirectory(prefix="mom-helper-", ignore_cleanup_errors=True)
        self.folder = Path(self._directory.name)
        self.folder.chmod(0o755)  # mom's user must reach the socket
        self.socket = self.folder / "socket"
        (self.folder / "helper.d").mkdir()
        (self.folder / "helper.d/test.conf").write_text(declarations)
        (self.folder / "state").mkdir(mode=0o700)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment variable by which another process finds this helper."""
        return {self._variable: str(self.socket)}

    @property
    def log(self) -> str:
        """Return the helper's log."""
        return (self.folder / "log").read_text()

    @property
    def pid(self) -> int:
        """Return the helper's PID; 0 if the helper is not running."""
        return self._process.pid if self._process is not None and self._process.poll() is None else 0

    def start(self) -> None:
        """Start the helper, and wait until it listens."""
        self.socket.unlink(missing_ok=True)
        places = ("--socket", self.socket, "--state", self.folder / "state", "--declarations", self.folder / "helper.d")
        command = [*self._seeing_groups(), *self._serving(), "--user", self._user, *map(str, places)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/")
        wait_until(self._listens, lambda: f"mom-helper does not listen: {self.log}", 60)

    def _listens(self) -> bool:
        return self.socket.is_socket() and bool(self.socket.stat().st_mode & stat.S_IWGRP)

    def kill(self) -> None:
        """Kill the helper with SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(60)
            self._process = None

    def close(self) -> None:
        """End the helper, and remove its files."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
            self.kill()
        self._directory.cleanup()

    def _serving(self) -> list[str]:
        return self._command("serve")

    def _seeing_groups(self) -> list[str]:
        mount = _hierarchies().mount_of(Hierarchies.UNIFIED)
        if self._groups is None or mount is None:
            return []
        return ["unshare", "--mount", "sh", "-c", f'mount --bind {self._groups} {mount.folder} && exec "$@"', "sh"]

    @staticmethod
    def _command(*arguments: str) -> list[str]:
        return [sys.executable, "-I", "-S", str(_PROGRAM), *arguments]


def why_not_another_user() -> str:
    """Return why this process cannot become another user; empty if it can."""
    if os.geteuid() != 0:
        return "only root can become another user"
    closed = next((path for path in (_PROGRAM, *_PROGRAM.parents) if not path.stat().st_mode & stat.S_IXOTH), None)
    return "" if closed is None else f"other users cannot reach {closed}, from which modules are imported"


@contextmanager
def another_user(name: str = USER) -> Iterator[None]:
    """Run the `with` block as another user, in all threads. Child processes cannot become root again."""
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
    hierarchies = Hierarchies(Path("/"))
    hierarchies.refresh()
    return hierarchies


class MomPower:
    """Permission to write to the host, as root or through a mom-helper.

    mom's code must be in a folder that other users can access, such as `mom_open_folder`.
    """

    def __init__(self, *, by_helper: bool) -> None:
        self.by_helper = by_helper
        self.helper: HelperProcess | None = None
        self._connection: Helper | None = None

    def __call__(self, declarations: str = "", groups: Path | None = None) -> AbstractContextManager[None]:
        """Return the context in which to run mom's code. The first call starts the helper with these arguments."""
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
    """Process that stands in for a guest's QEMU, as another user and in its own control group.

    If root's declarations contain `DECLARATION`, mom-helper accepts the process as a guest. The constructor raises `OSError` if it
    cannot make control groups.

    :param command: program that exits when its standard input ends
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
        """Return the process's PID."""
        return self.process.pid

    def close(self) -> None:
        """End the process, and remove its control group."""
        self.process.kill()
        self.process.communicate()
        with suppress(OSError):  # another test uses the parent
            self.folder.rmdir()
            self.folder.parent.rmdir()
