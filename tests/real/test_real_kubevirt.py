"""Pods with a libvirt each, like KubeVirt's: real session daemons of another user in mount namespaces, with real guests.

Stand-ins vanish, hang or give false answers.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from guest_image import CannotBuild, GuestImage, build
from launcher_pods import TestPod, TestPods
from mom_run import MomRun
from private_libvirtd import CannotStart
from real_guests import not_here

from mom_core import Guest, GuestBusy, PluginContext
from mom_devkit import wait_until
from mom_plugins_kubevirt import KubevirtPlugin
from mom_plugins_kubevirt.hypervisor import KubevirtHypervisor

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


@pytest.fixture(scope="module")
def image() -> GuestImage:
    try:
        return build()
    except CannotBuild as error:
        not_here(f"there is no real hypervisor: {error}")


@dataclass
class KubevirtMom:
    """Plugin kubevirt, with the reasons for which it woke mom."""

    plugin: KubevirtPlugin
    woken: list[str] = field(default_factory=list)

    @property
    def hypervisor(self) -> KubevirtHypervisor:
        found = self.plugin.mom_hypervisor()
        assert isinstance(found, KubevirtHypervisor)
        return found

    def guests(self) -> Mapping[str, Guest]:
        """Return guests keyed by name."""
        return {guest.name: guest for guest in self.hypervisor.guests()}

    def free(self) -> list[str]:
        """Return names of guests that mom can control."""
        return sorted(name for name, guest in self.guests().items() if "*" not in guest.blocked)

    def manages(self, *names: str) -> Mapping[str, Guest]:
        """Wait until mom lists these guests and can control each. Return them."""

        def free() -> Mapping[str, Guest]:
            guests = self.guests()
            return guests if all(name in guests and "*" not in guests[name].blocked for name in names) else {}

        return wait_until(free, lambda: f"{sorted(self.guests())}, {dict(self.hypervisor.troubles())}", 60)

    def reports(self, name: str) -> bool:
        guest = self.guests()[name]
        return "mem_usable" in self.hypervisor.fields([guest])[guest.id]


@contextmanager
def kubevirt_mom(pods: TestPods, **settings: object) -> Iterator[KubevirtMom]:
    woken: list[str] = []
    context = PluginContext(name="kubevirt", wake=woken.append)
    plugin = KubevirtPlugin(KubevirtPlugin.Settings.model_validate(pods.settings(**settings)), context)
    plugin.mom_setup()
    try:
        yield KubevirtMom(plugin, woken)
    finally:
        plugin.mom_teardown()


def start_all(pods: TestPods, many: int, **stand_in: object) -> list[TestPod]:
    started = [pods.start(NAMESPACE, f"vm{number}-{len(pods.pods)}", stand_in) for number in range(many)]
    for pod in started:
        pod.wait_until_it_listens()
    return started


def called(pod: TestPod) -> str:
    """Return mom's name of the pod's guest."""
    return f"{pod.namespace}/{pod.name}"


def test_real_guests_of_several_daemons_are_managed_as_those_of_one(pods: TestPods, image: GuestImage) -> None:
    with kubevirt_mom(pods) as mom:
        launchers = [pods.start(NAMESPACE, name) for name in ("db", "web")]
        for pod in launchers:
            pod.wait_until_it_listens()
        reals = [pods.guest(pod, image, mib=128, balloon_options="freePageReporting='on'") for pod in launchers]
        for real in reals:
            real.wait_until_up()
        assert any("started" in why for why in mom.woken)
        guests = mom.manages(*map(called, launchers))
        for pod, real in zip(launchers, reals, strict=True):
            guest = guests[called(pod)]
            assert guest.properties["kubevirt.namespace"] == NAMESPACE
            assert (guest.properties["kubevirt.name"], guest.properties["kubevirt.pod"]) == (pod.name, pod.pod_name)
            wait_until(partial(mom.reports, called(pod)), "it reports", 60)
            assert mom.guests()[called(pod)].properties["pid"] == real.pid
            assert mom.hypervisor.fields([guest])[guest.id]["vcpu_count"] == 1
            mom.hypervisor.set_balloon(guest.entity, 100 * MIB)
        wait_until(
            lambda: {*mom.hypervisor.balloon_sizes([one.entity for one in guests.values()]).values()} == {100 * MIB}, "they shrink", 60
        )
        first, second = launchers
        before = mom.guests()[called(second)].incarnation
        first.kill()
        wait_until(lambda: sorted(mom.guests()) == [called(second)], "the pod is gone", 60)
        assert mom.guests()[called(second)].incarnation == before


def test_one_that_stands_still_keeps_its_guest_and_is_managed_again(pods: TestPods) -> None:
    still, well = start_all(pods, 2)
    with kubevirt_mom(pods) as mom:
        mom.manages(called(still), called(well))
        still.stop(signal.SIGSTOP)
        wait_until(lambda: "*" in mom.guests()[called(still)].blocked, "it is blocked", 60)
        guests = mom.manages(called(well))
        with pytest.raises(GuestBusy):
            mom.hypervisor.set_balloon(guests[called(still)].entity, 512 * MIB)
        mom.hypervisor.set_balloon(guests[called(well)].entity, 512 * MIB)
        assert list(mom.hypervisor.balloon_sizes([guest.entity for guest in guests.values()]).values()) == [512 * MIB]
        still.stop(signal.SIGCONT)
        mom.manages(called(still))


def test_liars_cost_nobody_else_anything(pods: TestPods) -> None:
    (well,) = start_all(pods, 1)
    with kubevirt_mom(pods) as mom:
        mom.manages(called(well))
        liars = {
            "garbage": start_all(pods, 1, lie="garbage")[0],
            "silent": start_all(pods, 1, lie="silent")[0],
            "crowd": start_all(pods, 1, lie="crowd")[0],
            "another's name": start_all(pods, 1, name=f"{NAMESPACE}_{well.name}")[0],
            "another namespace": start_all(pods, 1, name="kube-system_db")[0],
            "another's UUID": start_all(pods, 1, claims=well.uuid)[0],
        }
        wait_until(lambda: mom.guests() and len(mom.hypervisor.troubles()) == len(liars), lambda: str(mom.hypervisor.troubles()), 60)
        wait_until(lambda: mom.free() == [called(well)], lambda: str(mom.free()), 60)
        troubles = mom.hypervisor.troubles()
        told = {lie: troubles[f"{NAMESPACE}/{pod.pod_name}"] for lie, pod in liars.items()}
        assert told["crowd"] == "it lists 50 guests, but a pod has one"
        assert "does not match the pod" in told["another's name"]
        assert "kube-system_db" in told["another namespace"]
        assert told["another's UUID"] == "the guest's process is not found in its pod"


def test_messages_of_32_mib_are_not_read_and_cost_hardly_any_memory(pods: TestPods) -> None:
    """libvirt's client would read them, and use gigabytes within seconds."""
    start_all(pods, 3, flood=32 << 20)
    (well,) = start_all(pods, 1)
    status = Path("/proc/self/status")
    before = int(status.read_text().partition("VmRSS:")[2].split()[0])
    with kubevirt_mom(pods) as mom:
        mom.manages(called(well))

        def refused() -> int:
            return sum("bytes, and the limit for one guest is" in why for why in mom.hypervisor.troubles().values())

        wait_until(lambda: mom.guests() and refused() == 3, lambda: str(mom.hypervisor.troubles()), 60)
        time.sleep(2.0)  # enough time to read a gigabyte
        assert mom.free() == [called(well)]
    assert int(status.read_text().partition("VmRSS:")[2].split()[0]) - before < 100 << 10


