"""Control groups of guests, as the program that moves their memory finds them from within a container."""

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

PROGRAM = """
import os, sys
from pathlib import Path
from mom_helper.guests import UNIFIED, Guests
from mom_helper.kernel import Allowance
from mom_toolkit import Hierarchies
seen = Hierarchies(Path("/"))
seen.refresh()
guests = Guests(None, {UNIFIED: seen.folder(UNIFIED, "/")}, Allowance(1, 1))
folder, _ = guests.find(int(sys.argv[1]), None).group(UNIFIED)
print(os.readlink(f"/proc/self/fd/{folder}"))
"""

CONTAINER = """
echo 0 > "$1/mom/cgroup.procs"
shift
exec unshare --mount --cgroup sh -c 'mount --make-rprivate / && mount --bind "$1" "$2" && shift 2 && exec "$@"' sh "$@"
"""


@pytest.fixture
def groups() -> Iterator[Path]:
    """A folder of groups of the test's own, which a host has below its hierarchy: of a pod, and of mom."""
    root = Path("/sys/fs/cgroup")
    root = root if (root / "cgroup.controllers").exists() else root / "unified"
    own = root / f"kube-{uuid.uuid4().hex[:8]}"
    try:
        (own / "mom").mkdir(parents=True)
        (own / "pod/guest").mkdir(parents=True)
    except OSError as error:
        pytest.skip(f"control groups cannot be made: {error}")
    yield own
    for name in ("mom", "pod/guest", "pod", "."):
        (own / name).rmdir()


@pytest.mark.processes
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="only root makes control groups and namespaces")
def test_from_within_a_container_a_guests_group_is_found_where_the_hosts_are_mounted(groups: Path, tmp_path: Path) -> None:
    """It has others in it, as a pod's container has: a mom that is root says itself whose it is."""
    with subprocess.Popen(["sleep", "60"]) as guest, subprocess.Popen(["sleep", "60"]) as other:
        for one in (guest, other):
            (groups / "pod/guest/cgroup.procs").write_text(str(one.pid))
        mounted = tmp_path / "host"
        mounted.mkdir()
        program = [sys.executable, "-I", "-c", PROGRAM, str(guest.pid)]
        command = ["sh", "-c", CONTAINER, "sh", str(groups), str(groups.parent), str(mounted), *program]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        guest.kill()
        other.kill()
    assert done.stdout.strip().endswith(f"/{groups.name}/pod/guest"), done.stderr
