"""`mom fleet status`: all hosts, and the memory that mom reclaimed today."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from mom_core import Unit, format_kib, lasting, printable
from mom_daemon import TableColumn, amount, brief, json_option, print_prose, print_table
from mom_plugins_fleet.coordinator.coordinator import LEASE_SECONDS
from mom_plugins_fleet.coordinator.plan import places
from mom_plugins_fleet.records import DayTotals, GroupStatus, HostState, lease_holder
from mom_plugins_fleet.verbs.plan import leaving, staying
from mom_plugins_fleet.verbs.where import Where
from mom_plugins_fleet.view import SILENT_SECONDS, FleetView

if TYPE_CHECKING:
    from mom_daemon.report_models import GuestColumnModel

_DAY: Final = 86_400.0


COLUMNS: Final[Sequence[GuestColumnModel]] = [
    {"name": name, "key": key, "unit": unit, "rank": rank, "mark_from": mark_from, "about": about}
    for name, key, unit, rank, mark_from, about in (
        ("group", "group", Unit.TEXT, 4, None, "group whose policies the host follows"),
        ("avail", "available_kib", Unit.KIB, 0, None, "memory available on the host"),
        ("of", "total_kib", Unit.KIB, 3, None, "the host's total memory"),
        ("back", "given_back_today_kib", Unit.KIB, 5, None, "memory given back to the host since midnight, UTC, on average"),
        ("guests", "guests", Unit.COUNT, 0, None, "number of guests"),
        (
            "unhealthy",
            "unhealthy",
            Unit.COUNT,
            0,
            1,
            "guests that are short of memory, are swapping or stalling, or have less than promised",
        ),
        ("killed", "killed_today", Unit.COUNT, 2, 1, "programs killed by guests' kernels since midnight, UTC"),
        ("policies", "policies", Unit.TEXT, 1, None, "whether the group's newest policies are in force"),
        ("heard", "age_s", Unit.SECONDS, 1, SILENT_SECONDS, "time since the host's last report"),
    )
]


@click.command("status")
@json_option
@click.pass_obj
def status_command(where: Where, as_json: bool) -> None:
    """Show all hosts: memory, guests, memory reclaimed today, policies and moves."""

    view = where.ask(where.view)
    holder = holder_of(view)
    hosts = [*host_rows(view).values()]
    unsigned = dict(sorted(view.members.damaged.items()))
    strangers = sorted(view.states.records.keys() - view.members.records.keys() - unsigned.keys())
    if as_json:
        click.echo(json.dumps({"coordinator": holder or None, "hosts": hosts, "strangers": strangers, "unsigned": unsigned}))
        return
    print_prose(f"coordinator: {printable(holder) if holder else 'none is active: no guests are moved'}", 2)
    if view.lag:
        print_prose(f"no host has reported for {lasting(view.lag)}, according to the clock here: is the clock right?", 2)
    print_hosts(hosts)
    for name, why in unsigned.items():
        print_prose(f"the fleet's entry of {printable(name)} is not trusted: {printable(why, 400)}", 2)
    for name in strangers:
        print_prose(f"{printable(name)} reports its state, but is not in the fleet: ignored", 2)


def holder_of(view: FleetView) -> str:
    """Return the active coordinator's name, or an empty string."""
    if view.lease.data is None or view.lag or view.newest - view.lease.at >= LEASE_SECONDS:
        return ""
    return lease_holder(view.lease.data)


def host_rows(view: FleetView) -> dict[str, dict[str, Any]]:
    """Return the hosts' rows, keyed by name. Unknown values are None."""
    draining = any(member.draining for _, member in view.members.records.values())
    stay = leaving(view, places(view))[1] if draining else []
    return {name: _host_row(view, name, [each[1:] for each in stay if each[0] == name]) for name in sorted(view.members.records)}


def _host_row(view: FleetView, name: str, stay: Sequence[tuple[str, str]]) -> dict[str, Any]:
    member, state, orders = view.members.records[name][1], view.states.get(name), view.ordered(name)
    group, today = (GroupStatus(), DayTotals()) if state is None else (state.group, state.today)
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
        "given_back_today_kib": today.given_back,
        "waited_today_s": today.waited,
        "promise_broken_today_s": today.promise_broken,
        "killed_today": today.killed,
        "group_revision": group.revision,
        "policies": _policies(state, view.groups.records.get(member.group, (0, None))[0]),
        "refused": group.refused,
        "classes_unused": group.classes_unused,
        "moves": [] if orders is None else [{"guest": m.name, "to": m.to, "state": str(m.state), "error": m.error} for m in orders.moves],
        "stay": [[*each] for each in stay],
    }


