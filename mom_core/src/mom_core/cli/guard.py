"""`mom guard`: the guardian as a service of its own, which outlives mom's restarts."""

from __future__ import annotations

import os

import click

from mom_core.cli.options import config_argument
from mom_core.cli.prose import print_prose
from mom_core.config import load_config
from mom_core.errors import MomError
from mom_core.guardian import command


@click.command("guard")
@config_argument
def guard_command(config_path: str | None) -> None:
    """Watch over mom: put back what it has changed if it hangs, or dies and does not return within the setting `lease`.

    `mom run` starts such a guardian by itself where none is. As a service of its own (mom-guardian.service) it outlives a restart of mom's.
    """
    config = load_config(config_path)
    if config.lease <= 0:
        print_prose("Nothing to guard: the configuration says lease: 0s.", 2)
        return
    try:
        config.run_directory.mkdir(parents=True, exist_ok=True, mode=0o755)
        words = command(config.run_directory, config.state_directory, stay=True)
        os.execv(words[0], words)  # noqa: S606  # no shell is the point; what was loaded to read the configuration is not kept
    except OSError as error:
        raise MomError(f"cannot watch {config.run_directory}: {error.strerror}", hint="run as root, or set run_directory") from error
