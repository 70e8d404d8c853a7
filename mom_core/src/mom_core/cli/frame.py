"""The command `mom`: which verbs there are, and how errors reach the operator.

A verb's module is imported when the verb is used, so that a small one does not pay for a large one. Verbs that are not mom's own are
those that installed plugins bring (`mom_commands`).
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from io import TextIOWrapper
from typing import Final, NamedTuple

import click

from mom_core._version import __version__
from mom_core.cli.brought import load_verb, plugin_of, summarize, verbs_below, where_from
from mom_core.cli.prose import print_prose
from mom_core.cli.terminal import safe_terminals
from mom_core.errors import ConfigError, DestinationError, MomError, PluginError, PluginErrors, UnitError


class Verb(NamedTuple):
    """One of mom's own verbs: where its command is, and what `mom --help` says of it without importing it."""

    target: str
    summary: str


VERBS: Final[Mapping[str, Verb]] = {
    "run": Verb("mom_core.cli.run:run_command", "Manage this host until SIGTERM, then put everything back."),
    "status": Verb("mom_core.cli.status:status_command", "Show how the host is, whether mom runs, and what it did last."),
    "guests": Verb("mom_core.cli.status:guests_command", "Show all guests with their memory."),
    "explain": Verb("mom_core.cli.explain:explain_command", "Say why a guest has the size that it has."),
    "restore": Verb("mom_core.cli.restore:restore_command", "Put back what an earlier run has left changed."),
    "doctor": Verb("mom_core.cli.doctor:doctor_command", "Say what on this host keeps mom from working, and the cure."),
    "fields": Verb("mom_core.cli.fields:fields_command", "List what policies can read and set."),
    "config": Verb("mom_core.cli.config_verbs:config_command", "Write, check and show the configuration."),
    "plugin": Verb("mom_core.cli.plugin_verbs:plugin_command", "List the installed plugins, and look at one."),
}
"""mom's own verbs, in the order in which `mom --help` shows them."""

EXIT_NO: Final = 1
EXIT_MISUSE: Final = 2
EXIT_BROKEN: Final = 70
"""A mistake in mom or a plugin: neither the answer no nor the operator's mistake (EX_SOFTWARE of sysexits.h)."""
EXIT_INTERRUPTED: Final = 130
EXIT_NO_READER: Final = 141
"""What a program ends with that SIGPIPE ends: 128 + 13."""

SHOWN_PROBLEMS: Final = 100
"""More than fit a screen help nobody; the rest is counted."""


