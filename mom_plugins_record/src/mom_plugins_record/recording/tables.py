"""Tables of a recording as CSV: columns with units in their names, and rows from each cycle."""

from __future__ import annotations

import csv
import fnmatch
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, TypeAlias

import click

from mom_core import Decision, FieldSpec, MomError, Report, Scope, Unit, Value, printable
from mom_plugins_record.recording.reader import RecordedCycle, Recording, nothing_in

WITHOUT_UNIT: Final = frozenset({Unit.COUNT, Unit.FLAG, Unit.TEXT, Unit.LIST})
"""Units without a suffix in columns' names. Other names end in the unit, such as `_kib_per_second`."""

_CYCLE: Final = ("time", "cycle")
_GUEST: Final = ("guest_id", "guest_name")
_FIRST: Final = {Scope.HOST: (*_CYCLE, "host", "mode", "woken_by", "cycle_seconds", "guest_count"), Scope.GUEST: (*_CYCLE, *_GUEST)}
_ABOUT: Final = (*_CYCLE, "decision", "scope", *_GUEST, "control", "unit")
_DECISIONS: Final = (
    *_ABOUT, "value", "value_json", "reason", "source", "source_line", "source_column", "stage", "dropped_because",
)  # fmt: skip
"""`stage` is evaluation, review or trial. `value_json` contains values that are not numbers. No column's name needs quotes in SQL."""
_OUTCOMES: Final = (*_ABOUT, "before", "before_json", "after", "after_json", "status", "error")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Row: TypeAlias = tuple[object, ...]


def column_name(spec: FieldSpec) -> str:
    """Return a field's name with its unit as suffix, unless the name already ends in the unit."""
    suffix = "" if spec.unit in WITHOUT_UNIT else f"_{spec.unit.name.lower()}"
    return spec.name if spec.name.endswith(suffix) else spec.name + suffix


def _columns(fields: Sequence[FieldSpec], scope: Scope) -> dict[str, str]:
    # Names of fields, keyed by column.
    columns: dict[str, str] = {}
    for spec in fields:
        if spec.scope is scope and column_name(spec) not in _FIRST[scope]:
            columns.setdefault(column_name(spec), spec.name)
    return columns


def export(path: Path, output: Path, guests: Sequence[str] = (), since: float = float("-inf"), until: float = float("inf")) -> None:
    """Write the tables, and print how many rows each has. After a `MomError`, no files remain.

    :param guests: patterns of guests' names; empty for all guests
    :param since: seconds since the epoch
    """
    recording = Recording(path)
    try:
        if output.exists() and any(output.iterdir()):
            raise MomError(f"{output} is not empty", hint="give the path of another folder with -o")
        output.mkdir(mode=0o750, parents=True, exist_ok=True)
        try:
            written = _write(recording, output, guests, since, until)
        except BaseException:
            shutil.rmtree(output, ignore_errors=True)
            raise
    except OSError as error:
        raise MomError(f"cannot write {error.filename or output}: {error.strerror or error}") from error
    for name, rows in written.items():
        click.echo(f"{output / name}.csv: {rows} rows")
    if recording.damage:
        click.echo(f"mom: {recording.damage.summary()}", err=True)


