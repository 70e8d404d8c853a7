"""What the coordinator wants next, from all that is known of the fleet: pure but for the clock in `FleetView`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from mom_plugins_fleet.placement import Leaver, TargetHost, choose, foremost
from mom_plugins_fleet.records import GuestState, Member, Move, MoveState, Orders
from mom_plugins_fleet.told_guests import leaving_order
from mom_plugins_fleet.view import FleetView

AT_ONCE: Final = 2
"""How many guests leave a host at once: a live migration fills a link of 10 Gbit/s, and a second one fills its pauses."""

ARRIVING_AT_ONCE: Final = 2
"""How many come to a host at once, for the same reason; and its mom sees what the first has taken before the next comes."""

ATTEMPTS: Final = 3
"""How often a guest is moved before the operator has to look at it."""

OPEN: Final = (MoveState.ORDERED, MoveState.ACCEPTED)


def places(view: FleetView) -> dict[str, TargetHost]:
    """The hosts that guests can come to now, with what is on its way to them already."""
    found: dict[str, TargetHost] = {}
    for name, (_, member) in view.members.records.items():
        state = view.states.get(name)
        usable = state is not None and view.is_fresh(name) and member.address is not None and not member.cordoned and not member.draining
        if state is None or not usable or state.total is None or state.available is None:
            continue
        promised = state.others_promised + sum(guest.guarantee for guest in state.guests)
        found[name] = TargetHost(name, member.group, state.total, state.available, promised=promised)
    view.forget_arrivals()
    for host, orders in view.all_ordered():
        for move in orders.moves:
            if move.state in OPEN or view.is_coming(host, move):
                _expect(found, move)
    return found


def _expect(found: dict[str, TargetHost], move: Move) -> None:
    place = found.get(move.to)
    if place is not None:
        found[move.to] = replace(place, coming=place.coming + move.takes)


def next_orders(view: FleetView, host: str, epoch: int, known: dict[str, TargetHost]) -> tuple[Orders, dict[str, str]]:
    """The orders that a host should have now, and for guests that cannot leave the reason, by name.

    Moves that are over are taken out once the guest is seen where it went to, or should have been; failed ones are tried elsewhere.
    `known` is kept up to date with what is on its way, so that several hosts can be planned one after the other.
    """
    member = view.members.get(host)
    before = view.ordered(host) or Orders()
    guests = view.guests(host)
    stuck: dict[str, str] = {}
    kept: list[Move] = []
    for move in before.moves:
        # Until the guest is seen where it went to, it counts there as coming.
        over = move.state is MoveState.DONE and not view.is_coming(host, move)
        given_up = move.state is MoveState.FAILED and (member is None or not member.draining or move.guest not in guests)
        if not over and not given_up:
            kept.append(move)
    if member is None or not member.draining:
        # What has been accepted may be under way already; what has not is taken back.
        return Orders(epoch=epoch, moves=tuple(move for move in kept if move.state is not MoveState.ORDERED)), stuck
    under_way = sum(move.state in OPEN for move in kept)
    arriving = _arriving(view)
    by_guest = {move.guest: move for move in kept}
    free, best = _free(known, arriving, member.group)
    for guest in sorted(guests.values(), key=leaving_order):
        earlier = by_guest.get(guest.id)
        if earlier is not None and earlier.state is not MoveState.FAILED:
            continue
        if guest.stays:
            stuck[guest.name] = guest.stays
            continue
        if earlier is not None and earlier.number >= ATTEMPTS:
            stuck[guest.name] = earlier.error
            continue
        if under_way >= AT_ONCE or not view.is_fresh(host):
            continue
        made = _move(view, member, guest, earlier, free, best)
        if isinstance(made, str):
            stuck[guest.name] = made
            continue
        by_guest[guest.id] = made
        arriving[made.to] = arriving.get(made.to, 0) + 1
        _expect(known, made)
        free, best = _free(known, arriving, member.group)
        under_way += 1
    return Orders(epoch=epoch, moves=tuple(by_guest.values())), stuck


def _free(
    known: Mapping[str, TargetHost], arriving: Mapping[str, int], group: str
) -> tuple[Mapping[str, TargetHost], Mapping[str, TargetHost]]:
    """The hosts to which one more guest may come, and the foremost of them."""
    free = {name: place for name, place in known.items() if arriving.get(name, 0) < ARRIVING_AT_ONCE}
    return free, foremost(free.values(), group)


def _move(
    view: FleetView,
    member: Member,
    guest: GuestState,
    earlier: Move | None,
    free: Mapping[str, TargetHost],
    best: Mapping[str, TargetHost],
) -> Move | str:
    if guest.maximum is None and guest.size is None:
        return "its size is not known"
    # With an inflated balloon it is as small there as here, but its programs may ask for the rest at any time.
    takes = guest.maximum or guest.size or 0
    leaver = Leaver(guest.id, takes, guest.guarantee)
    place = choose(leaver, best if earlier is None else free, member.group, frozenset() if earlier is None else frozenset({earlier.to}))
    if isinstance(place, str) and earlier is not None:
        place = choose(leaver, best, member.group)
    if isinstance(place, str):
        return place
    target = view.members.get(place.name)
    if target is None or target.address is None:
        return f"where {place.name} is reached is not known any more"
    number = 1 if earlier is None else earlier.number + 1
    return Move(guest=guest.id, name=guest.name, to=place.name, destination=target.address, takes=takes, number=number)


def _arriving(view: FleetView) -> dict[str, int]:
    found: dict[str, int] = {}
    for _, orders in view.all_ordered():
        for move in orders.moves:
            if move.state in OPEN:
                found[move.to] = found.get(move.to, 0) + 1
    return found
