"""Fixtures: monitors of guests that are none, a clock that a test turns, and the plugin's hypervisor on them."""

import logging
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from fake_monitors import FakeGuest, FakeHost, HandClock

from mom_core import Clock
from mom_plugins_qemu.hypervisor import QemuHypervisor
from mom_plugins_qemu.sampler import QemuHypervisorSettings


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def host() -> Iterator[FakeHost]:
    with TemporaryDirectory(prefix="qmp-") as folder:  # the path of a socket has 107 bytes at most
        made = FakeHost(Path(folder))
        yield made
        made.close()


@pytest.fixture
def guest(host: FakeHost) -> FakeGuest:
    return host.add("web")


@pytest.fixture
def hypervisor(host: FakeHost, clock: HandClock) -> QemuHypervisor:
    settings = QemuHypervisorSettings(Path("/"), [f"{host.folder}/*.qmp"])
    return QemuHypervisor(settings, logging.getLogger("mom.plugin.qemu"), Clock(wall=clock.wall))
