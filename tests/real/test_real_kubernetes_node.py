"""The DaemonSet of packaging/kubernetes: mom in its container, with its rights, beside pods with guests."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from guest_image import CannotBuild, build
from launcher_pods import TestPods
from node_container import NodeContainer, node_root_is_seen
from private_libvirtd import PREFIX, CannotStart
from real_guests import not_here

from mom_devkit import wait_until

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("kubernetes-node")]

ROOT = Path(__file__).parents[2]
NAMES = ("db", "web")
MIB, SMALLER_MIB = 192, 150
POLICY = f'(with Guests guest (guest.Control "balloon_target" {SMALLER_MIB << 10}))'

Start = Callable[..., NodeContainer]


@pytest.fixture(scope="module")
def node() -> Iterator[SimpleNamespace]:
    """Start two pods with a guest each."""
    with ExitStack() as stack:
        try:
            pods, image = TestPods(), build()
            stack.callback(pods.remove_all)
            started = [pods.start(f"{PREFIX}shop", name) for name in NAMES]
            for pod in started:
                pod.wait_until_it_listens()
        except (CannotStart, CannotBuild) as error:
            not_here(f"there are no pods: {error}")
        guests = [pods.guest(pod, image, mib=MIB) for pod in started]
        for guest in guests:
            guest.wait_until_up()
        yield SimpleNamespace(pods=pods, guests=guests)


@pytest.fixture
def start(node: SimpleNamespace, tmp_path: Path) -> Iterator[Start]:
    """Yield a function that starts containers one after the other on the node, with the overlay `enforce`. Guests have all their memory."""
    for guest in node.guests:
        guest.domain.setMemory(MIB << 10)
    wait_for_whole(node)
    shared = tmp_path / "node"
    for name in ("run", "state", "config/policy.d"):
        (shared / name).mkdir(parents=True)
    config = yaml.safe_load((ROOT / "packaging/kubernetes/overlays/enforce/mom.yaml").read_text())
    logs = node.pods.settings()["pod_logs"] if node_root_is_seen() else "/node/pods"
    config |= {"interval": "1s", "guests": {"*": {"guarantee": "25%"}}}
    config["plugins"] |= {"kubevirt": {"pod_logs": logs}, "policy": {"directory": "/etc/mom/policy.d"}}
    (shared / "config/mom.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (shared / "config/policy.d/50_test.policy").write_text(POLICY)
    with ExitStack() as stack:

        def begin(**how: Any) -> NodeContainer:
            container = NodeContainer(shared, Path(node.pods.settings()["pod_logs"]), **how)
            stack.callback(container.remove)
            return container

        yield begin


def sizes(node: SimpleNamespace) -> list[int]:
    return [round(guest.size_mib) for guest in node.guests]


def are_small(node: SimpleNamespace) -> bool:
    """Return whether all guests are small. mom may pause a shrink if an emulated guest lacks memory, so they need not reach the target."""
    return max(sizes(node)) < (SMALLER_MIB + MIB) / 2


def wait_for_small(node: SimpleNamespace, container: NodeContainer) -> None:
    wait_until(lambda: are_small(node), lambda: f"{sizes(node)}, not {SMALLER_MIB}: {container.log[-3000:]}", 60)


def started(node: SimpleNamespace, start: Start) -> NodeContainer:
    """Start a container, and wait until its mom has made all guests small."""
    container = start()
    container.wait_until("running")
    wait_for_small(node, container)
    return container


def wait_for_whole(node: SimpleNamespace, container: NodeContainer | None = None) -> None:
    """Wait until all guests have all their memory. Guests on a busy host follow slowly."""
    wait_until(lambda: sizes(node) == [MIB] * len(NAMES), lambda: f"{sizes(node)}, not {MIB}: {container and container.log[-3000:]}", 60)


def test_in_its_container_mom_sees_all_guests_resizes_them_and_puts_them_back_at_the_end(node: SimpleNamespace, start: Start) -> None:
    container = started(node, start)
    rows = json.loads(container.run("mom", "guests", "--json").stdout)
    assert {row["name"] for row in rows} == {f"{PREFIX}shop/{name}" for name in NAMES}
    told = json.loads(container.run("mom", "status", "--json").stdout)["guests"]
    pressure = [row[told["columns"].index("host_psi_memory_some_avg10")] for row in told["rows"]]
    assert None not in pressure, "from within the container the groups of pods are found"
    explained = container.run("mom", "explain", f"{PREFIX}shop/{NAMES[0]}")
    assert "mom.sock" in explained.stdout, explained.stderr
    assert container.probe("livenessProbe")
    assert container.probe("readinessProbe")
    assert container.run("touch", "/usr/here").returncode != 0, "its root is read-only"
    assert not (container.shared / "run/mom-page.sock").exists()
    assert container.delete() == (0, 0), container.log
    wait_for_whole(node, container)


def test_a_mom_that_is_killed_leaves_no_guest_small(node: SimpleNamespace, start: Start) -> None:
    container = started(node, start)
    os.kill(container.mom_pid(), signal.SIGKILL)
    assert container.process.wait(30) != 0, "kubelet starts another one"
    wait_for_whole(node, container)


def test_one_that_hangs_is_told_by_the_probe_and_ended_and_what_it_has_changed_is_put_back(node: SimpleNamespace, start: Start) -> None:
    container = started(node, start)
    os.kill(container.mom_pid(), signal.SIGSTOP)
    status = container.shared / "run/status.json"
    status.write_text(json.dumps(json.loads(status.read_text()) | {"monotonic_seconds": 1.0}))  # like after a while
    os.utime(status, (1, 1))
    assert not container.probe("livenessProbe")
    assert container.delete() == (0, 0), container.log
    wait_for_whole(node, container)


def test_after_a_container_was_killed_whole_the_next_one_takes_over_what_it_has_changed(node: SimpleNamespace, start: Start) -> None:
    first = started(node, start)
    first.kill()
    assert are_small(node), sizes(node)
    second = start()
    second.wait_until("running")
    assert second.delete() == (0, 0), second.log
    wait_for_whole(node, second)


def test_in_a_rolling_update_the_new_pod_takes_over_and_no_guest_grows_in_between(node: SimpleNamespace, start: Start) -> None:
    old = started(node, start)
    new = start()
    new.wait_until("waiting")
    assert new.probe("readinessProbe"), "or the old one would stay"
    assert old.delete() == (0, 0), old.log
    assert "left all changes to the waiting pod" in old.log
    assert are_small(node), sizes(node)
    new.wait_until("running")
    assert are_small(node), sizes(node)
    assert new.delete() == (0, 0), new.log
    wait_for_whole(node, new)


def test_where_both_go_at_once_what_was_left_to_the_new_one_is_put_back(node: SimpleNamespace, start: Start) -> None:
    old = started(node, start)
    new = start()
    new.wait_until("waiting")
    new.process.send_signal(signal.SIGSTOP)  # so that it waits only after the old one has checked
    assert old.delete() == (0, 0), old.log
    new.process.send_signal(signal.SIGTERM)
    new.process.send_signal(signal.SIGCONT)
    assert new.process.wait(60) == 0, new.log
    wait_for_whole(node, new)


@pytest.mark.parametrize("capability", ["SYS_PTRACE", "DAC_OVERRIDE"])
def test_without_one_of_its_capabilities_it_reaches_no_guest_and_names_what_it_lacks(
    capability: str, node: SimpleNamespace, start: Start
) -> None:
    container = start(without=[capability])
    container.wait_until("running")
    for verb in ("doctor", "status"):
        wait_until(lambda verb=verb: f"CAP_{capability}" in container.run("mom", verb).stdout, container.run("mom", verb).stdout, 20)  # type: ignore[misc]  # a lambda
    assert sizes(node) == [MIB] * len(NAMES)
