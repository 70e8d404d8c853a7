"""The node's knowledge of its guests, as fields, conditions, findings and sentences."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stand_in_kubelet import Behaviour, StandInKubelet, kubelet, pod

from mom_core import ControlSpec, Declarations, EngineState, LedgerEntry, PluginContext, Report, Scope, Severity, Source, Unit, Value
from mom_core.testing import snapshot
from mom_daemon import About
from mom_devkit import host_of, wait_until
from mom_plugins_kubevirt import kubelet_watch
from mom_plugins_kubevirt.explanation import PodExplainer
from mom_plugins_kubevirt.kubelet_watch import KubeletSettings
from mom_plugins_kubevirt.node_facts import LEAVES, NodeFacts, requested_whole
from mom_plugins_kubevirt.node_fields import ASKING
from mom_plugins_kubevirt.pods import LauncherPod

MIB, GIB = 1 << 10, 1 << 20
UID = "17470c02-2435-410d-824b-5e7f833ec65a"
MEMINFO = f"MemTotal: {64 * GIB} kB\nMemFree: {2 * GIB} kB\nMemAvailable: {9 * GIB} kB\n"


class Node:
    """Node with one guest of 4 GiB, whose pod may have requests."""

    def __init__(self, one: StandInKubelet) -> None:
        self.kubelet, self.root = one, one.folder
        host_of(self.root, {"proc/meminfo": MEMINFO})
        self.pod = LauncherPod(1000, 7, UID, str(self.root / "sys/fs/cgroup/pod"), "/run/libvirt/virtqemud-sock")

    def facts(self, percentage: float | None = None) -> NodeFacts:
        return NodeFacts(PluginContext("kubevirt", root=self.root), KubeletSettings(), percentage)

    def guest(self, facts: NodeFacts, **known: Value) -> dict[str, Value]:
        """Return the guest's fields."""
        fields: dict[str, dict[str, Value]] = {"g": {"balloon_max": 4 * GIB, "vcpu_count": 2, **known}, "other": {"balloon_max": GIB}}
        facts.add_to(fields, {"g": self.pod})
        assert fields["other"] == {"balloon_max": GIB}, "it is in no pod"
        return fields["g"]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with kubelet(tmp_path) as one:
        yield Node(one)


@pytest.fixture
def running(node: Node) -> Iterator[NodeFacts]:
    """Yield facts from a running kubelet."""
    node.kubelet.pods = [pod(UID, "2300Mi")]
    facts = node.facts()
    facts.kubelet.start()
    wait_until(lambda: "balloon_min" in node.guest(facts), lambda: facts.why_unknown, 60)
    yield facts
    facts.kubelet.stop()


def test_a_guest_is_promised_what_its_pod_requests_without_kubevirts_own(node: Node, running: NodeFacts) -> None:
    fields = node.guest(running)
    assert fields["pod_request"] == 2300 * MIB
    assert fields["pod_request_by"] == "the kubelet"
    assert fields["mem_vouched"] == fields["pod_request"]
    assert 2080 * MIB < int(str(fields["balloon_min"])) < 2100 * MIB
    assert "give_back" not in fields


@pytest.mark.parametrize(
    ("how", "percentage", "by"),
    [
        ("well", 200.0, "the kubelet"),
        ("forbidden", 200.0, "the setting memory_overcommit_percentage"),
        ("forbidden", None, None),
        ("unforeseen", None, None),
    ],
)
def test_until_the_kubelet_has_answered_once_after_a_start_a_guest_keeps_its_size(
    node: Node, monkeypatch: pytest.MonkeyPatch, how: str, percentage: float | None, by: str | None
) -> None:
    may_answer, ask = threading.Event(), kubelet_watch.first_answer

    def answer(*arguments: Any) -> Any:
        may_answer.wait()
        return ask(*arguments) if how != "unforeseen" else 1 // 0

    monkeypatch.setattr(kubelet_watch, "first_answer", answer)
    node.kubelet.pods = [pod(UID, "2300Mi")]
    node.kubelet.behaviour = Behaviour.FORBIDDEN if how == "forbidden" else Behaviour.WELL
    facts = node.facts(percentage)
    facts.kubelet.start()
    fields = node.guest(facts, balloon_cur=3 * GIB)
    assert (fields["balloon_min"], fields["pod_request_by"]) == (3 * GIB, ASKING)
    assert "pod_request" not in fields
    may_answer.set()
    wait_until(lambda: node.guest(facts, balloon_cur=3 * GIB).get("pod_request_by") == by, lambda: facts.why_unknown, 60)
    facts.kubelet.stop()
    assert bool(facts.why_unknown) == (how != "well")


