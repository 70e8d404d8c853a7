"""Fixtures: monitors of simulated guests, a clock, and the plugin's hypervisor."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from fake_monitors import FakeGuest, FakeHost

from mom_devkit import HandClock
from mom_plugins_qemu.hypervisor import QemuHypervisor


@pytest.fixture
def clock() -> HandClock:
    return HandClock(100.0)


@pytest.fixture
def host() -> Iterator[FakeHost]:
    with TemporaryDirectory(prefix="qmp-") as folder:  # paths of sockets have at most 107 bytes
        made = FakeHost(Path(folder))
        yield made
        made.close()


@pytest.fixture
def guest(host: FakeHost) -> FakeGuest:
    return host.add("web")


@pytest.fixture
def hypervisor(host: FakeHost, clock: HandClock) -> QemuHypervisor:
    return host.hypervisor(wall=clock.wall)
