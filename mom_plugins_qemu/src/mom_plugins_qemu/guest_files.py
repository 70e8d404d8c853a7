"""Guest definitions that the operator writes on hosts without a management system, one file per guest."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, NamedTuple

from pydantic import AfterValidator, Field

from mom_core import ConfigError, GuestSettings, HypervisorError, Size, SizeOrShare, Value, printable, read_settings

_SUFFIX: Final = ".yaml"
_HIDDEN: Final = "."
"""mom ignores files whose names begin with this, such as an editor's temporary files."""

_MOST_FILES: Final = 10_000
_HOLDS: Final = "this folder must contain the guests' definitions"
_MISSING: Final = f"{_HOLDS}: create it, or remove `guest_files` of the qemu plugin"

Stamp = tuple[int, int, int, int]


def _absolute(path: str) -> str:
    if not path.startswith("/") or "\0" in path:
        raise ValueError("must be the path of a socket, beginning with /")
    return path


class GuestFile(GuestSettings):
    """Definition of one guest, from NAME.yaml."""

    monitor: Annotated[str, AfterValidator(_absolute)]
    """Socket of the guest's monitor (`-qmp unix:PATH,server=on,wait=off`)."""
    name: Annotated[str, Field(max_length=200)] = ""
    """Name by which mom refers to the guest. Unset: the guest's name in QEMU."""
    memory: Annotated[Size, Field(gt=0)] | None = None
    """Assigned memory. If the balloon cannot work, virtio-mem resizes the guest up to this size."""
    guarantee: SizeOrShare | None = None
    """Guaranteed memory, as a size or as a share of the guest's memory."""
    sla_class: Annotated[str | None, Field(alias="class", max_length=200)] = None
    """Service class of the guest."""

    def properties(self) -> dict[str, Value]:
        """Return guarantee and class as properties."""
        properties: dict[str, Value] = {}
        if self.guarantee is not None:
            properties["mem_guarantee"] = str(self.guarantee)
        if self.sla_class is not None:
            properties["sla_class"] = self.sla_class
        return properties


class FileDefinition(NamedTuple):
    """A guest's last valid definition. `wrong` is the error in its file now; empty if the file is valid."""

    guest: GuestFile
    wrong: str = ""


class GuestFiles:
    """Definitions in a folder. Each `read` reads changed files again. Not thread-safe.

    If a file is invalid, its guest keeps the last valid definition.
    """

    def __init__(self, root: Path, folder: Path) -> None:
        self._root = root
        self._folder = root / str(folder).lstrip("/")
        self._entries: dict[str, tuple[Stamp, FileDefinition]] = {}
        self._were_valid = False
        self.undefined: FileDefinition | None = None
        """Definition for guests without a file while some file is invalid, because that file may define them. Otherwise None."""

    def read(self) -> Mapping[str, FileDefinition]:
        """Return the definitions, keyed by monitor path.

        :raises HypervisorError: the folder is unreadable, two files define the same monitor, or a file was never valid
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
        self._entries = {name: entry for name, status in sorted(files.items()) if (entry := self._read_file(name, status)) is not None}
        definitions: dict[str, FileDefinition] = {}
        first: dict[str, str] = {}
        for name, (_, defined) in self._entries.items():
            monitor = str(self._root / defined.guest.monitor.lstrip("/"))
            if monitor in definitions:
                text = f"{self._folder / name} has the same monitor as {first[monitor]}: {printable(defined.guest.monitor)}"
                raise HypervisorError(text, hint="define each guest in one file only")
            definitions[monitor], first[monitor] = defined, name
        self._were_valid = True
        return definitions

    def _read_file(self, name: str, status: os.stat_result) -> tuple[Stamp, FileDefinition] | None:
        stamp = status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino
        before = self._entries.get(name)
        if before is not None and before[0] == stamp:
            return before
        try:
            return stamp, FileDefinition(read_settings(self._folder / name, GuestFile))
        except ConfigError as error:
            wrong = str(error.problems[0])
            if before is not None:
                return stamp, FileDefinition(before[1].guest, wrong)
            if not self._were_valid:
                raise HypervisorError(f"a guest's definition is invalid: {wrong}", hint="correct or remove the file") from error
            self.undefined = FileDefinition(GuestFile(monitor="/"), f"{wrong} (this file may define the guest)")
            return None
