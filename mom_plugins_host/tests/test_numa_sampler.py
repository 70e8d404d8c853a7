"""Sampling guests' nodes: one after the other, in a thread with limits."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from numa_trees import process_tree, tree

from mom_devkit import wait_until
from mom_plugins_host.numa.sampler import NodeSampler

LOG = logging.getLogger("mom.test")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tree(tmp_path, process_tree(1000, {0: 3000, 1: 2000}), process_tree(2000, {0: 100, 1: 100}))


@pytest.fixture
def sampler(root: Path) -> Iterator[NodeSampler]:
    made = NodeSampler(root, 1.0, 1.0, lambda: {0: 0}, LOG)
    yield made
    made.end()


def seen(sampler: NodeSampler, pids: dict[str, int]) -> Sequence[str]:
    return sorted(sampler.follow(pids))


def test_a_guest_without_a_process_keeps_no_other_from_being_sampled(sampler: NodeSampler) -> None:
    pids = {"a": 4999, "b": 2000}
    wait_until(lambda: seen(sampler, pids) == ["b"])
