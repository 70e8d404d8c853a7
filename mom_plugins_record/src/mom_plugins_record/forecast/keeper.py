"""Keeps what is learned in files, beside the cycles: what is to be written is made of a few guests in each of them, and written by a thread
of its own, as a disk may take its time. Until it is made of all, it is on the disk, too, as it is megabytes. A file is whole, or as it was
before."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from mom_core import PluginContext, StateError, StateFile
from mom_kvm import Callers
from mom_plugins_record.forecast.host_days import HostDays
from mom_plugins_record.forecast.kept import KINDS, KeptKind

LOOKS_EVERY: Final = 60.0
"""Seconds. So often it is looked whether `mom forecast learn` has learned something."""

PATIENCE: Final = 5.0
"""Seconds that the end waits for a disk, at most. A mom that stops waits for less."""

TEXTS: Final = 32
"""Guests whose texts are handed to the thread together."""

OTHER_CALENDAR: Final = "it is of days, or weeks, of another length than the settings say"


class _Kept(NamedTuple):
    """Kind, and its file."""

    kind: KeptKind[Any]
    file: StateFile[Any]


class _Texts:
    """What is kept of each guest, in a file beside the one that holds it all at last. For the thread that writes."""

    def __init__(self, beside: Path) -> None:
        self._path = beside.with_name(f".{beside.name}.guests")
        self._error: OSError | None = None
        self._begun = False

    def add(self, texts: Iterable[str]) -> None:
        """Add these; what goes wrong is said by `read`."""
        text = ",".join(filter(None, texts))
        if self._error is not None or not text:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
            with open(self._path, "a" if self._begun else "w", encoding="utf-8", opener=_for_its_owner) as file:
                file.write(f",{text}" if self._begun else text)
            self._begun = True
        except OSError as error:
            self._error = error

    def read(self) -> str:
        """Return all of them. Raises `OSError`."""
        if self._error is not None:
            raise self._error
        return self._path.read_text(encoding="utf-8") if self._begun else ""

    def remove(self) -> None:
        """Leave nothing."""
        with suppress(OSError):  # the next ones take its place
            self._path.unlink(missing_ok=True)


def _for_its_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


_Version = tuple[int, int]
"""Which file one is: its inode, and when it was written."""

_Found = tuple[_Kept, _Version, Any]
"""A file that another has left, which one it is, and what is in it; None: nothing that can be used."""


class DaysKeeper:
    """Files of one mom's days. For one thread."""

    def __init__(self, context: PluginContext, days: HostDays) -> None:
        self._context = context
        self._calendar = days.calendar
        self._files = [_Kept(kind, context.state_file(kind.file, kind.what, kind.form, loss=kind.loss)) for kind in KINDS]
        what, loss = "what `mom forecast learn` has learned, in", "it is not used"
        self._learned = [_Kept(kind, context.state_file(kind.learned, what, kind.form, loss=loss)) for kind in KINDS]
        self._callers = Callers("mom forecast files", 1)
        self._round: Iterator[None] | None = None
        self._writes: list[Future[None]] = []
        self._reads: Future[Sequence[_Found]] | None = None
        self._taken: dict[Path, _Version] = {}
        """Which files all is known of: those that were taken in, and those that were written here."""
        self._looked = context.monotonic()
        for kept in self._files:
            version = _version(kept.file.path)
            if (content := self._usable(kept)) is not None:
                kept.kind.merge(kept.kind.part(days), content)
            if version is not None:
                self._taken[kept.file.path] = version
        self._take_in(days, self._read(self._left(self._learned)))
        days.know_of_past()

    def go_on(self, days: HostDays, time: float, *, due: bool) -> None:
        """Do the part of one cycle.

        :param time: seconds since the epoch
        :param due: all is to be written, unless that is under way
        """
        reads = self._reads
        if reads is not None and reads.done():
            self._reads = None
            self._take_in(days, reads.result())
            days.forget(time)
        elif reads is None:
            # The plugin of before a reload writes when it ends, which is after this one has read.
            is_written = self._round is None and all(one.done() for one in self._writes)
            left = [*self._left(self._files)] if is_written else []
            if self._context.monotonic() - self._looked >= LOOKS_EVERY:
                self._looked = self._context.monotonic()
                left += self._left(self._learned)
            if left:
                self._reads = self._callers.start(partial(self._read, left))
        if due:
            days.forget(time)
        if due and self._round is None and all(one.done() for one in self._writes):
            self._round = self._made(days)
        for _ in range(max(1, days.within_a_slot(len(days.known)))):
            if self._round is not None and next(self._round, self) is self:
                self._round = None

    def close(self, days: HostDays | None) -> None:
        """Write all that was learned, None: nothing, and end the thread."""
        self._round = None
        if days is not None:
            with suppress(StateError):  # as too many files are open: what is known here is written all the same
                self._take_in(days, self._read(self._left(self._files)))
            for _ in self._made(days):
                pass
        if self._writes and not Callers.came_back(self._writes[-1], PATIENCE):
            self._context.log.error("what was learned is not written: the disk does not answer")
        self._callers.close(0.0)

    # --- write -------------------------------------------------------------------------------------------------------------------

    def _made(self, days: HostDays) -> Iterator[None]:
        """Make the files' texts, and have them written. Between two guests, other cycles may come."""
        self._writes = []
        days.past.keep_only(days.known)
        kept_ids = days.to_keep()
        for kept in self._files:
            content, texts, made = kept.kind.part(days), _Texts(kept.file.path), list[str]()
            for identity in kept_ids:
                made.append(kept.kind.guest_text(content, identity))
                if len(made) >= TEXTS:
                    self._callers.start(partial(texts.add, made))
                    made = []
                yield
            self._callers.start(partial(texts.add, made))
            self._writes.append(self._callers.start(partial(self._write, kept, kept.kind.head_text(content), texts)))
        self._writes.append(self._callers.start(self._remove_taken))

    def _write(self, kept: _Kept, head: str, texts: _Texts) -> None:
        with suppress(StateError):  # the file says it, in each cycle
            kept.file.write_json(lambda: kept.kind.text(head, [texts.read()]))
            if (version := _version(kept.file.path)) is not None:
                self._taken[kept.file.path] = version
        texts.remove()

    # --- what others have left: `mom forecast learn`, and the plugin of before a reload --------------------------------------------

    def _left(self, files: Sequence[_Kept]) -> Sequence[tuple[_Kept, _Version]]:
        """Return those of these files that others have left, but for those that were taken in already, and which they are."""
        versions = [(kept, _version(kept.file.path)) for kept in files]
        return [(kept, version) for kept, version in versions if version is not None and version != self._taken.get(kept.file.path)]

    def _read(self, left: Sequence[tuple[_Kept, _Version]]) -> Sequence[_Found]:
        return [(kept, version, self._usable(kept)) for kept, version in left]

    def _usable(self, kept: _Kept) -> Any:
        """What is in a file; None: nothing, or nothing that can be used, and then it is set aside."""
        content = kept.file.read()
        if content is None or content.calendar.same_as(self._calendar):
            return content
        kept.file.refuse(OTHER_CALENDAR)
        return None

    def _take_in(self, days: HostDays, found: Sequence[_Found]) -> None:
        for kept, version, content in found:
            if content is None:
                if kept in self._files:  # one that can neither be used nor set aside is not looked at again
                    self._taken[kept.file.path] = version
                continue
            count = kept.kind.merge(kept.kind.part(days), content)
            self._context.log.info("took in the days of %d guests of %s", count, kept.file.path)
            self._taken[kept.file.path] = version
            self._round = self._made(days)

    def _remove_taken(self) -> None:
        """Remove what was taken in, once it stands in the other files. What was learned anew meanwhile is another file by now."""
        if any(kept.file.write_error for kept in self._files):
            return
        for kept in self._learned:
            version = self._taken.get(kept.file.path)
            if version is not None and version == _version(kept.file.path):
                with suppress(StateError):  # the file says what is wrong
                    kept.file.remove()


def _version(path: Path) -> _Version | None:
    """Return which file this is, and when it was written; None: there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns
