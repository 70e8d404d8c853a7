"""Real helpers of mom, with their processes and the command that restores values."""

import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import mom_helper
from mom_devkit.without_root import USER, HelperProcess

PROGRAM = Path(mom_helper.__file__).parent

LIBVIRT_HELPER_SOCKET_VARIABLE = "MOM_LIBVIRT_HELPER_SOCKET"


class TestedHelper(HelperProcess):
    """mom-helper whose processes are counted, and which can restore values."""

    __test__ = False  # pytest collects classes of this name

    def processes(self) -> Sequence[int]:
        """Return the helper's processes."""
        pids = [] if self._process is None else [self._process.pid]
        for pid in pids:
            with suppress(OSError):  # the process has ended
                pids += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return pids

    def put_back(self) -> subprocess.CompletedProcess[str]:
        """Run `mom_helper put-back`."""
        command = [*self._seeing_groups(), *self._command("put-back", "--state", str(self.folder / "state"))]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd="/")


class LibvirtHelperProcess(TestedHelper):
    """mom-libvirt-helper for a test, with the libvirt at `uri`."""

    _variable = LIBVIRT_HELPER_SOCKET_VARIABLE

    def __init__(self, uri: str, declarations: str = "", user: str = USER) -> None:
        super().__init__(declarations, user=user)
        self._uri = uri

    def _serving(self) -> list[str]:
        return [sys.executable, "-I", str(PROGRAM), "serve-libvirt", "--uri", self._uri]
