"""The coordinator's next orders, from all that is known of the fleet: pure but for the clock in `FleetView`."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Final

from mom_kvm import Destination
from mom_plugins_fleet.coordinator.placement import TargetHost, choose, foremost, leaving_order
from mom_plugins_fleet.records import MOST_TOLD, Arrival, HostedGuest, HostState, Move, MoverState, MoveState, Orders
from mom_plugins_fleet.view import SETTLES_SECONDS, FleetView

AT_ONCE: Final = 2
"""How many guests leave a host at once: a live migration fills a link of 10 Gbit/s, and a second one fills its pauses."""

ARRIVING_AT_ONCE: Final = 2
"""How many come to a host at once, for the same reason; and its mom sees what the first has taken before the next comes."""

ATTEMPTS: Final = 3
"""How often a guest is moved before the operator has to look at it."""

BOOKS_SECONDS: Final = 86_400.0
"""For so long a guest that was moved to a host counts there by the fleet's own books, or until another host tells of it: what the host
itself tells of it, or that it has ended, may be a lie that is to attract more."""

BALANCE_BAND: Final = 0.15
"""Hosts whose guests work on shares of their memory that differ by less than that are near balance: to move a guest costs more than it
brings, and what one move evens out the next load turns round."""

BALANCE_FULL: Final = 0.70
"""While guests work on less than this share of every host's memory, none of them would be better off elsewhere."""

LOST_SECONDS: Final = 900.0
"""A host that has told nothing for so long, by the servers' clock, moves guests no more: a move is given up after 600 s, unless a host is
told otherwise. The memory for them is kept: it may be back. Nor does one that has not accepted a move for so long."""

OPEN: Final = (MoveState.ORDERED, MoveState.ACCEPTED)


def places(view: FleetView) -> dict[str, TargetHost]:
    """The hosts that guests can come to now, with what is on its way to them already."""
    looked = {name: place_of(view, name) for name in view.members.records}
    found = {name: place for name, place in looked.items() if isinstance(place, TargetHost)}
    view.forget_arrivals()
    lost_hosts = _lost(view)
    booked: list[tuple[str, str, int]] = []
    for host, orders in view.all_ordered():
        if host not in view.members.records and host not in view.members.damaged:
            continue  # it was removed, and what is left of it keeps no room
        lost = host in lost_hosts
        for move in orders.moves:
            if move.state in OPEN or view.is_coming(host, move):
                there = view.guests(move.to).get(move.guest)
                leaves = host if _may_go(move) and not lost else ""
                _expect(found, move, leaves, told=0 if there is None else there.guarantee)
            elif move.state is MoveState.DONE:  # it has just come, and is not in the books yet
                booked.append((move.guest, move.to, move.takes))
                if view.is_settling(host, move):
                    _settle(found, move)
        for one in orders.arrivals:
            if 0 <= time.time() - one.at < SETTLES_SECONDS and one.guest in view.guests(one.to):
                _settle(found, one)
        booked += [(one.guest, one.to, one.takes) for one in orders.arrivals if time.time() - one.at < BOOKS_SECONDS]
    booked = [one for one in booked if (place := found.get(one[1])) is not None and place.said is not None]
    seen = _where_guests_are(view) if booked else {}
    for guest, to, takes in booked:
        if seen.get(guest, set()) <= {to}:
            found[to] = replace(found[to], arrived=found[to].arrived + takes)
    return found


def _lost(view: FleetView) -> Collection[str]:
    """The hosts that have told nothing for `LOST_SECONDS`."""
    newest = view.newest
    hosts = {*view.members.records, *view.orders.records}
    return {host for host in hosts if newest - view.states.set_at.get(host, 0.0) > LOST_SECONDS}


def _may_go(move: Move) -> bool:
    """True for a move that is not over, unless its host has not even accepted it for `LOST_SECONDS`, as one that follows no orders."""
    return move.state in OPEN and not _is_unanswered(move)


def _is_unanswered(move: Move) -> bool:
    return move.state is MoveState.ORDERED and 0 < move.order < time.time() - LOST_SECONDS


