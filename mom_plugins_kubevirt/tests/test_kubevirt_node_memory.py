"""Memory that the node promises to guests, and at which the kubelet evicts pods."""

from __future__ import annotations

from pathlib import Path

import pytest

from mom_devkit import host_of
from mom_plugins_kubevirt.kubelet_api import KubeletConfig, PodRequest, Threshold, config_of, quantity_kib
from mom_plugins_kubevirt.node_facts import EvictionRoom, PodPromise, promise_by_request, promise_of, protected_kib, room_of, vouched_kib
from mom_plugins_kubevirt.node_fields import ASKING

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


PODS = {
    "sys/fs/cgroup/kubepods.slice/memory.stat": f"anon 5\ninactive_file {1 << 30}\n",
    "sys/fs/cgroup/kubepods.slice/memory.max": f"{60 << 30}\n",
    "sys/fs/cgroup/kubepods.slice/memory.current": f"{58 << 30}\n",
}
"""All pods together have 3 GiB available."""


def room(folder: Path, config: KubeletConfig, **files: str) -> EvictionRoom | None:
    root = host_of(folder, {"proc/meminfo": MEMINFO + CACHE, **files})
    return room_of(root, [f"{root}/none", f"{root}/sys/fs/cgroup"], config)


def test_page_cache_in_use_is_not_available_and_the_line_is_told_in_the_kernels_figure(tmp_path: Path) -> None:
    assert room(tmp_path, KubeletConfig()) == EvictionRoom(5 * GIB - 100 * MIB, 100 * MIB, 5 * GIB, False, 4 * GIB + 100 * MIB)


@pytest.mark.parametrize(
    ("config", "threshold", "pods"),
    [(limits(soft="7.5%"), 4.8 * GIB, False), (limits("1%"), 0.6 * GIB, True), (limits("1%", pods=False), 0.64 * GIB, False)],
)
def test_the_nearest_of_all_thresholds_counts(tmp_path: Path, config: KubeletConfig, threshold: float, pods: bool) -> None:
    nearest = room(tmp_path, config, **PODS)
    assert nearest is not None
    assert nearest.threshold == pytest.approx(threshold)
    assert nearest.pods is pods
    assert room(tmp_path, limits("0"), **PODS) is None


# --- promises ----------------------------------------------------------------------------------------------------


def test_a_request_of_as_much_as_the_guest_has_promises_all_whatever_was_added() -> None:
    assert promise_by_request(2 * GIB + 300 * MIB, 2 * GIB, 1) == 2 * GIB
    assert promise_by_request(2 * GIB, 2 * GIB, 64) == 2 * GIB, "overcommitGuestOverhead"


@pytest.mark.parametrize(
    ("pod", "protected", "percentage", "kept", "promise"),
    [
        (PodRequest(3 * GIB), GIB, 200.0, None, PodPromise(2 * GIB, 3 * GIB, "the kubelet")),
        (None, 3 * GIB, 200.0, None, PodPromise(2 * GIB, 3 * GIB, "its control group")),
        (PodRequest(None), 3 * GIB, None, None, PodPromise(2 * GIB, 3 * GIB, "its control group")),
        (None, None, 200.0, None, PodPromise(GIB, None, "the setting memory_overcommit_percentage")),
        (PodRequest(None), None, 80.0, None, PodPromise(2 * GIB, None, "the setting memory_overcommit_percentage")),
        (PodRequest(None), None, None, None, None),
        (None, None, 200.0, 3 * GIB, PodPromise(3 * GIB, None, ASKING)),
        (None, 3 * GIB, 200.0, 3 * GIB, PodPromise(2 * GIB, 3 * GIB, "its control group")),
        (PodRequest(3 * GIB), None, 200.0, 3 * GIB, PodPromise(2 * GIB, 3 * GIB, "the kubelet")),
    ],
)
def test_the_kubelet_is_believed_first_then_the_control_group_the_size_while_it_is_asked_and_the_operator(
    pod: PodRequest | None, protected: float | None, percentage: float | None, kept: float | None, promise: PodPromise | None
) -> None:
    assert promise_of(pod, protected, 2 * GIB, 1, percentage, kept) == promise


def test_what_the_kernel_protects_is_read_of_the_container_and_else_of_the_pod(tmp_path: Path) -> None:
    root = host_of(
        tmp_path, {"pod/memory.min": f"{3 << 30}\n", "pod/memory.low": "0\n", "pod/c/memory.min": "0\n", "pod/c/memory.low": "0\n"}
    )
    pod, container = str(root / "pod"), str(root / "pod/c")
    assert protected_kib(pod, container) == protected_kib(pod) == 3 * GIB
    (root / "pod/c/memory.low").write_text(f"{2 << 30}\n")
    assert protected_kib(pod, container) == 2 * GIB
    assert protected_kib("") is None
    (root / "pod/memory.min").write_text("0\n")
    assert protected_kib(pod) is None


@pytest.mark.parametrize(
    ("request_kib", "files", "vouched"),
    [
        (3 * GIB, {"pod/memory.max": f"{8 << 30}\n", "oom_score_adj": "900\n"}, 3 * GIB),
        (None, {"pod/memory.max": "max\n", "oom_score_adj": "900\n"}, 0.101 * 64 * GIB),
        (None, {"pod/memory.max": f"{4 << 30}\n", "oom_score_adj": "900\n"}, 4 * GIB),
        (None, {"pod/memory.max": f"{4 << 30}\n", "oom_score_adj": "-997\n"}, 4 * GIB),
        (None, {"pod/memory.max": "max\n", "oom_score_adj": "1000\n"}, 0.001 * 64 * GIB),
        (None, {}, None),
    ],
    ids=["requested", "by its score", "limited", "Guaranteed", "BestEffort", "unknown"],
)
def test_the_node_vouches_for_what_a_pod_requests_or_for_its_limit(
    tmp_path: Path, request_kib: int | None, files: dict[str, str], vouched: float | None
) -> None:
    root = host_of(tmp_path, files)
    found = vouched_kib(request_kib, f"{root}/pod", str(root), 64 * GIB)
    assert found == (None if vouched is None else pytest.approx(vouched))
