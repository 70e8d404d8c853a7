"""Store of the original values of files that mom writes through the helper. They can be restored even after a crash."""

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
"""How long the kernel may reclaim memory during the write of a new limit. Then a signal ends the reclaim, but the limit stays in force
(mm/memcontrol.c)."""

UNCERTAIN: Final = "?"

_TIDY_WRITES: Final = 1000


class Before:
    """Notes with the original value, the last written value and the path of each file.

    If it is uncertain whether the last write took place, any current value counts as written by mom.

    :param folder: accessible only to root, and empty after a reboot
    """

    def __init__(self, folder: str) -> None:
        os.makedirs(folder, 0o700, exist_ok=True)
        self._folder, self._writes = folder, 0

    def write(self, path: str, folder: int | None, value: int, *, allowed: bool) -> int | None:
        """Save the current value, write a new one, and return the saved value. Raise `OSError` on failure.

        :param folder: descriptor of the control group's folder; None for a knob
        :param allowed: whether root permits the new value. The original value is always permitted
        """
        name, key = _place(path, folder)
        with opened(name, os.O_RDWR, folder) as file, self._noted(key) as note:
            previous, (original, wrote, _) = _read(file), _read_note(note)
            if not allowed and original != str(value):
                raise OSError(errno.ERANGE, "root has not declared this value")
            if previous is None:
                _write(file, value, of_group=folder is not None)
                return previous
            if previous == value:
                if wrote == UNCERTAIN:
                    _write_note(note, int(original), str(previous), path)
                return previous
            # Somebody else has set the current value, so it becomes the original value.
            before = int(original) if wrote in {UNCERTAIN, str(previous)} else previous
            _write_note(note, before, UNCERTAIN, path)
            try:
                _write(file, value, of_group=folder is not None)
            finally:
                with suppress(OSError):  # the current value stays uncertain
                    _write_note(note, before, str(_read(file)), path)
        self._writes += 1
        if self._writes % _TIDY_WRITES == 0:
            self.put_back(lambda _: None, only_tidy=True)
        return previous

    def put_back(self, log: Callable[[str], None], *, only_tidy: bool = False) -> tuple[int, int]:
        """Restore all values that nobody else has changed. Return how many were restored, and how many failed.

        :param only_tidy: only remove notes about control groups that no longer exist
        """
        restored = failed = 0
        for key in os.listdir(self._folder):
            try:
                with self._noted(key) as note:
                    again, why_not = _put_one_back(key, note, only_tidy=only_tidy)
            except OSError as error:  # a fault of this note; continue with the others
                again, why_not = "", f"the original value in {self._folder}/{key} cannot be read: {error}"
            restored, failed = restored + bool(again), failed + bool(why_not)
            if again or why_not:
                log(again or why_not)
        return restored, failed

    @contextmanager
    def _noted(self, key: str) -> Iterator[int]:
        # Lock a note; remove the note at the end if it is empty.
        path = f"{self._folder}/{key}"
        while True:
            with opened(path, os.O_RDWR | os.O_CREAT) as note:
                fcntl.flock(note, fcntl.LOCK_EX)
                if os.fstat(note).st_nlink:  # else another process has removed it
                    try:
                        yield note
                    finally:
                        if not os.fstat(note).st_size:
                            os.unlink(path)
                    return


def _place(path: str, folder: int | None) -> tuple[str, str]:
    # Return the name of the file for opening it, and the name of its note.
    name = path.rpartition("/")[2]
    # The control group of a later guest may have the same name, but its folder has another inode.
    return (path, path.replace("/", "!")) if folder is None else (name, f"{os.fstat(folder).st_ino}!{name}")


def _put_one_back(key: str, note: int, *, only_tidy: bool) -> tuple[str, str]:
    before, wrote, path = _read_note(note)
    again = ""
    try:
        with nullcontext() if key.startswith("!") else opened(path.rpartition("/")[0], FOLDER) as folder:
            name, its_key = _place(path, folder)
            if its_key != key:
                raise FileNotFoundError(errno.ENOENT, "another control group has this name now")
            with opened(name, os.O_RDWR, folder) as file:
                current = _read(file)
                if before != str(current) and wrote in {UNCERTAIN, str(current)}:
                    if only_tidy:
                        return "", ""
                    _write(file, int(before), of_group=folder is not None)
                    again = f"{path}: restored {before}"
    except FileNotFoundError:
        pass  # the guest has ended
    except (OSError, ValueError) as error:
        return "", f"{path}: cannot restore {before}: {error}"
    os.ftruncate(note, 0)
    return again, ""


def _read(file: int) -> int | None:
    # Return None for a write-only file. Raise EINVAL if the file does not contain a whole number.
    text = os.pread(file, 100, 0).strip()
    try:
        return NO_LIMIT if text == b"max" else int(text) if text else None
    except ValueError:
        raise OSError(errno.EINVAL, "it does not contain a whole number") from None


def _write(file: int, value: int, *, of_group: bool) -> None:
    # Write in one call, with a time limit for a group's file.
    limit = _LONGEST_WRITE_SECONDS if of_group else 0
    signal.setitimer(signal.ITIMER_REAL, limit, limit)
    try:
        written = os.pwrite(file, b"max" if of_group and value == NO_LIMIT else b"%d" % value, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    os.ftruncate(file, written)  # for tests with plain files


def _read_note(note: int) -> tuple[str, str, str]:
    text = os.pread(note, 1 << 13, 0).decode(errors="surrogateescape")
    return text[:20].strip(), text[21:41].strip(), text[42:]


def _write_note(note: int, before: int, wrote: str, path: str) -> None:
    # The length is constant, so that a crash cannot leave half a value.
    content = f"{before:<20} {wrote:<20} {path}".encode(errors="surrogateescape")
    if os.pwrite(note, content, 0) != len(content):
        raise OSError(errno.ENOSPC, "there is no space to save the original value")
