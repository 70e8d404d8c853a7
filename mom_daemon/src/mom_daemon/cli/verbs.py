"""Groups of verbs (subcommands of `mom`), imported when used: their own verbs, and other packages' entry points `mom.commands`.

An entry point's name is the verb; in a group, `GROUP.VERB` (`policy.set`). The object is a click command, or a `Verb`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import click
from click.shell_completion import CompletionItem

from mom_core import MomError, PluginError

if TYPE_CHECKING:
    from mom_core.plugins.discovery import AvailablePlugin

GROUP: Final = "mom.commands"

Used = TypeVar("Used")

_OF_POLICIES: Final = ("history", "list", "remove", "reset", "rollback", "set", "show")

OTHER_VERBS: Final[Mapping[str, str]] = {
    "config.import": "mom-plugins-vdsm",
    "eviction": "mom-plugins-sla",
    "fleet": "mom-plugins-fleet",
    "guestd-script": "mom-plugins-guestagent",
    "plugin.check": "mom-devkit",
    "plugin.new": "mom-devkit",
    "policy": "mom-plugins-policy",
    "simulate": "mom-plugins-sim",
    **dict.fromkeys(("advise", "forecast", "record", "replay", "report"), "mom-plugins-record"),
    **dict.fromkeys(("admit", "events", "history", "hook", "page", "reserve", "top"), "mom-plugins-http"),
    **{f"policy.{verb}": "mom-plugins-http" for verb in _OF_POLICIES},
}
"""Package of each verb of mom's other packages, for messages about missing verbs."""

HEADINGS: Final = ("Commands", "Look", "Change", "Try", "Account", "Operate", "Write plugins")

OTHERS: Final = "Commands of other packages"


class Verb(NamedTuple):
    """Reference to a command as `module:attribute`, with its summary and heading. Help hides a verb without a summary."""

    target: str
    summary: str
    heading: str = ""


