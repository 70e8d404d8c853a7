"""Pods of KubeVirt on a node, from /proc: with both of kubelet's names of control groups, in a container, and with false claims of pods."""

from pathlib import Path

import pytest
from kubernetes_node import Node

from mom_devkit import HandClock
from mom_plugins_kubevirt.pod_libvirt import is_domain_of
from mom_plugins_kubevirt.pods import LauncherPod, Pods

SYSTEMD = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{}.slice"


@pytest.fixture
def node(tmp_path: Path) -> Node:
    (tmp_path / "proc").mkdir()
    return Node(tmp_path)


@pytest.fixture
def clock() -> HandClock:
    return HandClock(100.0)


@pytest.fixture
def pods(node: Node, clock: HandClock) -> Pods:
    return Pods(node.root, Path("/var/log/pods"), clock)


def in_container(uid: str) -> str:
    return Node.group(uid) + "/cri-containerd-0a1b.scope"


def test_a_launcher_is_found_with_what_the_node_knows_of_it(node, pods):
    uid = node.pod("prod", "virt-launcher-db-x7k2p")
    pid = node.process("virtqemud", in_container(uid))
    assert pods.scan()
    (pod,) = pods.pods.values()
    assert (pod.pid, pod.started, pod.pod_uid) == (pid, 7 * pid, uid)
    assert (pod.namespace, pod.name, pod.socket) == ("prod", "virt-launcher-db-x7k2p", "var/run/libvirt/virtqemud-sock")
    assert Path(pod.cgroup) == node.root / f"sys/fs/cgroup/kubepods/burstable/pod{uid}"
    assert not pods.scan()


def test_from_a_container_the_group_is_seen_where_the_nodes_groups_are_mounted(node, pods):
    uid = node.pod()
    (node.root / "proc/self/mountinfo").write_text("31 24 0:28 /../.. /host/cgroup ro - cgroup2 cgroup2 rw\n")
    node.process("virtqemud", f"/../..{Node.group(uid)}/crio-7f.scope")
    pods.scan()
    group = node.root / f"host/cgroup{Node.group(uid)}"
    assert (Path(pods.pods[uid].cgroup), Path(pods.pods[uid].container)) == (group, group / "crio-7f.scope")


def test_a_process_is_found_that_becomes_a_daemon_only_after_it_was_forked(node, pods, clock):
    uid = node.pod()
    pid = node.process("virt-launcher", in_container(uid))
    pods.scan()
    assert not pods.pods
    (node.root / f"proc/{pid}/comm").write_text("virtqemud\n")
    clock.now += 1
    assert pods.scan()
    assert uid in pods.pods


@pytest.mark.parametrize("name", ["virtqemud", "libvirtd"])
def test_daemons_outside_of_pods_and_pods_of_others_are_left_alone(node, pods, name):
    node.process(name, "/system.slice/libvirtd.service")
    other = node.pod("openstack", "libvirt-default-ab12c")
    node.process(name, in_container(other))
    pods.scan()
    assert not pods.pods


def test_a_pod_ends_with_its_daemon_and_a_new_one_in_it_is_another(node, pods):
    uid = node.pod()
    first = node.process("virtqemud", in_container(uid))
    second = node.process("virtqemud", in_container(uid))
    pods.scan()
    assert pods.pods[uid].pid == first
    node.ends(first)
    assert pods.scan()
    assert pods.pods[uid].pid == second
    node.ends(second)
    assert pods.scan()
    assert not pods.pods


def test_a_pod_without_a_name_waits_for_kubelet_to_tell_it(node, pods, clock):
    uid = node.pod(named=False)
    node.process("virtqemud", in_container(uid))
    pods.scan()
    assert not pods.pods
    assert list(pods.nameless) == [uid]
    (node.logs / f"prod_virt-launcher-db-x7k2p_{uid}").mkdir(parents=True)
    clock.now += 2
    assert pods.scan()
    assert pods.pods[uid].namespace == "prod"
    assert not pods.nameless


