"""What `mom top` shows, as plain values made from the API's answers; an absent figure is unknown, and never 0."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from mom_core import Status, Unit, as_number, format_kib, printable

if TYPE_CHECKING:
    from mom_cli import CommonProblem
    from mom_toolkit import ConditionModel, CycleModel, OutcomeModel, ReportDocument

Json = Mapping[str, Any]

FIELDS: Final = (
    "balloon_cur", "balloon_max", "balloon_target", "balloon_obstacle", "mem_usable", "swap_in", "swap_out", "stats_age",
    "cold", "working_set_age", "guest_psi_memory_some_avg10", "host_psi_memory_some_avg10",
)  # fmt: skip
"""Of a guest's fields, those that are asked for: a third of what there is."""

LONGEST_NOTE: Final = 400
"""Characters."""


@dataclass(frozen=True, slots=True)
class Row:
    """A guest: sizes in KiB, swap in KiB/s, pressure in % of time, ages in seconds: `cold_age` is of `cold`."""

    id: str
    name: str
    size: float | None = None
    maximum: float | None = None
    used: float | None = None
    usable: float | None = None
    swap: float | None = None
    target: float | None = None
    guaranteed: float | None = None
    pressure: float | None = None
    age: float | None = None
    note: str = ""
    cold: float | None = None
    cold_age: float | None = None


@dataclass(frozen=True, slots=True)
class Happening:
    """One decision and what came of it; `before` and `value` as people say them, `target` in KiB when it is a size for a guest."""

    time: float
    id: str
    name: str
    control: str
    before: str
    value: str
    status: str
    error: str
    source: str
    reason: str
    target: float | None = None


@dataclass(frozen=True, slots=True)
class News:
    """What has changed beside what was decided: the policies, or a reservation."""

    time: float
    about: str
    text: str


@dataclass(frozen=True, slots=True)
class Picture:
    """One cycle's report, its guests and problems as they are shown, and when its news came (monotonic seconds)."""

    report: ReportDocument
    rows: Sequence[Row]
    problems: Sequence[CommonProblem] = ()
    received: float = field(default_factory=time.monotonic)

    @property
    def cycle(self) -> CycleModel:
        """Its number, time, duration and lag."""
        return self.report["cycle"]

    @property
    def host(self) -> Json:
        """The host's fields."""
        return self.report["host"]["fields"]

    @property
    def conditions(self) -> Sequence[ConditionModel]:
        """What is wrong with the host as a whole, the worst first."""
        verdict = self.report["verdict"]
        return () if verdict is None else verdict["conditions"]

    @property
    def changes(self) -> int:
        """How many decisions there were of what did not stand so already."""
        return sum(count for name, count in self.report["outcome_counts"].items() if name != Status.UNCHANGED)

    @property
    def interval(self) -> float:
        """Seconds between two cycles."""
        return self.report["interval_seconds"]

    def late_by(self, now: float) -> float:
        """Seconds since the last news, when they are more than three intervals: mom hangs; else 0."""
        age = now - self.received
        return age if age > 3 * self.interval + 1 else 0.0


@dataclass(frozen=True, slots=True)
class Drill:
    """All about one guest: its explanation, its fields and its past; or why it cannot be had."""

    id: str
    explanation: Json = field(default_factory=dict)
    guest: Json = field(default_factory=dict)
    past: Sequence[Json] = ()
    trouble: str = ""


def row_of(item: Json, last: Happening | None = None) -> Row:
    """A guest of the API's list, and what was done to it last."""
    known = item["fields"].get

    def number(name: str) -> float | None:
        return as_number(known(name))

    size, usable = number("balloon_cur"), number("mem_usable")
    swaps = [rate for rate in (number("swap_in"), number("swap_out")) if rate is not None]
    target = number("balloon_target")
    if last is not None and last.status == "observed" and last.target is not None:
        target = last.target  # it would have been asked for this
    inside = number("guest_psi_memory_some_avg10")
    return Row(
        item["id"],
        printable(item["name"], 200),
        size,
        number("balloon_max"),
        None if size is None or usable is None else max(0.0, size - usable),
        usable,
        sum(swaps) if swaps else None,
        target,
        item.get("guaranteed_kib"),
        number("host_psi_memory_some_avg10") if inside is None else inside,
        number("stats_age"),
        _note(item, last),
        number("cold"),
        number("working_set_age"),
    )


