"""mom under a supervisor like its unit: unprivileged, with a watchdog, restored and restarted when it has ended."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from mom_devkit.without_root import USER

WATCHDOG_SECONDS = 20.0
"""As in packaging/mom.service: a silent mom is aborted (SIGABRT) after this time, and killed `ABORT_SECONDS` later."""

ABORT_SECONDS = 2.0
START_SECONDS, STOP_SECONDS = 60.0, 15.0
RESTORE_SECONDS = 10
"""TimeoutStartSec, TimeoutStopSec, and the time limit of `mom restore` after each end."""

AGAIN_SECONDS = 5.0
"""Between two attempts to restore; packaging/mom-restore.service waits for 30."""

MISUSE = 2
"""mom's exit code for a wrong configuration: it is not restarted."""


class SupervisedMom:
    """`mom run` under a supervisor that does what the shipped units do, whenever `tend` is called.

    :param folder: of mom's user, for its run directory
    """

    def __init__(self, config: Path, folder: Path, log: Path, environment: Mapping[str, str]) -> None:
        self.config, self.folder, self.log = config, folder, log
        self.starts = 0
        self._lock = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._restoring: subprocess.Popen[bytes] | None = None
        self._again = self._restarting = False
        self._restore_at: float | None = None
        self._fed = self._aborted = 0.0
        self._watchdog = WATCHDOG_SECONDS
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        address = folder / "notify"
        self._socket.bind(str(address))
        address.chmod(0o666)
        self._environment = {**os.environ, **environment, "NOTIFY_SOCKET": str(address), "WATCHDOG_USEC": f"{WATCHDOG_SECONDS * 1e6:.0f}"}
        self._environment.pop("WATCHDOG_PID", None)

    @property
    def run_directory(self) -> Path:
        return self.folder / "run"

    @property
    def pid(self) -> int:
        """Return the pid; 0 if there is no process."""
        return self._process.pid if self._process is not None and self._process.poll() is None else 0

    def start(self) -> None:
        """Start mom, and restart it when it ends."""
        with self._lock:
            self.starts += 1
            self._again, self._restore_at = True, None
            self._fed, self._aborted, self._watchdog = time.monotonic(), 0.0, START_SECONDS
            self._process = self._mom("run", "-c", str(self.config))

    def _mom(self, *words: str) -> subprocess.Popen[bytes]:
        command = [str(Path(sys.executable).parent / "mom"), *words]
        with self.log.open("ab") as log:
            return subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd="/", env=self._environment,
                user=USER, group=pwd.getpwnam(USER).pw_gid, extra_groups=[], process_group=0, umask=0o077,
            )  # fmt: skip

    def _restore(self) -> subprocess.Popen[bytes]:
        """Run what the unit runs after each end (ExecStopPost)."""
        run = str(self.run_directory)
        return self._mom("restore", "-c", str(self.config), "--as-left", run, "--if-unclean", "--timeout", str(RESTORE_SECONDS))

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process, if there is one."""
        if self.pid:
            os.kill(self.pid, number)

    def stop(self) -> None:
        """Stop mom for good, as `systemctl stop` does."""
        with self._lock:
            self._again = False
            (self.run_directory / "keep").unlink(missing_ok=True)
            self.send(signal.SIGTERM)

    def give_up(self) -> None:
        """Kill mom for good, as when it has ended too often. Everything is restored."""
        with self._lock:
            self._again = False
            self.send(signal.SIGKILL)
            (self.run_directory / "keep").unlink(missing_ok=True)

    def restart(self) -> None:
        """Restart mom, as `systemctl restart` does: the next mom keeps what was applied."""
        with self._lock:
            self._restarting = True
            self.send(signal.SIGUSR2)

    @property
    def is_over(self) -> bool:
        """Return whether mom has ended for good, and its changes are restored."""
        with self._lock:
            return self._process is None and self._restoring is None and self._restore_at is None and not self._again

    def tend(self) -> None:
        """Do what is due, without waiting."""
        with self._lock:
            self._tend(time.monotonic())

    def _tend(self, now: float) -> None:
        self._hear(now)
        if self._process is not None:
            code = self._process.poll()
            if code is None:
                self._watch(now)
                return
            self._again = self._again and (self._restarting or code not in {0, MISUSE})
            self._process, self._restarting, self._restore_at = None, False, now
        if self._restoring is not None and (code := self._restoring.poll()) is not None:
            self._restoring = None
            if self._again:
                self.start()
            elif code:
                self._restore_at = now + AGAIN_SECONDS
        if self._restore_at is not None and now >= self._restore_at:
            self._restoring, self._restore_at = self._restore(), None

    def _hear(self, now: float) -> None:
        with suppress(BlockingIOError):
            while True:
                for line in self._socket.recv(8192).decode(errors="replace").splitlines():
                    name, _, value = line.partition("=")
                    if name in {"WATCHDOG", "READY"}:
                        self._fed = now
                        self._watchdog = WATCHDOG_SECONDS if name == "READY" else self._watchdog
                    elif name == "WATCHDOG_USEC":
                        self._watchdog = int(value) / 1e6

    def _watch(self, now: float) -> None:
        if now - self._fed <= self._watchdog:
            return
        if not self._aborted:
            self._aborted = now
            self.send(signal.SIGABRT)
        elif now - self._aborted > ABORT_SECONDS:
            self.send(signal.SIGKILL)

    def close(self) -> None:
        """End the process."""
        self._again = False
        for process in (self._process, self._restoring):
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
                try:
                    process.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        self._socket.close()
