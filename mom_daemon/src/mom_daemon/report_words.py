"""Converts the document of one cycle to records and text."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydantic import TypeAdapter

from mom_core import (
    Condition,
    Entity,
    Guest,
    GuestColumn,
    Host,
    PluginReport,
    Problem,
    Report,
    Scope,
    Severity,
    Snapshot,
    Source,
    Status,
    Verdict,
    count_of,
    first_names,
    lasting,
    printable,
)
from mom_daemon import amount

if TYPE_CHECKING:
    from mom_daemon.report_models import GuestColumnModel, ReportDocument

NOTHING_DONE: Final = frozenset({Status.UNCHANGED, Status.OBSERVED})

LONGEST: Final = 400


# --- the document as records ---------------------------------------------------------------------------------------------------


def reported(content: ReportDocument) -> Report:
    """Return a document's snapshot and verdict as a report, without decisions and most properties."""
    guests = {}
    for row in content["guests"]["rows"]:
        fields = dict(zip(content["guests"]["columns"], row, strict=True))
        identity, name, blocked = (fields.pop(key) for key in ("id", "name", "blocked"))
        properties = {**fields.pop("properties", {}), "name": name, "uuid": identity}
        guests[identity] = Guest(identity, name, fields, properties, blocked)
    name = content["host"]["name"]
    host = Host(name, content["host"]["fields"], {"name": name, "interval": content["interval_seconds"]})
    cycle = content["cycle"]
    snapshot = Snapshot(host, guests, cycle["time"], 0.0, cycle["number"])
    problems, duration, verdict = problems_of(content), cycle["duration_seconds"], verdict_of(content)
    return Report(cycle["number"], cycle["time"], content["mode"], snapshot, (), (), (), problems, (), duration, verdict=verdict)


_PROBLEMS: Final = TypeAdapter(list[Problem])
_CONDITIONS: Final = TypeAdapter(tuple[Condition, ...])


def problems_of(content: ReportDocument) -> list[Problem]:
    """Return a document's standing problems. Raise `ValueError` if invalid."""
    return _PROBLEMS.validate_python(content["problems"])


def verdict_of(content: ReportDocument) -> Verdict | None:
    """Return a document's verdict, or None. Raise `KeyError`, `TypeError` or `ValueError`."""
    if (verdict := content["verdict"]) is None:
        return None
    conditions = [
        {**each, "plugins": tuple(each["plugins"]), "lasted": each["lasted_seconds"], "over": each["over_seconds"]}
        for each in verdict["conditions"]
    ]
    return Verdict(_CONDITIONS.validate_python(conditions))


def guests_unknown(content: ReportDocument) -> Condition | None:
    """Return the condition that reports unknown guests, or None."""
    verdict = None if content["guests"]["rows"] else verdict_of(content)
    return None if verdict is None else verdict.guests_unknown


# --- problems of many guests ---------------------------------------------------------------------------------------------------

NAMED: Final = 3

LONGEST_HINT: Final = 400


@dataclass(frozen=True, slots=True)
class CommonProblem:
    """Problem, and all guests that it concerns; safe to print. `since` is in seconds since the epoch.

    `about` lists these guests, or the host; it may be empty. `hint` is the hint for the first guest.
    """

    severity: Severity
    source: Source
    message: str
    hint: str
    about: Sequence[Entity]
    since: float
    cycles: int

    @property
    def who(self) -> str:
        """Return the guest's name, or the number of guests and the first names; empty without a guest."""
        named = first_names([entity.name for entity in self.about], NAMED)
        return named if len(self.about) < 2 else f"{len(self.about)} guests ({named})"

    @property
    def text(self) -> str:
        """Return the problem as one line, without its severity and its start time."""
        who, hint = self.who and f" {self.who}:", self.hint and f" ({self.hint})"
        return f"{printable(str(self.source), 300)}:{who} {self.message}{hint}"

    def lasted(self, now: float) -> str:
        """Format how long, and in how many cycles, the problem has lasted."""
        return f"for {lasting(max(0.0, now - self.since))}, in {count_of(self.cycles, 'cycle')}"


def common_problems(problems: Iterable[Problem]) -> list[CommonProblem]:
    """Join equal problems of several guests; keep the order."""
    alike: dict[tuple[Severity, Source, str, Scope | None], list[Problem]] = {}
    for problem in problems:
        scope = None if problem.entity is None else problem.entity.scope
        alike.setdefault((problem.severity, problem.source, problem.message, scope), []).append(problem)
    return [_common(several) for several in alike.values()]