def _write(recording: Recording, folder: Path, guests: Sequence[str], since: float, until: float) -> Mapping[str, int]:
    columns = {
        scope: dict.fromkeys(name for session in recording.sessions() for name in _columns(session.fields, scope)) for scope in Scope
    }
    names = {
        "host": (*_FIRST[Scope.HOST], *columns[Scope.HOST]),
        "guests": (*_FIRST[Scope.GUEST], *columns[Scope.GUEST]),
        "decisions": _DECISIONS,
        "outcomes": _OUTCOMES,
    }
    rows = dict.fromkeys(names, 0)
    session, fields = None, dict[Scope, list[str]]()
    with ExitStack() as stack:
        files = {name: stack.enter_context((folder / f"{name}.csv").open("w", encoding="utf-8", newline="")) for name in names}
        writers = {name: csv.writer(file, lineterminator="\n") for name, file in files.items()}
        for name, writer in writers.items():
            writer.writerow(map(cell, names[name]))
        for recorded in recording.cycles(since, until):
            if recorded.session is not session:
                session = recorded.session
                own = {scope: _columns(session.fields, scope) for scope in Scope}
                fields = {scope: [own[scope].get(name, "") for name in columns[scope]] for scope in Scope}
            for name, added in _rows(recorded, fields, guests).items():
                for row in added:
                    writers[name].writerow(map(cell, row))
                    rows[name] += 1
    if not rows["host"]:
        raise nothing_in(recording)
    if guests and not rows["guests"]:
        named = ", ".join(map(printable, guests))
        raise MomError(f"the recording has no guest named {named} in that period", hint="omit --guest to export all guests")
    return rows


def _rows(recorded: RecordedCycle, fields: Mapping[Scope, Sequence[str]], patterns: Sequence[str]) -> Mapping[str, Iterator[Row]]:
    report, snapshot = recorded.report, recorded.report.snapshot
    host = snapshot.host
    when = ((_EPOCH + timedelta(seconds=report.time)).isoformat(timespec="microseconds"), report.number)
    units = {spec.name: str(spec.unit) for spec in recorded.session.controls}
    places = {id(decision): place for place, decision in enumerate(recorded.cycle.decisions)}

    def chosen(name: str) -> bool:
        return not patterns or any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)

    def about(decision: Decision) -> Row | None:
        entity, control = decision.entity, decision.control
        guest = (None, None) if entity.scope is Scope.HOST else (entity.id, entity.name)
        if entity.scope is Scope.GUEST and not chosen(entity.name):
            return None
        return (*when, places[id(decision)], str(entity.scope), *guest, control, units.get(control))

    about_host = (host.name, report.mode, report.woken_by, report.duration, len(snapshot.guests))
    return {
        "host": iter([(*when, *about_host, *map(host.fields.get, fields[Scope.HOST]))]),
        "guests": (
            (*when, guest.id, guest.name, *map(guest.fields.get, fields[Scope.GUEST]))
            for guest in snapshot.guests.values()
            if chosen(guest.name)
        ),
        "decisions": (
            (*first, *_split(decision.value), reason, *decision.source, stage, dropped)
            for decision, stage, reason, dropped in _stages(report, recorded.cycle.decisions)
            if (first := about(decision)) is not None
        ),
        "outcomes": (
            (*first, *_split(outcome.before), *_split(outcome.after), outcome.status, outcome.error)
            for outcome in report.outcomes
            if (first := about(outcome.decision)) is not None
        ),
    }


def _stages(report: Report, decisions: Sequence[Decision]) -> Iterator[tuple[Decision, str, str, str | None]]:
    # Decisions with stage, reason, and why they were dropped.
    tried = {id(decision) for decision in report.considered or ()}
    dropped = {id(revision.before): revision.reason for revision in report.revisions if revision.after is None}
    because = {id(revision.after): revision.reason for revision in report.revisions if revision.after is not None}
    for place, decision in enumerate(decisions):
        stage = "evaluation" if place < len(report.decisions) else "trial" if id(decision) in tried else "review"
        reason = because.get(id(decision), decision.reason) if stage == "review" else decision.reason
        yield decision, stage, reason, dropped.get(id(decision))


def _split(value: Value) -> tuple[Value, str | None]:
    # A number, or another value as JSON.
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value, None
    return None, json.dumps(value)


def cell(value: object) -> object:
    """Return a CSV cell. Text that may be a formula gets an apostrophe: guests' owners choose names."""
    if isinstance(value, list | dict):
        return json.dumps(value)
    return f"'{value}" if isinstance(value, str) and value[:1] in {"=", "+", "-", "@", "\t", "\r"} else value
