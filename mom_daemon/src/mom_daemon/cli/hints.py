"""Completion of advised commands, so that operators can type them as printed.

Texts have a command between backticks: `mom doctor`. It gets `-c FILE` if this command line names a configuration and the verb takes one,
and the path of the program if `mom` is not on the PATH.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Final

import click

from mom_core.files import DEFAULT_CONFIG

_COMMAND: Final = re.compile(r"`mom ([a-z][^`]*)`")


class _Given:
    """Command of this process, and the configuration on its command line; None is the default file."""

    command: click.Command | None = None
    config: str | None = None


def begin(command: click.Command) -> None:
    """Note the command; no configuration is named yet."""
    _Given.command, _Given.config = command, None


def note_config(path: str | None) -> None:
    """Note the configuration that the command line names."""
    _Given.config = None if path in {None, str(DEFAULT_CONFIG)} else path


def with_config(text: str) -> str:
    """Return the text with its commands completed."""
    return _COMMAND.sub(_complete, text) if "`mom " in text else text


def program() -> str:
    """Return how to call this program: `mom`, or its path where the shell would not find it by that name."""
    path = Path(sys.argv[0])
    if path.name != "mom" or shutil.which("mom"):
        return "mom"
    return shlex.quote(str(path.absolute()))


def _complete(command: re.Match[str]) -> str:
    words = command[1].split()
    config = ""
    if _Given.config is not None and not {"-c", "--config"} & set(words) and _takes_config(words):
        config = f" -c {shlex.quote(_Given.config)}"
    return f"`{program()} {command[1]}{config}`"


def _takes_config(words: list[str]) -> bool:
    """Return whether the verb of these words is installed and takes `-c`."""
    command = _Given.command
    for word in words:
        if not isinstance(command, click.Group):
            break
        command = command.get_command(click.Context(command), word)
    return command is not None and any(parameter.name == "config_path" for parameter in command.params)
