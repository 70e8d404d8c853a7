"""`mom fleet status` and `mom fleet plan`: they only look."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

import click

from mom_core import MomError, count_of, format_kib, lasting, printable
from mom_daemon import TableColumn, brief, json_option, print_prose, print_table
from mom_plugins_fleet.coordinator.coordinator import LEASE_SECONDS
from mom_plugins_fleet.coordinator.plan import OPEN, TargetHost, for_balance, mover_of, next_orders, place_of, places
from mom_plugins_fleet.records import GroupStatus, HostState, Member, Orders
from mom_plugins_fleet.verbs.home import FleetHome
from mom_plugins_fleet.view import FleetView

_COLUMNS: Final = (
    TableColumn("host"),
    TableColumn("group", 4),
    "avail",
    TableColumn("of", 3),
    "guests",
    "unhealthy",
    TableColumn("policies", 1),
    TableColumn("heard", 1),
    TableColumn("remarks", prose=True),
)


@click.command("status")
@json_option
@click.pass_obj
def status_command(home: FleetHome, as_json: bool) -> None:
    """Show all hosts: memory, guests, policies and moves. Hosts with problems come first."""
    view = home.ask(home.view)
    holder = holder_of(view)
    hosts = host_rows(view)
    unsigned = dict(sorted(view.members.damaged.items()))
    if as_json:
        click.echo(json.dumps({"coordinator": holder or None, "hosts": hosts, "unsigned": unsigned}))
        return
    print_prose(f"coordinator: {printable(holder) if holder else 'none is active: no guests are moved'}", 2)
    if view.lag:
        print_prose(f"no host has reported for {lasting(view.lag)}, according to the clock here: is the clock right?", 2)
    print_hosts(hosts)
    for name, why in unsigned.items():
        print_prose(f"the fleet's entry of {printable(name)} is not trusted: {printable(why, 400)}", 2)


def holder_of(view: FleetView) -> str:
    """Return the active coordinator's name, or an empty string."""
    if view.lease.data is None or view.lag or view.newest - view.lease.at >= LEASE_SECONDS:
        return ""
    return view.lease.data.decode(errors="replace")


def host_rows(view: FleetView) -> list[dict[str, Any]]:
    """Return the hosts' rows, those with problems first. Unknown values are None."""
    rows = [_host_row(view, name) for name in sorted(view.members.records)]
    return sorted(rows, key=lambda row: (not row["silent"], -(row["unhealthy"] or 0), not row["refused"]))


def _host_row(view: FleetView, name: str) -> dict[str, Any]:
    member, state, orders = view.members.records[name][1], view.states.get(name), view.ordered(name)
    group = GroupStatus() if state is None else state.group
    return {
        "host": name,
        "group": member.group,
        "cordoned": member.cordoned,
        "draining": member.draining,
        "balance": member.balance,
        "age_s": view.age(name),
        "silent": not view.is_fresh(name),
        "damaged": view.states.damaged.get(name, ""),
        **{field: getattr(state, field, None) for field in ("mode", "memory_state", "problems", "problem", "unhealthy")},
        "total_kib": None if state is None else state.total,
        "available_kib": None if state is None else state.available,
        "guests": None if state is None else len(state.guests) + state.others,
        "metrics": _metrics(member, state, name),
        "policies": _policies(state, view.groups.records.get(member.group, (0, None))[0]),
        "refused": group.refused,
        "classes_unused": group.classes_unused,
        "moves": [] if orders is None else [{"guest": m.name, "to": m.to, "state": str(m.state), "error": m.error} for m in orders.moves],
    }


def _metrics(member: Member, state: HostState | None, name: str) -> str | None:
    # Hosts report only a port, so that they cannot redirect Prometheus and its token.
    if state is None or state.metrics_port is None:
        return None
    reached = (None if member.address is None else member.address.host) or name
    return f"[{reached}]:{state.metrics_port}" if ":" in reached else f"{reached}:{state.metrics_port}"


def _policies(state: HostState | None, newest: int) -> str:
    if state is None:
        return "unknown"
    if state.group.refused:
        return "refused"
    return "newest" if state.group.revision == newest else "older"


def print_hosts(hosts: Sequence[Mapping[str, Any]]) -> None:
    """Print hosts as a table and text."""
    print_table(_COLUMNS, [_cells(row) for row in hosts])
    for row in hosts:
        for line in _more_of(row):
            print_prose(f"{brief(row['host'], 80)}{line}", 4)


def _cells(row: Mapping[str, Any]) -> list[str]:
    sizes = ["?" if row[name] is None else format_kib(row[name]) for name in ("available_kib", "total_kib")]
    counts = ["?" if row[name] is None else str(row[name]) for name in ("guests", "unhealthy")]
    heard = "?" if row["age_s"] is None else f"{row['age_s']:.0f} s"
    return [brief(row["host"], 80), brief(row["group"], 80), *sizes, *counts, row["policies"], heard, brief(remarks_of(row), 400)]


def _more_of(row: Mapping[str, Any]) -> Iterator[str]:
    if row["damaged"]:
        yield f" sends reports that cannot be read: {brief(row['damaged'], 400)}"
    if row["refused"]:
        yield f" refuses its group's policies: {brief(row['refused'], 400)}"
    if row["classes_unused"]:
        yield f" does not use its group's classes: {brief(row['classes_unused'], 400)}"
    if row["problems"]:
        yield f" has {count_of(row['problems'], 'problem')}: {brief(row['problem'] or 'see mom status on that host', 200)}"
    for move in row["moves"]:
        error = f": {brief(move['error'], 200)}" if move["error"] else ""
        yield f": {brief(move['guest'], 80)} -> {brief(move['to'], 80)}  {move['state']}{error}"


def remarks_of(row: Mapping[str, Any]) -> str:
    """Return remarks about a host's condition."""
    notes = []
    if row["damaged"]:
        notes.append("its report cannot be read")
    elif row["silent"]:
        notes.append("has not reported yet" if row["mode"] is None else "not reachable")
    if row["draining"]:
        notes.append("drained, empty" if row["guests"] == 0 else "draining")
    elif row["cordoned"]:
        notes.append("cordoned")
    if row["balance"]:
        notes.append("balance")
    if row["memory_state"]:
        notes.append("plenty of memory" if row["memory_state"] == "high" else f"short of memory ({row['memory_state']})")
    if row["mode"] not in (None, "enforce"):
        notes.append(row["mode"])
    return ", ".join(notes)


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
