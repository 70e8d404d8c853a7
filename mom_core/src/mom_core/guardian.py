"""A tiny process beside mom that watches the lease: it ends a mom that hangs, and puts back what a mom that is gone has left.

It holds no connection to anything; to put back, it starts `mom restore`. Never both at once: a mom that lives holds the lock that
`mom restore` needs, so a mom that hangs is ended first, and is known to be dead before anything is put back.

Run as `python -P -m mom_core.guardian RUN_DIRECTORY STATE_DIRECTORY [--stay]`. Kept to the standard library, and to little of it.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from mom_core.lease import LeaseFile, Term, judge, process_of
from mom_core.lock import locked_by, open_lock
from mom_core.model import printable
from mom_core.notify import Notifier
from mom_core.processes import OtherProcess, boot_id

LOCK: Final = "guardian.lock"

LOOK_SECONDS: Final = 1.0
"""How often the lease is looked at: a death is noticed at once, a mom that hangs within this."""

LOCK_ATTEMPTS: Final = 6
"""Who only looks whether there is a guardian holds its lock for an instant; one that holds it for longer is another guardian."""

MOMENT_SECONDS: Final = 0.05
"""Between two looks at a mom that was told to end together with this process."""

TRACEBACK_SECONDS: Final = 1.0
"""A mom that hangs is sent SIGABRT first, on which it says where its threads are; then SIGKILL."""

DEATH_SECONDS: Final = 5.0
"""How long the kernel may take to end a process before that is remarked upon."""

RESTORE_SECONDS: Final = 120.0
"""How long `mom restore` may take: it waits 60 s for the hypervisor by itself."""

LONGEST_RETRY_SECONDS: Final = 60.0
GIVE_UP_SECONDS: Final = 3600.0
"""Putting back is tried again, at growing intervals, for an hour: longer than a hypervisor's restart or upgrade takes."""


def command(run_directory: Path, state_directory: Path, *, stay: bool = False) -> list[str]:
    """The command line of a guardian, for this interpreter. -P: nothing is imported from the folder in which it is started."""
    words = [sys.executable, "-P", "-m", "mom_core.guardian", str(run_directory), str(state_directory)]
    return [*words, "--stay"] if stay else words


