"""A hostile server and a revoked operator cannot change hosts, although they can write everything."""

import json
import signal

from fleet_world import FleetWorld

from mom_kvm import Destination
from mom_plugins_fleet.buckets import AUTHORIZED, COORDINATORS, GROUPS, ORDERS, ROSTER
from mom_plugins_fleet.records import AuthorizedKeys, Group, Member, Move, Orders, read
from mom_plugins_fleet.signatures import next_revision


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
