"""Metrics of the fleet."""

import time

import pytest

from mom_kvm import Destination
from mom_plugins_fleet.prometheus import metrics
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
