"""Verbs, imported when they are used: a group's own by a table, those of other distributions by the entry-point group `mom.commands`.

An entry's name is the verb, with a dot after the group that it stands in (`demo`, `policy.set`); its value is a click command. A
distribution brings verbs whether or not it has plugins, and a configuration enables them. On a terminal, nothing that a verb prints but
colours steers it: names of guests come from outside. A text that is a file is printed with `print_text`, true to the byte where it is no
terminal; what draws on the screen writes to `sys.__stdout__`. Sentences are printed with `print_prose`, and tables with `print_table`:
words stay whole on a terminal, and in a pipe nothing is cut (`brief`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from mom_core.errors import PluginError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP: Final = "mom.commands"

COMES_WITH: Final[Mapping[str, str]] = {"bugreport": "mom-bugreport", "plugin.check": "mom-devkit", "plugin.new": "mom-devkit"}
"""mom's own distributions that bring verbs only: where a verb comes from when it is not installed."""


class Verb(NamedTuple):
    """One of a group's own verbs: `module:attribute` of its command, and what the group's help says of it without importing it."""

    target: str
    summary: str


class VerbGroup(click.Group):
    """A group of verbs, to which other distributions may add some.

    :param verbs: its own, in the order in which its help shows them, besides those that decorators add
    """

    def __init__(self, name: str | None = None, *, verbs: Mapping[str, Verb] = MappingProxyType({}), **settings: Any) -> None:
        super().__init__(name, **settings)
        self.verbs = verbs

    def prefix(self) -> str:
        """What the names of entries begin with whose verbs stand in this group."""
        return f"{self.name}."

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Its own, then those that other distributions bring, by name."""
        own = [*self.verbs, *sorted(self.commands)]
        return [*own, *sorted(brought_below(self.prefix()).keys() - {*own})]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb's command: the group's own, else the one that is brought. Raises `PluginError` for one that is broken."""
        if cmd_name in self.verbs:
            module, _, attribute = self.verbs[cmd_name].target.partition(":")
            command: click.Command = getattr(import_module(module), attribute)
        elif cmd_name in self.commands:
            command = self.commands[cmd_name]
        elif points := brought_below(self.prefix()).get(cmd_name):
            command = _load(points)
        else:
            return None
        _summarize(command)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, but a verb that does not exist gets the advice that helps."""
        name = str(args[0])
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            raise click.UsageError(self._no_such_verb(ctx, name), ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of verbs: its own without importing them. One of another distribution that is broken is remarked upon, and left out."""
        own = [(name, verb.summary) for name, verb in self.verbs.items()]
        own += [(name, command.get_short_help_str(limit=200)) for name, command in sorted(self.commands.items())]
        brought = []
        for name, points in sorted(brought_below(self.prefix()).items()):
            try:
                if name in dict(own):
                    raise PluginError(f"the command {_spelled(points)!r} of {_owner(points[0])} exists already", plugin=name)
                brought.append((name, _load(points).get_short_help_str(limit=200)))
            except PluginError as error:
                click.echo(f"mom: warning: {error}", err=True)
        for title, rows in (("Commands", own), ("Commands of other distributions", brought)):
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def _no_such_verb(self, ctx: click.Context, name: str) -> str:
        from importlib.metadata import metadata

        from mom_core.model import printable
        from mom_core.plugins.discovery import how_to_install, suggestion

        distribution = COMES_WITH.get(f"{self.prefix()}{name}")
        if distribution is not None:
            verb = f"{self.prefix().replace('.', ' ')}{name}"
            return f"the command '{verb}' comes with {distribution}, which is not installed: {how_to_install(distribution)}"
        meant = suggestion(name, self.list_commands(ctx))
        if meant:
            advice = f"did you mean {meant!r}?"
        elif name in (metadata("mom-core").get_all("Provides-Extra") or ()):
            advice = f"the extra mom-core[{name}] brings it"
        else:
            advice = f"{ctx.command_path} --help lists what is installed; docs/cli.md says what brings more"
        return f"there is no command '{printable(name)}' ({advice})"


def _summarize(command: click.Command) -> None:
    """Have the lists of verbs show the first sentence of each as a whole, which click would cut after some words."""
    if command.short_help is None and command.help is not None:
        paragraph = " ".join(command.help.partition("\n\n")[0].split())
        command.short_help = _SENTENCE_END.split(paragraph, maxsplit=1)[0]
    if isinstance(command, click.Group):
        for verb in command.commands.values():
            _summarize(verb)


_SENTENCE_END: Final = re.compile(r"(?<=[a-z)`]\.) (?=[A-Z`]|mom )")


# --- of other distributions ----------------------------------------------------------------------------------------------------


def brought_below(prefix: str) -> dict[str, list[EntryPoint]]:
    """What distributions bring directly below a group (nothing: below `mom`), by the verb's name in it. Nothing is imported."""
    from importlib.metadata import entry_points  # not for mom's own verbs, and `mom --version`

    found: dict[str, list[EntryPoint]] = {}
    try:
        points: Sequence[EntryPoint] = tuple(entry_points(group=GROUP))
    except Exception as error:  # noqa: BLE001  # importlib.metadata raises anything on broken metadata; mom's own verbs still work
        click.echo(f"mom: warning: the commands of distributions are not known: {error}", err=True)
        points = ()
    for point in points:
        name = point.name.removeprefix(prefix)
        if point.name.startswith(prefix) and "." not in name:
            found.setdefault(name, []).append(point)
    return found


def _load(points: Sequence[EntryPoint]) -> click.Command:
    """The command that an entry point names. Raises `PluginError`, also when there are several."""
    from mom_core.plugins.bounded import attempt, describe
    from mom_core.plugins.discovery import IMPORT_SECONDS

    verb, owner = _spelled(points), _owner(points[0])
    if len(points) > 1:
        owners = " and by ".join(map(_owner, points))
        raise PluginError(f"the command {verb!r} is brought by {owners}", plugin=verb, hint="uninstall all but one of them")
    made = attempt(points[0].load, seconds=IMPORT_SECONDS, what=f"importing {points[0].value}")
    if made.error is not None:
        why = f"cannot be imported: {describe(made.error)}"
    elif not isinstance(made.value, click.Command):
        why = f"is no click command: {points[0].value}"
    else:
        _summarize(made.value)
        return made.value
    raise PluginError(f"the command {verb!r} of {owner} {why}", plugin=verb, distribution=owner, hint=f"tell the authors of {owner}")


def _spelled(points: Sequence[EntryPoint]) -> str:
    return points[0].name.replace(".", " ")


def _owner(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "a distribution without a name"
