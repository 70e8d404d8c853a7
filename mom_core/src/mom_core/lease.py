"""The lease on what mom has changed: it lasts while mom completes cycles, and when it is over, somebody else puts everything back.

One file in the run directory, of a fixed size, in two halves: mom's, renewed after each cycle, and the guardian's, who says there that
it has taken the lease from a mom that hangs. Written in place, so that a full disk cannot keep mom from renewing it. Times are those of
the monotonic clock, which all processes share, which never jumps, and which stands still while the host sleeps.
"""

from __future__ import annotations

import json
import logging
import os
import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from mom_core.errors import MomError
from mom_core.processes import OtherProcess, boot_id, start_ticks

LOG = logging.getLogger("mom.lease")

FILE: Final = "lease"

HALF: Final = 512
"""Bytes of each half: twice what they hold."""

ENDING_SECONDS: Final = 60.0
"""How long a mom that has let go of everything may take until its process has ended."""

_LARGEST_PID: Final = 1 << 31
"""What a pid_t holds."""

_LONGEST: Final = 1e15
"""Seconds: no clock shows that."""

READ_ATTEMPTS: Final = 5
"""A half that is read just while it is written fails its checksum; the next look sees it whole."""


class LeaseLost(MomError):
    """The lease was taken from this process: it must not change anything any more, and not put anything back either."""


@dataclass(frozen=True, slots=True)
class Term:
    """What mom says: who it is, when it has last completed a cycle, and until when the next one must be.

    `renewed`, `until` and `limit` are seconds of the monotonic clock, `lease` is how long a mom that has died may stay away. `limit`: when
    it is over at the latest, however many successors began and never completed a cycle. `kept`: it ended on purpose, and left what it has
    changed to its successor. `ended`: there is nothing to watch over any more.
    """

    pid: int
    start: int
    boot: str
    renewed: float
    until: float
    limit: float
    lease: float
    kept: bool = False
    ended: bool = False

    @property
    def holder(self) -> tuple[int, int, str]:
        """One process, for good."""
        return self.pid, self.start, self.boot

    @property
    def makes_sense(self) -> bool:
        """Whether all is of the type that it should be: what was read may be anything."""
        times = (self.renewed, self.until, self.limit, self.lease)
        return (
            type(self.pid) is type(self.start) is int
            and 0 < self.pid < _LARGEST_PID
            and type(self.boot) is str
            and all(type(time) in {int, float} and abs(time) < _LONGEST for time in times)
            and type(self.kept) is type(self.ended) is bool
        )


class LeaseFile:
    """Reads and writes the two halves."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE

    def term(self) -> Term | None:
        """What mom says; None when there is no lease, or nothing that could be understood."""
        content = self._read(0)
        try:
            term = None if content is None else Term(**content)
        except TypeError:  # another version's
            return None
        return term if term is not None and term.makes_sense else None

    def taken_from(self) -> tuple[int, int, str] | None:
        """From which process the lease was taken; None when from nobody."""
        content = self._read(HALF)
        try:
            pid, start, boot = (None, None, None) if content is None else (content["pid"], content["start"], content["boot"])
        except KeyError:
            return None
        return (pid, start, boot) if type(pid) is int and type(start) is int and type(boot) is str else None

    def write_term(self, term: Term) -> None:
        """mom's half. Raises `OSError`."""
        self._write(0, asdict(term))

    def write_taken(self, term: Term) -> None:
        """The guardian's half: the lease of this process is taken. Raises `OSError`."""
        self._write(HALF, {"pid": term.pid, "start": term.start, "boot": term.boot})

    def _read(self, offset: int) -> dict[str, Any] | None:
        for _ in range(READ_ATTEMPTS):
            try:
                descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except OSError:
                return None
            try:
                text = os.pread(descriptor, HALF, offset).strip(b" \n\0")
            except OSError:
                return None
            finally:
                os.close(descriptor)
            if not text:
                return None
            with suppress(ValueError, RecursionError):
                checksum, body = text.split(b" ", 1)
                if int(checksum, 16) == zlib.crc32(body) and isinstance(content := json.loads(body), dict):
                    return content
        return None

    def _write(self, offset: int, content: Mapping[str, object]) -> None:
        body = json.dumps(content, separators=(",", ":")).encode()
        text = b"%08x %s" % (zlib.crc32(body), body)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.pwrite(descriptor, text.ljust(HALF - 1) + b"\n", offset)
        finally:
            os.close(descriptor)


