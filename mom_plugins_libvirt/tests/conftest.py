"""Fixtures: a fake libvirtd."""

import pytest
from fake_libvirt import FakeLibvirtd


@pytest.fixture
def libvirtd() -> FakeLibvirtd:
    return FakeLibvirtd()
