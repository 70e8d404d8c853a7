"""Doctor says which patterns and names of the section `guests` match no guest: those that were mistyped look like all others."""

import json
from pathlib import Path

from click.testing import CliRunner

from mom_cli.doctor import doctor_command


def test_patterns_that_match_no_guest_are_named_with_their_lines(tmp_path: Path) -> None:
    config = tmp_path / "mom.yaml"
    directories = f"state_directory: {tmp_path}/state\nrun_directory: {tmp_path}/run\n"
    missing = "".join(f'  "no-{number}": {{guarantee: 1GiB}}\n' for number in range(12))
    config.write_text(f'{directories}plugins:\n  sim: {{}}\n  balloon: {{}}\nguests:\n  "*": {{guarantee: 10MiB}}\n{missing}')
    result = CliRunner().invoke(doctor_command, ["-c", str(config), "--json"])
    said = [one["message"] for one in json.loads(result.stdout) if (one["plugin"], one["subject"]) == ("core", "guests")]
    lines = [f"line {8 + number}: no-{number} matches no guest here" for number in range(10)]
    assert said == [*lines, "2 more patterns match no guest here"]


def test_a_pattern_of_a_property_that_no_guest_has_says_which_there_are(tmp_path: Path) -> None:
    config = tmp_path / "mom.yaml"
    directories = f"state_directory: {tmp_path}/state\nrun_directory: {tmp_path}/run\n"
    patterns = '  "uuid=*": {guarantee: 10MiB}\n  "flavor=m1.*": {guarantee: 1GiB}\n  "uuids=x": {}\n  "name=nobody": {}\n'
    config.write_text(f"{directories}plugins:\n  sim: {{}}\n  balloon: {{}}\nguests:\n{patterns}")
    result = CliRunner().invoke(doctor_command, ["-c", str(config), "--json"])
    said = [(one["message"], one["cure"]) for one in json.loads(result.stdout) if (one["plugin"], one["subject"]) == ("core", "guests")]
    of_platform = "properties come from a plugin of the platform, such as nova"
    assert said == [
        ("line 8: flavor=m1.* matches no guest here", f"no guest here has the property flavor (there are: name, uuid); {of_platform}"),
        ("line 9: uuids=x matches no guest here", f"no guest here has the property uuids (did you mean uuid?); {of_platform}"),
        ("line 10: name=nobody matches no guest here", "correct it, if some are meant"),
    ]
