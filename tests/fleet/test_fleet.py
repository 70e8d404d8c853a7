"""Hosts in a fleet: real servers, real processes, and faults between them."""

import signal
from pathlib import Path
from typing import Any

import pytest
from fleet_world import FleetWorld

pytestmark = pytest.mark.waits


@pytest.fixture(scope="module")
def two(fleet: FleetWorld) -> FleetWorld:
    """Return a fleet with two hosts of the group g1 and three guests each. They soon notice a hanging server."""
    fleet.shorter["link.PING_SECONDS"] = 2
    for name in ("h1", "h2"):
        started(fleet, name)
    heard(fleet, "h1", "h2")
    return fleet


def started(fleet: FleetWorld, name: str, group: str = "g1", **more: Any) -> None:
    fleet.enroll(name, group)
    fleet.start_host(name, int(name[1:]), **more)


def heard(fleet: FleetWorld, *names: str) -> None:
    fleet.until(lambda: all(fleet.host(name)["guests"] is not None for name in names), "they are heard", 240)


def newest(fleet: FleetWorld, *names: str) -> bool:
    return all(fleet.host(name)["policies"] == "newest" for name in names)


def is_empty(fleet: FleetWorld, name: str) -> bool:
    """Return whether a host has no guests, and the fleet knows it."""
    return not fleet.where(name) and not fleet.host(name)["moves"]


def _moves_ordered(log: str) -> list[str]:
    return [line.split(" will move from ")[0] for line in log.splitlines() if " will move from " in line]


def test_a_policy_reaches_all_hosts_of_its_group_and_a_wrong_one_harms_none(two: FleetWorld) -> None:
    two.set_policy("(defvar night 1)\n", name="60_fleet_night")
    two.until(lambda: newest(two, "h1", "h2"), "both have it")
    assert "60_fleet_night" in two.log("h1")
    two.set_policy("(nothing_that_hosts_have 1)\n", name="60_fleet_night")
    two.until(lambda: all(two.host(name)["refused"] for name in ("h1", "h2")), "both refuse it")
    assert "60_fleet_night" in two.host("h1")["refused"]
    two.fleet("policy", "remove", "g1", "60_fleet_night")
    two.until(lambda: newest(two, "h1", "h2"), "all is well again")


def test_a_host_goes_on_without_its_servers_and_converges_when_they_are_back(two: FleetWorld) -> None:
    two.set_policy("(defvar night 1)\n", name="60_fleet_dusk")
    two.until(lambda: newest(two, "h1") and "60_fleet_dusk" in two.log("h1"), "it has it")
    two.processes["server"].send_signal(signal.SIGSTOP)
    two.until(lambda: "continuing without them" in two.log("h1"), "the loss is noticed though nobody hangs up")
    assert "ERROR" not in two.log("h1").partition("60_fleet_dusk")[2]
    two.processes["server"].send_signal(signal.SIGCONT)
    two.until(lambda: "connected to the fleet's servers again" in two.log("h1"), "it is back")
    two.until(lambda: all(row["age_s"] < 5 for row in two.status()["hosts"]), "both are heard again")
    two.kill("server")
    two.kill("h1")  # a host that starts without servers keeps its policies
    two.start_host("h1", 1)
    two.until(lambda: two.log("h1").count("60_fleet_dusk (set by the fleet") >= 2, "the policy of the last run is in force")
    two.start_server()
    two.set_policy("(defvar night 2)\n", name="60_fleet_dusk")
    two.until(lambda: newest(two, "h1", "h2"), "both have the newest")


def test_hosts_drain_one_with_its_coordinator_stopped_and_the_next_one_killed_in_the_middle(two: FleetWorld) -> None:
    started(two, "h5", guests=5)
    heard(two, "h5")
    before, leaving = set(two.guests()), two.where("h5")
    two.start_coordinator("c1")
    two.until(lambda: "coordinating" in two.log("c1"), "c1 works")
    two.processes["c1"].send_signal(signal.SIGSTOP)
    two.start_coordinator("c2")
    two.until(lambda: "coordinating" in two.log("c2"), "c2 takes over")
    two.fleet("drain", "h5")
    two.until(lambda: " will move from " in two.log("c2"), "the first guests are to leave")
    two.processes["c1"].send_signal(signal.SIGCONT)
    two.until(lambda: "the lease is lost" in two.log("c1"), "the first one sees that it was replaced")
    assert not _moves_ordered(two.log("c1")), "and decides nothing"
    two.kill("c2")
    two.until(lambda: two.log("c1").count("coordinating") == 2, "c1 takes over")
    two.until(lambda: is_empty(two, "h5"), "h5 is empty", 240)
    assert set(two.guests()) == before
    assert all(len(hosts) == 1 for hosts in two.guests().values()), "every guest is somewhere, once"
    ordered = _moves_ordered(two.log("c1") + two.log("c2"))
    assert len(ordered) == len(set(ordered)) == len(leaving)


def test_a_groups_classes_reach_its_hosts_and_a_wrong_one_harms_none(fleet: FleetWorld, tmp_path: Path) -> None:
    started(fleet, "h3", "g3", sla={"default": "silver"})
    started(fleet, "h4", "g3")  # no plugin there knows classes
    heard(fleet, "h3", "h4")
    fleet.until(lambda: fleet.classes_on("h3") == {"platinum"}, "there is no class silver yet: guests are of the safest")
    classes = tmp_path / "classes.yaml"
    classes.write_text("classes: {silver: {guarantee: 50%}}\n")
    fleet.fleet("policy", "set", "g3", "classes.yaml", str(classes))
    fleet.until(lambda: fleet.classes_on("h3") == {"silver"}, "they are there")
    fleet.until(lambda: not fleet.host("h3")["classes_unused"] and fleet.host("h3")["policies"] == "newest", "and that is said")
    fleet.until(lambda: "no plugin reads them" in fleet.host("h4")["classes_unused"], "and where they are not")
    classes.write_text("classes: {silver: {guarantee: 500%}}\n")
    fleet.fleet("policy", "set", "g3", "classes.yaml", str(classes))
    fleet.until(lambda: "is more than 100%" in fleet.host("h3")["classes_unused"], "the host says what is wrong")
    assert fleet.classes_on("h3") == {"silver"}
    classes.write_text("classes: {silver: {guarantee: 60%}}\n")
    fleet.fleet("policy", "set", "g3", "classes.yaml", str(classes))
    fleet.until(lambda: not fleet.host("h3")["classes_unused"], "all is well again")