def _policies(state: HostState | None, newest: int) -> str:
    if state is None:
        return "unknown"
    if state.group.refused:
        return "refused"
    return "newest" if state.group.revision == newest else "older"


def print_hosts(hosts: list[dict[str, Any]]) -> None:
    """Print hosts as a table and text."""
    columns = columns_of(hosts)
    headings = [
        TableColumn("host"),
        *(TableColumn(column["name"], column["rank"]) for column in columns),
        TableColumn("remarks", prose=True),
    ]
    print_table(
        headings, [[brief(row["host"], 80), *(written(row, column) for column in columns), brief(remarks_of(row), 400)] for row in hosts]
    )
    reclaimed = [row["given_back_today_kib"] for row in hosts if row["given_back_today_kib"] is not None]
    if reclaimed:
        total = format_kib(sum(reclaimed))
        print_prose(f"memory given back to the host since midnight, UTC, on average: {total} on {len(reclaimed)} of {len(hosts)} hosts", 2)
    for row in hosts:
        for line in more_of(row):
            print_prose(f"{brief(row['host'], 80)}{line}", 4)


def columns_of(hosts: Iterable[Mapping[str, Any]]) -> Sequence[GuestColumnModel]:
    """Return the columns with known values."""
    known = {key for row in hosts for key, value in row.items() if value is not None}
    return [column for column in COLUMNS if column["key"] in known]


def written(row: Mapping[str, Any], column: GuestColumnModel) -> str:
    """Return a column's value as text."""
    value = row[column["key"]]
    if value is None:
        return "?"
    return f"{value:.0f} s" if column["unit"] == Unit.SECONDS else brief(amount(value, column["unit"]), 80)


def more_of(row: Mapping[str, Any]) -> Iterator[str]:
    """Yield lines about a host, without its name."""
    if row["damaged"]:
        yield f" sends reports that cannot be read: {brief(row['damaged'], 400)}"
    if row["refused"]:
        yield f" refuses its group's policies: {brief(row['refused'], 400)}"
    if row["classes_unused"]:
        yield f" does not use its group's classes: {brief(row['classes_unused'], 400)}"
    if row["problems"]:
        more = f"{row['problems']} problems, such as" if row["problems"] > 1 else "a problem"
        # No backticks: they would add this host's --config option to the command.
        yield f" has {more}: {brief(row['problem'] or 'see mom status on that host', 200)}"
    for move in row["moves"]:
        error = f": {brief(move['error'], 200)}" if move["error"] else ""
        yield f": {brief(move['guest'], 80)} -> {brief(move['to'], 80)}  {move['state']}{error}"
    yield from staying(row["stay"])


def remarks_of(row: Mapping[str, Any]) -> str:
    """Return remarks about a host's condition."""
    lost = row["silent"] and row["age_s"]
    at = time.strftime("%H:%M" if lost < _DAY else "%Y-%m-%d %H:%M", time.localtime(time.time() - lost)) if lost else ""
    state = row["memory_state"]
    draining = "drained, empty" if row["guests"] == 0 else "draining: its guests wait until the host reports" if lost else "draining"
    stuck = sum(bool(name) for name, _ in row["stay"])
    draining += f": {stuck} guest{'s' * (stuck > 1)} cannot leave" if stuck else ""
    heard = f"not reachable since {at}" if lost else "has not reported yet" if row["mode"] is None else ""
    notes = ["its report cannot be read" if row["damaged"] else heard]
    notes += [draining if row["draining"] else "cordoned" if row["cordoned"] else "", "balance" if row["balance"] else ""]
    memory = "plenty of memory" if state == "high" else f"short of memory ({state})" if state else ""
    notes += [f"at that time: {memory}" if lost and memory else memory]
    notes += ["" if row["mode"] in (None, "enforce") else row["mode"]]
    notes += [f"{row['problems']} problem{'s' * (row['problems'] > 1)}" if row["problems"] else ""]
    notes += [f"guests waited {lasting(row['waited_today_s'])}" if row["waited_today_s"] else ""]
    notes += [f"promises broken for {lasting(row['promise_broken_today_s'])}" if row["promise_broken_today_s"] else ""]
    return ", ".join(note for note in notes if note)
