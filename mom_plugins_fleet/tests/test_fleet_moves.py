"""A host with an order to move a guest: its reports, from the state of the plugin that moves guests."""

import time
from collections.abc import Mapping
from dataclasses import replace

import pytest
from fake_moves import DOING, ERROR, FakeMoves

from mom_core import Condition, Decision, Entity, Outcome, PluginContext, Problem, Report, Scope, Source, Status, Value, Verdict
from mom_core.testing import snapshot
from mom_kvm import Destination, GuestMoves
from mom_plugins_fleet import FleetPlugin
from mom_plugins_fleet.host.agent import FleetAgent
from mom_plugins_fleet.host.orders import HostOrders
from mom_plugins_fleet.plugin import EMPTY_CYCLES, STILL_HERE_CYCLES
from mom_plugins_fleet.records import Move, MoveState


class AcceptedMoves(HostOrders):
    """Orders accepted by the host."""

    progress = ()

    def __init__(self, moves: Mapping[str, Move]) -> None:
        self.accepted, self.results = dict(moves), dict[str, tuple[MoveState, str]]()
        self.draining, self.balance = True, False

    def moves(self) -> dict[str, Move]:
        return {identity: move for identity, move in self.accepted.items() if identity not in self.results}

    def finish(self, guest: str, state: MoveState, error: str = "") -> None:
        self.results[guest] = (state, error)


class OrdersOnly(FleetAgent):
    """Agent without servers."""

    def __init__(self, orders: AcceptedMoves) -> None:
        self.orders, self.trouble, self.looks = orders, "", 0

    def look(self) -> None:
        self.looks += 1


class Host:
    """Plugin and its cycles, with one guest to move."""

    def __init__(self, *, mover: bool = True) -> None:
        services = {GuestMoves: (FakeMoves(),)} if mover else {}
        context = PluginContext(name="fleet", offers=services)
        self.plugin = FleetPlugin(FleetPlugin.Settings(), context)
        self.uuid = next(iter(snapshot(guests={"vm": {}}).guests))
        self.orders = AcceptedMoves(
            {self.uuid: Move(guest=self.uuid, name="vm", to="h2", destination=Destination.parse("qemu+tls://h2/system"), takes=1, number=1)}
        )
        self.plugin.agent = self.agent = OrdersOnly(self.orders)
        self.number = 0

    def cycle(
        self,
        doing: Value = "",
        error: str = "",
        *,
        there: bool = True,
        status: Status = Status.APPLIED,
        others: bool = True,
        wrong: str = "",
        unlisted: bool = False,
    ) -> list[Decision]:
        self.number += 1
        fields: dict[str, Value] = {DOING: doing, ERROR: error}
        guests: dict[str, dict[str, Value]] = {**({"vm": fields} if there else {}), **({"other": {}} if others else {})}
        seen = replace(snapshot(guests=guests), number=self.number, monotonic=time.monotonic())
        decisions = list(self.plugin.mom_act(seen))
        outcomes = [Outcome(one, None, one.value, status) for one in decisions]
        problems = [Problem(Source("sla"), wrong)] if wrong else []
        verdict = Verdict([Condition("guests", "the hypervisor does not answer", plugins=("core",))] if unlisted else [])
        self.plugin.mom_report(Report(self.number, 0.0, "enforce", seen, decisions, (), outcomes, problems, (), 0.0, verdict=verdict))
        return decisions

    @property
    def result(self) -> tuple[MoveState, str] | None:
        return self.orders.results.get(self.uuid)


@pytest.fixture
def host() -> Host:
    return Host()


def test_a_move_that_an_earlier_run_of_mom_has_begun_is_not_begun_again(host: Host) -> None:
    assert host.cycle("being moved to qemu+tls://h2/system") == []
    assert host.cycle("perhaps being moved to qemu+tls://h2/system") == []
    assert host.result is None
    host.cycle(there=False)
    assert host.result == (MoveState.DONE, "")


@pytest.mark.parametrize("balance", [False, True])
def test_what_an_earlier_run_of_mom_has_accepted_and_not_begun_is_not_done_when_the_drain_was_ended_since(
    balance: bool, host: Host
) -> None:
    host.orders.draining, host.orders.balance = False, balance
    assert host.cycle() == []
    assert host.result == (MoveState.FAILED, "guests may no longer leave the host")


def test_a_move_that_failed_is_said_with_its_reason(host: Host) -> None:
    host.cycle(error="of an earlier one")
    assert host.result is None
    host.cycle("being moved to qemu+tls://h2/system")
    host.cycle("", "not finished within 600 s; mom aborted it")
    assert host.result == (MoveState.FAILED, "not finished within 600 s; mom aborted it")


def test_a_guest_that_has_moved_may_be_listed_a_little_longer_but_not_for_ever(host: Host) -> None:
    host.cycle()
    for _ in range(STILL_HERE_CYCLES - 1):
        host.cycle()
        assert host.result is None
    host.cycle()
    assert host.result == (MoveState.FAILED, "the guest is still on the host")


@pytest.mark.parametrize("wrong", ["", "the classes stay as they were: classes.yaml:3: they make no sense"])
def test_the_last_guest_of_a_host_is_gone_when_the_hypervisor_lists_none_for_some_cycles(wrong: str, host: Host) -> None:
    host.cycle()
    for _ in range(10):
        host.cycle(there=False, others=False, unlisted=True)
    assert host.result is None
    for _ in range(EMPTY_CYCLES + 1):
        assert host.result is None
        host.cycle(there=False, others=False, wrong=wrong)
    assert host.result == (MoveState.DONE, ""), "whatever else is wrong on the host"


def test_without_a_plugin_that_moves_guests_nothing_is_decided_and_what_was_accepted_has_failed() -> None:
    host = Host(mover=False)
    assert host.cycle() == []
    assert host.result == (MoveState.FAILED, "no plugin on the host can move guests")


def test_only_the_very_move_that_the_fleet_ordered_is_the_operators(host: Host) -> None:
    (decision,) = host.cycle()
    assert host.plugin.is_ordered(decision)
    for other in (
        replace(decision, value="qemu+tls://h3/system"),
        replace(decision, control="guest_save"),
        replace(decision, source=Source("fleet", 1, 1)),
        replace(decision, source=Source("a policy")),
        replace(decision, entity=Entity(Scope.GUEST, "another", "vm")),
    ):
        assert not host.plugin.is_ordered(other)


def test_a_move_is_accepted_by_a_host_that_knows_its_guests_and_refused_by_none_before(host: Host) -> None:
    move = host.orders.accepted.pop(host.uuid)
    assert host.plugin.accepts(move) is None, "it has only just started"
    host.cycle(there=False, others=False, unlisted=True)
    assert host.plugin.accepts(move) is None, "the hypervisor does not answer"
    host.cycle()
    assert host.plugin.accepts(move) == ""
    host.cycle()


def test_a_guest_that_is_moved_already_is_not_taken_for_one_that_goes_where_the_fleet_says(host: Host) -> None:
    move = host.orders.accepted.pop(host.uuid)
    host.cycle("being moved to qemu+tls://h3/system")
    assert host.plugin.accepts(move) is None, "orders that the servers have lost, or an operator, have begun that"
    host.cycle(there=False)
    assert host.plugin.accepts(move) == "the guest is not on the host"
