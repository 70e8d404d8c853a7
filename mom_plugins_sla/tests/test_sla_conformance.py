"""Conformance tests of the plugins."""

from pathlib import Path

import pytest
from moving_hypervisor import MovingHypervisor

from mom_core import Hypervisor
from mom_devkit import ConformanceTests
from mom_plugins_sla import EvictionPlugin, SlaPlugin
from mom_plugins_sla.eviction.movers.command import CommandMoverPlugin
from mom_plugins_sla.eviction.movers.ovirt import OvirtMoverPlugin
from mom_plugins_sla.eviction.movers.proxmox import ProxmoxMoverPlugin


class TestSlaConformance(ConformanceTests):
    plugin = SlaPlugin


class TestEvictionConformance(ConformanceTests):
    plugin = EvictionPlugin

    def hypervisor(self) -> Hypervisor:
        return MovingHypervisor()


class WithSecret(ConformanceTests):
    """Tests of a plugin whose settings name a file with a secret."""

    secret_in: str

    @pytest.fixture(autouse=True)
    def _settings_with_secret(self, secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(type(self), "settings", {"url": "http://127.0.0.1:1", self.secret_in: str(secret)})


class TestCommand(ConformanceTests):
    plugin = CommandMoverPlugin
    settings = {"command": ["/bin/true", "{guest}", "{host}"]}


class TestProxmox(WithSecret):
    plugin, secret_in = ProxmoxMoverPlugin, "token"


class TestOvirt(WithSecret):
    plugin, secret_in = OvirtMoverPlugin, "password"
