"""`mom status` and `mom guests`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import click

from mom_core import Config, GuestColumn, MomError, Report, Scope, Severity, Source, Status, Unit, count_of, load_config, printable
from mom_core.ledger import changes_left
from mom_core.plugins.discovery import LoadedPlugin
from mom_daemon import StatusPart, amount, brief, json_option, print_prose
from mom_daemon import report_words as words
from mom_daemon.cli.options import config_argument
from mom_daemon.cli.output import TableColumn, mark, print_table
from mom_daemon.look.here import how_to_act, how_to_start
from mom_daemon.look.sources import look, running_status
from mom_daemon.plugins.declared import lacking, offered
from mom_daemon.report_models import EntityModel, GuestColumnModel, ReportDocument, verdict_model
from mom_daemon.status_file import RunningStatus


@click.command("status")
@config_argument
@json_option
def status_command(config_path: str | None, as_json: bool) -> None:
    """Show the state of the host, of mom and its plugins, and mom's last cycle.

    The verdict comes first: faults of the host as a whole, with start, reason and fix. Exit code 1 for the verdict WRONG, and if mom is not
    running, or has hung. A warning does not change the exit code.
    """
    config = load_config(config_path)
    status = running_status(config)
    if status is None:
        try:
            left, unknown = changes_left(config.state_directory), ""
        except MomError as error:
            left, unknown = None, str(error)
        if as_json:
            click.echo(json.dumps({"running": False, "to_put_back": left}))
        else:
            print_prose(f"mom is not running on this host. Start it with: {how_to_start(config_path)}", 2)
            if left:
                later = "the next start of mom takes them over, or `mom restore` restores the original values"
                print_prose(f"The ledger lists {count_of(left, 'change')} of an earlier run of mom: {later}", 2)
            if unknown:
                print_prose(f"The changes of an earlier run of mom are unknown: {unknown}", 2)
        sys.exit(1)
    if as_json:
        document = {**status.content, "verdict": verdict_model(status.verdict)}
        click.echo(json.dumps({"running": True, "from": status.where, "age": status.age, "late": status.late, **document}))
    else:
        _show(config, status)
    if status.verdict.is_bad:
        sys.exit(1)


@click.command("guests")
@config_argument
@json_option
def guests_command(config_path: str | None, as_json: bool) -> None:
    """Show all guests with their memory, from the running mom. If mom is not running, read the guests now."""
    config = load_config(config_path)
    status = running_status(config)
    if status is not None:
        content = status.content
        if unknown := words.guests_unknown(content):
            raise MomError(unknown.message, hint=unknown.cure)
        late = ", because mom has hung, or cannot write its status" if status.late else ""
        origin = f"as of {status.age:.1f} s ago{late}, from {status.where}"
    else:
        content, problems = look(config)
        for unread in problems:
            print_prose(f"mom: {unread.source}: {brief(unread.message, 400)}", 2, err=True)
        origin = "read now from the host, because mom is not running"
    rows = words.guest_rows(content)
    for lack in lacking(config):
        if not rows and lack.hook == "mom_hypervisor":
            raise MomError(lack.message, hint="`mom doctor` names the plugin that fits this host")
    if as_json:
        click.echo(json.dumps(rows))
        return
    show_guests(rows, content["guest_columns"])
    if rows:
        print_prose(origin, 2)


def _mode(mode: str, config: Config) -> str:
    if mode != "observe":
        return mode
    how = (
        how_to_act(config)
        if config.mode == mode
        else "the file has mode enforce; to apply it: systemctl reload mom, or start mom without --observe"
    )
    return f"observe (mom changes nothing; {how})"


def _show(config: Config, status: RunningStatus) -> None:
    content = status.content
    cycle = content["cycle"]
    if status.verdict.severity is Severity.OK:
        fine = "nothing is wrong with the host" + (", but see the problems below" if content["problems"] else "")
        print_prose(f"{mark(Severity.OK)}  {fine}", 7)
    for line in words.verdict_lines(status.verdict):
        print_prose(f"{' ' * 5 if line.severity is None else mark(line.severity)}  {line.text}", 7)
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(content["started_at"]))
    state = "HANGS" if status.late else "runs"
    print_prose(
        f"mom {content['version']} {state} as process {status.pid} since {since}, mode {_mode(content['mode'], config)}, "
        f"on {printable(content['hypervisor'])}",
        2,
    )
    for lack in lacking(config):
        print_prose(f"warning: {lack.message}; `mom doctor` lists the plugins that fit this host", 2)
    woken = f", woken by {printable(cycle['woken_by'], 160)}" if cycle["woken_by"] else ""
    left_out = f", {cycle['skipped']} skipped since the start" if cycle["skipped"] else ""
    took = f"{cycle['duration_seconds'] * 1e3:.0f} ms{woken}{left_out}"
    print_prose(f"cycle {cycle['number']} ended {status.age:.1f} s ago and took {took} (from {status.where})", 2)
    counts = ", ".join(f"{count} {name}" for name, count in content["outcome_counts"].items() if count) or "nothing"
    guests = "guests unknown" if words.guests_unknown(content) else count_of(len(content["guests"]["rows"]), "guest")
    print_prose(f"{guests}; decided: {counts}; {count_of(content['to_put_back'], 'change')} to undo when mom stops", 2)
    for heading, text in _parts(config, words.reported(content)).items():
        print_prose(f"{heading}: {text}", len(heading) + 2)
    for heading, lines in (("plugins:", words.plugin_lines(content)), ("problems:", words.problem_lines(content))):
        for number, line in enumerate(lines):
            print_prose(f"{heading}\n  {line.text}" if not number else f"  {line.text}", 4)
    for text in [*_recent(content), *_trial(content)]:
        print_prose(text, 4)


def _parts(config: Config, report: Report) -> Mapping[str, str]:
    parts: list[StatusPart] = []
    for plugin in config.plugins.values():
        try:
            parts += status_parts(plugin.loaded, report)
        except MomError as error:  # show the other parts
            print_prose(f"mom: warning: {error}", 2, err=True)
    lines: dict[str, list[str]] = {"host": []}
    for part in sorted(dict.fromkeys(parts), key=lambda part: part.place):
        lines.setdefault(part.heading, []).append(part.text)
    return {heading: printable(", ".join(texts) or "unknown", 1000) for heading, texts in lines.items()}


def status_parts(plugin: LoadedPlugin, report: Report) -> list[StatusPart]:
    """Return a plugin's parts. Raise `MomError` if the plugin fails."""
    return offered(plugin, "mom_status", each=StatusPart, report=report)


