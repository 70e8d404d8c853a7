"""Fixtures: a kernel of files with control groups, a hypervisor with limits in memory, and the plugins."""

from pathlib import Path

import pytest
from cgroup_fake import Bench, FakeKernel
from qos_fake import NotingHypervisor

from mom_core import PluginContext
from mom_plugins_host.qos import QosPlugin
from mom_plugins_host.qos.settings import QosGuestSettings, QosSettings


@pytest.fixture
def kernel(tmp_path: Path) -> FakeKernel:
    return FakeKernel(tmp_path / "root")


@pytest.fixture
def bench(kernel: FakeKernel) -> Bench:
    return Bench(kernel)


@pytest.fixture
def hypervisor() -> NotingHypervisor:
    return NotingHypervisor()


@pytest.fixture
def context(tmp_path: Path) -> PluginContext:
    nothing = QosGuestSettings()
    return PluginContext(name="qos", state_directory=tmp_path, guest_settings=lambda guest: nothing)


@pytest.fixture
def plugin(context: PluginContext) -> QosPlugin:
    return QosPlugin(QosSettings(), context)
