"""Fixtures: a kernel of files with control groups, and the plugin on it."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode does not; the tests share the fake

from cgroup_fake import Bench, FakeKernel  # only found from here on


@pytest.fixture
def kernel(tmp_path: Path) -> FakeKernel:
    return FakeKernel(tmp_path / "root")


@pytest.fixture
def bench(kernel: FakeKernel) -> Bench:
    return Bench(kernel)
