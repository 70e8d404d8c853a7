"""Choice of destinations and next orders of the coordinator. Sizes in KiB."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from mom_core import format_kib
from mom_kvm import Destination
from mom_plugins_fleet.records import FinishedMove, HostedGuest, HostState, Move, MoverState, MoveState, Orders, leaving_order
from mom_plugins_fleet.view import ARRIVES_SECONDS, FleetView, ended

AT_ONCE: Final = 2
"""Maximum number of guests that leave a host at a time. One live migration fills a 10 Gbit/s link; a second uses its pauses."""

ARRIVING_AT_ONCE: Final = 2

ATTEMPTS: Final = 3
"""After this many attempts to move a guest, the operator must act."""

RECENT_SECONDS: Final = 86_400.0
"""A guest is moved for balance at most once in this time."""

LOST_SECONDS: Final = 900.0
"""A host silent for this long moves no guests, because moves end after 600 s by default. Unaccepted orders expire, too."""

RESERVE_SHARE: Final = 0.10
RESERVE_MOST_KIB: Final = 16 << 20
"""Memory to keep free on a destination, because a new guest may fill its memory faster than mom reclaims."""

BALANCE_BAND: Final = 0.15
"""Balancing begins only if the fill levels of two hosts differ at least this much. Below that, a move costs more than it gains."""

BALANCE_FULL: Final = 0.70
"""Balancing begins only if the fullest host is at least this full. Below that, no guest would run better elsewhere."""

OPEN: Final = (MoveState.ORDERED, MoveState.ACCEPTED)


@dataclass(frozen=True, slots=True)
class TargetHost:
    """Host that can take guests.

    :param coming: memory of incoming guests
    :param within: name of the cluster that the host's mover is limited to; empty if there is no limit
    :param works: sum of the guests' working sets; None if unknown
    :param promisable: memory that the host can promise; None for all of its memory
    """

    name: str
    group: str
    total: int
    available: int
    coming: int = 0
    arriving: tuple[str, ...] = ()
    promised: int = 0
    within: str = ""
    works: int | None = None
    promisable: int | None = None
    address: Destination = Destination.ANYWHERE

    @property
    def unpromised(self) -> int:
        """Memory that the host can still promise; may be negative."""
        return (self.total if self.promisable is None else min(self.total, self.promisable)) - self.promised

    @property
    def room(self) -> int:
        """Room for more guests; may be negative."""
        return self.available - self.coming - min(RESERVE_MOST_KIB, int(RESERVE_SHARE * self.total))


def rank(places: Iterable[TargetHost], group: str, within: str = "") -> list[TargetHost]:
    """Return a group's hosts, most room first. `within` limits them to a cluster."""
    reachable = (place for place in places if place.group == group and within in ("", place.within))
    return sorted(reachable, key=lambda place: (place.room, place.name), reverse=True)


def choose(
    needs: int, guarantee: int, ranked: Iterable[TargetHost], group: str, avoid: Collection[str] = (), within: str = ""
) -> TargetHost | str:
    """Return the host with the most room that can promise `guarantee` to the guest, or why there is none.

    :param needs: memory that the guest needs on arrival
    :param avoid: hosts where an attempt failed
    """
    available = False
    for place in ranked:
        if place.name in avoid:
            continue
        available = True
        if guarantee <= place.unpromised:
            if place.room >= needs:
                return place
            room = format_kib(max(0, place.room))
            return f"it needs {format_kib(needs)}, but {place.name}, which has the most room in the group {group}, has only {room}"
    if available:
        return f"no host of the group {group} can promise {format_kib(guarantee)} to the guest"
    reach = f", within {within}, which its mover cannot leave," if within else ""
    return f"no other host of the group {group}{reach} can accept guests now"


