"""Options that several verbs share."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from mom_core import printable
from mom_core.files import DEFAULT_CONFIG
from mom_daemon.cli.hints import note_config

Function = TypeVar("Function", bound=Callable[..., Any])


class FiniteRange(click.FloatRange):
    """Numbers of a range. For click's own, `nan` is within each range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number. Ends the verb as misused where it is none of the range."""
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value!r} is no number.", param, ctx)
        return number


class ExistingPath(click.Path):
    """A file or folder that is named, and has to be there: one that is not is misuse. Whether it can be read, its reader says."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path. Ends the verb as misused where nothing is there."""
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        try:
            path.stat()
        except (FileNotFoundError, NotADirectoryError):
            self.fail(f"there is no file or folder {printable(str(path), 300)}", param, ctx)
        except OSError:
            pass  # as above
        return path


def _noted(context: click.Context, _: click.Parameter, path: str | None) -> str | None:
    """Have commands that are advised name the configuration, too; what the environment names, they find there themselves."""
    if context.get_parameter_source("config_path") is click.core.ParameterSource.COMMANDLINE:
        note_config(path)
    return path


def config_option(function: Function) -> Function:
    """`-c FILE`: the configuration; the usual file when it is left out."""
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
    """`[FILE]` or `-c FILE`: the configuration, for verbs that take nothing else. The usual file when both are left out."""

    @wraps(function)
    def with_file(*args: Any, file: str | None, config_path: str | None, **given: Any) -> Any:
        source = click.get_current_context().get_parameter_source("config_path")
        if file is not None and source is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError("the configuration is named twice: leave -c or FILE out")
        if file is not None:
            note_config(file)
        return function(*args, config_path=config_path if file is None else file, **given)

    return click.argument("file", metavar="[FILE]", required=False)(config_option(with_file))


def json_option(function: Function) -> Function:
    """`--json`: for programs."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(function)
