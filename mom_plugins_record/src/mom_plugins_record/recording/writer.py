"""Writes a recording: files in a folder, each begun with what does not change, kept within an age and a size."""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mom_core import MomError, Report, Value, format_kib
from mom_plugins_record.recording.cycles import NO_KEY, Key, Reasons, write_cycle
from mom_plugins_record.recording.frames import LARGEST_BODY, START, Dictionary, FrameKind, pack
from mom_plugins_record.recording.json_text import json_bytes

SUFFIX = ".momrec"

MINUTES = "minutes"
"""The folder, in a recording's own, with a recording of one cycle a minute."""

KEY_EVERY = 30
"""Cycles from one key frame to the next: two and a half minutes at five seconds. A key is seven times as large as another cycle, and
what is damaged in it takes the cycles after it along."""

SESSION_EVERY = 20
"""Key frames from one copy of what does not change to the next, 50 minutes at five seconds: a hundredth of what 100 guests write. The
first copy follows the first key frame, so that no damaged place makes a file worthless."""

FILES = 8
"""Into how many files the allowed size is divided, as it is given back a file at a time."""

LARGEST_FILE = 128 << 20
"""Bytes of one file at most, however much is allowed: what a person can copy and send."""

LONGEST_FILE_SECONDS = 86_400.0
"""A day, so that `keep` is kept to the day."""

_NAME = re.compile(r"([0-9]{6,})-([0-9]{8}T[0-9]{6}Z)\.momrec")
_LOCK = ".lock"
_STAMP = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, slots=True)
class RecordingLimits:
    """How much may be kept: seconds, and bytes of all files together. `reserve` is what must stay free on the disk, in bytes."""

    keep: float
    size: int
    reserve: int = 0


class RecordingFull(MomError):
    """Nothing can be written now: the disk is full, or the folder refuses."""