def places(view: FleetView) -> dict[str, TargetHost]:
    """Return hosts that can take guests, keyed by name. Their incoming guests are counted."""
    hosts = {name: place_of(view, name) for name in view.members.records}
    targets = {name: place for name, place in hosts.items() if isinstance(place, TargetHost)}
    all_lost = lost_hosts(view)
    for host, orders in view.all_ordered():
        if host not in view.members.records and host not in view.members.damaged:
            continue  # a removed host reserves no memory
        for move in orders.moves:
            if move.state in OPEN:
                arrived = view.guests(move.to).get(move.guest)
                leaves = host if may_go(move) and host not in all_lost else ""
                expect(targets, move, leaves, reported=0 if arrived is None else arrived.guarantee)
        for finished in recent(view, orders):
            if view.is_coming(host, finished):
                expect(targets, finished, "")
            elif finished.to in targets and view.is_settling(finished):
                place = targets[finished.to]
                targets[finished.to] = replace(place, available=place.available - finished.takes)
    return targets


def recent(view: FleetView, orders: Orders) -> list[FinishedMove]:
    """Return the moves that ended within `RECENT_SECONDS`."""
    return [move for move in orders.finished if view.newest - move.at < RECENT_SECONDS]


def lost_hosts(view: FleetView) -> Collection[str]:
    """Return hosts that are silent for `LOST_SECONDS`."""
    newest = view.newest
    hosts = {*view.members.records, *view.orders.records}
    return {host for host in hosts if newest - view.states.set_at.get(host, 0.0) > LOST_SECONDS}


def may_go(move: Move) -> bool:
    """Return whether the guest may still leave: the move has not ended, and was accepted or ordered within `LOST_SECONDS`."""
    return move.state in OPEN and not _is_unanswered(move)


def _is_unanswered(move: Move) -> bool:
    return move.state is MoveState.ORDERED and 0 < move.order < time.time() - LOST_SECONDS


def place_of(view: FleetView, name: str) -> TargetHost | str:
    """Return a host without its incoming guests, or the reason why it can take no guests."""
    member, state = view.members.get(name), view.states.get(name)
    if member is None:
        return "it is not in the fleet"
    if member.address is None:
        return "it has no address for guests: `mom fleet enroll --address` sets it"
    if member.draining or member.cordoned:
        return "it is being drained" if member.draining else "it is cordoned"
    if state is None or not view.is_fresh(name):
        return "it is silent"
    if state.total is None or state.available is None:
        return "its memory, or its available memory, is unknown"
    if state.holds_promises and state.promisable is None:
        return "the memory that the host can promise is unknown"
    return TargetHost(
        name,
        member.group,
        state.total,
        state.available - state.reserved,
        promised=state.others_promised + sum(guest.guarantee for guest in state.guests),
        within=mover_of(state).within,
        works=_works(state),
        promisable=None if state.promisable is None else state.promisable - state.reserved,
        address=member.address,
    )


def mover_of(state: HostState | None) -> MoverState:
    """Return a host's mover; if there is none, a mover with an empty name."""
    return MoverState(name="") if state is None or state.mover is None else state.mover


def _works(state: HostState) -> int | None:
    sizes = [guest.working for guest in state.guests if guest.working is not None]
    return sum(sizes) if len(sizes) == len(state.guests) + state.others else None


def needs_of(guest: HostedGuest) -> int | None:
    """Return the memory that a guest needs on arrival; None if unknown."""
    brings = guest.held if guest.held is not None else guest.maximum or guest.size
    return None if brings is None else max(brings, guest.working or 0, guest.guarantee)


def expect(targets: dict[str, TargetHost], move: Move, leaves: str, *, reported: int = 0) -> None:
    """Count a guest that is expected at its destination.

    :param leaves: source host while it sends the guest, otherwise empty
    :param reported: promise to the guest that the destination already reports
    """
    place = targets.get(move.to)
    if place is not None:
        arriving = (*place.arriving, leaves) if leaves else place.arriving
        promised = place.promised + max(0, move.guarantee - reported)
        targets[move.to] = replace(place, coming=place.coming + move.takes, arriving=arriving, promised=promised)


