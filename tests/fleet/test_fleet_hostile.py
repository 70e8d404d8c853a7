"""What a hostile server, a revoked operator and a thief of a host's key can make of hosts: nothing. Each of them may write everything."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from fleet_world import FleetWorld, need_a_server

from mom_plugins_fleet.link import ask
from mom_plugins_fleet.records import AuthorizedKeys, Group, Member, Move, MoveState, Orders, Progress, read
from mom_plugins_fleet.signatures import next_revision, opened
from mom_plugins_fleet.subjects import AUTHORIZED, COORDINATORS, GROUPS, ORDERS, PROGRESS, ROSTER
from mom_toolkit import Destination

LOG = logging.getLogger("mom.fleet.test")
Answer = TypeVar("Answer")


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[FleetWorld]:
    """Two hosts that are heard, and a policy in force on them."""
    need_a_server()
    world = FleetWorld(tmp_path)
    try:
        for host in ("h1", "h2"):
            world.enroll(host)
        world.set_policy("(defvar honest 1)")
        for number, host in enumerate(("h1", "h2")):
            world.start_host(host, number + 1, guests=2)
        world.until(lambda: all(world.host(host)["guests"] for host in ("h1", "h2")), "both are heard")
        world.until(lambda: policies(world) == {"60_fleet_a": "(defvar honest 1)"}, "the policy is in force")
        yield world
    finally:
        world.close()


def policies(fleet: FleetWorld) -> dict[str, str]:
    """What of the fleet's is in force on h1, by what it keeps for its next start."""
    file = fleet.folder / "h1" / "state" / "fleet" / "group.json"
    if not file.exists():
        return {}
    _, _, record = json.loads(file.read_text())["content"]["signed"].partition("\n")
    return dict(read(Group, record.encode()).policies)


def refused(fleet: FleetWorld, said: str, what: str) -> None:
    fleet.until(lambda: said in fleet.host("h1")["refused"], f"the host says that it refuses what is {what}")


def a_move(fleet: FleetWorld, order: int) -> Move:
    guest = sorted(fleet.where("h1"))[0]
    away = Destination.parse("qemu://h2/system")
    return Move(guest=guest, name="g", to="h2", destination=away, takes=1, number=1, order=order)


def test_a_hostile_server_directs_no_host_and_no_coordinator(fleet: FleetWorld) -> None:
    before, thief = sorted(fleet.where("h1")), fleet.new_signer("thief.key")
    old = fleet.read(GROUPS, "g1")
    fleet.set_policy("(defvar honest 2)")
    fleet.until(lambda: policies(fleet) == {"60_fleet_a": "(defvar honest 2)"}, "another policy is in force")
    fleet.start_coordinator("c1")
    fleet.until(lambda: "coordinating" in fleet.log("c1"), "it works")
    evil = Group(policies={"60_fleet_a": "(defvar evil 1)", "classes.yaml": "classes: {evil: {may_power_off: true}}"})
    revision = next_revision(0) + 1000
    for what, data, said in (
        ("unsigned", evil.packed(), "it is not signed"),
        ("another's", thief.signed(GROUPS, "g1", evil, revision), "no trusted one"),
        ("an old one", old, "is older than"),
        ("another group's", fleet.signer.signed(GROUPS, "g2", evil, revision), "its signature is not of"),
    ):
        fleet.put(GROUPS, "g1", data)
        refused(fleet, said, what)
        assert policies(fleet) == {"60_fleet_a": "(defvar honest 2)"}
    # Entries by which hosts are drained, and orders that say where to; and who may give such.
    fleet.put(AUTHORIZED, COORDINATORS, thief.signed(AUTHORIZED, COORDINATORS, AuthorizedKeys(keys=(thief.public,)), revision))
    fleet.put(ORDERS, "h1", thief.signed(ORDERS, "h1", Orders(epoch=1, moves=(a_move(fleet, revision),)), revision))
    fleet.until(lambda: "this host's orders: it is signed with the key" in fleet.log("h1"), "it refuses the orders")
    away = Destination.parse("qemu+tls://evil/system")
    fleet.put(ROSTER, "h1", thief.signed(ROSTER, "h1", Member(group="g1", draining=True), revision))
    fleet.put(ROSTER, "h2", thief.signed(ROSTER, "h2", Member(group="g1", address=away), revision))
    fleet.until(lambda: "this host's entry in the fleet: it is signed with the key" in fleet.log("h1"), "it refuses the entry")
    fleet.until(lambda: {*fleet.status()["unsigned"]} == {"h1", "h2"}, "the operator is told")
    assert "no trusted one" in fleet.refused("drain", "h1"), "what an operator would build on that is nothing"
    assert sorted(fleet.where("h1")) == before
    assert " is to leave " not in fleet.log("c1")


