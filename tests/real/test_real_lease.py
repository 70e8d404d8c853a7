"""Real guests get their memory back when mom is killed, stands still or does not return, and keep their size through a restart."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from mom_run import MomRun
from real_guests import Lab, RealGuest, eventually

pytestmark = pytest.mark.real

GUEST_MIB = 256
WANTED_MIB = 100
"""What the policy asks for: less than a guest can spare, so that each goes as far down as it may."""
SMALLER_MIB = GUEST_MIB - 40
LEASE_SECONDS = 20
"""Longer than an end and a start of mom take on a busy machine."""

# The longest possible cycle is 1 s and eight deadlines: what stands still is noticed after 17 s.
_CONFIG = """
interval: 1s
lease: {lease}s
state_directory: {folder}/state
run_directory: {folder}/run
plugins:
  host: {{deadline: 2s}}
  libvirt: {{uri: "{uri}", pid_directory: "{pids}", stats_period: 1s, call_timeout: 900ms, deadline: 2s}}
  balloon: {{deadline: 2s}}
  policy: {{directory: {folder}/policy.d, deadline: 2s}}
"""

_POLICY = f"""
(defun shrink (guest) (guest.Control "balloon_target" {WANTED_MIB << 10}))
(with Guests guest (shrink guest))
"""


def size_mib(guest: RealGuest) -> float:
    actual: int = guest.domain.memoryStats()["actual"]
    return actual / 1024


def all_smaller(guests: Sequence[RealGuest]) -> bool:
    return all(size_mib(guest) <= SMALLER_MIB for guest in guests)


def have_settled(guests: Sequence[RealGuest]) -> bool:
    """All are smaller, and none moves any more: while a balloon moves, mom corrects what it wants by what the guest says."""
    before = [size_mib(guest) for guest in guests]
    time.sleep(2)
    return all_smaller(guests) and before == [size_mib(guest) for guest in guests]


def all_whole(guests: Sequence[RealGuest]) -> bool:
    return all(size_mib(guest) == GUEST_MIB for guest in guests)


@pytest.fixture
def guests(lab: Lab) -> Sequence[RealGuest]:
    started = [lab.start(f"lease{number}", mib=GUEST_MIB, workload=(5, 5, 0, 100)) for number in (1, 2)]
    for guest in started:
        guest.wait_until_it_works()
    return started


@pytest.fixture
def mom(guests: Sequence[RealGuest], lab: Lab, tmp_path: Path) -> Iterator[MomRun]:
    (tmp_path / "policy.d").mkdir()
    (tmp_path / "policy.d/50_balloon.policy").write_text(_POLICY)
    run = MomRun(tmp_path)
    run.config.write_text(_CONFIG.format(folder=tmp_path, uri=lab.libvirtd.uri, pids=lab.libvirtd.pid_folder, lease=LEASE_SECONDS))
    yield run
    run.kill()


def test_memory_goes_back_when_mom_is_killed_or_stands_still_and_stays_through_a_restart(mom: MomRun, guests: Sequence[RealGuest]) -> None:
    mom.start()
    eventually("both are smaller", lambda: have_settled(guests), 60)

    # A restart within the lease: nobody grows in between.
    assert mom.process is not None
    mom.process.send_signal(signal.SIGUSR2)
    assert mom.process.wait(60) == 0
    (mom.folder / "run/status.json").unlink(missing_ok=True)
    mom.start()
    until = time.monotonic() + LEASE_SECONDS + 3
    while time.monotonic() < until:
        assert all_smaller(guests), mom.log
        time.sleep(0.2)
    assert "took over" in mom.log

    # It stands still: it is ended, and then everything goes back.
    mom.process.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    eventually("both have their memory back", lambda: all_whole(guests), 120)
    print(f"SIGSTOP: back after {time.monotonic() - began:.1f} s")  # noqa: T201  # for whoever measures
    assert mom.process.wait(60) == -signal.SIGKILL
    eventually("the guardian is done", lambda: mom.guardian == 0)

    # It is killed.
    mom.start()
    eventually("both are smaller again", lambda: have_settled(guests), 60)
    mom.process.kill()
    mom.process.wait()
    began = time.monotonic()
    time.sleep(LEASE_SECONDS / 2)
    assert all_smaller(guests), "another mom may come yet"
    eventually("both have their memory back again", lambda: all_whole(guests), 120)
    print(f"SIGKILL: back after {time.monotonic() - began:.1f} s")  # noqa: T201  # as above
    assert mom.verb("restore").stdout == "Nothing to put back.\n"
    for guest in guests:
        assert all(beat.kills == 0 for beat in guest.beats)
