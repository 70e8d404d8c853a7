"""The verb `mom record`: what is in a recording."""

from __future__ import annotations

from pathlib import Path

import click

from mom_core import json_option


@click.group()
def record() -> None:
    """Look at what the plugin `record` has recorded."""


@record.command("show")
@click.argument("recording", type=click.Path(path_type=Path))
@json_option
def show_command(recording: Path, as_json: bool) -> None:
    """Say what a recording holds: when, which guests, how much, and what of it is damaged.

    RECORDING is the folder, or one file of it. Exit 1 when cycles are lost.
    """
    from mom_plugins_record.recording.contents import contents_of, print_contents

    contents = contents_of(recording)
    print_contents(contents, as_json=as_json)
    if contents.lost:
        raise click.exceptions.Exit(1)
