"""`mom fleet plan`: shows the coordinator's next moves, and moves no guest."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from mom_core import MomError, format_kib, printable
from mom_daemon import TableColumn, brief, json_option, print_prose, print_table
from mom_plugins_fleet.coordinator.balance import for_balance
from mom_plugins_fleet.coordinator.placement import TargetHost
from mom_plugins_fleet.coordinator.plan import ARRIVING_AT_ONCE, OPEN, mover_of, next_orders, place_of, places
from mom_plugins_fleet.records import Orders
from mom_plugins_fleet.view import FleetView

if TYPE_CHECKING:
    from mom_plugins_fleet.verbs.where import Where

_NAMED: Final = 5


@click.command("plan")
@click.option("--drain", "drained", multiple=True, metavar="HOST", help="Plan as if HOST were drained; may be repeated.")
@json_option
@click.pass_obj
def plan_command(where: Where, drained: tuple[str, ...], as_json: bool) -> None:
    """Show which guests the coordinator would move where, and why other guests stay. Nothing is done.

    The plan covers drained hosts and those named with --drain, and each group's next move for balance.
    """
    plan = planned(where.ask(where.view), drained)
    if as_json:
        click.echo(json.dumps(plan, indent=2))
        return
    print_plan(plan)


def planned(view: FleetView, drained: Collection[str] = ()) -> dict[str, Any]:
    """Return the plan for JSON. Mark the hosts `drained` in `view`. Raise `MomError` for an unknown host."""
    for name in drained:
        member = view.members.get(name)
        if member is None:
            raise MomError(f"the fleet has no host {printable(name)}", hint="`mom fleet status` lists the hosts")
        view.members.records[name] = (0, member.model_copy(update={"draining": True, "cordoned": True}))
    hosts = sorted(view.members.records)
    targets = places(view)
    closed = {name: why for name in hosts if isinstance(why := place_of(view, name), str)}
    room = {name: max(0, place.room) for name, place in sorted(targets.items())}
    unbounded = [name for name, place in sorted(targets.items()) if place.limit is None]
    groups = sorted({member.group for _, member in view.members.records.values()})
    balance: dict[str, str] = {}
    for group in groups:
        choice = for_balance(view, targets, group)
        if isinstance(choice, str):
            balance[group] = choice
        else:
            host, move = choice
            balance[group] = f"{move.name} would move from {host} to {move.to}"
    moves, stay = leaving(view, targets)
    return {"moves": moves, "stay": stay, "room_kib": room, "closed": closed, "unbounded": unbounded, "balance": balance}


def leaving(view: FleetView, targets: dict[str, TargetHost]) -> tuple[list[dict[str, Any]], list[tuple[str, str, str]]]:
    """Return moves, and (host, guest, reason) of guests that stay.

    An empty guest name means all guests. Each returned move reserves memory in `targets`.
    """
    full = {name: sorted({*place.arriving}) for name, place in targets.items() if len(place.arriving) >= ARRIVING_AT_ONCE}
    moves: list[dict[str, Any]] = []
    stay: list[tuple[str, str, str]] = []
    for host in sorted(view.members.records):
        member, state, before = view.members.get(host), view.states.get(host), view.ordered(host) or Orders()
        if member is None or not (member.draining or before.moves):
            continue
        if member.draining and not view.is_fresh(host):
            stay.append((host, "", "the host is silent: it gets no orders"))
        under_way = {move.guest for move in before.moves if move.state in OPEN}
        orders, stuck = next_orders(view, host, 0, targets, all_at_once=True)
        mover = mover_of(state)
        by = {"host": host, "mover": mover.name, "chooses": mover.chooses}
        for move in orders.moves:
            begun = move.guest in under_way
            waits_for = [] if begun else full.get(move.to, [])
            moves.append({"guest": move.name, "to": move.to, "needs_kib": move.takes, "under_way": begun, "waits_for": waits_for, **by})
        stay += [(host, name, why) for name, why in sorted(stuck.items())]
    return moves, stay


def staying(guests: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield a line for each reason, from (name, reason) pairs."""
    by_reason: dict[str, list[str]] = {}
    for name, why in guests:
        by_reason.setdefault(why, []).append(name)
    for why, names in by_reason.items():
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        named = ", ".join(brief(name, 80) for name in names[:_NAMED]) + more
        verb = "" if names == [""] else f"{named} {'stays' if len(names) == 1 else 'stay'}: "
        yield f": {verb}{brief(why, 300)}"


def print_plan(plan: Mapping[str, Any]) -> None:
    """Print the plan as tables and text."""
    if plan["moves"]:
        rows = []
        for move in plan["moves"]:
            mover, waits_for = brief(move["mover"], 40), ", ".join(move["waits_for"])
            remark = "in progress" if move["under_way"] else f"waits for guests of {brief(waits_for, 80)}" if waits_for else ""
            to = brief(move["to"], 80) + (f", or as {mover} chooses" if move["chooses"] else "")
            rows.append([brief(move["guest"], 80), brief(move["host"], 80), to, format_kib(move["needs_kib"]), mover, remark])
        print_table(("guest", "from", "to", "needs", TableColumn("mover", 2), TableColumn("remarks", prose=True)), rows)
    else:
        print_prose("No guest would be moved." if plan["stay"] else "No guest would be moved: no host is drained.", 2)
    for host in dict.fromkeys(each[0] for each in plan["stay"]):
        for line in staying(each[1:] for each in plan["stay"] if each[0] == host):
            print_prose(f"{brief(host, 80)}{line}", 4)
    for name, kib in plan["room_kib"].items():
        own = ", according to its own report only: `mom fleet enroll --memory` sets a limit" if name in plan["unbounded"] else ""
        print_prose(f"{brief(name, 80)} has room for {format_kib(kib)}{own}.", 4)
    for name, why in plan["closed"].items():
        print_prose(f"{brief(name, 80)} accepts no guests: {brief(why, 200)}.", 4)
    for group, text in plan["balance"].items():
        print_prose(f"Balance of the group {brief(group, 80)}: {brief(text, 400)}.", 4)
