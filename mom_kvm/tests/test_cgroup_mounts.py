"""Mounts of control groups on hosts of all kinds."""

import os
from pathlib import Path

import pytest

from mom_kvm.cgroups import Hierarchies

V2 = "31 24 0:28 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
HOSTS = "40 24 0:28 /../../.. /host/cgroup ro - cgroup2 cgroup2 rw"
HYBRID = """24 1 254:0 / / rw - ext4 /dev/vda rw
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw shared:3 master:1 - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw"""


def hierarchies(tmp_path: Path, text: str) -> Hierarchies:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text(text)
    found = Hierarchies(tmp_path)
    found.refresh()
    return found


@pytest.mark.parametrize(
    ("text", "controller", "path", "folder"),
    [
        (V2, Hierarchies.UNIFIED, "/machine.slice/a.scope", "sys/fs/cgroup/machine.slice/a.scope"),
        (V2, "memory", "/machine.slice/a.scope", None),
        (V2, Hierarchies.UNIFIED, "/", "sys/fs/cgroup"),
        (HYBRID, "memory", "/machine/a", "sys/fs/cgroup/memory/machine/a"),
        (HYBRID, "cpuacct", "/machine/a", "sys/fs/cgroup/cpu,cpuacct/machine/a"),
        (HYBRID, Hierarchies.UNIFIED, "/machine/a", "sys/fs/cgroup/unified/machine/a"),
        (V2, Hierarchies.UNIFIED, "/../machine/a", None),
        (V2, Hierarchies.UNIFIED, "machine", None),
        (V2.replace("0:28 / ", "0:28 /docker/x "), Hierarchies.UNIFIED, "/docker/x/a", "sys/fs/cgroup/a"),
        (V2.replace("0:28 / ", "0:28 /docker/x "), Hierarchies.UNIFIED, "/docker/xy/a", None),
        (V2.replace("/sys/fs/cgroup", "/mnt/my\\040groups"), Hierarchies.UNIFIED, "/a", "mnt/my groups/a"),
        ("", Hierarchies.UNIFIED, "/a", None),
        # In a container that also mounts the host's hierarchy. Paths begin at the container's group, three levels below the host's root.
        (f"{V2}\n{HOSTS}", Hierarchies.UNIFIED, "/../../../machine/a", "host/cgroup/machine/a"),
        (f"{V2}\n{HOSTS}", Hierarchies.UNIFIED, "/../../pod-b/guest", "host/cgroup/kube/pod-b/guest"),
        (f"{V2}\n{HOSTS}", Hierarchies.UNIFIED, "/", "host/cgroup/kube/pods/mom"),
        (f"{V2}\n{HOSTS}", Hierarchies.UNIFIED, "/../../../..", None),
        (f"{V2}\n{HOSTS}", Hierarchies.UNIFIED, "/../a/../b", None),
    ],
)
def test_a_group_is_found_through_what_is_mounted(tmp_path: Path, text: str, controller: str, path: str, folder: str | None) -> None:
    (own := tmp_path / "host/cgroup/kube/pods/mom").mkdir(parents=True)
    (own / "cgroup.procs").write_text(f"1\n{os.getpid()}\n")
    assert hierarchies(tmp_path, text).folder(controller, path) == (None if folder is None else str(tmp_path / folder))


def test_where_the_own_group_is_not_found_only_what_is_above_all_groups_on_the_way_can_be_reached(tmp_path: Path) -> None:
    found = hierarchies(tmp_path, HOSTS)
    assert found.folder("", "/../../pod-b") is None
    assert found.folder("", "/../../../machine") == f"{tmp_path}/host/cgroup/machine"
    assert found.top("") == f"{tmp_path}/host/cgroup"


def test_the_top_is_that_of_the_mount_that_shows_the_group(tmp_path: Path) -> None:
    part = V2.replace("0:28 / ", "0:28 /docker/x ").replace("/sys/fs/cgroup", "/run/part")
    found = hierarchies(tmp_path, f"{part}\n{V2}")
    folder = found.folder(Hierarchies.UNIFIED, "/machine/a")
    assert (folder, found.top(Hierarchies.UNIFIED)) == (f"{tmp_path}/sys/fs/cgroup/machine/a", f"{tmp_path}/run/part")
    assert found.top(Hierarchies.UNIFIED, str(folder)) == f"{tmp_path}/sys/fs/cgroup"
