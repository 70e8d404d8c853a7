"""Run every command as root, and report which of them read these folders as root.

Print a line of JSON for each command. Arguments follow from their types, so that new commands are covered.
"""

import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import entry_points

import click

from mom_daemon import KeptPath
from mom_daemon.cli.frame import mom, run
from mom_daemon.cli.options import runs_as_caller

SECONDS = 5
"""Time limit for commands that do not end by themselves."""

AT_ONCE = 4

RECORDING, *FOLDERS = sys.argv[1:]


def verbs(command: click.Command, context: click.Context, words: Sequence[str] = ()) -> Iterator[tuple[Sequence[str], click.Context]]:
    """Yield all commands below a group, with their words."""
    if not isinstance(command, click.Group) or (command.invoke_without_command and words):
        yield words, context
    group = command if isinstance(command, click.Group) else click.Group()
    for name in group.list_commands(context):
        verb = group.get_command(context, name)
        assert verb is not None
        yield from verbs(verb, click.Context(verb, parent=context, info_name=name), [*words, name])


def arguments(command: click.Command, *, kept: bool) -> Iterator[str]:
    """Return the required arguments of a command, and a recording if it accepts one."""
    for parameter in command.params:
        if isinstance(parameter.type, KeptPath) and (kept or parameter.required):
            value = RECORDING
        elif parameter.required:
            choices = getattr(parameter.type, "choices", ())
            exists = getattr(parameter.type, "exists", False)
            value = choices[0] if choices else "/" if exists else "csv" if parameter.name == "to" else "1"
        else:
            continue
        yield from [value] if isinstance(parameter, click.Argument) else [parameter.opts[0], value]


def run_verb(words: Sequence[str], given: Sequence[str], *, as_caller: bool, answers: int) -> None:
    """Run a command in this process, and print its result."""
    looked: list[str] = []

    def hook(event: str, values: tuple[object, ...]) -> None:
        if os.geteuid() == 0 and event not in {"socket.connect", "os.mkdir"}:  # a run directory belongs to its owner
            paths = [os.fsdecode(one) for one in values if isinstance(one, str | bytes | os.PathLike)]
            looked.extend(f"{event} {path}" for path in paths if any(folder in path for folder in FOLDERS))

    def end(*_: object) -> None:
        said = {"verb": [*words, *given], "uid": os.geteuid(), "as_caller": as_caller, "read_as_root": looked[:3]}
        os.write(answers, json.dumps(said).encode() + b"\n")
        os._exit(0)

    nothing = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nothing, number)
    signal.signal(signal.SIGALRM, end)
    signal.alarm(SECONDS)
    sys.addaudithook(hook)
    try:
        run([*words, *given])
    finally:
        end()


def main() -> None:
    """Run all commands, several at a time."""
    for point in entry_points(group="mom.plugins"):
        point.load()  # once, and not in each child
    takes, gives = os.pipe()
    children = 0
    for words, context in verbs(mom, click.Context(mom)):
        as_caller, ways = runs_as_caller(context), {tuple(arguments(context.command, kept=kept)) for kept in (False, True)}
        for given in sorted(ways):
            if children == AT_ONCE:
                os.wait()
                children -= 1
            if not os.fork():
                run_verb(words, given, as_caller=as_caller, answers=gives)
            children += 1
    for _ in range(children):
        os.wait()
    os.close(gives)
    with os.fdopen(takes) as said:
        sys.stdout.write(said.read())


if __name__ == "__main__":
    main()
