"""What mom advises works as it stands for whoever has named a configuration: each command has it."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from mom_daemon.cli import hints
from mom_daemon.cli.frame import mom
from mom_daemon.cli.prose import print_prose

QUOTED = re.compile(r"`mom ([a-z][^`]*)`")
SOURCES = Path(__file__).resolve().parents[2]


@pytest.fixture
def named() -> Iterator[str]:
    hints.begin(mom)
    hints.note_config("/etc/my mom.yaml")
    yield "/etc/my mom.yaml"
    hints.begin(mom)


@pytest.mark.parametrize("verb", ["doctor", "status", "restore", "config show", "explain web-1 --at '1s ago'"])
def test_a_verb_that_takes_the_configuration_is_named_with_it(named: str, verb: str) -> None:
    assert hints.with_config(f"see `mom {verb}`, then") == f"see `mom {verb} -c '/etc/my mom.yaml'`, then"


@pytest.mark.parametrize("verb", ["demo", "config init", "nosuch", "restore -c other.yaml"])
def test_one_that_takes_none_or_names_another_stays_as_it_is(named: str, verb: str) -> None:
    assert hints.with_config(f"see `mom {verb}`") == f"see `mom {verb}`"


@pytest.mark.parametrize("path", [None, "/etc/mom/mom.yaml"])
def test_without_a_name_or_with_the_usual_file_nothing_is_added(path: str | None) -> None:
    hints.begin(mom)
    hints.note_config(path)
    assert hints.with_config("see `mom doctor`") == "see `mom doctor`"


def test_all_that_is_printed_for_a_person_goes_through_it(named: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_prose("`mom doctor` says what fits")
    assert capsys.readouterr().out == "`mom doctor -c '/etc/my mom.yaml'` says what fits\n"


def test_every_command_that_the_sources_advise_can_be_run_with_it(named: str) -> None:
    """Each is parsed by click as it would be printed, but for the words that stand for something else."""
    advised = {
        found
        for path in SOURCES.glob("mom_*/src/**/*.py")
        for found in QUOTED.findall(path.read_text("utf-8"))
        if not re.search(r"[{}\[\]….]|\.\.\.|[A-Z]{2}", found)
    }
    assert len(advised) > 40
    for words in sorted(advised):
        shown = QUOTED.sub(lambda match: match[1], hints.with_config(f"`mom {words}`"))
        if " -c " in shown:
            arguments = shlex.split(shown)
            result = CliRunner().invoke(mom, [*arguments, "--help"])
            assert result.exit_code == 0, shown
