"""`mom doctor` with files of another user, such as vdsm after root has run mom once: each finding has a cure."""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from another_user import PATH, seen_by
from mom_on_files import MOM

NOBODY = 65534

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def place() -> Iterator[Path]:
    """Return a folder that other users can read."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as made:
        folder = Path(made)
        folder.chmod(0o755)
        for name in ("state", "run"):
            (folder / name).mkdir()
        (folder / "state/ledger.json").write_text("{}")
        (folder / "state/ledger.json").chmod(0o600)
        (folder / "mom.yaml").write_text(
            f"state_directory: {folder}/state\nrun_directory: {folder}/run\nplugins:\n  policy: {{}}\n  xmlrpc: {{listen: {folder}/s}}\n"
        )
        yield folder


def as_nobody(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [*seen_by(NOBODY), str(MOM), *words, "-c", str(place / "mom.yaml")]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd="/", env={"HOME": "/", "PATH": PATH})


@pytest.mark.parametrize("mode", [0o755, 0o700])
def test_a_ledger_of_root_is_a_finding_with_the_fix_whatever_its_folder_lets_be_seen(place: Path, mode: int) -> None:
    (place / "state").chmod(mode)
    done = as_nobody(place, "doctor", "--json")
    assert done.returncode == 1
    findings = json.loads(done.stdout)
    (ledger,) = (finding for finding in findings if finding["subject"] == "ledger")
    assert ledger["severity"] == "error"
    assert ledger["message"] == f"the ledger {place}/state/ledger.json cannot be read: Permission denied"
    assert "run this command as mom's user, not as nobody" in ledger["cure"]
    assert ledger["cure"].endswith(f"if mom should run as nobody, chown -R nobody: {place}/state")
    assert any(finding["subject"].startswith("XML-RPC") for finding in findings), "all else is looked at, too"


def test_who_may_not_read_a_recording_is_told_who_may(place: Path) -> None:
    (place / "state/recording").mkdir(mode=0o700)
    with (place / "mom.yaml").open("a") as file:
        file.write("  record: {}\n")
    (found,) = (one for one in json.loads(as_nobody(place, "doctor", "--json").stdout) if one["subject"] == "recording")
    assert found["message"] == f"{place}/state/recording: Permission denied"
    assert "as the user that mom runs as" in found["cure"]
    done = as_nobody(place, "report")
    said = f"mom: cannot read {place}/state/recording: Permission denied (run as root, or as the user that recorded it)\n"
    assert (done.returncode, done.stderr) == (1, said)