def place_of(view: FleetView, name: str) -> TargetHost | str:
    """A host as one that guests can come to, without what is on its way to it; or why none can."""
    member, state = view.members.get(name), view.states.get(name)
    if member is None:
        return "it is not in the fleet"
    if member.address is None:
        return "no address is known at which guests come to it: `mom fleet enroll` says one"
    if member.draining or member.cordoned:
        return "it is being drained" if member.draining else "it is cordoned"
    if state is None or not view.is_fresh(name):
        return "it is silent"
    if state.total is None or state.available is None:
        return "how much memory it has, or has available, is not known"
    if state.holds_promises and state.promisable is None:
        return "how much memory it can promise is not known"
    return TargetHost(
        name,
        member.group,
        state.total,
        state.available - state.reserved,
        promised=state.others_promised + sum(guest.guarantee for guest in state.guests),
        within=mover_of(state).within,
        said=member.memory,
        works=_works(state),
        promisable=None if state.promisable is None else state.promisable - state.reserved,
        address=member.address,
    )


def mover_of(state: HostState | None) -> MoverState:
    """The mover of a host's guests: one without a name and abilities where nothing moves them, or that is not known."""
    return MoverState(name="") if state is None or state.mover is None else state.mover


def _works(state: HostState) -> int | None:
    """Memory that all guests of a host work on; None when that is not known of one of them."""
    known = [guest.working for guest in state.guests if guest.working is not None]
    return sum(known) if len(known) == len(state.guests) + state.others else None


def _where_guests_are(view: FleetView) -> dict[str, set[str]]:
    """The hosts that tell of each guest."""
    found: dict[str, set[str]] = {}
    for name, (_, state) in view.states.records.items():
        if name in view.members.records:
            for guest in state.guests:
                found.setdefault(guest.id, set()).add(name)
    return found


def needs_of(guest: HostedGuest) -> int | None:
    """Memory that must be there for a guest: what its host holds of it and it works on, or where that is not known, what it was sold; and
    its promise, which holds from the first moment on. None: nothing of that is known."""
    brings = guest.held if guest.held is not None else guest.maximum or guest.size
    return None if brings is None else max(brings, guest.working or 0, guest.guarantee)


def _expect(found: dict[str, TargetHost], move: Move, leaves: str, *, told: int = 0) -> None:
    """Count a guest where it goes.

    :param leaves: the host that it is being moved from now; empty: it has left, or nothing moves it
    :param told: what is promised to it by the host that it goes to, which may list it before it knows all of that
    """
    place = found.get(move.to)
    if place is not None:
        arriving = (*place.arriving, leaves) if leaves else place.arriving
        promised = place.promised + max(0, move.guarantee - told)
        found[move.to] = replace(place, coming=place.coming + move.takes, arriving=arriving, promised=promised)


def _settle(found: dict[str, TargetHost], came: Move | Arrival) -> None:
    """Take the memory of a guest that has just come off what its host has available."""
    place = found.get(came.to)
    if place is not None:
        found[came.to] = replace(place, available=place.available - came.takes)


def _booked(before: Orders, over: Iterable[Move]) -> tuple[Arrival, ...]:
    """The books, with moves that are over now, the newest of the last day."""
    now = time.time()
    kept = [one for one in before.arrivals if now - one.at < BOOKS_SECONDS]
    kept += [Arrival(guest=move.guest, to=move.to, takes=move.takes if move.state is MoveState.DONE else 0, at=now) for move in over]
    return tuple(kept[-MOST_TOLD:])