SHOWN = 10


def _who(entity: EntityModel) -> str:
    return entity["id"] if entity["scope"] == Scope.HOST else brief(entity["name"], 80)


def _recent(content: ReportDocument) -> list[str]:
    units = content["controls"]
    outcomes = []
    for outcome in content["outcomes"]:
        if outcome["status"] == Status.UNCHANGED:
            continue
        who = _who(outcome["entity"])
        error = f" ({brief(outcome['error'], 160)})" if outcome["error"] else ""
        unit = units.get(outcome["control"], "")
        move = f"{amount(outcome['before'], unit)} → {amount(outcome['value'], unit)}"
        outcomes.append(f"  {who}: {outcome['control']} {move}: {outcome['status']}{error}, by {Source(**outcome['source'])}")
    revisions = []
    for revision in content["revisions"]:
        who = _who(revision["entity"])
        unit = units.get(revision["control"], "")
        became = "dropped" if revision["dropped"] else f"made {amount(revision['became'], unit)}"
        change = f"{revision['control']} {amount(revision['wanted'], unit)} {became} by {revision['reviewer']}"
        revisions.append(f"  {who}: {change}: {brief(revision['reason'], 160)}")
    return ["last cycle:", *_first(outcomes), *_first(revisions)] if outcomes or revisions else []


def _first(lines: Sequence[str]) -> Sequence[str]:
    return lines if len(lines) <= SHOWN else [*lines[:SHOWN], f"  and {len(lines) - SHOWN} more (`mom status --json`)"]


def _trial(content: ReportDocument) -> list[str]:
    trial = content["trial"]
    if trial is None:
        return []
    if not trial["differing"]:
        return [f"on trial: no difference in {trial['decisions']} decisions"]
    lines = []
    units = content["controls"]
    for difference in trial["differences"]:
        unit = units.get(difference["control"], "")
        decided, considered = (
            "nothing" if side is None else amount(side, unit) for side in (difference["decided"], difference["considered"])
        )
        lines.append(f"  {_who(difference['entity'])}: {difference['control']} {considered} instead of {decided}")
    return [f"on trial: {trial['differing']} of {trial['decisions']} decisions differ", *_first(lines)]


def show_guests(rows: Sequence[Mapping[str, Any]], columns: Sequence[GuestColumnModel]) -> None:
    """Print the table of guests, without empty columns."""
    if not rows:
        print_prose("No guests.", 2)
        return
    shared, shown = _shared_reasons(rows), words.known_columns(rows, columns)
    headings = [TableColumn(column["name"], column["rank"]) for column in shown]
    print_table(
        [TableColumn("guest"), *headings, TableColumn(GuestColumn.REMARKS, prose=True)],
        [
            (
                brief(row["name"], 30),
                *(brief(_text(row.get(column["key"]), column["unit"]), 20) for column in shown),
                words.guest_note(row, columns, shared),
            )
            for row in rows
        ],
    )
    for reason in shared:
        print_prose(f"all guests: {brief(reason, 160)}", 2)


def _text(value: object, unit: str) -> str:
    if value is None:
        return "?"
    is_size = unit in {Unit.KIB, Unit.KIB_PER_SECOND}
    rounded = f"{value:,.1f}".removesuffix(".0") if isinstance(value, float) and not is_size else value
    return amount(rounded, unit)


def _shared_reasons(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    if len(rows) < 2:
        return []
    return [reason for reason in dict.fromkeys(rows[0]["blocked"].values()) if all(reason in row["blocked"].values() for row in rows)]
