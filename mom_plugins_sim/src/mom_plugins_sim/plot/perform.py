"""`mom plot`: reads, draws, and puts the file in its place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from mom_core import MomError
from mom_plugins_sim.plot.momplot import write_momplot
from mom_plugins_sim.plot.picture import FORMATS, draw
from mom_plugins_sim.plot.series import story_of
from mom_plugins_sim.recording.reader import Recording
from mom_plugins_sim.recording.times import moment_of, shown

DEFAULT = Path("mom.png")


def perform(
    path: Path, output: Path | None, guests: Sequence[str], limit: int, since: str | None, until: str | None, momplot: Path | None
) -> None:
    """Draw, and say which file it is. Nothing is left behind when that fails."""
    begins, ends = moment_of(since, "--from", float("-inf")), moment_of(until, "--to", float("inf"))
    if momplot is not None:
        click.echo(str(write_momplot(Recording(path), momplot, begins, ends)))
        if output is None:
            return
    picture_of(path, output or DEFAULT, guests, limit, begins, ends)
    click.echo(str(output or DEFAULT))


def picture_of(
    path: Path, output: Path, guests: Sequence[str] = (), limit: int = 24, since: float = float("-inf"), until: float = float("inf")
) -> None:
    """Draw the recording into that file. Raises `MomError`."""
    kind = output.suffix.removeprefix(".").lower()
    if kind not in FORMATS:
        raise click.UsageError(f"-o must end in {', '.join('.' + name for name in FORMATS)}, not in {output.suffix or 'nothing'}")
    story = story_of(Recording(path), guests, limit, since, until)
    title = f"{path}: {story.cycles} cycles, {shown(story.host.times[0])} to {shown(story.host.times[-1])} UTC"
    content = draw(story, title, kind)
    beside = output.with_name(f".{output.name}.new")
    try:
        beside.write_bytes(content)
        beside.replace(output)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise MomError(f"cannot write {output}: {error.strerror}") from error
