"""Which pods of KubeVirt are on a node, by its /proc: with both of kubelet's ways to name control groups, from within a container, and
where what runs in pods is not what it says."""

from pathlib import Path

import pytest
from kubernetes_node import Node

from mom_devkit import HandClock
from mom_plugins_kubevirt.pods import Pods

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


def in_container(uid: str, group: str = "") -> str:
    return Node.group(uid, group) + "/cri-containerd-0a1b.scope"


def test_a_launcher_is_found_with_what_the_node_knows_of_it(node, pods):
    uid = node.pod("prod", "virt-launcher-db-x7k2p")
    pid = node.process("virtqemud", in_container(uid))
    assert pods.scan()
    (pod,) = pods.pods.values()
    assert (pod.pid, pod.started, pod.pod_uid) == (pid, 7 * pid, uid)
    assert (pod.namespace, pod.name, pod.socket) == ("prod", "virt-launcher-db-x7k2p", "var/run/libvirt/virtqemud-sock")
    assert Path(pod.cgroup) == node.root / f"sys/fs/cgroup/kubepods/burstable/pod{uid}"
    assert not pods.scan()


def test_kubelets_systemd_driver_writes_the_uid_with_underscores(node, pods):
    uid = node.pod(group="/none/{}")
    group = SYSTEMD.format(uid.replace("-", "_"))
    (node.root / f"sys/fs/cgroup{group}").mkdir(parents=True)
    node.process("virtqemud", f"{group}/crio-7f.scope/container")
    pods.scan()
    assert Path(pods.pods[uid].cgroup) == node.root / f"sys/fs/cgroup{group}"


def test_from_a_container_the_group_is_searched_for_as_its_path_leads_up_and_out(node, pods):
    uid = node.pod(group="/none/{}")
    group = SYSTEMD.format(uid.replace("-", "_"))
    (node.root / f"sys/fs/cgroup{group}").mkdir(parents=True)
    node.process("virtqemud", f"/../../kubepods-burstable-pod{uid.replace('-', '_')}.slice/crio-7f.scope")
    pods.scan()
    assert Path(pods.pods[uid].cgroup) == node.root / f"sys/fs/cgroup{group}"


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


def test_a_daemon_that_only_its_parent_waits_for_has_ended(node, pods):
    uid = node.pod()
    pid = node.process("virtqemud", in_container(uid))
    pods.scan()
    assert uid in pods.pods
    stat = node.root / f"proc/{pid}/stat"
    stat.write_text(stat.read_text().replace(" S ", " Z "))
    assert pods.scan()
    assert not pods.pods


def test_a_group_that_a_container_has_made_below_its_own_changes_nothing(node, pods):
    uid, others = node.pod(), node.pod("other", "virt-launcher-db-22222")
    node.process("virtqemud", f"{in_container(uid)}/pod{others}")
    pods.scan()
    assert list(pods.pods) == [uid]


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


def test_a_node_that_cannot_be_read_keeps_what_was_known(node, pods):
    uid = node.pod()
    node.process("virtqemud", in_container(uid))
    pods.scan()
    (node.root / "proc").rename(node.root / "gone")
    assert not pods.scan()
    assert uid in pods.pods