def rows_of(report: ReportDocument, last: Mapping[str, Happening]) -> list[Row]:
    """All guests of a report, and what was done to each last."""
    columns = report["guests"]["columns"]
    return [row_of(_guest(columns, row), last.get(row[0])) for row in report["guests"]["rows"]]


def _guest(columns: Sequence[str], row: Sequence[Any]) -> Json:
    values = dict(zip(columns, row, strict=True))
    return {**{name: values[name] for name in ("id", "name", "blocked", "guaranteed_kib")}, "fields": values}


def _note(item: Json, last: Happening | None) -> str:
    obstacle = item["fields"].get("balloon_obstacle")
    notes = list(dict.fromkeys([*([str(obstacle)] if obstacle else []), *map(str, item["blocked"].values())]))
    if last is not None and last.status not in {"applied", "unchanged", "observed"}:
        notes.insert(0, f"{last.status}: {last.error or last.control}")
    return printable("; ".join(notes), LONGEST_NOTE)


def happening_of(when: float, item: OutcomeModel | Json, units: Mapping[str, str]) -> Happening:
    """An outcome as the API gives it."""
    source, unit = item["source"], units.get(item["control"], "")
    where = f"{source['name']}:{source['line']}:{source['column']}" if source["line"] else source["name"]
    value = item["value"]
    target = value if item["control"] == "balloon_target" and isinstance(value, int | float) else None
    return Happening(
        when,
        item["entity"]["id"],
        printable(item["entity"]["name"], 200),
        printable(item["control"]),
        _amount(item["before"], unit),
        _amount(value, unit),
        item["status"],
        printable(item["error"], LONGEST_NOTE),
        printable(where),
        printable(item["reason"], LONGEST_NOTE),
        target,
    )


def policy_news(item: Json) -> News:
    """A change of the policies as the API gives it; the beginnings and ends of trials are among them."""
    return News(float(item["time"]), "policies", printable(f"{item['what']}, by {item['who']}", LONGEST_NOTE))


def reservation_news(when: float, item: Json) -> News:
    """A reservation as the API gives it, and how it stands at this time."""
    guest, note = item["guest"], item["note"]
    whose = f", by {guest['name']}" if guest else ""
    text = f"{format_kib(item['memory_kib'])} for {item['name'] or item['id']}: {item['state']}{whose}{f'; {note}' if note else ''}"
    return News(when, "reserved", printable(text, LONGEST_NOTE))


def _amount(value: object, unit: str) -> str:
    if value is None:
        return "?"
    if unit == Unit.KIB and isinstance(value, int | float):
        return format_kib(value)
    text = printable(str(value), 60)
    return text if unit in {"", Unit.COUNT, Unit.FLAG, Unit.TEXT, Unit.LIST} else f"{text} {unit}"


def chosen(rows: Sequence[Row], pattern: str) -> list[Row]:
    """The guests whose name has this in it, or matches it when it is a pattern with `*` or `?`; capitals do not matter."""
    wanted = pattern.strip().lower()
    if not wanted:
        return list(rows)
    if "*" in wanted or "?" in wanted:
        return [row for row in rows if fnmatchcase(row.name.lower(), wanted)]
    return [row for row in rows if wanted in row.name.lower()]


def ordered(rows: Sequence[Row], key: Callable[[Row], Any], *, falling: bool) -> list[Row]:
    """In the order of a column; what is unknown comes last either way, and equals are ordered by name."""
    known = sorted((row for row in rows if key(row) is not None), key=lambda row: row.name)
    known.sort(key=key, reverse=falling)
    return known + sorted((row for row in rows if key(row) is None), key=lambda row: row.name)
