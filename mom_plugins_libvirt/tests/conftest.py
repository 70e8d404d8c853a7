"""Fixtures: a fake libvirtd, a clock, and a hypervisor."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from fake_libvirt import FakeGuest, FakeLibvirtd, MakeHypervisor, hypervisor_on

from mom_devkit import HandClock
from mom_plugins_libvirt.hypervisor import LibvirtHypervisor


@pytest.fixture
def libvirtd() -> FakeLibvirtd:
    return FakeLibvirtd()


@pytest.fixture
def guest(libvirtd: FakeLibvirtd) -> FakeGuest:
    return libvirtd.add("g")


@pytest.fixture
def clock() -> HandClock:
    return HandClock(100.0)


@pytest.fixture
def make_hypervisor(libvirtd: FakeLibvirtd, clock: HandClock, tmp_path: Path) -> Iterator[MakeHypervisor]:
    with ExitStack() as made:
        yield lambda *uri, **settings: made.enter_context(hypervisor_on(libvirtd, clock, tmp_path, *uri, **settings))


@pytest.fixture
def hypervisor(make_hypervisor: MakeHypervisor) -> LibvirtHypervisor:
    return make_hypervisor()
