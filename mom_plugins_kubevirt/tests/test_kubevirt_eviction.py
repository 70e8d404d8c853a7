"""At what the kubelet evicts, by its configuration and its own arithmetic, and what follows for mom."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mom_core import Severity
from mom_devkit import host_of
from mom_plugins_kubevirt.kubelet_api import quantity_kib
from mom_plugins_kubevirt.kubelet_config import KubeletConfig, KubeletProcess, Threshold, config_of, flags_of, running
from mom_plugins_kubevirt.node_facts import KubeletMemory, conditions, memory_of, room_of

MIB, GIB = 1 << 10, 1 << 20
CONFIG = "var/lib/kubelet/config.yaml"


@pytest.mark.parametrize(
    ("text", "kib"),
    [
        ("100Mi", 100 * MIB), ("1Gi", GIB), ("1.5Gi", 1.5 * GIB), ("2048", 2), ("1k", 1000 / 1024), ("129e6", 129e6 / 1024),
        ("1E3", 1000 / 1024), ("500M", 500e6 / 1024), ("1024000m", 1), ("+1Ki", 1), (".5Ki", 0.5),
        ("", None), ("-1Gi", None), ("Gi", None), ("1 Gi", None), ("1gi", None), ("1e99", None), ("99999999999999999999Ei", None),
    ],
)  # fmt: skip
def test_sizes_are_read_as_kubernetes_writes_them(text: str, kib: float | None) -> None:
    assert quantity_kib(text) == (None if kib is None else pytest.approx(kib))


@pytest.mark.parametrize(
    ("text", "threshold"),
    [
        ("100Mi", Threshold(kib=100 * MIB)), ("5%", Threshold(share=0.05)), ("0.5%", Threshold(share=0.005)),
        ("0%", None), ("100%", None), ("0", None), ("-5%", None), ("nan%", None), ("x%", None), ("", None),
    ],
)  # fmt: skip
def test_a_threshold_is_a_size_or_a_share_and_nothing_and_all_switch_it_off(text: str, threshold: Threshold | None) -> None:
    assert Threshold.parse(text) == threshold


def configured(folder: Path, text: str, flags: str = "", drop_ins: dict[str, str] | None = None) -> KubeletConfig:
    files = {CONFIG: text, **{f"etc/kubelet.d/{name}": content for name, content in (drop_ins or {}).items()}}
    root = host_of(folder, files)
    process = KubeletProcess(root, flags_of(b"kubelet\0" + "\0".join(flags.split()).encode()))
    return config_of(root, process)


HARD = "evictionHard:\n  memory.available: {}\n"


@pytest.mark.parametrize(
    ("text", "flags", "hard", "soft"),
    [
        (HARD.format("500Mi"), "", Threshold(kib=500 * MIB), None),
        (HARD.format("10%") + "evictionSoft: {memory.available: 1Gi}\n", "", Threshold(share=0.1), Threshold(kib=GIB)),
        ("evictionHard: {nodefs.available: 10%}\n", "", None, None),
        ("evictionHard: {nodefs.available: 10%}\nmergeDefaultEvictionSettings: true\n", "", Threshold(kib=100 * MIB), None),
        (HARD.format("500Mi"), "--eviction-hard=memory.available<2Gi,nodefs.available<10%", Threshold(kib=2 * GIB), None),
        (HARD.format("500Mi"), "--eviction-hard imagefs.available<5%,nodefs.available<5%", None, None),
        ("", "--eviction-soft=memory.available<20%", Threshold(kib=100 * MIB), Threshold(share=0.2)),
        ("evictionHard: [1]\n", "", Threshold(kib=100 * MIB), None),
    ],
)
def test_thresholds_come_from_files_and_the_command_line(
    tmp_path: Path, text: str, flags: str, hard: Threshold | None, soft: Threshold | None
) -> None:
    config = configured(tmp_path, text, flags)
    assert (config.hard, config.soft) == (hard, soft)


def test_drop_ins_count_after_the_file_and_in_their_order(tmp_path: Path) -> None:
    drop_ins = {
        "20-b.conf": HARD.format("700Mi"),
        "10-a.conf": HARD.format("600Mi") + "enforceNodeAllocatable: [none]\n",
        "x.txt": HARD.format("9Gi"),
    }
    config = configured(tmp_path, HARD.format("500Mi") + "port: 10251\n", "--config-dir=/etc/kubelet.d", drop_ins)
    assert (config.hard, config.holds_pods, config.port) == (Threshold(kib=700 * MIB), False, 10251)


def test_the_kubelet_is_roots_process_outside_of_pods_and_its_files_are_seen_as_it_sees_them(tmp_path: Path) -> None:
    command = "/usr/bin/kubelet\0--config\0/etc/kubernetes/kubelet.conf\0--hostname-override=n1\0--tls-cert-file=/pki/own.crt\0"
    pod = "0::/../../kubepods-pod17470c02_2435_410d_824b_5e7f833ec65a.slice/cri-containerd-c.scope\n"
    files = {
        "proc/30/comm": "kubelet\n", "proc/30/cgroup": "0::/user.slice\n", "proc/30/cmdline": "kubelet\0--config=/none\0",
        "proc/40/comm": "kubelet\n", "proc/40/cgroup": "0::/../docker-1.scope\n", "proc/40/cmdline": "kubelet\0--config=/none\0",
        "proc/50/comm": "kubelet\n", "proc/50/cgroup": pod, "proc/50/cmdline": "kubelet\0--eviction-hard=memory.available<90%\0",
        "proc/70/comm": "kubelet\n", "proc/70/cgroup": "0::/system.slice/kubelet.service\n", "proc/70/cmdline": command,
        "proc/70/root/etc/kubernetes/kubelet.conf": HARD.format("300Mi"),
        "proc/80/comm": "bash\n",
    }  # fmt: skip
    root = host_of(tmp_path, files)
    for pid, namespace in ((1, "pid:[1]"), (30, "pid:[1]"), (40, "pid:[40]"), (50, "pid:[1]"), (70, "pid:[1]")):
        (root / f"proc/{pid}/ns").mkdir(parents=True, exist_ok=True)
        (root / f"proc/{pid}/ns/pid").symlink_to(namespace)
    os.chown(root / "proc/30", 12345, 12345)
    process = running(root)
    config = config_of(root, process)
    assert (config.hard, config.node, config.certificate) == (Threshold(kib=300 * MIB), "n1", "/pki/own.crt")
    assert config.by == "/etc/kubernetes/kubelet.conf"


def test_a_command_line_is_read_as_go_reads_it_and_counts_before_the_files(tmp_path: Path) -> None:
    assert flags_of(b"kubelet\0run\0--a\0--b=1\0--c\0" + b"2\0--d=\0x=y\0--e") == {"a": "", "b": "1", "c": "2", "d": "", "e": ""}
    files = "port: 1\nreadOnlyPort: 2\nenforceNodeAllocatable: [pods]\n"
    by_files = configured(tmp_path, files)
    assert (by_files.port, by_files.read_only_port, by_files.holds_pods) == (1, 2, True)
    flags = configured(tmp_path, files, "--port=11 --read-only-port=12 --enforce-node-allocatable=none")
    assert (flags.port, flags.read_only_port, flags.holds_pods) == (11, 12, False)


# --- arithmetic ----------------------------------------------------------------------------------------------------------------------

MEMINFO = f"MemTotal: {64 * GIB} kB\nMemFree: {2 * GIB} kB\nMemAvailable: {9 * GIB} kB\n"
CACHE = f"Active(file): {5 * GIB} kB\nInactive(file): {3 * GIB} kB\n"


def limits(hard: str = "100Mi", soft: str = "0", *, pods: bool = True) -> KubeletConfig:
    enforced = ["pods"] if pods else ["none"]
    return KubeletConfig(hard_thresholds={"memory.available": hard}, soft_thresholds={"memory.available": soft}, enforced=enforced)


def memory(folder: Path, files: dict[str, str]) -> KubeletMemory | None:
    root = host_of(folder, {"proc/meminfo": MEMINFO + CACHE, **files})
    return memory_of(root, [f"{root}/none", f"{root}/sys/fs/cgroup"])


def test_page_cache_in_use_is_not_available_to_the_kubelet(tmp_path: Path) -> None:
    found = memory(tmp_path, {})
    assert found == KubeletMemory(64 * GIB, 5 * GIB, 9 * GIB)


def test_all_pods_together_count_too_where_something_is_reserved_for_the_system(tmp_path: Path) -> None:
    pods = "sys/fs/cgroup/kubepods.slice"
    stat = {f"{pods}/memory.stat": f"anon 5\ninactive_file {1 << 30}\n"}
    found = memory(tmp_path, {**stat, f"{pods}/memory.max": f"{60 << 30}\n", f"{pods}/memory.current": f"{58 << 30}\n"})
    assert found == KubeletMemory(64 * GIB, 5 * GIB, 9 * GIB, 60 * GIB, 3 * GIB)


def test_the_line_is_where_the_kernels_figure_would_be_when_the_kubelet_evicts() -> None:
    room = room_of(KubeletMemory(64 * GIB, 5 * GIB, 9 * GIB), KubeletConfig())
    assert room is not None
    assert room.room == 5 * GIB - 100 * MIB
    assert room.evicts_below == 4 * GIB + 100 * MIB


def test_the_nearest_of_all_thresholds_counts() -> None:
    seen = KubeletMemory(64 * GIB, 5 * GIB, 9 * GIB, 60 * GIB, 3 * GIB)
    soft = room_of(seen, limits(soft="7.5%"))
    assert soft is not None
    assert soft.threshold == pytest.approx(4.8 * GIB)
    assert not soft.pods
    pods = room_of(seen, limits("1%"))
    assert pods is not None
    assert pods.threshold == pytest.approx(0.6 * GIB)
    assert pods.pods
    full = room_of(seen._replace(pods_available=0), limits("1%"))
    assert [one.why.partition(" 0 ")[0] for one in conditions(full)] == ["all pods together have"]
    alone = room_of(seen, limits("1%", pods=False))
    assert alone is not None
    assert not alone.pods
    assert room_of(seen, limits("0")) is None


@pytest.mark.parametrize(
    ("available", "severity"), [(5 * GIB, None), (150 * MIB, Severity.WARNING), (100 * MIB, Severity.ERROR), (0, Severity.ERROR)]
)
def test_it_is_said_when_pods_are_evicted_all_the_same(available: float, severity: Severity | None) -> None:
    found = list(conditions(room_of(KubeletMemory(64 * GIB, available, 4 * GIB), KubeletConfig())))
    assert [one.severity for one in found] == ([severity] if severity else [])
    assert all(one.name == "eviction" and "100 MiB" in one.why for one in found)
    assert list(conditions(room_of(KubeletMemory(64 * GIB, 0, 0), limits("0")))) == [], "it does not evict"
