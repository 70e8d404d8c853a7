"""`mom doctor` lists patterns and names in `guests` that match no guest."""

import json
from pathlib import Path

from click.testing import CliRunner

from mom_daemon.doctor import doctor_command


def said_of(folder: Path, hypervisor: str, guests: str) -> list[tuple[str, str]]:
    """Return the findings for these lines of the section, with cures."""
    config = folder / "mom.yaml"
    directories = f"state_directory: {folder}/state\nrun_directory: {folder}/run\n"
    config.write_text(f"{directories}plugins:\n  {hypervisor}: {{}}\n  balloon: {{}}\n\nguests:\n{guests}")
    result = CliRunner().invoke(doctor_command, ["-c", str(config), "--json"])
    found = [one for one in json.loads(result.stdout) if (one["plugin"], one["subject"]) == ("core", "guests")]
    return [(one["message"], one["cure"]) for one in found]


def test_patterns_of_names_that_match_no_guest_are_named(tmp_path: Path) -> None:
    said = said_of(tmp_path, "sim", '  "no-1": {guarantee: 1GiB}\n  "no-*": {}\n  "flavor=m1.*": {}\n  "*": {guarantee: 10MiB}\n')
    assert said == [("these patterns of `guests` match no guest here: no-1, no-*", "correct the patterns that should match guests")]
