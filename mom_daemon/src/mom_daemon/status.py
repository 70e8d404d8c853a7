"""Status file of a running mom, replaced after every cycle."""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mom_core import Report, replace_file
from mom_daemon import json_text, report_document

if TYPE_CHECKING:
    from mom_core import Engine
    from mom_daemon import ReportDocument

LOG = logging.getLogger("mom.status")

STATUS_FILE: Final = "status.json"

LARGEST_STATUS: Final = 128 << 20
"""Maximum size in bytes; 10,000 guests take some 30 MiB."""

LONGEST_WAIT_SECONDS: Final = 1.0
"""How long a cycle waits for its status file; a thread finishes the file."""


class StatusFile:
    """Writer of an engine's status after each cycle.

    If it cannot write, it updates the old file's modification time, which shows that mom works.
    """

    def __init__(self, directory: Path, hide: Callable[[str], str] = str) -> None:
        self.path = directory / STATUS_FILE
        self._hide = hide
        self._failing = ""
        self._removed = False
        self._writing: threading.Thread | None = None

    def write(self, engine: Engine, report: Report) -> None:
        """Replace the file."""
        # Use a thread, because columns run plugins' code.
        if self._writing is not None and self._writing.is_alive():
            self._fail("the status of an earlier cycle is still being written")
            return
        writing = threading.Thread(target=self._write, args=(engine, report), name="mom-status", daemon=True)
        try:
            writing.start()
        except RuntimeError as error:  # the system has no more threads
            self._fail(str(error))
            return
        self._writing = writing
        writing.join(LONGEST_WAIT_SECONDS)

    def remove(self) -> None:
        """Remove the file when mom exits."""
        self._removed = True
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            LOG.error("cannot remove %s: %s", self.path, error.strerror)

    def _write(self, engine: Engine, report: Report) -> None:
        try:
            text = self._hide(json_text(status_of(engine, report)).decode("ascii"))
            if not self._removed:
                replace_file(self.path, text, durable=False)
        except BaseException as error:  # noqa: BLE001  # a plugin's list may contain itself, or raise anything when printed
            self._fail((error.strerror if isinstance(error, OSError) else None) or traceback.format_exception_only(error)[0].strip())
        else:
            self._failing = ""
        if self._removed:  # meanwhile
            self.path.unlink(missing_ok=True)

    def _fail(self, why: str) -> None:
        if self._failing != why:
            self._failing = why
            LOG.error("cannot write %s: %s", self.path, why)
        with suppress(OSError):
            self.path.touch()  # needs no disk space; shows probes and verbs that a cycle completed


def status_of(engine: Engine, report: Report) -> ReportDocument:
    """Return a report's document, as `GET /v1/report` does."""
    return report_document(report, engine.plugins.declarations, engine.state(), engine.config.interval)
