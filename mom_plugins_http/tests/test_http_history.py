"""The columns of `mom history`."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mom_plugins_http.cli.client import Client
from mom_plugins_http.cli.verbs import history_command


class Answers:
    """Client of a mom with one past cycle of a guest."""

    path = Path("/run/mom/mom.sock")

    def get(self, path: str) -> Any:
        if path.startswith("/v1/fields"):
            return {"items": [{"name": "mem_available", "unit": "KiB", "scope": "host"}], "next": None}
        if path.startswith("/v1/host"):
            return {"items": [{"time": 0.0, "fields": {"mem_available": 96 << 20, "mem_really_available": 2 << 20}}]}
        fields = {"aardvark": 1, "host_ksm_merged": None, "rss": 2, "swap_in": 3, "balloon_cur": 4}
        return {"items": [{"time": 0.0, "fields": fields}, {"time": 5.0, "fields": {**fields, "swap_in": None}}]}


def test_the_most_important_fields_come_first_and_what_is_never_known_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Client, "configured", lambda *_: Answers())
    run = CliRunner().invoke(history_command, ["web"])
    assert run.exit_code == 0, run.output
    assert run.output.splitlines()[0].split() == ["time", "balloon_cur", "rss", "swap_in", "aardvark"]


def test_the_hosts_memory_is_not_headed_by_a_field_that_is_called_available(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Client, "configured", lambda *_: Answers())
    heads, row, *_ = CliRunner().invoke(history_command, ["host"]).output.splitlines()
    assert heads.split() == ["time", "memory", "available"]
    assert "96.00 GiB" in row
