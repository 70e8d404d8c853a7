"""`mom run` as a process, with real guests, real memory pressure and the kernel's KSM."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import libvirt  # type: ignore[import-untyped]  # it has no types
import pytest
from ballast import available_mib
from host_ksm import knobs, pages_sharing
from mom_run import MomRun
from real_guests import Lab, RealGuest, not_here

from mom_core.ledger import Ledger
from mom_devkit import wait_until

pytestmark = [pytest.mark.real, pytest.mark.alone]

GUEST_MIB = 512
BALLAST_MIB = 3072
LEAST_LEFT_MIB = 1024
"""Least memory that stays available on the host."""

_HERE = Path(__file__).parent


@dataclass
class Squad:
    """Four guests: two with spare memory and equal pages, one without statistics, and one that needs all its memory."""

    idle: Sequence[RealGuest]
    without_statistics: RealGuest
    busy: RealGuest

    @property
    def spare(self) -> Sequence[RealGuest]:
        return [*self.idle, self.without_statistics]

    @property
    def all(self) -> Sequence[RealGuest]:
        return [*self.spare, self.busy]

    def as_started(self) -> None:
        """Restore the guests after a failed test."""
        for guest in self.all:
            guest.domain.setMemoryFlags(GUEST_MIB << 10, libvirt.VIR_DOMAIN_AFFECT_LIVE)
        self.without_statistics.domain.setMemoryStatsPeriod(0, libvirt.VIR_DOMAIN_AFFECT_LIVE)
        for guest in self.all:
            wait_until(_has_all(guest), f"{guest.name} has its memory back", 60)


@pytest.fixture(scope="module")
def squad(laboratory: Lab) -> Iterator[Squad]:
    """Start the guests for all tests."""
    lab = laboratory
    idle = [lab.start(f"idle{number}", mib=GUEST_MIB, workload=(5, 5, 40, 350)) for number in (1, 2)]
    without = lab.start("without-statistics", mib=GUEST_MIB, workload=(5, 5, 40, 350), period=0)
    busy = lab.start("busy", mib=GUEST_MIB, workload=(20, 280, 0, 0))
    squad = Squad(idle, without, busy)
    for guest in squad.all:
        guest.wait_until_it_works()
    yield squad
    lab.destroy_all()


def period(guest: RealGuest) -> int:
    xml: str = guest.domain.XMLDesc()
    return int(xml.partition("<stats period='")[2].partition("'")[0] or 0)


class MomUnderPressure(MomRun):
    """`mom run` with memory pressure on its host."""

    @contextmanager
    def pressure(self) -> Iterator[None]:
        """Take memory from the host until the end of the block."""
        command = [sys.executable, str(_HERE / "ballast.py"), str(BALLAST_MIB), str(LEAST_LEFT_MIB)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as ballast:
            try:
                assert ballast.stdout is not None
                assert int(ballast.stdout.readline()) == BALLAST_MIB, "the host has too little memory for this test"
                yield
            finally:
                ballast.kill()


@pytest.fixture
def mom(squad: Squad, laboratory: Lab, tmp_path: Path) -> Iterator[MomUnderPressure]:
    squad.as_started()
    available = available_mib()
    if available < BALLAST_MIB + 2 * LEAST_LEFT_MIB:
        not_here(f"only {available} MiB are available, of which this test takes {BALLAST_MIB}")
    target = available - BALLAST_MIB // 2
    run = MomUnderPressure(tmp_path)
    # Pressure begins and ends halfway between the memory with and without ballast, on any host.
    room = (available - BALLAST_MIB / 4) / target
    plugins = {
        "libvirt": laboratory.libvirtd.settings(stats_period="1s"),
        "balloon": {"host_free": f"{target}MiB", "law": {"return_above": room, "start_rest": "1s"}},
        "ksm": {"law": {"start_least": f"{target}MiB", "start_least_share": 1.0}},
    }
    run.configure(plugins, {"momtest-idle*": {"guarantee": "160MiB"}}, policies={})
    yield run
    run.kill()


def test_mom_manages_a_host(mom: MomUnderPressure, squad: Squad, laboratory: Lab, own_ksm: dict[str, str]) -> None:
    rss_before = {guest.name: _rss_mib(guest) for guest in squad.spare}
    mom.start()
    wait_until(lambda: period(squad.without_statistics) == 1, "statistics are switched on where they were off")
    time.sleep(3)
    assert [guest.size_mib for guest in squad.all] == [GUEST_MIB] * 4, "without pressure nothing is taken"
    assert knobs() == own_ksm, mom.log

    with mom.pressure():
        # A sweep may end before QEMU reports a new size, so the test cannot always see it.
        for guest in squad.spare:
            wait_until(_holds_at_most(guest, rss_before[guest.name] - 120), f"the host has memory of {guest.name} back")
        wait_until(lambda: knobs()["run"] == "1", "KSM is on")
        # mom may sweep it once, because QEMU's own memory is unknown before. Then it is smaller for a second.
        looks = [_look(squad.busy) for _ in range(8)]
        assert looks.count(GUEST_MIB) >= 6, f"it has nothing to spare, and was seen with {looks}"
        wait_until(lambda: pages_sharing() > 10_000, "it merges what the guests have in common", 300)
        for guest in squad.idle:
            assert guest.size_mib >= 160, "the guarantee"
        _check_what_mom_says(mom, squad)
    for guest in squad.all:
        wait_until(_has_all(guest), f"{guest.name} has its memory back", 60)

    laboratory.libvirtd.kill()
    wait_until(
        lambda: any("cannot be reached" in problem["message"] for problem in mom.status()["problems"]), "mom says that libvirt is away"
    )
    assert mom.status()["guests"]["rows"] == []
    laboratory.libvirtd.start()
    wait_until(lambda: len(mom.status()["guests"]["rows"]) == 4 and not mom.status()["problems"], "all is well again", 60)

    with mom.pressure():
        # mom has already taken their unused memory.
        mom.stop()
        _check_that_all_is_as_before(squad, own_ksm)
    assert mom.verb("restore").stdout == "Nothing to restore.\n"
    assert mom.verb("status").returncode == 1
    seen = {guest: len(guest.beats) for guest in squad.all}
    wait_until(lambda: all(len(guest.beats) > beats for guest, beats in seen.items()), "all guests work on", 60)
    for guest in squad.all:
        assert all(beat.kills == 0 for beat in guest.beats), f"{guest.name} ran out of memory"


def test_what_a_killed_mom_has_left_is_put_back(mom: MomUnderPressure, squad: Squad, own_ksm: dict[str, str]) -> None:
    # Below its hard watermark, the host returns no headroom. So guests stay small after sweeps.
    mom.config.write_text(re.sub(r'"host_free": "\d+MiB"', '"host_free": "1TiB", "host_hard": "1TiB"', mom.config.read_text()))
    mom.start()
    with mom.pressure():
        wait_until(lambda: _stay_small(squad), "they are smaller, and stay so", 120)
        wait_until(lambda: knobs()["run"] == "1", "KSM is on")
        # For an interrupted request, any size counts as mom's.
        wait_until(lambda: not _under_way(mom.folder / "state"), "no guest is swept, or on its way to a smaller size")
        mom.kill()
        assert _stay_small(squad, seconds=0.0)

        gone, resized = squad.idle
        gone.destroy()
        elsewhere = _not_moms(mom.folder / "state", resized)
        resized.domain.setMemoryFlags(elsewhere << 10, libvirt.VIR_DOMAIN_AFFECT_LIVE)
        wait_until(lambda: resized.size_mib == elsewhere == _told(resized), "somebody else has resized it")

        assert mom.verb("status").returncode == 1, "it does not run"
        would = mom.verb("restore", "--dry-run")
        assert gone.name in would.stdout
        assert knobs()["run"] == "1", "nothing was done yet"
        done = mom.verb("restore")
        assert done.returncode == 0, done.stdout + done.stderr
        lines = done.stdout.splitlines()
        assert any(gone.name in line and "no longer exists" in line for line in lines), done.stdout
        assert any(resized.name in line and "not restored, because another process" in line for line in lines), done.stdout
        assert resized.size_mib == elsewhere
        rest = Squad([], squad.without_statistics, squad.busy)
        _check_that_all_is_as_before(rest, own_ksm)
    assert mom.verb("restore").stdout == "Nothing to restore.\n"


def _stay_small(squad: Squad, seconds: float = 3.0) -> bool:
    """Return whether all guests with spare memory are small at the beginning and the end of this time."""
    small = all(guest.size_mib <= GUEST_MIB - 100 for guest in squad.spare)
    if small and seconds:
        time.sleep(seconds)
        return _stay_small(squad, 0.0)
    return small


def _check_what_mom_says(mom: MomUnderPressure, squad: Squad) -> None:
    wait_until(lambda: not mom.status()["problems"], "nothing is wrong")
    status = mom.status()
    assert {plugin["name"] for plugin in status["plugins"] if plugin["state"] == "ok"} == {"host", "libvirt", "balloon", "ksm", "policy"}
    assert status["to_put_back"] >= 4
    guests = mom.verb("guests")
    assert guests.returncode == 0
    assert mom.guest_rows().keys() == {guest.name for guest in squad.all}
    doctor = mom.verb("doctor")
    assert doctor.returncode == 0, doctor.stdout
    second = mom.verb("run")
    assert second.returncode != 0
    assert mom.process is not None
    assert str(mom.process.pid) in second.stderr, "a second one names the first"


def _check_that_all_is_as_before(squad: Squad, ksm_before: dict[str, str]) -> None:
    for guest in squad.all:
        wait_until(_has_all(guest), f"{guest.name} has its memory back")
    assert knobs() == ksm_before
    assert period(squad.without_statistics) == 0
    assert period(squad.busy) == 1


def _holds_at_most(guest: RealGuest, mib: float) -> Callable[[], bool]:
    return lambda: _rss_mib(guest) <= mib


def _look(guest: RealGuest) -> float:
    """Return its size in MiB after half a second."""
    time.sleep(0.5)
    return guest.size_mib


def _under_way(state: Path) -> object:
    """Return mom's unfinished requests and sweeps."""
    contents = [json.loads(path.read_text())["content"] for path in state.rglob("balloon.json")]
    return [noted for content in contents if (noted := content["requests"])]


def _not_moms(state: Path, guest: RealGuest) -> int:
    """Return a size in MiB that the killed mom's ledger does not explain."""
    entry = next(one for one in Ledger.open(state).entries.values() if one.entity.name == guest.name and one.control == "balloon_target")
    return next(mib for mib in range(250, GUEST_MIB - 20, 10) if not entry.explains(mib << 10, tolerance=32 << 10))


def _told(guest: RealGuest) -> int:
    """Return the guest's size in MiB in libvirt's bulk statistics, which follow a moving balloon once a second."""
    ((_, record),) = guest.domain.connect().domainListGetStats([guest.domain], libvirt.VIR_DOMAIN_STATS_BALLOON)
    size: int = record["balloon.current"]
    return size >> 10


def _has_all(guest: RealGuest) -> Callable[[], bool]:
    return lambda: guest.size_mib == GUEST_MIB


def _rss_mib(guest: RealGuest) -> float:
    rss: int = guest.domain.memoryStats()["rss"]
    return rss / 1024