def next_orders(
    view: FleetView,
    host: str,
    epoch: int,
    known: dict[str, TargetHost],
    *,
    at_once: int = AT_ONCE,
    arriving_at_once: int = ARRIVING_AT_ONCE,
) -> tuple[Orders, dict[str, str]]:
    """The orders that a host should have now, and for guests that cannot leave the reason, by name.

    Moves that are over are taken out once the guest is seen where it went to, or should have been; failed ones are tried elsewhere.
    `known` is kept up to date with what is on its way, so that several hosts can be planned one after the other.
    """
    member, before, guests = view.members.get(host), view.ordered(host) or Orders(), view.guests(host)
    # Until the guest is seen where it went to, it counts there as coming; until its host has told how it is without it, it is not here.
    over = {move.guest: move for move in before.moves if view.is_over(host, move)}
    arrivals = _booked(before, over.values())
    open_or_failed = [move for move in before.moves if move.guest not in over]
    if member is None or not member.draining:
        # The host refuses what it has not accepted. Until it says so, that may be under way: a connection may break just before.
        going = tuple(move for move in open_or_failed if move.state is not MoveState.FAILED and not _is_unanswered(move))
        tried = (move for move in open_or_failed if move.balance and move not in going)
        return Orders(epoch=epoch, moves=going, arrivals=_booked(before, [*over.values(), *tried])), {}
    if not view.is_fresh(host):  # when it is back, it is looked anew where there is room
        open_or_failed = [move for move in open_or_failed if not _is_unanswered(move)]
    kept = {move.guest: move for move in open_or_failed if move.state is not MoveState.FAILED or move.guest in guests}
    stuck: dict[str, str] = {}
    under_way = sum(move.state in OPEN for move in kept.values())
    state, lost = view.states.get(host), _lost(view)
    ways = _WaysOut(view, known, host, member.group, mover_of(state), arriving_at_once)
    observes = state is not None and state.mode != "enforce"
    others = ((other, orders.moves) for other, orders in view.all_ordered() if other != host and other not in lost)
    # A hypervisor lists a guest while it still comes, and cannot move it then: each try would count as one that has failed.
    coming = {move.guest: other for other, moves in others for move in moves if move.to == host and _may_go(move)}
    for guest in sorted(guests.values(), key=leaving_order):
        earlier = kept.get(guest.id)
        if earlier is not None and earlier.state is not MoveState.FAILED:
            continue
        if guest.stays:
            stuck[guest.name] = guest.stays
        elif observes:
            stuck[guest.name] = "the host only observes"  # it would refuse all tries, and stay as it is when it acts again
        elif guest.id in coming:
            stuck[guest.name] = f"it is still on its way here from {coming[guest.id]}"
        elif earlier is not None and earlier.number >= ATTEMPTS:
            stuck[guest.name] = earlier.error
        elif under_way < at_once and view.is_fresh(host):
            made = ways.move(guest, earlier)
            if isinstance(made, str):
                stuck[guest.name] = made
            else:
                kept[guest.id] = made
                under_way += 1
    return Orders(epoch=epoch, moves=tuple(kept.values()), arrivals=arrivals), stuck


class _WaysOut:
    """Where the guests of one host can go: `known` is kept up to date with what is on its way.

    :param host: the one that they leave
    :param most: how many guests may be on their way to a host
    """

    def __init__(self, view: FleetView, known: dict[str, TargetHost], host: str, group: str, mover: MoverState, most: int) -> None:
        self._view = view
        self._known, self._host, self._group, self._mover, self._most = known, host, group, mover, most
        self._look()

    def _look(self) -> None:
        self._free = {name: place for name, place in self._known.items() if len(place.arriving) < self._most}
        full = (place for name, place in self._known.items() if name not in self._free)
        self._best = foremost(self._free.values(), self._group, self._mover.within)
        self._full = foremost(full, self._group, self._mover.within)

    def move(self, guest: HostedGuest, earlier: Move | None) -> Move | str:
        """The move of that guest, whose room is taken from now on; or why there is none."""
        needs, within = needs_of(guest), self._mover.within
        if needs is None:
            return "its size is not known"
        avoid = frozenset() if earlier is None else frozenset({earlier.to})
        # Without any foremost host there is none that it can go to: all of them say why.
        among = self._best if earlier is None and self._best else self._free
        place = choose(needs, guest.guarantee, among, self._group, avoid, within)
        if isinstance(place, str) and earlier is not None:
            place = choose(needs, guest.guarantee, self._best, self._group, within=within)
        taken: frozenset[str] = frozenset()  # hosts that tell of a guest of the same id: it would be moved onto that
        while isinstance(place, TargetHost) and guest.id in self._view.guests(place.name):
            taken |= {place.name}
            place = choose(needs, guest.guarantee, self._free, self._group, taken, within)
        if isinstance(place, str) and taken:
            return f"a guest of the same id is on {', '.join(sorted(taken))}; elsewhere, {place}"
        if isinstance(place, str):
            return self._waits_for(needs, guest.guarantee) or place
        made = _made(guest, needs, place, self._mover, 1 if earlier is None else earlier.number + 1)
        _expect(self._known, made, self._host)
        self._look()
        return made

    def _waits_for(self, needs: int, guarantee: int) -> str:
        """The guests after which that one can go; empty: it cannot then either."""
        place = choose(needs, guarantee, self._full, self._group, within=self._mover.within)
        if isinstance(place, str):
            return ""
        return f"it waits for guests of {', '.join(sorted({*place.arriving}))} that are on their way to {place.name}, {self._most} at once"


