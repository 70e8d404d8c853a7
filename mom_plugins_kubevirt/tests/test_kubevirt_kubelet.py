"""Requests to the kubelet of a node. A real server on this host stands in for it, with faults."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from stand_in_kubelet import TOKEN, Behaviour, StandInKubelet, kubelet, pod

from mom_core import PluginContext
from mom_devkit import host_of, wait_until
from mom_plugins_kubevirt.kubelet_api import KubeletConfig, PodRequest, config_of
from mom_plugins_kubevirt.kubelet_watch import KubeletSettings, KubeletWatch, doors_of

GIB = 1 << 20
UID = "17470c02-2435-410d-824b-5e7f833ec65a"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[StandInKubelet]:
    """Yield a kubelet with a self-made certificate."""
    with kubelet(tmp_path) as one:
        one.pods = [pod(UID, "2Gi")]
        yield one


def watch(one: StandInKubelet, tell: Callable[[str], None] = lambda what: None, seconds: float = 30.0, **settings: Any) -> KubeletWatch:
    made = KubeletSettings.model_validate(settings)
    return KubeletWatch(PluginContext("kubevirt", root=one.folder, wake=tell), made, seconds)


def asked(one: StandInKubelet, **settings: Any) -> KubeletWatch:
    found = watch(one, **settings)
    found.ask()
    return found


def test_the_token_is_read_anew_each_time(own: StandInKubelet) -> None:
    found = asked(own)
    assert (found.state.pods, "with the token" in found.state.door) == ({UID: PodRequest(2 * GIB)}, True)
    own.write("var/run/secrets/kubernetes.io/serviceaccount/token", "an-old-one")
    found.ask()
    assert "403" in found.state.error
    assert found.state.pods, "what it said before stays"
    own.write("var/run/secrets/kubernetes.io/serviceaccount/token", TOKEN)
    found.ask()
    assert found.state.error == ""


def test_a_kubelet_that_has_just_started_makes_nothing_forgotten_of_pods_that_are_there(
    own: StandInKubelet, monkeypatch: pytest.MonkeyPatch
) -> None:
    own.pods = [pod(UID, "2Gi"), pod("ended", "1Gi")]
    found = watch(own)
    found.expect({UID})
    found.ask()
    with monkeypatch.context() as starting:
        starting.setattr(StandInKubelet, "answer", lambda self, request: self.say(request, 200, b'{"items": null}'))
        found.ask()
    assert found.state.pods[UID].memory == 2 * GIB
    assert "ended" not in found.state.pods
    own.pods = [pod(UID, "3Gi")]
    found.ask()
    assert found.state.pods[UID].memory == 3 * GIB
    found.expect(set())
    own.pods = []
    found.ask()
    assert found.state.pods == {}


def test_a_certificate_that_the_cluster_signed_is_known_by_the_nodes_name(tmp_path: Path) -> None:
    with kubelet(tmp_path, own_certificate=False) as one:
        one.pods = [pod(UID, "2Gi")]
        assert asked(one).state.pods
        assert "not the node's" in asked(one, node="node8").state.error
    with kubelet(tmp_path / "other", own_certificate=False, name="node8") as one:
        assert "not the node's" in asked(one).state.error, "another node of the cluster answers there"


@pytest.mark.parametrize(
    ("settings", "environment", "host_name", "door"),
    [
        ({"address": "10.0.0.1", "port": 1, "node": "a"}, {"HOST_IP": "10.0.0.2", "NODE_NAME": "b"}, "c", ("10.0.0.1", 1, "a")),
        ({}, {"HOST_IP": "10.0.0.2", "NODE_NAME": "b"}, "c", ("10.0.0.2", 2, "b")),
        ({}, {}, "c", ("127.0.0.1", 2, "c")),
        ({}, {}, "", None),
    ],
    ids=["settings", "variables", "the host's", "nothing says which node it is"],
)
def test_where_it_is_and_what_its_certificate_must_say(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    environment: dict[str, str],
    host_name: str,
    door: tuple[str, int, str] | None,
) -> None:
    for name in ("HOST_IP", "NODE_NAME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    account = "var/run/secrets/kubernetes.io/serviceaccount"
    root = host_of(tmp_path, {f"{account}/token": TOKEN, f"{account}/ca.crt": "of the cluster", "proc/1/root/etc/hostname": host_name})
    found = doors_of(root, KubeletSettings.model_validate(settings), KubeletConfig(port=2))
    assert [(one.host, one.port, one.names) for one in found] == ([] if door is None else [door])


def test_that_a_guest_is_about_to_be_moved_is_told_once(own: StandInKubelet) -> None:
    heard: list[str] = []
    found = watch(own, heard.append)
    found.expect({UID, "second"})
    for leaves in ((False, None), (True, None), (True, None), (True, True), (True, False)):
        own.pods = [pod(uid, "2Gi", leaves=one) for uid, one in zip((UID, "second"), leaves, strict=True) if one is not None]
        found.ask()
    told = "a guest is about to be migrated"
    assert heard == ["the kubelet has reported the requests of new pods", told, told], "the second leaves when it is first seen"


def test_the_newest_of_its_certificates_is_a_link_within_the_node(own: StandInKubelet) -> None:
    pki = own.folder / "var/lib/kubelet/pki"
    (pki / "kubelet.crt").rename(pki / "kubelet-server-1.pem")
    (pki / "kubelet-server-current.pem").symlink_to("/var/lib/kubelet/pki/kubelet-server-1.pem")
    (own.folder / "var/run/secrets/kubernetes.io/serviceaccount/ca.crt").unlink()
    assert asked(own).state.pods


def test_no_token_goes_to_one_that_cannot_be_known(own: StandInKubelet, tmp_path: Path) -> None:
    with kubelet(tmp_path / "another") as other:
        own.configure(f"port: {other.port}\n")
        told = asked(own).state
        assert not told.pods
        assert "not the node's" in told.error
        assert other.asked == []
    for name in ("var/lib/kubelet/pki/kubelet.crt", "var/run/secrets/kubernetes.io/serviceaccount/ca.crt"):
        (own.folder / name).unlink()
    own.configure(f"port: {own.port}\n")
    assert asked(own).state.error.startswith("mom cannot query the kubelet")
    assert own.asked == []


def test_the_nodes_own_certificate_is_tried_where_the_token_is_refused_or_missing(own: StandInKubelet) -> None:
    own.allows = frozenset({"certificate"})
    own.write("var/lib/kubelet/pki/kubelet-client-current.pem", (own.folder / "client.pem").read_bytes())
    told = asked(own).state
    assert told.pods
    assert "with the certificate" in told.door
    (own.folder / "var/run/secrets/kubernetes.io/serviceaccount/token").unlink()
    assert asked(own).state.pods


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [
        pytest.param(Behaviour.DRIP, "no complete answer within 1 s", marks=pytest.mark.long),
        (Behaviour.GARBAGE, "/pods: the answer is invalid"),
        (Behaviour.FORBIDDEN, "refuses /pods (403)"),
        (Behaviour.HUGE, "exceeds 16 MiB"),
        (Behaviour.CUT, "ended too soon"),
        (Behaviour.CLOSED, "closed"),
    ],
)
def test_after_an_invalid_answer_the_earlier_one_stays(own: StandInKubelet, behaviour: Behaviour, why: str) -> None:
    found = watch(own, seconds=1.0 if behaviour is Behaviour.DRIP else 30.0)

    def answers() -> bool:
        """Return whether the kubelet answers. On a busy machine, a healthy kubelet may be late."""
        found.ask()
        return not found.state.error

    wait_until(answers, lambda: found.state.error, 60)
    own.behaviour = behaviour
    found.ask()
    assert why in found.state.error
    assert found.state.pods[UID].memory == 2 * GIB
    own.behaviour = Behaviour.WELL
    own.pods = [pod(UID, "3Gi")]
    wait_until(answers, lambda: found.state.error, 60)
    assert found.state.pods[UID].memory == 3 * GIB


@pytest.mark.parametrize(
    "odd",
    [None, 7, {"metadata": {"uid": 7}, "spec": {"containers": [{"name": "compute"}]}}, pod("odd", "1Gi") | {"spec": {"containers": None}}],
)
def test_an_invalid_pod_costs_no_other_guest_its_request(own: StandInKubelet, odd: Any) -> None:
    own.pods = [odd, pod(UID, "2Gi")]
    told = asked(own).state
    assert (told.error, {identity: request.memory for identity, request in told.pods.items()}) == ("", {UID: 2 * GIB})


def test_an_invalid_value_costs_no_other_value_of_the_configuration(own: StandInKubelet) -> None:
    own.configure("port: no number\nevictionHard: {memory.available: 300Mi}\n")
    config = config_of(own.folder)
    assert (config.port, config.hard_thresholds) == (10250, {"memory.available": "300Mi"})


def test_its_configuration_is_what_it_says_itself_and_else_what_its_files_say(own: StandInKubelet) -> None:
    own.configure(f"port: {own.port}\nevictionHard: {{memory.available: 300Mi}}\n")
    own.config = {"evictionHard": {"memory.available": "5%", "nodefs.available": "10%"}, "evictionSoft": {"memory.available": "1Gi"}}
    config = asked(own).state.config
    assert config.hard is not None
    assert config.soft is not None
    assert (config.hard.share, config.soft.kib, config.by) == (0.05, GIB, "the kubelet")
    assert own.asked == ["/pods", "/configz"]
