"""The status file: whatever a plugin has for a value, and whatever the disk does, the cycle goes on."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mom_core import Engine
from mom_core.testing import snapshot
from mom_daemon.status import STATUS_FILE, StatusFile
from mom_devkit import config_of


class Unsayable:
    def __str__(self) -> str:
        raise LookupError("the plugin's own")


def of_itself() -> list[object]:
    made: list[object] = []
    made.append(made)
    return made


def nested() -> list[object]:
    made: list[object] = []
    for _ in range(100_000):
        made = [made]
    return made


@pytest.mark.parametrize("value", [[Unsayable()], of_itself(), nested()], ids=["unsayable", "of itself", "nested"])
def test_a_value_that_cannot_be_written_is_logged_once_and_the_next_status_is_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, value: Any
) -> None:
    file = StatusFile(tmp_path)
    with Engine(config_of(tmp_path, {})) as engine:
        report = engine.cycle()
        odd = replace(report, snapshot=snapshot(host={"odd": value}))
        for _ in range(2):
            file.write(engine, odd)
        assert not (tmp_path / STATUS_FILE).exists()
        (said,) = caplog.messages
        assert said.startswith(f"cannot write {tmp_path / STATUS_FILE}: ")
        assert "Error: " in said
        file.write(engine, report)
    assert json.loads((tmp_path / STATUS_FILE).read_text())["cycle"]["number"] == 1
