"""Real guests under mom's units and a real systemd: sizes remain after a restart and a hang, and are restored if mom cannot restart."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from own_systemd import OwnSystemd
from real_guests import Lab, RealGuest

from mom_devkit import wait_until

pytestmark = pytest.mark.real

GUEST_MIB = 256
WANTED_MIB = 100
"""Size that the policy wants: so small that each guest shrinks as far as possible."""
SMALLER_MIB = GUEST_MIB - 40
SPANS = {"WatchdogSec=20s": "WatchdogSec=7s"}
WITHIN_SECONDS = 120.0
"""Time limit with the watchdog and a new Python on a busy host. tests/packaging requires 30 s."""

_CONFIG = """
interval: 1s
run_directory: /run/mom
mode: enforce
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


def all_smaller(guests: Sequence[RealGuest]) -> bool:
    return all(guest.size_mib <= SMALLER_MIB for guest in guests)


def have_settled(guests: Sequence[RealGuest]) -> bool:
    """Return whether all guests are smaller and rest. While balloons move, mom may change their targets."""
    before = [guest.size_mib for guest in guests]
    time.sleep(2)
    return all_smaller(guests) and before == [guest.size_mib for guest in guests]


def all_whole(guests: Sequence[RealGuest]) -> bool:
    return all(guest.size_mib == GUEST_MIB for guest in guests)


@pytest.fixture
def guests(lab: Lab) -> Sequence[RealGuest]:
    started = [lab.start(f"service{number}", mib=GUEST_MIB, workload=(5, 5, 0, 100)) for number in (1, 2)]
    for guest in started:
        guest.wait_until_it_works()
    return started


@pytest.fixture
def systemd(guests: Sequence[RealGuest], lab: Lab) -> Iterator[OwnSystemd]:
    """Start a systemd in a folder that user mom can read, beside a libvirtd where mom may only read: mom-libvirt-helper changes guests."""
    libvirt = lab.libvirtd
    for path in libvirt.socket.parents:
        if path.is_relative_to(libvirt.folder):
            path.chmod(path.stat().st_mode | 0o001)
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="mom-service-") as made:
        folder = Path(made)
        folder.chmod(0o755)
        (folder / "policy.d").mkdir()
        (folder / "policy.d/50_balloon.policy").write_text(_POLICY)
        (folder / "mom.yaml").write_text(_CONFIG.format(folder=folder, uri=f"{libvirt.uri}-ro", pids=libvirt.pid_folder))
        own = OwnSystemd(folder)
        own.add_moms_units(folder / "mom.yaml", f"ReadWritePaths={folder} {libvirt.folder}", libvirt_uri=libvirt.uri, spans=SPANS)
        with own.running():
            yield own


def main_pid(systemd: OwnSystemd) -> int:
    return int(systemd.show("mom", "MainPID")["MainPID"])


def another_has_taken_over(systemd: OwnSystemd, before: int) -> bool:
    return main_pid(systemd) not in {0, before} and systemd.show("mom", "StatusText")["StatusText"].startswith("cycle ")


def test_memory_stays_through_restart_and_hang_and_goes_back_after_a_kill(systemd: OwnSystemd, guests: Sequence[RealGuest]) -> None:
    log = systemd.folder / "log"
    assert systemd.systemctl("start", "mom").returncode == 0, log.read_text()
    wait_until(lambda: have_settled(guests), log.read_text, 60)

    for what in ("restart", "SIGSTOP"):
        before, began = main_pid(systemd), time.monotonic()
        if what == "restart":
            systemd.systemctl("restart", "--no-block", "mom")
        else:
            systemd.run("kill", "-STOP", str(before))
        while not another_has_taken_over(systemd, before):
            assert all_smaller(guests), log.read_text()
            assert time.monotonic() < began + WITHIN_SECONDS, log.read_text()
            time.sleep(0.2)
        until = time.monotonic() + 2
        while time.monotonic() < until:
            assert all_smaller(guests), log.read_text()
            time.sleep(0.2)

    (systemd.folder / "mom.yaml").write_text("plugins: [broken")
    systemd.run("kill", "-9", str(main_pid(systemd)))
    wait_until(lambda: all_whole(guests), "both have their memory back", WITHIN_SECONDS)
    for guest in guests:
        assert all(beat.kills == 0 for beat in guest.beats)
