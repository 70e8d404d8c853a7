"""`mom plot`: reads, draws, and puts the file in its place."""

from __future__ import annotations

from pathlib import Path

import click

from mom_core import MomError, printable, replace_file
from mom_plugins_record.plot.picture import FORMATS, draw
from mom_plugins_record.plot.series import series_of
from mom_plugins_record.recording.reader import Recording
from mom_plugins_record.recording.times import moment_of, shown


@click.command()
@click.argument("recording", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default="mom.png", show_default=True, metavar="FILE", help="A *.png or *.svg."
)
@click.option(
    "--guest", "guests", multiple=True, metavar="PATTERN", help="These guests, such as 'db-*'; may be repeated.  [default: the worst]"
)
@click.option("--limit", type=click.IntRange(0, 60), help="How many guests are shown at most.  [default: 48; 24 of more]")
@click.option("--from", "since", metavar="TIME", help="Begin there, such as 2026-11-20T08:00 (UTC, unless it says another zone).")
@click.option("--to", "until", metavar="TIME", help="End there.")
def plot(recording: Path, output: Path, guests: tuple[str, ...], limit: int | None, since: str | None, until: str | None) -> None:
    """Draw what a recording holds: the host's memory, its pressure, and the guests that fared worst.

    RECORDING is the folder that the plugin `record` has written, or one file of it. `mom simulate --record` makes one of a scenario.
    """
    begins, ends = moment_of(since, "--from", float("-inf")), moment_of(until, "--to", float("inf"))
    kind = output.suffix.removeprefix(".").lower()
    if kind not in FORMATS:
        raise click.UsageError(f"-o must end in {', '.join('.' + name for name in FORMATS)}, not in {output.suffix or 'nothing'}")
    if not output.parent.is_dir():
        raise MomError(f"there is no folder {output.parent}")
    series = series_of(Recording(recording), guests, limit, begins, ends)
    title = (
        f"{printable(str(recording), 60)}: {series.cycles} cycles, {shown(series.host['time'][0])} to {shown(series.host['time'][-1])} UTC"
    )
    content = draw(series, title, kind)
    try:
        replace_file(output, content, durable=False, mode=0o644)
    except OSError as error:
        raise MomError(f"cannot write {output}: {error.strerror}") from error
    click.echo(str(output))
