"""Decorators for subcommands that query a running mom."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, NamedTuple, TypeVar

import click

from mom_daemon import as_caller, config_option, json_option, print_prose
from mom_plugins_http.cli.client import Client

Function = TypeVar("Function", bound=Callable[..., Any])


class Shown(NamedTuple):
    """Answer of a subcommand as JSON, and as lines for people. If `good` is False, the exit code is 1."""

    answer: Any
    lines: Iterable[str]
    good: bool = True


def common_options(function: Function) -> Function:
    """Add the common options of subcommands that query a running mom."""
    return as_caller(config_option(json_option(function)))


def running_verb(function: Callable[..., Shown]) -> Callable[..., None]:
    """Return a subcommand that calls `function` with a client of the configured mom, and prints the answer as JSON or lines."""

    @common_options
    @wraps(function)
    def verb(*args: Any, as_json: bool, config_path: str | None, **given: Any) -> None:
        shown = function(Client.configured(config_path), *args, **given)
        if as_json:
            click.echo(json.dumps(shown.answer))
        else:
            for line in shown.lines:
                print_prose(line, 4)
        if not shown.good:
            sys.exit(1)

    return verb