@pytest.mark.parametrize(("requests", "by"), [(["2300Mi"], "the kubelet"), ([], "the setting memory_overcommit_percentage")])
def test_a_guest_that_comes_later_keeps_its_size_until_the_kubelet_was_asked_for_it(
    node: Node, monkeypatch: pytest.MonkeyPatch, requests: list[str], by: str
) -> None:
    may_answer, ask, asked = threading.Event(), kubelet_watch.first_answer, []

    def answer(*arguments: Any) -> Any:
        asked.append(arguments)
        if len(asked) > 1:
            may_answer.wait()
        return ask(*arguments)

    monkeypatch.setattr(kubelet_watch, "first_answer", answer)
    monkeypatch.setattr(kubelet_watch, "_SOONEST_SECONDS", 0.05)
    node.kubelet.pods = [pod("another", "1Gi")]
    facts = node.facts(percentage=200.0)
    facts.kubelet.start()
    try:
        wait_until(lambda: facts.kubelet.state.asked, "the kubelet has answered once", 60)
        node.kubelet.pods += [pod(UID, memory) for memory in requests]
        fields = node.guest(facts, balloon_cur=3 * GIB)
        assert (fields["balloon_min"], fields["pod_request_by"]) == (3 * GIB, ASKING)
        may_answer.set()
        wait_until(lambda: node.guest(facts, balloon_cur=3 * GIB).get("pod_request_by") == by, lambda: facts.why_unknown, 60)
    finally:
        may_answer.set()
        facts.kubelet.stop()


def test_a_guest_that_is_about_to_be_moved_is_told(node: Node, running: NodeFacts) -> None:
    node.kubelet.pods = [pod(UID, "2300Mi", leaves=True)]
    running.kubelet.ask()
    assert node.guest(running)["give_back"] == LEAVES


@pytest.mark.parametrize(
    ("fields", "state", "taken", "decided"),
    [
        ({"give_back": LEAVES, "balloon_cur": GIB}, "high", False, [4 * GIB]),
        ({"give_back": LEAVES, "balloon_cur": 4 * GIB}, "high", False, []),
        ({"give_back": LEAVES, "balloon_cur": GIB}, "hard", False, []),
        ({"give_back": LEAVES, "balloon_cur": GIB}, "high", True, []),
        ({"balloon_cur": GIB}, "high", False, []),
        ({"give_back": LEAVES}, "high", False, []),
        ({"give_back": LEAVES, "balloon_cur": GIB, "balloon_max": None}, "high", False, []),
    ],
    ids=["smaller", "whole", "short", "by mom here", "left alone by nobody", "unknown", "unknown most"],
)
def test_a_guest_that_came_smaller_from_another_node_gets_all_before_it_is_changed(
    node: Node, fields: dict[str, Value], state: str, taken: bool, decided: list[int]
) -> None:
    seen = snapshot(host={"host_memory_state": state}, guests={"g": {"balloon_max": 4 * GIB, **fields}})
    entity = seen.guests["g"].entity
    changes = [LedgerEntry(entity, "balloon_target", 4 * GIB, GIB, "balloon", 0.0)] if taken else []
    size = ControlSpec("balloon_target", Unit.KIB, Scope.GUEST, "its size", field="balloon_cur")
    context = PluginContext("kubevirt", root=node.root, engine_state=lambda: EngineState(changes=changes))
    without = NodeFacts(context, KubeletSettings(), None)
    assert not list(without.decisions(seen, Source("kubevirt"))), "no plugin resizes guests"
    context.declarations = Declarations(controls={"balloon_target": size})
    assert [one.value for one in NodeFacts(context, KubeletSettings(), None).decisions(seen, Source("kubevirt"))] == decided


