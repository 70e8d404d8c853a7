"""`mom fleet status`: how all hosts are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click

from mom_cli import TableColumn, print_table
from mom_core import MomError, brief, format_kib, json_option, print_prose, printable
from mom_plugins_fleet.coordinator import LEASE_SECONDS
from mom_plugins_fleet.link import Store
from mom_plugins_fleet.records import Group, HostState, Lease, read
from mom_plugins_fleet.subjects import COORDINATOR, GROUPS, LEASES
from mom_plugins_fleet.view import Bucket, FleetView
from mom_plugins_fleet.where import Where


@click.command("status")
@json_option
@click.pass_obj
def status_command(where: Where, as_json: bool) -> None:
    """Show all hosts: how they are, which policies are in force there, and what moves."""

    async def looked(store: Store) -> tuple[FleetView, dict[str, int], str, Mapping[str, float]]:
        view = await where.view(store)
        groups = Bucket(Group, GROUPS, view.operators, view.revisions)
        for key, kept in (await store.load(GROUPS)).items():
            groups.take(key, kept)
        revisions = {key: revision for key, (revision, _) in groups.records.items()}
        lease = await store.read(LEASES, COORDINATOR)
        ages = view.ages(lease)
        works = lease.at and max(view.states.set_at.values(), default=0.0) - lease.at < LEASE_SECONDS
        return view, revisions, _holder(lease.data if works else None), ages

    view, revisions, holder, ages = where.ask(looked)
    hosts = [host_row(view, name, revisions, ages.get(name)) for name in sorted(view.members.records)]
    unsigned = dict(sorted(view.members.damaged.items()))
    strangers = sorted(view.states.records.keys() - view.members.records.keys() - unsigned.keys())
    if as_json:
        click.echo(json.dumps({"coordinator": holder or None, "hosts": hosts, "strangers": strangers, "unsigned": unsigned}))
        return
    print_prose(f"coordinator: {printable(holder) if holder else 'none works now: nothing is moved'}", 2)
    print_hosts(hosts)
    for name, why in unsigned.items():
        print_prose(f"{printable(name)} is not believed to be in the fleet: {printable(why, 400)}", 2)
    for name in strangers:
        print_prose(f"{printable(name)} tells how it is, and is not in the fleet: ignored", 2)


def _holder(lease: bytes | None) -> str:
    try:
        return "" if lease is None else read(Lease, lease).holder
    except MomError:
        return "a coordinator whose lease cannot be read"


def host_row(view: FleetView, name: str, revisions: Mapping[str, int], age: float | None) -> dict[str, Any]:
    """What is told of one host.

    :param revisions: the newest of each group
    :param age: of its state, in seconds
    """
    member, state, orders = view.members.get(name), view.states.get(name), view.ordered(name)
    moves = [] if orders is None else [{"guest": m.name, "to": m.to, "state": str(m.state), "error": m.error} for m in orders.moves]
    wanted = 0 if member is None else revisions.get(member.group, 0)
    return {
        "host": name,
        "group": "" if member is None else member.group,
        "cordoned": member is not None and member.cordoned,
        "draining": member is not None and member.draining,
        "age_s": age,
        "mode": None if state is None else state.mode,
        "total_kib": None if state is None else state.total,
        "available_kib": None if state is None else state.available,
        "memory_state": None if state is None else state.memory_state,
        "guests": None if state is None else len(state.guests) + state.others,
        "problems": None if state is None else state.problems,
        "policies": _policies(state, wanted),
        "refused": "" if state is None else state.refused,
        "classes_unused": "" if state is None else state.classes_unused,
        "moves": moves,
        "stay": [] if state is None or member is None or not member.draining else [[g.name, g.stays] for g in state.guests if g.stays],
    }


def _policies(state: HostState | None, wanted: int) -> str:
    if state is None:
        return "unknown"
    if state.refused:
        return "refused"
    return "newest" if state.group_revision == wanted else f"revision {state.group_revision} of {wanted}"


def print_hosts(hosts: list[dict[str, Any]]) -> None:
    """Say it."""
    rows = []
    for row in hosts:
        mark = "draining" if row["draining"] else "cordoned" if row["cordoned"] else ""
        notes = [word for word in (mark, row["memory_state"] or "") if word]
        if row["mode"] not in (None, "enforce"):
            notes.append(str(row["mode"]))
        if row["problems"]:
            notes.append(f"{row['problems']} problems")
        of = "" if row["total_kib"] is None else f" of {format_kib(row['total_kib'])}"
        available = "?" if row["available_kib"] is None else f"{format_kib(row['available_kib'])}{of}"
        heard = "never" if row["age_s"] is None else f"{row['age_s']:.0f} s ago"
        guests = "?" if row["guests"] is None else str(row["guests"])
        cells = (row["host"], row["group"], heard, available, guests, row["policies"], ", ".join(notes))
        rows.append([brief(cell, 80) for cell in cells])
    remarks = TableColumn("remarks", prose=True)
    print_table(
        (
            "host",
            TableColumn("group", 2),
            TableColumn("heard", 1),
            "available",
            TableColumn("guests", 3),
            TableColumn("policies", 1),
            remarks,
        ),
        rows,
    )
    for row in hosts:
        host = brief(row["host"], 80)
        if row["refused"]:
            print_prose(f"{host} refuses its group's policies: {brief(row['refused'], 400)}", 4)
        if row["classes_unused"]:
            print_prose(f"{host} does not use its group's classes: {brief(row['classes_unused'], 400)}", 4)
        for move in row["moves"]:
            error = f": {brief(move['error'], 200)}" if move["error"] else ""
            print_prose(f"{host}: {brief(move['guest'], 80)} -> {brief(move['to'], 80)}  {move['state']}{error}", 4)
        for name, why in row["stay"]:
            print_prose(f"{host}: {brief(name, 80)} stays: {brief(why, 200)}", 4)
