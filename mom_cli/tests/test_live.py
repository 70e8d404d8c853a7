"""A verb that only looks waits as long as a person would, and says so."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mom_cli import patience
from mom_cli.live import look
from mom_cli.patience import LOOK_SECONDS, sign_of_life
from mom_core import Guest, PluginSettings, hookimpl
from mom_devkit import config_of


class SlowHost:
    """A hypervisor that needs longer to answer than a cycle would give it."""

    uri = "slow:///"

    class Settings(PluginSettings):
        deadline: Any = 0.2

    def __init__(self, settings: PluginSettings, context: Any) -> None:
        self.given = settings.deadline

    @hookimpl
    def mom_hypervisor(self) -> Any:
        return self

    def guests(self) -> Sequence[Guest]:
        time.sleep(0.6)
        return [Guest("1", f"booting, given {self.given:g} s")]


def test_guests_of_a_slow_host_are_listed_though_a_cycle_would_not_wait_for_them(tmp_path: Path) -> None:
    seen, problems = look(config_of(tmp_path, {"slow": SlowHost}))
    assert [row[1] for row in seen["guests"]["rows"]] == [f"booting, given {LOOK_SECONDS:g} s"]
    assert not problems


@pytest.mark.parametrize(("columns", "said"), [(80, "still waiting for the host"), (None, "")])
def test_a_person_sees_a_sign_of_life_and_a_program_does_not(
    columns: int | None, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(patience, "terminal_columns", lambda *, err: columns)
    monkeypatch.setattr(patience, "_SILENCE_SECONDS", 0.05)
    with sign_of_life("the host"):
        time.sleep(0.4)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert bool(captured.err) is bool(said)


def test_what_is_quick_says_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(patience, "terminal_columns", lambda *, err: 80)
    monkeypatch.setattr(patience, "_SILENCE_SECONDS", 0.3)
    with sign_of_life("the host"):
        pass
    time.sleep(0.5)
    assert capsys.readouterr().err == ""
