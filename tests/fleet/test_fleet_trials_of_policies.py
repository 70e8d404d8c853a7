"""A policy on some hosts of a real fleet first: it goes on to all, or comes back, whatever becomes of coordinators."""

import json
from typing import Any

import pytest
from fleet_world import FleetWorld

HOSTS = ("h1", "h2", "h3")
HARMLESS = "(defvar fleet_reserve 30)\n(+ fleet_reserve 1)\n"
FAILS = "(with Guests guest (/ 1 (- guest.balloon_cur guest.balloon_cur)))\n"


@pytest.fixture(scope="module")
def hosts(fleet: FleetWorld) -> FleetWorld:
    for number, host in enumerate(HOSTS):
        fleet.enroll(host)
        fleet.start_host(host, number + 1)
    fleet.until(lambda: [row["guests"] for row in fleet.status()["hosts"]] == [3, 3, 3], "all hosts have told")
    return fleet


def policies_on(fleet: FleetWorld, host: str) -> dict[str, str]:
    """The fleet's policies that are in force there, by that host's state."""
    kept = json.loads((fleet.folder / host / "state" / "fleet" / "group.json").read_text())["content"]["signed"]
    found: dict[str, str] = json.loads(kept.partition("\n")[2]).get("policies", {})
    return found


def have_coordinator(fleet: FleetWorld, name: str) -> None:
    """One works, whichever tests ran in this process before."""
    if name not in fleet.processes:
        fleet.start_coordinator(name)
    fleet.until(lambda: fleet.status()["coordinator"], "one works")


def trial(fleet: FleetWorld) -> Any:
    return json.loads(fleet.fleet("policy", "canary", "g1", "--json"))


def test_what_hosts_do_not_have_is_warned_of_before_anything_is_set(hosts: FleetWorld):
    file = hosts.folder / "b.policy"
    file.write_text('(with Guests guest (guest.Control "no_such_control" 3))\n')
    said = hosts.fleet("policy", "set", "g1", "60_fleet_b", str(file), "--check")
    assert "no plugin has the control no_such_control" in said
    assert "on h1, h2" in said
    assert "It could be set, as 3 of 3 hosts say." in said
    file.write_text("(with Guests guest (+ 1 guest.no_such_field))\n")
    code, said = hosts.tried("policy", "set", "g1", "60_fleet_b", str(file), "--canary", "50%")
    assert (code, "it is set nowhere" in said) == (1, True)
    assert json.loads(hosts.fleet("policy", "show", "g1", "--json"))["policies"] == {}


def test_where_hosts_refuse_what_their_group_has_now_nothing_could_be_set_but_what_mends_it(hosts: FleetWorld):
    bad, good = hosts.folder / "bad.policy", hosts.folder / "good.policy"
    bad.write_text("(no_such_function 3)\n")
    good.write_text(HARMLESS)
    hosts.fleet("policy", "set", "g1", "60_fleet_bad", str(bad))
    hosts.until(lambda: [row["policies"] for row in hosts.status()["hosts"]] == ["refused"] * 3, "no host takes it")
    assert "hosts cannot use it" in hosts.refused("policy", "set", "g1", "60_fleet_good", str(good), "--check")
    assert "no host of the group g1 can try anything now" in hosts.refused(
        "policy", "set", "g1", "60_fleet_good", str(good), "--canary", "50%"
    )
    assert "could be set, as 3 of 3" in hosts.fleet("policy", "set", "g1", "60_fleet_bad", str(good), "--check")
    hosts.fleet("policy", "remove", "g1", "60_fleet_bad")
    hosts.until(lambda: [row["policies"] for row in hosts.status()["hosts"]] == ["newest"] * 3, "it is mended")


def test_it_goes_on_to_all_hosts_though_the_coordinator_dies_meanwhile(hosts: FleetWorld):
    have_coordinator(hosts, "c1")
    file = hosts.folder / "a.policy"
    file.write_text(HARMLESS)
    said = hosts.fleet("policy", "set", "g1", "60_fleet_a", str(file), "--canary", "30%", "--for", "15s")
    (on,) = trial(hosts)["trial"]["on"]
    assert f"60_fleet_a is tried on {on} until" in said
    assert "is being tried on 1 hosts" in hosts.refused("policy", "remove", "g1", "60_fleet_a")
    hosts.kill("c1")
    hosts.until(lambda: trial(hosts)["hosts"].get(on, {}).get("state") == "promoted", "it went well there")
    assert {host: "60_fleet_a" in policies_on(hosts, host) for host in HOSTS} == dict.fromkeys(HOSTS, False), "it is the host's own"
    hosts.start_coordinator("c2")
    hosts.until(lambda: all("60_fleet_a" in policies_on(hosts, host) for host in HOSTS), "it is in force on all")
    hosts.until(lambda: [row["policies"] for row in hosts.status()["hosts"]] == ["newest"] * 3, "and they say so")
    assert "after a trial on" in hosts.fleet("policy", "show", "g1")
    hosts.fleet("policy", "remove", "g1", "60_fleet_a")


def test_what_fails_on_one_host_is_taken_back_everywhere(hosts: FleetWorld):
    have_coordinator(hosts, "c2")
    file = hosts.folder / "c.policy"
    file.write_text(FAILS)
    hosts.fleet("policy", "set", "g1", "60_fleet_c", str(file), "--canary", "100%", "--for", "1h")
    assert hosts.tried("policy", "canary", "g1", "--wait")[0] == 1
    assert trial(hosts)["trial"] is None, "a coordinator has ended it"
    assert "60_fleet_c" not in json.loads(hosts.fleet("policy", "show", "g1", "--json"))["policies"]
    said = hosts.fleet("policy", "canary", "g1")
    assert "as before 60_fleet_c was tried" in said
    assert "it fails: " in said, "and why is still known"
    hosts.until(lambda: [row["policies"] for row in hosts.status()["hosts"]] == ["newest"] * 3, "no host tries it any more")


def test_an_operator_ends_it_for_all_or_for_none(hosts: FleetWorld):
    file = hosts.folder / "d.policy"
    file.write_text(HARMLESS)
    for end, there in (("--abort", False), ("--promote", True)):
        hosts.fleet("policy", "set", "g1", "60_fleet_d", str(file), "--canary", "50%")
        hosts.fleet("policy", "canary", "g1", end)
        are = [there] * len(HOSTS)
        hosts.until(lambda are=are: ["60_fleet_d" in policies_on(hosts, host) for host in HOSTS] == are, end)  # type: ignore[misc]  # bound now
    assert "nothing is tried" in hosts.refused("policy", "canary", "g1", "--abort")


def test_where_no_coordinator_works_the_operator_who_waits_has_it_go_on(hosts: FleetWorld):
    for name in hosts.processes.keys() & {"c1", "c2"}:  # as tests before this one may have left
        hosts.kill(name)
    file = hosts.folder / "e.policy"
    file.write_text(HARMLESS.replace("30", "40"))
    hosts.until(lambda: not hosts.status()["coordinator"], "none works")
    said = hosts.fleet("policy", "set", "g1", "60_fleet_e", str(file), "--canary", "50%", "--for", "12s")
    assert "No coordinator works" in said
    hosts.fleet("policy", "canary", "g1", "--wait")
    hosts.until(lambda: all("60_fleet_e" in policies_on(hosts, host) for host in HOSTS), "it is in force on all")
