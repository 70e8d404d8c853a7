"""Doctor says which patterns and names of the section `guests` match no guest: those that were mistyped look like all others."""

import json
from pathlib import Path

from click.testing import CliRunner

from mom_daemon.doctor.verb import doctor_command


def said_of(folder: Path, hypervisor: str, guests: str) -> list[tuple[str, str]]:
    """What doctor says of these lines of the section, of which the first is line 8 of the file, with what to do."""
    config = folder / "mom.yaml"
    directories = f"state_directory: {folder}/state\nrun_directory: {folder}/run\n"
    config.write_text(f"{directories}plugins:\n  {hypervisor}: {{}}\n  balloon: {{}}\n\nguests:\n{guests}")
    result = CliRunner().invoke(doctor_command, ["-c", str(config), "--json"])
    found = [one for one in json.loads(result.stdout) if (one["plugin"], one["subject"]) == ("core", "guests")]
    return [(one["message"], one["cure"]) for one in found]


def test_patterns_that_match_no_guest_are_named_with_their_lines(tmp_path: Path) -> None:
    missing = "".join(f'  "no-{number}": {{guarantee: 1GiB}}\n' for number in range(12))
    said = said_of(tmp_path, "sim", f'{missing}  "*": {{guarantee: 10MiB}}\n')
    lines = [f"line {8 + number}: no-{number} matches no guest here" for number in range(10)]
    assert [message for message, _ in said] == [*lines, "2 more patterns match no guest here"]


def test_a_pattern_of_a_property_that_no_guest_has_says_which_there_are(tmp_path: Path) -> None:
    patterns = '  "flavor=m1.*": {guarantee: 1GiB}\n  "uuids=x": {}\n  "name=nobody": {}\n  "uuid=*": {guarantee: 10MiB}\n'
    known = "known properties: mem_guarantee, name, uuid"
    of_platform = "properties come from a plugin of the platform, such as nova"
    assert said_of(tmp_path, "sim", patterns) == [
        ("line 8: flavor=m1.* matches no guest here", f"no guest here has the property flavor ({known}); {of_platform}"),
        ("line 9: uuids=x matches no guest here", f"no guest here has the property uuids (did you mean uuid?); {of_platform}"),
        ("line 10: name=nobody matches no guest here", "correct the pattern if it should match guests"),
    ]


SLOW = """
looks = 0
uri = "slow:///"

def guests(self):
    self.looks += 1
    told = [{"flavor": "m1"} if number < 100 * self.looks else {} for number in range(250)]
    return [Guest(f"u{number}", f"g{number}", properties={"uuid": f"u{number}", **more}) for number, more in enumerate(told)]

@hookimpl
def mom_hypervisor(self):
    return self
"""
"""A hypervisor of many guests, of which it reads a hundred descriptions in each look."""


def test_patterns_of_properties_are_judged_when_all_descriptions_are_read(shelf, tmp_path):
    shelf.add_plugin("slow", SLOW, before="from mom_core import Guest")
    said = said_of(tmp_path, "slow", '  "flavor=m1": {}\n  "name=g249": {}\n  "flavor=m2": {}\n')
    assert said == [("line 10: flavor=m2 matches no guest here", "correct the pattern if it should match guests")]
