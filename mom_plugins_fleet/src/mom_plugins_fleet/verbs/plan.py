"""`mom fleet plan`: shows the coordinator's next moves, and moves no guest."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import click

from mom_core import MomError, format_kib, printable
from mom_daemon import TableColumn, brief, json_option, print_prose, print_table
from mom_plugins_fleet.coordinator.balance import for_balance
from mom_plugins_fleet.coordinator.placement import TargetHost
from mom_plugins_fleet.coordinator.plan import OPEN, mover_of, next_orders, place_of, places
from mom_plugins_fleet.records import Orders
from mom_plugins_fleet.view import FleetView

if TYPE_CHECKING:
    from mom_plugins_fleet.verbs.home import FleetHome


@click.command("plan")
@click.option("--drain", "drained", multiple=True, metavar="HOST", help="Plan as if HOST were drained; may be repeated.")
@json_option
@click.pass_obj
def plan_command(home: FleetHome, drained: tuple[str, ...], as_json: bool) -> None:
    """Show which guests the coordinator would move where, and why other guests stay. Nothing is done.

    The plan covers drained hosts and those named with --drain, and each group's next move for balance.
    """
    plan = planned(home.ask(home.view), drained)
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
    targets = places(view)
    closed = {name: why for name in sorted(view.members.records) if isinstance(why := place_of(view, name), str)}
    room = {name: max(0, place.room) for name, place in sorted(targets.items())}
    balance: dict[str, str] = {}
    for group in sorted({member.group for _, member in view.members.records.values()}):
        choice = for_balance(view, targets, group)
        balance[group] = choice if isinstance(choice, str) else f"{choice[1].name} would move from {choice[0]} to {choice[1].to}"
    moves, stay = _leaving(view, targets)
    return {"moves": moves, "stay": stay, "room_kib": room, "closed": closed, "balance": balance}


def _leaving(view: FleetView, targets: dict[str, TargetHost]) -> tuple[list[dict[str, Any]], list[tuple[str, str, str]]]:
    # Returns moves, and (host, guest, reason) of guests that stay. Each move reserves memory in `targets`.
    moves: list[dict[str, Any]] = []
    stay: list[tuple[str, str, str]] = []
    for host in sorted(view.members.records):
        member, before = view.members.get(host), view.ordered(host) or Orders()
        if member is None or not (member.draining or before.moves):
            continue
        if member.draining and not view.is_fresh(host):
            stay.append((host, "all guests", "the host is silent: it gets no orders"))
        under_way = {move.guest for move in before.moves if move.state in OPEN}
        orders, stuck = next_orders(view, host, 0, targets, all_at_once=True)
        mover = mover_of(view.states.get(host))
        for move in orders.moves:
            to = f"{move.to}, or as {mover.name} chooses" if mover.chooses else move.to
            moves.append({"guest": move.name, "host": host, "to": to, "needs_kib": move.takes, "under_way": move.guest in under_way})
        stay += [(host, name, why) for name, why in sorted(stuck.items())]
    return moves, stay


def print_plan(plan: Mapping[str, Any]) -> None:
    """Print the plan as tables and text."""
    if plan["moves"]:
        rows = [
            [brief(move["guest"], 80), move["host"], brief(move["to"], 120), format_kib(move["needs_kib"]), "yes" * move["under_way"]]
            for move in plan["moves"]
        ]
        print_table(("guest", "from", "to", "needs", "in progress"), rows)
    else:
        print_prose("No guest would be moved." if plan["stay"] else "No guest would be moved: no host is drained.", 2)
    if plan["stay"]:
        rows = [[brief(host, 80), brief(name, 80), brief(why, 300)] for host, name, why in plan["stay"]]
        print_table(("host", "stays", TableColumn("because", prose=True)), rows)
    for name, kib in plan["room_kib"].items():
        print_prose(f"{brief(name, 80)} has room for {format_kib(kib)}.", 4)
    for name, why in plan["closed"].items():
        print_prose(f"{brief(name, 80)} accepts no guests: {brief(why, 200)}.", 4)
    for group, text in plan["balance"].items():
        print_prose(f"Balance of the group {brief(group, 80)}: {brief(text, 400)}.", 4)
