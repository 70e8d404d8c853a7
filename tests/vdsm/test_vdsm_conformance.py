"""Conformance tests of the plugin, on a vdsm peer with guests."""

import pytest
from vdsm_peer import Vdsm

from mom_devkit import ConformanceTests
from mom_plugins_vdsm import VdsmPlugin


class TestConformance(ConformanceTests):
    plugin = VdsmPlugin

    @pytest.fixture(autouse=True)
    def _guests(self, vdsm: Vdsm, monkeypatch: pytest.MonkeyPatch) -> None:
        vdsm.add({"id": "a", "name": "one"}, {"id": "b", "name": "two", "status": "Paused"}, {"id": "c", "name": "three", "driver": False})
        monkeypatch.setattr(type(self), "settings", {"host": "127.0.0.1", "port": vdsm.port, "tls": False})
