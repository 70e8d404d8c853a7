"""Subcommand `mom record`, and a summary of a recording's content."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import click

from mom_core import count_of, format_duration, format_kib, printable
from mom_daemon import KeptPath, brief, config_option, json_option, moment, print_prose
from mom_plugins_record.recording.reader import Recording, format_time

_RECORDING = click.argument("recording", required=False, type=KeptPath())


@click.group()
def record() -> None:
    """Show and export recordings of the `record` plugin."""


@record.command("show")
@_RECORDING
@config_option
@json_option
def show_command(recording: Path | None, config_path: str | None, as_json: bool) -> None:
    """Describe a recording: times, guests, size, and damage.

    RECORDING is the folder, or one file of it. The default is mom's own recording on this host. Exit code 1 if cycles are lost.
    """
    contents = contents_of(recording or _configured(config_path))
    print_contents(contents, as_json=as_json)
    if contents.lost:
        raise click.exceptions.Exit(1)


@record.command("export")
@_RECORDING
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default="mom-export", show_default=True, metavar="FOLDER", help="Folder to write to."
)
@click.option("--guest", "guests", multiple=True, metavar="PATTERN", help="Only matching guests, like 'db-*'; may be repeated.")
@click.option("--from", "since", metavar="TIME", help="Start, such as 2026-11-20T08:00 (UTC, unless it has another zone).")
@click.option("--to", "until", metavar="TIME", help="End, in the format of --from.")
@config_option
def export_command(
    recording: Path | None, output: Path, guests: tuple[str, ...], since: str | None, until: str | None, config_path: str | None
) -> None:
    """Write a recording as CSV tables for other tools: host, guests, decisions and outcomes, with units in the columns' names.

    RECORDING is the folder, or one file of it. The default is mom's own recording on this host. FOLDER must be empty or new.
    """
    from mom_plugins_record.recording.tables import export

    begins, ends = moment(since, "--from", float("-inf")), moment(until, "--to", float("inf"))
    export(recording or _configured(config_path), output, guests, begins, ends)


def _configured(config_path: str | None) -> Path:
    from mom_core import load_config
    from mom_plugins_record.recording.plugin import configured_recorder

    config = load_config(config_path)
    return configured_recorder(config).folder(config.state_directory)


@dataclass(slots=True)
class Contents:
    """Summary of a recording's content. Times are seconds since the epoch."""

    path: str
    files: int
    bytes: int
    begins: float | None = None
    ends: float | None = None
    cycles: int = 0
    most_guests: int = 0
    lost: int = 0
    damaged: list[str] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)


def contents_of(path: Path) -> Contents:
    """Return the summary of a whole recording. Raise `MomError` if the recording is unreadable."""
    recording = Recording(path)
    result = Contents(str(path), len(recording.files), sum(file.stat().st_size for file in recording.files if file.exists()))
    for recorded in recording.cycles():
        report = recorded.report
        result.begins = report.time if result.begins is None else min(result.begins, report.time)
        result.ends = report.time if result.ends is None else max(result.ends, report.time)
        result.cycles += 1
        result.most_guests = max(result.most_guests, len(report.snapshot.guests))
        if recorded.session.host not in result.hosts:
            result.hosts.append(recorded.session.host)
    result.lost, result.damaged = recording.damage.cycles, recording.damage.places
    return result


def print_contents(contents: Contents, *, as_json: bool) -> None:
    """Print the summary."""
    if as_json:
        click.echo(json.dumps(asdict(contents), indent=2))
        return
    lines = [("files", f"{contents.files} in {contents.path}, {format_kib(contents.bytes / 1024)}")]
    if contents.begins is not None and contents.ends is not None:
        lasts = format_duration(round(contents.ends - contents.begins))
        lines += [("from", f"{format_time(contents.begins)} UTC"), ("to", f"{format_time(contents.ends)} UTC, {lasts} later")]
    lines += [
        ("cycles", f"{contents.cycles}, with up to {contents.most_guests} guests"),
        ("host", ", ".join(map(printable, contents.hosts)) or "unknown"),
    ]
    if contents.lost or contents.damaged:
        lines.append(("damaged", f"{count_of(contents.lost, 'cycle')} lost"))
    lines.extend(("", printable(place, 300)) for place in contents.damaged)
    for name, text in lines:
        print_prose(f"{name:<9} {brief(text, 2000)}", 10)
