"""Hosts in a fleet: real servers, real processes, and what goes wrong between them."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from fleet_world import FleetWorld, make_certificate

from mom_plugins_fleet.records import Group
from mom_plugins_fleet.signatures import next_revision
from mom_plugins_fleet.subjects import GROUPS


def _hosts(fleet: FleetWorld, count: int, guests: int = 3) -> list[str]:
    names = [f"h{number}" for number in range(1, count + 1)]
    for name in names:
        fleet.enroll(name)
    for number, name in enumerate(names):
        fleet.start_host(name, number + 1, guests=guests)
    fleet.until(
        lambda: all(row["guests"] is not None for row in fleet.status()["hosts"] if row["host"] in names), "all hosts are heard", 240
    )
    return names


def _every_guest_once(fleet: FleetWorld) -> bool:
    return all(len(hosts) == 1 for hosts in fleet.guests().values())


def _moves_ordered(log: str) -> list[str]:
    return [line.split(" is to leave ")[0] for line in log.splitlines() if " is to leave " in line]


def test_a_policy_reaches_all_hosts_of_its_group_and_a_wrong_one_harms_none(fleet: FleetWorld, tmp_path: Path) -> None:
    fleet.enroll("h3", "g2")
    _hosts(fleet, 2)
    fleet.set_policy("(defvar night 1)\n", name="60_fleet_night")
    fleet.until(lambda: all(fleet.host(name)["policies"] == "newest" for name in ("h1", "h2")), "both have it")
    assert "60_fleet_night" in fleet.log("h1")
    fleet.set_policy("(defvar night (nothing\n", name="60_fleet_night")
    fleet.until(lambda: all(fleet.host(name)["refused"] for name in ("h1", "h2")), "both refuse it")
    assert "60_fleet_night" in fleet.host("h1")["refused"]
    fleet.fleet("policy", "remove", "g1", "60_fleet_night")
    fleet.until(lambda: all(fleet.host(name)["policies"] == "newest" for name in ("h1", "h2")), "all is well again")
    fleet.until(lambda: "60_fleet_night" not in fleet.log("h1").splitlines()[-1], "and that is logged")


def test_a_groups_classes_reach_its_hosts_and_a_wrong_one_harms_none(fleet: FleetWorld, tmp_path: Path) -> None:
    fleet.enroll("h1")
    fleet.enroll("h2")
    fleet.start_host("h1", 1, sla={"default": "silver"})
    fleet.start_host("h2", 2)  # nobody there knows what a class is
    fleet.until(lambda: all(fleet.host(name)["guests"] is not None for name in ("h1", "h2")), "both are heard")
    fleet.until(lambda: fleet.classes_on("h1") == {"platinum"}, "there is no class silver yet: guests are of the safest")
    classes = tmp_path / "classes.yaml"
    classes.write_text("classes: {silver: {guarantee: 500%}}\n")
    assert "more than all of it" in fleet.refused("policy", "set", "g1", "classes.yaml", str(classes))
    classes.write_text("classes: {silver: {guarantee: 50%}}\n")
    fleet.fleet("policy", "set", "g1", "classes.yaml", str(classes))
    fleet.until(lambda: fleet.classes_on("h1") == {"silver"}, "they are there")
    fleet.until(lambda: not fleet.host("h1")["classes_unused"] and fleet.host("h1")["policies"] == "newest", "and that is said")
    fleet.until(lambda: "no plugin reads them" in fleet.host("h2")["classes_unused"], "and where they are not")
    # One that another mom's operator took for right; and then the host is started without servers.
    wrong = Group(policies={"classes.yaml": "classes: {silver: {guarantee: 500%}}\n"})
    fleet.put(GROUPS, "g1", fleet.signer.signed(GROUPS, "g1", wrong, next_revision(0) + 100))
    fleet.until(lambda: "more than all of it" in fleet.host("h1")["classes_unused"], "the host says what is wrong")
    assert fleet.classes_on("h1") == {"silver"}
    classes.write_text("classes: {silver: {guarantee: 60%}}\n")
    fleet.fleet("policy", "set", "g1", "classes.yaml", str(classes))
    fleet.until(lambda: not fleet.host("h1")["classes_unused"], "all is well again")
    fleet.kill("server")
    fleet.kill("h1")
    fleet.start_host("h1", 1, sla={"default": "silver"})
    fleet.until(lambda: fleet.log("h1").count("classes.yaml: silver") >= 3, "the classes of the last run are in force")
    fleet.start_server()
    fleet.fleet("policy", "remove", "g1", "classes.yaml")
    fleet.until(lambda: fleet.classes_on("h1") == {"platinum"}, "without them it is as it was")


def test_a_partition_is_noticed_though_nobody_hangs_up(fleet: FleetWorld) -> None:
    _hosts(fleet, 2)
    fleet.processes["server"].send_signal(signal.SIGSTOP)
    fleet.until(lambda: "going on alone" in fleet.log("h1"), "the loss is noticed though nobody hangs up")
    assert "ERROR" not in fleet.log("h1")
    fleet.processes["server"].send_signal(signal.SIGCONT)
    fleet.until(lambda: "connected to the fleet's servers again" in fleet.log("h1"), "it is back")
    fleet.until(lambda: all(row["age_s"] < 5 for row in fleet.status()["hosts"]), "both are heard again")


def test_a_host_goes_on_without_its_servers_and_converges_when_they_are_back(fleet: FleetWorld) -> None:
    _hosts(fleet, 2)
    fleet.set_policy("(defvar night 1)\n", name="60_fleet_night")
    fleet.until(lambda: fleet.host("h1")["policies"] == "newest" and "60_fleet_night" in fleet.log("h1"), "it has it")
    fleet.kill("server")
    fleet.until(lambda: "going on alone" in fleet.log("h1"), "the loss is noticed")
    fleet.kill("h1")  # and one that is started without servers has the policies that it had
    fleet.start_host("h1", 1)
    fleet.until(lambda: fleet.log("h1").count("60_fleet_night (set by the fleet") >= 2, "the policy of the last run is in force")
    fleet.start_server()
    fleet.set_policy("(defvar night 2)\n", name="60_fleet_night")
    fleet.until(lambda: all(fleet.host(name)["policies"] == "newest" for name in ("h1", "h2")), "both have the newest")


def test_ten_hosts_drain_one_with_its_coordinator_killed_in_the_middle(fleet: FleetWorld) -> None:
    _hosts(fleet, 10)
    before = set(fleet.guests())
    leaving = fleet.where("h1")
    fleet.start_coordinator("c1")
    fleet.until(lambda: "coordinating" in fleet.log("c1"), "c1 works")
    fleet.start_coordinator("c2")
    fleet.fleet("drain", "h1")
    fleet.until(lambda: " is to leave " in fleet.log("c1"), "the first guests are to leave")
    fleet.kill("c1")
    fleet.until(lambda: "coordinating" in fleet.log("c2"), "c2 takes over")
    fleet.until(lambda: not fleet.where("h1") and not fleet.host("h1")["moves"], "h1 is empty", 240)
    assert set(fleet.guests()) == before
    assert _every_guest_once(fleet)
    ordered = _moves_ordered(fleet.log("c1") + fleet.log("c2"))
    assert len(ordered) == len(set(ordered)) == len(leaving)


def test_a_coordinator_that_wakes_up_late_decides_nothing(fleet: FleetWorld) -> None:
    _hosts(fleet, 3)
    fleet.start_coordinator("c1")
    fleet.until(lambda: "coordinating" in fleet.log("c1"), "c1 works")
    fleet.processes["c1"].send_signal(signal.SIGSTOP)
    fleet.start_coordinator("c2")
    fleet.until(lambda: "coordinating" in fleet.log("c2"), "c2 takes over")
    fleet.fleet("drain", "h1")
    fleet.until(lambda: " is to leave " in fleet.log("c2"), "the first guests are to leave")
    fleet.processes["c1"].send_signal(signal.SIGCONT)
    fleet.until(lambda: not fleet.where("h1"), "h1 is empty")
    assert _every_guest_once(fleet)
    assert not _moves_ordered(fleet.log("c1"))


def test_a_plan_shows_what_a_drain_would_do_and_does_nothing(fleet: FleetWorld) -> None:
    _hosts(fleet, 3)
    fleet.fleet("enroll", "h2", "--group", "g1", "--memory", "16GiB")
    fleet.start_coordinator("c1")
    fleet.until(lambda: "coordinating" in fleet.log("c1"), "c1 works")
    leaving = set(fleet.where("h1"))
    plan = json.loads(fleet.fleet("plan", "--drain", "h1", "--json"))
    assert len(plan["moves"]) == len(leaving)
    assert {move["host"] for move in plan["moves"]} == {"h1"}
    assert {move["to"] for move in plan["moves"]} <= {"h2", "h3"}
    assert plan["unbounded"] == ["h3"]
    assert plan["closed"] == {"h1": "it is drained"}
    text = " ".join(fleet.fleet("plan").split())
    assert "No guest would be moved: no host is drained." in text
    assert "h3 has room for" in text
    assert set(fleet.where("h1")) == leaving
    assert not fleet.host("h1")["draining"]
    assert set(plan["balance"]) == {"g1"}
    for more, lets in (([], True), (["--off"], False)):
        fleet.fleet("balance", "h1", *more)
        assert fleet.host("h1")["balance"] is lets
    assert not _moves_ordered(fleet.log("c1"))


def test_guests_stay_where_nobody_has_room_and_it_is_said(fleet: FleetWorld) -> None:
    fleet.enroll("h9", "other")
    _hosts(fleet, 2)
    fleet.fleet("cordon", "h2")
    fleet.start_coordinator("c1")
    fleet.fleet("drain", "h1")
    fleet.until(lambda: "cannot leave h1: no other host of the group g1 can take guests now" in fleet.log("c1"), "it says why")
    assert len(fleet.where("h1")) == 3
    fleet.fleet("uncordon", "h2")
    fleet.until(lambda: not fleet.where("h1") and not fleet.host("h1")["moves"], "h1 is empty, and says so")


def test_a_key_of_a_host_and_one_of_nobody_change_nothing_and_that_is_said_plainly(fleet: FleetWorld, tmp_path: Path) -> None:
    fleet.enroll("h1")
    fleet.enroll("h2")
    policy = tmp_path / "x.policy"
    policy.write_text("(defvar x 1)")
    commands = [["policy", "set", "g1", "60_fleet_x", str(policy)], ["drain", "h2"], ["enroll", "h7", "--group", "g1"], ["remove", "h2"]]
    for command in commands:
        fleet.refused(*command, key=fleet.folder / "h1.key")
    assert {row["host"] for row in fleet.status()["hosts"]} == {"h1", "h2"}
    assert not fleet.host("h2")["draining"]
    assert json.loads(fleet.fleet("policy", "show", "g1", "--json"))["policies"] == {}
    key = tmp_path / "other.key"
    fleet._plain("fleet", "key", str(key))
    assert "cannot be reached" in fleet.refused("status", key=key)
    key.chmod(0o644)
    assert "is no secret: every user has access" in fleet.refused("status", key=key)


def test_hosts_speak_to_their_servers_through_tls_and_to_no_others(fleet: FleetWorld, tmp_path: Path) -> None:
    (tmp_path / "tls").mkdir()
    safe = FleetWorld(tmp_path / "tls", tls=True)
    try:
        _hosts(safe, 1)
        safe.until(lambda: safe.host("h1")["policies"] == "newest", "it follows its group", 120)
        # An authority that did not sign the server's certificate, and a server that speaks in the clear.
        (tmp_path / "other").mkdir()
        wrong = ("--ca", str(make_certificate(tmp_path / "other")))
        assert "cannot be reached" in safe.refused(*wrong, "status")
        assert "cannot be reached" in safe.refused("--server", fleet.url.replace("nats:", "tls:"), *wrong, "status")
    finally:
        safe.close()
