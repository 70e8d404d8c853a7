"""Commands in mom's advice exist."""

import re
import shlex
from pathlib import Path

from click.testing import CliRunner

from mom_daemon.cli.frame import mom

QUOTED = re.compile(r"`mom ([a-z][^`]*)`")
SOURCES = Path(__file__).resolve().parents[2]


def test_every_command_that_the_sources_advise_can_be_run() -> None:
    """Options are left out, and so are commands with placeholders."""
    advised = {
        found
        for path in SOURCES.glob("mom_*/src/**/*.py")
        for found in QUOTED.findall(path.read_text("utf-8"))
        if not re.search(r"[{}\[\]….]|\.\.\.|[A-Z]{2}", found)
    }
    assert len(advised) > 40
    for words in sorted(advised):
        result = CliRunner().invoke(mom, [*shlex.split(words.partition(" -")[0]), "--help"])
        assert result.exit_code == 0, words
