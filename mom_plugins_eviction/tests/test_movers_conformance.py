"""The plugins against the conformance kit."""

from pathlib import Path

import pytest

from mom_devkit import ConformanceTests
from mom_plugins_eviction.movers.command import CommandMoverPlugin
from mom_plugins_eviction.movers.ovirt import OvirtMoverPlugin
from mom_plugins_eviction.movers.proxmox import ProxmoxMoverPlugin


class WithSecret(ConformanceTests):
    """One whose settings name a file with a secret, which each test has by itself."""

    @pytest.fixture(autouse=True)
    def _settings_with_secret(self, secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(type(self), "settings", self.settings_with(str(secret)))

    def settings_with(self, secret: str) -> dict[str, object]:
        raise NotImplementedError


class TestCommand(ConformanceTests):
    plugin = CommandMoverPlugin
    settings = {"command": ["/bin/true", "{guest}", "{host}"]}


class TestProxmox(WithSecret):
    plugin = ProxmoxMoverPlugin

    def settings_with(self, secret: str) -> dict[str, object]:
        return {"url": "http://127.0.0.1:1", "token": secret}


class TestOvirt(WithSecret):
    plugin = OvirtMoverPlugin

    def settings_with(self, secret: str) -> dict[str, object]:
        return {"url": "http://127.0.0.1:1", "password": secret}
