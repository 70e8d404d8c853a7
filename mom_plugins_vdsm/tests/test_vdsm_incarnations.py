"""A guest is the same until it was started anew, also for a mom that was restarted."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from mom_plugins_vdsm.incarnations import Incarnations
from mom_plugins_vdsm.statistics import Vm

LOG = logging.getLogger("test")


class Host:
    """A clock since the host's start, and guests that run for so long."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = 1000.0
        self.boot = "boot-1"
        self.restart()

    def restart(self) -> None:
        self.marks = Incarnations(self.path, self.boot, lambda: self.now, LOG)

    def mark(self, elapsed: float | None) -> str:
        return self.marks.follow([Vm("a", "a", "Up", "", 0.0, elapsed=elapsed)])["a"]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "state/vdsm/guests.json")


def test_a_guest_that_goes_on_running_is_the_same(host: Host) -> None:
    first = host.mark(100)
    host.now += 50
    assert host.mark(149) == first
    host.now += 50
    assert host.mark(None) == first


def test_a_guest_that_has_run_for_less_than_before_was_started_anew(host: Host) -> None:
    first = host.mark(100)
    host.now += 20
    assert host.mark(5) != first


def test_a_guest_that_was_not_listed_for_a_moment_is_the_same(host: Host) -> None:
    first = host.mark(100)
    host.marks.follow([])
    host.now += 20
    assert host.mark(120) == first
    host.marks.follow([])
    host.now += 20
    assert host.mark(3) != first


def test_a_guest_that_was_away_for_long_is_forgotten(host: Host) -> None:
    first = host.mark(100)
    host.now += 700
    host.marks.follow([])
    assert host.mark(800) != first


def test_a_mom_that_was_restarted_knows_it_again(host: Host) -> None:
    first = host.mark(100)
    host.now += 500
    host.restart()
    assert host.mark(601) == first


def test_a_guest_that_was_started_anew_while_mom_was_away_is_another(host: Host) -> None:
    first = host.mark(100)
    host.now += 500
    host.restart()
    assert host.mark(450) != first


def test_after_a_reboot_no_guest_is_the_same(host: Host) -> None:
    first = host.mark(100)
    host.boot = "boot-2"
    host.restart()
    assert host.mark(100) != first


@pytest.mark.parametrize("content", ["", "{", "[]", '{"boot": "boot-1"}', '{"boot": "boot-1", "guests": {"a": 1}}'])
def test_a_damaged_file_is_no_file(host: Host, content: str) -> None:
    host.path.parent.mkdir(parents=True)
    host.path.write_text(content)
    host.restart()
    assert host.mark(100)


def test_a_file_that_cannot_be_written_is_said_and_harmless(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    host.path.parent.parent.write_text("a file where a folder should be")
    assert host.mark(100) == host.mark(101)
    assert len(caplog.records) == 1


def test_who_only_takes_a_look_writes_nothing(host: Host) -> None:
    Incarnations(host.path, host.boot, lambda: host.now, LOG, keep=False).follow([Vm("a", "a", "Up", "", 0.0, elapsed=1.0)])
    assert not host.path.exists()


def test_the_file_is_written_only_when_guests_come_or_go(host: Host) -> None:
    host.mark(100)
    host.path.unlink()
    host.now += 1
    host.mark(101)
    assert not host.path.exists()
    host.now += 700
    host.marks.follow([])
    assert host.path.exists()
