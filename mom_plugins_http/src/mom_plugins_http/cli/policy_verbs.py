"""`mom policy`: policies of a running mom."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import chain
from typing import Any, Final

import click

from mom_core import MomError, printable
from mom_daemon import print_text
from mom_plugins_http.cli.client import Client, Shown, coded, common_options, running_verb

_LONGEST_TEXT: Final = 64 << 20


def _change(client: Client, method: str, path: str, body: dict[str, object] | None = None, seen: str = "*") -> Shown:
    policies = client.ask(method, path, body, seen=seen)
    names = ", ".join(map(printable, policies["names"])) or "no policies"
    return Shown(policies, [f"The policies are at version {policies['version']}: {names}."])


@click.command("list", short_help="List the policies in force.")
@running_verb
def list_command(client: Client) -> Shown:
    """List the policies in force in the running mom, and their origins."""
    policies = client.get("/v1/policies")
    width = max((len(printable(policy["name"])) for policy in policies["items"]), default=0)
    lines = [f"{printable(policy['name']):<{width}}  {printable(policy['origin'], 200)}" for policy in policies["items"]]
    return Shown(policies, [*lines, f"version {policies['version']}"])


@click.command("show", short_help="Print a policy in force.")
@click.argument("name")
@common_options
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
@running_verb
def set_command(client: Client, name: str, file: Any, only_check: bool) -> Shown:
    """Set the policy NAME of the running mom to the text in FILE (`-` is standard input), from the next cycle on.

    mom first checks the policy together with all others. If there is an error, nothing changes. Until `mom policy reset` or `remove`, the
    text replaces the policy of the same name from a file or from the defaults. With `keep_changes: true` of the policy plugin, the text
    also survives restarts.
    """
    try:
        text = file.read(_LONGEST_TEXT).decode("utf-8")
    except UnicodeDecodeError as error:
        message = f"{printable(file.name)} is not UTF-8 text: byte {error.start} (save it as UTF-8)"
        raise click.BadParameter(message, param_hint="FILE") from None
    changes: dict[str, object] = {"changes": {name: text}}
    if only_check:
        result = client.ask("POST", "/v1/policy-check", changes)
        return Shown(result, [*(["The policy is valid."] if result["good"] else []), *_remarks(result)], result["good"])
    changed = _change(client, "PATCH", "/v1/policies", changes)
    return changed._replace(lines=chain(changed.lines, _remarks_after(client, changes)))


def _remarks_after(client: Client, changes: dict[str, object]) -> Iterator[str]:
    yield from _remarks(client.ask("POST", "/v1/policy-check", changes))  # not for `--json`


def _remarks(result: Any) -> Iterator[str]:
    for remark in [*result["problems"], *result["warnings"]]:
        place = f"{printable(remark['name'])}:{remark['line']}:{remark['column']}"
        advice = f" ({printable(remark['hint'], 400)})" if remark["hint"] else ""
        yield f"{place}: {remark['severity']}: {printable(remark['message'], 400)}{advice} [{remark['kind']}]"


@click.command("remove", short_help="Remove a policy.")
@click.argument("name")
@running_verb
def remove_command(client: Client, name: str) -> Shown:
    """Remove the policy NAME from the running mom until `mom policy reset`, even if it comes from a file or is a default."""
    seen = client.get(f"/v1/policies/{coded(name)}")["version"]  # or an error that lists the policies
    return _change(client, "PATCH", "/v1/policies", {"changes": {name: None}}, f'"{seen}"')


@click.command("reset", short_help="Drop all changes made at run time, and read the files again.")
@running_verb
def reset_command(client: Client) -> Shown:
    """Drop all changes made in the running mom, and read the policy files again."""
    return _change(client, "POST", "/v1/policy-reset")


@click.command("rollback", short_help="Restore an earlier version of all policies.")
@click.argument("to", required=False, metavar="[VERSION]")
@running_verb
def rollback_command(client: Client, to: str | None) -> Shown:
    """Restore all policies of VERSION, or without VERSION, all policies before the last change."""
    seen = "*"
    if to is None:
        history = client.get("/v1/policy-history")["items"]
        if len(history) < 2:
            raise MomError("there is no earlier version to restore", hint="`mom policy reset` restores the policies from the files")
        # A reload makes a version with equal texts: restore the last different version.
        changes = next((index for index, change in enumerate(history[:-1]) if change["diff"]), 0)
        seen, to = f'"{history[0]["version"]}"', history[changes + 1]["version"]
    return _change(client, "POST", "/v1/policy-rollback", {"version": to}, seen)


@click.command("history", short_help="List the last changes of policies.")
@click.option("--diff", "with_diff", is_flag=True, help="Also show the changed lines.")
@running_verb
def history_command(client: Client, with_diff: bool) -> Shown:
    """List the last changes of policies in the running mom, newest first."""
    items = client.get("/v1/policy-history")["items"]
    return Shown(items, (line for change in items for line in _past_change(change, with_diff)))


def _past_change(change: Any, with_diff: bool) -> Iterator[str]:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(change["time"]))
    yield f"{change['version']}  {when}  {printable(change['who'], 200)}: {printable(change['what'], 400)}"
    if with_diff:
        yield from (f"    {printable(line, 400)}" for line in change["diff"].splitlines())
