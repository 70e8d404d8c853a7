"""`mom plot`: reads, draws, and puts the file in its place."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import click

from mom_core import MomError, printable
from mom_plugins_record.plot.momplot import write_momplot
from mom_plugins_record.plot.picture import FORMATS, draw
from mom_plugins_record.plot.series import story_of
from mom_plugins_record.recording.reader import Recording
from mom_plugins_record.recording.times import shown
from mom_toolkit import run_verb

DEFAULT = Path("mom.png")

YAML = frozenset({".yaml", ".yml"})


@dataclass(frozen=True, slots=True)
class PlotView:
    """What of a recording is shown: guests by patterns (none: the worst), how many (None: as many as fit), seconds since the epoch."""

    guests: Sequence[str] = ()
    limit: int | None = None
    since: float = float("-inf")
    until: float = float("inf")


def perform(what: Path, output: Path | None, momplot: Path | None, view: PlotView) -> None:
    """Draw, and say which file it is. Nothing is left behind when that fails."""
    with ExitStack() as stack:
        path = what
        if _is_scenario(what):
            path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mom-plot-"))) / what.stem
            run_verb("simulate", str(what), "--record", str(path))
        if momplot is not None:
            recording = Recording(path)
            click.echo(str(write_momplot(recording, momplot, view.since, view.until)))
            if recording.damage:
                click.echo(f"mom: {recording.damage.told()}", err=True)
            if output is None:
                return
        picture_of(path, output or DEFAULT, view, title=str(what))
        click.echo(str(output or DEFAULT))


def _is_scenario(what: Path) -> bool:
    """Whether it is a scenario's file or name, and no recording."""
    if what.suffix in YAML or what.exists():
        return what.suffix in YAML
    try:
        known = json.loads(run_verb("simulate", "--list", "--json"))
    except MomError:
        return False  # no simulator is installed, which would know scenarios
    return any(one["name"] == str(what) for one in known)


def picture_of(path: Path, output: Path, view: PlotView = PlotView(), title: str = "") -> None:
    """Draw the recording into that file, under this title (its path). Raises `MomError`."""
    kind = output.suffix.removeprefix(".").lower()
    if kind not in FORMATS:
        raise click.UsageError(f"-o must end in {', '.join('.' + name for name in FORMATS)}, not in {output.suffix or 'nothing'}")
    if not output.parent.is_dir():
        raise MomError(f"there is no folder {output.parent}")
    story = story_of(Recording(path), view.guests, view.limit, view.since, view.until)
    title = f"{printable(title or str(path), 60)}: {story.cycles} cycles, {shown(story.host.times[0])} to {shown(story.host.times[-1])} UTC"
    content = draw(story, title, kind)
    beside = output.with_name(f".{output.name}.new")
    try:
        beside.write_bytes(content)
        beside.replace(output)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise MomError(f"cannot write {output}: {error.strerror}") from error
