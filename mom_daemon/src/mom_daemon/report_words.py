"""Report of one cycle in words, for `mom status`, `mom guests`, `mom doctor` and `mom top`."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mom_core import Condition, GuestColumn, PluginState, Severity, Status, Verdict, lasting, printable
from mom_daemon import amount, common_problems
from mom_daemon.look.status_file import problems_of

if TYPE_CHECKING:
    from mom_daemon.report_models import GuestColumnModel, ReportDocument

NOTHING_DONE: Final = frozenset({Status.UNCHANGED, Status.OBSERVED})

LONGEST: Final = 400
"""Maximum length of a guest's remark, in characters."""


class Said(NamedTuple):
    """Line for people, safe to print. `severity` is None for details."""

    text: str
    severity: Severity | None = None


def headline(condition: Condition) -> str:
    """Return a condition with its duration."""
    if condition.severity is Severity.OK:
        return f"over for {lasting(condition.over)}: {condition.message}; it lasted {lasting(condition.lasted)}"
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
        trouble = f", {failed} of {plugin['calls']} calls failed, last: {printable(plugin['last_error'], 160)}" if failed else ""
        severity = None if plugin["state"] == PluginState.OK else Severity.ERROR
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
    """Return the columns with known figures, without remarks."""
    figures = [column for column in columns if column["name"] != GuestColumn.REMARKS]
    return [column for column in figures if any(row.get(column["key"]) is not None for row in rows)]


def guest_note(row: Mapping[str, Any], columns: Sequence[GuestColumnModel], shared: Collection[str] = ()) -> str:
    """Return a row's reasons, remarks and last change. `shared` reasons are left out."""
    of_plugins = [str(row.get(column["key"]) or "") for column in columns if column["name"] == GuestColumn.REMARKS]
    notes = [note for note in (*row["blocked"].values(), *of_plugins, *row["remarks"]) if note and note not in shared]
    if (last := row["last"]) is not None and last["status"] not in NOTHING_DONE:
        error = f" ({last['error']})" if last["error"] else ""
        notes.append(f"{last['control']} {last['status']}: {amount(last['value'], last['unit'])}{error}")
    return "; ".join(printable(note, LONGEST) for note in dict.fromkeys(notes))