def next_orders(
    view: FleetView, host: str, epoch: int, targets: dict[str, TargetHost], *, all_at_once: bool = False
) -> tuple[Orders, dict[str, str]]:
    """Return a host's orders, and why guests cannot leave, keyed by guest name. Each returned move reserves memory in `targets`.

    :param all_at_once: do not wait for other guests' moves
    """
    member, before = view.members.get(host), view.ordered(host) or Orders()
    finished, open_or_failed = recent(view, before), before.moves
    if member is None or not member.draining:
        # The host may be about to accept an order: keep it until refused or unanswered.
        going = tuple(move for move in open_or_failed if move.state is not MoveState.FAILED and not _is_unanswered(move))
        finished += [ended(move, MoveState.FAILED, view.newest) for move in open_or_failed if move.balance and move not in going]
        return Orders(epoch=epoch, moves=going, finished=tuple(finished)), {}
    if not view.is_fresh(host):  # order these again when the host reports again
        open_or_failed = tuple(move for move in open_or_failed if not _is_unanswered(move))
    left = {move.guest for move in finished if move.state is MoveState.DONE and view.reported_after(host, move) < ARRIVES_SECONDS}
    guests = {identity: guest for identity, guest in view.guests(host).items() if identity not in left}
    kept = {move.guest: move for move in open_or_failed if move.state is not MoveState.FAILED or move.guest in guests}
    stuck: dict[str, str] = {}
    under_way = sum(move.state in OPEN for move in kept.values())
    mover, blocked = mover_of(view.states.get(host)), _blocked(view, host, kept)
    ranked = rank(targets.values(), member.group, mover.within)
    for guest in sorted(guests.values(), key=leaving_order):
        earlier = kept.get(guest.id)
        if earlier is not None and earlier.state is not MoveState.FAILED:
            continue
        if why := blocked(guest):
            stuck[guest.name] = why
        elif (all_at_once or under_way < AT_ONCE) and view.is_fresh(host):
            move = _way_out(ranked, member.group, mover, guest, earlier, all_at_once=all_at_once)
            if isinstance(move, str):
                stuck[guest.name] = move
            else:
                kept[guest.id] = move
                under_way += 1
                expect(targets, move, host)
                ranked = rank(targets.values(), member.group, mover.within)
    return Orders(epoch=epoch, moves=tuple(kept.values()), finished=tuple(finished)), stuck


def _blocked(view: FleetView, host: str, kept: Mapping[str, Move]) -> Callable[[HostedGuest], str]:
    state, lost = view.states.get(host), lost_hosts(view)
    sources = ((other, orders.moves) for other, orders in view.all_ordered() if other != host and other not in lost)
    # The hypervisor lists an arriving guest, but cannot move it yet.
    coming = {move.guest: other for other, moves in sources for move in moves if move.to == host and may_go(move)}

    def why(guest: HostedGuest) -> str:
        earlier = kept.get(guest.id)
        if guest.stays:
            return guest.stays
        if state is not None and state.mode != "enforce":
            return "mom on the host only observes"
        if guest.id in coming:
            return f"it is still arriving from {coming[guest.id]}"
        return earlier.error or "its moves failed too often" if earlier is not None and earlier.number >= ATTEMPTS else ""

    return why


def _way_out(
    ranked: Sequence[TargetHost], group: str, mover: MoverState, guest: HostedGuest, earlier: Move | None, *, all_at_once: bool
) -> Move | str:
    needs = needs_of(guest)
    if needs is None:
        return "its size is unknown"
    free = [place for place in ranked if all_at_once or len(place.arriving) < ARRIVING_AT_ONCE]

    def chosen(places: Sequence[TargetHost], avoid: Collection[str] = ()) -> TargetHost | str:
        return choose(needs, guest.guarantee, places, group, avoid, mover.within)

    place = chosen(free, () if earlier is None else {earlier.to})
    if isinstance(place, str) and earlier is not None:
        place = chosen(free)
    if isinstance(place, TargetHost):
        return new_move(guest, needs, place, mover, 1 if earlier is None else earlier.number + 1)
    later = chosen([place for place in ranked if len(place.arriving) >= ARRIVING_AT_ONCE])
    if isinstance(later, str):
        return place
    return f"it waits: {later.name} receives at most {ARRIVING_AT_ONCE} guests at a time, now from {', '.join(sorted({*later.arriving}))}"


