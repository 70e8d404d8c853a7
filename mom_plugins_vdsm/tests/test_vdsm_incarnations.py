"""A guest keeps its incarnation until it is restarted, also across restarts of mom."""

from pathlib import Path

import pytest

from mom_core import StateFile
from mom_devkit import HandClock
from mom_plugins_vdsm.incarnations import FORM, Incarnations, KeptIncarnations
from mom_plugins_vdsm.statistics import Vm


class Host:
    """Clock since the host's boot, and guests with their uptime."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = HandClock(1000.0)
        self.boot = "boot-1"
        self.set_by = 0.0
        """Seconds by which the wall clock was set."""
        self.restart()

    def restart(self) -> None:
        self.file: StateFile[KeptIncarnations] = StateFile(self.path, "the file of guests' starts", FORM)
        self.marks = self.follower()

    def follower(self, *, keep: bool = True) -> Incarnations:
        return Incarnations(self.file, self.boot, self.clock, keep=keep, wall=self.wall)

    def wall(self) -> float:
        return self.clock.wall() + self.set_by

    def mark(self, elapsed: float | None) -> str:
        return self.marks.follow([Vm("a", "a", "Up", "", 0.0, elapsed=elapsed)])["a"]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "state/vdsm/guests.json")


@pytest.fixture
def first(host: Host) -> str:
    """Return the incarnation of a guest with an uptime of 100 s."""
    return host.mark(100)


def test_a_guest_that_was_not_listed_for_a_moment_is_the_same(first: str, host: Host) -> None:
    host.marks.follow([])
    host.clock.now += 20
    assert host.mark(120) == first
    host.marks.follow([])
    host.clock.now += 20
    anew = host.mark(3)
    assert anew != first
    host.clock.now += 20
    assert host.mark(23) == anew, "and stays that one"


def test_a_guest_of_which_vdsm_does_not_say_at_first_for_how_long_it_runs_is_the_same(host: Host) -> None:
    mark = host.mark(None)
    host.clock.now += 20
    assert host.mark(5000) == mark
    host.clock.now += 6
    assert host.mark(1) != mark, "it ran for longer than mom has known it"


@pytest.mark.parametrize("set_by", [-90, -16, 16, 3600])
def test_a_wall_clock_that_is_set_starts_no_guest_anew(first: str, host: Host, set_by: float) -> None:
    host.clock.now += 15
    host.set_by = set_by
    assert host.mark(115 + set_by) == first
    host.marks.follow([])
    host.clock.now += 15
    host.set_by = 0.0
    host.marks.follow([])
    host.clock.now += 15
    assert host.mark(145) == first, "also if it was not listed then"
    host.restart()
    host.set_by = set_by
    host.clock.now += 15
    assert host.mark(160 + set_by) == first, "or mom did not run"
    host.clock.now += 15
    assert host.mark(0) != first


@pytest.mark.parametrize("set_by", [-40, 40])
def test_a_guest_that_was_started_anew_while_the_wall_clock_was_set_is_another(first: str, host: Host, set_by: float) -> None:
    host.clock.now += 60
    host.set_by = set_by
    assert host.mark(20 + set_by) != first


@pytest.mark.parametrize(
    ("boot", "elapsed", "same"), [("boot-1", 601, True), ("boot-1", 450, False), ("boot-1", 490, False), ("boot-2", 601, False)]
)
def test_a_mom_that_was_restarted_knows_the_guests_that_were_not(first: str, host: Host, boot: str, elapsed: float, same: bool) -> None:
    host.clock.now += 500
    host.boot = boot
    host.restart()
    assert (host.mark(elapsed) == first) is same


def test_a_file_that_cannot_be_written_is_said_harmless_and_tried_again(host: Host) -> None:
    folder = host.path.parent.parent
    folder.write_text("a file where a folder should be")
    assert host.mark(100) == host.mark(101)
    assert "cannot be written" in host.file.write_error
    folder.unlink()
    host.mark(102)
    assert (host.path.exists(), host.file.write_error) == (True, "")


def test_the_file_is_written_only_when_guests_come_or_go(host: Host) -> None:
    host.mark(100)
    host.path.unlink()
    host.clock.now += 1
    host.mark(101)
    assert not host.path.exists()
    host.clock.now += 700
    host.marks.follow([])
    assert host.path.exists()
