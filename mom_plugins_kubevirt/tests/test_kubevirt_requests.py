"""Promises to guests from the memory requests of their pods."""

from __future__ import annotations

from pathlib import Path

import pytest

from mom_devkit import host_of
from mom_plugins_kubevirt.kubelet_api import PodRequest
from mom_plugins_kubevirt.node_facts import PodPromise, promise_by_request, promise_of, protected_kib, vouched_kib
from mom_plugins_kubevirt.node_fields import ASKING

MIB, GIB = 1 << 10, 1 << 20


def test_a_request_of_as_much_as_the_guest_has_promises_all_whatever_was_added() -> None:
    assert promise_by_request(2 * GIB + 300 * MIB, 2 * GIB, 1) == 2 * GIB
    assert promise_by_request(2 * GIB, 2 * GIB, 64) == 2 * GIB, "overcommitGuestOverhead"


def asked(memory: float | None) -> PodRequest:
    return PodRequest(memory)


@pytest.mark.parametrize(
    ("pod", "protected", "percentage", "kept", "promise"),
    [
        (asked(3 * GIB), GIB, 200.0, None, PodPromise(2 * GIB, 3 * GIB, "the kubelet")),
        (None, 3 * GIB, 200.0, None, PodPromise(2 * GIB, 3 * GIB, "its control group")),
        (asked(None), 3 * GIB, None, None, PodPromise(2 * GIB, 3 * GIB, "its control group")),
        (None, None, 200.0, None, PodPromise(GIB, None, "the setting memory_overcommit_percentage")),
        (asked(None), None, 80.0, None, PodPromise(2 * GIB, None, "the setting memory_overcommit_percentage")),
        (asked(None), None, None, None, None),
        (None, None, 200.0, 3 * GIB, PodPromise(3 * GIB, None, ASKING)),
        (None, 3 * GIB, 200.0, 3 * GIB, PodPromise(2 * GIB, 3 * GIB, "its control group")),
        (asked(3 * GIB), None, 200.0, 3 * GIB, PodPromise(2 * GIB, 3 * GIB, "the kubelet")),
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
