"""At what the kubelet evicts, by its configuration and its own arithmetic, and what follows for mom."""

from __future__ import annotations

from pathlib import Path

import pytest

from mom_core import Severity
from mom_devkit import host_of
from mom_plugins_kubevirt.kubelet_api import quantity_kib
from mom_plugins_kubevirt.kubelet_config import KubeletConfig, Threshold, config_of
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


def configured(folder: Path, text: str) -> KubeletConfig:
    return config_of(host_of(folder, {CONFIG: text}))


HARD = "evictionHard:\n  memory.available: {}\n"


@pytest.mark.parametrize(
    ("text", "hard", "soft"),
    [
        (HARD.format("10%") + "evictionSoft: {memory.available: 1Gi}\n", Threshold(share=0.1), Threshold(kib=GIB)),
        ("evictionHard: {nodefs.available: 10%}\n", None, None),
        ("evictionHard: {nodefs.available: 10%}\nmergeDefaultEvictionSettings: true\n", Threshold(kib=100 * MIB), None),
        ("evictionHard: [1]\n", Threshold(kib=100 * MIB), None),
        ("", Threshold(kib=100 * MIB), None),
    ],
)
def test_thresholds_come_from_the_file(tmp_path: Path, text: str, hard: Threshold | None, soft: Threshold | None) -> None:
    config = configured(tmp_path, text)
    assert (config.hard, config.soft) == (hard, soft)


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
