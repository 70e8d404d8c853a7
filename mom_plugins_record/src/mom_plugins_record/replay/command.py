"""The verb `mom replay`. What it takes is imported when it is called."""

from __future__ import annotations

from pathlib import Path

import click

from mom_core import printable
from mom_daemon import json_option

FAILURES = ("below-need", "oscillation", "bounds", "difference")


@click.command()
@click.argument("recording", type=click.Path(path_type=Path))
@click.option(
    "--policy",
    "policies",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE|FOLDER",
    help="Use these policies instead of the recorded ones; may be repeated.",
)
@click.option(
    "--defaults/--no-defaults", default=True, show_default=True, help="Whether recorded policies that --policy does not replace stay."
)
@click.option("--from", "since", metavar="TIME", help="Begin there, such as 2026-11-20T08:00 (UTC, unless it says another zone).")
@click.option("--to", "until", metavar="TIME", help="End there.")
@click.option("--fail-on", metavar="LIST", help=f"Exit 1 for any of these, separated by commas: {', '.join(FAILURES)}.")
@click.option("--estimate/--no-estimate", default=True, show_default=True, help="With --policy: simulate what would have followed, too.")
@json_option
def replay(
    recording: Path,
    policies: tuple[Path, ...],
    defaults: bool,
    since: str | None,
    until: str | None,
    fail_on: str | None,
    estimate: bool,
    as_json: bool,
) -> None:
    """Evaluate a recording again: with the policies of then, or with others, to see what they would decide.

    RECORDING is the folder that the plugin `record` has written, or one file of it. Nothing real is touched.
    """
    from mom_plugins_record.recording.times import moment_of
    from mom_plugins_record.replay.show import ReplayOptions, perform

    failures = [name.strip() for name in fail_on.split(",")] if fail_on else []
    for name in failures:
        if name not in FAILURES:
            raise click.UsageError(f"--fail-on knows {', '.join(FAILURES)}, not {printable(name)!r}")
    begins, ends = moment_of(since, "--from", float("-inf")), moment_of(until, "--to", float("inf"))
    perform(recording, ReplayOptions(policies, defaults, begins, ends, failures, estimate, as_json))
