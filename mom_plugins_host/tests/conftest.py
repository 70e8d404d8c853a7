"""Fixtures: a hypervisor that keeps limits in memory, and the plugin."""

from pathlib import Path

import pytest
from qos_fake import NotingHypervisor

from mom_core import PluginContext
from mom_plugins_qos import QosPlugin
from mom_plugins_qos.settings import QosGuestSettings, QosSettings


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
