"""`mom policy list`, `show`, `set`, `remove`, `reset`, `rollback` and `history`: the policies of a running mom."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from mom_core import MomError, printable
from mom_daemon import as_caller, config_option, json_option, print_prose, print_text
from mom_plugins_http.cli.client import Client, coded

Function = TypeVar("Function", bound=Callable[..., Any])

_LONGEST_TEXT: Final = 64 << 20
"""Bytes of a policy that are read; the server takes less."""


def common_options(function: Function) -> Function:
    """The options of every verb that asks a running mom."""
    return config_option(json_option(function))


def _seen(function: Function) -> Function:
    text = "Only if the policies are still at this version, as `mom policy list` prints it."
    return click.option("--if-version", "version", metavar="VERSION", help=text)(function)


def _tag(version: str | None) -> str:
    """The entity tag of a version that the caller has seen; without one, the newest is taken, whatever it is."""
    return f'"{version}"' if version else "*"


def _changed(client: Client, method: str, path: str, body: dict[str, object] | None, version: str | None, as_json: bool) -> None:
    """Change something and say what the policies are now."""
    made = client.ask(method, path, body, seen=_tag(version))
    if as_json:
        click.echo(json.dumps(made))
    else:
        print_prose(f"The policies are at version {made['version']}: {', '.join(map(printable, made['names'])) or 'there are none'}.", 2)


@click.command("list", short_help="List the policies in force.")
@common_options
@as_caller
def list_command(as_json: bool, config_path: str | None) -> None:
    """List the policies that are in force in the running mom, and where they come from."""
    client = Client.configured(config_path)
    found = client.get("/v1/policies")
    if as_json:
        click.echo(json.dumps(found))
        return
    width = max((len(printable(one["name"])) for one in found["items"]), default=0)
    for one in found["items"]:
        print_prose(f"{printable(one['name']):<{width}}  {printable(one['origin'], 200)}", 2)
    print_prose(f"version {found['version']}", 2)


@click.command("show", short_help="Print a policy that is in force.")
@click.argument("name")
@common_options
@as_caller
def show_command(name: str, as_json: bool, config_path: str | None) -> None:
    """Print the policy NAME as it is in force in the running mom."""
    found = Client.configured(config_path).get(f"/v1/policies/{coded(name)}")
    if as_json:
        click.echo(json.dumps(found))
    else:
        print_text(found["text"])


@click.command("set", short_help="Set a policy, from the next cycle on.")
@click.argument("name")
@click.argument("file", type=click.File("rb"))
@click.option("--check", "only_check", is_flag=True, help="Only say what would be wrong with it.")
@_seen
@common_options
@as_caller
def set_command(name: str, file: Any, only_check: bool, version: str | None, as_json: bool, config_path: str | None) -> None:
    """Set the policy NAME of the running mom to the text in FILE, or on the standard input (-), from the next cycle on.

    It is checked first, together with all others; what is in force stays so if anything is wrong. It takes the place of a file or
    default of the same name until `mom policy reset` or `remove`, and across restarts with `keep_changes: true` of the plugin policy.
    """
    try:
        text = file.read(_LONGEST_TEXT).decode("utf-8")
    except UnicodeDecodeError as error:
        what = f"{printable(file.name)} is no text in UTF-8: byte {error.start} (save it as UTF-8)"
        raise click.BadParameter(what, param_hint="FILE") from None
    client = Client.configured(config_path)
    changes: dict[str, object] = {"changes": {name: text}}
    if only_check:
        _check(client, changes, as_json=as_json)
    else:
        _changed(client, "PATCH", "/v1/policies", changes, version, as_json)
        if not as_json:
            _print_remarks(client.ask("POST", "/v1/policy-check", changes))


def _check(client: Client, changes: dict[str, object], *, as_json: bool) -> None:
    found = client.ask("POST", "/v1/policy-check", changes)
    if as_json:
        click.echo(json.dumps(found))
    else:
        if found["good"]:
            print_prose("It could be set.", 2)
        _print_remarks(found)
    if not found["good"]:
        sys.exit(1)


def _print_remarks(found: Any) -> None:
    for one in [*found["problems"], *found["warnings"]]:
        place = f"{printable(one['name'])}:{one['line']}:{one['column']}"
        advice = f" ({printable(one['hint'], 400)})" if one["hint"] else ""
        print_prose(f"{place}: {one['severity']}: {printable(one['message'], 400)}{advice} [{one['kind']}]", 2)


@click.command("remove", short_help="Remove a policy.")
@click.argument("name")
@_seen
@common_options
@as_caller
def remove_command(name: str, version: str | None, as_json: bool, config_path: str | None) -> None:
    """Remove the policy NAME from the running mom, also one from a file or a default one, until `mom policy reset`."""
    _changed(Client.configured(config_path), "DELETE", f"/v1/policies/{coded(name)}", None, version, as_json)


@click.command("reset", short_help="Forget what was changed at run time.")
@_seen
@common_options
@as_caller
def reset_command(version: str | None, as_json: bool, config_path: str | None) -> None:
    """Forget all that was changed in the running mom, and read the files again."""
    _changed(Client.configured(config_path), "POST", "/v1/policy-reset", None, version, as_json)


@click.command("rollback", short_help="Go back to an earlier version.")
@click.argument("to", required=False, metavar="[VERSION]")
@_seen
@common_options
@as_caller
def rollback_command(to: str | None, version: str | None, as_json: bool, config_path: str | None) -> None:
    """Make the policies of the running mom what they were in VERSION, or before the last change."""
    client = Client.configured(config_path)
    if to is None:
        history = client.get("/v1/policy-history")["items"]
        if len(history) < 2:
            raise MomError("there is no earlier version to go back to", hint="`mom policy reset` goes back to the files")
        # A reload makes a version of the same texts: go back to the last one that differs.
        changes = next((index for index, one in enumerate(history[:-1]) if one["diff"]), 0)
        version, to = version or history[0]["version"], history[changes + 1]["version"]
    _changed(client, "POST", "/v1/policy-rollback", {"version": to}, version, as_json)


@click.command("history", short_help="List the last changes: who, when, what.")
@click.option("--diff", "with_diff", is_flag=True, help="Also what was changed in the texts.")
@common_options
@as_caller
def history_command(with_diff: bool, as_json: bool, config_path: str | None) -> None:
    """List the last changes of the policies of the running mom, newest first."""
    items = Client.configured(config_path).get("/v1/policy-history")["items"]
    if as_json:
        click.echo(json.dumps(items))
        return
    for one in items:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one["time"]))
        print_prose(f"{one['version']}  {when}  {printable(one['who'], 200)}: {printable(one['what'], 400)}", 2)
        for line in one["diff"].splitlines() if with_diff else ():
            print_prose(f"    {printable(line, 400)}", 6)
