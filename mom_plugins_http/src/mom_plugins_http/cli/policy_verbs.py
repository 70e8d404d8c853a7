"""`mom policy list`, `show`, `set`, `remove`, `reset`, `rollback` and `history`, for a running mom."""

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
"""Limit in bytes; the server accepts less."""


def common_options(function: Function) -> Function:
    """Add the common options of subcommands for a running mom."""
    return config_option(json_option(function))


def _version_option(function: Function) -> Function:
    text = "Change only if the policies still have this version (see `mom policy list`)."
    return click.option("--if-version", "version", metavar="VERSION", help=text)(function)


def _tag(version: str | None) -> str:
    return f'"{version}"' if version else "*"


def _change(client: Client, method: str, path: str, body: dict[str, object] | None, version: str | None, as_json: bool) -> None:
    policies = client.ask(method, path, body, seen=_tag(version))
    if as_json:
        click.echo(json.dumps(policies))
    else:
        names = ", ".join(map(printable, policies["names"])) or "no policies"
        print_prose(f"The policies are at version {policies['version']}: {names}.", 2)


@click.command("list", short_help="List the policies in force.")
@common_options
@as_caller
def list_command(as_json: bool, config_path: str | None) -> None:
    """List the policies in force in the running mom, and their origins."""
    policies = Client.configured(config_path).get("/v1/policies")
    if as_json:
        click.echo(json.dumps(policies))
        return
    width = max((len(printable(policy["name"])) for policy in policies["items"]), default=0)
    for policy in policies["items"]:
        print_prose(f"{printable(policy['name']):<{width}}  {printable(policy['origin'], 200)}", 2)
    print_prose(f"version {policies['version']}", 2)


@click.command("show", short_help="Print a policy in force.")
@click.argument("name")
@common_options
@as_caller
def show_command(name: str, as_json: bool, config_path: str | None) -> None:
    """Print the policy NAME of the running mom."""
    policy = Client.configured(config_path).get(f"/v1/policies/{coded(name)}")
    if as_json:
        click.echo(json.dumps(policy))
    else:
        print_text(policy["text"])


@click.command("set", short_help="Set a policy, from the next cycle on.")
@click.argument("name")
@click.argument("file", type=click.File("rb"))
@click.option("--check", "only_check", is_flag=True, help="Check the policy, but do not set it.")
@_version_option
@common_options
@as_caller
def set_command(name: str, file: Any, only_check: bool, version: str | None, as_json: bool, config_path: str | None) -> None:
    """Set the policy NAME of the running mom to the text in FILE (`-` is standard input), from the next cycle on.

    mom first checks the policy together with all others. If there is an error, nothing changes. The text replaces a file or default of the
    same name until `mom policy reset` or `remove`. With `keep_changes: true` of the policy plugin, the text also survives restarts.
    """
    try:
        text = file.read(_LONGEST_TEXT).decode("utf-8")
    except UnicodeDecodeError as error:
        message = f"{printable(file.name)} is not UTF-8 text: byte {error.start} (save it as UTF-8)"
        raise click.BadParameter(message, param_hint="FILE") from None
    client = Client.configured(config_path)
    changes: dict[str, object] = {"changes": {name: text}}
    if only_check:
        _check(client, changes, as_json=as_json)
    else:
        _change(client, "PATCH", "/v1/policies", changes, version, as_json)
        if not as_json:
            _print_remarks(client.ask("POST", "/v1/policy-check", changes))


def _check(client: Client, changes: dict[str, object], *, as_json: bool) -> None:
    result = client.ask("POST", "/v1/policy-check", changes)
    if as_json:
        click.echo(json.dumps(result))
    else:
        if result["good"]:
            print_prose("The policy is valid.", 2)
        _print_remarks(result)
    if not result["good"]:
        sys.exit(1)


def _print_remarks(result: Any) -> None:
    for remark in [*result["problems"], *result["warnings"]]:
        place = f"{printable(remark['name'])}:{remark['line']}:{remark['column']}"
        advice = f" ({printable(remark['hint'], 400)})" if remark["hint"] else ""
        print_prose(f"{place}: {remark['severity']}: {printable(remark['message'], 400)}{advice} [{remark['kind']}]", 2)


@click.command("remove", short_help="Remove a policy.")
@click.argument("name")
@_version_option
@common_options
@as_caller
def remove_command(name: str, version: str | None, as_json: bool, config_path: str | None) -> None:
    """Remove the policy NAME, even a file or a default, from the running mom until `mom policy reset`."""
    _change(Client.configured(config_path), "DELETE", f"/v1/policies/{coded(name)}", None, version, as_json)


@click.command("reset", short_help="Drop all changes made at run time, and read the files again.")
@_version_option
@common_options
@as_caller
def reset_command(version: str | None, as_json: bool, config_path: str | None) -> None:
    """Drop all changes made in the running mom, and read the policy files again."""
    _change(Client.configured(config_path), "POST", "/v1/policy-reset", None, version, as_json)


@click.command("rollback", short_help="Restore an earlier version.")
@click.argument("to", required=False, metavar="[VERSION]")
@_version_option
@common_options
@as_caller
def rollback_command(to: str | None, version: str | None, as_json: bool, config_path: str | None) -> None:
    """Restore the policies of VERSION, or those before the last change."""
    client = Client.configured(config_path)
    if to is None:
        history = client.get("/v1/policy-history")["items"]
        if len(history) < 2:
            raise MomError("there is no earlier version to restore", hint="`mom policy reset` restores the policies from the files")
        # A reload makes a version with the same texts: restore the last version that differs.
        changes = next((index for index, change in enumerate(history[:-1]) if change["diff"]), 0)
        version, to = version or history[0]["version"], history[changes + 1]["version"]
    _change(client, "POST", "/v1/policy-rollback", {"version": to}, version, as_json)


@click.command("history", short_help="List the last changes.")
@click.option("--diff", "with_diff", is_flag=True, help="Also show the changed lines.")
@common_options
@as_caller
def history_command(with_diff: bool, as_json: bool, config_path: str | None) -> None:
    """List the last changes of policies in the running mom, newest first."""
    items = Client.configured(config_path).get("/v1/policy-history")["items"]
    if as_json:
        click.echo(json.dumps(items))
        return
    for change in items:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(change["time"]))
        print_prose(f"{change['version']}  {when}  {printable(change['who'], 200)}: {printable(change['what'], 400)}", 2)
        for line in change["diff"].splitlines() if with_diff else ():
            print_prose(f"    {printable(line, 400)}", 6)
