"""Files of learned days: mom's own, and the result of `mom forecast learn`."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from mom_core import MomError, PluginContext, Snapshot, StateError, StateFile
from mom_kvm import Callers
from mom_plugins_record.forecast.host_days import HostDays
from mom_plugins_record.forecast.past import PastGuest, PastHost
from mom_plugins_record.forecast.slots import Calendar
from mom_plugins_record.forecast.state import content_of, days_from, head_of, kept_guest

FILE: Final = "days.json"
LEARNED: Final = "learned.json"
"""Result of `mom forecast learn`. The running mom merges and removes it."""

TITLE: Final = "the file of guests' days"
LOSS: Final = "mom learns guests' days again, and `mom advise --risk` has an answer again after two weeks"

LOOKS_EVERY: Final = 60.0
"""s between looks at the files."""

PATIENCE: Final = 5.0
"""s that a stop waits for the disk. A stopping mom waits less."""


def leave(folder: Path, days: HostDays) -> None:
    """Leave learned days for the mom with this state folder, merged with earlier days. Raise `MomError` on failure."""
    file = _at(folder / LEARNED)
    before = file.look()
    if before is not None and before.calendar == days.calendar:
        days.merge(before)
    file.write(content_of(days))


def days_in(path: Path, calendar: Calendar | None = None) -> HostDays:
    """Return the content of this file, or of a folder's files together. Raise `MomError` if it is unreadable.

    :param calendar: ignore days of other calendars; None for the first file's calendar
    """
    result: HostDays | None = None
    for file in (path / FILE, path / LEARNED) if _is_folder(path) else (path,):
        content = _at(file).look()
        if content is None or content.calendar != (calendar or content.calendar):
            continue
        if result is None:
            result, calendar = content, content.calendar
        else:
            result.merge(content)
    if result is None:
        hint = "the forecast plugin writes them every hour; `mom forecast learn RECORDING` learns them from a recording"
        raise MomError(f"there are no guests' days in {path} yet", hint=hint)
    return result


def _at(path: Path) -> StateFile[HostDays]:
    return StateFile(path, TITLE, days_from, loss=LOSS, sets_aside=False)


def _is_folder(path: Path) -> bool:
    with suppress(OSError):
        return path.is_dir()
    return False


def past_in(path: Path, calendar: Calendar | None = None) -> PastHost:
    """Return the past days of all guests in this file, or in a folder's files. Raise `MomError` if it is unreadable."""
    days = days_in(path, calendar)
    where = str(path / FILE if _is_folder(path) else path)
    pasts = [guest.past for guest in days.known.values() if guest.past.ordinals]
    guests = [PastGuest(past.sold[-1], past.days(), past.qemu_kib, past.vcpus) for past in pasts]
    return PastHost(where, days.host_name or path.parent.name, days.host_kib, days.promisable_kib, guests)


_Version = tuple[int, int]


class _LeftFile(NamedTuple):
    file: StateFile[HostDays]
    version: _Version
    content: HostDays | None = None


class DaysKeeper:
    """Files of a running mom's days. A separate thread reads and writes, because a disk may be slow."""

    def __init__(self, context: PluginContext, days: HostDays) -> None:
        self._context = context
        self._days = days
        self._file = context.state_file(FILE, TITLE, days_from, loss=LOSS)
        self._learned = context.state_file(LEARNED, "the result of `mom forecast learn`, in", days_from, loss="it is not used")
        self._callers = Callers("mom forecast files", 1)
        self._lock = threading.Lock()
        """For each guest's days, which the thread encodes one by one."""
        self._write: Future[None] | None = None
        self._reads: Future[Sequence[_LeftFile]] | None = None
        self._merged: dict[Path, _Version] = {}
        """Versions of files whose content is in the days."""
        self._looked = context.monotonic()
        self._due = False
        self._take_in(self._read(self._left([self._file, self._learned])))

    def see(self, snapshot: Snapshot, *, due: bool) -> None:
        """Learn from a cycle, and merge files that were read meanwhile.

        :param due: begin to write everything
        """
        with self._lock:
            self._days.see(snapshot)
            if self._reads is not None and self._reads.done():
                left, self._reads = self._reads.result(), None
                self._take_in(left)
                self._days.forget(snapshot.time)
            if due:
                self._days.forget(snapshot.time)
        self._due = self._due or due
        is_written = self._write is None or self._write.done()
        if is_written and self._due:
            self._due = is_written = False
            self._write = self._callers.start(self._save)
        if self._reads is None:
            # After a reload, the former plugin may write its file after this plugin has read it.
            files = [self._file] if is_written else []
            if self._context.monotonic() - self._looked >= LOOKS_EVERY:
                self._looked = self._context.monotonic()
                files.append(self._learned)
            if left := self._left(files):
                self._reads = self._callers.start(partial(self._read, left))

    def close(self, *, keep: bool) -> None:
        """End the thread.

        :param keep: write all learned days
        """
        if keep:
            with suppress(StateError):  # for example too many open files; mom's own days are written anyway
                self._take_in(self._read(self._left([self._file])))
            if not Callers.came_back(self._callers.start(self._save), PATIENCE):
                self._context.log.error("mom cannot save the learned days, because the disk does not respond")
        self._callers.close(0.0)

    def _save(self) -> None:
        days, texts, merged = self._days, list[str](), self._merged.get(self._learned.path)
        with self._lock:
            guests = days.to_keep()
        for guest in guests:
            with self._lock:
                texts.append(StateFile.as_json(kept_guest(guest)))
        with suppress(StateError):  # the files report the error in each cycle
            self._file.write_json(lambda: f'{StateFile.as_json(head_of(days))[:-1]},"guests":[{",".join(texts)}]}}')
            if (version := _version(self._file.path)) is not None:
                self._merged[self._file.path] = version
            if merged is not None and merged == _version(self._learned.path):
                self._learned.remove()

    def _left(self, files: Iterable[StateFile[HostDays]]) -> Sequence[_LeftFile]:
        versions = ((file, _version(file.path)) for file in files)
        return [_LeftFile(file, version) for file, version in versions if version not in (None, self._merged.get(file.path))]

    def _read(self, left: Sequence[_LeftFile]) -> Sequence[_LeftFile]:
        return [item._replace(content=self._usable(item.file)) for item in left]

    def _usable(self, file: StateFile[HostDays]) -> HostDays | None:
        content = file.read()
        if content is None or content.calendar == self._days.calendar:
            return content
        file.refuse("the length of its days or weeks differs from the settings")
        return None

    def _take_in(self, left: Sequence[_LeftFile]) -> None:
        for file, version, content in left:
            if content is not None:
                count = self._days.merge(content)
                self._context.log.info("merged the days of %d guests from %s", count, file.path)
            if content is not None or file is self._file:  # an unusable file that cannot be set aside is not read again
                self._merged[file.path] = version
            if content is not None and file is self._learned:
                self._due = True  # then the learned file can go


def _version(path: Path) -> _Version | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns
