"""`mom fleet report`: what mom has brought on all hosts and what it has cost, joined from what each tells of its accounts."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from mom_cli import TableColumn, print_table
from mom_core import json_option, lasting, print_prose, printable
from mom_plugins_fleet.records import AccountsState
from mom_plugins_fleet.subjects import COORDINATOR, LEASES
from mom_plugins_fleet.view import SILENT_SECONDS, FleetView
from mom_toolkit import HOURS_A_MONTH, KIB_SECONDS_PER_GIB_HOUR

if TYPE_CHECKING:
    from mom_plugins_fleet.link import Store
    from mom_plugins_fleet.where import Where

MEANS: Final = ("balloon", "sweeps", "ksm", "cold")


@dataclass(frozen=True, slots=True)
class HostAccount:
    """What one host has told: its accounts, or why there are none; and how old that is, in seconds (None: it never told)."""

    host: str
    accounts: AccountsState | None
    why: str = ""
    age: float | None = None


@click.command("report")
@json_option
@click.pass_obj
def report_command(where: Where, as_json: bool) -> None:
    """Join the hosts' reports: what mom has given back on each in the last 30 days, its worth, and what it cost.

    A host that keeps no accounts, or tells nothing, is named, and is in no sum. `mom report` on a host has all the rest.
    """

    async def looked(store: Store) -> tuple[FleetView, Mapping[str, float]]:
        view = await where.view(store)
        return view, view.ages(await store.read(LEASES, COORDINATOR))

    view, ages = where.ask(looked)
    found = [account_of(view, name, ages.get(name)) for name in sorted(view.members.records)]
    found += [HostAccount(name, None, "it is not believed to be in the fleet") for name in sorted(view.members.damaged)]
    if as_json:
        click.echo(json.dumps(joined(found), indent=2))
        return
    print_joined(found)


def account_of(view: FleetView, name: str, age: float | None) -> HostAccount:
    """What a member of the fleet has told.

    :param age: of what it told last, in seconds
    """
    state = view.states.get(name)
    if state is None:
        why = "what it tells cannot be read" if name in view.states.damaged else "it tells nothing"
        return HostAccount(name, None, why, age)
    if state.accounts is None:
        return HostAccount(name, None, "it keeps no accounts: enable the plugin record there", age)
    silent = age is not None and age > SILENT_SECONDS
    return HostAccount(name, state.accounts, f"it has told nothing for {lasting(age or 0.0)}" if silent else "", age)


def joined(found: Iterable[HostAccount]) -> dict[str, Any]:
    """For a program: each host, those without accounts by name, and the sums over the others. What is unknown on all of them is null."""
    hosts = list(found)
    known = [one.accounts for one in hosts if one.accounts is not None]
    return {
        "hosts": [{"host": one.host, "remark": one.why or None, **row_of(one.accounts)} for one in hosts if one.accounts is not None],
        "without_accounts": {one.host: one.why for one in hosts if one.accounts is None},
        "whole": {"hosts": len(known), "of_hosts": len(hosts), **_whole(known)},
        "worth": _worth(known),
    }


def row_of(accounts: AccountsState) -> dict[str, Any]:
    """One host's figures, with units in the names."""
    given = given_back(accounts)
    return {
        "from": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(accounts.since)),
        "to": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(accounts.until)),
        "seen_hours": accounts.seen_seconds / 3600,
        "total_gib": None if accounts.total_kib is None else accounts.total_kib / (1 << 20),
        **_whole([accounts]),
        "given_back_gib": given / accounts.seen_seconds / (1 << 20) if accounts.seen_seconds >= 1 else None,
    }


def given_back(accounts: AccountsState) -> float:
    """KiB times seconds that were given back at least, by all means."""
    return (
        accounts.by_balloon_kib_seconds
        + accounts.by_sweeps_kib_seconds
        + accounts.by_cold_kib_seconds
        + (accounts.by_ksm_kib_seconds or 0.0)
    )


