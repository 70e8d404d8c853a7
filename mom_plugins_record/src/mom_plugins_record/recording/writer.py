"""Writer of a recording: files in a folder, limited by age and size."""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mom_core import MomError, Report, Value, format_kib
from mom_plugins_record.recording.cycles import RecordedSession, cycle_line, session_line
from mom_plugins_record.recording.groups import LARGEST_LINE, MARK, SUFFIX, TOO_LARGE, GroupPacker, checksum

GROUP = 30
"""Cycles in a group: 2.5 minutes at an interval of 5 s."""

SESSION_EVERY = 20
"""Of this many groups (50 minutes at an interval of 5 s), the first two contain the session: one damaged place does not make a file
useless."""

FILES = 8
"""Number of files that share the allowed size. mom frees space one file at a time."""

LARGEST_FILE = 128 << 20
"""Largest file in bytes: a person can still copy and send it."""

LONGEST_FILE_SECONDS = 86_400.0
"""Seconds that one file covers at most: a day, so that `keep` is exact to the day."""

MOST_FORGOTTEN = 3
"""mom deletes at most this many files for their age when it begins a new file. With a wrong clock, mom must not delete all files."""

_NAME = re.compile(r"([0-9]{6,})-([0-9]{8}T[0-9]{6}Z)\.momrec")
_LOCK = ".lock"
_STAMP = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, slots=True)
class RecordingLimits:
    """Limits of a recording: age in seconds, size of all files in bytes, and bytes to leave free on the disk."""

    keep: float
    size: int
    reserve: int = 0


class RecordingFull(MomError):
    """Error: mom cannot write the recording, such as on a full disk."""


