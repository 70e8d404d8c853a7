"""What stood there before the engine had something written, so that it can be put back, whatever becomes of the engine or of this program.

There is a file for each that was written: first it is noted what is about to be overwritten, and only then that is done. They outlive
every process; they need not outlive the kernel, with which all that was written goes, too: so nothing waits for a disk.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Final, NamedTuple

from mom_helper.kernel import FOLDER, opened, read_at, refused
from mom_helper.orders import NO_LIMIT

_LONGEST_WRITE_SECONDS: Final = 0.1
"""For what the kernel reclaims at once for a new limit. A signal ends that, and the limit holds all the same (mm/memcontrol.c)."""

UNCERTAIN: Final = "?"

_TIDY_WRITES: Final = 1000
"""After how many writes files of groups that are gone are removed."""


class KernelNumber(NamedTuple):
    """An open file of the kernel with a whole number, or `max`, in it: a knob, or of a control group."""

    path: str
    file: int
    key: str

    @classmethod
    @contextmanager
    def of(cls, path: str, folder: int | None = None) -> Iterator[KernelNumber]:
        """:param folder: a descriptor of the control group's folder that it is in; None: it is a knob. Raises `OSError`."""
        name = path if folder is None else path.rpartition("/")[2]
        # A group of the same name may be a later guest's; the kernel never gives the inode to another one.
        key = path.replace("/", "!") if folder is None else f"{os.fstat(folder).st_ino}!{name}"
        with opened(name, os.O_RDWR, folder) as file:
            yield cls(path, file, key)

    def read(self) -> int | None:
        """What stands there; None where nothing does, as it only acts when it is written to. Raises `OSError`: EINVAL where it is no whole
        number."""
        text = os.pread(self.file, 100, 0).strip()
        try:
            return NO_LIMIT if text == b"max" else int(text) if text else None
        except ValueError:
            raise OSError(errno.EINVAL, "there is no whole number in it") from None

    def write(self, value: int) -> None:
        """Once, as it was opened. Raises `OSError`."""
        of_group = not self.key.startswith("!")
        limit = _LONGEST_WRITE_SECONDS if of_group else 0
        signal.setitimer(signal.ITIMER_REAL, limit, limit)
        try:
            written = os.write(self.file, b"max" if of_group and value == NO_LIMIT else b"%d" % value)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        os.ftruncate(self.file, written)  # where the tree is a folder of plain files


class Before:
    """These files: what stood there, what was written last (or that this is not certain: then whatever stands there is taken for it), and
    where.

    :param state: a folder of root alone; what is in it of an earlier boot goes
    """

    def __init__(self, state: str) -> None:
        boot = read_at(None, "/proc/sys/kernel/random/boot_id").decode("ascii").strip()
        self._folder = f"{state}/{boot}"
        os.makedirs(self._folder, exist_ok=True)  # noqa: PTH103  # pathlib takes a megabyte
        for path, _, names in list(os.walk(state)):
            if path not in {state, self._folder}:
                for name in names:
                    os.unlink(f"{path}/{name}")  # noqa: PTH108  # as above
                os.rmdir(path)  # noqa: PTH106  # as above
        self._writes = 0

    def write(self, place: KernelNumber, value: int, *, allowed: bool) -> int | None:
        """Write a value, and remember what stood there: that is returned. Raises `OSError`: nothing is done that cannot be remembered.

        :param allowed: whether root lets this value be written; what stood there before may be written again in any case
        """
        with self._noted(place.key) as note:
            stood, (known, wrote, _) = place.read(), _read_note(note)
            if not allowed and known != str(value):
                raise refused(errno.ERANGE)
            if stood is None:
                place.write(value)
            if stood is None or stood == value:
                return stood
            # What somebody else has set since is what stood there before, from now on.
            before = int(known) if wrote in {UNCERTAIN, str(stood)} else stood
            _write_note(note, before, UNCERTAIN, place.path)
            try:
                place.write(value)
            finally:
                with suppress(OSError):  # then it is not certain what stands there
                    stands = place.read()
                    if stands == before:
                        os.ftruncate(note, 0)
                    else:
                        _write_note(note, before, str(stands), place.path)
        self._writes += 1
        if self._writes % _TIDY_WRITES == 0:
            self.put_back(lambda _: None, only_tidy=True)
        return stood

    def take_over(self, place: KernelNumber, before: int) -> None:
        """Remember what stood there before a mom that was root set something else; what is noted already counts. Raises `OSError`."""
        with self._noted(place.key) as note:
            if not os.fstat(note).st_size and before != place.read():
                _write_note(note, before, UNCERTAIN, place.path)

    def put_back(self, log: Callable[[str], None], *, only_tidy: bool = False) -> tuple[int, int]:
        """Put back all that was written and nobody else has set since: how many values were, and how many could not be.

        :param only_tidy: forget what is gone, and put back nothing
        """
        done = failed = 0
        for key in os.listdir(self._folder):  # noqa: PTH208  # as above
            with self._noted(key) as note:
                before, wrote, path = _read_note(note)
                knob, group = key.startswith("!"), path.rpartition("/")[0]
                try:
                    with nullcontext() if knob else opened(group, FOLDER) as folder, KernelNumber.of(path, folder) as place:
                        if place.key != key:
                            raise FileNotFoundError(errno.ENOENT, "another group has that name now")
                        if only_tidy:
                            continue
                        stands = place.read()
                        if before != str(stands) and wrote in {UNCERTAIN, str(stands)}:
                            place.write(int(before))
                            log(f"{place.path}: {before} again")
                            done += 1
                except FileNotFoundError:
                    pass  # the guest has gone
                except (OSError, ValueError) as error:
                    log(f"{path} cannot be {before} again: {error}")
                    failed += 1
                    continue
                os.ftruncate(note, 0)
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


def _read_note(note: int) -> tuple[str, str, str]:
    """What stood there, what was written, and where; empty where nothing is noted."""
    text = os.pread(note, 1 << 13, 0).decode(errors="surrogateescape")
    return text[:20].strip(), text[21:41].strip(), text[42:]


def _write_note(note: int, before: int, wrote: str, path: str) -> None:
    """It is as long each time: what stood there is never half written."""
    content = f"{before:<20} {wrote:<20} {path}".encode(errors="surrogateescape")
    if os.pwrite(note, content, 0) != len(content):
        raise refused(errno.ENOSPC)