def files_of(folder: Path) -> list[Path]:
    """A recording's files, oldest first: by their number, as clocks jump."""
    numbered = [(int(match[1]), path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(numbered)]


def begun(path: Path) -> datetime | None:
    """When a file of a recording was begun, by its name; None if that is another one."""
    match = _NAME.fullmatch(path.name)
    try:
        return None if match is None else datetime.strptime(match[2], _STAMP).replace(tzinfo=UTC)
    except ValueError:
        return None


class RecordingWriter:
    """Appends cycles to a folder's recording. Each is handed to the kernel before `cycle` returns, so a killed process loses none of them.

    :param wall: seconds since the epoch, for names and ages
    :param monotonic: seconds that never jump, for the length of a file
    """

    def __init__(
        self,
        folder: Path,
        limits: RecordingLimits,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = folder
        self.written = 0
        """Bytes, since this was made."""
        self._limits = limits
        self._wall = wall
        self._monotonic = monotonic
        self._session = b""
        self._session_number = 0
        self._lock: int | None = None
        self._file: int | None = None
        self._path = folder
        self._size = 0
        self._began = 0.0
        self._number = 0
        self._key: Key | None = None
        self._key_number = 0
        self._since_key = 0
        self._keys = 0

    def open(self) -> None:
        """Make the folder. Raises `RecordingFull` when that cannot be."""
        try:
            self.folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        except OSError as error:
            raise _refused(self.folder, error) from error

    def session(self, content: Mapping[str, Value]) -> None:
        """From now on, this is so: written before the next cycle unless it is the same as before."""
        packed = json_bytes(content)
        if packed != self._session:
            self._session = packed
            self._key = None
            if self._file is not None:
                self._begin_session()

    def cycle(self, report: Report, memory: Callable[[], Value] | None = None, reasons: Reasons | None = None) -> None:
        """Append a cycle with its reasons, and with a key frame what policies remember after it. Raises `RecordingFull`, and leaves the
        file as it was.
        """
        self._check_space()
        if self._file is None or self._is_long() or self._is_away():
            self._next_file()
        key = self._key
        if key is None or self._since_key >= KEY_EVERY:
            body, key = write_cycle(report, NO_KEY, reasons)
            self._append(FrameKind.KEY, self._session_number, body)
            self._key, self._key_number, self._since_key = key, self._number - 1, 1
            if memory is not None:
                self._append(FrameKind.MEMORY, self._number, json_bytes(memory()))
            if self._keys % SESSION_EVERY == 0:
                self._append(FrameKind.SESSION, self._session_number, self._session)
            self._keys += 1
        else:
            body, _ = write_cycle(report, key, reasons)
            self._append(FrameKind.CYCLE, self._key_number, body, key.dictionary)
            self._since_key += 1

    def close(self) -> None:
        """Let the file and the folder go."""
        self._close_file()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # --- the file ------------------------------------------------------------------------------------------------------------------

    def _close_file(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
        self._key = None

    def _begin_session(self) -> None:
        self._session_number, self._keys = self._number, 0
        self._append(FrameKind.SESSION, self._session_number, self._session)

    def _append(self, kind: FrameKind, key: int, body: bytes, dictionary: Dictionary | None = None) -> None:
        file = self._file
        if file is None:
            raise RecordingFull(f"{self.folder} has no file that could be written to")
        if len(body) > LARGEST_BODY:
            raise RecordingFull(
                f"nothing is recorded: a record of {format_kib(len(body) / 1024)} is larger than {format_kib(LARGEST_BODY / 1024)}"
            )
        frame = memoryview(pack(kind, self._number, key, body, dictionary))
        done = 0
        try:
            while done < len(frame):
                done += os.write(file, frame[done:])
        except OSError as error:
            # The frame may be half there: what is sound ends before it.
            with suppress(OSError):
                os.ftruncate(file, self._size)
            self._close_file()
            raise _refused(self._path, error) from error
        self._number += 1
        self._size += done
        self.written += done

    def _is_long(self) -> bool:
        return self._size >= min(self._limits.size // FILES, LARGEST_FILE) or self._monotonic() - self._began >= min(
            LONGEST_FILE_SECONDS, self._limits.keep
        )

    def _is_away(self) -> bool:
        """Whether the file was deleted."""
        return self._file is not None and os.fstat(self._file).st_nlink == 0

    def _next_file(self) -> None:
        self._close_file()
        path = None
        try:
            self.open()
            self._lock_folder()
            there = files_of(self.folder)
            last = _NAME.fullmatch(there[-1].name) if there else None
            stamp = time.strftime(_STAMP, time.gmtime(max(0.0, self._wall())))
            path = self.folder / f"{int(last[1]) + 1 if last else 1:06d}-{stamp}{SUFFIX}"
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o640)
            self._path, self._size, self._number, self._began = path, 0, 0, self._monotonic()
            self._size = os.write(self._file, START)
            self._begin_session()
        except (OSError, RecordingFull) as error:
            self._close_file()
            if path is not None:
                path.unlink(missing_ok=True)  # each attempt would leave one behind
            raise error if isinstance(error, RecordingFull) else _refused(self.folder, error) from error
        self._forget(there)

    def _lock_folder(self) -> None:
        """Two that write into one folder would delete each other's files. The lock goes with the process."""
        if self._lock is not None:
            os.close(self._lock)  # the folder may be another one now
        # A file that others cannot open, as the folder may be one that they can read: who can open it can lock it.
        self._lock = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RecordingFull(f"nothing is recorded: another mom records in {self.folder}", hint="give each its own path") from error

    def _forget(self, older: list[Path]) -> None:
        """Delete what is too old, and what is too much, oldest first."""
        sizes = {path: found for path in older if (found := _status(path)) is not None}
        room = self._limits.size - self._limits.size // FILES
        total = sum(found.st_size for found in sizes.values())
        for path, found in sizes.items():
            if total <= room and found.st_mtime >= self._wall() - self._limits.keep:
                break
            path.unlink(missing_ok=True)
            total -= found.st_size

    def _check_space(self) -> None:
        if not self._limits.reserve:
            return
        try:
            found = os.statvfs(self.folder)
        except OSError:
            return  # the file may be open still; if not, opening one will say what is wrong
        free = found.f_bavail * found.f_frsize
        if free < self._limits.reserve:
            self._close_file()
            raise RecordingFull(
                f"nothing is recorded: only {format_kib(free / 1024)} are free where {self.folder} is",
                hint=f"make room, or lower reserve, which is {format_kib(self._limits.reserve / 1024)}",
            )


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _refused(path: Path, error: OSError) -> RecordingFull:
    return RecordingFull(f"nothing is recorded: {path}: {error.strerror}", hint="make room or change the path")


def sizes_of(folder: Path) -> Iterator[tuple[Path, int]]:
    """A recording's files with their sizes in bytes."""
    minutes = folder / MINUTES
    for path in [*(files_of(minutes) if minutes.is_dir() else ()), *files_of(folder)]:
        found = _status(path)
        if found is not None:
            yield path, found.st_size
