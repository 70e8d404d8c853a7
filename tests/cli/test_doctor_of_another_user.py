"""`mom doctor` where another user's mom keeps its files, such as user vdsm after root has run mom once: findings, each with the fix."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mom_on_files import MOM

NOBODY = 65534
ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that other users can reach, unlike pytest's own."""
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


PATH = "/usr/sbin:/usr/bin:/sbin:/bin"

SHOW = """
set -e
closed=$1; shift; user=$1; shift; kept=$(mktemp -d)
number=0
while [ "$1" != -- ]; do
    number=$((number + 1)); mkdir "$kept/$number"; mount --bind "$1" "$kept/$number"; echo "$1" >"$kept/$number.name"; shift
done
shift
mount -t tmpfs -o mode=755 tmpfs "$closed"
while [ "$number" -gt 0 ]; do
    name=$(cat "$kept/$number.name"); mkdir -p "$name"; mount --bind "$kept/$number" "$name"; number=$((number - 1))
done
chmod 755 "$kept"
exec setpriv --reuid "$user" --regid "$user" --clear-groups "$@"
"""


def seen_by(user: int) -> list[str]:
    """What runs a command as that user, who reaches this checkout and its interpreter though they may lie in a closed folder such as /root:
    in mounts of its own, that folder holds nothing else, and is open."""
    needed = [ROOT, Path(sys.prefix), Path(sys.base_prefix)]
    closed = next((path for need in needed for path in reversed(need.parents) if not path.stat().st_mode & 0o001), None)
    if user == 0 or closed is None:
        return ["setpriv", "--reuid", str(user), "--regid", str(user), "--clear-groups"]
    below = [
        str(path) for path in dict.fromkeys(needed) if path.is_relative_to(closed) and not (path != ROOT and path.is_relative_to(ROOT))
    ]
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", SHOW, "sh", str(closed), str(user), *below, "--"]


def doctor(place: Path, user: int) -> tuple[int, list[dict[str, Any]], str]:
    """Exit code, findings, and what was written to standard error."""
    command = [*seen_by(user), str(MOM), "doctor", "-c", str(place / "mom.yaml"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd="/", env={"HOME": "/", "PATH": PATH})
    return done.returncode, json.loads(done.stdout) if done.stdout else [], done.stderr


@pytest.mark.parametrize("mode", [0o755, 0o700])
def test_a_ledger_of_root_is_a_finding_with_the_fix_whatever_its_folder_lets_be_seen(place: Path, mode: int) -> None:
    (place / "state").chmod(mode)
    code, findings, _ = doctor(place, NOBODY)
    assert code == 1
    (ledger,) = (finding for finding in findings if finding["subject"] == "ledger")
    assert ledger["severity"] == "error"
    assert ledger["message"] == f"the ledger {place}/state/ledger.json cannot be read: Permission denied"
    assert "belongs to root, and this runs as nobody: run it as root" in ledger["cure"]
    assert ledger["cure"].endswith(f"if mom is to run as nobody, chown -R nobody: {place}/state")
    assert any(finding["subject"].startswith("XML-RPC") for finding in findings), "all else is looked at, too"


def test_root_learns_that_the_state_is_another_users_and_of_all_else(place: Path) -> None:
    os.chown(place / "state", NOBODY, NOBODY)
    code, findings, _ = doctor(place, 0)
    assert code == 1
    (ledger,) = (finding for finding in findings if finding["subject"] == "ledger")
    assert "belongs to the user 65534" in ledger["message"]
    assert any(finding["subject"].startswith("XML-RPC") for finding in findings)
