"""What the status file of a running mom says, for verbs: as a report, and with whether mom is late."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from mom_core import (
    HOST_ID,
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
    StandingAlert,
    StandingProblem,
    Status,
    Verdict,
    lasting,
)
from mom_core.lock import holder
from mom_daemon import STATUS_FILE, STATUS_FORMAT

LATE_CYCLES: Final = 3
"""A status older than so many intervals (and the second that a slow disk may take) means that mom hangs."""


def reported(content: Mapping[str, Any]) -> Report:
    """The report that a status was made from, as far as it is in there: without properties, and with the decisions that had outcomes or
    revisions only."""
    guests = {}
    for row in content["guests"]["rows"]:
        known = dict(zip(content["guests"]["columns"], row, strict=True))
        identity, name, blocked, _ = (known.pop(key) for key in ("id", "name", "blocked", "guaranteed_kib"))
        guests[identity] = Guest(identity, name, known, {"name": name, "uuid": identity}, blocked)
    host = Host(content["host"]["name"], content["host"]["fields"], {"name": content["host"]["name"], "interval": content["interval"]})
    cycle = content["cycle"]
    names = {guest.id: guest.entity for guest in guests.values()} | {HOST_ID: host.entity}

    def decision(one: Mapping[str, Any], value: str) -> Decision:
        entity = names.get(one["entity"]) or Entity(Scope.GUEST, one["entity"], one["entity"])
        # A revision's own reason is why it was made, not why the decision was.
        reason = one.get("reason" if value == "value" else "wanted_because", "")
        return Decision(entity, one["control"], one[value], reason, _source(one["source"]))

    outcomes = [
        Outcome(decision(one, "value"), one["before"], one["after"], Status(one["status"]), one["error"]) for one in content["outcomes"]
    ]
    revisions = []
    for one in content["revisions"]:
        before = decision(one, "wanted")
        after = None if one["became"] is None else replace(before, value=one["became"])
        revisions.append(Revision(before, after, one["reason"], one["reviewer"]))
    revised = {(one.after.entity.id, one.after.control) for one in revisions if one.after is not None}
    wanted = [one.decision for one in outcomes if (one.decision.entity.id, one.decision.control) not in revised]
    snapshot = Snapshot(host, guests, cycle["time"], 0.0, cycle["number"])
    decisions = (*wanted, *(one.before for one in revisions))
    lasted = (cycle["duration"], cycle["lag"], cycle["skipped"], cycle["woken_by"])
    return Report(cycle["number"], cycle["time"], content["mode"], snapshot, decisions, revisions, outcomes, (), (), *lasted)


def standing(content: Mapping[str, Any]) -> list[StandingProblem]:
    """The problems that stand according to a status."""
    host = content["host"]["name"]

    def entity(name: str | None) -> Entity | None:
        return None if name is None else Entity(Scope.HOST if name == host else Scope.GUEST, name, name)

    return [
        StandingProblem(
            Problem(_source(one["source"]), one["message"], entity(one["entity"]), Severity(one["severity"]), one["hint"]),
            float(one["since"]),
            int(one["cycles"]),
        )
        for one in content["problems"]
    ]


def _source(text: str) -> Source:
    """What `str` made of it."""
    name, line, column = (*text.rsplit(":", 2), "", "")[:3]
    return Source(name, int(line), int(column)) if line.isdigit() and column.isdigit() else Source(text)


@dataclass(frozen=True, slots=True)
class RunningStatus:
    """What a status file says, and whether the mom that wrote it is still there."""

    content: Mapping[str, Any]
    pid: int
    age: float

    @property
    def late(self) -> bool:
        """Whether mom holds its lock but has not finished a cycle for too long."""
        return self.age > LATE_CYCLES * float(self.content["interval"]) + 1.0

    @property
    def verdict(self) -> Verdict:
        """What mom says of the whole; first of all that it hangs, where it does: then the rest is as of its last cycle."""
        content = self.content["verdict"]
        said = Verdict() if content is None else Verdict.from_json(content)
        if not self.late:
            return said
        message = f"mom hangs: its last cycle ended {lasting(self.age)} ago, and what follows is of that time"
        cure = f"see its log; if it does not come back: kill -9 {self.pid}, then mom restore"
        hangs = StandingAlert("late", Severity.ERROR, message, "", cure, ("core",), time.time() - self.age, self.age)
        return Verdict((hangs, *said.alerts))


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
        age = time.monotonic() - float(content["monotonic"])
        if content["format"] != STATUS_FORMAT:
            raise MomError(
                f"{path} is of format {content['format']}, this mom reads {STATUS_FORMAT}", hint="restart the daemon after an upgrade"
            )
        if content["verdict"] is not None:
            Verdict.from_json(content["verdict"])
        float(content["interval"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise MomError(f"{path} is no status file: {type(error).__name__}: {error}", hint="restart mom") from error
    return RunningStatus(content, pid, max(0.0, age))
