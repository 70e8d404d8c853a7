"""Options that several verbs share."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from mom_core import printable
from mom_core.files import DEFAULT_CONFIG
from mom_daemon.cli.hints import note_config

Function = TypeVar("Function", bound=Callable[..., Any])

_AS_CALLER: Final = "as_caller"


class FiniteRange(click.FloatRange):
    """Range of numbers that excludes `nan`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number, or raise click's usage error."""
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


class ExistingPath(click.Path):
    """File or folder that must exist. It may be unreadable."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path, or raise click's usage error."""
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        try:
            path.stat()
        except (FileNotFoundError, NotADirectoryError):
            self.fail(f"there is no file or folder {printable(str(path), 300)}", param, ctx)
        except OSError:
            pass  # it may exist: the verb reports the error when it opens the file
        return path


class KeptPath(ExistingPath):
    """File that mom has written. A verb that runs as root switches to the file's owner before it reads the file."""


def as_caller(function: Function) -> Function:
    """Let a verb keep root's rights. The verb must not read mom's folders."""
    function.__dict__[_AS_CALLER] = True
    return function


def runs_as_caller(context: click.Context) -> bool:
    """Return whether `as_caller` marked this verb or its group."""
    above: click.Context | None = context
    while above is not None:
        if hasattr(above.command.callback, _AS_CALLER):
            return True
        above = above.parent
    return False


def named_config(context: click.Context) -> str | None:
    """Return the configuration file that the operator specified; None for the default."""
    above: click.Context | None = context
    while above is not None:
        named = above.params.get("config_file") or above.params.get("config_path")
        if named:
            return str(named)
        above = above.parent
    return os.environ.get("MOM_CONFIG") or None


def _noted(context: click.Context, _: click.Parameter, path: str | None) -> str | None:
    if context.get_parameter_source("config_path") is click.core.ParameterSource.COMMANDLINE:
        note_config(path)
    return path


def config_option(function: Function) -> Function:
    """Add `-c FILE`, the configuration file."""
    return click.option(
        "-c",
        "--config",
        "config_path",
        metavar="FILE",
        envvar="MOM_CONFIG",
        default=None,
        callback=_noted,
        help=f"The configuration file.  [default: {DEFAULT_CONFIG}, or $MOM_CONFIG]",
    )(function)


def config_argument(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `[FILE]` and `-c FILE` to a verb without other arguments."""

    @wraps(function)
    def with_file(*args: Any, config_file: str | None, config_path: str | None, **given: Any) -> Any:
        source = click.get_current_context().get_parameter_source("config_path")
        if config_file is not None and source is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError("the configuration file is given twice: omit -c or FILE")
        if config_file is not None:
            note_config(config_file)
        return function(*args, config_path=config_path if config_file is None else config_file, **given)

    return click.argument("config_file", metavar="[FILE]", required=False)(config_option(with_file))


def json_option(function: Function) -> Function:
    """Add `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(function)
