"""Classes in a separate file that may change while mom is running."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from mom_core import ConfigError, StrictModel, printable, read_settings
from mom_plugins_sla.classes import ClassName, ServiceClass


class ClassesFile(StrictModel):
    """Content of the file."""

    classes: dict[ClassName, ServiceClass] = Field(default_factory=dict)


class SharedClasses:
    """Last valid classes of a file. Not thread-safe."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._version: tuple[int, ...] | None = None
        self.classes: Mapping[str, ServiceClass] = {}
        self.wrong = ""
        """Why the current file is not applied, with the line; empty if the file is applied."""
        self.absent = True
        """Whether the file is missing. A missing file has no classes, which is valid."""

    def look(self) -> bool:
        """Read a changed file. Return whether classes changed."""
        before, version, self._version = self.classes, self._version, None  # after an error, read the file again
        try:
            status = self._path.stat()
        except FileNotFoundError:
            self.absent, self.wrong, self.classes = True, "", {}
            return bool(before)
        except OSError as error:
            self.absent, self.wrong = False, f"{self._path}: {error.strerror}"
            return False
        self.absent = False
        if not stat.S_ISREG(status.st_mode):  # reading a pipe would never end
            self.wrong = f"{self._path}: not a regular file"
            return False
        self._version = status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino  # a new mode or owner changes only ctime
        if self._version == version:
            return False
        try:
            self.classes, self.wrong = read_settings(self._path, ClassesFile).classes, ""
        except ConfigError as error:
            first, more = error.problems[0], len(error.problems) - 1
            self.wrong = printable(f"{first}" + (f" (and {more} more)" if more else ""), 400)
        return before != self.classes