class VerbContext(click.Context):
    """Context that runs a command as the owner of mom's folders if root starts it."""

    def invoke(self, callback: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call the verb. Raise `MomError` if root cannot switch users."""
        is_verb = callback is self.command.callback and self.invoked_subcommand is None
        if not is_verb or os.geteuid() != 0:
            return super().invoke(callback, *args, **kwargs)
        from mom_daemon.owner import become_owner_for

        owner = become_owner_for(self)
        try:
            return super().invoke(callback, *args, **kwargs)
        except (MomError, OSError) as error:
            denied = any(isinstance(each, PermissionError) for each in (error, error.__cause__, error.__context__))
            if owner is not None and denied:
                user = owner.name
                error.add_note(f"this command ran as user {user}, who owns mom's folders: specify files that {user} may read or write")
            raise


class VerbGroup(click.Group):
    """Group of verbs that other packages may extend."""

    def __init__(
        self, name: str | None = None, *, verbs: Mapping[str, Verb] = MappingProxyType({}), prefix: str | None = None, **settings: Any
    ) -> None:
        super().__init__(name, **settings)
        self.verbs = verbs
        self.prefix = f"{name}." if prefix is None else prefix
        """Prefix of this group's entry points."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List this group's own verbs, then those of other packages."""
        own = [*self.verbs, *sorted(self.commands)]
        return [*own, *(name for name in self._brought() if name not in own)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command; the group's own verbs take precedence. Raise `PluginError` if the command does not load."""
        if cmd_name in self.verbs:
            command = _imported(self.verbs[cmd_name])
        elif cmd_name in self.commands:
            command = self.commands[cmd_name]
        elif entries := self._brought().get(cmd_name):
            command = _load(entries, _imported)
        else:
            return None
        _prepare(command)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Resolve a verb; for an unknown verb, add advice to the error."""
        name = str(args[0])
        command = None if name.startswith("-") else self.get_command(ctx, name)
        if command is not None:
            return name, command, args[1:]
        if not name.startswith("-"):
            raise click.UsageError(self._no_such_verb(ctx, name), ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write help without importing a `Verb`. Warn about broken verbs."""
        listed = self._summaries(tell=True)
        for heading in sorted(listed, key=lambda title: HEADINGS.index(title) if title in HEADINGS else len(HEADINGS) + (title == OTHERS)):
            with formatter.section(heading):
                formatter.write_dl(listed[heading])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return completions without importing a `Verb`."""
        verbs = [row for rows in self._summaries().values() for row in rows if row[0].startswith(incomplete)]
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [*(CompletionItem(name, help=summary) for name, summary in verbs), *options]

    def _summaries(self, *, tell: bool = False) -> dict[str, list[tuple[str, str]]]:
        own: dict[str, Verb | click.Command] = {**self.verbs, **dict(sorted(self.commands.items()))}
        summaries = [(name, *_about(verb)) for name, verb in own.items()]
        for name, entries in self._brought().items():
            if name in own:
                continue
            try:
                summary, heading = _load(entries, _about)
            except PluginError as error:
                if tell:
                    click.echo(f"mom: warning: {error}", err=True)
            else:
                summaries.append((name, summary, heading or ("" if entries[0].name in OTHER_VERBS else OTHERS)))
        listed: dict[str, list[tuple[str, str]]] = {}
        for name, summary, heading in summaries:
            if summary:
                listed.setdefault(heading or HEADINGS[0], []).append((name, summary))
        return listed

    def _brought(self) -> dict[str, list[AvailablePlugin]]:
        from mom_core.plugins.discovery import installed  # slow to import

        prefix = self.prefix
        return {
            name.removeprefix(prefix): list(entries)
            for name, entries in sorted(installed(GROUP).items())
            if name.startswith(prefix) and "." not in name.removeprefix(prefix)
        }

    def _no_such_verb(self, ctx: click.Context, name: str) -> str:
        from mom_core import printable
        from mom_core.plugins.discovery import absent, how_to_install, suggestion

        distribution = OTHER_VERBS.get(f"{self.prefix}{name}")
        if distribution is not None:
            verb = f"{self.prefix.replace('.', ' ')}{name}"
            return f"the command '{verb}' comes with {distribution}, which is not installed: {how_to_install(distribution)}"
        meant = suggestion(name, self.list_commands(ctx))
        if meant:
            advice = f"did you mean {meant!r}?"
        elif missing := absent(name):  # the verb has the name of one of mom's extras
            advice = f"it needs other packages of mom: {how_to_install(*missing)}"
        else:
            advice = f"{ctx.command_path} --help lists installed commands; docs/cli.md lists the packages with further commands"
        return f"there is no command '{printable(name)}' ({advice})"


def _prepare(command: click.Command) -> None:
    command.context_class = VerbContext
    command.short_help = command.get_short_help_str(200)
    if isinstance(command, click.Group):
        for verb in command.commands.values():
            _prepare(verb)


# --- of other distributions ----------------------------------------------------------------------------------------------------


def _imported(verb: Verb | click.Command) -> click.Command:
    if isinstance(verb, click.Command):
        return verb
    module, _, attribute = verb.target.partition(":")
    command: click.Command = getattr(import_module(module), attribute)
    return command


def _about(verb: Verb | click.Command) -> tuple[str, str]:
    if isinstance(verb, Verb):
        return verb.summary, verb.heading
    _prepare(verb)
    return "" if verb.hidden else verb.short_help or "", ""


def _load(entries: Sequence[AvailablePlugin], use: Callable[[Verb | click.Command], Used]) -> Used:
    from mom_core.plugins.bounded import attempt, describe

    entry = entries[0]
    verb, owner = entry.name.replace(".", " "), entry.distribution
    if len(entries) > 1:
        owners = ", ".join(each.distribution for each in entries)
        raise PluginError(f"several packages have the command {verb!r}: {owners}", plugin=verb, hint="uninstall all but one of them")

    def used() -> Used:
        verb = entry.point.load()
        if not isinstance(verb, Verb | click.Command):
            raise TypeError(f"{entry.target} is no click command")
        return use(verb)

    made = attempt(used)
    if made.error is None and made.value is not None:
        return made.value
    error = made.error or TypeError()
    why, hint = what_it_lacks(error) or (f"cannot be imported: {describe(error)}", f"tell the authors of {owner}")
    raise PluginError(f"the command {verb!r} of {owner} {why}", plugin=verb, distribution=owner, hint=hint) from error


def what_it_lacks(error: BaseException) -> tuple[str, str] | None:
    """Return a message and advice if one of mom's packages is missing, otherwise None."""
    from mom_core.plugins.discovery import how_to_install, own_distributions

    name = (error.name or "").partition(".")[0].replace("_", "-") if isinstance(error, ModuleNotFoundError) else ""
    return (f"needs {name}, which is not installed", how_to_install(name)) if name in own_distributions() else None
