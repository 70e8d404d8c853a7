"""`mom plot`: reads, draws, and puts the file in its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from mom_core import MomError, printable
from mom_plugins_record.plot.picture import FORMATS, draw
from mom_plugins_record.plot.series import series_of
from mom_plugins_record.recording.reader import Recording
from mom_plugins_record.recording.times import shown


@dataclass(frozen=True, slots=True)
class PlotView:
    """The part that is shown: guests by patterns (none: the worst), how many (None: as many as fit), seconds since the epoch."""

    guests: Sequence[str] = ()
    limit: int | None = None
    since: float = float("-inf")
    until: float = float("inf")


def perform(path: Path, output: Path, view: PlotView) -> None:
    """Draw, and say which file it is. Nothing is left behind when that fails. Raises `MomError`."""
    kind = output.suffix.removeprefix(".").lower()
    if kind not in FORMATS:
        raise click.UsageError(f"-o must end in {', '.join('.' + name for name in FORMATS)}, not in {output.suffix or 'nothing'}")
    if not output.parent.is_dir():
        raise MomError(f"there is no folder {output.parent}")
    series = series_of(Recording(path), view.guests, view.limit, view.since, view.until)
    title = f"{printable(str(path), 60)}: {series.cycles} cycles, {shown(series.host['time'][0])} to {shown(series.host['time'][-1])} UTC"
    content = draw(series, title, kind)
    beside = output.with_name(f".{output.name}.new")
    try:
        beside.write_bytes(content)
        beside.replace(output)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise MomError(f"cannot write {output}: {error.strerror}") from error
    click.echo(str(output))
