"""What an operator signs, whatever a server shows: a server that hides, repeats or doubles records has nothing of it signed anew."""

import io
import json
from pathlib import Path

import pytest
from fleet_world import FleetWorld

from mom_plugins_fleet.accounts import USER, new_seed
from mom_plugins_fleet.records import Group
from mom_plugins_fleet.signatures import Signer, next_revision, opened
from mom_plugins_fleet.subjects import GROUPS, ROSTER
from mom_plugins_fleet.verbs.server_setup import make_server


def honest(fleet: FleetWorld) -> str:
    """The file of a policy."""
    file = fleet.folder / "honest.policy"
    file.write_text("(defvar honest 1)")
    return str(file)


def test_the_policies_of_a_group_that_is_hidden_are_not_lost(fleet: FleetWorld) -> None:
    file = fleet.folder / "a.policy"
    file.write_text("(defvar honest 1)")
    fleet.fleet("policy", "set", "g1", "60_fleet_a", str(file))
    kept = fleet.read(GROUPS, "g1")
    fleet.hide(GROUPS, "g1")
    for command in (("policy", "set", "g1", "60_fleet_b", str(file)), ("policy", "show", "g1")):
        said = fleet.refused(*command)
        assert "mom-groups g1 is missing, but existed when it was last read" in said
    assert not fleet.read(GROUPS, "g1"), "nothing is signed"
    fleet.put(GROUPS, "g1", kept)
    fleet.fleet("policy", "set", "g1", "60_fleet_b", str(file))
    assert "60_fleet_a" in fleet.fleet("policy", "show", "g1")
    fleet.hide(GROUPS, "g1")  # the servers were set up anew, say
    fleet.fleet("--anew", "policy", "set", "g1", "60_fleet_b", str(file))
    assert "60_fleet_a" not in fleet.fleet("policy", "show", "g1")


def test_a_host_that_was_removed_is_not_enrolled_anew_as_what_it_was(fleet: FleetWorld) -> None:
    fleet.enroll("h1")
    old = fleet.read(ROSTER, "h1")
    fleet.fleet("remove", "h1")
    fleet.put(ROSTER, "h1", old)
    said = fleet.refused("cordon", "h1")
    assert "it was removed" in said
    other = fleet.folder / "reader.key"
    fleet.new_key(other)
    seen = json.loads(fleet._plain(*fleet.words(other), "--operator", fleet.operator, "status", "--json"))
    assert (seen["hosts"], seen["unsigned"]) == ([], {"h1": "an operator has removed this record"}), "also one who never knew it"
    fleet.hide(ROSTER, "h1")
    (fleet.folder / "h1.key").unlink()
    fleet.enroll("h1")
    fleet.fleet("cordon", "h1")


def test_what_is_about_to_be_signed_is_shown_as_a_difference_and_in_whole_where_it_was_not_seen_before(fleet: FleetWorld) -> None:
    fleet.enroll("h2")
    assert fleet.tried("drain", "h2")[1] == "mom-roster h2: + cordoned: True + draining: True"
    other = fleet.folder / "other.key"
    also = ("--operator", fleet.new_key(other))
    assert fleet.tried(*also, "uncordon", "h2")[1] == "mom-roster h2: - cordoned: True - draining: True"
    elsewhere = fleet.folder / "elsewhere"
    elsewhere.mkdir()
    (fleet.home / "fleet-revisions.operator.json").rename(elsewhere / "kept.json")
    said = fleet.tried("enroll", "h2", "--group", "g1", "--memory", "8GiB")[1]
    assert "+ memory: 8388608 KiB (8.00 GiB)" in said
    assert "+ group: g1" in said
    assert "+ address: qemu://h2/system" in said


class Terminal(io.StringIO):
    """At which a person types."""

    def isatty(self) -> bool:
        return True


def test_a_person_is_asked_about_what_was_not_seen_before_and_a_no_signs_nothing(
    fleet: FleetWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Signer(new_seed(USER))
    fleet.put(GROUPS, "g4", other.signed("g4", Group(policies={"60_fleet_theirs": "theirs"}), next_revision(0)))
    before = fleet.read(GROUPS, "g4")
    setting = "--operator", other.public, "policy", "set", "g4", "60_fleet_mine", honest(fleet)
    for command in (setting, ("countersign", other.public)):
        monkeypatch.setattr("sys.stdin", Terminal("n\n"))
        said = fleet.refused(*command)
        assert "+ policies.60_fleet_theirs: theirs" in said
        assert "nothing was signed" in said
        assert fleet.read(GROUPS, "g4") == before
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    assert fleet.tried("countersign", other.public)[0] == 0
    assert opened(Group, "g4", fleet.read(GROUPS, "g4"), {fleet.operator})


def test_nothing_is_asked_of_servers_whose_certificate_another_authority_has_signed(fleet: FleetWorld, tmp_path: Path) -> None:
    make_server(tmp_path / "other", ["localhost"], tmp_path)
    assert "cannot be reached" in fleet.refused("--ca", str(tmp_path / "other/ca.pem"), "status")
