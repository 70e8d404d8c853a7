"""Guests of all pods in one list. Each pod has a libvirt in memory, on a node of files."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fake_libvirt import LONG_SECONDS, FakeConnection, FakeGuest, FakeLibvirtd
from kubernetes_node import Node

from mom_core import Entity, Guest, GuestBusy, GuestGone, HypervisorError, PluginContext, Scope
from mom_kvm import Callers
from mom_plugins_kubevirt import hypervisor as module
from mom_plugins_kubevirt.hypervisor import KubevirtHypervisor
from mom_plugins_kubevirt.pod_libvirt import Means, PodLibvirt
from mom_plugins_kubevirt.pods import LauncherPod, Pods

NO_PROCESS = "the guest's process is not found in its pod"


class Daemons(FakeLibvirtd):
    """libvirts of all pods, keyed by the pods' uids."""

    def __init__(self) -> None:
        super().__init__()
        self.of: dict[str, FakeLibvirtd] = {}

    def open(self, uri: str) -> FakeConnection:
        return self.of[uri].open(uri)


class PodsNode:
    """Node with pods of one guest each, and mom."""

    def __init__(self, root: Path, callers: Callers) -> None:
        (root / "proc").mkdir()
        self.node, self.callers, self.daemons = Node(root), callers, Daemons()
        self.now = 100.0
        self.processes: dict[str, int] = {}
        """Pids of QEMU, keyed by UUID."""
        self.uuids: dict[str, str] = {}
        """UUIDs keyed by guest's name."""
        self.restart()

    def restart(self) -> None:
        """Restart mom."""
        context = PluginContext("kubevirt", root=self.node.root, monotonic=lambda: self.now)
        means = Means(context, self.daemons, None, LONG_SECONDS, self.callers)
        self.hypervisor = KubevirtHypervisor(Pods(self.node.root, Path("/var/log/pods"), lambda: self.now), means)

    def start(self, name: str, namespace: str = "prod", suffix: str = "x7k2p", claims: str = "") -> str:
        """Start a guest in a pod. Return its UUID.

        :param claims: UUID of another guest that it claims
        """
        identity = claims or str(uuid.uuid4())
        uid = self.node.pod(namespace, f"virt-launcher-{name}-{suffix}")
        group = f"{Node.group(uid)}/compute"
        self.node.process("virtqemud", group)
        self.processes[identity] = self.node.process("qemu-kvm", group, "-uuid", identity)
        self.daemons.of[uid] = FakeLibvirtd()
        self.daemons.of[uid].add(f"{namespace}_{name}", identity)
        self.uuids[f"{namespace}/{name}"] = identity
        return identity

    def by_name(self) -> dict[str, Guest]:
        """Return the guests of the next cycle, keyed by name."""
        self.now += 2
        return {guest.name: guest for guest in self.hypervisor.guests()}

    def guests(self) -> dict[str, Guest]:
        """Return the guests of the next cycle, keyed by UUID."""
        return {self.uuids[name]: guest for name, guest in self.by_name().items()}

    @contextmanager
    def process_unreadable(self, identity: str) -> Iterator[None]:
        folder = self.node.root / f"proc/{self.processes[identity]}"
        folder.rename(folder.with_name("hidden"))
        yield
        folder.with_name("hidden").rename(folder)


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PodsNode]:
    @contextmanager
    def reached(proc: Path, pod: LauncherPod, *_: object) -> Iterator[str]:
        yield pod.pod_uid

    monkeypatch.setattr("mom_plugins_kubevirt.pod_libvirt.reached", reached)
    callers = Callers("test")
    made = PodsNode(tmp_path, callers)
    yield made
    made.hypervisor.close()


def test_a_pod_that_claims_the_uuid_of_another_tenants_guest_does_not_take_its_place(node: PodsNode) -> None:
    """This also holds after a restart of mom, which then sees the older pod first."""
    claimed = str(uuid.uuid4())
    node.start("trap", "mallory", claims=claimed)
    node.start("db", claims=claimed)
    before = node.by_name()
    assert before.keys() == {"mallory/trap", "prod/db"}
    node.hypervisor.set_balloon(before["prod/db"].entity, 512 << 10)
    node.restart()
    after = node.by_name()
    assert {name: (guest.id, guest.incarnation, guest.blocked) for name, guest in after.items()} == {
        name: (guest.id, guest.incarnation, {}) for name, guest in before.items()
    }
    sizes = node.hypervisor.balloon_sizes([guest.entity for guest in after.values()])
    assert sizes == {after["prod/db"].id: 512 << 10, after["mallory/trap"].id: 1 << 20}
    assert all(guest.properties["uuid"] == guest.id for guest in after.values()), "no pattern of another tenant's guest matches it"