def files_of(folder: Path) -> list[Path]:
    """Return a recording's files, oldest first, sorted by number because clocks jump."""
    numbered = [(int(match[1]), path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(numbered)]


def start_of(path: Path) -> datetime | None:
    """Return the time in a file's name; None for other names."""
    match = _NAME.fullmatch(path.name)
    try:
        return None if match is None else datetime.strptime(match[2], _STAMP).replace(tzinfo=UTC)
    except ValueError:
        return None


class RecordingWriter:
    """Writer that appends cycles to the files in a folder. Each cycle has reached the kernel when `cycle` returns."""

    def __init__(
        self, folder: Path, limits: RecordingLimits, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.folder = folder
        self._limits = limits
        self._wall = wall
        self._monotonic = monotonic
        self._session = b""
        self._lock: int | None = None
        self._file: int | None = None
        self._path = folder
        self._size = 0
        self._began = 0.0
        self._packer: GroupPacker | None = None
        self._in_group = 0
        self._groups = 0
        self._cycles = 0

    def open(self) -> None:
        """Create the folder. Raise `RecordingFull` on failure."""
        try:
            self.folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        except OSError as error:
            raise _write_error(self.folder, error) from error

    def session(self, session: RecordedSession) -> None:
        """Set the session of the next cycles."""
        line = session_line(session)
        if line != self._session:
            self._session = line
            self._in_group, self._groups = GROUP, 0

    def cycle(self, report: Report, memory: Callable[[], Value] | None = None) -> None:
        """Append a cycle. On failure, raise `RecordingFull`, and leave the file unchanged.

        :param memory: returns the values that policies remember; called once for each group
        """
        self._check_space()
        if self._file is None or self._is_long() or self._is_away():
            self._next_file()
        # Everything that may fail comes before the present group ends.
        begins = self._packer is None or self._in_group >= GROUP
        lines = [self._session] if begins and self._groups % SESSION_EVERY in {0, 1} else []
        remembered = memory() if memory is not None and begins else None
        lines.append(cycle_line(report, checksum(self._session), self._cycles, remembered))
        if max(map(len, lines)) > LARGEST_LINE:
            raise RecordingFull(f"nothing is recorded: a cycle is {TOO_LARGE}", hint="enable fewer plugins that collect fields of guests")
        packer, head = self._packer, b""
        if packer is None or begins:
            self._packer = None  # end the group only once, even if the write fails
            head = (b"" if packer is None else packer.end()) + MARK
            packer = GroupPacker()
        self._append(head + b"".join(map(packer.line, lines)))
        self._packer = packer
        self._in_group = 1 if begins else self._in_group + 1
        self._groups += begins
        self._cycles += 1

    def close(self) -> None:
        """Close the file, and unlock the folder."""
        if self._packer is not None:
            with suppress(RecordingFull):
                self._append(self._packer.end())
        self._close_file()
        lock, self._lock = self._lock, None
        if lock is not None:
            _close_quietly(lock)

    def _close_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            _close_quietly(file)
            if not self._size:
                with suppress(OSError):
                    self._path.unlink(missing_ok=True)  # otherwise each attempt would leave an empty file
        self._packer = None

    def _append(self, content: bytes) -> None:
        file = self._file
        if file is None:
            raise RecordingFull(f"{self.folder} has no open file")
        remaining = memoryview(content)
        try:
            while remaining:
                remaining = remaining[os.write(file, remaining) :]
        except OSError as error:
            # Undo a partial write.
            with suppress(OSError):
                os.ftruncate(file, self._size)
            self._close_file()
            raise _write_error(self._path, error) from error
        self._size += len(content)

    def _is_long(self) -> bool:
        largest, longest = min(self._limits.size // FILES, LARGEST_FILE), min(LONGEST_FILE_SECONDS, self._limits.keep)
        return self._size >= largest or self._monotonic() - self._began >= longest

    def _is_away(self) -> bool:
        # An NFS server may have lost the file.
        try:
            return self._file is not None and os.fstat(self._file).st_nlink == 0
        except OSError:
            return True

    def _next_file(self) -> None:
        self.close()
        try:
            self.open()
            self._lock_folder()
            older = files_of(self.folder)
            last = _NAME.fullmatch(older[-1].name) if older else None
            stamp = time.strftime(_STAMP, time.gmtime(max(0.0, self._wall())))
            self._path = self.folder / f"{int(last[1]) + 1 if last else 1:06d}-{stamp}{SUFFIX}"
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise _write_error(self.folder, error) from error
        self._size, self._groups, self._cycles, self._began = 0, 0, 0, self._monotonic()
        self._forget(older)

    def _lock_folder(self) -> None:
        # Other users must not open this file: they could lock it.
        self._lock = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RecordingFull(f"nothing is recorded: another mom records in {self.folder}", hint="set another `path`") from error

    def _forget(self, older: list[Path]) -> None:
        files = list(_statuses(older))
        room = self._limits.size - self._limits.size // FILES
        total = sum(status.st_size for _, status in files)
        by_age = MOST_FORGOTTEN
        for path, status in files:
            fits = total <= room
            if fits and (not by_age or status.st_mtime >= self._wall() - self._limits.keep):
                break
            total -= status.st_size
            with suppress(OSError):
                path.unlink(missing_ok=True)
                by_age -= fits

    def _check_space(self) -> None:
        if (full := lack_of_room(self.folder, self._limits.reserve)) is not None:
            self.close()
            raise full


def _close_quietly(file: int) -> None:
    with suppress(OSError):
        os.close(file)


def lack_of_room(folder: Path, reserve: int) -> RecordingFull | None:
    """Return an error if fewer than `reserve` bytes are free on the disk; otherwise None, also if the free space is unknown."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return None  # an open file still works; opening a new one reports the error
    free = disk.f_bavail * disk.f_frsize
    if free >= reserve:
        return None
    return RecordingFull(
        f"nothing is recorded: only {format_kib(free / 1024)} are free on the disk of {folder}",
        hint=f"free space, or set `reserve` to less than {format_kib(reserve / 1024)}",
    )


def _statuses(paths: Iterable[Path]) -> Iterator[tuple[Path, os.stat_result]]:
    for path in paths:
        with suppress(OSError):
            yield path, path.stat()


def _write_error(path: Path, error: OSError) -> RecordingFull:
    return RecordingFull(f"nothing is recorded: {path}: {error.strerror}", hint="free space, or change `path`")
