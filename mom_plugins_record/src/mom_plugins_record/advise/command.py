"""Subcommand `mom advise`: how much memory to sell, and how many more guests fit."""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path

import click

from mom_core import UnitError, load_config, parse_size, printable
from mom_daemon import KeptPath, TableColumn, json_option, print_prose, print_table
from mom_plugins_record.advise.ratio import RISK
from mom_plugins_record.advise.sold import json_of, lines_of, rows, sold_on
from mom_plugins_record.forecast.files import past_in
from mom_plugins_record.forecast.plugin import days_folder


@click.command()
@click.option("--risk", metavar="SHARE", help=f"Accepted risk per month that some guest lacks memory.  [default: {100 * RISK:g}%]")
@click.option(
    "--days", type=KeptPath(), multiple=True, metavar="FILE", help="Learned days (days.json) of this or another host; may be repeated."
)
@click.option("--memory", metavar="SIZE", help="Also print how many more guests of this size fit, such as 4GiB.")
@click.option(
    "-c",
    "--config",
    "config_path",
    type=click.Path(exists=True, path_type=Path),
    metavar="FILE",
    help="Configuration with the forecast plugin.",
)
@json_option
def advise(risk: str | None, days: tuple[Path, ...], memory: str | None, config_path: Path | None, as_json: bool) -> None:
    """Advise how much memory to sell on this host at a stated risk, from the learned daily memory use of its guests.

    \b
    mom advise --risk 1% --memory 4GiB
    mom advise --days a/days.json --days b/days.json    for several hosts, whose files were copied here

    For each learned day, mom calculates how full the host would be with its guests and copies of them. The risk is that some guest lacks
    memory within a month. The answer includes settings of OpenStack, KubeVirt, CloudStack and Proxmox VE. mom needs two weeks of learned
    days (`mom forecast learn` learns them from recordings), and ignores swap and merged pages.
    Exit code 1 if the answer is unknown.
    """
    share = _share(risk)
    try:
        each_kib = None if memory is None else parse_size(memory) / 1024
    except UnitError as error:
        raise click.UsageError(f"--memory: {error}") from None
    pasts = [past_in(file) for file in days] or [past_in(days_folder(load_config(config_path or os.environ.get("MOM_CONFIG"))))]
    hosts = [sold_on(past, share, each_kib) for past in pasts]
    if as_json:
        click.echo(json.dumps(json_of(hosts, share), indent=2))
    for host in () if as_json else hosts:
        for line in lines_of(host, share):
            print_prose(line, 4)
        if settings := rows(host):
            print_table(("platform", TableColumn("setting", 1), "possible", "today"), settings)
    if not any(host.result for host in hosts):
        sys.exit(1)


def _share(risk: str | None) -> float:
    if risk is None:
        return RISK
    try:
        share = float(risk.removesuffix("%")) / (100 if risk.endswith("%") else 1)
    except ValueError:
        share = math.nan
    if not 0 < share < 1:
        raise click.UsageError(f"--risk: {printable(risk, 40)} is not a risk between 0 and 100 %, such as 1%")
    return share
