"""`mom policy repl`: the language line by line, with history and completion."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Final, NamedTuple

import click

from mom_core import ConfigError, ConfigProblem, FieldSpec, Scope, printable
from mom_plugins_policy.cli.inputs import (
    SCOPES,
    Given,
    config_option,
    defaults_option,
    files_argument,
    given_policies,
    given_snapshot,
    snapshot_options,
    with_fields_of,
)
from mom_plugins_policy.cli.values import decision_rows, table, written_value
from mom_plugins_policy.language.words.forms import SPECIAL_FORMS
from mom_plugins_policy.language.words.functions import BUILTINS, CALLABLES, OPERATORS, PREDEFINED
from mom_plugins_policy.language.words.methods import ENTITY_METHODS
from mom_plugins_policy.sources import read_paths
from mom_plugins_policy.tools.excerpts import located, told
from mom_plugins_policy.tools.session import InputResult, ReplSession, is_complete
from mom_plugins_policy.tools.snapshots import did_you_mean, read_snapshot, undeclared

HISTORY_LINES: Final = 1000
_DELIMITERS: Final = " \t\n()[]{}\"'#"


class Command(NamedTuple):
    """One of the commands that begin with a colon."""

    argument: str
    meaning: str


COMMANDS: Final[Mapping[str, Command]] = {
    ":help": Command("[NAME]", "this, or what a word, field or control is"),
    ":fields": Command("[PART]", "the fields with their values, those whose name has PART in it"),
    ":controls": Command("", "the controls that can be set"),
    ":guests": Command("", "the guests in the snapshot"),
    ":decisions": Command("", "all decisions so far"),
    ":snapshot": Command("FILE", "go on with another snapshot"),
    ":load": Command("FILE", "load a policy, or a folder of them"),
    ":reset": Command("", "forget all inputs and policies"),
    ":quit": Command("", "leave, as Ctrl-D does"),
}


@click.command("repl")
@files_argument
@snapshot_options
@defaults_option
@config_option
def repl_command(
    paths: tuple[Path, ...], snapshot_path: Path | None, live: bool, with_default_policies: bool, config_path: str | None
) -> None:
    """Try the language line by line: values, decisions and errors at once. Nothing on the host is changed.

    What is defined stays defined. An input goes on over several lines until all its brackets are closed. `:help` shows more.
    """
    given = given_policies(paths, config_path, defaults=with_default_policies, needed=False)
    taken = given_snapshot(snapshot_path, config_path, given.declarations, live=live)
    given.compiled(taken)
    session = ReplSession(taken, with_fields_of(taken, given.declarations), dict(given.texts), given.limits)
    Repl(session, given, interactive=sys.stdin is not None and sys.stdin.isatty()).run()


class Repl:
    """Reads inputs and commands, and prints what they come to."""

    def __init__(self, session: ReplSession, given: Given, *, interactive: bool) -> None:
        self.session = session
        self.given = given
        self.interactive = interactive

    def run(self) -> None:
        """Until the end of the input, or `:quit`."""
        with _line_editing(self) if self.interactive else contextlib.nullcontext():
            if self.interactive:
                click.echo("The MOM policy language. :help shows what there is, Ctrl-D leaves.")
                self._introduce()
            while True:
                try:
                    text = self._read()
                except EOFError:
                    break
                except KeyboardInterrupt:
                    click.echo()
                    continue
                if text.strip() in (":quit", ":q", ":exit"):
                    return
                try:
                    self._do(text)
                except ConfigError as error:
                    for problem in error.problems:
                        click.echo(str(problem), err=True)
                except KeyboardInterrupt:
                    click.echo("interrupted", err=True)
        if self.interactive:
            click.echo()

    def _introduce(self) -> None:
        guests = self.session.taken.guests.values()
        names = ", ".join(printable(guest.name, 30) for guest in list(guests)[:5])
        click.echo(f"Host and {len(guests)} guests{f': {names}' if names else ''}{' …' if len(guests) > 5 else ''}")

    # --- reading ---

    def _read(self) -> str:
        """One input, or one command."""
        prompt = f"policy {len(self.session.inputs) + 1}> "
        more = "> ".rjust(len(prompt), ".")
        text = self._line(prompt)
        while not text.lstrip().startswith(":") and not is_complete(text):
            try:
                text += "\n" + self._line(more)
            except EOFError:
                if self.interactive:
                    raise
                return text  # what it lacks is told
        return text

    def _line(self, prompt: str) -> str:
        try:
            if self.interactive:
                return input(prompt)
            line = sys.stdin.readline() if sys.stdin is not None else ""
        except UnicodeDecodeError as error:
            raise ConfigError([ConfigProblem("standard input", 0, 0, f"byte 0x{error.object[error.start]:02x} is not UTF-8")]) from None
        if not line:
            raise EOFError
        return line.rstrip("\n")

    # --- doing ---

    def _do(self, text: str) -> None:
        if not text.strip():
            return
        if text.lstrip().startswith(":"):
            command, _, argument = text.strip().partition(" ")
            if command not in COMMANDS:
                hint = did_you_mean(command, COMMANDS) or ":help lists all"
                click.echo(f"there is no command {printable(command)} ({hint})", err=True)
                return
            self._command(command, argument.strip())
            return
        name = self.session.name
        self._show(self.session.add(text), {name: text})

    def _show(self, answer: InputResult, texts: Mapping[str, str]) -> None:
        for line in answer.output:
            click.echo(click.style(printable(line, 2000), dim=True))
        for value in answer.values:
            click.echo(written_value(value))
        if answer.decisions:
            click.echo(table([row[:3] for row in decision_rows(answer.decisions)], right=2))
        everything = {**self.session.texts(), **texts}
        titles = {**self.given.files, **self.session.titles()}
        for fault in answer.errors:
            click.echo(told(fault, everything, titles), err=True)

    def _command(self, command: str, argument: str) -> None:
        commands: Mapping[str, Callable[[str], None]] = {
            ":help": self._help,
            ":fields": self._fields,
            ":controls": lambda _: self._controls(),
            ":guests": lambda _: self._guests(),
            ":decisions": lambda _: self._decisions(),
            ":snapshot": self._snapshot,
            ":load": self._load,
            ":reset": lambda _: self.session.forget(),
        }
        commands[command](argument)

    def _help(self, name: str) -> None:
        if name:
            lines = list(self._meaning(name.strip("()")))
            click.echo("\n".join(lines) if lines else f"{printable(name)}: there is no such word, field or control")
            return
        click.echo("Type forms of the language, such as (+ 1 2), Host.mem_free, or (with Guests g g.balloon_cur).")
        click.echo(table([(f"{each} {command.argument}".rstrip(), command.meaning) for each, command in COMMANDS.items()]))
        words = [*SPECIAL_FORMS, *BUILTINS, *OPERATORS, *CALLABLES]
        click.echo(click.wrap_text(f"words: {' '.join(words)}", 100, "  ", "    "))
        click.echo(click.wrap_text(f"methods of Host and guests: {' '.join(ENTITY_METHODS)}", 100, "  ", "    "))

    def _meaning(self, name: str) -> Iterator[str]:
        method = name.rpartition(".")[2]
        word = OPERATORS.get(name, name)
        for names in (SPECIAL_FORMS, BUILTINS, CALLABLES):
            if word in names:
                yield f"{name}: {names[word].meaning}; {names[word].arguments}"
        if method in ENTITY_METHODS:
            yield f"{method}: {ENTITY_METHODS[method].meaning}; {ENTITY_METHODS[method].arguments}"
        declarations = self.session.declarations
        for scope in Scope:
            spec = declarations.fields.get((scope, method))
            if spec is not None:
                yield f"{spec.name} ({'Host' if scope is Scope.HOST else 'guests'}, {spec.unit}): {spec.description}"
        if method in declarations.controls:
            control = declarations.controls[method]
            whose = "Host" if control.scope is Scope.HOST else "guests"
            yield f"{control.name} (control of {whose}, {control.unit}): {control.description}"

    def _fields(self, part: str) -> None:
        taken = self.session.taken
        guest = next(iter(taken.guests.values()), None)
        for scope, entity, title in ((Scope.HOST, taken.host, "Host"), (Scope.GUEST, guest, "guests")):
            specs: list[FieldSpec] = [spec for (of, name), spec in self.session.declarations.fields.items() if of is scope and part in name]
            if not specs:
                continue
            values = entity.fields if entity is not None else {}
            shown = f"{title}, of {printable(entity.name, 30)}" if scope is Scope.GUEST and entity is not None else title
            click.echo(f"{shown}:")
            click.echo(
                table(
                    [
                        (spec.name, written_value(values.get(spec.name))[:40], str(spec.unit), spec.description[:70])
                        for spec in sorted(specs, key=lambda spec: spec.name)
                    ],
                    right=1,
                )
            )

    def _controls(self) -> None:
        rows = [
            (c.name, "Host" if c.scope is Scope.HOST else "guests", str(c.unit), c.description[:80])
            for c in self.session.declarations.controls.values()
        ]
        click.echo(table(rows) or "no plugin declares any")

    def _guests(self) -> None:
        rows = [(printable(guest.name, 40), printable(guest.id, 40)) for guest in self.session.taken.guests.values()]
        click.echo(table(rows) or "there are none")

    def _decisions(self) -> None:
        titles = {**self.given.files, **self.session.titles()}
        decisions = self.session.again().decisions
        rows = [(*row[:3], located(*decision.source, titles)) for row, decision in zip(decision_rows(decisions), decisions, strict=True)]
        click.echo(table(rows, right=2) or "none")

    def _snapshot(self, file: str) -> None:
        if not file:
            click.echo(":snapshot needs the name of a JSON file", err=True)
            return
        taken = read_snapshot(Path(file).expanduser())
        for whose, name, hint in undeclared(taken, self.given.declarations.fields, SCOPES):
            click.echo(f"no plugin declares the field {name} of {printable(whose)}{f' ({hint})' if hint else ''}", err=True)
        self.session.taken = taken
        self.session.declarations = with_fields_of(taken, self.given.declarations)
        self._introduce()
        self._show(self.session.again(), {})

    def _load(self, file: str) -> None:
        if not file:
            click.echo(":load needs the name of a policy file", err=True)
            return
        found = read_paths([Path(file).expanduser()], 4 * self.session.limits.text)
        if found.problems:
            raise ConfigError(found.problems)
        before = dict(self.session.policies)
        self.session.policies.update(found.texts)
        self.given.files.update(found.files)
        answer = self.session.again()
        self._show(answer, found.texts)
        if not answer.kept:
            self.session.policies = before
            self.session.again()
            click.echo("not loaded", err=True)

    # --- completion ---

    def completions(self, text: str, line: str) -> list[str]:
        """What a word may become.

        :param text: the word so far
        :param line: the line up to its end
        """
        before = line[: len(line) - len(text)].lstrip()
        if not before and text.startswith(":"):
            return [command for command in COMMANDS if command.startswith(text)]
        if before.startswith((":snapshot ", ":load ")):
            return _files(text)
        if before.startswith(":fields"):
            return sorted({name for _, name in self.session.declarations.fields if name.startswith(text)})
        base, dot, part = text.rpartition(".")
        if dot:
            scope = Scope.HOST if base == "Host" else Scope.GUEST
            members = [name for of, name in self.session.declarations.fields if of is scope]
            return [f"{base}.{name}" for name in sorted({*members, *ENTITY_METHODS}) if name.startswith(part)]
        if re.search(r"""\.(?:Control|GetControl)\s+["']$""", before):
            return [f"{name}" for name in sorted(self.session.declarations.controls) if name.startswith(text)]
        if re.search(r"""\.(?:Stat|StatAvg)\s+["']$""", before):
            scope = Scope.HOST if "Host." in before.rpartition("(")[2] else Scope.GUEST
            return sorted(name for of, name in self.session.declarations.fields if of is scope and name.startswith(text))
        functions, variables = self.session.names()
        words = {*SPECIAL_FORMS, *BUILTINS, *PREDEFINED, "nil", *functions, *variables}
        return sorted(word for word in words if word.startswith(text))


