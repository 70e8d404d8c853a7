"""What stood there before the engine had something written, so that it can be put back, whatever becomes of the engine or of this program.

There is a file for each that was written: first it is noted what is about to be overwritten, and only then that is done. They outlive
every process, and are in memory: with the kernel, all that was written goes, too.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Final

from mom_helper.kernel import FOLDER, opened
from mom_helper.orders import NO_LIMIT

_LONGEST_WRITE_SECONDS: Final = 0.1
"""For what the kernel reclaims at once for a new limit. A signal ends that, and the limit holds all the same (mm/memcontrol.c)."""

UNCERTAIN: Final = "?"

_TIDY_WRITES: Final = 1000
"""After how many writes files of groups that are gone are removed."""


class Before:
    """These files: what stood there, what was written last (or that this is not certain: then whatever stands there is taken for it), and
    where. Each is about a file of the kernel with a whole number, or `max`, in it: a knob, or of a control group.

    :param folder: of root alone, and of this boot
    """

    def __init__(self, folder: str) -> None:
        os.makedirs(folder, 0o700, exist_ok=True)  # noqa: PTH103  # pathlib takes a megabyte
        self._folder, self._writes = folder, 0

    def write(self, path: str, folder: int | None, value: int, *, allowed: bool) -> int | None:
        """Write a value, and remember what stood there: that is returned. Raises `OSError`: nothing is done that cannot be remembered.

        :param folder: a descriptor of the control group's folder that the file is in; None: it is a knob
        :param allowed: whether root lets this value be written; what stood there before may be written again in any case
        """
        name, key = _place(path, folder)
        with opened(name, os.O_RDWR, folder) as file, self._noted(key) as note:
            stood, (known, wrote, _) = _read(file), _read_note(note)
            if not allowed and known != str(value):
                raise OSError(errno.ERANGE, "root does not let it be that")
            if stood is None:
                _write(file, value, of_group=folder is not None)
                return stood
            if stood == value:
                if wrote == UNCERTAIN:
                    _write_note(note, int(known), str(stood), path)
                return stood
            # What somebody else has set since is what stood there before, from now on.
            before = int(known) if wrote in {UNCERTAIN, str(stood)} else stood
            _write_note(note, before, UNCERTAIN, path)
            try:
                _write(file, value, of_group=folder is not None)
            finally:
                with suppress(OSError):  # then it is not certain what stands there
                    _write_note(note, before, str(_read(file)), path)
        self._writes += 1
        if self._writes % _TIDY_WRITES == 0:
            self.put_back(lambda _: None, only_tidy=True)
        return stood

    def take_over(self, path: str, before: int) -> None:
        """Remember what stood in a knob before a mom that was root set what stands now; what is noted already counts. Raises `OSError`."""
        with opened(path) as file, self._noted(_place(path, None)[1]) as note:
            stands = _read(file)
            if not os.fstat(note).st_size and before != stands:
                _write_note(note, before, str(stands), path)

    def put_back(self, log: Callable[[str], None], *, only_tidy: bool = False) -> tuple[int, int]:
        """Put back all that was written and nobody else has set since: how many values were, and how many could not be.

        :param only_tidy: forget what is gone, and put back nothing
        """
        done = failed = 0
        for key in os.listdir(self._folder):  # noqa: PTH208  # as above
            try:
                with self._noted(key) as note:
                    again, why_not = _put_one_back(key, note, only_tidy=only_tidy)
            except OSError as error:  # of the note: it keeps no other one from being put back
                again, why_not = "", f"what is noted in {self._folder}/{key} cannot be read: {error}"
            done, failed = done + bool(again), failed + bool(why_not)
            if again or why_not:
                log(again or why_not)
        return done, failed

    @contextmanager
    def _noted(self, key: str) -> Iterator[int]:
        """The file of one, for one process at a time. It goes where nothing is left in it."""
        path = f"{self._folder}/{key}"
        while True:
            with opened(path, os.O_RDWR | os.O_CREAT) as note:
                fcntl.flock(note, fcntl.LOCK_EX)
                if os.fstat(note).st_nlink:  # else it went, while this waited
                    try:
                        yield note
                    finally:
                        if not os.fstat(note).st_size:
                            os.unlink(path)  # noqa: PTH108  # as above
                    return


def _place(path: str, folder: int | None) -> tuple[str, str]:
    """The file's name, below the folder's descriptor where there is one, and that of what is noted of it."""
    name = path.rpartition("/")[2]
    # A group of the same name may be a later guest's; the kernel never gives the inode to another one.
    return (path, path.replace("/", "!")) if folder is None else (name, f"{os.fstat(folder).st_ino}!{name}")


def _put_one_back(key: str, note: int, *, only_tidy: bool) -> tuple[str, str]:
    """Put back what is noted there, unless somebody else has set it since, and end the note: what was done, or why it cannot be."""
    before, wrote, path = _read_note(note)
    again = ""
    try:
        with nullcontext() if key.startswith("!") else opened(path.rpartition("/")[0], FOLDER) as folder:
            name, its_key = _place(path, folder)
            if its_key != key:
                raise FileNotFoundError(errno.ENOENT, "another group has that name now")
            with opened(name, os.O_RDWR, folder) as file:
                stands = _read(file)
                if before != str(stands) and wrote in {UNCERTAIN, str(stands)}:
                    if only_tidy:
                        return "", ""
                    _write(file, int(before), of_group=folder is not None)
                    again = f"{path}: {before} again"
    except FileNotFoundError:
        pass  # the guest has gone
    except (OSError, ValueError) as error:
        return "", f"{path} cannot be {before} again: {error}"
    os.ftruncate(note, 0)
    return again, ""


def _read(file: int) -> int | None:
    """What stands there; None where nothing does, as it only acts when it is written to. Raises `OSError`: EINVAL where it is no whole
    number."""
    text = os.pread(file, 100, 0).strip()
    try:
        return NO_LIMIT if text == b"max" else int(text) if text else None
    except ValueError:
        raise OSError(errno.EINVAL, "there is no whole number in it") from None


def _write(file: int, value: int, *, of_group: bool) -> None:
    """Once, as it was opened. Raises `OSError`."""
    limit = _LONGEST_WRITE_SECONDS if of_group else 0
    signal.setitimer(signal.ITIMER_REAL, limit, limit)
    try:
        written = os.pwrite(file, b"max" if of_group and value == NO_LIMIT else b"%d" % value, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    os.ftruncate(file, written)  # where the tree is a folder of plain files


def _read_note(note: int) -> tuple[str, str, str]:
    """What stood there, what was written, and where; empty where nothing is noted."""
    text = os.pread(note, 1 << 13, 0).decode(errors="surrogateescape")
    return text[:20].strip(), text[21:41].strip(), text[42:]


def _write_note(note: int, before: int, wrote: str, path: str) -> None:
    """It is as long each time: what stood there is never half written."""
    content = f"{before:<20} {wrote:<20} {path}".encode(errors="surrogateescape")
    if os.pwrite(note, content, 0) != len(content):
        raise OSError(errno.ENOSPC, "there is no room to remember what stood there")
