"""Real guests that mom holds small, and that reboot, or get memory plugged in, meanwhile."""

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
    """Start mom, and wait until it has taken from the guest what it is to take."""
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
    mom.next_cycle()  # which notes what the guest could have until now
    guest.domain.attachDeviceFlags(DIMM, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    for _ in range(3):
        mom.next_cycle()
    usable = guest.domain.memoryStats()["usable"] >> 10
    assert usable >= 24, "its kernel has not taken what was plugged in, so that it could spare little"
    mom.kill()
    done = mom.verb("restore")
    assert done.returncode == 0, done.stdout + done.stderr
    wait_until(lambda: guest.size_mib == SOLD_MIB + PLUGGED_MIB, lambda: f"it has {guest.size_mib} MiB: {done.stdout}{done.stderr}", 60)


def test_a_guest_with_virtio_mem_is_asked_for_what_its_balloon_reaches_and_never_fails(lab: Lab, mom: MomRun) -> None:
    target = "<size unit='MiB'>512</size><node>0</node><block unit='MiB'>2</block><requested unit='MiB'>256</requested>"
    device = f"<memory model='virtio-mem'><target>{target}</target></memory>"
    memory = PLUGGABLE.replace(str(SOLD_MIB), "192")
    online = "memhp_default_state=online"
    guest = lab.start("reach", memory=memory, devices=device, arguments=online, workload=(10, 5, 0, 0)).wait_until_it_works()
    wait_until(lambda: guest.domain.memoryStats().get("available", 0) >> 10 > 300, "its kernel has what is plugged in", 120)
    wants = '(with Guests guest (guest.Control "balloon_target" 65536))\n'
    balloon = {"host_free": "256MiB", "host_hard": "128MiB", "law": {"start_rest": "1s"}}
    mom.configure({"libvirt": lab.libvirtd.settings(), "balloon": balloon, "http": {}}, policies={"50_balloon": wants})
    mom.start()
    # At most 8 MiB (balloon.dead_band) are left, as mom sends no smaller step.
    wait_until(lambda: guest.domain.info()[2] >> 10 < 266, lambda: f"it has {guest.domain.info()[2] >> 10} MiB: {mom.log}", 120)
    for _ in range(3):
        mom.next_cycle()
        assert {one["status"] for one in mom.status()["outcomes"]} <= {"unchanged"}
    assert "Its balloon cannot shrink it below 257 MiB" in mom.says("explain", guest.name)
    mom.stop()
    wait_until(lambda: guest.domain.info()[2] >> 10 == 448, "it has what it had", 60)
