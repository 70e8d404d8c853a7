"""The plugin on hosts of files."""

from collections.abc import Callable, Iterator, Mapping
from itertools import count
from pathlib import Path

import pytest
from numa_trees import GIB, nodes_tree, process_tree, tree

from mom_core import PluginContext, Value
from mom_devkit import FakeGuest, FakeHypervisor, wait_until
from mom_kvm import NodeTune
from mom_plugins_host.numa import NumaPlugin
from mom_plugins_host.numa.nodes import FIELDS

VCPUS = [(1, 500), (6, 500)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tree(tmp_path / "root", nodes_tree(free=(10 * GIB, 30 * GIB)), process_tree(1000, {0: 3000, 1: 999}, VCPUS))


@pytest.fixture
def hypervisor() -> FakeHypervisor:
    every = frozenset(range(8))
    seen = FakeGuest("seen", id="seen", pins=[every, every], nodes=NodeTune("strict", frozenset()), properties={"pid": 1000})
    return FakeHypervisor([seen, FakeGuest("away", id="away", pins=[frozenset({0}), frozenset({4})])])


@pytest.fixture
def make(tmp_path: Path, root: Path) -> Iterator[Callable[..., NumaPlugin]]:
    made: list[NumaPlugin] = []
    seconds = count(105.0, 5.0)

    def plugin(**settings: object) -> NumaPlugin:
        context = PluginContext(name="numa", root=root, state_directory=tmp_path / "state", monotonic=lambda: next(seconds))
        made.append(NumaPlugin(NumaPlugin.Settings.model_validate(settings), context))
        return made[-1]

    yield plugin
    for one in made:
        one.mom_teardown()


def looked(plugin: NumaPlugin, hypervisor: FakeHypervisor, name: str = "seen") -> Mapping[str, Value]:
    """Wait until the guest was sampled. Return its fields."""

    def fields() -> Mapping[str, Value] | None:
        seen = plugin.mom_collect_guests(hypervisor, hypervisor.guests())[name]
        return seen if "numa_memory_age" in seen else None

    return wait_until(fields)


def test_a_guest_is_seen_with_memory_vcpus_and_remote_share(make: Callable[..., NumaPlugin], hypervisor: FakeHypervisor) -> None:
    plugin = make()
    plugin.mom_collect_host()
    assert "numa_memory" not in plugin.mom_collect_guests(hypervisor, hypervisor.guests())["seen"], "nobody has looked yet"
    fields = looked(plugin, hypervisor)
    assert fields["numa_memory"] == [{"node": 0, "size": 12_000}, {"node": 1, "size": 4000}], "one page is the stack's"
    assert fields["numa_node"] == 0
    assert fields["numa_cpus"] == [{"node": 0, "share": 0.5}, {"node": 1, "share": 0.5}]
    assert fields["numa_remote"] == 0.5
    assert (fields["vcpu_pins"], fields["numa_nodeset"]) == ("0-7", "0-1")
    assert fields.keys() <= {spec.name for spec in FIELDS}


def test_doctor_tells_nodes_and_guests(make: Callable[..., NumaPlugin], hypervisor: FakeHypervisor, root: Path) -> None:
    def messages() -> list[str]:
        return [finding.message for finding in make().mom_doctor(hypervisor)]

    said = messages()
    assert "node 1: CPUs 4-7, 30.00 GiB of 64.00 GiB available" in said
    assert any("guests away have no process" in message for message in said)
    (root / "proc/1000/numa_maps").unlink()
    assert "/proc/PID/numa_maps cannot be read for guests seen" in messages()
    assert any("no hypervisor" in finding.message for finding in make().mom_doctor(None))


def test_the_doctor_of_a_host_with_one_node_says_that_there_is_nothing_to_do(tmp_path: Path) -> None:
    context = PluginContext(root=tree(tmp_path, nodes_tree(1)))
    messages = [finding.message for finding in NumaPlugin(NumaPlugin.Settings(), context).mom_doctor(FakeHypervisor([]))]
    assert "the host has one NUMA node: nothing to do" in messages
