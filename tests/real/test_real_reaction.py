"""Memory pressure in real guests and on the host wakes mom between two cycles."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ballast import available_mib
from mom_run import MomRun
from real_guests import Lab, RealGuest, not_here

from mom_core import Engine, Report, Status
from mom_devkit import config_of, wait_until

pytestmark = [pytest.mark.real, pytest.mark.alone]

GUEST_MIB = 448
SHRUNK_MIB = 320
FORMER_MIB = 150
"""Memory that a guest has used and freed: backed by the host, but unused."""

BALLAST_SHARE = 0.15
"""Ratio of available memory that the ballast takes. Available memory then falls below the goal in two different readings: mom needs two
samples of a guest before it shrinks it."""
LEAST_LEFT_MIB = 1024
INTERVAL = 120.0
"""Interval in seconds, so long that only the first cycle is a scheduled one."""

_HERE = Path(__file__).parent

StartMom = Callable[[float], list[Report]]


@pytest.fixture
def start_mom(lab: Lab, tmp_path: Path) -> Iterator[StartMom]:
    """Yield a function that starts mom with a goal of available memory, and returns its growing list of reports."""
    engines: list[Engine] = []

    def start(target_mib: float) -> list[Report]:
        reports: list[Report] = []
        plugins: dict[str, dict[str, Any]] = {
            "host": {"watch_available": f"{int(target_mib)}MiB"},
            "libvirt": lab.libvirtd.settings(),
            "balloon": {"host_free": f"{int(target_mib)}MiB", "law": {"start_rest": "0s"}},
            "policy": {},
        }
        engine = Engine(config_of(tmp_path, plugins, interval=INTERVAL), on_report=reports.append)
        engines.append(engine)
        engine.start()
        wait_until(lambda: reports, "the first cycle")
        return reports

    yield start
    for engine in engines:
        engine.stop()


def shrink(guest: RealGuest) -> None:
    """Shrink a guest to `SHRUNK_MIB`, and wait until libvirt shows it. A later change would wake mom.

    Its usable memory must be known before, because mom watches only such guests after the first cycle.
    """
    wait_until(lambda: guest.domain.memoryStats().get("usable"), "it tells what it has")
    guest.domain.setMemory(SHRUNK_MIB << 10)
    wait_until(lambda: guest.domain.memoryStats()["actual"] == SHRUNK_MIB << 10, "it is smaller")
    wait_until(lambda: guest.domain.info()[2] == SHRUNK_MIB << 10, "libvirt was told")


def sizes_asked_for(report: Report) -> list[int]:
    """Return the targets in MiB."""
    return [
        int(o.decision.value) >> 10 for o in report.outcomes if o.status is Status.APPLIED and isinstance(o.decision.value, int | float)
    ]


def first(what: str, reports: list[Report], wanted: Callable[[Report], bool]) -> Report:
    """Wait up to a minute, half an interval, for such a report, and return it."""
    wait_until(lambda: any(wanted(report) for report in reports), what, 60)
    return next(report for report in reports if wanted(report))


def test_a_guest_that_runs_out_is_given_more_long_before_the_next_cycle_and_others_wake_nobody(lab: Lab, start_mom: StartMom) -> None:
    calm = lab.start("calm", mib=GUEST_MIB, workload=(20, 20, 0, 0))
    guest = lab.start("burst", mib=GUEST_MIB, arguments="momtest.burst=60,25,80,10,10").wait_until_up()
    shrink(calm.wait_until_it_works())
    shrink(guest)
    reports = start_mom(available_mib() / 1.1)  # enough memory, but none to return

    report = first("it was asked to grow", reports, lambda report: any(size > SHRUNK_MIB for size in sizes_asked_for(report)))
    assert report.woken_by.startswith(f"guest {guest.name} is short of memory: ")
    wait_until(lambda: guest.domain.memoryStats()["actual"] > SHRUNK_MIB << 10, "it has grown")
    assert "oom-kill" not in guest.printed
    assert [report.woken_by for report in reports if f"{calm.name} is short of memory" in report.woken_by] == []


def test_a_host_that_comes_short_of_memory_has_guests_give_long_before_the_next_cycle(lab: Lab, start_mom: StartMom) -> None:
    ballast_mib = int(BALLAST_SHARE * available_mib())
    if available_mib() < ballast_mib + 2 * LEAST_LEFT_MIB:
        not_here(f"only {available_mib()} MiB are available, of which this test takes {ballast_mib}")
    guest = lab.start("idle", mib=GUEST_MIB, workload=(20, 20, 0, FORMER_MIB)).wait_until_it_works()
    wait_until(lambda: guest.domain.memoryStats().get("usable"), "it tells what it could give")
    reports = start_mom(available_mib() - ballast_mib / 4)
    assert sizes_asked_for(reports[0]) == [], "there is enough"
    time.sleep(2.5)  # so that its statistics are newer than those of the first cycle
    command = [sys.executable, str(_HERE / "ballast.py"), str(ballast_mib), str(LEAST_LEFT_MIB)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as ballast:
        try:
            report = first("it was asked to give", reports, lambda report: bool(sizes_asked_for(report)))
        finally:
            ballast.kill()
    assert report.woken_by.startswith("host memory pressure: ")
    assert max(sizes_asked_for(report)) < GUEST_MIB


def test_a_mom_that_ends_and_keeps_its_changes_leaves_no_guest_in_the_middle_of_a_sweep(lab: Lab, tmp_path: Path) -> None:
    guest = lab.start("swept", mib=1024, workload=(60, 5, 0, 800)).wait_until_it_works()
    mom = MomRun(tmp_path)
    # Available memory is below the goal, but not enough to shrink guests permanently.
    law = {"start_rest": "0s", "margin": "1GiB"}
    balloon = {"host_free": f"{int(1.15 * available_mib())}MiB", "law": law}
    mom.configure({"libvirt": lab.libvirtd.settings(stats_period="1s"), "balloon": balloon}, policies={})
    for _ in range(2):
        mom.start()
        try:
            wait_until(lambda: guest.size_mib < 1024 - 32, "its balloon takes memory", 60)
            assert mom.process is not None
            mom.process.send_signal(signal.SIGUSR2)
            assert mom.process.wait(60) == 0, mom.log
        finally:
            mom.kill()
        wait_until(lambda: guest.size_mib == 1024, "it has its room again, and no mom runs", 1.0)
    assert "oom-kill" not in guest.printed
