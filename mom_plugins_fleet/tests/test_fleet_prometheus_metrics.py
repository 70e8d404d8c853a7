"""Metrics of the fleet."""

import asyncio
import logging
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mom_kvm import Destination
from mom_plugins_fleet.prometheus import metrics, write_metrics
from mom_plugins_fleet.records import HostState, Member
from mom_plugins_fleet.verbs.status import host_rows
from mom_plugins_fleet.view import FleetView


def view_of(member: Member, port: int | None) -> FleetView:
    view = FleetView()
    view.members.records["h1"] = (1, member)
    view.states.records["h1"] = (1, HostState(mode="enforce", metrics_port=port))
    return view


@pytest.mark.parametrize(
    ("address", "port", "found"),
    [
        ("qemu+tls://h1.example.org/system", 8132, "h1.example.org:8132"),
        ("host://[2001:db8::7]", 8132, "[2001:db8::7]:8132"),
        (None, 8132, "h1:8132"),
        (None, None, None),
    ],
)
def test_a_host_is_found_at_its_operators_name_and_its_own_port(address: str | None, port: int | None, found: str | None) -> None:
    member = Member(group="g", address=None if address is None else Destination.parse(address))
    assert host_rows(view_of(member, port))[0]["metrics"] == found


def test_a_coordinator_tells_who_is_heard_and_whether_it_works() -> None:
    view = view_of(Member(group="g"), None)
    assert "mom_fleet_coordinates_until_timestamp_seconds 1800000030\n" in metrics(view, 1_800_000_030.0)
    for age, heard in ((3600, 0), (0, 1)):
        view.states.set_at["h1"] = view.states.newest = time.time() - age
        assert f'mom_fleet_host_heard{{host="h1",group="g"}} {heard}\n' in metrics(view, 0.0)
    for current in (False, True):
        for bucket in view.buckets:
            bucket.current = current
        assert f"mom_fleet_view_current {int(current)}\n" in metrics(view, 0.0)
    assert "mom_fleet_hosts 1\n" in metrics(view, 0.0)


def test_the_metrics_of_a_coordinator_go_with_it(tmp_path: Path) -> None:
    file, coordinator = tmp_path / "mom-fleet.prom", SimpleNamespace(view=view_of(Member(group="g"), None), is_active=True)

    async def work() -> None:
        writing = asyncio.create_task(write_metrics(file, cast(Any, coordinator), logging.getLogger("test")))
        while not file.exists():
            await asyncio.sleep(0.01)
        assert 'mom_fleet_host_heard{host="h1",group="g"} 0' in file.read_text()
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)

    asyncio.run(asyncio.wait_for(work(), 60))
    assert not file.exists()
