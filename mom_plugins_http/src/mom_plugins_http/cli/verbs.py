"""`mom history`, `mom events`, `mom page`, `mom reserve` and `mom admit`."""

from __future__ import annotations

import contextlib
import json
import shlex
import socket
import sys
import time
from collections.abc import Mapping
from typing import Any, Final, cast
from urllib.parse import quote, urlencode

import click

from mom_core import Host, MomError, Status, Value, count_of, format_duration, format_kib, printable
from mom_daemon import TableColumn, amount, brief, print_prose, print_table
from mom_daemon.report_words import guests_unknown
from mom_plugins_http.cli.client import ANSWER_SECONDS, Client, Shown, coded, common_options, running_verb

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


_POLL_SECONDS: Final = 1.0

_MAKE: Final = "memory"


class _ReserveGroup(click.Group):
    # `mom reserve 8GiB` means `mom reserve memory 8GiB`.

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [_MAKE, *args]
        return super().parse_args(ctx, args)


@click.group("reserve", cls=_ReserveGroup, short_help="Reserve memory for a launch.")
def reserve_command() -> None:
    """Reserve memory of the host for the launch of a guest.

    \b
    mom reserve 8GiB --for 10m --wait        all options: mom reserve memory --help

    mom shrinks other guests by the policy in force, never below their need or guarantee. The next guest that fits uses the reservation.
    """


@reserve_command.command(_MAKE, short_help="Reserve memory; the word `memory` is optional.")
@click.argument("memory")
@click.option("--for", "lasts", default="10m", show_default=True, metavar="TIME", help="How long mom keeps the reservation.")
@click.option(
    "--name", default="", metavar="PATTERN", help="Only for guests with this name or id, such as 'db-*'.  [default: any guest that fits]"
)
@click.option("--wait", is_flag=True, help="Wait until all of the memory is free; exit code 1 if the reservation expires first.")
@running_verb
def memory_command(client: Client, memory: str, lasts: str, name: str, wait: bool) -> Shown:
    """Reserve MEMORY, such as 8GiB.

    Prints the reservation's id, how much of the memory is free, and when the rest is expected. If there is too little memory, mom refuses
    at once and prints the figures (exit code 1). With --wait, Ctrl-C releases the reservation.
    """
    client.reading = ANSWER_SECONDS
    reservation = client.ask("POST", "/v1/reservations", {"memory": memory, "deadline": lasts, "name": name})
    if not wait:
        return _shown(reservation)
    try:
        reservation = _wait(client, reservation)
    except KeyboardInterrupt:
        _release(client, reservation["id"])
        print_prose(f"mom: reservation {reservation['id']} is released", 2, err=True)
        raise
    return _shown(reservation)._replace(good=reservation["state"] in {"ready", "taken", "used"})


def _wait(client: Client, reservation: Any) -> Any:
    printed = ""
    while reservation["state"] == "making":
        text = f"{format_kib(reservation['there_kib'])} of {format_kib(reservation['memory_kib'])} are free, {_missing(reservation)}"
        if text != printed:
            print_prose(text, 2, err=True)
            printed = text
        time.sleep(_POLL_SECONDS)
        reservation = client.get(f"/v1/reservations/{coded(reservation['id'])}")
    return reservation


def _missing(reservation: Any) -> str:
    when = reservation["expected_in_seconds"]
    text = "it is unknown when the rest becomes free" if when is None else f"the rest is expected in about {max(when, 1):.0f} s"
    return text + (f"; {printable(reservation['note'], 300)}" if reservation["note"] else "")


def _release(client: Client, identity: str) -> Any:
    return client.ask("DELETE", f"/v1/reservations/{coded(identity)}")


def _shown(reservation: Any) -> Shown:
    return Shown(reservation, [_line(reservation)])


def _line(reservation: Any) -> str:
    whom = f" for {printable(reservation['name'])}" if reservation["name"] else ""
    start = f"{reservation['id']}  {format_kib(reservation['memory_kib'])}{whom}"
    left = f"kept for {format_duration(round(reservation['expires_in_seconds']))}"
    if reservation["state"] == "making":
        return f"{start}: {format_kib(reservation['there_kib'])} are free, {_missing(reservation)}; {left}"
    if reservation["state"] == "ready":
        return f"{start}: all of it is free; {left}"
    if reservation["state"] == "taken":
        guest = printable(reservation["guest"]["name"]) if reservation["guest"] else "a guest"
        return f"{start}: {guest} has arrived, and has not touched {format_kib(reservation['kept_kib'])} of it yet; {left}"
    return f"{start}: {reservation['state']}, {printable(reservation['note'], 300)}"


@reserve_command.command("list", short_help="List reservations and available memory.")
@running_verb
def list_command(client: Client) -> Shown:
    """List the reservations of the running mom, and the memory available for more."""
    answer = client.get("/v1/reservations")
    return Shown(answer, [*map(_line, answer["items"]), _room(answer["room"])])


def _room(room: Any) -> str:
    if room is None:
        return "Nothing can be reserved: the host's available memory is unknown now."
    why = f"; guests release nothing: {printable(room['why'])}" if room["why"] else ""
    rise = f"; {printable(room['rise'])}" if room["rise"] else ""
    return f"{format_kib(room['most_kib'])} can be reserved, {format_kib(room['free_kib'])} of it immediately{why}{rise}."


@reserve_command.command("release", short_help="Release a reservation.")
@click.argument("identity", metavar="ID")
@running_verb
def release_command(client: Client, identity: str) -> Shown:
    """Release the reservation ID. Guests get their memory back."""
    return _shown(_release(client, identity))


@click.command("admit", short_help="Check whether more guests fit on this host.")
@click.option("--memory", required=True, metavar="SIZE", help="Maximum memory of each guest, such as 8GiB.")
@click.option("--class", "sla_class", default="", metavar="CLASS", help="Service class.  [default: the sla plugin's default]")
@click.option("--count", type=click.IntRange(1, 10_000), default=1, show_default=True, help="Number of guests.")
@running_verb
def admit_command(client: Client, memory: str, sla_class: str, count: int) -> Shown:
    """Check whether more guests fit on this host without breaking a promise, and which guests would have to shrink.

    The running mom needs the sla and http plugins. Memory reserved for launches does not count as free. This command reserves nothing;
    `mom reserve` does. Exit code 1 if the guests do not fit, or if mom cannot tell.
    """
    query = urlencode({"memory": memory, "count": count, **({"class": sla_class} if sla_class else {})}, errors="surrogateescape")
    answer = client.get(f"/v1/admission?{query}")
    return Shown(answer, _admission(answer), answer["admitted"])


def _admission(answer: Any) -> list[str]:
    count, fits = answer["count"], answer["fits"]
    subject = f"{count_of(count, 'guest')} of {format_kib(answer['memory_kib'])}, class {printable(answer['sla_class'] or 'none')}"
    lines = [f"yes: {subject} would fit" if answer["admitted"] else f"no: {subject} would not fit" + (f"; {fits} would" if fits else "")]
    lines += [f"  {printable(reason, 400)}" for reason in answer["reasons"]]
    if answer["donors"]:
        lines.append("guests that would have to shrink:" if answer["admitted"] else "to make room, these guests would have to shrink:")
        for donor in answer["donors"]:
            part = "of its guarantee" if donor["promise"] else "of memory that is neither used nor guaranteed"
            lines.append(f"  {printable(donor['guest']['name'])}: {format_kib(donor['kib'])} {part}")
    return lines