def _files(text: str) -> list[str]:
    path = Path(text).expanduser()
    folder = path if text.endswith("/") or not text else path.parent
    part = "" if folder is path else path.name
    start = text[: len(text) - len(part)]
    try:
        names = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir() if entry.name.startswith(part))
    except OSError:
        return []
    return [start + name for name in names if part.startswith(".") or not name.startswith(".")]


# --- the terminal --------------------------------------------------------------------------------------------------------------------


def history_file() -> Path:
    """Where the lines of earlier sessions are: in the user's folder for such things."""
    folder = os.environ.get("XDG_STATE_HOME") or ""
    return (Path(folder) if folder.startswith("/") else Path("~/.local/state").expanduser()) / "mom/policy_history"


@contextlib.contextmanager
def _line_editing(repl: Repl) -> Iterator[None]:
    """Editing, history and completion of lines, where Python has readline."""
    try:
        import readline
    except ImportError:
        yield
        return
    path = history_file()
    completer, delimiters = readline.get_completer(), readline.get_completer_delims()
    with contextlib.suppress(OSError):
        readline.read_history_file(path)
    readline.set_history_length(HISTORY_LINES)
    readline.set_completer(_completer(repl, readline))
    readline.set_completer_delims(_DELIMITERS)
    readline.parse_and_bind("tab: complete")
    readline.parse_and_bind("set show-all-if-ambiguous on")
    try:
        yield
    finally:
        readline.set_completer(completer)
        readline.set_completer_delims(delimiters)
        # A session without a history is better than none that ends.
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            readline.write_history_file(path)


def _completer(repl: Repl, readline: ModuleType) -> Callable[[str, int], str | None]:
    found: Sequence[str] = ()

    def complete(text: str, state: int) -> str | None:
        nonlocal found
        if state == 0:
            found = repl.completions(text, readline.get_line_buffer()[: readline.get_endidx()])
        return found[state] if state < len(found) else None

    return complete
