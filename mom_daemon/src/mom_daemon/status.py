"""What a running mom knows, in one file that is replaced after every cycle: readable by any tool, and by a person when mom itself hangs."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mom_core import Outcome, Report, Revision, Scope, Snapshot, Status, __version__, differences, replace_file
from mom_toolkit import Promises

if TYPE_CHECKING:
    from mom_core import Engine

LOG = logging.getLogger("mom.status")

STATUS_FORMAT: Final = 1
"""The file's version."""

STATUS_FILE: Final = "status.json"
"""Its name in the run directory."""


class StatusFile:
    """Writes the status of an engine after each cycle. A disk that does not take it is logged once and changes nothing else."""

    def __init__(self, directory: Path, hide: Callable[[str], str] = str) -> None:
        self.path = directory / STATUS_FILE
        self._hide = hide
        self._failing = ""

    def write(self, engine: Engine, report: Report) -> None:
        """Replace the file by what is so now."""
        text = json.dumps(status_of(engine, report), separators=(",", ":"), default=str)
        try:
            replace_file(self.path, self._hide(text), durable=False)
        except OSError as error:
            if self._failing != str(error):
                self._failing = str(error)
                LOG.error("cannot write %s: %s", self.path, error.strerror)
            return
        self._failing = ""

    def remove(self) -> None:
        """Take the file away: nothing runs any more."""
        self.path.unlink(missing_ok=True)


def status_of(engine: Engine, report: Report) -> dict[str, Any]:
    """A report, and what stands beside it, as JSON. Numbers are in the units that `fields` gives; null is unknown."""
    snapshot = report.snapshot
    declarations = engine.plugins.declarations
    guaranteed = guaranteed_kib(engine.service(Promises), snapshot)
    columns = [name for scope, name in declarations.fields if scope is Scope.GUEST]
    loaded = {plugin.name: plugin.configured.loaded for plugin in engine.plugins.plugins}
    counts: dict[str, int] = dict.fromkeys(Status, 0)
    for outcome in report.outcomes:
        counts[outcome.status] += 1
    return {
        "format": STATUS_FORMAT,
        "version": __version__,
        "pid": os.getpid(),
        "config": engine.config.file,
        "mode": report.mode,
        "interval": engine.config.interval,
        "started_at": engine.started_at,
        "hypervisor": engine.hypervisor.uri,
        "monotonic": time.monotonic(),
        "cycle": {
            "number": report.number,
            "time": report.time,
            "duration": report.duration,
            "lag": report.lag,
            "skipped": report.skipped,
            "woken_by": report.woken_by,
        },
        "verdict": None if report.verdict is None else report.verdict.as_json(),
        "to_put_back": engine.ledger_entries,
        "plugins": [
            {
                "name": plugin.name,
                "distribution": loaded[plugin.name].distribution,
                "version": loaded[plugin.name].version,
                "state": plugin.state,
                "calls": plugin.calls,
                "failures": plugin.failures,
                "last_error": plugin.last_error,
                "retry_in": plugin.retry_in,
                "durations": plugin.durations,
            }
            for plugin in report.plugins
        ],
        "problems": [
            {
                "severity": standing.problem.severity,
                "source": str(standing.problem.source),
                "entity": standing.problem.entity.name if standing.problem.entity else None,
                "message": standing.problem.message,
                "hint": standing.problem.hint,
                "since": standing.since,
                "cycles": standing.cycles,
            }
            for standing in engine.problems()
        ],
        "fields": {f"{scope}.{name}": spec.unit for (scope, name), spec in declarations.fields.items()},
        "controls": {name: spec.unit for name, spec in declarations.controls.items()},
        "host": {"name": snapshot.host.name, "fields": dict(snapshot.host.fields)},
        "guests": {
            "columns": ["id", "name", "blocked", "guaranteed_kib", *columns],
            "rows": [[g.id, g.name, dict(g.blocked), guaranteed.get(g.id), *map(g.fields.get, columns)] for g in snapshot.guests.values()],
        },
        "decisions": len(report.decisions),
        "trial": None if report.considered is None else _trial(report),
        "revisions": [_revision(revision) for revision in report.revisions],
        "outcome_counts": counts,
        "outcomes": [_outcome(outcome) for outcome in report.outcomes],
    }


def guaranteed_kib(promises: Promises | None, snapshot: Snapshot) -> Mapping[str, float | None]:
    """What holds of all promises to each guest, by its id; nothing where no plugin knows, or the one that should raises."""
    if promises is None:
        return {}
    try:
        return {identity: promises.guaranteed_kib(guest) for identity, guest in snapshot.guests.items()}
    except Exception:  # a plugin's own code: what it breaks is this figure, and not the status
        LOG.debug("what is guaranteed to guests is unknown", exc_info=True)
        return {}


_SHOWN_DIFFERENCES = 100
"""What a person looks at; how many there are is counted."""


def _trial(report: Report) -> dict[str, Any]:
    """How policies on trial differ from those in force."""
    found = differences(report)
    return {
        "decisions": len(report.considered or ()),
        "differing": len(found),
        "differences": [
            {"entity": entity.id, "name": entity.name, "control": control, "decided": decided, "considered": considered}
            for entity, control, decided, considered in found[:_SHOWN_DIFFERENCES]
        ],
    }


def _outcome(outcome: Outcome) -> dict[str, Any]:
    decision = outcome.decision
    return {
        "entity": decision.entity.id,
        "control": decision.control,
        "value": decision.value,
        "before": outcome.before,
        "after": outcome.after,
        "status": outcome.status,
        "error": outcome.error,
        "source": str(decision.source),
        "reason": decision.reason,
    }


def _revision(revision: Revision) -> dict[str, Any]:
    return {
        "entity": revision.before.entity.id,
        "control": revision.before.control,
        "wanted": revision.before.value,
        "became": None if revision.after is None else revision.after.value,
        "source": str(revision.before.source),
        "wanted_because": revision.before.reason,
        "reviewer": revision.reviewer,
        "reason": revision.reason,
    }
