"""Adding and removing hosts and operators while the servers run. Others do not notice."""

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet_world import FleetWorld

from mom_plugins_fleet.buckets import AUTHORIZED, COORDINATORS, ROSTER
from mom_plugins_fleet.records import AuthorizedKeys, Member
from mom_plugins_fleet.signatures import Signer, opened


@pytest.fixture(scope="module", autouse=True)
def bystander(fleet: FleetWorld) -> Iterator[None]:
    """Return a fleet with one host."""
    fleet.enroll("h1")
    fleet.start_host("h1", 1, guests=1)
    fleet.until(lambda: fleet.host("h1")["guests"], "it is heard")
    yield
    assert "continuing without them" not in fleet.log("h1"), "and it has noticed nothing"


def answers(fleet: FleetWorld, credentials: Path) -> str:
    """Return the error for an operator with these credentials; empty without one."""
    home = fleet.folder / "somebody"
    if not home.exists():
        shutil.copytree(fleet.home, home)
    shutil.copy(credentials, home / "connect.creds")
    with pytest.MonkeyPatch.context() as soon:  # a server does not answer refused requests
        soon.setattr("mom_plugins_fleet.link.READ_SECONDS", 1.5)
        return fleet.tried("status", home=home)[1]


def test_a_host_joins_changes_its_group_leaves_and_comes_back_without_a_start(fleet: FleetWorld) -> None:
    for group in ("g1", "g2"):
        fleet.set_policy(f"(defvar group_{group} 1)", group=group)
    fleet.enroll("h2")
    fleet.start_host("h2", 2, guests=1)
    fleet.until(lambda: fleet.host("h2")["guests"] and fleet.host("h2")["policies"] == "newest", "it is in")
    fleet.fleet("enroll", "h2", "--group", "g2")
    fleet.until(lambda: "the policies of the group g2 are in force" in fleet.log("h2"), "it follows the other group")
    fleet.set_policy("(defvar group_g2 2)", group="g2")
    fleet.until(lambda: fleet.host("h2")["group"] == "g2" and fleet.host("h2")["policies"] == "newest", "and hears of its changes")
    fleet.fleet("remove", "h2")
    fleet.until(lambda: "continuing without them" in fleet.log("h2"), "it is put out at once", 10)
    old = (fleet.folder / "h2.key").rename(fleet.folder / "old.key")
    assert "cannot be reached" in answers(fleet, old), "its key is of no use any more"
    fleet.enroll("h2")
    fleet.until(lambda: fleet.host("h2")["guests"], "with a new key it is back, and its mom has not been started again")
    fleet.until(lambda: fleet.host("h2")["group"] == "g1" and fleet.host("h2")["policies"] == "newest", "in its first group")


def test_an_operator_who_is_revoked_is_let_in_no_more_and_the_others_records_stand(fleet: FleetWorld) -> None:
    home = fleet.new_home("other")
    other = Signer((home / "sign.key").read_text().strip()).public
    for operators in (fleet.home / "operators", home / "operators"):
        operators.write_text(f"{fleet.operator}\n{other}\n")
    assert fleet.tried("cordon", "h1", home=home)[0] == 0
    assert opened(Member, "h1", fleet.read(ROSTER, "h1"), {other}).record.cordoned
    said = fleet.tried("revoke", other)[1]
    assert "mom-roster h1: + group: g1" in said, "what is signed again is shown"
    assert opened(Member, "h1", fleet.read(ROSTER, "h1"), {fleet.operator}).record.cordoned
    assert "cannot be reached" in fleet.refused("status", home=home)
    assert fleet.tried("uncordon", "h1")[0] == 0
    assert "your own key" in fleet.refused("revoke", fleet.operator)


def test_a_coordinator_is_authorized_until_it_is_revoked(fleet: FleetWorld) -> None:
    key = fleet.new_signer("coordinator").public
    fleet.fleet("authorize", key)
    assert opened(AuthorizedKeys, COORDINATORS, fleet.read(AUTHORIZED, COORDINATORS), {fleet.operator}).record.keys == (key,)
    fleet.enroll("h6")
    thief = Signer((fleet.folder / "coordinator" / "sign.key").read_text().strip())
    fleet.put(ROSTER, "h6", thief.signed("h6", Member(group="evil"), 7))
    assert "which is not trusted" in fleet.refused("cordon", "h6")
    assert "mom-roster h6: + group: evil" in fleet.tried("revoke", key)[1], "what it has overwritten is shown, and can be corrected"
    fleet.enroll("h6", "g1", "--new-key")
    assert fleet.host("h6")["group"] == "g1"
    assert opened(AuthorizedKeys, COORDINATORS, fleet.read(AUTHORIZED, COORDINATORS), {fleet.operator}).record.keys == ()
    assert "cannot be reached" in fleet.refused("status", home=fleet.folder / "coordinator")


def test_without_the_root_key_no_host_is_let_in(fleet: FleetWorld) -> None:
    home = fleet.folder / "rootless"
    shutil.copytree(fleet.home, home)
    (home / "root.key").unlink()
    for command in (["enroll", "h4", "--group", "g1"], ["enroll", "h1", "--group", "g2"], ["remove", "h1"]):
        assert "root key" in fleet.refused(*command, home=home)
    assert fleet.host("h1")["group"] == "g1"
    assert fleet.tried("enroll", "h1", "--group", "g1", home=home)[0] == 0, "what changes no account needs none"


def test_servers_that_have_lost_all_accounts_are_given_them_again(fleet: FleetWorld) -> None:
    fleet.enroll("h5")
    fleet.start_host("h5", 5, guests=1)
    fleet.until(lambda: fleet.host("h5")["guests"], "it is in")
    fleet.kill("h1", signal.SIGTERM)  # messages for other tests
    fleet.kill("server")
    shutil.rmtree(fleet.folder / "accounts")
    fleet.start_server()
    assert f"the accounts of {len(fleet.status()['hosts'])} hosts" in fleet.fleet("init")
    fleet.until(lambda: "connected to the fleet's servers again" in fleet.log("h5"), "it is let in again")
