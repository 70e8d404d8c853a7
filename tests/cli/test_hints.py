"""What mom advises works as it stands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from click.testing import CliRunner

from mom_core.cli.frame import mom

QUOTED = re.compile(r"`mom ([a-z][^`]*)`")
SOURCES = Path(__file__).resolve().parents[2]


def test_every_command_that_the_sources_advise_can_be_run() -> None:
    """Each is parsed by click as it would be printed, but for the words that stand for something else."""
    advised = {
        found
        for path in SOURCES.glob("mom_*/src/**/*.py")
        for found in QUOTED.findall(path.read_text("utf-8"))
        if not re.search(r"[{}\[\]….]|\.\.\.|[A-Z]{2}", found)
    }
    assert len(advised) > 40
    for words in sorted(advised):
        whole = re.sub(r" --[a-z-]+$", "", words)  # an option at the end would take --help for its value
        result = CliRunner().invoke(mom, [*shlex.split(whole), "--help"])
        assert result.exit_code == 0, words
