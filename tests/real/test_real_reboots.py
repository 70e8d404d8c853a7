"""Real guests that mom has shrunk reboot, or get memory plugged in."""

import libvirt  # type: ignore[import-untyped]  # it has no types
import pytest
from mom_run import MomRun
from real_guests import Lab, RealGuest

from mom_devkit import wait_until

pytestmark = pytest.mark.real

SOLD_MIB = 448
TAKEN_TO_MIB = 256
PLUGGED_MIB = 128

HOLDS_SMALL = f'(with Guests guest (guest.Control "balloon_target" {TAKEN_TO_MIB << 10}))\n'

PLUGGABLE = (
    f"<maxMemory slots='2' unit='MiB'>1024</maxMemory><memory unit='MiB'>{SOLD_MIB}</memory>"
    f"<cpu><numa><cell id='0' cpus='0' memory='{SOLD_MIB}' unit='MiB'/></numa></cpu>"
)
DIMM = f"<memory model='dimm'><target><size unit='MiB'>{PLUGGED_MIB}</size><node>0</node></target></memory>"


def held_small(mom: MomRun, lab: Lab, guest: RealGuest) -> None:
    """Start mom, and wait until it has shrunk the guest."""
    balloon = {"host_free": "256MiB", "host_hard": "128MiB", "law": {"start_rest": "5s"}}
    mom.configure({"libvirt": lab.libvirtd.settings(), "balloon": balloon}, policies={"50_balloon": HOLDS_SMALL})
    mom.start()
    wait_until(lambda: guest.size_mib == TAKEN_TO_MIB, "it is small", 120)


def test_a_guest_that_reboots_has_all_of_its_memory_until_its_programs_have_begun(lab: Lab, mom: MomRun) -> None:
    guest = lab.start("reboots", mib=SOLD_MIB, workload=(10, 5, 0, 0)).wait_until_it_works()
    held_small(mom, lab, guest)
    guest.domain.reset()
    wait_until(lambda: guest.size_mib == SOLD_MIB, "it has all of its memory", 120)
    wait_until(lambda: guest.size_mib == TAKEN_TO_MIB, "it gives as before", 120)
    mom.stop()
    wait_until(lambda: guest.size_mib == SOLD_MIB, "it has what it had", 60)


def test_memory_that_is_plugged_in_is_not_taken_at_once_and_is_the_guests_after_a_crash_too(lab: Lab, mom: MomRun) -> None:
    guest = lab.start("plugged", memory=PLUGGABLE, workload=(10, 5, 0, 0)).wait_until_it_works()
    held_small(mom, lab, guest)
    mom.next_cycle()  # which records the guest's maximum
    guest.domain.attachDeviceFlags(DIMM, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    for _ in range(3):
        mom.next_cycle()
    usable = guest.domain.memoryStats()["usable"] >> 10
    assert usable >= 24, "its kernel has not taken what was plugged in, so that it could spare little"
    mom.kill()
    done = mom.verb("restore")
    assert done.returncode == 0, done.stdout + done.stderr
    wait_until(lambda: guest.size_mib == SOLD_MIB + PLUGGED_MIB, lambda: f"it has {guest.size_mib} MiB: {done.stdout}{done.stderr}", 60)
