"""`mom reserve`: memory of the host for a launch, made and kept."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, Final

import click

from mom_core import MomError, UnitError, format_duration, format_kib, parse_duration, parse_size, printable
from mom_daemon import as_caller, print_prose
from mom_kvm import Room
from mom_plugins_http.cli.client import ANSWER_SECONDS, ApiRefusedError, Client, coded
from mom_plugins_http.cli.policy_verbs import common_options

_POLL_SECONDS: Final = 1.0
"""How often it is looked whether the memory is there; it changes from cycle to cycle, which are seconds."""

_MAKE: Final = "memory"
"""The verb that need not be written."""

_NO_ANSWER_SECONDS: Final = 20.0
"""For so long a mom that does not answer is asked again while a user waits: it may be restarting."""


class _ReserveGroup(click.Group):
    """`mom reserve 8GiB` is `mom reserve memory 8GiB`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Add the verb that was left out."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [_MAKE, *args]
        return super().parse_args(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A verb, or an amount in the place of one."""
        return super().get_command(ctx, _MAKE if cmd_name[:1].isdigit() or cmd_name.startswith("-") else cmd_name)


@click.group("reserve", cls=_ReserveGroup, short_help="Have memory made and kept for a launch.")
@as_caller
def reserve_command() -> None:
    """Have memory of the host made and kept for a guest that is to be launched.

    \b
    mom reserve 8GiB --for 10m --wait        all options: mom reserve memory --help

    mom makes other guests smaller for it by the policy in force, never below what they need or are guaranteed. A guest that is started
    then and fits takes it over.
    """


@reserve_command.command(_MAKE, short_help="Reserve: `memory` need not be written.")
@click.argument("memory")
@click.option("--for", "lasts", default="10m", show_default=True, metavar="TIME", help="For how long it is kept at most.")
@click.option("--name", default="", metavar="PATTERN", help="For guests of this name or id only, such as 'db-*'.  [default: any that fits]")
@click.option("--wait", is_flag=True, help="Wait until all of it is there; exit code 1 when that is not before it expires.")
@click.option("--keep", is_flag=True, help="With --wait: keep it when the waiting is interrupted (Ctrl-C).")
@common_options
def memory_command(memory: str, lasts: str, name: str, wait: bool, keep: bool, as_json: bool, config_path: str | None) -> None:
    """Reserve MEMORY, such as 8GiB.

    What cannot be had is refused at once (exit code 1), with the figures. Otherwise its id is printed, how much of it is there, and when
    the rest is expected.
    """
    try:
        parse_size(memory)
        parse_duration(lasts)
    except UnitError as error:
        raise click.UsageError(str(error)) from None
    client = Client.configured(config_path, reading=ANSWER_SECONDS)
    with _interruptible():
        made = client.ask("POST", "/v1/reservations", {"memory": memory, "deadline": lasts, "name": name})
        if not wait:
            _show(made, as_json=as_json)
            return
        try:
            ended = _waited(client, made, quiet=as_json)
        except KeyboardInterrupt:
            if not keep:
                _release(client, made["id"])
                print_prose(f"mom: reservation {made['id']} is released", 2, err=True)
            raise
    _show(ended, as_json=as_json)
    if ended["state"] not in {"ready", "taken", "used"}:
        sys.exit(1)


def _waited(client: Client, made: Any, *, quiet: bool) -> Any:
    """The reservation when all of it is there, or when it has ended."""
    silent_since: float | None = None
    said = ""
    while made["state"] == "making":
        text = _progress(made)
        if not quiet and text != said:
            print_prose(text, 2, err=True)
            said = text
        time.sleep(_POLL_SECONDS)
        try:
            made = client.get(f"/v1/reservations/{coded(made['id'])}")
            silent_since = None
        except ApiRefusedError as error:
            if error.status != 503:
                raise
        except MomError:
            now = time.monotonic()
            silent_since = now if silent_since is None else silent_since
            if now - silent_since > _NO_ANSWER_SECONDS:
                raise
    return made


def _progress(one: Any) -> str:
    return f"{format_kib(one['there_kib'])} of {format_kib(one['memory_kib'])} are there, {_rest(one)}"


def _rest(one: Any) -> str:
    when = one["expected_in_seconds"]
    rest = "it is unknown when the rest will be" if when is None else f"the rest is expected in some {max(when, 1):.0f} s"
    return rest + (f"; {printable(one['note'], 300)}" if one["note"] else "")


def _release(client: Client, identity: str) -> Any:
    return client.ask("DELETE", f"/v1/reservations/{coded(identity)}")


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM ends the waiting as Ctrl-C does: a script that is stopped leaves no reservation behind."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _show(one: Any, *, as_json: bool) -> None:
    click.echo(json.dumps(one) if as_json else _line(one))


def _line(one: Any) -> str:
    """One reservation for a person."""
    whom = f" for {printable(one['name'])}" if one["name"] else ""
    start = f"{one['id']}  {format_kib(one['memory_kib'])}{whom}"
    left = f"kept for {format_duration(round(one['expires_in_seconds']))}"
    if one["state"] == "making":
        return f"{start}: {format_kib(one['there_kib'])} are there, {_rest(one)}; {left}"
    if one["state"] == "ready":
        return f"{start}: all of it is there; {left}"
    if one["state"] == "taken":
        guest = printable(one["guest"]["name"]) if one["guest"] else "a guest"
        return f"{start}: {guest} has come for it, {format_kib(one['kept_kib'])} are not touched yet; {left}"
    return f"{start}: {one['state']}, {printable(one['note'], 300)}"


@reserve_command.command("list", short_help="List what is reserved, and what could be.")
@common_options
def list_command(as_json: bool, config_path: str | None) -> None:
    """List the reservations of the running mom, and what could be reserved."""
    found = Client.configured(config_path).get("/v1/reservations")
    if as_json:
        click.echo(json.dumps(found))
        return
    for one in found["items"]:
        print_prose(_line(one), 2)
    room = found["room"]
    if room is None:
        print_prose("Nothing can be reserved: mom does not know what is available on the host now.", 2)
        return
    figures = f"{format_kib(room['free_kib'])} of that at once"
    if room["most_kib"] < _memory_kib(room):
        figures += "; memory would do for more, which would break a promise to guests (`mom admit --memory SIZE` says which)"
    if room["why"]:
        figures += f"; guests give nothing: {printable(room['why'])}"
    if room["rise"]:
        figures += f"; {printable(room['rise'])}"
    print_prose(f"{format_kib(room['most_kib'])} can be reserved{' besides' if found['items'] else ''}, {figures}.", 2)


def _memory_kib(room: Any) -> int:
    """The largest reservation, as far as memory goes."""
    return Room(**{one.name: room[one.name] for one in fields(Room)}).most_kib


@reserve_command.command("release", short_help="Give a reservation up.")
@click.argument("identity", metavar="ID")
@common_options
def release_command(identity: str, as_json: bool, config_path: str | None) -> None:
    """Give the reservation ID up: guests get back what was taken for it."""
    _show(_release(Client.configured(config_path), identity), as_json=as_json)