def test_a_key_of_an_operator_that_was_revoked_directs_no_host_also_not_by_what_it_has_signed_before(fleet: FleetWorld) -> None:
    other = fleet.new_signer("other.key")
    fleet.kill("h1")
    fleet.start_host("h1", 1, operators=[other.public])  # the first operator's key is revoked
    fleet.until(
        lambda: "the policies of the group g1 are not in force any more" in fleet.log("h1"), "what it has signed is not taken up again"
    )
    fleet.until(lambda: "this host's entry in the fleet: it is signed with the key" in fleet.log("h1"), "nor is its entry")
    fleet.set_policy("(defvar evil 1)")
    fleet.fleet("drain", "h1")
    fleet.start_coordinator("c1")
    fleet.until(lambda: " is to leave h1 " in fleet.log("c1"), "that operator's coordinator orders moves")
    before = sorted(fleet.where("h1"))
    # The other operator takes over what the first one has left, after a look.
    text = fleet.log("h1")
    assert "(defvar evil" not in text
    assert "60_fleet_a (set by" not in text[text.index("not in force any more") :]
    fleet.kill("c1")
    for host in ("h1", "h2"):
        fleet.put(ROSTER, host, other.signed(ROSTER, host, Member(group="g1"), next_revision(0) + 1000))
    fleet.put(GROUPS, "g1", other.signed(GROUPS, "g1", Group(policies={"60_fleet_a": "(defvar mine 1)"}), next_revision(0) + 1000))
    fleet.until(lambda: policies(fleet) == {"60_fleet_a": "(defvar mine 1)"}, "and that is followed")
    assert sorted(fleet.where("h1")) == before


def test_an_operator_takes_over_what_another_has_signed(fleet: FleetWorld) -> None:
    other = fleet.new_signer("other.key")
    fleet.put(GROUPS, "g1", other.signed(GROUPS, "g1", Group(policies={"60_fleet_a": "(defvar other 1)"}), next_revision(0) + 1000))
    fleet.until(lambda: "no trusted one" in fleet.host("h1")["refused"], "one whom the hosts do not know is not followed")
    assert "mom fleet countersign KEY" in fleet.refused("policy", "remove", "g1", "60_fleet_a")
    assert "1 records are signed with your key now" in fleet.fleet("countersign", other.public)
    fleet.until(lambda: policies(fleet) == {"60_fleet_a": "(defvar other 1)"}, "now it is")


def test_a_thief_of_a_hosts_key_with_the_servers_help_repeats_no_move(fleet: FleetWorld) -> None:
    fleet.start_coordinator("c1")
    fleet.fleet("drain", "h1")
    fleet.until(lambda: not fleet.where("h1") and not fleet.host("h1")["moves"], "h1 is empty", 240)
    fleet.kill("c1")
    operator = fleet.signer
    last = opened(Orders, ORDERS, "h1", fleet.read(ORDERS, "h1"), {operator.public})
    # The guests come back, the host is drained still, and what was ordered once is said again: with the host's own word for it, too.
    fleet.start_coordinator("c2")
    fleet.fleet("uncordon", "h1")
    fleet.fleet("drain", "h2")
    fleet.until(lambda: not fleet.where("h2") and not fleet.host("h2")["moves"], "the guests are back", 240)
    fleet.kill("c2")
    fleet.fleet("uncordon", "h2")
    fleet.fleet("drain", "h1")
    back = sorted(fleet.where("h1"))
    order = last.revision - 1
    replayed = Orders(epoch=last.record.epoch, moves=(a_move(fleet, order),))
    fleet.put(ORDERS, "h1", operator.signed(ORDERS, "h1", replayed, order))
    fleet.put(PROGRESS, "h1", Progress().packed())
    fleet.until(lambda: f"its revision {order} is older than" in fleet.log("h1"), "the host says so")
    fleet.kill("h1")
    fleet.start_host("h1", 1, guests=0)  # and it knows after a restart
    fleet.until(lambda: fleet.log("h1").count(f"its revision {order} is older than") >= 2, "it still does")
    assert sorted(fleet.where("h1")) == back


def test_a_host_that_lies_of_its_moves_moves_nobody_elsewhere(fleet: FleetWorld) -> None:
    fleet.start_coordinator("c1")
    fleet.until(lambda: "coordinating" in fleet.log("c1"), "it works")
    before = sorted(fleet.where("h1"))
    thief = fleet.access(fleet.folder / "h2.key")
    guest = before[0]
    for state in MoveState:
        lie = json.dumps({"moves": [{"guest": guest, "order": 1, "state": state, "error": "\u001b[2J"}]}).encode()
        ask(thief, "h2", LOG, lambda store, lie=lie: store.put(PROGRESS, "h2", lie))  # type: ignore[misc]  # bound now
    fleet.fleet("drain", "h1")  # what a coordinator orders is done nevertheless
    fleet.until(lambda: not fleet.where("h1") and not fleet.host("h1")["moves"], "h1 is empty", 240)
    assert set(before) <= fleet.where("h2")