def guarded(run_directory: Path) -> bool:
    """Whether a guardian is there."""
    try:
        descriptor = os.open(run_directory / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError:
        return bool(locked_by(run_directory / LOCK))
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def something_left(state_directory: Path) -> bool:
    """Whether the ledger holds anything; what cannot be understood is for `mom restore` to judge."""
    try:
        return bool(json.loads((state_directory / "ledger.json").read_bytes())["content"] != [])
    except FileNotFoundError:
        return False
    except Exception:  # noqa: BLE001  # whatever a damaged ledger leads to, it is not nothing
        return True


class Guardian:
    """Watches one run directory.

    :param stay: wait for the next mom when one has ended, as a service of its own does
    """

    def __init__(self, run_directory: Path, state_directory: Path, *, stay: bool) -> None:
        self._directory = run_directory
        self._state = state_directory
        self._file = LeaseFile(run_directory)
        self._stay = stay
        self._told_to_end = False
        self._boot = boot_id()
        self._process: OtherProcess | None = None
        self._holder: tuple[int, int, str] | None = None
        self._dead_since = 0.0
        self._renewed = 0.0
        self._stood_still = 0.0
        self._done_with: tuple[int, int, str] | None = None
        self._woken = -1
        self._descriptor = -1

    def run(self) -> int:
        """Until there is nothing left to watch; the process's exit code."""
        self._woken, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        lock = open_lock(self._directory / LOCK)
        # SIGABRT: systemd's watchdog sends it to all processes of a service, to this one too where it has no service of its own.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGABRT):
            signal.signal(number, self._on_end)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        notifier = Notifier()
        if self._stay:
            notifier.ready("waiting for another guardian to end")
        self._descriptor = lock
        attempts = 0
        while not self._lock(lock):
            attempts += 1
            if self._told_to_end or (not self._stay and attempts >= LOCK_ATTEMPTS):
                return 0
            self._sleep(LOOK_SECONDS if self._stay else MOMENT_SECONDS)
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        notifier.ready("watching")
        while True:
            term = self._file.term()
            if term is None or term.ended or term.holder == self._done_with:
                if not self._stay or self._told_to_end:
                    return 0
                self._sleep(LOOK_SECONDS)
                continue
            code = self._watch(term)
            if code is not None:
                return code

    def _watch(self, term: Term) -> int | None:
        """One look at a lease; an exit code when all is done."""
        process = self._of(term)
        alive = process.alive()
        if term.renewed != self._renewed:
            self._renewed, self._stood_still = term.renewed, 0.0
        now = time.monotonic() - self._stood_still
        if not alive and not self._dead_since:
            self._dead_since = now
            if not term.kept and term.lease:
                say(f"mom (process {term.pid}) died: unless another comes, what it has changed is put back in {term.lease:g} s")
        if not alive and not something_left(self._state):
            self._done_with = term.holder
            return None
        if self._told_to_end and alive and self._stay:
            return 0
        verdict = judge(term, alive=alive, dead_since=self._dead_since, now=now, boot=self._boot)
        if self._told_to_end and not alive:
            if not self._stay and self._relieved():
                return 0
            say("told to end: what mom has changed is put back now")
        elif not verdict.over:
            self._sleep(min(LOOK_SECONDS, max(0.01, verdict.wait)), process if alive else None)
            return None
        else:
            say(f"{verdict.reason}: {'it is ended, and ' if alive else ''}what it has changed is put back")
        if alive and not self._end(term, process):
            return None
        return self._put_back(term)

    def _of(self, term: Term) -> OtherProcess:
        if self._process is None or self._holder != term.holder:
            if self._process is not None:
                self._process.close()
            self._process, self._holder, self._dead_since = process_of(term), term.holder, 0.0
        return self._process

    def _end(self, term: Term, process: OtherProcess) -> bool:
        """End a mom that hangs. Whether it is dead: as long as it is not, nothing may be put back."""
        try:
            self._file.write_taken(term)  # should it wake up before the signal has reached it, it ends by itself
        except OSError as error:
            say(f"cannot write {self._file.path}: {error.strerror}")
        if self._file.term() not in (None, term):
            return False  # it has come round at the last moment, and ends itself
        if not process.stopped():
            process.signal(signal.SIGABRT)
            if process.wait(TRACEBACK_SECONDS):
                return True
        refused = process.signal(signal.SIGKILL)
        if process.wait(DEATH_SECONDS):
            return True
        say(f"process {term.pid} does not die{f' ({refused})' if refused else ''}: nothing can be put back before it has ended")
        process.wait(LONGEST_RETRY_SECONDS)
        return not process.alive()

    def _put_back(self, term: Term) -> int | None:
        """Run `mom restore` until it has put everything back; None: look again, as there is a new mom or all is done."""
        delay = 1.0
        until = time.monotonic() + GIVE_UP_SECONDS
        while True:
            code = self._restore()
            there = self._file.term()
            if there is None or there.holder != term.holder or not code or not something_left(self._state):
                self._done_with = term.holder
                return None
            if self._told_to_end or time.monotonic() > until:
                say("gave up; `mom restore` puts back what is left")
                return 1
            say(f"not everything could be put back; tried again in {delay:g} s")
            self._sleep(delay)
            delay = min(2 * delay, LONGEST_RETRY_SECONDS)

    def _restore(self) -> int:
        words = [sys.executable, "-P", "-m", "mom_core", "restore", "--as-left", str(self._directory)]
        try:
            return subprocess.run(words, stdin=subprocess.DEVNULL, timeout=RESTORE_SECONDS, check=False).returncode
        except subprocess.TimeoutExpired:
            say(f"mom restore did not end within {RESTORE_SECONDS:g} s")
        except OSError as error:
            say(f"mom restore cannot be started: {error.strerror}")
        return 1

    def _sleep(self, seconds: float, process: OtherProcess | None = None) -> None:
        """Until then, or until the process ends, or a signal comes; after a signal, for a moment only."""
        began = time.monotonic()
        ends = [] if process is None or process.descriptor is None else [process.descriptor]
        select.select([self._woken, *ends], [], [], min(seconds, MOMENT_SECONDS) if self._told_to_end else seconds)
        with suppress(BlockingIOError):
            os.read(self._woken, 64)
        # Who stood still together with mom (a host that was paused, a frozen control group) has not seen mom hang.
        self._stood_still += max(0.0, time.monotonic() - began - seconds - LOOK_SECONDS)

    def _relieved(self) -> bool:
        """Whether another guardian, that waited for this one to end, watches from now on."""
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        until = time.monotonic() + 2 * LOOK_SECONDS
        while time.monotonic() < until:
            time.sleep(MOMENT_SECONDS)
            if guarded(self._directory):
                return True
        return not self._lock(self._descriptor)

    def _lock(self, descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def _on_end(self, number: int, frame: object) -> None:
        self._told_to_end = True


def say(text: str) -> None:
    """A line where mom logs, too."""
    stamp = "" if os.environ.get("JOURNAL_STREAM") else time.strftime("%Y-%m-%d %H:%M:%S ")
    try:
        sys.stderr.write(f"{stamp}WARNING mom.guardian: {printable(text, 2000)}\n")
        sys.stderr.flush()
    except OSError:
        pass  # nobody listens; the work goes on


def main(arguments: Sequence[str]) -> int:
    """The process."""
    run_directory, state_directory, *options = arguments
    return Guardian(Path(run_directory), Path(state_directory), stay="--stay" in options).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
