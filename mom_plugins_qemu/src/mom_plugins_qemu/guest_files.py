"""A folder of files that define guests, for hosts that start QEMU by themselves: no management knows there what guests were sold."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, NamedTuple

from pydantic import AfterValidator, Field

from mom_core import ConfigError, GuestSettings, HypervisorError, Size, SizeOrShare, Value, printable, read_settings

_SUFFIX: Final = ".yaml"
_HIDDEN: Final = "."
"""Editors and programs that write a file anew have such ones beside it meanwhile: `.#web.yaml` of Emacs leads nowhere."""

_MOST_FILES: Final = 10_000
_HOLDS: Final = "it holds the guests' definitions"
_MISSING: Final = f"{_HOLDS}: make it, or take `guest_files` of the plugin qemu out"

Stamp = tuple[int, int, int, int]


def _absolute(path: str) -> str:
    if not path.startswith("/") or "\0" in path:
        raise ValueError("must be the path of a socket, beginning with /")
    return path


class GuestFile(GuestSettings):
    """One guest, as the operator defines it in NAME.yaml."""

    monitor: Annotated[str, AfterValidator(_absolute)]
    """The socket of its monitor (`-qmp unix:PATH,server=on,wait=off`)."""
    name: Annotated[str, Field(max_length=200)] = ""
    """Its name for mom. Unset: what QEMU says."""
    memory: Annotated[Size, Field(gt=0)] | None = None
    """The memory that it was sold. A guest whose memory a balloon cannot take, and which has virtio-mem, is sized by that, up to this."""
    guarantee: SizeOrShare | None = None
    """The part of its memory that it is promised."""
    sla_class: Annotated[str | None, Field(alias="class", max_length=200)] = None
    """Its class of service."""

    def properties(self) -> dict[str, Value]:
        """Promises to the guest, by the properties in which metadata makes them."""
        found: dict[str, Value] = {}
        if self.guarantee is not None:
            found["mem_guarantee"] = str(self.guarantee)
        if self.sla_class is not None:
            found["sla_class"] = self.sla_class
        return found


class Defined(NamedTuple):
    """A guest's definition as far as it is known, and what is wrong with its file now; empty: nothing."""

    guest: GuestFile
    wrong: str = ""


class GuestFiles:
    """The definitions in a folder, each read again when its file has changed. Not to be used by two threads at a time.

    A file that becomes wrong leaves its guest where it was: with its last good definition, and with what is wrong. Once all were right, a
    new file that is wrong may be any guest's that no other file defines.

    :param root: of the host's files
    """

    def __init__(self, root: Path, folder: Path) -> None:
        self._root = root
        self._folder = root / str(folder).lstrip("/")
        self._known: dict[str, tuple[Stamp, Defined]] = {}
        self._were_right = False
        self.undefined: Defined | None = None
        """What stands for the definition of a guest that no file defines, while a file that was never right may be its; None: none may."""

    def read(self) -> Mapping[str, Defined]:
        """All definitions by their monitors' paths, as they stand now.

        Raises `HypervisorError` where the folder is missing or cannot be read, where two files have the same monitor, and where a file is
        wrong before all were right: which guest it defines is not known, and it is not to be taken for gone.
        """
        try:
            with os.scandir(self._folder) as entries:
                named = (entry for entry in entries if entry.name.endswith(_SUFFIX) and not entry.name.startswith(_HIDDEN))
                files = {entry.name: entry.stat() for entry in named}
        except OSError as error:
            text = f"{error.filename or self._folder} cannot be read: {error.strerror}"
            raise HypervisorError(text, hint=_MISSING if isinstance(error, FileNotFoundError) else _HOLDS) from error
        if len(files) > _MOST_FILES:
            raise HypervisorError(f"{self._folder} has more than {_MOST_FILES} definitions of guests")
        self.undefined = None
        self._known = {name: one for name, status in sorted(files.items()) if (one := self._one(name, status)) is not None}
        found: dict[str, Defined] = {}
        first: dict[str, str] = {}
        for name, (_, defined) in self._known.items():
            monitor = str(self._root / defined.guest.monitor.lstrip("/"))
            if monitor in found:
                text = f"{self._folder / name} has the monitor of {first[monitor]}: {printable(defined.guest.monitor)}"
                raise HypervisorError(text, hint="a guest is defined in one file")
            found[monitor], first[monitor] = defined, name
        self._were_right = True
        return found

    def _one(self, name: str, status: os.stat_result) -> tuple[Stamp, Defined] | None:
        stamp = status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino
        known = self._known.get(name)
        if known is not None and known[0] == stamp:
            return known
        try:
            return stamp, Defined(read_settings(self._folder / name, GuestFile))
        except ConfigError as error:
            wrong = str(error.problems[0])
            if known is not None:
                return stamp, Defined(known[1].guest, wrong)
            if not self._were_right:
                raise HypervisorError(f"a guest's definition is wrong: {wrong}", hint="mend it, or take it away") from error
            self.undefined = Defined(GuestFile(monitor="/"), f"{wrong} (this guest has no other definition)")
            return None
