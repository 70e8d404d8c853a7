"""Which processes are guests, and how the helper and the reclaim worker find their control groups, also in a container."""

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from helper_process import GUEST, STRANGER, Group, unified_mount

from mom_devkit import wait_until
from mom_helper.declarations import GuestUsers
from mom_helper.guests import UNIFIED, Guests
from mom_helper.kernel import Allowance

PROGRAM = """
import os, sys
from pathlib import Path
from mom_helper.guests import UNIFIED, Guests
from mom_helper.kernel import Allowance
from mom_kvm import Hierarchies
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
    """Yield a folder with control groups of a pod and of mom."""
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
    """The group contains other groups, like that of a pod's container. A mom as root names the guest's process."""
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


@pytest.fixture
def group() -> Iterator[Group]:
    with closing(Group(f"mom-test.slice/guests-{os.getpid()}.scope")) as one:
        yield one


def known_guests() -> Guests:
    rules = [GuestUsers(frozenset({GUEST}), ("/mom-test.slice/",))]
    return Guests(rules, {UNIFIED: str(unified_mount())}, Allowance(1, 1))


@pytest.mark.processes
def test_a_guest_that_has_left_the_guests_groups_is_none_any_more(group: Group) -> None:
    pid, started = group.process(GUEST)
    guests = known_guests()
    guest = guests.find(pid, started)
    with closing(Group(f"mom-test-other.slice/guests-{os.getpid()}.scope")) as elsewhere:
        (elsewhere.folder / "cgroup.procs").write_text(str(pid))
        elsewhere.started.append(group.started.pop())
        with pytest.raises(ProcessLookupError, match="another control group now"):
            guest.group(UNIFIED)
        with pytest.raises(PermissionError, match="the process is not a guest"):
            guests.find(pid, started)


@pytest.mark.processes
def test_a_guest_that_has_ended_is_none_before_its_parent_has_seen_that(group: Group) -> None:
    pid, started = group.process(GUEST)
    guests = known_guests()
    guest = guests.find(pid, started)
    assert guest.group(UNIFIED)[1].endswith(group.path)
    os.kill(pid, 9)
    wait_until(lambda: not guest.is_unchanged(), "it has ended", 20)
    with pytest.raises(ProcessLookupError):
        guests.find(pid, started)


@pytest.mark.processes
def test_a_process_with_rights_of_another_user_besides_is_no_guest(group: Group) -> None:
    program = f"import os, time; os.setresuid({GUEST}, {STRANGER}, {STRANGER}); print(flush=True); time.sleep(1000)"
    one = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    group.started.append(one)
    (group.folder / "cgroup.procs").write_text(str(one.pid))
    assert one.stdout is not None
    with one.stdout as said:
        said.readline()
    with pytest.raises(PermissionError, match="the process is not a guest"):
        known_guests().find(one.pid, None)


@pytest.mark.processes
def test_a_guests_group_of_another_hierarchy_is_to_be_below_those_of_guests_too(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    """For example, the management system may use only one hierarchy."""
    pid, started = group.process(GUEST)
    monkeypatch.setattr("mom_helper.guests._paths", lambda _: {"memory": group.path, UNIFIED: "/system.slice"})
    with pytest.raises(PermissionError, match="no control group below those declared for guests"):
        known_guests().find(pid, started).group(UNIFIED)
