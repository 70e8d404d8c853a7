"""`mom history`, `mom events` and `mom page`."""

from __future__ import annotations

import contextlib
import json
import shlex
import socket
import sys
import time
from collections.abc import Mapping
from typing import Any, Final, cast
from urllib.parse import quote

import click

from mom_core import Host, MomError, Status, Value, count_of, format_kib, printable
from mom_daemon import TableColumn, amount, brief, print_prose, print_table
from mom_daemon.report_words import guests_unknown
from mom_plugins_http.cli.client import Client, coded, common_options

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
@click.option("-n", "--cycles", type=click.IntRange(min=1), default=_SHOWN_PAST, show_default=True, help="How many cycles to show.")
@common_options
def history_command(whose: str, cycles: int, as_json: bool, config_path: str | None) -> None:
    """Show data of a guest or the host in the last cycles, newest first. mom keeps about an hour of cycles; recordings keep more."""
    client = Client.configured(config_path)
    path = "/v1/host/history" if whose == Host.ID else f"/v1/guests/{coded(whose)}/history"
    samples = client.get(f"{path}?limit={cycles}")["items"]
    if as_json:
        click.echo(json.dumps(samples))
        return
    units = {
        field["name"]: field["unit"] for field in client.get("/v1/fields")["items"] if (field["scope"] == Host.ID) is (whose == Host.ID)
    }
    known_fields = {name for sample in samples for name, value in sample["fields"].items() if value is not None}
    columns = [
        name for name in (_OF_HOST if whose == Host.ID else dict.fromkeys((*_OF_GUEST, *sorted(known_fields)))) if name in known_fields
    ]
    heads = _OF_HOST if whose == Host.ID else {"mem_available": "memory"}  # in oVirt MOM, this field is the total
    rows = [[_time(past["time"]), *(_amount(past["fields"].get(name), units.get(name, "")) for name in columns)] for past in samples]
    print_table(("time", *(TableColumn(heads.get(name, name), rank) for rank, name in enumerate(columns))), rows)
    print_prose(f"from {client.path}")


@click.command("events")
@click.option("-f", "--follow", is_flag=True, help="Print further events until Ctrl-C.")
@common_options
def events_command(follow: bool, as_json: bool, config_path: str | None) -> None:
    """Show the last cycle in one line. With --follow, also show each further cycle and other events.

    Exit code 1 if mom exits, or disconnects a slow reader.
    """
    client = Client.configured(config_path)
    try:
        for name, content in client.events():
            if as_json:
                click.echo(json.dumps({"event": name, **content}))
            elif name == "cycle":
                print_prose(_cycle_line(client.get("/v1/report?fields=")), 4)
            else:
                print_prose(f"{time.strftime('%H:%M:%S')} {printable(name)}: {brief(json.dumps(content), 400)}", 4)
            if not follow:
                return
        click.echo("mom: mom has ended the connection (mom is stopping, or was reloaded)", err=True)
    except MomError as error:
        click.echo(f"mom: {error}", err=True)
    sys.exit(1)


def _cycle_line(report: Mapping[str, Any]) -> str:
    cycle = report["cycle"]
    changes = ", ".join(f"{count} {status}" for status, count in report["outcome_counts"].items() if count and status != Status.UNCHANGED)
    woken = f", woken by {printable(cycle['woken_by'])}" if cycle["woken_by"] else ""
    available = report["host"]["fields"].get("mem_really_available")
    host = "" if available is None else f", {format_kib(available)} available on the host"
    problems = f", {count_of(len(report['problems']), 'problem')}" if report["problems"] else ""
    rows = report["guests"]["rows"]
    guests = "guests unknown" if guests_unknown(cast("Any", report)) else count_of(len(rows), "guest")
    return (
        f"{_time(cycle['time'])} cycle {cycle['number']}: {guests}, {changes or 'nothing done'}{host}{problems}, "
        f"{cycle['duration_seconds'] * 1e3:.0f} ms{woken}"
    )


def _time(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(seconds))


def _amount(value: Value, unit: str) -> str:
    return brief(amount(float(f"{value:.4g}") if isinstance(value, float) else value, unit), 80)


@click.command("page", short_help="Open the web page in a browser on your own computer, through ssh.")
@click.option("--port", type=click.IntRange(1, 65535), default=8132, show_default=True, help="Port that ssh forwards.")
@common_options
def page_command(port: int, as_json: bool, config_path: str | None) -> None:
    """Print an address that opens the web page in one browser, and wait, so that ssh keeps forwarding the port.

    On the workstation, run: ssh -o ExitOnForwardFailure=yes -L 8132:/run/mom/mom-page.sock root@HOST mom page

    Other users of the workstation cannot use the port, because mom requires a key. The key in the address works once, within two minutes.
    The browser then has your rights until this command or mom exits, for at most 12 hours.
    """
    answer = Client.configured(config_path).ask("POST", "/v1/page-keys")
    address = f"http://localhost:{port}/#key={quote(str(answer['key']))}"
    click.echo(json.dumps({"url": address, **answer}) if as_json else address)
    tunnel = shlex.quote(printable(f"{port}:{answer['socket']}", 200))
    forward = f"ssh -o ExitOnForwardFailure=yes -L {tunnel} USER@{socket.gethostname()} mom page"
    click.echo(f"The address works once, within {answer['seconds']:.0f} s, on a workstation that ran: {forward}", err=True)
    click.echo("Ctrl-C or the end of input ends this command and the session of the page.", err=True)
    sys.stdout.flush()
    with contextlib.suppress(KeyboardInterrupt):
        while sys.stdin.buffer.read(4096):
            pass
