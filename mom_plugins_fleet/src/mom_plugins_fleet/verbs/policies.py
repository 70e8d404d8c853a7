"""`mom fleet policy`: policies and classes of a group."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import click

from mom_core import MomError, printable
from mom_daemon import json_option, print_prose, print_text
from mom_plugins_fleet.records import Group
from mom_plugins_fleet.verbs.changes import change, standing
from mom_plugins_fleet.verbs.home import FleetHome


@click.group("policy")
def policy_group() -> None:
    """Manage the policies of a group of hosts, and its service classes (classes.yaml)."""


@policy_group.command("show")
@click.argument("group")
@click.argument("name", required=False)
@json_option
@click.pass_obj
def policy_show_command(home: FleetHome, group: str, name: str | None, as_json: bool) -> None:
    """Print the policies of GROUP, or the text of the policy NAME."""
    entry = home.ask(lambda store: standing(home, store, Group, group))
    revision, record, signer = (0, Group(), "nobody") if entry is None else (entry.revision, entry.record, entry.by)
    if as_json:
        click.echo(json.dumps({"revision": revision, **record.model_dump()}))
    elif name is None:
        for title in record.policies:
            print_prose(title, 2)
        print_prose(f"revision {revision}, signed by {signer}", 2)
    else:
        _check_name(record.policies, group, name)
        print_text(record.policies[name])


@policy_group.command("set")
@click.argument("group")
@click.argument("name")
@click.argument("file", type=click.File("rb"))
@click.pass_obj
def policy_set_command(home: FleetHome, group: str, name: str, file: Any) -> None:
    """Set the policy NAME on all hosts of GROUP to the text in FILE (`-` is standard input). Hosts refuse a text with errors.

    classes.yaml as NAME sets service classes that take precedence over the hosts' own: a YAML file with `classes:`.
    """
    try:
        text = file.read(1 << 20).decode("utf-8")
    except UnicodeDecodeError as error:
        raise MomError(f"{printable(file.name, 400)} is not valid UTF-8: byte {error.start}", hint="save it as UTF-8") from None
    _change(home, group, lambda before: {**before, name: text})


@policy_group.command("remove")
@click.argument("group")
@click.argument("name")
@click.pass_obj
def policy_remove_command(home: FleetHome, group: str, name: str) -> None:
    """Remove the policy NAME from GROUP. Without classes.yaml, hosts use their own service classes again."""

    def without(before: Mapping[str, str]) -> Mapping[str, str]:
        _check_name(before, group, name)
        return {title: text for title, text in before.items() if title != name}

    _change(home, group, without)


def _change(home: FleetHome, group: str, wanted: Callable[[Mapping[str, str]], Mapping[str, str]]) -> None:
    def changed(before: Group | None) -> Mapping[str, object]:
        if before is None:
            print_prose(f"This is the first policy of the group {group}.", 2)
        return {"policies": wanted({} if before is None else before.policies)}

    revision = home.ask(lambda store: change(home, store, Group, group, changed)).revision
    print_prose(f"The group {group} is at revision {revision}. `mom fleet status` shows where this revision is in force.", 2)


def _check_name(policies: Mapping[str, str], group: str, name: str) -> None:
    if name not in policies:
        raise MomError(f"the group {printable(group)} has no policy {printable(name)}")
