"""Guests' properties from platforms. For any answer or error, guests have few, short, well-named properties."""

import logging
from collections.abc import Mapping
from typing import Any

import pytest

from mom_core import PluginContext
from mom_kvm import GuestDescription, GuestPlatform, PlatformProperties

GUEST = GuestDescription(options={"tier": "gold"})


class Says:
    """Platform that gives every guest these properties."""

    def __init__(self, found: Any) -> None:
        self.found = found

    def properties(self, description: GuestDescription) -> Mapping[str, str]:
        assert description is GUEST
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


@pytest.mark.parametrize(
    "name", ["", "my flavor", "a=b", "*", "-x", "x" * 64, "é", "name", "uuid", "pid", "cgroups", "mem_guarantee", "sla_class"]
)
def test_a_name_that_is_none_or_is_moms_own_is_left_out_and_said_once(name: str, caplog: pytest.LogCaptureFixture) -> None:
    properties = PlatformProperties(PluginContext(name="libvirt", offers={GuestPlatform: (Says({name: "x", "flavor": "m1"}),)}))
    assert [properties.of(GUEST), properties.of(GUEST)] == [{"flavor": "m1"}] * 2
    (record,) = caplog.records
    assert (record.levelno, record.name) == (logging.WARNING, "mom.plugin.libvirt")


@pytest.mark.parametrize("wrong", [ValueError("\x1b[2Jbroken"), None])
def test_a_platform_that_fails_costs_its_own_properties_only(wrong: object, caplog: pytest.LogCaptureFixture) -> None:
    properties = PlatformProperties(PluginContext(offers={GuestPlatform: (Says(wrong), Says({"tier": "gold"}))}))
    assert [properties.of(GUEST) for _ in range(3)] == [{"tier": "gold"}] * 3
    assert len(caplog.records) == 1
    assert "\x1b" not in caplog.text
