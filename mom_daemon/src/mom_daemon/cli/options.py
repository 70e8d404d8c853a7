"""Options that several verbs share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from mom_core.files import DEFAULT_CONFIG

Function = TypeVar("Function", bound=Callable[..., Any])

_AS_CALLER: Final = "as_caller"


class KeptPath(click.Path):
    """Existing file or folder that mom has written. A verb that runs as root switches to its owner before it reads."""

    def __init__(self) -> None:
        super().__init__(exists=True, path_type=Path)


def as_caller(function: Function) -> Function:
    """Let a verb keep root's rights. The verb must not read mom's folders."""
    function.__dict__[_AS_CALLER] = True
    return function


def runs_as_caller(context: click.Context) -> bool:
    """Return whether `as_caller` marked this verb or its group."""
    return any(hasattr(each.command.callback, _AS_CALLER) for each in _with_parents(context))


def named_config(context: click.Context) -> str | None:
    """Return the configuration file that the operator specified; None for the default."""
    files = (each.params.get("config_file") or each.params.get("config_path") for each in _with_parents(context))
    return next((str(file) for file in files if file), os.environ.get("MOM_CONFIG") or None)


def _with_parents(context: click.Context) -> Iterator[click.Context]:
    yield context
    if context.parent is not None:
        yield from _with_parents(context.parent)


def config_option(function: Function) -> Function:
    """Add `-c FILE`, the configuration file."""
    return click.option(
        "-c",
        "--config",
        "config_path",
        metavar="FILE",
        envvar="MOM_CONFIG",
        default=None,
        help=f"The configuration file.  [default: {DEFAULT_CONFIG}, or $MOM_CONFIG]",
    )(function)


def config_argument(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `[FILE]` and `-c FILE` to a verb without other arguments."""

    @wraps(function)
    def with_file(*args: Any, config_file: str | None, config_path: str | None, **given: Any) -> Any:
        return function(*args, config_path=config_file or config_path, **given)

    return click.argument("config_file", metavar="[FILE]", required=False)(config_option(with_file))


def json_option(function: Function) -> Function:
    """Add `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(function)
