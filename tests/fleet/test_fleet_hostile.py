"""A hostile server and a revoked operator cannot change hosts, although they can write everything."""

import json
import signal

from fleet_world import FleetWorld

from mom_kvm import Destination
from mom_plugins_fleet.records import AuthorizedKeys, Group, HostState, Member, Move, Orders, read
from mom_plugins_fleet.signatures import next_revision
from mom_plugins_fleet.subjects import AUTHORIZED, COORDINATORS, GROUPS, ORDERS, ROSTER, STATES


def started(fleet: FleetWorld, name: str, group: str) -> None:
    """Start a host, and bring a policy of its group in force."""
    fleet.enroll(name, group)
    fleet.set_policy("(defvar honest 1)", group=group)
    fleet.start_host(name, int(name[1:]), guests=2)
    fleet.until(lambda: fleet.host(name)["guests"] and policies(fleet, name) == {"60_fleet_a": "(defvar honest 1)"}, "it is in force")


def policies(fleet: FleetWorld, host: str = "h1") -> dict[str, str]:
    """Return the fleet's policies in force on a host, from the files for its next start."""
    file = fleet.folder / host / "state" / "fleet" / "group.json"
    if not file.exists():
        return {}
    _, _, record = json.loads(file.read_text())["content"]["signed"].partition("\n")
    return dict(read(Group, record.encode()).policies)


def refused(fleet: FleetWorld, said: str, what: str) -> None:
    fleet.until(lambda: said in fleet.host("h1")["refused"], f"the host says that it refuses what is {what}")


def test_a_hostile_server_directs_no_host_and_no_coordinator(fleet: FleetWorld) -> None:
    started(fleet, "h1", "g1")
    fleet.enroll("h2")
    before, thief = sorted(fleet.where("h1")), fleet.new_signer("thief")
    old = fleet.read(GROUPS, "g1")
    fleet.set_policy("(defvar honest 2)")
    fleet.until(lambda: policies(fleet) == {"60_fleet_a": "(defvar honest 2)"}, "another policy is in force")
    fleet.start_coordinator("c1")
    fleet.until(lambda: "coordinating" in fleet.log("c1"), "it works")
    evil = Group(policies={"60_fleet_a": "(defvar evil 1)", "classes.yaml": "classes: {evil: {may_power_off: true}}"})
    revision = next_revision(0) + 1000
    for what, data, said in (
        ("unsigned", evil.packed(), "it is not signed"),
        ("another's", thief.signed("g1", evil, revision), "which is not trusted"),
        ("an old one", old, "is older than"),
        ("another group's", fleet.signer.signed("g2", evil, revision), "its signature was not made with"),
    ):
        fleet.put(GROUPS, "g1", data)
        refused(fleet, said, what)
        assert policies(fleet) == {"60_fleet_a": "(defvar honest 2)"}
    # Entries that drain hosts, orders with destinations, and their authors.
    fleet.put(AUTHORIZED, COORDINATORS, thief.signed(COORDINATORS, AuthorizedKeys(keys=(thief.public,)), revision))
    away = Destination.parse("qemu+tls://evil/system")
    move = Move(guest=before[0], name="g", to="h2", destination=away, takes=1, number=1, order=revision)
    fleet.put(ORDERS, "h1", thief.signed("h1", Orders(epoch=1, moves=(move,)), revision))
    fleet.until(lambda: "orders for this host: it is signed with the key" in fleet.log("h1"), "it refuses the orders")
    fleet.put(ROSTER, "h1", thief.signed("h1", Member(group="g1", draining=True), revision))
    fleet.put(ROSTER, "h2", thief.signed("h2", Member(group="g1", address=away), revision))
    fleet.until(lambda: "this host's entry in the fleet cannot be used: it is signed with the key" in fleet.log("h1"), "refused")
    fleet.until(lambda: {*fleet.status()["unsigned"]} == {"h1", "h2"}, "the operator is told")
    assert "which is not trusted" in fleet.refused("drain", "h1"), "what an operator would build on that is nothing"
    assert sorted(fleet.where("h1")) == before
    assert " will move from " not in fleet.log("c1")
    fleet.kill("c1", signal.SIGTERM)  # so that the next test begins at once


def test_a_key_of_an_operator_that_was_revoked_directs_no_host_also_not_by_what_it_has_signed_before(fleet: FleetWorld) -> None:
    started(fleet, "h3", "g3")
    fleet.enroll("h4", "g3")
    other = fleet.new_signer("other")
    fleet.kill("h3")
    fleet.start_host("h3", 3, operators=[other.public])  # revokes the first operator's key
    fleet.until(
        lambda: "the policies of the group g3 are no longer in force" in fleet.log("h3"), "what it has signed is not taken up again"
    )
    fleet.until(lambda: "this host's entry in the fleet cannot be used: it is signed with the key" in fleet.log("h3"), "nor is its entry")
    fleet.set_policy("(defvar evil 1)", group="g3")
    fleet.fleet("drain", "h3")
    fleet.start_coordinator("c3")
    fleet.until(lambda: "coordinating" in fleet.log("c3"), "it works")
    fleet.put(STATES, "h4", HostState(mode="enforce", total=64 << 20, available=64 << 20).packed())
    fleet.until(lambda: " will move from h3 " in fleet.log("c3"), "that operator's coordinator orders moves")
    before = sorted(fleet.where("h3"))
    # The other operator checks and signs the records of the first again.
    text = fleet.log("h3")
    assert "(defvar evil" not in text
    assert "60_fleet_a (set by" not in text[text.index("no longer in force") :]
    fleet.kill("c3")
    fleet.put(ROSTER, "h3", other.signed("h3", Member(group="g3"), next_revision(0) + 1000))
    fleet.put(GROUPS, "g3", other.signed("g3", Group(policies={"60_fleet_a": "(defvar mine 1)"}), next_revision(0) + 1000))
    fleet.until(lambda: policies(fleet, "h3") == {"60_fleet_a": "(defvar mine 1)"}, "and that is followed")
    assert sorted(fleet.where("h3")) == before
