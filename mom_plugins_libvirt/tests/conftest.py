"""Fixtures: a fake libvirtd, a clock that a test turns, and the plugin's hypervisor on them."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode does not; the tests share the fake

from fake_libvirt import LONG_SECONDS, FakeLibvirtd, HandClock, MakeHypervisor  # only found from here on

from mom_plugins_libvirt.connection import Connection, ConnectionSettings
from mom_plugins_libvirt.domains import SamplingSettings
from mom_plugins_libvirt.hypervisor import LibvirtHypervisor


@pytest.fixture
def libvirtd() -> FakeLibvirtd:
    return FakeLibvirtd()


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def make_hypervisor(libvirtd: FakeLibvirtd, clock: HandClock, tmp_path: Path) -> Iterator[MakeHypervisor]:
    connections: list[Connection] = []

    def make(uri: str = "fake:///system", readonly: bool = False, stale_after: float | None = None) -> LibvirtHypervisor:
        log = logging.getLogger("mom.plugin.libvirt")
        connection = Connection(ConnectionSettings(uri, readonly, call_timeout=LONG_SECONDS), log, libvirtd)
        connections.append(connection)
        sampling = SamplingSettings(stale_after, tmp_path / "pids", tmp_path / "proc", tmp_path / "sys/fs/cgroup")
        return LibvirtHypervisor(connection, sampling, log, clock.wall, clock)

    yield make
    for connection in connections:
        connection.close()


@pytest.fixture
def hypervisor(make_hypervisor: MakeHypervisor) -> LibvirtHypervisor:
    return make_hypervisor()
