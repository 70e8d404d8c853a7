"""The verb `mom report`. What it takes is imported when it is called."""

from __future__ import annotations

from pathlib import Path

import click

from mom_daemon import config_option, json_option


@click.command()
@click.argument("path", metavar="[FILE]", required=False, type=click.Path(path_type=Path))
@click.option("--last", default="30d", show_default=True, metavar="TIME", help="The last so many days, such as 7d, or hours, such as 12h.")
@click.option("--by", type=click.Choice(["class", "guest", "host"]), default="class", show_default=True, help="What has a line of its own.")
@click.option("--tenant", default="", metavar="PATTERN", help="Only guests of these names, such as 'acme-*', and nothing of the host.")
@click.option("--csv", "as_csv", is_flag=True, help="Print a table for spreadsheets.")
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write one page for a mailbox, with plots.")
@config_option
@json_option
def report(
    path: Path | None, last: str, by: str, tenant: str, as_csv: bool, html: Path | None, config_path: str | None, as_json: bool
) -> None:
    """Say what mom has brought and what it has cost: memory given back by each means and its worth, sizes that would do, waiting, promises.

    FILE is the folder of a recording, or the file of accounts in it; without it, what the mom with this host's configuration has kept.
    What is not known is said to be unknown. docs/report.md defines every number.
    """
    from mom_plugins_record.report.perform import ReportOptions, perform

    perform(ReportOptions(path, last, by, tenant, config_path, html, as_json=as_json, as_csv=as_csv))
