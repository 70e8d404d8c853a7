"""The status file of a running mom, for verbs: as a report, and with whether mom is late."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mom_core import (
    Condition,
    Decision,
    Entity,
    Guest,
    Host,
    MomError,
    Outcome,
    Problem,
    Report,
    Revision,
    Scope,
    Severity,
    Snapshot,
    Source,
    Status,
    Value,
    Verdict,
    lasting,
)
from mom_core.lock import holder
from mom_daemon import REPORT_FORMAT, STATUS_FILE

if TYPE_CHECKING:
    from mom_daemon import DecisionModel, EntityModel, ReportDocument, RevisionModel, VerdictModel

LATE_CYCLES: Final = 3
"""A status older than so many intervals (and the second that a slow disk may take) means that mom hangs."""


def reported(content: ReportDocument) -> Report:
    """The report that a document was made from, as far as it is in there: of properties with those that platforms give, and with the
    decisions that had outcomes or revisions only."""
    guests = {}
    for row in content["guests"]["rows"]:
        known = dict(zip(content["guests"]["columns"], row, strict=True))
        identity, name, blocked = (known.pop(key) for key in ("id", "name", "blocked"))
        properties = {**known.pop("properties", {}), "name": name, "uuid": identity}
        guests[identity] = Guest(identity, name, known, properties, blocked)
    name = content["host"]["name"]
    host = Host(name, content["host"]["fields"], {"name": name, "interval": content["interval_seconds"]})
    outcomes = [
        Outcome(_decision(one, one["value"], one["reason"]), one["before"], one["after"], Status(one["status"]), one["error"])
        for one in content["outcomes"]
    ]
    revisions = []
    for one in content["revisions"]:
        before = _decision(one, one["wanted"], one["wanted_because"])
        after = None if one["dropped"] else replace(before, value=one["became"])
        revisions.append(Revision(before, after, one["reason"], one["reviewer"]))
    revised = {(one.after.entity.id, one.after.control) for one in revisions if one.after is not None}
    wanted = [one.decision for one in outcomes if (one.decision.entity.id, one.decision.control) not in revised]
    cycle = content["cycle"]
    snapshot = Snapshot(host, guests, cycle["time"], 0.0, cycle["number"])
    decisions = (*wanted, *(one.before for one in revisions))
    lasted = (cycle["duration_seconds"], cycle["lag_seconds"], cycle["skipped"], cycle["woken_by"])
    return Report(cycle["number"], cycle["time"], content["mode"], snapshot, decisions, revisions, outcomes, (), (), *lasted)


def problems_of(content: ReportDocument) -> list[Problem]:
    """The problems that stand according to a document."""
    problems = []
    for one in content["problems"]:
        entity, seen = one["entity"] and _entity(one["entity"]), (one["since"], one["cycles"])
        problems.append(Problem(Source(**one["source"]), one["message"], entity, Severity(one["severity"]), one["hint"], *seen))
    return problems


def _decision(one: DecisionModel | RevisionModel, value: Value, reason: str) -> Decision:
    return Decision(_entity(one["entity"]), one["control"], value, reason, Source(**one["source"]))


def _entity(one: EntityModel) -> Entity:
    return Entity(Scope(one["scope"]), one["id"], one["name"])


def _verdict(content: VerdictModel) -> Verdict:
    """Raises `KeyError`, `TypeError` or `ValueError` for what is none."""
    conditions = []
    for one in content["conditions"]:
        name, message, why, cure = (str(text) for text in (one["name"], one["message"], one["why"], one["cure"]))
        since, lasted, over = (float(span) for span in (one["since"], one["lasted_seconds"], one["over_seconds"]))
        severity, plugins = Severity(one["severity"]), tuple(map(str, one["plugins"]))
        conditions.append(Condition(name, message, why, cure, severity, 0.0, plugins, since, lasted, over))
    return Verdict(tuple(conditions))


@dataclass(frozen=True, slots=True)
class RunningStatus:
    """The content of a status file, with the process that wrote it and its age in seconds."""

    content: ReportDocument
    pid: int
    age: float

    @property
    def late(self) -> bool:
        """True if mom holds its lock but has not finished a cycle for too long."""
        return self.age > LATE_CYCLES * float(self.content["interval_seconds"]) + 1.0

    @property
    def verdict(self) -> Verdict:
        """The verdict on the whole; first of all that mom hangs, where it does: then the rest is as of its last cycle."""
        content = self.content["verdict"]
        said = Verdict() if content is None else _verdict(content)
        if not self.late:
            return said
        message = f"mom hangs: its last cycle ended {lasting(self.age)} ago, and what follows is of that time"
        cure = f"see its log; if it does not come back: kill -9 {self.pid}, then `mom restore`"
        hangs = Condition("late", message, cure=cure, plugins=("core",), since=time.time() - self.age, lasted=self.age)
        return Verdict((hangs, *said.conditions))


def read_status(directory: Path) -> RunningStatus | None:
    """The status of the mom that runs with this run directory; None if none runs. Raises `MomError` when it cannot be read.

    The age is taken from the clock that all processes share and that never jumps.
    """
    pid = holder(directory)
    path = directory / STATUS_FILE
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        if pid:
            raise MomError(f"mom runs as process {pid} and has not finished its first cycle yet", hint="ask again in a moment") from None
        return None
    except OSError as error:
        raise MomError(f"cannot read {path}: {error.strerror}", hint="run as root") from error
    if not pid:
        return None
    try:
        content = json.loads(text)
        age = time.monotonic() - float(content["monotonic_seconds"])
        if content["format"] != REPORT_FORMAT:
            raise MomError(
                f"{path} is of format {content['format']}, this mom reads {REPORT_FORMAT}", hint="restart the daemon after an upgrade"
            )
        if content["verdict"] is not None:
            _verdict(content["verdict"])
        float(content["interval_seconds"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise MomError(f"{path} is no status file: {type(error).__name__}: {error}", hint="restart mom") from error
    return RunningStatus(content, pid, max(0.0, age))
