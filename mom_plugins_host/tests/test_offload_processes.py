"""Ways to reach guests' memory, and guests whose memory cannot move."""

from pathlib import Path

import pytest
from offload_hosts import SCOPE, V1_MOUNT, V2_MOUNT, process

from mom_core import Guest, Value
from mom_devkit import host_of
from mom_kvm import Hierarchies
from mom_plugins_host.offload.guests import MemoryWay, faults_of, way_to

V2 = {
    "proc/self/mountinfo": V2_MOUNT,
    f"sys/fs/cgroup{SCOPE}/memory.reclaim": "",
    f"sys/fs/cgroup{SCOPE}/memory.stat": "anon 1\npgmajfault 7\n",
}
V1 = {
    "proc/self/mountinfo": V1_MOUNT,
    f"sys/fs/cgroup/memory{SCOPE}/memory.force_empty": "",
    f"sys/fs/cgroup/memory{SCOPE}/memory.stat": "",
}


def way(root: Path, **properties: Value) -> MemoryWay:
    hierarchies = Hierarchies(root)
    hierarchies.refresh()
    return way_to(Guest("1", "vm1", properties={"pid": 1000, **properties}), root, hierarchies)


@pytest.mark.parametrize(
    ("status", "words"),
    [("HugetlbPages:\t  2048 kB\n", "huge pages"), ("VmPin:\t 1048576 kB\n", "for a device"), ("VmLck:\t 1048576 kB\n", "locked")],
)
def test_memory_that_is_held_in_place_goes_nowhere(tmp_path: Path, status: str, words: str) -> None:
    files = process(1000, status=status)
    files["proc/1000/status"] = files["proc/1000/status"].replace("VmLck:\t0 kB\n", "") if "VmLck" in status else files["proc/1000/status"]
    found = way(host_of(tmp_path, {**V2, **files}), cgroups={"": SCOPE})
    assert found.name == ""
    assert words in found.why_not


def test_what_comes_back_is_counted_by_the_group_and_else_by_the_process(tmp_path: Path) -> None:
    root = host_of(tmp_path, {**V2, **process(1000, major_faults=3)})
    assert faults_of(way(root, cgroups={"": SCOPE}), root) == 7
    assert faults_of(way(root), root) == 3
    below = {f"sys/fs/cgroup/memory{SCOPE}/memory.stat": "pgmajfault 0\nactive_anon 0\ntotal_pgmajfault 9\n"}
    v1 = host_of(tmp_path / "v1", {**V1, **below, **process(1000, major_faults=3)})
    assert faults_of(way(v1, cgroups={"memory": SCOPE}), v1) == 9, "the guest's process is in a group below"
    assert faults_of(MemoryWay("process", pid=1000, started=1), root) is None, "another process has the number now"