def _common(several: Sequence[Problem]) -> CommonProblem:
    first = several[0]
    hint = printable(first.hint, LONGEST_HINT) if first.hint else ""
    if hint and first.entity is not None and any(problem.hint != first.hint for problem in several):
        hint = f"such as {printable(first.entity.name, 60)}: {hint}"
    about = tuple(problem.entity for problem in several if problem.entity is not None)
    since, cycles = min(problem.since for problem in several), max(problem.cycles for problem in several)
    return CommonProblem(first.severity, first.source, printable(first.message, 1000), hint, about, since, cycles)


# --- lines ---------------------------------------------------------------------------------------------------------------------


class Said(NamedTuple):
    """Line for people, safe to print. `severity` is None for details."""

    text: str
    severity: Severity | None = None


def headline(condition: Condition) -> str:
    """Return a condition with its duration."""
    over = f", over for {lasting(condition.over)}" if condition.over else ""
    return f"{condition.message}, for {lasting(condition.lasted)}{over}"


def verdict_lines(verdict: Verdict | None) -> Iterator[Said]:
    """Yield the conditions of the host, worst first, each with reason and fix."""
    for condition in () if verdict is None else verdict.conditions:
        yield Said(headline(condition), condition.severity)
        if condition.severity is not Severity.OK:
            yield from (Said(f"{mark} {text}") for mark, text in (("why:", condition.why), ("→", condition.cure)) if text)


def problem_lines(content: ReportDocument) -> Iterator[Said]:
    """Yield the standing problems, each once for all of its guests."""
    now = time.time()
    for problem in common_problems(problems_of(content)):
        yield Said(f"{problem.severity}: {problem.text}, {problem.lasted(now)}", problem.severity)


def plugin_lines(content: ReportDocument) -> Iterator[Said]:
    """Yield the plugins with state, time in this cycle, and failures since the start."""
    for plugin in content["plugins"]:
        took, failed = sum(plugin["durations_seconds"].values()) * 1e3, plugin["failures"]
        retry = f", tried again in {plugin['retry_in_seconds']:.0f} s" if plugin["retry_in_seconds"] else ""
        trouble = f", {failed} of {plugin['calls']} calls failed, last: {printable(plugin['last_error'], LONGEST)}" if failed else ""
        severity = None if plugin["state"] == PluginReport.State.OK else Severity.ERROR
        yield Said(f"{printable(plugin['name']):<12} {plugin['state']:<9} {took:6.1f} ms{retry}{trouble}", severity)


def guest_rows(content: ReportDocument) -> list[dict[str, Any]]:
    """Return the guests with their columns, `last` outcome (None if unknown), and `remarks` about problems."""
    outcomes = content["outcomes"][::-1]
    last_outcomes = {outcome["entity"]["id"]: outcome for outcome in outcomes}
    last_outcomes |= {outcome["entity"]["id"]: outcome for outcome in outcomes if outcome["status"] not in NOTHING_DONE}
    notes: dict[str, list[str]] = {}
    for problem in content["problems"]:
        if problem["entity"] is not None:
            notes.setdefault(problem["entity"]["id"], []).append(problem["message"])
    rows: list[dict[str, Any]] = [dict(zip(content["guests"]["columns"], row, strict=True)) for row in content["guests"]["rows"]]
    for row in rows:
        last = last_outcomes.get(row["id"])
        row["last"] = None if last is None else {**last, "unit": content["controls"].get(last["control"], "")}
        done_last = "" if last is None else f"{last['control']} is not set: "  # the last outcome is the same
        row["remarks"] = [remark for remark in notes.get(row["id"], []) if not (done_last and remark.startswith(done_last))]
    return rows


def known_columns(rows: Sequence[Mapping[str, Any]], columns: Sequence[GuestColumnModel]) -> list[GuestColumnModel]:
    """Return the columns in which any row has a value, except remarks."""
    figures = [column for column in columns if column["name"] != GuestColumn.REMARKS]
    return [column for column in figures if any(row.get(column["key"]) is not None for row in rows)]


def guest_note(row: Mapping[str, Any], columns: Sequence[GuestColumnModel], shared: Collection[str] = ()) -> str:
    """Return why a guest's controls are blocked, the guest's remarks, and its last change. Texts in `shared` are left out."""
    of_plugins = [str(row.get(column["key"]) or "") for column in columns if column["name"] == GuestColumn.REMARKS]
    notes = [note for note in (*row["blocked"].values(), *of_plugins, *row["remarks"]) if note and note not in shared]
    if (last := row["last"]) is not None and last["status"] not in NOTHING_DONE:
        error = f" ({last['error']})" if last["error"] else ""
        notes.append(f"{last['control']} {last['status']}: {amount(last['value'], last['unit'])}{error}")
    return "; ".join(printable(note, LONGEST) for note in dict.fromkeys(notes))
