"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from mom_core.files import DEFAULT_CONFIG


def config_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """`-c FILE`: the configuration; the usual file when it is left out."""
    return click.option(
        "-c",
        "--config",
        "config_path",
        metavar="FILE",
        envvar="MOM_CONFIG",
        default=None,
        help=f"The configuration file.  [default: {DEFAULT_CONFIG}, or $MOM_CONFIG]",
    )(function)


def json_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--json`: for programs."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(function)
