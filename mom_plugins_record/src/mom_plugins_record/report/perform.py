"""`mom report`: finds the accounts, sums them up, and says it in the form that was asked for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import click

from mom_core import MomError, UnitError, load_config, parse_duration, printable, replace_file
from mom_plugins_record.report.document import document, table
from mom_plugins_record.report.page import page
from mom_plugins_record.report.source import find_accounts
from mom_plugins_record.report.summary import Price, summary_of
from mom_plugins_record.report.terminal import print_report


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """Options of the command line."""

    path: Path | None
    last: str
    by: str
    tenant: str
    config: str | None
    html: Path | None
    as_json: bool = False
    as_csv: bool = False


def perform(asked: ReportOptions) -> None:
    """Say it. Raises `MomError`."""
    try:
        last = parse_duration(asked.last)
    except UnitError as error:
        raise click.UsageError(f"--last: {error}") from None
    if last <= 0:
        raise click.UsageError("--last: must be longer than nothing, such as 30d")
    if asked.as_json + asked.as_csv + (asked.html is not None) > 1:
        raise click.UsageError("choose one of --json, --csv and --html")
    path, price = _settings(asked)
    found = find_accounts(path, last)
    summary = summary_of(
        found.hosts, found.guests, found.since, found.until, by=asked.by, tenant=asked.tenant, price=price, remarks=found.remarks
    )
    if asked.tenant and not summary.whole.guests:
        raise MomError(f"no guest of that time is named {printable(asked.tenant)}", hint="--by guest without --tenant lists all")
    if asked.as_json:
        click.echo(json.dumps(document(summary), indent=2))
    elif asked.as_csv:
        click.echo(table(summary), nl=False)
    elif asked.html is not None:
        try:
            replace_file(asked.html, page(summary), durable=False, mode=0o644)
        except OSError as error:
            raise MomError(f"cannot write {asked.html}: {error.strerror}") from error
        click.echo(str(asked.html))
    else:
        print_report(summary)


def _settings(asked: ReportOptions) -> tuple[Path, Price]:
    """Where the accounts are, and the price. A file that was named needs no configuration; then there is a price only with one."""
    from mom_plugins_record.recording.plugin import FOLDER, RecordPlugin

    try:
        config = load_config(asked.config)
    except MomError:
        if asked.path is None or asked.config is not None:
            raise
        return asked.path, Price()
    found = [one.settings for one in config.plugins.values() if isinstance(one.settings, RecordPlugin.Settings)]
    price = Price(found[0].price, found[0].currency) if found else Price()
    if asked.path is not None:
        return asked.path, price
    if not found:
        raise MomError(
            "the configuration has no plugin record, which keeps the accounts", hint="add `record: {}` to `plugins`, or name a FILE"
        )
    return Path(found[0].path) if found[0].path else config.state_directory / FOLDER, price
