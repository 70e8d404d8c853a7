"""`mom policy list`, `show`, `set`, `remove`, `reset`, `rollback` and `history`: the policies of a running mom."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar
from urllib.parse import quote

import click

from mom_core import MomError, printable
from mom_plugins_http.client import Client, RefusedError
from mom_plugins_http.top.verb import top_command

Function = TypeVar("Function", bound=Callable[..., Any])

_ATTEMPTS: Final = 20
"""How often a change is tried again when somebody else has changed the policies in between."""

_LONGEST_TEXT: Final = 64 << 20
"""Bytes of a policy that are read; the server takes less."""


def common_options(function: Function) -> Function:
    """What every verb takes that asks a running mom."""
    option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
    config = click.option(
        "-c",
        "--config",
        "config_path",
        metavar="FILE",
        envvar="MOM_CONFIG",
        default=None,
        help="The configuration of the running mom.  [default: /etc/mom/mom.yaml, or $MOM_CONFIG]",
    )
    return config(option(function))


def _seen(function: Function) -> Function:
    text = "Only if the policies are still at this version, as `mom policy list` prints it."
    return click.option("--if-version", "version", metavar="VERSION", help=text)(function)


def _changed(client: Client, method: str, path: str, body: dict[str, object] | None, version: str | None, as_json: bool) -> None:
    """Change something and say what the policies are now. Without a version that the caller has seen, the newest is taken."""
    made, _ = client.ask(method, path, body, seen=f'"{version}"' if version else "*")
    if as_json:
        click.echo(json.dumps(made))
    else:
        click.echo(f"The policies are at version {made['version']}: {', '.join(map(printable, made['names'])) or 'there are none'}.")


@click.command("policy list", short_help="List the policies in force.")
@common_options
def list_command(as_json: bool, config_path: str | None) -> None:
    """List the policies that are in force in the running mom, and where they come from."""
    found, _ = Client.configured(config_path).get("/v1/policies")
    if as_json:
        click.echo(json.dumps(found))
        return
    width = max((len(printable(one["name"])) for one in found["items"]), default=0)
    for one in found["items"]:
        click.echo(f"{printable(one['name']):<{width}}  {printable(one['origin'], 200)}")
    click.echo(f"version {found['version']}")


@click.command("policy show", short_help="Print a policy that is in force.")
@click.argument("name")
@common_options
def show_command(name: str, as_json: bool, config_path: str | None) -> None:
    """Print the policy NAME as it is in force in the running mom."""
    found, _ = Client.configured(config_path).get(f"/v1/policies/{quote(name, safe='')}")
    click.echo(json.dumps(found) if as_json else found["text"], nl=as_json or not found["text"].endswith("\n"))


@click.command("policy set", short_help="Set a policy, from the next cycle on.")
@click.argument("name")
@click.argument("file", type=click.File("rb"))
@click.option("--check", "only_check", is_flag=True, help="Only say what would be wrong with it.")
@_seen
@common_options
def set_command(name: str, file: Any, only_check: bool, version: str | None, as_json: bool, config_path: str | None) -> None:
    """Set the policy NAME of the running mom to the text in FILE, or on the standard input (-), from the next cycle on.

    It is checked first, together with all others; what is in force stays so if anything is wrong. It takes the place of a file or
    default of the same name until `mom policy reset` or `remove`, and across restarts with `keep_changes: true` of the plugin policy.
    """
    try:
        text = file.read(_LONGEST_TEXT).decode("utf-8")
    except UnicodeDecodeError as error:
        raise MomError(f"{printable(file.name)} is no text in UTF-8: byte {error.start}", hint="save it as UTF-8") from None
    client = Client.configured(config_path)
    changes: dict[str, object] = {"changes": {name: text}}
    if not only_check:
        _changed(client, "PATCH", "/v1/policies", changes, version, as_json)
        return
    found, _ = client.ask("POST", "/v1/policy-check", changes)
    if as_json:
        click.echo(json.dumps(found))
    elif found["good"]:
        click.echo("It could be set.")
    for one in [] if as_json else found["problems"]:
        click.echo(f"{printable(one['name'])}:{one['line']}:{one['column']}: {one['kind']}: {printable(one['message'], 400)}")
    if not found["good"]:
        sys.exit(1)


@click.command("policy remove", short_help="Remove a policy.")
@click.argument("name")
@_seen
@common_options
def remove_command(name: str, version: str | None, as_json: bool, config_path: str | None) -> None:
    """Remove the policy NAME from the running mom, also one from a file or a default one, until `mom policy reset`."""
    _changed(Client.configured(config_path), "DELETE", f"/v1/policies/{quote(name, safe='')}", None, version, as_json)


@click.command("policy reset", short_help="Forget what was changed at run time.")
@_seen
@common_options
def reset_command(version: str | None, as_json: bool, config_path: str | None) -> None:
    """Forget all that was changed in the running mom, and read the files again."""
    _changed(Client.configured(config_path), "POST", "/v1/policy-reset", None, version, as_json)


@click.command("policy rollback", short_help="Go back to an earlier version.")
@click.argument("to", required=False, metavar="[VERSION]")
@_seen
@common_options
def rollback_command(to: str | None, version: str | None, as_json: bool, config_path: str | None) -> None:
    """Make the policies of the running mom what they were in VERSION, or before the last change."""
    client = Client.configured(config_path)
    for _ in range(_ATTEMPTS):
        seen, wanted = version, to
        if wanted is None:
            history = client.get("/v1/policy-history")[0]["items"]
            if len(history) < 2:
                raise MomError("there is no earlier version to go back to", hint="`mom policy reset` goes back to the files")
            seen, wanted = seen or history[0]["version"], history[1]["version"]
        try:
            _changed(client, "POST", "/v1/policy-rollback", {"version": wanted}, seen, as_json)
        except RefusedError as error:
            if error.status != 412 or version is not None:
                raise
            continue
        return
    raise MomError("others change the policies all the time", hint="name the VERSION that is wanted")


@click.command("policy history", short_help="List the last changes: who, when, what.")
@click.option("--diff", "with_diff", is_flag=True, help="Also what was changed in the texts.")
@common_options
def history_command(with_diff: bool, as_json: bool, config_path: str | None) -> None:
    """List the last changes of the policies of the running mom, newest first."""
    items = Client.configured(config_path).get("/v1/policy-history")[0]["items"]
    if as_json:
        click.echo(json.dumps(items))
        return
    for one in items:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one["time"]))
        click.echo(f"{one['version']}  {when}  {printable(one['who'], 200)}: {printable(one['what'], 400)}")
        for line in one["diff"].splitlines() if with_diff else ():
            click.echo(f"    {printable(line, 400)}")


COMMANDS: Final = (list_command, show_command, set_command, remove_command, reset_command, rollback_command, history_command, top_command)
"""Each with a space in its name belongs to the group that its name begins with."""
