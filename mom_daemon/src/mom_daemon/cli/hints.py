"""Commands that mom advises: complete, so that they work as they stand for whoever has named a configuration.

Texts name a command between backticks: `mom doctor`. Where this process was given another configuration than the usual one, and the verb
takes one, it is printed with `-c FILE`.
"""

from __future__ import annotations

import re
import shlex
from typing import Final

import click

from mom_core.files import DEFAULT_CONFIG

_COMMAND: Final = re.compile(r"`mom ([a-z][^`]*)`")


class _Given:
    """The way this process was called: its command, and the configuration that was named (None: the usual one)."""

    command: click.Command | None = None
    config: str | None = None


def begin(command: click.Command) -> None:
    """This command is run; no configuration was named yet."""
    _Given.command, _Given.config = command, None


def note_config(path: str | None) -> None:
    """This configuration was named on the command line."""
    _Given.config = None if path in {None, str(DEFAULT_CONFIG)} else path


def with_config(text: str) -> str:
    """The text, with the configuration that was named in each command that takes one."""
    if _Given.config is None or "`mom " not in text:
        return text
    return _COMMAND.sub(_completed, text)


def _completed(found: re.Match[str]) -> str:
    words = found[1].split()
    if _Given.config is None or {"-c", "--config"} & set(words) or not _takes_config(words):
        return found[0]
    return f"`mom {found[1]} -c {shlex.quote(_Given.config)}`"


def _takes_config(words: list[str]) -> bool:
    """True if the verb of these words takes `-c`; not where there is none such here, as its distribution is not installed."""
    command = _Given.command
    for word in words:
        if not isinstance(command, click.Group):
            break
        command = command.get_command(click.Context(command), word)
    return command is not None and any(parameter.name == "config_path" for parameter in command.params)
