"""The table of `mom guests`."""

from __future__ import annotations

import pytest

from mom_core.cli.status import _show_guests

NO_CPU = "CPU time cannot be limited: no cgroup controller"


def test_what_is_so_for_all_guests_is_said_once_below_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"name": "a", "blocked": {"vcpu_quota": NO_CPU, "*": "the guest is paused"}}, {"name": "b", "blocked": {"vcpu_quota": NO_CPU}}]
    _show_guests(rows)
    shown = capsys.readouterr().out
    assert shown.count(NO_CPU) == 1
    assert shown.splitlines()[-1] == f"all guests: {NO_CPU}"
    assert "the guest is paused" in shown


def test_what_is_so_for_a_single_guest_stands_beside_it(capsys: pytest.CaptureFixture[str]) -> None:
    _show_guests([{"name": "a", "blocked": {"vcpu_quota": NO_CPU}}])
    assert capsys.readouterr().out.splitlines()[-1].endswith(NO_CPU)
