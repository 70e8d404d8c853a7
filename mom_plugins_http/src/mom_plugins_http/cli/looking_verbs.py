"""`mom history` and `mom events`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

import click

from mom_core import HOST_ID, MomError, Source, Status, Value, count_of, format_kib, printable
from mom_daemon import TableColumn, amount, brief, print_prose, print_table
from mom_daemon.report_words import guests_unknown
from mom_plugins_http.cli.client import Client, coded
from mom_plugins_http.cli.event_stream import EventStream
from mom_plugins_http.cli.running_verb import common_options
from mom_plugins_http.report_changes import with_changes
from mom_plugins_http.vocabulary import MOST_ITEMS

if TYPE_CHECKING:
    from mom_daemon.report_models import ReportDocument

SILENCE_SECONDS: Final = 60.0
"""The stream fails after this many seconds without data. mom sends a keep-alive every 15 s."""

_OF_HOST: Final = {
    "mem_available": "memory",
    "mem_really_available": "available",
    "swap_usage": "swapped",
    "psi_memory_some_avg10": "memory pressure",
    "ksm_pages_sharing": "pages shared",
    "ksmd_cpu_usage": "ksmd",
}

_OF_GUEST: Final = (
    "balloon_cur", "balloon_target", "mem_usable", "rss", "swap_in", "swap_out", "major_fault", "host_cpu_usage", "host_swap",
    "balloon_reason", "sweep_end", "stats_age",
)  # fmt: skip
"""Fields that come first in a guest's table; others follow, sorted by name."""

_SHOWN_PAST: Final = 20


@click.command("history")
@click.argument("whose", metavar="GUEST|host")
@click.option("-n", "--cycles", type=click.IntRange(1, MOST_ITEMS), default=_SHOWN_PAST, show_default=True, help="How many cycles to show.")
@common_options
def history_command(whose: str, cycles: int, as_json: bool, config_path: str | None) -> None:
    """Show data of a guest or the host in the last cycles, newest first. mom keeps about an hour of cycles; recordings keep more."""
    client = Client.configured(config_path)
    path = "/v1/host/history" if whose == HOST_ID else f"/v1/guests/{coded(whose)}/history"
    samples = client.get(f"{path}?limit={cycles}")["items"]
    if as_json:
        click.echo(json.dumps(samples))
        return
    units = {
        field["name"]: field["unit"] for field in client.get("/v1/fields")["items"] if (field["scope"] == HOST_ID) is (whose == HOST_ID)
    }
    known_fields = {name for sample in samples for name, value in sample["fields"].items() if value is not None}
    columns = [
        name for name in (_OF_HOST if whose == HOST_ID else dict.fromkeys((*_OF_GUEST, *sorted(known_fields)))) if name in known_fields
    ]
    heads = _OF_HOST if whose == HOST_ID else {"mem_available": "memory"}  # in oVirt MOM, this field is the total
    rows = [[_time(past["time"]), *(_amount(past["fields"].get(name), units.get(name, "")) for name in columns)] for past in samples]
    print_table(("time", *(TableColumn(heads.get(name, name), rank) for rank, name in enumerate(columns))), rows)
    print_prose(f"from {client.path}")


@click.command("events")
@click.option("--outcomes", is_flag=True, help="Show the outcomes of the last cycle's decisions.")
@click.option("--guest", metavar="GUEST", help="With --outcomes: only this guest, by id or name; `host` for the host.")
@click.option("-f", "--follow", is_flag=True, help="Print further events until Ctrl-C.")
@common_options
def events_command(outcomes: bool, guest: str | None, follow: bool, as_json: bool, config_path: str | None) -> None:
    """Show the last cycle in one line, or the outcomes of its decisions. With --follow, also show each further cycle and other events.

    Exit code 1 if mom exits, or disconnects a slow reader.
    """
    if guest is not None and not outcomes:
        raise click.UsageError("--guest needs --outcomes")
    if outcomes and follow:
        raise click.UsageError("--outcomes shows only the last cycle: omit --follow")
    client = Client.configured(config_path)
    if outcomes:
        _show_outcomes(client, guest, as_json=as_json)
        return
    stream = EventStream(client, SILENCE_SECONDS, "fields=")
    report: Mapping[str, Any] = {}
    try:
        for name, content in stream:
            if name in {"report", "cycle"}:
                report = content if name == "report" else with_changes(cast("ReportDocument", report), content)
            if as_json:
                click.echo(json.dumps({"event": name, **content}))
            else:
                print_prose(_cycle_line(report) if name in {"report", "cycle"} else _event_line(name, content), 4)
            if not follow:
                return
        click.echo("mom: mom has ended the connection (mom is stopping, or was reloaded)", err=True)
    except MomError as error:
        click.echo(f"mom: {error}", err=True)
    finally:
        stream.close()
    sys.exit(1)


def _show_outcomes(client: Client, guest: str | None, *, as_json: bool) -> None:
    path = "/v1/report?fields=" if guest in {None, HOST_ID} else f"/v1/guests/{coded(str(guest))}"
    answer = client.get(path)
    outcomes = [outcome for outcome in answer["outcomes"] if guest != HOST_ID or outcome["entity"]["scope"] == HOST_ID]
    if as_json:
        click.echo(json.dumps(outcomes))
        return
    units = {control["name"]: control["unit"] for control in client.get("/v1/controls")["items"]}
    headings = ("of", "control", "from", "to", "status", TableColumn("by", 1), TableColumn("error", prose=True))
    if outcomes:
        print_table(headings, [_outcome(outcome, units.get(outcome["control"], "")) for outcome in outcomes])
    else:
        print_prose("The last cycle has no outcomes.")
    print_prose(f"from {client.path}")


def _outcome(outcome: Mapping[str, Any], unit: str) -> Sequence[str]:
    who, by, error = brief(outcome["entity"]["name"], 30), str(Source(**outcome["source"])), brief(outcome["error"], 160)
    return who, outcome["control"], _amount(outcome["before"], unit), _amount(outcome["value"], unit), outcome["status"], by, error


def _event_line(name: str, content: Mapping[str, Any]) -> str:
    return f"{time.strftime('%H:%M:%S')} {printable(name)}: {brief(json.dumps(content), 400)}"


def _cycle_line(report: Mapping[str, Any]) -> str:
    cycle = report["cycle"]
    changes = ", ".join(f"{count} {status}" for status, count in report["outcome_counts"].items() if count and status != Status.UNCHANGED)
    woken = f", woken by {printable(cycle['woken_by'])}" if cycle["woken_by"] else ""
    available = report["host"]["fields"].get("mem_really_available")
    host = "" if available is None else f", {format_kib(available)} available on the host"
    problems = f", {count_of(len(report['problems']), 'problem')}" if report["problems"] else ""
    rows = report["guests"]["rows"]
    guests = "guests unknown" if guests_unknown(cast("ReportDocument", report)) else count_of(len(rows), "guest")
    return (
        f"{_time(cycle['time'])} cycle {cycle['number']}: {guests}, {changes or 'nothing done'}{host}{problems}, "
        f"{cycle['duration_seconds'] * 1e3:.0f} ms{woken}"
    )


def _time(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(seconds))


def _amount(value: Value, unit: str) -> str:
    return brief(amount(float(f"{value:.4g}") if isinstance(value, float) else value, unit), 80)
