"""What Prometheus is told of the fleet: names are the operator's, and no host is left out silently."""

import time

import pytest

from mom_kvm import Destination
from mom_plugins_fleet.prometheus import metrics, targets
from mom_plugins_fleet.records import HostState, Member
from mom_plugins_fleet.view import FleetView


def view_of(**hosts: tuple[Member, HostState | None]) -> FleetView:
    view = FleetView()
    for name, (member, state) in hosts.items():
        view.members.records[name] = (1, member)
        if state is not None:
            view.states.records[name] = (1, state)
    return view


def told(port: int | None) -> HostState:
    return HostState(mode="enforce", metrics_port=port)


@pytest.mark.parametrize(
    ("address", "target"),
    [("qemu+tls://h1.example.org/system", "h1.example.org:8132"), ("host://[2001:db8::7]", "[2001:db8::7]:8132"), (None, "h1:8132")],
)
def test_a_host_is_found_at_its_operators_name_and_its_own_port(address: str | None, target: str) -> None:
    member = Member(group="g", address=None if address is None else Destination.parse(address))
    labels = {"host": "h1", "group": "g", "__scheme__": "https", "__metrics_path__": "/metrics"}
    assert targets(view_of(h1=(member, told(8132)))) == ([{"targets": [target], "labels": labels}], [])


def test_a_host_without_metrics_is_named_and_scraped_nowhere() -> None:
    view = view_of(h1=(Member(group="g"), told(None)), h2=(Member(group="g"), None))
    assert targets(view) == ([], ["h1", "h2"])
    told_of = metrics(view, 1_800_000_030.0)
    assert "mom_fleet_hosts 2\n" in told_of
    assert "mom_fleet_coordinates_until_timestamp_seconds 1800000030\n" in told_of


def test_a_host_that_has_gone_silent_is_still_scraped_so_that_it_is_missed() -> None:
    view = view_of(h1=(Member(group="g", address=None), told(8132)))
    view.states.set_at["h1"] = view.states.newest = time.time() - 3600
    ((found,), _) = targets(view)
    assert found["targets"] == ["h1:8132"]
    assert 'mom_fleet_host_heard{host="h1",group="g"} 0\n' in metrics(view, 0.0)
    view.states.set_at["h1"] = view.states.newest = time.time()
    assert 'mom_fleet_host_heard{host="h1",group="g"} 1\n' in metrics(view, 0.0)
    for current in (False, True):
        for bucket in view.buckets:
            bucket.current = current
        assert f"mom_fleet_view_current {int(current)}\n" in metrics(view, 0.0)