def test_a_hundred_come_and_vanish_at_once(pods: TestPods) -> None:
    (lasting,) = start_all(pods, 1)
    with kubevirt_mom(pods) as mom:
        mom.manages(called(lasting))
        crowd = start_all(pods, 100)
        assert len(mom.manages(*map(called, crowd))) == 101
        for pod in crowd:
            pod.kill()
        wait_until(lambda: sorted(mom.guests()) == [called(lasting)], "they are gone", 60)
        assert mom.guests()[called(lasting)].blocked == {}
        assert mom.hypervisor.troubles() == {}


def test_a_mom_that_was_killed_leaves_nothing_that_the_next_does_not_put_back(pods: TestPods, mom: MomRun) -> None:
    launchers = start_all(pods, 5)
    sized = {"90_size": '(with Guests guest (guest.Control "balloon_target" (* 512 1024)))'}
    mom.configure({"kubevirt": pods.settings(), "balloon": {}, "policy": {}}, policies=sized)

    def sizes() -> set[int]:
        found = set()
        for pod in launchers:
            connection = pod.connect()
            ((_, record),) = connection.getAllDomainStats()
            found.add(record["balloon.current"])
            connection.close()
        return found

    mom.start()
    wait_until(lambda: max(sizes()) < 1024 * MIB, lambda: f"{sizes()} {mom.log[-2000:]}", 60)
    mom.kill()
    assert mom.verb("restore").returncode == 0
    assert sizes() == {1024 * MIB}
