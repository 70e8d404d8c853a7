"""Status file of a running mom: written after every cycle, and read by commands."""

from __future__ import annotations

import json
import logging
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mom_core import Condition, MomError, Report, Severity, Verdict, lasting, replace_file
from mom_core.files import read_file
from mom_core.lock import holder
from mom_daemon import json_text
from mom_daemon.report_models import REPORT_FORMAT, report_document
from mom_daemon.report_words import verdict_of

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


LATE_CYCLES: Final = 3
"""Number of intervals without a cycle after which mom counts as hung."""


@dataclass(frozen=True, slots=True)
class RunningStatus:
    """Status with its age in seconds."""

    content: ReportDocument
    pid: int
    age: float
    where: str = ""

    @classmethod
    def of(cls, content: ReportDocument, where: str) -> RunningStatus:
        """Return a report's status. Raise `MomError` if another version of mom wrote it, in another format."""
        if content["format"] != REPORT_FORMAT:
            hint = "restart the daemon after an upgrade"
            raise MomError(f"the report from {where} has format {content['format']}, but this mom reads format {REPORT_FORMAT}", hint=hint)
        return cls(content, int(content["pid"]), max(0.0, time.monotonic() - float(content["monotonic_seconds"])), where)

    @property
    def late(self) -> bool:
        """Return whether mom's last cycle is too old."""
        return self.age > LATE_CYCLES * float(self.content["interval_seconds"]) + 1.0

    @property
    def verdict(self) -> Verdict:
        """Return the verdict. If the content is old, the first condition says so."""
        reported_verdict = verdict_of(self.content) or Verdict()
        if not self.late:
            return reported_verdict
        message = f"mom has hung, or cannot write its status: its last cycle ended {lasting(self.age)} ago, and the data below is that old"
        cure = f"see mom's log; if mom does not recover: kill -9 {self.pid}, then `mom restore`"
        since = time.time() - self.age
        hung = Condition("late", message, "", cure, Severity.ERROR, plugins=("core",), since=since, lasted=self.age)
        return Verdict((hung, *reported_verdict.conditions))


def read_status(directory: Path) -> RunningStatus | None:
    """Return the running mom's status; None if no mom is running. Raise `MomError` if the file is unreadable."""
    pid, path = holder(directory), directory / STATUS_FILE
    try:
        text = read_file(path, LARGEST_STATUS)
    except FileNotFoundError:
        if not pid:
            return None
        raise MomError(
            f"mom runs as process {pid} and has not finished its first cycle yet",
            hint="ask again in a moment; if this cycle does not end, see mom's log",
        ) from None
    except OSError as error:
        raise MomError(f"cannot read {path}: {error.strerror}", hint="run as root") from error
    if not pid:
        return None
    try:
        status = RunningStatus.of(json.loads(text), str(path))
        verdict_of(status.content)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise MomError(f"{path} is not a status file: {type(error).__name__}: {error}", hint="restart mom") from error
    return status