def test_the_guests_process_is_one_of_its_own_pod_only(node, pods):
    mine, others = node.pod(), node.pod("other", "virt-launcher-evil-11111")
    uuid = "6f2c7c1e-8a54-4c8e-9a37-0d6a6f3d2b11"
    liar = node.process("qemu-kvm", in_container(others), "-uuid", uuid)
    qemu = node.process("qemu-kvm", in_container(mine), "-name", "guest=prod_db", "-uuid", uuid)
    pods.scan()
    assert pods.guest_process(mine, uuid) == qemu
    assert pods.guest_process(others, uuid) == liar
    assert pods.guest_process(mine, "another") is None
    assert (pods.guest_of(mine), pods.guest_of(others), pods.guest_of("none")) == (uuid, uuid, "")
    node.ends(qemu)
    pods.scan()
    assert pods.guest_process(mine, uuid) is None


def test_what_a_process_says_of_its_guest_counts_only_as_a_uuid_and_in_its_own_pod(node, pods):
    mine, others = node.pod(), node.pod("other", "virt-launcher-evil-11111")
    uuid = "6f2c7c1e-8a54-4c8e-9a37-0d6a6f3d2b11"
    node.process("qemu-kvm", in_container(mine), "-uuid", f"{uuid}/../x")
    node.process("qemu-kvm", in_container(mine), "-name", uuid)
    moved = node.process("qemu-kvm", in_container(mine), "-uuid", uuid)
    pods.scan()
    assert pods.guest_process(mine, uuid) == moved
    (node.root / f"proc/{moved}/cgroup").write_text(f"0::{in_container(others)}\n")
    assert (pods.guest_process(mine, uuid), pods.guest_of(mine)) == (None, "")


def test_a_pod_with_more_processes_than_any_has_is_not_followed(node, pods, monkeypatch):
    monkeypatch.setattr("mom_plugins_kubevirt.pods._MOST_PROCESSES", 2)
    uuids = [f"6f2c7c1e-8a54-4c8e-9a37-0d6a6f3d2b1{number}" for number in range(4)]
    first = node.pod()
    for _ in range(3):
        node.process("virtqemud", in_container(first))
    for uuid in uuids:
        node.process("qemu-kvm", in_container(first), "-uuid", uuid)
    pods.scan()
    assert pods.pods.keys() == {first}
    assert [pods.guest_process(first, uuid) is not None for uuid in uuids] == [True, True, False, False]


def test_all_are_nameless_only_where_names_cannot_be_read_and_none_is_known(node, pods, clock):
    uid = node.pod(named=False)
    assert (pods.all_nameless, pods.why_nameless) == (False, ("", ""))
    node.process("virtqemud", in_container(uid))
    pods.scan()
    assert pods.all_nameless, "there is no folder of logs"
    why, cure = pods.why_nameless
    assert why.startswith("the names of 1 pods with a libvirt are unknown")
    assert "podLogsDir" in cure
    known = node.pod()
    clock.now += 2
    pods.scan()
    assert not pods.all_nameless, "there is one, and this pod has none yet"
    node.process("virtqemud", in_container(known))
    pods.scan()
    node.logs.rename(node.root / "away")
    clock.now += 2
    pods.scan()
    assert (list(pods.nameless), list(pods.pods), pods.all_nameless) == ([uid], [known], False)


LONG = "a-guest-with-a-name-of-more-than-thirty-characters"


@pytest.mark.parametrize(
    ("pod", "domain", "own"),
    [
        ("virt-launcher-db-x7k2p", "prod_db", True),
        ("virt-launcher-db-x7k2p", "test_db", False),
        ("virt-launcher-db-x7k2p", "prod_d", False),
        ("virt-launcher-db-x7k2p", "db", False),
        (f"virt-launcher-{LONG[:40]}-x7k2p", f"prod_{LONG}", True),
        (f"virt-launcher-{LONG[:40]}-x7k2p", f"prod_{LONG[:10]}-another-name-of-more-than-thirty", False),
    ],
)
def test_a_guest_is_its_pods_own_by_the_namespace_and_the_name_that_the_node_tells_of_it(pod, domain, own):
    assert is_domain_of(LauncherPod(1, 7, "uid", "", "sock", "prod", pod), domain) is own
