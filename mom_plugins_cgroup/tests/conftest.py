"""Fixtures: a kernel of files with control groups, and the plugin on it."""

from pathlib import Path

import pytest
from cgroup_fake import Bench, FakeKernel


@pytest.fixture
def kernel(tmp_path: Path) -> FakeKernel:
    return FakeKernel(tmp_path / "root")


@pytest.fixture
def bench(kernel: FakeKernel) -> Bench:
    return Bench(kernel)
