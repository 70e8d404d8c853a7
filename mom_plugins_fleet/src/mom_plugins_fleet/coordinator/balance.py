"""Balance moves: from the fullest host of a group to a less full one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mom_plugins_fleet.coordinator.placement import TargetHost, choose, rank
from mom_plugins_fleet.coordinator.plan import lost_hosts, may_go, mover_of, needs_of, new_move, recent
from mom_plugins_fleet.records import Move, Orders
from mom_plugins_fleet.view import FleetView

BALANCE_BAND: Final = 0.15
"""Balancing begins only if the fill levels of two hosts differ at least this much. Below that, a move costs more than it gains."""

BALANCE_FULL: Final = 0.70
"""Balancing begins only if the fullest host is at least this full. Below that, no guest would run better elsewhere."""


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
