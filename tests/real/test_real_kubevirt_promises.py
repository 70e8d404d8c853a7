"""What pods request, as a stand-in for the kubelet says it, becomes what mom promises the guests in real pods of a stand-in node."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from launcher_pods import TestPod, TestPods
from mom_run import MomRun
from private_libvirtd import CannotStart
from real_guests import not_here
from stand_in_kubelet import NODE, Behaviour, StandInKubelet, kubelet, pod

from mom_devkit import wait_until

pytestmark = pytest.mark.real

NAMESPACE = "momtest-prod"
MIB = 1024


@pytest.fixture
def pods() -> Iterator[TestPods]:
    try:
        started = TestPods()
    except CannotStart as error:
        not_here(str(error))
    try:
        yield started
    finally:
        started.remove_all()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[StandInKubelet]:
    with kubelet(tmp_path / "node", own_certificate=False) as one:
        yield one


def requested(one: TestPod, memory: str, *, leaves: bool = False) -> dict[str, Any]:
    return pod(one.uid, memory, name=one.pod_name, namespace=one.namespace, leaves=leaves)


def running(folder: Path, pods: TestPods, node: StandInKubelet, **more: object) -> MomRun:
    account = node.folder / "var/run/secrets/kubernetes.io/serviceaccount"
    asked = {"port": node.port, "node": NODE, "ca": f"{account}/ca.crt", "token": f"{account}/token", "every": "5s", "timeout": "2s"}
    mom = MomRun(folder)
    mom.configure({"kubevirt": pods.settings(kubelet=asked, **more), "balloon": {}}, mode="observe")
    mom.start()
    return mom


def test_guests_are_promised_what_their_pods_request_however_the_kubelet_behaves(
    tmp_path: Path, pods: TestPods, node: StandInKubelet
) -> None:
    small, whole = (pods.start(NAMESPACE, name, {}) for name in ("small", "whole"))
    for one in (small, whole):
        one.wait_until_it_listens()
    node.pods = [requested(small, "800Mi"), requested(whole, "1300Mi")]
    mom = running(tmp_path, pods, node)
    try:

        def explained(one: TestPod) -> str:
            return mom.says("explain", f"{one.namespace}/{one.name}")

        # Until the kubelet has answered, it is promised its size.
        wait_until(lambda: "It is guaranteed 602 MiB" in explained(small), lambda: explained(small) + mom.log, 60)
        assert "Its pod requests 800 MiB according to the kubelet, 198 MiB of it for KubeVirt's own programs" in explained(small)
        assert "1.00 GiB are guaranteed" in explained(whole)
        assert "nodes/pods" not in mom.verb("doctor").stdout
        node.behaviour = Behaviour.HANG
        wait_until(lambda: "does not report pods' requests" in mom.verb("status").stdout, "mom says that the kubelet is silent", 30)
        assert "602 MiB are guaranteed" in explained(small), "what it has said holds"
        node.behaviour = Behaviour.WELL
        late = pods.start(NAMESPACE, "late", {})
        node.pods = [*node.pods, requested(late, "700Mi")]
        wait_until(lambda: "according to the kubelet" in explained(late), lambda: explained(late) + mom.log, 60)
    finally:
        mom.stop()
