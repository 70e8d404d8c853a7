"""Conformance tests of the plugin, on monitors of simulated guests."""

import pytest
from fake_monitors import MIB, FakeHost

from mom_devkit import ConformanceTests
from mom_plugins_qemu import QemuPlugin


class TestConformance(ConformanceTests):
    plugin = QemuPlugin
    may_touch = True

    @pytest.fixture(autouse=True)
    def _guests(self, host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
        host.add("one").reports(usable=500 * MIB)
        host.add("two", status="paused")
        host.add("three", balloon=False)
        monkeypatch.setattr(type(self), "settings", {"sockets": [f"{host.folder}/*.qmp"]})
