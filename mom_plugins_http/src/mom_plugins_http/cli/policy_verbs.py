"""`mom policy list`, `show`, `set`, `canary`, `remove`, `reset`, `rollback` and `history`: the policies of a running mom."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from mom_core import MomError, UnitError, first_names, format_duration, parse_duration, printable
from mom_daemon import as_caller, config_option, json_option, print_prose, print_text
from mom_plugins_http.cli.client import ANSWER_SECONDS, READ_SECONDS, ApiRefusedError, Client, coded

Function = TypeVar("Function", bound=Callable[..., Any])

_CANARY: Final = "/v1/policy-canary"

_LOOK_SECONDS: Final = 2.0
"""How often it is looked whether a trial has ended."""

_SHOWN_GUESTS: Final = 10

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
    trial = _running_trial(client)
    if trial is not None:
        print_prose(f"{printable(trial['what'], 400)} is tried on {len(trial['on'])} guests: `mom policy canary` shows how they fare", 2)


def _running_trial(client: Client) -> Any:
    try:
        found = client.get(_CANARY)["canary"]
    except ApiRefusedError:  # this evaluator can try nothing
        return None
    return found if found is not None and found["state"] == "running" else None


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
@click.option("--canary", "share", metavar="PERCENT", help="First for so many of the guests only, such as 10%.")
@click.option("--guests", metavar="PATTERN", help="First for the guests of this name or id only, such as 'test-*'.")
@click.option("--for", "lasts", default=None, metavar="TIME", help="How long it is tried on them.  [default: 10m]")
@_seen
@common_options
@as_caller
def set_command(
    name: str,
    file: Any,
    only_check: bool,
    share: str | None,
    guests: str | None,
    lasts: str | None,
    version: str | None,
    as_json: bool,
    config_path: str | None,
) -> None:
    """Set the policy NAME of the running mom to the text in FILE, or on the standard input (-), from the next cycle on.

    It is checked first, together with all others; what is in force stays so if anything is wrong. It takes the place of a file or
    default of the same name until `mom policy reset` or `remove`, and across restarts with `keep_changes: true` of the plugin policy.

    With --canary or --guests it is tried on some guests first, while all others keep what is in force. As soon as those fare worse than
    before and than the others, or the host does, it is rolled back; at the end of the time it goes into force for all if enough is known
    that speaks for it, and is rolled back if not. `mom policy canary` shows how it goes.
    """
    on_some = share is not None or guests is not None
    if share is not None and guests is not None:
        raise click.UsageError("--canary and --guests exclude each other")
    if lasts is not None and not on_some:
        raise click.UsageError("--for goes with --canary or --guests")
    if share is not None and not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,6})?\s*%", share.strip()):
        raise click.UsageError(f"{printable(share)!r} is no share of the guests: write it like 10%")
    try:
        parse_duration(lasts or "10m")
    except UnitError as error:
        raise click.UsageError(f"--for: {error}") from None
    try:
        text = file.read(_LONGEST_TEXT).decode("utf-8")
    except UnicodeDecodeError as error:
        what = f"{printable(file.name)} is no text in UTF-8: byte {error.start} (save it as UTF-8)"
        raise click.BadParameter(what, param_hint="FILE") from None
    client = Client.configured(config_path)
    changes: dict[str, object] = {"changes": {name: text}}
    if only_check:
        _check(client, changes, as_json=as_json)
    elif on_some:
        who = {"share": share} if share is not None else {"guests": guests}
        trial = {**changes, **who, "duration": lasts or "10m"}
        made = client.ask("POST", _CANARY, trial, seen=_tag(version))
        _show_canary(made["canary"], as_json=as_json)
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


@click.command("canary", short_help="Show or end what is tried on some guests.")
@click.option("--promote", is_flag=True, help="Put it in force for all guests now.")
@click.option("--abort", is_flag=True, help="End the trial now; nothing changes.")
@click.option("--wait", is_flag=True, help="Wait for its end; exit code 1 when it is rolled back or ended.")
@_seen
@common_options
@as_caller
def canary_command(promote: bool, abort: bool, wait: bool, version: str | None, as_json: bool, config_path: str | None) -> None:
    """Show how the policies fare that are tried on some guests (`mom policy set … --canary 10%`), or how the last trial ended."""
    if promote + abort + wait > 1:
        raise click.UsageError("--promote, --abort and --wait exclude each other")
    client = Client.configured(config_path, reading=ANSWER_SECONDS if wait else READ_SECONDS)
    if promote or abort:
        method, path = ("POST", f"{_CANARY}/promotion") if promote else ("DELETE", _CANARY)
        found = client.ask(method, path, seen=_tag(version))["canary"]
    else:
        found = client.get(_CANARY)["canary"]
        began = found and found["began_at"]
        while wait and found is not None and found["state"] == "running":
            time.sleep(min(_LOOK_SECONDS, max(0.2, found["left_seconds"])))
            found = client.get(_CANARY)["canary"]
            if found is None or found["began_at"] != began:
                message = "the trial is gone: mom was started anew, or another one has begun"
                raise MomError(message, hint="`mom policy list` shows what is in force")
    if found is None and not as_json:
        print_prose("No policy has been tried on some guests since mom began.", 2)
    else:
        _show_canary(found, as_json=as_json)
    if wait and (found is None or found["state"] != "promoted"):
        sys.exit(1)


def _show_canary(found: Any, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(found))
        return
    whom = f"guests {printable(found['guests'])}" if found["guests"] else f"{100 * found['share']:g} % of the guests"
    lasts = format_duration(round(found["duration_seconds"]))
    begun = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(found["began_at"]))
    print_prose(f"{printable(found['what'], 400)}, on {whom} for {lasts}, begun {begun} by {printable(found['who'], 200)}", 2)
    reason = f": {printable(found['reason'], 400)}" if found["reason"] else ""
    left = f", {format_duration(round(found['left_seconds']))} left" if found["state"] == "running" else ""
    print_prose(f"{found['state']}{left}{reason}", 2)
    if found["cycles"]:
        print_prose(f"after {found['cycles']} cycles    guests  samples  known  unhealthy  killed", 2)
        for title, group in (("on trial", "canary"), ("all others", "others"), ("on trial, before", "before")):
            one = found[group]
            click.echo(f"  {title:<18}{one['guests']:6}{one['samples']:9}{one['known']:7}{one['unhealthy']:11}{one['killed']:8}")
    if found["on"]:
        print_prose(f"on {first_names([one['name'] for one in found['on']], _SHOWN_GUESTS)}", 2)
    if found["note"]:
        print_prose(printable(found["note"], 400), 2)


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
        # A trial on some guests makes versions of the same texts: what is meant is the last one that says something else.
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
