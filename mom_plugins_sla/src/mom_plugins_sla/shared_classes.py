"""Classes that stand in a file of their own, beside the settings: the operator of many hosts can change them while mom runs."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from mom_core import ConfigError, StrictModel, printable, read_settings
from mom_plugins_sla.classes import ClassName, ServiceClass


class ClassesFile(StrictModel):
    """Content of such a file."""

    classes: dict[ClassName, ServiceClass] = Field(default_factory=dict)
    """Classes by name, as in the settings of the plugin."""


class SharedClasses:
    """Classes of a file, as far as it made sense last. Not for several threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, ...] | None = None
        self.classes: Mapping[str, ServiceClass] = {}
        self.wrong = ""
        """Why the file as it is now is not what counts, with its line; empty: it is."""
        self.absent = True
        """True while there is no such file, which is not wrong: there are no classes to share."""

    def look(self) -> bool:
        """Read the file if it is another than before; whether the classes are others now."""
        before, known, self._seen = self.classes, self._seen, None  # what cannot be looked at now is looked at again
        try:
            found = self._path.stat()
        except FileNotFoundError:
            self.absent, self.wrong, self.classes = True, "", {}
            return bool(before)
        except OSError as error:
            self.absent, self.wrong = False, f"{self._path}: {error.strerror}"
            return False
        self.absent = False
        if not stat.S_ISREG(found.st_mode):  # reading a pipe would never end
            self.wrong = f"{self._path}: it is no file"
            return False
        self._seen = found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino  # another mode or owner changes the second only
        if self._seen == known:
            return False
        try:
            self.classes, self.wrong = read_settings(self._path, ClassesFile).classes, ""
        except ConfigError as error:
            first, more = error.problems[0], len(error.problems) - 1
            self.wrong = printable(f"{first}" + (f" (and {more} more)" if more else ""), 400)
        return before != self.classes
