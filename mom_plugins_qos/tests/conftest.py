"""Fixtures: a hypervisor that keeps limits in memory, and the plugin."""

import pytest
from qos_fake import NotingHypervisor

from mom_core import PluginContext
from mom_plugins_qos import QosPlugin
from mom_plugins_qos.settings import QosGuestSettings, QosSettings


@pytest.fixture
def hypervisor() -> NotingHypervisor:
    return NotingHypervisor()


@pytest.fixture
def context() -> PluginContext:
    nothing = QosGuestSettings()
    return PluginContext(name="qos", guest_settings=lambda guest: nothing)


@pytest.fixture
def plugin(context: PluginContext) -> QosPlugin:
    return QosPlugin(QosSettings(), context)