def _whole(known: Sequence[AccountsState]) -> dict[str, Any]:
    def sum_of(name: str, unit: float = KIB_SECONDS_PER_GIB_HOUR) -> float | None:
        values = [value for one in known if (value := getattr(one, name)) is not None]
        return sum(values) / unit if values else None

    return {
        "sold_gib_hours": sum_of("sold_kib_seconds"),
        "held_gib_hours": sum_of("held_kib_seconds"),
        "unheld_gib_hours": sum_of("unheld_kib_seconds"),
        **{f"by_{means}_gib_hours": sum_of(f"by_{means}_kib_seconds") for means in MEANS},
        "given_back_gib_hours": sum(map(given_back, known)) / KIB_SECONDS_PER_GIB_HOUR if known else None,
        "waited_for_mom_seconds": sum_of("waited_for_mom_seconds", 1.0),
        "killed": sum_of("killed", 1),
        "promise_kept_hours": sum_of("promise_kept_seconds", 3600.0),
        "promise_broken_seconds": sum_of("promise_broken_seconds", 1.0),
    }


def _worth(known: Sequence[AccountsState]) -> dict[str, Any]:
    """What was given back is worth: by the price that each host has, and in hosts of the size that each has."""
    money: dict[str, float] = {}
    for one in known:
        if one.price is not None:
            months = given_back(one) / KIB_SECONDS_PER_GIB_HOUR / HOURS_A_MONTH
            money[one.currency] = money.get(one.currency, 0.0) + months * one.price
    hosts = [given_back(one) / one.seen_seconds / one.total_kib for one in known if one.total_kib and one.seen_seconds >= 1]
    return {"money": money, "hosts": sum(hosts) if hosts else None}


def print_joined(found: Sequence[HostAccount]) -> None:
    """For a person."""
    known = [one for one in found if one.accounts is not None]
    told = joined(found)
    if known:
        headings = [
            TableColumn("host"), TableColumn("memory", 3), TableColumn("sold", 4), TableColumn("given back"), TableColumn("balloon", 5),
            TableColumn("sweeps", 5), TableColumn("KSM", 5), TableColumn("cold", 5), TableColumn("waited", 1), TableColumn("killed", 2),
            TableColumn("broken", 1),
        ]  # fmt: skip
        print_table(headings, [_cells(one.host, one.accounts) for one in known if one.accounts is not None])
        print_prose("sizes in GiB, on average over the last 30 days; waited: guests, because of mom; broken: promises", 2)
        whole, worth = told["whole"], told["worth"]
        shown = [f"{whole['given_back_gib_hours']:,.0f} GiB h"]
        shown += [f"{amount:,.2f} {printable(currency, 10)}".rstrip() for currency, amount in sorted(worth["money"].items())]
        shown += [f"{worth['hosts']:.2g} hosts"] if worth["hosts"] is not None else []
        print_prose(f"given back on {whole['hosts']} of {whole['of_hosts']} hosts, at least: {', worth '.join(shown)}", 2)
    for one in found:
        if one.why:
            print_prose(f"{printable(one.host)}: {one.why}" + ("" if one.accounts else "; it is in no sum"), 2)
    if not found:
        print_prose("no host is in the fleet", 2)


def _cells(host: str, accounts: AccountsState) -> list[str]:
    def gib(kib_seconds: float | None) -> str:
        return "-" if kib_seconds is None or accounts.seen_seconds < 1 else f"{kib_seconds / accounts.seen_seconds / (1 << 20):.2f}"

    def seconds(value: float | None) -> str:
        return "-" if value is None else lasting(value) if value else "0 s"

    return [
        host,
        "-" if accounts.total_kib is None else f"{accounts.total_kib / (1 << 20):.1f}",
        gib(accounts.sold_kib_seconds),
        gib(given_back(accounts)),
        *(gib(getattr(accounts, f"by_{means}_kib_seconds")) for means in MEANS),
        seconds(accounts.waited_for_mom_seconds),
        "-" if accounts.killed is None else str(accounts.killed),
        seconds(accounts.promise_broken_seconds),
    ]
