"""`mom fleet top`: live view of all hosts in a terminal."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from mom_core import MomError, StateError, count_of, format_kib, printable
from mom_daemon import brief
from mom_daemon.top import (
    Line,
    Looking,
    Row,
    below_head,
    by_name,
    heading,
    help_lines,
    memory_line,
    terminal_for,
    too_small,
    watch,
    wrapped,
)
from mom_plugins_fleet.link import Store, linked
from mom_plugins_fleet.records import shown
from mom_plugins_fleet.subjects import COORDINATOR, LEASES
from mom_plugins_fleet.verbs.status import columns_of, holder_of, host_rows, more_of, remarks_of, written
from mom_plugins_fleet.verbs.where import Where
from mom_plugins_fleet.view import FleetView

if TYPE_CHECKING:
    from mom_daemon.report_models import GuestColumnModel

LOOK_SECONDS: Final = 2.0

AGAIN_SECONDS: Final = 1.0

CLOSING_SECONDS: Final = 2.0

NOTE_LEAST: Final = 25

_HEAD: Final = 4


@dataclass(frozen=True, slots=True)
class FleetPicture:
    """All hosts at one moment."""

    rows: Sequence[Row]
    hosts: Mapping[str, Mapping[str, Any]]
    holder: str
    columns: Sequence[GuestColumnModel] = ()


def picture_of(view: FleetView) -> FleetPicture:
    """Return the picture, including hosts without a valid entry."""
    hosts = host_rows(view)
    columns = columns_of(hosts.values())
    values = {name: {column["name"]: row[column["key"]] for column in columns} for name, row in hosts.items()}
    rows = [Row(name, name, values[name], _note(row), _harm(row)) for name, row in hosts.items()]
    unsigned = {name: f"entry in the fleet not trusted: {why}" for name, why in view.members.damaged.items()}
    strangers = dict.fromkeys(view.states.records.keys() - hosts.keys() - unsigned.keys(), "not in the fleet: ignored")
    rows += [Row(name, printable(name, 80), note=brief(why, 400), harm=1) for name, why in {**unsigned, **strangers}.items()]
    return FleetPicture(by_name(rows), hosts, holder_of(view), columns)


def _note(row: Mapping[str, Any]) -> str:
    moves = f"{count_of(len(row['moves']), 'guest')} leaving" if row["moves"] else ""
    return brief(", ".join(filter(None, (remarks_of(row), moves))), 400)


def _is_short(row: Mapping[str, Any]) -> bool:
    return row["memory_state"] not in (None, "", "high")


def _harm(row: Mapping[str, Any]) -> float:
    # Lost hosts come first, then unhealthy guests, then memory pressure.
    now = 1e9 * row["silent"] + 100 * (row["unhealthy"] or 0) + 10 * _is_short(row)
    return float(now) + bool(row["refused"]) + bool(row["killed_today"])


class FleetFeed:
    """Source of pictures. Calls `changed` in its own thread."""

    def __init__(self, where: Where, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._access, self._operators, self._revisions = where.access(), where.operators(), where.revisions
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.picture: FleetPicture | None = None
        self.trouble = "waiting for the fleet's servers"
        self.failed: BaseException | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Disconnect."""
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(lambda: [task.cancel() for task in asyncio.all_tasks(self._loop)])
        self._thread.join(CLOSING_SECONDS)
        with suppress(StateError):  # a user who may only read cannot save
            self._revisions.save()

    def want(self, host: str | None) -> None:
        """Do nothing: all details are known."""

    def _run(self) -> None:
        try:
            with suppress(asyncio.CancelledError), asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._ask())
        except BaseException as error:  # noqa: BLE001  # raised after the terminal is restored
            self.failed = error
            self._changed()

    async def _ask(self) -> None:
        while True:
            try:
                await self._follow()
            except MomError as error:
                self._say(shown(error))
            await asyncio.sleep(AGAIN_SECONDS)

    async def _follow(self) -> None:
        async with linked(self._access, "operator", _SILENT, patient=True, cannot=self._say) as store:
            view = FleetView(self._operators, self._revisions)

            async def look(store: Store) -> None:
                view.trust()
                view.lease = await store.read(LEASES, COORDINATOR)
                self.picture = picture_of(view)

            await view.look_often(store, look, LOOK_SECONDS, self._say)

    def _say(self, trouble: str) -> None:
        self.trouble = trouble
        self._changed()


