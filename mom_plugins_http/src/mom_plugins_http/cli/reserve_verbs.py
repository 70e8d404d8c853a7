"""`mom reserve`."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, Final

import click

from mom_core import MomError, UnitError, format_duration, format_kib, parse_duration, parse_size, printable
from mom_daemon import print_prose
from mom_kvm import Room
from mom_plugins_http.cli.client import ANSWER_SECONDS, ApiRefusedError, Client, coded
from mom_plugins_http.cli.running_verb import Shown, running_verb

_POLL_SECONDS: Final = 1.0

_MAKE: Final = "memory"

_NO_ANSWER_SECONDS: Final = 20.0
"""`--wait` tolerates this many seconds without an answer, because mom may be restarting."""


class _ReserveGroup(click.Group):
    # `mom reserve 8GiB` means `mom reserve memory 8GiB`.

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [_MAKE, *args]
        return super().parse_args(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, _MAKE if cmd_name[:1].isdigit() or cmd_name.startswith("-") else cmd_name)


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
@click.option("--keep", is_flag=True, help="With --wait: keep the reservation after Ctrl-C.")
@click.pass_context
@running_verb
def memory_command(client: Client, context: click.Context, memory: str, lasts: str, name: str, wait: bool, keep: bool) -> Shown:
    """Reserve MEMORY, such as 8GiB.

    Prints the reservation's id, how much of the memory is free, and when the rest is expected. If there is too little memory, mom refuses
    at once and prints the figures (exit code 1).
    """
    try:
        parse_size(memory)
        parse_duration(lasts)
    except UnitError as error:
        raise click.UsageError(str(error)) from None
    client.reading = ANSWER_SECONDS
    with _interruptible():
        reservation = client.ask("POST", "/v1/reservations", {"memory": memory, "deadline": lasts, "name": name})
        if not wait:
            return _shown(reservation)
        try:
            reservation = _wait(client, reservation, quiet=bool(context.params["as_json"]))
        except KeyboardInterrupt:
            if not keep:
                _release(client, reservation["id"])
                print_prose(f"mom: reservation {reservation['id']} is released", 2, err=True)
            raise
    return _shown(reservation)._replace(good=reservation["state"] in {"ready", "taken", "used"})


def _wait(client: Client, reservation: Any, *, quiet: bool) -> Any:
    silent_since: float | None = None
    printed = ""
    while reservation["state"] == "making":
        text = f"{format_kib(reservation['there_kib'])} of {format_kib(reservation['memory_kib'])} are free, {_missing(reservation)}"
        if not quiet and text != printed:
            print_prose(text, 2, err=True)
            printed = text
        time.sleep(_POLL_SECONDS)
        try:
            reservation = client.get(f"/v1/reservations/{coded(reservation['id'])}")
            silent_since = None
        except ApiRefusedError as error:
            if error.status != 503:
                raise
        except MomError:
            now = time.monotonic()
            silent_since = now if silent_since is None else silent_since
            if now - silent_since > _NO_ANSWER_SECONDS:
                raise
    return reservation


def _missing(reservation: Any) -> str:
    when = reservation["expected_in_seconds"]
    text = "it is unknown when the rest becomes free" if when is None else f"the rest is expected in about {max(when, 1):.0f} s"
    return text + (f"; {printable(reservation['note'], 300)}" if reservation["note"] else "")


def _release(client: Client, identity: str) -> Any:
    return client.ask("DELETE", f"/v1/reservations/{coded(identity)}")


@contextmanager
def _interruptible() -> Iterator[None]:
    # A script that SIGTERM stops must leave no reservation.

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


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
    return Shown(answer, [*map(_line, answer["items"]), _room(answer["room"], further=bool(answer["items"]))])


def _room(room: Any, *, further: bool) -> str:
    if room is None:
        return "Nothing can be reserved: the host's available memory is unknown now."
    figures = f"{format_kib(room['free_kib'])} of it immediately"
    if room["most_kib"] < _memory_kib(room):
        figures += "; there is memory for more, but reserving more would break a promise to guests (`mom admit --memory SIZE` shows which)"
    if room["why"]:
        figures += f"; guests release nothing: {printable(room['why'])}"
    if room["rise"]:
        figures += f"; {printable(room['rise'])}"
    return f"{format_kib(room['most_kib'])} can be reserved{' in addition' if further else ''}, {figures}."


def _memory_kib(room: Any) -> int:
    return Room(**{member.name: room[member.name] for member in fields(Room)}).most_kib


@reserve_command.command("release", short_help="Release a reservation.")
@click.argument("identity", metavar="ID")
@running_verb
def release_command(client: Client, identity: str) -> Shown:
    """Release the reservation ID. Guests get their memory back."""
    return _shown(_release(client, identity))
