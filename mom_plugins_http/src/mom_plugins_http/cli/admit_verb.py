"""`mom admit`: whether another guest fits."""

from __future__ import annotations

import json
import sys
from typing import Any
from urllib.parse import urlencode

import click

from mom_core import UnitError, format_kib, parse_size, printable
from mom_daemon import as_caller, print_prose
from mom_plugins_http.cli.client import Client
from mom_plugins_http.cli.policy_verbs import common_options


@click.command("admit", short_help="Say whether another guest fits.")
@click.option("--memory", required=True, metavar="SIZE", help="What each guest may have at most, such as 8GiB.")
@click.option("--class", "sla_class", default="", metavar="CLASS", help="Its service class.  [default: that of the plugin sla]")
@click.option("--count", type=click.IntRange(1, 10_000), default=1, show_default=True, help="How many such guests.")
@common_options
@as_caller
def admit_command(memory: str, sla_class: str, count: int, as_json: bool, config_path: str | None) -> None:
    """Say whether more guests fit on this host without breaking a promise to those that are there, and what would have to give.

    It asks the running mom, which needs the plugins sla and http. What is reserved for launches counts; nothing is kept for the guests by
    asking: that is `mom reserve`. Exit code 1 when they do not fit, and when mom cannot say: it does not run, or knows too little yet.
    """
    try:
        parse_size(memory)
    except UnitError as error:
        raise click.UsageError(f"--memory: {error}") from None
    asked = {"memory": memory, "count": count, **({"class": sla_class} if sla_class else {})}
    query = urlencode(asked, errors="surrogateescape")
    found = Client.configured(config_path).get(f"/v1/admission?{query}")
    if as_json:
        click.echo(json.dumps(found))
    else:
        for line in _lines(found):
            print_prose(line, 4)
    if not found["admitted"]:
        sys.exit(1)


def _lines(found: Any) -> list[str]:
    count, fits = found["count"], found["fits"]
    guests = "1 guest" if count == 1 else f"{count} guests"
    what = f"{guests} of {format_kib(found['memory_kib'])}, class {printable(found['sla_class'] or 'none')}"
    lines = [f"yes: {what} would fit" if found["admitted"] else f"no: {what} would not fit" + (f"; {fits} would" if fits else "")]
    lines += [f"  {printable(reason, 400)}" for reason in found["reasons"]]
    if found["donors"]:
        lines.append("would have to give:" if found["admitted"] else "what would make room:")
        for one in found["donors"]:
            of_what = "of what it is promised" if one["promise"] else "that it neither uses nor is promised"
            lines.append(f"  {printable(one['guest']['name'])}: {format_kib(one['kib'])} {of_what}")
    return lines
