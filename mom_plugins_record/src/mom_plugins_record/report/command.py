"""Subcommand `mom report`: sums up the accounts, and prints the chosen form."""

from __future__ import annotations

import json
import math
import stat
import time
from dataclasses import asdict
from pathlib import Path
from typing import Final

import click

from mom_core import GuestPattern, MomError, UnitError, load_config, parse_duration, printable
from mom_daemon import KeptPath, config_option, json_option, print_text
from mom_plugins_record.recording.plugin import RecordPlugin, configured_recorder
from mom_plugins_record.recording.reader import format_time
from mom_plugins_record.report.accounts_file import NAME, check, read_guests, read_hosts
from mom_plugins_record.report.hours import HOUR
from mom_plugins_record.report.page import page
from mom_plugins_record.report.summary import AccountedHours, summary_of
from mom_plugins_record.report.terminal import print_report

FORMAT: Final = 4
"""Version of the JSON document."""


@click.command()
@click.argument("path", metavar="[FILE]", required=False, type=KeptPath())
@click.option("--last", default="30d", show_default=True, metavar="TIME", help="Length of the period until now, such as 7d or 12h.")
@click.option(
    "--by",
    metavar="WHAT",
    default="class",
    show_default=True,
    help="One line for each class, guest, host, or value of a guest's property, such as project.",
)
@click.option("--tenant", default="", metavar="PATTERN", help="Only these guests, such as 'acme-*' or 'project=acme', without the host.")
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write one page with plots, such as for e-mail; - prints it.")
@config_option
@json_option
def report(path: Path | None, last: str, by: str, tenant: str, html: Path | None, config_path: str | None, as_json: bool) -> None:
    """Report the gain and cost of mom: memory given back by each means and its worth, advised sizes, stalls, and promises.

    FILE is the folder of a recording, or its file of accounts. The default is mom's own accounts on this host. The report marks unknown
    values. docs/report.md defines every number.
    """
    try:
        seconds = parse_duration(last)
    except UnitError as error:
        raise click.UsageError(f"--last: {error}") from None
    if seconds <= 0:
        raise click.UsageError("--last: must be greater than 0, such as 30d")
    try:
        pattern = GuestPattern.of(tenant)
    except MomError as error:
        raise click.UsageError(f"--tenant: {error}") from None
    if as_json and html is not None:
        raise click.UsageError("choose one of --json and --html")
    path, settings = _settings(path, config_path)
    summary = summary_of(find_accounts(path, seconds), by, tenant, settings.price, settings.currency)
    if tenant and not summary.whole.guests:
        verb = "is named" if pattern.property == "name" else "matches"
        raise MomError(f"no guest in that period {verb} {printable(tenant)}", hint="use --by guest without --tenant to list all guests")
    if as_json:
        click.echo(json.dumps({"format": FORMAT, **asdict(summary)}, indent=2))
    elif html is not None:
        if str(html) == "-":
            print_text(page(summary))
        else:
            html.write_text(page(summary), encoding="utf-8")
            click.echo(str(html), err=True)
    else:
        print_report(summary)


def find_accounts(path: Path, last: float) -> AccountedHours:
    """Return the last `last` seconds of the accounts in a recording's folder, or in a file. Raise `MomError` if there are none."""
    try:
        accounts = path / NAME if path.is_dir() else path
        is_file = stat.S_ISREG(accounts.stat().st_mode)  # a pipe would block SQLite
    except FileNotFoundError:
        is_file = False
    except OSError as error:
        raise MomError(f"cannot read {path}: {error.strerror}", hint="run as root, or as the user that recorded it") from error
    if not is_file:
        hint = "give a recording's folder, or its file of accounts; mom writes the first accounts a minute after its start"
        raise MomError(f"there is no file {accounts}", hint=hint)
    check(accounts)
    hosts = read_hosts(accounts, 0.0, math.inf)
    if not hosts:
        raise MomError(f"{accounts} has no accounts", hint="mom writes the first accounts a minute after its start")
    hosts = [row for row in hosts if row.hour <= time.time() // HOUR] or hosts  # later hours are from a clock that was ahead
    until = max(row.latest["ended"] for row in hosts)
    since = min(round((until - last) / HOUR), math.ceil(until / HOUR) - 1) * HOUR  # in whole hours, as near as possible
    begins, remarks = min(row.latest["began"] for row in hosts), []
    if begins > since:
        remarks.append(f"the accounts begin {format_time(begins)[:16]} UTC")
        since = begins
    of_that_time = [row for row in hosts if row.hour >= int(since // HOUR)]
    guests = read_guests(accounts, since, until)
    return AccountedHours(of_that_time, guests, since, until, remarks)


def _settings(path: Path | None, config_path: str | None) -> tuple[Path, RecordPlugin.Settings]:
    try:
        config = load_config(config_path)
        settings = configured_recorder(config)
    except MomError:
        if path is None or config_path is not None:
            raise
        return path, RecordPlugin.Settings()
    return path or settings.folder(config.state_directory), settings
