"""Verbs that installed distributions bring without being plugins that a configuration enables: the entry-point group `mom.commands`.

An entry's name is the verb, with a dot after each group that it stands in (`plugin.new`); its value is a click command, which is imported
when the verb is used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Final

import click

from mom_core.errors import PluginError

GROUP: Final = "mom.commands"
VERBS_OF_PLUGINS: Final = "mom.verbs"

COMES_WITH: Final[Mapping[str, str]] = {"bugreport": "mom-bugreport", "plugin.check": "mom-devkit", "plugin.new": "mom-devkit"}
"""mom's own distributions that bring verbs only: where a verb comes from when it is not installed."""


def where_from(verb: str) -> str:
    """What to say of a verb that is not installed, if mom's own distributions bring it."""
    distribution = COMES_WITH.get(verb)
    if distribution is None:
        return ""
    message = f"the command '{verb.replace('.', ' ')}' comes with {distribution}, which is not installed"
    return f"{message}: install it from where mom-core is from, in the same version"


class OpenGroup(click.Group):
    """A group of mom's own, to which distributions add verbs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Its own and those that are brought, by name. One that is broken is remarked upon, and left out."""
        names = set(self.commands)
        for name in verbs_below(self._prefix()):
            try:
                load_verb(self._prefix(), name)
            except PluginError as error:
                click.echo(f"mom: warning: {error}", err=True)
            else:
                names.add(name)
        return sorted(names)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The group's own verb, else the one that is brought; raises `PluginError` for one that is broken."""
        if cmd_name in self.commands:
            return self.commands[cmd_name]
        return load_verb(self._prefix(), cmd_name) if cmd_name in verbs_below(self._prefix()) else None

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, but says where a verb comes from that is not installed."""
        told = where_from(f"{self._prefix()}{args[0]}")
        if told and self.get_command(ctx, args[0]) is None:
            raise click.UsageError(told, ctx)
        return super().resolve_command(ctx, args)

    def _prefix(self) -> str:
        return f"{self.name}."


def summarize(command: click.Command) -> None:
    """Have the lists of verbs show the first sentence of each as a whole, which click would cut after some words."""
    if command.short_help is None and command.help is not None:
        paragraph = " ".join(command.help.partition("\n\n")[0].split())
        command.short_help = _SENTENCE_END.split(paragraph, maxsplit=1)[0]
    if isinstance(command, click.Group):
        for verb in command.commands.values():
            summarize(verb)


_SENTENCE_END: Final = re.compile(r"(?<=[a-z)`]\.) (?=[A-Z`]|mom )")


def verbs_below(prefix: str) -> dict[str, list[EntryPoint]]:
    """What distributions bring directly below a group (`plugin.`; nothing: below `mom`), by the verb's name in it. Nothing is imported."""
    found: dict[str, list[EntryPoint]] = {}
    try:
        points = entry_points(group=GROUP)
    except Exception as error:  # noqa: BLE001  # importlib.metadata raises anything on broken metadata; mom's own verbs still work
        click.echo(f"mom: warning: the commands of distributions are not known: {error}", err=True)
        points = ()  # type: ignore[assignment]  # there are none
    for point in points:
        name = point.name.removeprefix(prefix)
        if point.name.startswith(prefix) and "." not in name:
            found.setdefault(name, []).append(point)
    return found


def plugin_of(verb: str) -> str:
    """The plugin that brings a verb, where its distribution says so in the entry-point group `mom.verbs`; empty where none does.

    An entry's name is the verb, and its value the plugin's name: then no other plugin is imported for it.
    """
    try:
        owners = {point.value for point in entry_points(group=VERBS_OF_PLUGINS, name=verb)}
    except Exception:  # noqa: BLE001  # as above: then all plugins are asked
        return ""
    return owners.pop() if len(owners) == 1 else ""


def load_verb(prefix: str, name: str) -> click.Command:
    """The command of a verb that `verbs_below` gives; raises `PluginError`."""
    from mom_core.plugins.bounded import attempt, describe
    from mom_core.plugins.discovery import IMPORT_SECONDS

    points = verbs_below(prefix)[name]
    verb = f"{prefix}{name}".replace(".", " ")
    owners = [point.dist.name if point.dist else "a distribution without a name" for point in points]
    if len(points) > 1:
        raise PluginError(
            f"the command {verb!r} is brought by {' and by '.join(owners)}", plugin=verb, hint="uninstall all but one of them"
        )
    made = attempt(points[0].load, seconds=IMPORT_SECONDS, what=f"importing {points[0].value}")
    if made.error is not None:
        why = f"cannot be imported: {describe(made.error)}"
    elif not isinstance(made.value, click.Command):
        why = f"is no click command: {points[0].value}"
    else:
        summarize(made.value)
        return made.value
    raise PluginError(f"the command {verb!r} of {owners[0]} {why}", plugin=verb, distribution=owners[0])
