"""Destinations and order of moves: pure decisions for example fleets."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_fleet_placement import GIB, Fleet, guest, ordered

from mom_kvm import Destination
from mom_plugins_fleet.coordinator.plan import (
    ARRIVING_AT_ONCE,
    AT_ONCE,
    ATTEMPTS,
    LOST_SECONDS,
    RESERVE_SHARE,
    TargetHost,
    choose,
    next_orders,
    places,
    rank,
)
from mom_plugins_fleet.records import HostedGuest, Move, MoveState, OrderProgress, Orders
from mom_plugins_fleet.view import ARRIVES_SECONDS, SILENT_SECONDS, FleetView

_PLACES = st.dictionaries(
    st.sampled_from("abcdef"),
    st.builds(
        TargetHost,
        name=st.just(""),
        group=st.sampled_from(["g", "other"]),
        total=st.integers(GIB, 64 * GIB),
        available=st.integers(0, 64 * GIB),
        coming=st.integers(0, 8 * GIB),
        promised=st.integers(0, 64 * GIB),
        within=st.sampled_from(["", "c1"]),
    ),
)


def by_name(drawn: dict[str, TargetHost]) -> dict[str, TargetHost]:
    return {name: replace(place, name=name) for name, place in drawn.items()}


@given(
    _PLACES, st.integers(1, 16 * GIB), st.integers(0, 16 * GIB), st.frozensets(st.sampled_from("abcdef")), st.sampled_from(["", "c1", "c2"])
)
def test_a_guest_goes_only_where_it_fits_and_its_promise_can_be_kept(drawn, takes, guarantee, avoid, within):
    known = by_name(drawn)
    chosen = choose(max(takes, guarantee), guarantee, rank(known.values(), "g", within), "g", avoid, within)
    reached = [p for p in known.values() if p.group == "g" and p.name not in avoid and (not within or p.within == within)]
    fits = [p for p in reached if p.promised + guarantee <= p.total and p.room >= max(takes, guarantee)]
    if isinstance(chosen, str):
        assert not fits
        assert chosen
    else:
        assert chosen in fits
        assert chosen.room == max(p.room for p in fits)
        assert chosen.available - chosen.coming - takes >= min(16 * GIB, int(RESERVE_SHARE * chosen.total))


def _view(hosts: Mapping[str, Iterable[HostedGuest]], *, draining: Iterable[str] = ()) -> Fleet:
    fleet = Fleet()
    for name, guests in hosts.items():
        fleet.host(name, guests, draining=name in draining)
    return fleet


def _orders(view: FleetView, host: str) -> tuple[Orders, dict[str, str]]:
    return next_orders(view, host, 7, places(view))


def test_a_drained_host_loses_a_few_guests_at_a_time():
    view = _view({"a": [guest(str(n)) for n in range(5)], "b": [], "c": []}, draining=["a"])
    orders, stuck = _orders(view, "a")
    assert len(orders.moves) == AT_ONCE
    assert not stuck
    assert orders.epoch == 7
    view.orders.records["a"] = (2, orders)
    assert _orders(view, "a")[0] == orders


def test_no_host_gets_more_than_a_few_at_a_time():
    view = _view({"a": [guest("1"), guest("2")], "b": [guest("3"), guest("4")], "c": []}, draining=["a", "b"])
    known = places(view)
    for host in ("a", "b"):
        view.orders.records[host] = (1, next_orders(view, host, 7, known)[0])
    moves = [move for _, orders in view.orders.records.values() for move in orders.moves]
    assert [move.to for move in moves] == ["c"] * ARRIVING_AT_ONCE


def test_a_host_that_is_silent_gets_no_guests_and_is_told_nothing():
    view = _view({"a": [guest("1")], "b": []}, draining=["a"])
    view.states.set_at["a"] -= SILENT_SECONDS + 1
    assert not _orders(view, "a")[0].moves
    assert set(places(view)) == {"b"}
    view.states.set_at["b"] = view.states.set_at["a"]
    assert not places(view)


def _with_move(state: MoveState, number: int = 1) -> Fleet:
    view = _view({"a": [guest("1")], "b": [], "c": []}, draining=["a"])
    move = Move(
        guest="id-1",
        name="1",
        to="b",
        destination=Destination.parse("qemu://b/system"),
        takes=2 * GIB,
        number=number,
        state=state,
        error="no",
    )
    view.orders.records["a"] = (1, ordered(move))
    return view


def test_a_move_that_failed_is_tried_elsewhere_but_not_for_ever():
    orders, stuck = _orders(_with_move(MoveState.FAILED), "a")
    assert [(move.to, move.number, move.state) for move in orders.moves] == [("c", 2, MoveState.ORDERED)]
    orders, stuck = _orders(_with_move(MoveState.FAILED, ATTEMPTS), "a")
    assert stuck == {"1": "no"}


@pytest.mark.parametrize(
    ("state", "age", "left"),
    [
        (MoveState.ACCEPTED, LOST_SECONDS + 1, 1),
        (MoveState.ORDERED, 10, 1),  # perhaps accepted, but the host lost its connection before it could report it
        (MoveState.ORDERED, LOST_SECONDS + 1, 0),
        (MoveState.FAILED, 10, 0),
    ],
)
def test_what_may_be_under_way_is_not_taken_back_when_the_drain_ends(state, age, left):
    view = _with_move(state)
    (move,) = view.orders.records["a"][1].moves
    move = move.model_copy(update={"order": int(time.time() - age)})
    view.orders.records["a"] = (1, Orders(epoch=3, moves=(move,)))
    view.host("a", view.guests("a").values())
    assert len(_orders(view, "a")[0].moves) == left
    assert places(view)["b"].coming == (2 * GIB if state is not MoveState.FAILED else 0)


def test_a_guest_that_has_left_counts_where_it_goes_until_it_is_seen_there_or_would_have_been():
    view = _with_move(MoveState.DONE)
    view.host("a", draining=True)
    assert not _orders(view, "a")[0].moves
    assert places(view)["b"].coming == 2 * GIB
    view.host("b", [guest("1")], available=30)
    assert places(view)["b"].coming == 0
    view.host("b")
    view.states.set_at["b"] += ARRIVES_SECONDS - 1
    assert places(view)["b"].coming == 2 * GIB, "its new host may not have seen it yet"
    view.states.set_at["b"] += 2
    assert places(view)["b"].coming == 0, "it has ended there"


def test_a_guest_that_has_left_is_not_moved_again_before_its_old_host_tells_of_it_no_more():
    view = _with_move(MoveState.DONE)
    view.host("b", [guest("1")], available=30)
    view.states.set_at["c"] += ARRIVES_SECONDS + 1
    assert not _orders(view, "a")[0].moves, "its host has told nothing since"
    view.states.set_at["a"] += ARRIVES_SECONDS + 1
    assert [(move.to, move.state) for move in _orders(view, "a")[0].moves] == [("c", MoveState.ORDERED)], "it has come back"


def test_what_a_host_has_done_is_finished_with_the_time_of_its_report():
    view = _with_move(MoveState.ORDERED)
    view.host("a", draining=True)
    done = {"moves": (OrderProgress("id-1", 0, MoveState.DONE),)}
    view.states.records["a"] = (2, view.states.records["a"][1].model_copy(update=done))
    orders = _orders(view, "a")[0]
    assert orders.moves == ()
    assert [(move.guest, move.to, move.at) for move in orders.finished] == [("id-1", "b", view.states.set_at["a"])]