class Lease:
    """mom's side. Everything here happens while mom holds its lock, so there is one writer.

    :param directory: the run directory
    """

    def __init__(self, directory: Path, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.file = LeaseFile(directory)
        self._monotonic = monotonic
        self._boot = boot_id()
        self._term: Term | None = None

    def begin(self, seconds: float, patience: float) -> None:
        """Begin a lease, or take over the one of a predecessor that died or kept its changes: its time runs on until a cycle is completed.

        :param seconds: the lease; 0: none
        :param patience: how long until the next cycle is completed at the latest, if nothing is wrong; seconds
        """
        now = self._monotonic()
        before = self.file.term()
        renewed, until, limit = now, now + max(patience, seconds), now + 2 * max(patience, seconds)
        if before is not None and before.boot == self._boot and not before.ended and before.renewed <= now < before.limit:
            renewed, until, limit = before.renewed, max(before.until, min(until, before.limit)), before.limit
        self._write(Term(os.getpid(), start_ticks(os.getpid()), self._boot, renewed, until, limit, seconds, ended=seconds <= 0))

    def renew(self, seconds: float, patience: float) -> None:
        """A cycle is completed; as for `begin`. A disk that does not take it changes nothing: the guardian sees a lease that runs out."""
        if self._term is None or (seconds <= 0 and self._term.ended):
            return
        now, longest = self._monotonic(), max(patience, seconds)
        self._write(replace(self._term, renewed=now, until=now + longest, limit=now + 2 * longest, lease=seconds, ended=seconds <= 0))

    def check(self) -> None:
        """Raises `LeaseLost` when this process must not change anything any more. Costs some ten microseconds."""
        if self._term is None:
            return
        if self.file.taken_from() == self._term.holder:
            self._term = None
            raise LeaseLost("the lease was taken: mom stood still for too long, and what it had changed is put back by the guardian")
        there = self.file.term()
        if there is not None and there.holder != self._term.holder:
            self._term = None
            raise LeaseLost(f"process {there.pid} holds the lease: another mom manages this host")

    def end(self, *, left: bool, kept: bool) -> None:
        """mom ends.

        :param left: something it has changed is not back
        :param kept: on purpose, for a successor
        """
        if self._term is None or self._term.ended:
            return
        now = self._monotonic()
        if not left:
            self._write(replace(self._term, ended=True))
        elif kept:
            self._write(replace(self._term, renewed=now, until=now + self._term.lease, limit=now + 2 * self._term.lease, kept=True))
        else:
            self._write(replace(self._term, renewed=now, until=now + ENDING_SECONDS, lease=0.0))
        self._term = None

    def _write(self, term: Term) -> None:
        self._term = term
        try:
            self.file.write_term(term)
        except OSError as error:
            LOG.error("cannot write %s: %s", self.file.path, error.strerror)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be done about a lease: nothing before `wait` seconds have gone, or put back now (`over`), for this reason."""

    over: bool
    wait: float = 0.0
    reason: str = ""


def judge(term: Term, *, alive: bool, dead_since: float, now: float, boot: str) -> Verdict:
    """Whether a lease is over.

    A mom that lives has until its next cycle is due, and the lease beyond that. One that died has the lease from then on; one that was
    to be followed, from its end on. Never longer than `limit`, so that moms that die before their first cycle do not go on for ever.
    """
    if term.boot != boot:
        return Verdict(True, reason="the host was started anew since")
    if alive:
        due = term.until
        reason = f"mom (process {term.pid}) has not completed a cycle for {now - term.renewed:.0f} s"
    elif term.kept:
        due = term.until
        reason = f"no other mom has come within {term.lease:g} s"
    else:
        due = min(dead_since + term.lease, term.limit)
        reason = f"mom (process {term.pid}) died, and no other has come within {now - dead_since:.0f} s"
    return Verdict(True, reason=reason) if now >= due else Verdict(False, wait=due - now)


def process_of(term: Term) -> OtherProcess:
    """The process that holds the lease."""
    return OtherProcess(term.pid, term.start)
