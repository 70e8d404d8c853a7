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
    """A libvirtd of the tests' own, running."""
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
    """Starts guests; a test that wants them gone at its end asks for `lab`."""
    try:
        return Lab(libvirtd, build())
    except CannotBuild as error:
        not_here(f"there is no real hypervisor: {error}")


@pytest.fixture
def lab(laboratory: Lab) -> Iterator[Lab]:
    """Starts guests, and ends them with the test."""
    yield laboratory
    laboratory.destroy_all()


@pytest.fixture
def grouped(grouping: Lab) -> Iterator[Lab]:
    """Starts guests in control groups of their own, by the fixture `grouping` of the test's file, and ends them with the test."""
    yield grouping
    grouping.destroy_all()


@pytest.fixture
def make_mom(libvirtd: PrivateLibvirtd) -> Iterator[Callable[..., LibvirtMom]]:
    """The plugin libvirt with settings; it waits for a libvirt that does not hang for as long as a busy host makes it wait."""
    with ExitStack() as made:
        yield lambda **settings: made.enter_context(libvirt_mom(libvirtd, **{"call_timeout": "20s", "deadline": "60s", **settings}))


@pytest.fixture
def mom(tmp_path: Path) -> Iterator[MomRun]:
    """`mom run`, to be configured and started."""
    run = MomRun(tmp_path)
    yield run
    run.kill()


@pytest.fixture
def own_ksm() -> Iterator[Mapping[str, str]]:
    """The knobs of KSM, which is stopped and has merged nothing."""
    with stopped_ksm() as found:
        yield found