def test_the_line_below_which_the_kubelet_evicts_is_told_in_the_kernels_figure(node: Node) -> None:
    node.kubelet.behaviour = Behaviour.FORBIDDEN
    node.kubelet.configure("evictionHard: {memory.available: 1Gi}\n")
    facts = node.facts()
    list(facts.findings([]))
    assert facts.host_fields() == {"mem_evicts_below": 8 * GIB, "eviction_room": GIB, "eviction_threshold": GIB}
    assert list(facts.conditions()) == []
    host_of(node.root, {"proc/meminfo": MEMINFO.replace(str(2 * GIB), str(GIB + 32 * MIB))})
    assert facts.host_fields()["eviction_room"] == 32 * MIB
    assert [condition.severity for condition in facts.conditions()] == [Severity.WARNING]
    host_of(node.root, {"proc/meminfo": MEMINFO.replace(str(2 * GIB), str(GIB // 2))})
    assert facts.host_fields()["eviction_room"] == -GIB // 2
    (condition,) = facts.conditions()
    assert (condition.name, condition.severity) == ("eviction", Severity.ERROR)
    node.kubelet.configure("evictionHard: {nodefs.available: 5%}\n")
    facts = node.facts()
    list(facts.findings([]))
    assert facts.host_fields() == {}
    assert list(facts.conditions()) == []
    (node.root / "proc/meminfo").unlink()
    assert node.facts().host_fields() == {}


def test_doctor_says_how_the_kubelet_is_asked_and_at_what_it_evicts(node: Node) -> None:
    node.kubelet.pods = [pod("another", "1Gi")]
    node.kubelet.config = {"evictionHard": {"memory.available": "100Mi"}, "evictionSoft": {"memory.available": "5%"}}
    well = [(one.severity, one.message) for one in node.facts().findings([node.pod])]
    assert [severity for severity, _ in well] == [Severity.OK, Severity.OK]
    assert well[0][1].startswith("the kubelet reports the requests of 1 pod through port ")
    assert well[0][1].endswith("; pods of 1 guest are missing")
    limits = "100 MiB available (immediately) or 5.0% of the node available (after a grace period)"
    assert well[1][1] == f"the kubelet evicts pods when the node has less than {limits}, according to the kubelet"
    node.kubelet.behaviour = Behaviour.FORBIDDEN
    ill = next(iter(node.facts().findings([node.pod])))
    assert ill.severity is Severity.WARNING
    assert "guests whose control groups show no request have no guarantee" in ill.message
    assert "nodes/pods" in ill.cure
    node.kubelet.behaviour = Behaviour.GARBAGE
    assert "memory_overcommit_percentage of the kubevirt plugin" in next(iter(node.facts().findings([node.pod]))).cure


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"balloon_min": 2 * GIB, "pod_request": 2 * GIB + 240 * MIB, "pod_request_by": "the kubelet"},
            "The pod requests 2.23 GiB according to the kubelet, 240 MiB of it for KubeVirt's own programs: 2.00 GiB are guaranteed.",
        ),
        (
            {"balloon_min": GIB, "pod_request_by": "the setting memory_overcommit_percentage"},
            "According to the setting memory_overcommit_percentage, 1.00 GiB are guaranteed; the pod's request is unknown.",
        ),
        (
            {"balloon_min": GIB, "pod_request_by": ASKING},
            "mom asks the kubelet for the pod's request; until then, all of the guest's 1.00 GiB are guaranteed.",
        ),
        ({}, "The pod's request is unknown, so the guest has no guarantee, but keeps the memory that it uses."),
    ],
)
def test_explain_says_what_is_promised_and_who_says_so(fields: dict[str, Value], words: str) -> None:
    taken = snapshot(guests={"g": fields, "plain": fields}, properties={"g": {"kubevirt.pod": "virt-launcher-g-x"}})
    report = Report(1, taken.time, "enforce", taken, (), (), (), (), (), 0.01)
    assert [one.text for one in PodExplainer().part(About(report, taken.guests["g"])).sentences] == [words]
    assert not PodExplainer().part(About(report, taken.guests["plain"])).sentences


def test_doctor_names_the_guests_whose_pods_request_all_of_their_memory() -> None:
    by_request = {"balloon_max": 4 * GIB, "pod_request": 4 * GIB + 300 * MIB, "balloon_min": 4 * GIB}
    guests: list[tuple[str, dict[str, Value]]] = [
        ("tenant/whole", {**by_request}),
        ("tenant/two-thirds", {**by_request, "balloon_min": 2 * GIB}),
        ("tenant/asking", {"balloon_max": 4 * GIB, "balloon_min": 4 * GIB}),
        ("tenant/unknown", {}),
    ]
    (finding,) = requested_whole(guests)
    assert finding.severity is Severity.WARNING
    assert (
        finding.message
        == "1 guest with all of their memory guaranteed, because their pods request it: mom can take nothing from them: tenant/whole"
    )
    assert "resources.requests.memory" in finding.cure
    assert list(requested_whole(guests[1:])) == []
