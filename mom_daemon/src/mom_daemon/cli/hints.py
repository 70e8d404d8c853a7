"""Adds `-c FILE` and mom's path to commands that messages suggest."""

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
    command: click.Command | None = None
    config: str | None = None


def begin(command: click.Command) -> None:
    """Store this process's top-level command."""
    _Given.command, _Given.config = command, None


def note_config(path: str | None) -> None:
    """Store the configuration file from the command line."""
    _Given.config = None if path in {None, str(DEFAULT_CONFIG)} else path


def with_config(text: str) -> str:
    """Add `-c FILE` and mom's path to the commands in `text`."""
    return _COMMAND.sub(_complete, text) if "`mom " in text else text


def program() -> str:
    """Return `mom`, or its path if it is not on the PATH."""
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
    command = _Given.command
    for word in words:
        if not isinstance(command, click.Group):
            break
        command = command.get_command(click.Context(command), word)
    return command is not None and any(parameter.name == "config_path" for parameter in command.params)
