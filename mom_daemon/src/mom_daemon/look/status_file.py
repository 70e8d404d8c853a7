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
from mom_kvm import ProcessStat

if TYPE_CHECKING:
    from mom_daemon.report_models import ReportDocument

LATE_CYCLES: Final = 3
"""Number of intervals without a cycle after which mom counts as hung."""


@dataclass(frozen=True, slots=True)
class RunningStatus:
    """Status with its age in seconds. `unwritten` is true if mom could not write later cycles."""

    content: ReportDocument
    pid: int
    age: float
    where: str = ""
    unwritten: bool = False

    @property
    def late(self) -> bool:
        """Return whether mom is suspended (SIGSTOP), or its last cycle is too old."""
        return not self.unwritten and (self.age > _limit(self.content) or self._is_stopped)

    @property
    def _is_stopped(self) -> bool:
        process = ProcessStat.of(f"/proc/{self.pid}")
        return process is not None and process.state == "T"

    @property
    def trouble(self) -> Condition | None:
        """Return why the content is old: mom has hung, or cannot write the file."""
        if self.late:
            stopped = self._is_stopped
            how = "is stopped" if stopped else "has hung"
            message = f"mom {how}: its last cycle ended {lasting(self.age)} ago, and the data below is that old"
            cure = f"see mom's log; if mom does not recover: kill -9 {self.pid}, then `mom restore`"
            if stopped:
                cure = f"kill -CONT {self.pid} resumes it"
            name, severity = "late", Severity.ERROR
        elif self.unwritten:
            message = f"mom works, but cannot write its status; the data below is from {lasting(self.age)} ago"
            cure = "mom's log says why; on a full disk, free space in the run directory"
            name, severity = "status", Severity.WARNING
        else:
            return None
        return Condition(name, message, "", cure, severity, plugins=("core",), since=time.time() - self.age, lasted=self.age)

    @property
    def verdict(self) -> Verdict:
        """Return the verdict. If the content is old, the first condition says why."""
        reported_verdict = verdict_of(self.content) or Verdict()
        return reported_verdict if self.trouble is None else Verdict((self.trouble, *reported_verdict.conditions))


def expect_format(content: ReportDocument, where: str) -> None:
    """Raise `MomError` if another version of mom wrote the report, in another format."""
    if content["format"] != REPORT_FORMAT:
        hint = "restart the daemon after an upgrade"
        raise MomError(f"the report from {where} has format {content['format']}, but this mom reads format {REPORT_FORMAT}", hint=hint)


def _limit(content: ReportDocument) -> float:
    return LATE_CYCLES * float(content["interval_seconds"]) + 1.0


def instead(directory: Path) -> str:
    """Return the status file's path; empty if this user cannot read the file."""
    path = directory / STATUS_FILE
    try:
        read_file(path, 0)
    except FileNotFoundError:
        pass  # no cycle has finished
    except OSError:
        return ""
    return str(path)


def read_status(directory: Path) -> RunningStatus | None:
    """Return the running mom's status; None if no mom is running. Raise `MomError` if the file is unreadable."""
    pid = holder(directory)
    path = directory / STATUS_FILE
    try:
        touched = path.stat().st_mtime  # read the time first, so that a file replaced meanwhile does not count as touched
        text = read_file(path, LARGEST_STATUS)
    except FileNotFoundError:
        if pid:
            raise MomError(
                f"mom runs as process {pid} and has not finished its first cycle yet",
                hint="ask again in a moment; if this cycle does not end, see mom's log",
            ) from None
        return None
    except OSError as error:
        raise MomError(f"cannot read {path}: {error.strerror}", hint="run as root") from error
    if not pid:
        return None
    if not text:
        raise MomError(f"mom runs as process {pid}, but could not write its status file {path}", hint="mom's log says why")
    try:
        content = json.loads(text)
        age = time.monotonic() - float(content["monotonic_seconds"])
        expect_format(content, str(path))
        verdict_of(content)
        limit = _limit(content)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise MomError(f"{path} is not a status file: {type(error).__name__}: {error}", hint="restart mom") from error
    unwritten = age > limit and abs(time.time() - touched) <= limit
    return RunningStatus(content, pid, max(0.0, age), str(path), unwritten)
