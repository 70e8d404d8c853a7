"""`mom fleet policy`, `classes` and `parameter`: what all hosts of a group are to do."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel, ConfigDict

from mom_core import ConfigError, MomError, json_option, load_config, print_prose, print_text, printable, read_settings
from mom_plugins_fleet.changes import change_group, named, standing
from mom_plugins_fleet.link import Store
from mom_plugins_fleet.records import FLEET_POLICY, Group
from mom_plugins_fleet.subjects import GROUPS
from mom_plugins_fleet.where import Where


def _group(where: Where, group: str) -> tuple[int, Group]:
    """The revision of a group's record, and the record; 0 and an empty one where there is none."""

    async def looked(store: Store) -> tuple[int, Group]:
        found = await standing(where, store, GROUPS, Group, named(group))
        return (0, Group()) if found is None else (found.revision, found.record)

    return where.ask(looked)


def _change(where: Where, group: str, wanted: Callable[[Group], Mapping[str, object]]) -> None:
    revision = where.ask(lambda store: change_group(where, store, group, wanted))
    print_prose(f"The group {group} is at revision {revision}. `mom fleet status` shows where it is in force.", 2)


@click.group("policy")
def policy_group() -> None:
    """The policies of a group of hosts."""


@policy_group.command("show")
@click.argument("group")
@click.argument("name", required=False)
@json_option
@click.pass_obj
def policy_show_command(where: Where, group: str, name: str | None, as_json: bool) -> None:
    """Print the policies of GROUP, or the text of one."""
    revision, record = _group(where, group)
    if as_json:
        click.echo(json.dumps({"revision": revision, **record.model_dump()}))
    elif name is None:
        for one in record.texts():
            print_prose(one, 2)
        print_prose(f"revision {revision}, by {printable(record.by) or 'no operator'}", 2)
    elif name in record.texts():
        print_text(record.texts()[name])
    else:
        raise MomError(f"the group {printable(group)} has no policy {printable(name)}")


@policy_group.command("set")
@click.argument("group")
@click.argument("name")
@click.argument("file", type=click.File("rb"))
@click.pass_obj
def policy_set_command(where: Where, group: str, name: str, file: Any) -> None:
    """Set the policy NAME of GROUP to the text in FILE (-: standard input), on all its hosts, or on none where it cannot be right."""
    try:
        text = file.read(1 << 20).decode("utf-8")
    except UnicodeDecodeError as error:
        raise MomError(f"{printable(file.name)} is no text in UTF-8: byte {error.start}", hint="save it as UTF-8") from None
    if not FLEET_POLICY.match(name):
        raise MomError(f"{printable(name)} is no name of a fleet's policy", hint="call it NN_fleet_NAME, such as 60_fleet_night")
    _change(where, group, lambda before: {"policies": {**before.policies, name: text}})


@policy_group.command("remove")
@click.argument("group")
@click.argument("name")
@click.pass_obj
def policy_remove_command(where: Where, group: str, name: str) -> None:
    """Remove the policy NAME from GROUP."""

    def removed(before: Group) -> dict[str, object]:
        if name not in before.policies:
            raise MomError(f"the group {printable(group)} has no policy {printable(name)}")
        return {"policies": {one: text for one, text in before.policies.items() if one != name}}

    _change(where, group, removed)


@click.group("classes")
def classes_group() -> None:
    """The service classes of a group of hosts."""


@classes_group.command("show")
@click.argument("group")
@click.pass_obj
def classes_show_command(where: Where, group: str) -> None:
    """Print the classes of GROUP, as they were set."""
    text = _group(where, group)[1].classes
    print_text(text or f"# The group {printable(group)} has no classes: each of its hosts has its own.\n")


@classes_group.command("set")
@click.argument("group")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.pass_obj
def classes_set_command(where: Where, group: str, file: Path) -> None:
    """Let the hosts of GROUP have the classes in FILE, a YAML file with `classes:`, before their own."""
    text = checked_classes(file)
    _change(where, group, lambda _: {"classes": text})


@classes_group.command("remove")
@click.argument("group")
@click.pass_obj
def classes_remove_command(where: Where, group: str) -> None:
    """Leave the hosts of GROUP to their own classes."""

    def removed(before: Group) -> dict[str, object]:
        if not before.classes:
            raise MomError(f"the group {printable(group)} has no classes")
        return {"classes": ""}

    _change(where, group, removed)


@click.command("parameter", context_settings={"ignore_unknown_options": True})  # else a negative number is an option
@click.argument("group")
@click.argument("name")
@click.argument("value", required=False, type=float)
@click.pass_obj
def parameter_command(where: Where, group: str, name: str, value: float | None) -> None:
    """Set the parameter NAME of GROUP's policies to VALUE; without VALUE, leave it to the policies' own default again."""

    def changed(before: Group) -> dict[str, object]:
        if value is None and name not in before.parameters:
            raise MomError(f"the group {printable(group)} has no parameter {printable(name)}", hint="`mom fleet policy show` shows them")
        others = {one: number for one, number in before.parameters.items() if one != name}
        return {"parameters": others if value is None else {**others, name: value}}

    _change(where, group, changed)


class _ClassesFile(BaseModel):
    """The form of such a file. What a class may say is known to the plugin that has classes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    classes: dict[str, dict[str, object]]


def checked_classes(file: Path) -> str:
    """The text of a file of classes. Raises `MomError` with all that is wrong in it, as far as is known here."""
    if not file.is_file():
        raise MomError(f"{printable(str(file), 400)} is no file", hint="name a YAML file with `classes:`")
    classes = read_settings(file, _ClassesFile).classes
    if not classes:
        raise MomError(f"{printable(str(file), 400)} has no classes", hint="`mom fleet classes remove` leaves the hosts to their own")
    if entry_points(group="mom.plugins", name="sla"):
        try:
            load_config({"plugins": {"sla": {"classes": classes}}})
        except ConfigError as error:
            found = [replace(one, file=str(file), message=one.message.removeprefix("plugins.sla.")) for one in error.problems]
            raise ConfigError(found) from None
    else:
        print_prose("What these classes say is not checked here, as mom-plugins-sla is not installed: see `mom fleet status`.", 2, err=True)
    return file.read_text("utf-8")