class VerbGroup(click.Group):
    """The group of all verbs: mom's own, and what the installed plugins bring."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """mom's own first, then those of plugins by name."""
        return [*VERBS, *sorted(self._brought(ctx))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb's command; None when nobody has it."""
        verb = VERBS.get(cmd_name)
        if verb is not None:
            module, _, attribute = verb.target.partition(":")
            command: click.Command = getattr(import_module(module), attribute)
            summarize(command)
            return command
        if cmd_name in verbs_below(""):
            return load_verb("", cmd_name)
        owner = plugin_of(cmd_name)
        if owner:
            # Only the one plugin, so that others cost no time; and what is wrong with it is the answer then, not a remark.
            found = commands_of([owner])
            if found.errors:
                raise found.errors[0]
            if cmd_name in found.commands:
                summarize(found.commands[cmd_name])
                return found.commands[cmd_name]
        return self._brought(ctx).get(cmd_name)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, but a verb that does not exist gets the advice that helps."""
        name = str(args[0])
        command = None if name.startswith("-") else self.get_command(ctx, name)
        if command is None and not name.startswith("-"):
            raise click.UsageError(where_from(name) or _no_such_verb(name, self.list_commands(ctx)), ctx)
        if name not in VERBS and isinstance(command, click.Group) and not _has(command, args[1:2]):
            self._brought(ctx)  # another plugin may bring the verb
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of verbs; mom's own without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, verb.summary) for name, verb in VERBS.items()])
        brought = self._brought(ctx)
        rows = [(name, command.get_short_help_str()) for name, command in sorted(brought.items())]
        if rows:
            with formatter.section("Commands of plugins"):
                formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> object:
        """As click does, but that nobody reads the output any more is not for click to make exit code 1 of."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise _NoReaderError from error

    def _brought(self, ctx: click.Context) -> Mapping[str, click.Command]:
        """The verbs of all installed plugins, found once for a command line; broken plugins are remarked upon."""
        from mom_core.plugins.discovery import available_plugins

        found: BroughtCommands | None = ctx.meta.get(_BROUGHT)
        if found is None:
            found = ctx.meta[_BROUGHT] = with_those_of_distributions(commands_of(list(available_plugins())))
            for command in found.commands.values():
                summarize(command)
            for error in found.errors:
                click.echo(f"mom: warning: {error}", err=True)
        return found.commands


_BROUGHT: Final = "mom_core.cli.brought"


class _NoReaderError(Exception):
    """Whoever read the output has gone, as `head` does."""


class BroughtCommands(NamedTuple):
    """The verbs that plugins bring, and what is wrong with those that should bring some."""

    commands: Mapping[str, click.Command]
    errors: Sequence[PluginError]


def commands_of(names: Sequence[str]) -> BroughtCommands:
    """The verbs of these plugins, as far as they are installed. Loads their classes; one that is broken does not harm the others."""
    from mom_core.plugins.bounded import attempt, describe
    from mom_core.plugins.discovery import IMPORT_SECONDS, LoadedPlugin, available_plugins, load_plugins

    available = available_plugins()
    loaded, errors = load_plugins([name for name in names if name in available])
    commands: dict[str, click.Command] = {}
    joining: list[tuple[LoadedPlugin, click.Command]] = []

    def refuse(plugin: LoadedPlugin, what: str, hint: str = "") -> None:
        message = f"plugin {plugin.name!r} of {plugin.distribution} {plugin.version}: {what}"
        errors.append(PluginError(message, plugin=plugin.name, distribution=plugin.distribution, hint=hint))

    for plugin in loaded.values():
        bring: Callable[[], Iterable[object]] | None = getattr(plugin.plugin_class, "mom_commands", None)
        if bring is None:
            continue
        made = attempt(partial(_listed, bring), seconds=IMPORT_SECONDS, what="mom_commands")
        if made.error is not None:
            refuse(
                plugin, f"mom_commands failed: {describe(made.error)}", "it must be a static method without arguments that returns commands"
            )
        for command in made.value or []:
            if not isinstance(command, click.Command) or not command.name:
                refuse(plugin, f"mom_commands gave a {type(command).__name__} that is no click command with a name")
            elif " " in command.name:
                joining.append((plugin, command))
            elif command.name in VERBS or command.name in commands:
                refuse(plugin, f"the command {command.name!r} exists already", "it must take another name")
            else:
                commands[command.name] = command
    for plugin, command in joining:
        group_name, _, verb = str(command.name).partition(" ")
        group = commands.get(group_name)
        if not isinstance(group, click.Group):
            continue  # the plugin that has the group is not there: then nobody looks for its verbs
        if group.commands.get(verb) is not command and _has(group, [verb]):
            refuse(plugin, f"the command {command.name!r} exists already", "it must take another name")
        else:
            group.add_command(command, verb)
    return BroughtCommands(commands, errors)


def with_those_of_distributions(found: BroughtCommands) -> BroughtCommands:
    """What plugins bring, and the verbs of distributions that are no plugins besides."""
    commands, errors = dict(found.commands), list(found.errors)
    for name in verbs_below(""):
        try:
            if name in VERBS or name in commands:
                raise PluginError(f"the command {name!r} exists already", plugin=name, hint="the distribution must name it otherwise")
            commands[name] = load_verb("", name)
        except PluginError as error:
            errors.append(error)
    return BroughtCommands(commands, errors)


def _has(group: click.Group, arguments: Sequence[str]) -> bool:
    """Whether the group itself has the verb with which these arguments begin."""
    return bool(arguments) and group.get_command(click.Context(group), arguments[0]) is not None


def _listed(bring: Callable[[], Iterable[object]]) -> list[object]:
    return list(bring())


def _no_such_verb(name: str, known: Sequence[str]) -> str:
    from mom_core.model import printable
    from mom_core.plugins.discovery import suggestion

    meant = suggestion(name, known)
    if meant:
        advice = f"did you mean {meant!r}?"
    else:
        advice = "mom --help lists all; some come with plugins, and 'mom-core[all]' has all of mom's own"
    return f"there is no command '{printable(name)}' ({advice})"


@click.group(
    "mom",
    cls=VerbGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    epilog="Exit codes: 0 fine, 1 the answer is no, 2 misuse or a wrong configuration. MOM_DEBUG=1 shows tracebacks.",
)
@click.version_option(__version__, "--version", message="mom %(version)s")
def mom() -> None:
    """Manage memory overcommitment on a KVM host.

    Begin with `mom doctor`, then `mom config init`, then `mom run`. Without a hypervisor: `mom demo`.
    """


def run(arguments: Sequence[str] | None = None, command: click.Command | None = None) -> int:
    """Run a command line (this process's own when none is given), tell whatever goes wrong, and return the exit code.

    :param command: instead of `mom`
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a guest's name must not end a command where the terminal cannot show it
    try:
        with safe_terminals():
            code = _run(arguments, command or mom)
        if sys.stdout is not None:
            sys.stdout.flush()
    except (BrokenPipeError, _NoReaderError):
        return EXIT_NO_READER
    except OSError as error:
        _tell(f"mom: the output cannot be written: {error.strerror or error}")
        return EXIT_NO
    else:
        return code
    finally:
        _discard_what_cannot_be_written()


def run_program(command: click.Command) -> int:
    """Run this process's command line as a program of its own, which tells errors and ends as `mom` does; the exit code."""
    return run(None, command)


def _run(arguments: Sequence[str] | None, command: click.Command) -> int:
    code = 0
    try:
        arguments = None if arguments is None else list(arguments)
        result = command.main(args=arguments, prog_name=command.name, standalone_mode=False, color=_colours())
        # click returns the exit code when a command ended its context, and else what the command returned.
        code = result if isinstance(result, int) and not isinstance(result, bool) else 0
    except (click.exceptions.Abort, KeyboardInterrupt):
        code = EXIT_INTERRUPTED
    except click.ClickException as error:
        _tell_misuse(error)
        code = error.exit_code
    except SystemExit as error:
        if error.code is not None and not isinstance(error.code, int):
            _tell(f"mom: {error.code}")
            code = EXIT_NO
        else:
            code = error.code or 0
    except MomError as error:
        _tell_error(error)
        code = EXIT_MISUSE if isinstance(error, ConfigError | DestinationError | PluginError | PluginErrors | UnitError) else EXIT_NO
    except _NoReaderError:
        raise
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _tell(f"mom: {where}{error.strerror or error} (MOM_DEBUG=1 shows more)")
        _tell_traceback(error)
        code = EXIT_NO
    except Exception as error:  # noqa: BLE001  # the outermost place: an operator gets a line, not a traceback
        frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<")]
        kind = " ".join(traceback.format_exception_only(error)[-1].split())
        _tell(f"mom: a mistake in mom or in a plugin, at {frames[-1].filename}:{frames[-1].lineno}: {kind} (MOM_DEBUG=1 shows more)")
        _tell_traceback(error)
        code = EXIT_BROKEN
    return code


def _colours() -> bool | None:
    """False where the operator wants none (https://no-color.org); None: where a terminal is."""
    return False if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" else None


def _tell_misuse(error: click.ClickException) -> None:
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is not None and type(error).__name__ == "NoArgsIsHelpError":
        _tell(context.get_help())  # a group without a verb
        return
    message = error.format_message()
    _tell(f"mom: {message[:1].lower()}{message[1:]}")
    if context is not None:
        _tell(f"{context.command_path} --help says what there is")


def _tell_error(error: MomError) -> None:
    if isinstance(error, ConfigError):
        for problem in error.problems[:SHOWN_PROBLEMS]:
            _tell(str(problem) if problem.line else f"mom: {problem}")
        more = len(error.problems) - SHOWN_PROBLEMS
        if more > 0:
            _tell(f"mom: … and {more:,} more")
    else:
        errors = error.errors if isinstance(error, PluginErrors) else [error]
        for one in errors:
            _tell(f"mom: {one}")
    _tell_traceback(error)


def _tell_traceback(error: BaseException) -> None:
    if os.environ.get("MOM_DEBUG", "") not in ("", "0"):
        _tell("".join(traceback.format_exception(error)).rstrip())


def _tell(text: str) -> None:
    """On standard error, if it is still open: nothing in it steers a terminal, whatever it was that went wrong."""
    from mom_core.model import printable_lines

    with suppress(OSError):
        print_prose(printable_lines(text), 2, err=True)


def _discard_what_cannot_be_written() -> None:
    """Drop what is still buffered and that its stream does not take: Python would try it once more at its end, and exit with 120."""
    for stream in (sys.stdout, sys.stderr):
        if stream is None:
            continue
        try:
            stream.flush()
        except OSError:
            with suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)
        except ValueError:
            pass  # it is closed
