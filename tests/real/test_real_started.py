"""Real guests that start below their maximum: mom lets them grow, and never shrinks them below their size at the start."""

import json
from typing import Any

import pytest
from mom_run import MomRun
from real_guests import Lab, RealGuest

from mom_devkit import wait_until

pytestmark = pytest.mark.real

START_MIB = 224
SOLD_MIB = 448
MIB = 1024

GREEDY = '(with Guests guest (guest.Control "balloon_target" 32768))\n'
"""Policy that sets every guest to 32 MiB."""

ENOUGH = {"host_free": "256MiB", "host_hard": "128MiB"}
"""Watermarks so low that the host always has memory for guests."""


def sizes(memory: str) -> str:
    """Return memory XML of a domain that starts with `START_MIB`."""
    return f"{memory}<currentMemory unit='MiB'>{START_MIB}</currentMemory>"


def row(mom: MomRun, guest: RealGuest) -> dict[str, Any]:
    """Return mom's fields of the guest; empty before the first cycle."""
    return mom.guest_rows().get(guest.name, {})


def run(mom: MomRun, lab: Lab, policies: dict[str, str]) -> None:
    """Start mom with these policies besides the default ones."""
    for old in mom.folder.glob("policy.d/*"):
        old.unlink()
    mom.configure(
        {"libvirt": lab.libvirtd.settings(), "balloon": ENOUGH, "http": {}}, {"momtest-*": {"guarantee": "start"}}, policies=policies
    )
    mom.start()


def test_a_guest_grows_beyond_its_start_and_keeps_it_whoever_of_several_moms_resized_it_last(lab: Lab, mom: MomRun) -> None:
    guest = lab.start("small", memory=sizes(f"<memory unit='MiB'>{SOLD_MIB}</memory>")).wait_until_up()
    wait_until(lambda: guest.size_mib == START_MIB, "its balloon has what it was not started with", 60)

    run(mom, lab, {})
    wait_until(lambda: guest.size_mib > START_MIB + 64, "it was given more than it was started with", 60)
    wait_until(lambda: row(mom, guest).get("guest_guarantee") == START_MIB * MIB, "its start is its guarantee", 60)
    mom.kill()

    run(mom, lab, {"50_balloon": GREEDY})  # this mom has not seen the guest's start
    wait_until(lambda: guest.size_mib <= START_MIB + 8, "all that it was given is taken back", 60)
    seen = []
    for _ in range(4):
        mom.next_cycle()
        found = row(mom, guest)
        seen.append((guest.size_mib, found["guest_guarantee"], found["balloon_start"]))
    assert min(size for size, _, _ in seen) >= START_MIB, seen
    assert {kept for _, *both in seen for kept in both} == {START_MIB * MIB}
    assert f"It is guaranteed {START_MIB}" in mom.verb("explain", guest.name).stdout
    mom.kill()

    run(mom, lab, {})
    wait_until(lambda: guest.size_mib > START_MIB + 64, "it grows again", 60)
    wait_until(lambda: row(mom, guest).get("balloon_cur", 0) > (START_MIB + 64) * MIB, "the next cycle", 60)
    assert row(mom, guest)["guest_guarantee"] == START_MIB * MIB
    mom.stop()
    wait_until(lambda: guest.size_mib == START_MIB, "it has what it had before mom", 60)
    assert json.loads((mom.folder / "state/balloon/balloon.json").read_text())["content"]["starts"][guest.uuid][1:] == [
        START_MIB * MIB,
        SOLD_MIB * MIB,
    ]


def test_a_guest_that_boots_with_all_until_its_driver_comes_is_not_taken_for_one_that_started_with_all(lab: Lab, mom: MomRun) -> None:
    run(mom, lab, {})
    guest = lab.start("late", memory=sizes(f"<memory unit='MiB'>{SOLD_MIB}</memory>"))
    # The promise is known a cycle after the size.
    wait_until(
        lambda: (one := row(mom, guest)).get("balloon_cur") == one.get("guest_guarantee") == SOLD_MIB * MIB,
        "mom sees it before its driver is there, twice, and takes nothing from it",
        60,
    )
    wait_until(lambda: row(mom, guest).get("balloon_start") == START_MIB * MIB, "it has come to what it was started with", 120)
    wait_until(lambda: guest.size_mib > START_MIB + 64, "it grows", 60)
    wait_until(lambda: row(mom, guest)["guest_guarantee"] == START_MIB * MIB, "its start is its guarantee", 60)
    mom.stop()


def test_a_guest_of_an_over_provisioned_cluster_of_cloudstack_ends_where_no_balloon_helps_and_mom_knows(lab: Lab, mom: MomRun) -> None:
    # Like GuestResourceDef in LibvirtVMDef.java of apache/cloudstack: maxMemory is the sold memory, the NUMA cell the memory at the start.
    sold = f"<memory unit='MiB'>{START_MIB}</memory><maxMemory slots='16' unit='KiB'>{SOLD_MIB * MIB}</maxMemory>"
    cell = f"<cpu><numa><cell id='0' cpus='0' memory='{START_MIB * MIB}' unit='KiB'/></numa></cpu>"
    guest = lab.start("cloud", memory=sizes(sold) + cell).wait_until_up()
    run(mom, lab, {})
    wait_until(lambda: row(mom, guest).get("guest_guarantee") is not None, "its guarantee is known", 60)
    found = row(mom, guest)
    assert (found["balloon_max"], found["mem_plug_limit"]) == (START_MIB * MIB, SOLD_MIB * MIB)
    assert found["guest_guarantee"] == START_MIB * MIB, "all that it has"
    mom.stop()