def new_move(guest: HostedGuest, needs: int, place: TargetHost, mover: MoverState, number: int) -> Move:
    """Return a move to `place`. A mover that chooses destinations itself may choose another host."""
    return Move(
        guest=guest.id,
        name=guest.name,
        to=place.name,
        destination=Destination.ANYWHERE if mover.chooses else place.address,
        takes=needs,
        guarantee=guest.guarantee,
        number=number,
    )


def for_balance(view: FleetView, targets: Mapping[str, TargetHost], group: str) -> tuple[str, Move] | str:
    """Return the fullest host and its best move for balance, or why there is no move."""
    others = {name: place for name, place in targets.items() if place.group == group and place.total > 0 and place.works is not None}
    loads = {name: (place.works or 0) / place.total for name, place in others.items()}
    if len(loads) < 2:
        return "fewer than two hosts that can accept guests have known working sets"
    fullest, emptiest = (pick(loads, key=lambda name: (loads[name], name)) for pick in (max, min))
    full, high, low = others.pop(fullest), loads[fullest], loads[emptiest]
    compared = f"working sets fill {high:.0%} of {fullest} and {low:.0%} of {emptiest}"
    if high < BALANCE_FULL or high - low < BALANCE_BAND:
        return f"no guest is moved: {compared}; a move needs {BALANCE_FULL:.0%} on the fullest host and a difference of {BALANCE_BAND:.0%}"
    member, mover = view.members.get(fullest), mover_of(view.states.get(fullest))
    if member is None or not mover.live or mover.chooses:
        return f"no guest is moved: the mover of {fullest} may stop guests while it moves them, or chooses their destination itself"
    busy = _busy(view, group)
    if busy:
        return f"no guest is moved now: {busy}"
    lately = {move.guest for _, orders in view.all_ordered() for move in recent(view, orders)}
    ranked = rank(others.values(), group, mover.within)
    best: tuple[float, Move] | None = None
    for guest in view.guests(fullest).values():
        needs = needs_of(guest)
        if needs is None or guest.working is None or guest.stays or guest.id in lately:
            continue
        target = choose(needs, guest.guarantee, ranked, group, within=mover.within)
        if isinstance(target, str):
            continue
        after = max(((full.works or 0) - guest.working) / full.total, ((target.works or 0) + guest.working) / target.total)
        if after < high and (best is None or after < best[0]):
            best = after, new_move(guest, needs, target, mover, 1).model_copy(update={"balance": True})
    if best is None:
        needed = "it must be movable, must not have moved for a day, must fit on another host, and its move must lower the highest load"
        return f"{compared}; no guest of {fullest} qualifies: {needed}"
    move = best[1]
    return (fullest, move) if member.balance else f"{compared}: `mom fleet balance {fullest}` allows the move of {move.name} to {move.to}"


def _busy(view: FleetView, group: str) -> str:
    # Moves of lost hosts may never end, so they do not count.
    lost = lost_hosts(view)
    for name, (_, member) in sorted(view.members.records.items()):
        if member.group != group or name in lost:
            continue
        if member.draining:
            return f"{name} is being drained"
        orders = view.ordered(name) or Orders()
        coming = (move for move in orders.finished if move.to not in lost and view.is_coming(name, move))
        if any(map(may_go, orders.moves)) or any(coming):
            return f"guests of {name} are being moved"
    return ""
