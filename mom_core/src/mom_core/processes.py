"""Other processes of this host, told apart from later ones that got the same number."""

from __future__ import annotations

import os
import select
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")


def boot_id() -> str:
    """What tells this run of the kernel from others; empty where the kernel does not say."""
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def start_ticks(pid: int) -> int:
    """When a process was started, in clock ticks since the boot; 0 if there is none. A number and its start name one process for good.

    Field 22 of /proc/PID/stat (proc(5)); the second field is the program's name in parentheses and may hold anything.
    """
    fields = _stat(pid)
    return int(fields[19]) if fields else 0


def _stat(pid: int) -> list[bytes]:
    """The fields behind the program's name, from the state on."""
    try:
        return (PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return []


class OtherProcess:
    """A process by its number and start. What is done to it can never hit another one that got its number.

    Through a pidfd; a kernel without them (before 5.3) leaves an instant between the look at the start and the signal.
    """

    def __init__(self, pid: int, start: int) -> None:
        self.pid = pid
        self.start = start
        self._descriptor: int | None = None
        with suppress(OSError):  # gone, or a kernel without pidfds: the start says which
            self._descriptor = os.pidfd_open(pid)
        # Looked at after it was opened: if it is the right one now, the descriptor is the right one's.
        if start_ticks(pid) != start:
            self.close()
            self.pid = 0

    def alive(self) -> bool:
        """Whether it has not ended; one that ended and that nobody has taken note of (a zombie) has."""
        if not self.pid:
            return False
        if self._descriptor is not None:
            return not select.select([self._descriptor], [], [], 0)[0]
        fields = _stat(self.pid)
        return bool(fields) and int(fields[19]) == self.start and fields[0] not in {b"Z", b"X"}

    @property
    def descriptor(self) -> int | None:
        """Becomes readable when the process ends; None where the kernel has no such thing."""
        return self._descriptor

    def stopped(self) -> bool:
        """Whether it stands still by a signal (SIGSTOP, a debugger)."""
        fields = _stat(self.pid) if self.pid else []
        return bool(fields) and fields[0] in {b"T", b"t"}

    def signal(self, number: signal.Signals) -> str:
        """Send a signal, if it is there; why that was not possible, or an empty text."""
        try:
            if self._descriptor is not None:
                signal.pidfd_send_signal(self._descriptor, number)
            elif self.alive():
                os.kill(self.pid, number)
        except ProcessLookupError:
            return ""
        except OSError as error:
            return error.strerror or str(error)
        return ""

    def wait(self, seconds: float) -> bool:
        """Whether it ended within that time."""
        until = time.monotonic() + seconds
        while self.alive():
            left = until - time.monotonic()
            if left <= 0:
                return False
            if self._descriptor is not None:
                select.select([self._descriptor], [], [], left)
            else:
                time.sleep(min(0.05, left))
        return True

    def close(self) -> None:
        """Let go of what is held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
