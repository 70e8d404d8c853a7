"""Status file of a running mom, replaced after every cycle."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mom_core import Report, replace_file
from mom_daemon import json_text
from mom_daemon.report_models import report_document

if TYPE_CHECKING:
    from mom_core import Engine
    from mom_daemon.report_models import ReportDocument

LOG = logging.getLogger("mom.status")

STATUS_FILE: Final = "status.json"

LARGEST_STATUS: Final = 128 << 20


class StatusFile:
    """Writer of an engine's status after each cycle.

    If it cannot write, it updates the old file's modification time.
    """

    def __init__(self, directory: Path, hide: Callable[[str], str] = str) -> None:
        self.path = directory / STATUS_FILE
        self._hide = hide
        self._failing = ""

    def write(self, engine: Engine, report: Report) -> None:
        """Write this cycle's status."""
        try:
            replace_file(self.path, self._hide(json_text(status_of(engine, report)).decode()), durable=False)
        except Exception as error:  # noqa: BLE001  # a plugin's value may raise anything when printed
            self._fail((error.strerror if isinstance(error, OSError) else None) or traceback.format_exception_only(error)[0].strip())
        else:
            self._failing = ""

    def remove(self) -> None:
        """Remove the file when mom exits."""
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            LOG.error("cannot remove %s: %s", self.path, error.strerror)

    def _fail(self, why: str) -> None:
        if self._failing != why:
            self._failing = why
            LOG.error("cannot write %s: %s", self.path, why)
        with suppress(OSError):
            self.path.touch()  # needs no disk space; shows probes and verbs that a cycle completed


def status_of(engine: Engine, report: Report) -> ReportDocument:
    """Return a report's document, as `GET /v1/report` does."""
    return report_document(report, engine.plugins.declarations, engine.state(), engine.config.interval)
