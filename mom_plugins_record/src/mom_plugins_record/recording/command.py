"""Subcommand `mom record`."""

from __future__ import annotations

from pathlib import Path

import click

from mom_daemon import KeptPath, config_option, json_option

FORMATS = ("parquet", "csv")

_TO = f"{', '.join(FORMATS)}; parquet needs pyarrow. A second --to with a time sets the end."

_RECORDING = click.argument("recording", required=False, type=KeptPath())


@click.group()
def record() -> None:
    """Look at recordings of the `record` plugin."""


@record.command("show")
@_RECORDING
@config_option
@json_option
def show_command(recording: Path | None, config_path: str | None, as_json: bool) -> None:
    """Describe a recording: times, guests, size, and damage.

    RECORDING is the folder, or one file of it. The default is mom's own recording on this host. Exit code 1 if cycles are lost.
    """
    from mom_plugins_record.recording.contents import contents_of, print_contents

    contents = contents_of(recording or _configured(config_path))
    print_contents(contents, as_json=as_json)
    if contents.lost:
        raise click.exceptions.Exit(1)


@record.command("export")
@_RECORDING
@click.option("--to", multiple=True, required=True, metavar="FORMAT|TIME", help=_TO)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default="mom-export", show_default=True, metavar="FOLDER", help="Folder to write to."
)
@click.option("--guest", "guests", multiple=True, metavar="PATTERN", help="These guests only, such as 'db-*'; may be repeated.")
@click.option("--from", "since", metavar="TIME", help="Start, such as 2026-11-20T08:00 (UTC, unless it has another zone).")
@config_option
def export_command(
    recording: Path | None, to: tuple[str, ...], output: Path, guests: tuple[str, ...], since: str | None, config_path: str | None
) -> None:
    """Write a recording as tables for other tools: host, guests, decisions and outcomes, with units in the columns' names.

    RECORDING is the folder, or one file of it. The default is mom's own recording on this host. FOLDER must be empty or new.
    """
    from mom_plugins_record.export.tables import export
    from mom_plugins_record.recording.times import moment_of

    formats, times = [text for text in to if text in FORMATS], [text for text in to if text not in FORMATS]
    if len(formats) != 1 or len(times) > 1:
        raise click.UsageError(f"--to needs one of {', '.join(FORMATS)}, and at most one time")
    begins = moment_of(since, "--from", float("-inf"))
    ends = moment_of(times[0] if times else None, f"--to (one of {', '.join(FORMATS)}, or a time)", float("inf"))
    export(recording or _configured(config_path), output, formats[0], guests, begins, ends)


def _configured(config_path: str | None) -> Path:
    from mom_core import load_config
    from mom_plugins_record.recording.plugin import configured_recorder

    config = load_config(config_path)
    return configured_recorder(config).folder(config.state_directory)
