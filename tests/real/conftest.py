"""Fixtures for tests on a real libvirtd with real guests."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
from guest_image import CannotBuild, build, cache_folder
from host_ksm import stopped_ksm
from libvirt_mom import LibvirtMom, libvirt_mom
from mom_run import MomRun
from private_libvirtd import CannotStart, PrivateLibvirtd
from real_guests import Lab, not_here


@pytest.fixture(scope="session")
def libvirtd() -> Iterator[PrivateLibvirtd]:
    """Run a private libvirtd."""
    try:
        own = PrivateLibvirtd(cache_folder())
    except CannotStart as error:
        not_here(f"there is no real hypervisor: {error}")
    try:
        own.start()
        yield own
    except CannotStart as error:
        not_here(f"there is no real hypervisor: {error}")
    finally:
        own.stop()


@pytest.fixture(scope="session")
def laboratory(libvirtd: PrivateLibvirtd) -> Lab:
    """Return a lab that starts guests. The fixture `lab` also ends them with the test."""
    try:
        return Lab(libvirtd, build())
    except CannotBuild as error:
        not_here(f"there is no real hypervisor: {error}")


@pytest.fixture
def lab(laboratory: Lab) -> Iterator[Lab]:
    """Yield a lab that starts guests. They end with the test."""
    yield laboratory
    laboratory.destroy_all()


@pytest.fixture
def grouped(grouping: Lab) -> Iterator[Lab]:
    """Yield the lab of the file's fixture `grouping`, whose guests have control groups. They end with the test."""
    yield grouping
    grouping.destroy_all()


@pytest.fixture
def make_mom(libvirtd: PrivateLibvirtd) -> Iterator[Callable[..., LibvirtMom]]:
    """Yield a function that sets up the plugin libvirt, with time limits for a busy host."""
    with ExitStack() as made:
        yield lambda **settings: made.enter_context(libvirt_mom(libvirtd, **{"call_timeout": "20s", "deadline": "60s", **settings}))


@pytest.fixture
def mom(tmp_path: Path) -> Iterator[MomRun]:
    """Yield a `mom run` that tests configure and start."""
    run = MomRun(tmp_path)
    yield run
    run.kill()


@pytest.fixture
def own_ksm() -> Iterator[Mapping[str, str]]:
    """Stop KSM, and yield its settings. It has merged nothing."""
    with stopped_ksm() as found:
        yield found