_SILENT: Final = logging.Logger("mom.fleet.top", logging.CRITICAL + 1)


def watch_fleet(where: Where) -> None:
    """Draw until the user quits. Raise `MomError` without a terminal."""
    look = looking()
    terminal = terminal_for("mom fleet top", "`mom fleet status` prints")
    feed = FleetFeed(where, terminal.wake)
    watch(look, terminal, feed, lambda picture, size: screen(look, picture, size, feed.trouble), body_lines)


def looking() -> Looking:
    """Return the initial view."""
    return Looking("host", {"hosts": "g"}, NOTE_LEAST)


def body_lines(size: tuple[int, int], picture: FleetPicture | None = None) -> int:
    """Return the number of list lines."""
    return max(1, size[1] - _HEAD - 1)


def screen(look: Looking, picture: FleetPicture | None, size: tuple[int, int], trouble: str) -> list[Line]:
    """Return a screen's lines.

    :param trouble: why the picture is outdated; empty if current
    """
    width, lines = size[0], body_lines(size)
    if small := too_small(size):
        return small
    if picture is None:
        return [[("mom fleet top", "bold")], [], *wrapped(f"{trouble[:1].upper()}{trouble[1:]}.", width), [], [("q: end", "dim")]]

    def text() -> list[Line]:
        return help_lines(look, picture, width) if look.view == "help" else _one_host(look, picture, width)

    nothing = "no host is enrolled: `mom fleet enroll` adds one"
    return [*_head(look, picture, width, trouble), *below_head(look, picture, width, lines, text, nothing)]


def _head(look: Looking, picture: FleetPicture, width: int, trouble: str) -> list[Line]:
    hosts = picture.hosts.values()
    reporting = [row for row in hosts if not row["silent"] and row["total_kib"] is not None and row["available_kib"] is not None]
    total, available, back = (sum(row[name] or 0 for row in reporting) for name in ("total_kib", "available_kib", "given_back_today_kib"))
    short, unhealthy = sum(map(_is_short, reporting)), sum(row["unhealthy"] or 0 for row in hosts)
    first: Line = [
        (f"mom fleet: {count_of(len(hosts), 'host')}, {count_of(sum(row['guests'] or 0 for row in hosts), 'guest')}", "bold"),
        *([("  PAUSED", "bold reverse")] if look.paused else []),
        (f"  coordinator: {brief(picture.holder, 60)}" if picture.holder else "  no coordinator is active", ""),
    ]
    damaged = sum(bool(row["damaged"]) for row in hosts)
    counts = [
        (sum(row["silent"] for row in hosts) - damaged, "not reachable"),
        (damaged, "cannot be read"),
        (short, "short of memory"),
        (unhealthy, "guests unhealthy"),
    ]
    bad = ", ".join(f"{count} {label}" for count, label in counts if count)
    reclaimed = f"given back today: {format_kib(back)}" if back else ""
    third: Line = (
        [(bad, "red"), (", " if bad and reclaimed else "", ""), (reclaimed, "")]
        if bad or reclaimed
        else [("no host has problems", "green")]
    )
    style = "red" if short * 2 > len(reporting) else "yellow" if short else "green"
    return [first, memory_line(total, available, style, width), [(f"NOT REACHED: {trouble}", "bold red")] if trouble else third]


def _one_host(look: Looking, picture: FleetPicture, width: int) -> list[Line]:
    row = next((row for row in picture.rows if row.id == look.marked), None)
    out = [heading(f"{printable(look.marked, 80)}  (Esc: back)", width)]
    if row is None:
        return [*out, *wrapped("This host is no longer in the fleet.", width, "yellow")]
    out += wrapped(row.note or "no problems", width, "red" if row.harm else "")
    host = picture.hosts.get(row.id)
    if host is not None:  # other hosts have only a note
        for column in picture.columns:
            out.append([(f"{column['name']:<10}", "bold cyan"), (f"{written(host, column):<14}", ""), (column["about"], "dim")])
        for line in more_of(host):
            out += wrapped(f"{row.name}{line}", width)
    return [*out, [], *wrapped("`mom top` on the host shows its guests.", width, "dim")]
