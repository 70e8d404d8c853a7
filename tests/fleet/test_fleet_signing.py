"""An operator signs only confirmed records, whatever a server returns."""

import io
import shutil
from pathlib import Path

import pytest
from fleet_world import FleetWorld

from mom_plugins_fleet.buckets import GROUPS, ROSTER
from mom_plugins_fleet.records import Group
from mom_plugins_fleet.signatures import next_revision, opened
from mom_plugins_fleet.verbs.server_setup import make_server


def test_a_host_that_was_removed_is_not_enrolled_anew_as_what_it_was(fleet: FleetWorld) -> None:
    fleet.enroll("h1")
    old = fleet.read(ROSTER, "h1")
    fleet.fleet("remove", "h1")
    assert fleet.status()["hosts"] == []
    removed = fleet.read(ROSTER, "h1")
    fleet.put(ROSTER, "h1", old)
    said = fleet.refused("cordon", "h1")
    assert ", which was in force here" in said
    assert "if the servers were restored from a backup, an operator removes revisions.json" in said
    assert {*fleet.status()["unsigned"]} == {"h1"}
    fleet.put(ROSTER, "h1", removed)
    fleet.enroll("h1")
    assert fleet.tried("drain", "h1")[1] == "mom-roster h1: + cordoned: True + draining: True"


class Terminal(io.StringIO):
    """Terminal with input from a person."""

    def isatty(self) -> bool:
        return True


def test_a_person_is_asked_about_the_records_of_an_operator_who_is_revoked_and_a_no_signs_nothing(
    fleet: FleetWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = fleet.new_signer("other")
    fleet.put(GROUPS, "g4", other.signed("g4", Group(policies={"60_fleet_theirs": "theirs"}), next_revision(0)))
    before = fleet.read(GROUPS, "g4")
    assert "list an operator's key in `operators`" in fleet.refused("policy", "show", "g4")
    (fleet.home / "operators").write_text(f"{fleet.operator} {other.public}")
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    said = fleet.refused("revoke", other.public)
    assert "+ policies.60_fleet_theirs: theirs" in said
    assert "nothing was signed" in said
    assert fleet.read(GROUPS, "g4") == before
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    assert fleet.tried("revoke", other.public)[0] == 0
    assert opened(Group, "g4", fleet.read(GROUPS, "g4"), {fleet.operator})


def test_nothing_is_asked_of_servers_whose_certificate_another_authority_has_signed(fleet: FleetWorld, tmp_path: Path) -> None:
    make_server(tmp_path / "other", ["localhost"])
    home = fleet.folder / "deceived"
    shutil.copytree(fleet.home, home)
    shutil.copy(tmp_path / "other/ca.pem", home)
    assert "cannot be reached" in fleet.refused("status", home=home)
