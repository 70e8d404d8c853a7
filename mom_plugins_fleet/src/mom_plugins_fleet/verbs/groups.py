"""`mom fleet policy`: policies and classes of a group."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from mom_core import ConfigError, Document, MomError, PluginContext, Severity, load_config, printable
from mom_daemon import json_option, print_prose, print_text
from mom_plugins_fleet.link import Store
from mom_plugins_fleet.records import CLASSES, FLEET_POLICY, Group
from mom_plugins_fleet.verbs.changes import change, named, standing
from mom_plugins_fleet.verbs.where import Where


@click.group("policy")
def policy_group() -> None:
    """Manage the policies of a group of hosts, and its service classes (classes.yaml)."""


@policy_group.command("show")
@click.argument("group")
@click.argument("name", required=False)
@json_option
@click.pass_obj
def policy_show_command(where: Where, group: str, name: str | None, as_json: bool) -> None:
    """Print the policies of GROUP, or the text of the policy NAME."""

    async def looked(store: Store) -> tuple[int, Group]:
        entry = await standing(where, store, Group, named(group))
        return (0, Group()) if entry is None else (entry.revision, entry.record)

    revision, record = where.ask(looked)
    if as_json:
        click.echo(json.dumps({"revision": revision, **record.model_dump()}))
    elif name is None:
        for title in record.policies:
            print_prose(title, 2)
        print_prose(f"revision {revision}, by {printable(record.by) or 'no operator'}", 2)
    else:
        print_text(record.policies[_there(record.policies, group, name)])


@policy_group.command("set")
@click.argument("group")
@click.argument("name")
@click.argument("file", type=click.File("rb"))
@click.pass_obj
def policy_set_command(where: Where, group: str, name: str, file: Any) -> None:
    """Set the policy NAME on all hosts of GROUP to the text in FILE (`-` is standard input), unless the text has errors.

    classes.yaml as NAME sets service classes that take precedence over the hosts' own: a YAML file with `classes:`.
    """
    try:
        text = file.read(1 << 20).decode("utf-8")
    except UnicodeDecodeError as error:
        raise MomError(f"{printable(file.name, 400)} is not valid UTF-8: byte {error.start}", hint="save it as UTF-8") from None
    if name == CLASSES:
        _check_classes(text, file.name)
    elif not FLEET_POLICY.match(name):
        example = re.sub(r"^([0-9]{2})_", r"\1_fleet_", name)
        example = example if FLEET_POLICY.match(example) else "60_fleet_night"
        raise MomError(f"{printable(name)} is not a valid name of a fleet policy", hint=f"name it NN_fleet_NAME, such as {example}")
    else:
        _check_policy(name, text, file.name)
    _change(where, group, lambda before: {**before, name: text})


@policy_group.command("remove")
@click.argument("group")
@click.argument("name")
@click.pass_obj
def policy_remove_command(where: Where, group: str, name: str) -> None:
    """Remove the policy NAME from GROUP. Without classes.yaml, hosts use their own service classes again."""
    _change(where, group, lambda before: {title: text for title, text in before.items() if title != _there(before, group, name)})


def _change(where: Where, group: str, wanted: Callable[[Mapping[str, str]], Mapping[str, str]]) -> None:
    is_new = False

    def changed(before: Group | None) -> Mapping[str, object]:
        nonlocal is_new
        is_new = before is None  # the first host of a group makes its record
        return {"policies": wanted({} if before is None else before.policies)}

    revision = where.ask(lambda store: change(where, store, Group, group, changed))
    print_prose(f"The group {group} is at revision {revision}. `mom fleet status` shows where this revision is in force.", 2)
    if is_new:
        print_prose(f"The group {group} is new: no host is in it yet.", 2)


def _there(policies: Mapping[str, str], group: str, name: str) -> str:
    if name not in policies:
        raise MomError(f"the group {printable(group)} has no policy {printable(name)}")
    return name


def _check_policy(name: str, text: str, file: str) -> None:
    # Only hosts know all controls.
    if not entry_points(group="mom.plugins", name="policy"):
        print_prose(
            "This policy is not checked here, because mom-plugins-policy is not installed. Hosts check it: see `mom fleet status`.",
            2,
            err=True,
        )
        return
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.policy"
        path.write_bytes(text.encode())
        evaluator = load_config({"plugins": {"policy": {"directory": folder, "defaults": False}}}).plugins["policy"]
        plugin = evaluator.loaded.plugin_class(evaluator.settings, PluginContext(name="policy", serves=False))
        errors = [finding for finding in plugin.mom_check() if finding.severity is Severity.ERROR]
    if errors:
        raise MomError("\n".join(finding.message.replace(str(path), printable(file, 400)) for finding in errors), hint="nothing is set")


def _check_classes(text: str, file: str) -> None:
    document = Document.parse(text, file)
    if document.problems:
        raise ConfigError(document.problems)
    classes = document.value.get("classes") if isinstance(document.value, Mapping) and len(document.value) == 1 else None
    if not isinstance(classes, Mapping) or not classes:
        raise MomError(f"{printable(file, 400)} has no classes", hint="write the classes under `classes:`, and nothing else")
    if not entry_points(group="mom.plugins", name="sla"):
        print_prose("These classes are not checked here, because mom-plugins-sla is not installed: see `mom fleet status`.", 2, err=True)
        return
    try:
        load_config({"plugins": {"sla": {"classes": classes}}})
    except ConfigError as error:
        problems = [replace(problem, file=file, message=problem.message.removeprefix("plugins.sla.")) for problem in error.problems]
        raise ConfigError(problems) from None