def test_a_guest_is_the_same_in_the_next_pod_of_its_virtual_machine(node: PodsNode) -> None:
    identity = node.start("db")
    first = node.guests()[identity]
    node.node.ends(node.processes[identity])
    node.node.ends(node.processes[identity] - 1)
    node.start("db", suffix="q9m4z", claims=identity)
    second = node.guests()[identity]
    assert second.id == first.id
    assert second.incarnation != first.incarnation


def test_of_two_pods_that_claim_one_guest_neither_is_managed(node: PodsNode) -> None:
    identity, other = node.start("db"), node.start("web")
    before = node.guests()[identity]
    node.start("db", suffix="q9m4z", claims=identity)
    pods = ["prod/virt-launcher-db-x7k2p", "prod/virt-launcher-db-q9m4z"]
    why = f"{', '.join(pods)} claim to run the same guest: mom manages none of them"
    for _ in range(2):
        guests = node.guests()
        assert guests[other].blocked == {}
        assert (guests[identity].blocked, guests[identity].incarnation) == ({"*": why}, before.incarnation), (
            "what was changed is known still"
        )
        assert node.hypervisor.troubles() == dict.fromkeys(pods, why)
        assert "balloon_cur" not in node.hypervisor.fields([guests[identity]])[before.id]
        with pytest.raises(GuestBusy):
            node.hypervisor.set_balloon(before.entity, 512 << 10)
        node.restart()


def test_a_guest_whose_process_is_not_found_for_a_moment_is_the_same_and_left_alone(node: PodsNode) -> None:
    identity = node.start("db")
    before = node.guests()[identity]
    with node.process_unreadable(identity):
        node.hypervisor.fields([before])  # mom samples it, and it seems to have ended
        for _ in range(3):
            meanwhile = node.guests()[identity]
            assert (meanwhile.incarnation, meanwhile.blocked["*"]) == (before.incarnation, NO_PROCESS)
    node.guests()  # mom sees a new process
    after = node.guests()[identity]
    assert (after.incarnation, after.blocked) == (before.incarnation, {})


def test_a_guest_whose_process_was_never_found_is_not_listed_as_another_start_of_it(node: PodsNode) -> None:
    identity = node.start("db")
    with node.process_unreadable(identity):
        assert node.guests() == {}
        assert list(node.hypervisor.troubles().values()) == [NO_PROCESS]
        with pytest.raises(GuestBusy):
            node.hypervisor.set_balloon(Entity(Scope.GUEST, identity, "prod/db"), 512 << 10)
    node.guests()
    assert "@" in node.guests()[identity].incarnation
    assert node.hypervisor.troubles() == {}


def test_guests_of_pods_whose_names_cannot_be_read_are_not_taken_for_gone(node: PodsNode) -> None:
    """Otherwise, a mom without the right to read the names would forget the changes of the one before."""
    identity = node.start("db")
    entity = node.guests()[identity].entity
    logs = node.node.logs
    logs.rename(logs.with_name("hidden"))
    assert node.guests().keys() == {identity}, "its name is known"
    node.restart()
    for _ in range(2):
        with pytest.raises(HypervisorError, match="the names of 1 pods with a libvirt are unknown") as raised:
            node.guests()
        assert "podLogsDir" in raised.value.hint
    with pytest.raises(HypervisorError) as raised:
        node.hypervisor.set_balloon(entity, 512 << 10)
    assert not isinstance(raised.value, GuestGone)
    logs.with_name("hidden").rename(logs)
    assert node.guests().keys() == {identity}
    node.node.process("virtqemud", f"{Node.group(node.node.pod(named=False))}/compute")
    assert node.guests().keys() == {identity}, "one that is not told of yet costs the others nothing"


