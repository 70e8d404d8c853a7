"""Sampling where guests are: in turn, in a bounded thread."""

import logging
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from numa_trees import process_tree, tree

from mom_devkit import wait_until
from mom_plugins_host.numa.sampler import NodeSampler, Process

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


def test_a_guest_that_goes_while_it_is_sampled_leaves_nothing(sampler: NodeSampler, monkeypatch: pytest.MonkeyPatch) -> None:
    sampled: list[str] = []

    def goes(process: Process, *_: object) -> None:
        sampled.append(str(process.folder))
        sampler.follow({f"later{len(sampled)}": 2000})

    monkeypatch.setattr("mom_plugins_host.numa.sampler.take_sample", goes)
    sampler.follow({"first": 1000})
    wait_until(lambda: len(sampled) >= 5)
    monkeypatch.undo()
    wait_until(lambda: seen(sampler, {"a": 1000}) == ["a"])


def test_where_no_thread_can_be_started_once_guests_are_sampled_later(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    sampler, ended = (NodeSampler(root, 1.0, 1.0, lambda: {0: 0}, LOG) for _ in range(2))
    with monkeypatch.context() as without_threads:
        without_threads.setattr(threading.Thread, "start", start)
        for one in (sampler, ended):
            with pytest.raises(RuntimeError):
                one.follow({"a": 1000})
    ended.end()
    try:
        wait_until(lambda: seen(sampler, {"a": 1000}) == ["a"])
    finally:
        sampler.end()


def test_a_guest_without_a_process_keeps_no_other_from_being_sampled(sampler: NodeSampler) -> None:
    pids = {"a": 4999, "b": 2000}
    wait_until(lambda: seen(sampler, pids) == ["b"])
