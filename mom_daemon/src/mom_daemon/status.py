"""The status of a running mom, in a file that is replaced after every cycle: for any tool, and by a person when mom itself hangs."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mom_core import Report, replace_file
from mom_daemon import json_text, report_document

if TYPE_CHECKING:
    from mom_core import Engine
    from mom_daemon import ReportDocument

LOG = logging.getLogger("mom.status")

STATUS_FILE: Final = "status.json"
"""Its name in the run directory."""


class StatusFile:
    """Writes the status of an engine after each cycle. A disk that does not take it, and a value of a plugin that cannot be written, are
    logged once and change nothing else."""

    def __init__(self, directory: Path, hide: Callable[[str], str] = str) -> None:
        self.path = directory / STATUS_FILE
        self._hide = hide
        self._failing = ""

    def write(self, engine: Engine, report: Report) -> None:
        """Replace the file by what is so now."""
        try:
            text = json_text(status_of(engine, report)).decode("ascii")
            replace_file(self.path, self._hide(text), durable=False)
        except Exception as error:  # noqa: BLE001  # what is in a plugin's list may hold itself, or raise anything when it is to be shown
            why = (error.strerror if isinstance(error, OSError) else None) or traceback.format_exception_only(error)[-1].strip()
            if self._failing != why:
                self._failing = why
                LOG.error("cannot write %s: %s", self.path, why)
            return
        self._failing = ""

    def remove(self) -> None:
        """Take the file away: nothing runs any more."""
        self.path.unlink(missing_ok=True)


def status_of(engine: Engine, report: Report) -> ReportDocument:
    """A report of this engine as one document, as `GET /v1/report` gives it, too."""
    return report_document(report, engine.plugins.declarations, engine.state(), engine.config.interval)