def slow(many: int) -> Callable[..., tuple[dict[PodLibvirt, Any], dict[PodLibvirt, Any]]]:
    """Return a substitute for rounds that asks only this number of pods in time."""

    def ask(
        callers: Callers,
        whom: Iterable[PodLibvirt],
        look: Callable[[PodLibvirt], Any],
        patience: float,
        unsure: Set[PodLibvirt] = frozenset(),
    ) -> tuple[dict[PodLibvirt, Any], dict[PodLibvirt, Any]]:
        answers: dict[PodLibvirt, Any] = {}
        for one in list(whom)[:many]:
            try:
                answers[one] = look(one)
            except HypervisorError as error:
                answers[one] = error
        return answers, {}

    return ask


def test_on_a_slow_node_all_pods_have_their_turn_and_none_is_blamed_for_waiting(node: PodsNode, monkeypatch: pytest.MonkeyPatch) -> None:
    all_of_them = {node.start(f"vm{number}") for number in range(5)}
    node.guests()
    assert node.hypervisor.troubles() == {}
    monkeypatch.setattr(module, "ask_all", slow(2))
    asked = {uid: daemon.calls["getAllDomainStats"] for uid, daemon in node.daemons.of.items()}
    for _ in range(3):
        guests = node.guests()
        assert guests.keys() == all_of_them
        assert not any(guest.blocked for guest in guests.values())
        assert node.hypervisor.troubles() == {}
    assert all(daemon.calls["getAllDomainStats"] > asked[uid] for uid, daemon in node.daemons.of.items())


def test_a_guest_that_could_not_be_asked_about_yet_is_known_by_its_process(node: PodsNode, monkeypatch: pytest.MonkeyPatch) -> None:
    first = node.start("db")
    known = node.guests()[first]
    node.restart()
    monkeypatch.setattr(module, "ask_all", slow(0))
    guest = node.guests()[first]
    assert guest.incarnation == known.incarnation
    assert guest.blocked == {"*": "mom had no time to query its libvirt yet"}
    monkeypatch.setattr(module, "ask_all", slow(1))
    assert node.guests()[first].blocked == {}


def test_what_a_pod_answers_about_the_guest_of_another_is_not_heard(node: PodsNode) -> None:
    """Otherwise, a tenant could set the size to which another tenant's guest is restored."""
    bad, good = node.start("db"), node.start("web")
    guests = node.guests()
    for daemon in node.daemons.of.values():
        if bad in daemon.guests:
            lie = daemon.guests[bad] = FakeGuest(good, "prod_web")
            lie.current = 64 << 10
    assert node.hypervisor.balloon_sizes([guests[bad].entity]) == {}
    ids = {guest.id for guest in guests.values()}
    assert node.hypervisor.balloon_sizes([guest.entity for guest in guests.values()]) == {guests[good].id: 1 << 20}
    assert [record["balloon.current"] for record in node.hypervisor.of(ids).values()] == [1 << 20]


@pytest.mark.parametrize("field", ["maximum", "current"])
def test_a_pod_that_claims_more_than_the_host_has_is_believed_nothing_and_costs_no_other(node: PodsNode, field: str) -> None:
    """Its process maps the claimed memory, which is free of charge (MAP_NORESERVE)."""
    bad, good = node.start("db"), node.start("web")
    claimed = 50 << 30
    for pid in node.processes.values():
        (node.node.root / f"proc/{pid}/statm").write_text(f"{claimed} 1 1 1 0 1 0\n")
    (node.node.root / "proc/meminfo").write_text(f"MemTotal: {256 << 20} kB\n")
    for daemon in node.daemons.of.values():
        if bad in daemon.guests:
            setattr(daemon.guests[bad], field, claimed)
    guests = node.guests()
    fields = node.hypervisor.fields(list(guests.values()))
    assert not {"balloon_cur", "balloon_max", "vcpu_count"} & fields[guests[bad].id].keys()
    assert fields[guests[good].id]["balloon_max"] == 1 << 20
    assert f"{claimed} KiB" in guests[bad].blocked["*"]
    assert guests[good].blocked == {}
    assert list(node.hypervisor.troubles()) == ["prod/virt-launcher-db-x7k2p"]
    assert node.hypervisor.balloon_sizes([guest.entity for guest in guests.values()]) == {guests[good].id: 1 << 20}
