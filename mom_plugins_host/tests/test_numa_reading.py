"""Figures of nodes and processes from the kernel's files."""

from pathlib import Path

import pytest
from numa_trees import GIB, nodes_tree, process_tree, tree

from mom_plugins_host.numa.nodes import cpus_to_nodes, node_fields, read_nodes
from mom_plugins_host.numa.sampler import take_sample


def test_nodes_are_read_with_memory_cpus_and_distances(tmp_path: Path) -> None:
    root = tree(tmp_path, nodes_tree(free=(10 * GIB, 30 * GIB), cache=4 * GIB))
    nodes = read_nodes(root)
    assert [(node.number, node.total, node.free, node.available) for node in nodes] == [
        (0, 64 * GIB, 10 * GIB, 12 * GIB),
        (1, 64 * GIB, 30 * GIB, 32 * GIB),
    ]
    assert nodes[1].distances == [21, 10]
    assert cpus_to_nodes(nodes) == {0: 0, 1: 0, 2: 0, 3: 0, 4: 1, 5: 1, 6: 1, 7: 1}
    fields = node_fields(nodes)
    assert fields["numa_node_count"] == 2
    assert fields["numa_imbalance"] == pytest.approx(100 * 20 / 64, abs=0.01)
    assert fields["numa_available_least"] == 12 * GIB


@pytest.mark.parametrize("damaged", ["", "Node 1 MemTotal: x kB\n", "\0\xff"])
def test_a_node_that_cannot_be_read_is_left_out(tmp_path: Path, damaged: str) -> None:
    files = nodes_tree()
    files["sys/devices/system/node/node1/meminfo"] = damaged
    assert [node.number for node in read_nodes(tree(tmp_path, files))] == [0]


def test_a_sample_tells_where_cpu_time_is_spent_since_the_one_before(tmp_path: Path) -> None:
    nodes_of = {cpu: cpu // 4 for cpu in range(8)}
    root = tree(tmp_path, process_tree(1000, {0: 30, 1: 10}, [(0, 100), (4, 100)]))
    process = root / "proc/1000"
    first = take_sample(process, nodes_of, None, 10.0)
    assert first is not None
    assert first.fields["numa_memory"] == [{"node": 0, "size": 120}, {"node": 1, "size": 44}]
    assert first.cpus == {0: 0.5, 1: 0.5}
    tree(tmp_path, process_tree(1000, {0: 30, 1: 10}, [(0, 1100), (4, 100)]))
    second = take_sample(process, nodes_of, first, 20.0)
    assert second is not None
    assert second.cpus == {0: 0.75, 1: 0.25}, "half of what was seen now, half of what was seen before"


def test_another_process_of_the_same_number_begins_anew(tmp_path: Path) -> None:
    nodes_of = {0: 0, 4: 1}
    root = tree(tmp_path, process_tree(1000, {0: 30}, [(0, 5000)]))
    first = take_sample(root / "proc/1000", nodes_of, None, 10.0)
    tree(tmp_path, process_tree(1000, {0: 30}, [(4, 9000)], started=9999))
    second = take_sample(root / "proc/1000", nodes_of, first, 20.0)
    assert second is not None
    assert second.cpus == {1: 1.0}


def test_a_process_that_is_gone_is_no_sample_and_what_may_not_be_read_is_unknown(tmp_path: Path) -> None:
    assert take_sample(tmp_path / "proc/1000", {}, None, 1.0) is None
    root = tree(tmp_path, process_tree(1000, {0: 30}))
    (root / "proc/1000/numa_maps").unlink()
    sample = take_sample(root / "proc/1000", {}, None, 1.0)
    assert sample is not None
    assert not {"numa_memory", "numa_node", "numa_remote"} & sample.fields.keys()