def _made(guest: HostedGuest, needs: int, place: TargetHost, mover: MoverState, number: int) -> Move:
    # A mover that chooses is given a guest only where one host at least would keep all promises; which one it takes is its own affair.
    return Move(
        guest=guest.id,
        name=guest.name,
        to=place.name,
        destination=Destination.ANYWHERE if mover.chooses else place.address,
        takes=needs,
        guarantee=guest.guarantee,
        number=number,
    )


def for_balance(view: FleetView, known: Mapping[str, TargetHost], group: str) -> tuple[str, Move] | str:
    """The one move that would bring the hosts of a group nearest to balance by what their guests work on, with the host that it leaves; or
    why there is none. Each guest is moved once in a day, whatever came of it.
    """
    others = {name: place for name, place in known.items() if place.group == group and place.has > 0 and place.works is not None}
    loads = {name: (place.works or 0) / place.has for name, place in others.items()}
    if len(loads) < 2:
        return "what guests work on is known of fewer than two hosts that can take guests"
    fullest, emptiest = (which(loads, key=lambda name: (loads[name], name)) for which in (max, min))
    full, high, low = others.pop(fullest), loads[fullest], loads[emptiest]
    compared = f"guests work on {high:.0%} of the memory of {fullest}, and on {low:.0%} of that of {emptiest}"
    if high < BALANCE_FULL or high - low < BALANCE_BAND:
        return f"no guest is moved: {compared}; from {BALANCE_FULL:.0%} and {BALANCE_BAND:.0%} of difference on, one is"
    member, mover = view.members.get(fullest), mover_of(view.states.get(fullest))
    if member is None or not mover.live or mover.chooses:
        return f"no guest is moved: what moves those of {fullest} may let them stand still, or chooses itself where they go"
    busy = _busy(view, group)
    if busy:
        return f"no guest is moved now: {busy}"
    lately = {one.guest for _, orders in view.all_ordered() for one in orders.arrivals if time.time() - one.at < BOOKS_SECONDS}
    best: tuple[float, Move] | None = None
    for guest in view.guests(fullest).values():
        needs = needs_of(guest)
        if needs is None or guest.working is None or guest.stays or guest.id in lately:
            continue
        there = choose(needs, guest.guarantee, others, group, within=mover.within)
        if isinstance(there, str) or guest.id in view.guests(there.name):  # another one of its id is there
            continue
        after = max(((full.works or 0) - guest.working) / full.has, ((there.works or 0) + guest.working) / there.has)
        if after < high and (best is None or after < best[0]):
            best = after, _made(guest, needs, there, mover, 1).model_copy(update={"balance": True})
    if best is None:
        return f"{compared}; no guest of {fullest} may leave, was not moved within a day, fits elsewhere, and leaves both better off"
    move = best[1]
    return (fullest, move) if member.balance else f"{compared}: `mom fleet balance {fullest}` lets {move.name} go to {move.to}"


def _busy(view: FleetView, group: str) -> str:
    """Why a group is not balanced now; empty: it may be. What a lost host was to move, or guests that went to one, may be so for ever."""
    lost = _lost(view)
    for name, (_, member) in sorted(view.members.records.items()):
        if member.group != group or name in lost:
            continue
        if member.draining:
            return f"{name} is being drained"
        orders = view.ordered(name) or Orders()
        if any(_may_go(move) or (move.state is MoveState.DONE and move.to not in lost) for move in orders.moves):
            return f"guests of {name} are on their way"
    return ""
