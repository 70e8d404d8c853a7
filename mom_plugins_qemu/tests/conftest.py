"""Fixtures: monitors of guests that are none, a clock that a test turns, and the plugin's hypervisor on them."""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode does not; the tests share the fake

from fake_monitors import FakeGuest, FakeHost, HandClock  # only found from here on

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
