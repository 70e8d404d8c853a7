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


H1 = Destination.parse("qemu+tls://h1.example.org/system")


def test_a_host_is_found_at_its_operators_name_and_its_own_port() -> None:
    found = targets(view_of(h1=(Member(group="g", address=H1, draining=True, cordoned=True), told(8132))))
    labels = {
        "host": "h1", "group": "g", "__scheme__": "https", "__metrics_path__": "/metrics", "__meta_mom_cordoned": "true",
        "__meta_mom_draining": "true",
    }  # fmt: skip
    assert found == [{"targets": ["h1.example.org:8132"], "labels": labels}]


@pytest.mark.parametrize(
    ("name", "target"),
    [("metrics.h1.example.org", "metrics.h1.example.org:1"), ("2001:db8::7", "[2001:db8::7]:1"), ("192.0.2.7", "192.0.2.7:1")],
)
def test_a_host_is_found_by_the_name_that_it_has_for_prometheus_where_it_has_one(name: str, target: str) -> None:
    (found,) = targets(view_of(h1=(Member(group="g", address=H1, metrics_host=name), told(1))))
    assert found["targets"] == [target]


@pytest.mark.parametrize("name", ["", "h1:80", "h1/x", "h1 x", "user@h1", "H1", "h1\n", "[::1]", "0x7f000001..", "1.2.3"])
def test_what_no_host_can_be_called_is_no_name_for_prometheus(name: str) -> None:
    with pytest.raises(ValueError, match="metrics_host"):
        Member(group="g", metrics_host=name)


def test_a_host_without_metrics_is_named_with_the_reason_and_scraped_nowhere() -> None:
    view = view_of(
        h1=(Member(group="g", address=H1), told(None)),
        h2=(Member(group="g", address=H1), None),
        h3=(Member(group="g"), told(8132)),
        h4=(Member(group="g", address=H1), None),
    )
    view.states.damaged["h4"] = "nonsense"
    view.members.damaged["h5"] = "it is not signed"
    found = targets(view)
    assert [one["targets"] for one in found] == [[]] * 5
    whys = {one["labels"]["host"]: one["labels"]["__meta_mom_why"] for one in found}
    for host, why in (("h1", "`tcp`"), ("h2", "not reported yet"), ("h3", "--metrics-host"), ("h4", "nonsense"), ("h5", "not signed")):
        assert why in whys[host]
    told_of = metrics(view, 1_800_000_030.0)
    assert 'mom_fleet_host_without_metrics{host="h3",group="g",why="it is enrolled without an address' in told_of
    assert "mom_fleet_hosts 5\n" in told_of
    assert "mom_fleet_coordinates_until_timestamp_seconds 1800000030\n" in told_of


def test_a_host_that_has_gone_silent_is_still_scraped_so_that_it_is_missed() -> None:
    view = view_of(h1=(Member(group="g", address=H1), told(8132)))
    view.states.set_at["h1"] = view.states.newest = time.time() - 3600
    (found,) = targets(view)
    assert found["targets"] == ["h1.example.org:8132"]
    assert 'mom_fleet_host_heard{host="h1",group="g"} 0\n' in metrics(view, 0.0)
    view.states.set_at["h1"] = view.states.newest = time.time()
    assert 'mom_fleet_host_heard{host="h1",group="g"} 1\n' in metrics(view, 0.0)
    for current in (False, True):
        for bucket in view.buckets:
            bucket.current = current
        assert f"mom_fleet_view_current {int(current)}\n" in metrics(view, 0.0)
