"""What mom leaves in its run directory: the configuration in force, and whether its changes are kept for the next mom."""

from pathlib import Path

import pytest

from mom_core.config import Config
from mom_core.errors import MomError
from mom_daemon.supervision import IN_FORCE, KEEP, Supervision, config_as_left, take_keep


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "3", '"mom.yaml"', "[" * 100_000])
def test_a_damaged_copy_of_the_configuration_is_said_to_be_damaged(tmp_path: Path, content: str) -> None:
    (tmp_path / IN_FORCE).write_text(content)
    with pytest.raises(MomError, match=r"is damaged: .*name the configuration with -c"):
        config_as_left(tmp_path)


def test_changes_are_kept_for_one_successor_only(tmp_path: Path) -> None:
    Supervision().stopping(Config(run_directory=tmp_path), keep=True)
    assert take_keep(tmp_path)
    assert not take_keep(tmp_path)


def test_a_mom_that_puts_back_leaves_nothing_to_a_successor_however_it_ends(tmp_path: Path) -> None:
    (tmp_path / KEEP).touch()
    Supervision().stopping(Config(run_directory=tmp_path), keep=False)
    assert not take_keep(tmp_path)


def test_a_folder_that_takes_nothing_is_no_reason_to_stop(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Supervision().stopping(Config(run_directory=tmp_path / "nothing"), keep=True)
    assert "cannot note in" in caplog.text


def test_who_may_not_take_the_mark_says_so(tmp_path: Path) -> None:
    (tmp_path / KEEP).mkdir()
    with pytest.raises(MomError, match=r"cannot remove .*keep"):
        take_keep(tmp_path)
