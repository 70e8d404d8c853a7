"""Limits of swapping by control groups: no swap or too little, or memory merged by KSM."""

from pathlib import Path

import pytest
from offload_hosts import V2_MOUNT, ZRAM, process

from mom_core import Change, Guest, Hypervisor, PluginContext, Snapshot, Target, Value, as_number
from mom_core.testing import snapshot
from mom_devkit import FakeGuest, FakeHypervisor, HandClock, host_of
from mom_plugins_host.offload import OffloadPlugin
from mom_plugins_host.offload.fields import OffloadSettings
from mom_plugins_host.offload.requests import ReclaimWorker

GIB = 1 << 20
POD = "/kubepods.slice/kubepods-pod1.slice"
CONTAINER = f"{POD}/cri-containerd-c1.scope"
SHORT: dict[str, Value] = {"mem_available": 16 * GIB, "mem_really_available": GIB, "mem_watermark_high": 2 * GIB}
COLD: dict[str, Value] = {"rss": GIB, "host_swap": 0, "host_major_faults": 0, "mem_watermark_high": GIB}


class Host:
    """Host of files with one guest, whose process is in a pod's container, and the plugin."""

    def __init__(self, root: Path, groups: dict[str, tuple[str, int]]) -> None:
        """:param groups: `memory.swap.max` and swapped KiB of each group"""
        files = {**ZRAM, **process(1000), "proc/self/mountinfo": V2_MOUNT, "proc/1000/cgroup": f"0::{CONTAINER}\n"}
        files[f"sys/fs/cgroup{CONTAINER}/memory.reclaim"] = ""
        for path, (most, used) in groups.items():
            files |= {f"sys/fs/cgroup{path}/memory.swap.max": f"{most}\n", f"sys/fs/cgroup{path}/memory.swap.current": f"{used << 10}\n"}
        self.root, self.clock = host_of(root, files), HandClock(100.0)
        self.hypervisor: Hypervisor = FakeHypervisor([FakeGuest("vm", properties={"pid": 1000, "cgroups": {"": CONTAINER}})])
        self.plugin = OffloadPlugin(OffloadSettings(), PluginContext("offload", interval=1.0, monotonic=self.clock, root=self.root))

    def paces(self, cycles: int = 3, **fields: Value) -> list[float]:
        """Return the pace of each cycle in KiB/s, with these additional fields."""
        found = []
        for _ in range(cycles):
            self.clock.now += 1
            self.plugin.mom_collect_host(self.hypervisor)
            (listed,) = self.hypervisor.guests()
            self.fields = self.plugin.mom_collect_guests(self.hypervisor, [listed])[listed.id]
            guest = Guest(listed.id, listed.name, {**self.fields, **COLD, **fields}, incarnation=listed.incarnation)
            self.guest = guest
            seen = Snapshot(snapshot(host=SHORT).host, {guest.id: guest}, self.clock.now, self.clock.now)
            found.append(sum(as_number(one.value) or 0.0 for one in self.plugin.mom_act(seen)))
            self.problems = list(self.plugin.mom_problems())
        return found

    @property
    def why(self) -> Value:
        """Return why the next cycle moves nothing."""
        self.paces(1)
        return self.fields["offload_state"]


@pytest.mark.parametrize("group", [POD, CONTAINER, "/kubepods.slice"])
def test_nothing_goes_where_a_group_or_one_above_it_may_not_swap(tmp_path: Path, group: str) -> None:
    host = Host(tmp_path, {POD: ("max", 0), CONTAINER: (str(8 << 30), 0), group: ("0", 0)})
    assert not any(host.paces())
    assert host.why == f"its control group must not swap: memory.swap.max of {group.rpartition('/')[2]} is 0"
    (finding,) = [one for one in host.plugin.mom_doctor(host.hypervisor) if "vm" in one.message]
    assert "must not swap" in finding.message


def test_no_more_goes_than_the_tightest_group_still_may(tmp_path: Path) -> None:
    host = Host(tmp_path, {POD: (str(100 << 20), (100 << 10) - 700), CONTAINER: (str(8 << 30), 0)})
    assert host.paces() == [700.0] * 3


def test_what_a_group_may_swap_is_looked_at_again_in_each_cycle(tmp_path: Path) -> None:
    host = Host(tmp_path, {CONTAINER: (str(100 << 20), 0)})
    assert all(host.paces())
    (tmp_path / f"sys/fs/cgroup{CONTAINER}/memory.swap.current").write_text(f"{100 << 20}\n")
    assert not any(host.paces())
    assert host.why == "its control group has reached its swap limit: memory.swap.max of cri-containerd-c1.scope is 100 MiB"
    (tmp_path / f"sys/fs/cgroup{CONTAINER}/memory.swap.max").write_text("max\n")
    assert all(host.paces())


def test_where_ksm_has_merged_much_the_reclaim_goes_through_the_process_which_leaves_merged_pages_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    monkeypatch.setattr(ReclaimWorker, "send", lambda worker, requests, *limits: sent.extend(request.way for request in requests))
    host = Host(tmp_path, {})

    def way(**fields: Value) -> str:
        (pace,) = host.paces(1, **fields)
        host.plugin.mom_write(host.hypervisor, [Change(Target(host.guest.entity, "offload"), int(pace), 0)])
        return sent.pop()

    assert way() == "v2", "KSM has merged nothing on this host"
    pages = tmp_path / "sys/kernel/mm/ksm/pages_sharing"
    pages.parent.mkdir(parents=True)
    pages.write_text("50000\n")
    assert way() == "process", "unknown"
    assert way(host_ksm_merged=GIB // 10) == "process"
    assert way(host_ksm_merged=GIB // 50) == "v2"
