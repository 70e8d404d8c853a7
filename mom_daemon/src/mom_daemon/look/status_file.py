"""Status file of a running mom."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mom_core import Condition, MomError, Severity, Verdict, lasting
from mom_core.files import read_file
from mom_core.lock import holder
from mom_daemon.report_models import REPORT_FORMAT
from mom_daemon.report_words import verdict_of
from mom_daemon.status import LARGEST_STATUS, STATUS_FILE

if TYPE_CHECKING:
    from mom_daemon.report_models import ReportDocument

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
