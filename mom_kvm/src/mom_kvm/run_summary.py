"""Sums over a run of live, simulated or recorded cycles."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, NamedTuple, TypeVar

from mom_core import Guest, Problem, Report, Severity, Status, Value, as_number, printable
from mom_kvm.health import HealthLimits, field_number, pages_kib

_NOTICEABLE_KIB: Final = 16 * 1024
"""Smaller balloons do not count."""

_DECIDING: Final = ("mom_evaluate", "mom_act")

_SHOWN_FAILURES: Final = 10

_JSON_ONLY: Final = ("name", "seconds", "cycles", "woken", "lost_seconds", "decided", "applied", "problems")
"""Attributes of a run that its JSON contains besides the rows' values."""

S = TypeVar("S")


class _Row(NamedTuple, Generic[S]):
    # Value of a summary: label in tables, key in JSON (empty for none), and form in tables.
    label: str
    key: str
    value: Callable[[S], float | None]
    text: Callable[[float], str] = "{:.0f} s".format

    def cell(self, summary: S) -> str:
        value = self.value(summary)
        return "unknown" if value is None else self.text(value)


def _gib(kib: float) -> str:
    return f"{kib / (1 << 20):.2f} GiB"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _work(share: float) -> str:
    return f"{100 * share:.2f} %"


@dataclass(slots=True)
class ClassSummary:
    """Sums over the guests of a service class. Memory is in KiB times seconds.

    `sold` sums the sizes with empty balloons, and `had` the actual sizes. `known` is like `sold`, but only while the actual size was known.
    """

    guests: set[str] = field(default_factory=set)
    seconds: float = 0.0
    sold: float = 0.0
    known: float = 0.0
    had: float = 0.0
    least: float = math.inf
    broken_seconds: float = 0.0
    guest_seconds: float = 0.0
    lost: dict[str, float] = field(default_factory=dict)
    killed: dict[str, float] = field(default_factory=dict)

    def add(self, guest: Guest, elapsed: float) -> None:
        """Add a guest's values from a cycle that lasted `elapsed` seconds."""
        fields = guest.fields
        size = as_number(fields.get("balloon_cur"))
        most, promised = (field_number(fields, name) for name in ("balloon_max", "mem_promised"))
        if not most:
            return
        self.guests.add(guest.id)
        self.sold += most * elapsed
        if size is not None:
            self.known += most * elapsed
            self.had += size * elapsed
            self.least = min(self.least, size / most, 1.0)
            self.broken_seconds += elapsed * HealthLimits.breaks(size, promised)
        self.guest_seconds += elapsed
        for counts, name in ((self.lost, "sim_lost"), (self.killed, "guest_oom_kills")):
            if (count := as_number(fields.get(name))) is not None:
                counts[guest.id] = count

    @property
    def work_done(self) -> float:
        """Work done by the programs in the guests, as a fraction of what they wanted to do."""
        return 1.0 - min(1.0, sum(self.lost.values()) / self.guest_seconds) if self.guest_seconds else 1.0

    def as_json(self) -> dict[str, Value]:
        """Return the values as JSON."""
        return {row.key: row.value(self) for row in _CLASS_ROWS}


_CLASS_ROWS: Final[Sequence[_Row[ClassSummary]]] = (
    _Row("guests", "guests", lambda own: len(own.guests), str),
    _Row("sold", "sold_kib", lambda own: own.sold / (own.seconds or 1.0), _gib),
    _Row("had on average", "had_share", lambda own: own.had / own.known if own.known else None, _percent),
    _Row("at least", "least_share", lambda own: None if math.isinf(own.least) else own.least, _percent),
    _Row("promise broken", "promise_broken_seconds", lambda own: own.broken_seconds),
    _Row("work done", "work_done", lambda own: own.work_done, _work),
    _Row("killed", "killed", lambda own: int(sum(own.killed.values())) if own.killed else None, str),
)


@dataclass(slots=True)
class Figure:
    """Least, largest and mean value; None without known values."""

    least: float | None = None
    most: float | None = None
    _sum: float = 0.0
    _seconds: float = 0.0

    def add(self, value: float | None, elapsed: float) -> None:
        """Add a value that lasted `elapsed` seconds; None if unknown."""
        if value is not None:
            self.least = value if self.least is None else min(self.least, value)
            self.most = value if self.most is None else max(self.most, value)
            self._sum += value * elapsed
            self._seconds += elapsed

    @property
    def mean(self) -> float | None:
        """Mean over time."""
        return self._sum / self._seconds if self._seconds else self.most


@dataclass(slots=True)
class RunSummary:
    """Sums over a run. Sizes are in KiB, times in (simulated) seconds, and shares are fractions."""

    name: str
    seconds: float = 0.0
    cycles: int = 0
    woken: int = 0
    guest_seconds: float = 0.0
    lost_seconds: float = 0.0
    killed: int = 0
    reclaimed: Figure = field(default_factory=Figure)
    """Guest memory in balloons."""
    unbacked: Figure = field(default_factory=Figure)
    """Guest memory without host memory behind it: in balloons, swept, or never touched. Guests with unknown memory do not count."""
    merged: Figure = field(default_factory=Figure)
    available: Figure = field(default_factory=Figure)
    swapped: Figure = field(default_factory=Figure)
    pressure: Figure = field(default_factory=Figure)
    pressed_seconds: float = 0.0
    decided: int = 0
    applied: int = 0
    failed: int = 0
    problems: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    """Number of cycles in which a policy failed, keyed by the failure."""
    classes: dict[str, ClassSummary] = field(default_factory=dict)
    _last: float | None = None

    def add(self, report: Report) -> None:
        """Add a cycle."""
        snapshot = report.snapshot
        elapsed = 0.0 if self._last is None else max(0.0, snapshot.monotonic - self._last)
        self._last = snapshot.monotonic
        host = snapshot.host.fields
        self.cycles += 1
        self.woken += bool(report.woken_by)
        self.seconds += elapsed
        self.guest_seconds += elapsed * len(snapshot.guests)
        self.lost_seconds = max(self.lost_seconds, field_number(host, "sim_lost"))
        self.killed = max(self.killed, int(field_number(host, "sim_killed")))
        guests = snapshot.guests.values()
        self.reclaimed.add(sum(kib for kib in map(self.taken_from, guests) if kib >= _NOTICEABLE_KIB), elapsed)
        unbacked = [kib for kib in map(_unbacked, guests) if kib is not None]
        self.unbacked.add(sum(unbacked) if unbacked else None, elapsed)
        merged = pages_kib(host, "ksm_pages_sharing", math.nan)
        self.merged.add(None if math.isnan(merged) else merged, elapsed)
        self.available.add(as_number(host.get("mem_really_available")), elapsed)
        self.swapped.add(as_number(host.get("swap_usage")), elapsed)
        self.pressure.add(as_number(host.get("psi_memory_some_avg10")), elapsed)
        self.pressed_seconds += elapsed * (field_number(host, "psi_memory_some_avg10") >= HealthLimits.PRESSURE_PERCENT)
        self.decided += len(report.decisions)
        for outcome in report.outcomes:
            self.applied += outcome.status is Status.APPLIED
            self.failed += outcome.status is Status.FAILED
        self.problems += len(report.problems)
        lost = [problem for problem in self.problems_of_decisions(report) if problem.severity is Severity.ERROR]
        for text in {f"{problem.source}: {problem.message}" for problem in lost}:
            if len(self.failures) < _SHOWN_FAILURES or text in self.failures:
                self.failures[text] = self.failures.get(text, 0) + 1
        for guest in snapshot.guests.values():
            name = guest.fields.get("sla_class")
            if isinstance(name, str):
                self.classes.setdefault(name, ClassSummary()).add(guest, elapsed)
        for summary in self.classes.values():
            summary.seconds = self.seconds

    @staticmethod
    def taken_from(guest: Guest) -> float:
        """Return the KiB between the guest's size and its full size; 0 if unknown."""
        return max(0.0, field_number(guest.fields, "balloon_max", math.nan) - field_number(guest.fields, "balloon_cur", math.nan))

    @staticmethod
    def problems_of_decisions(report: Report) -> list[Problem]:
        """Return the problems of policies, and of hooks that make decisions."""
        return [problem for problem in report.problems if problem.source.line > 0 or problem.message.startswith(_DECIDING)]

    @property
    def work_done(self) -> float:
        """Work done by the programs in all guests, as a fraction of what they wanted to do."""
        return 1.0 - min(1.0, self.lost_seconds / self.guest_seconds) if self.guest_seconds else 1.0

    def rows(self) -> list[tuple[str, str]]:
        """Return the labels and values of the summary, as text."""
        return [(row.label, row.cell(self)) for row in _ROWS]

    @staticmethod
    def side_by_side(summaries: Sequence[RunSummary]) -> list[str]:
        """Return the lines of a table with a column for each run."""
        columns = [dict(summary.rows()) for summary in summaries]
        widths = [max(len(summary.name), *map(len, column.values())) for summary, column in zip(summaries, columns, strict=True)]
        first = max(map(len, columns[0]))
        rows = [(label, [column[label] for column in columns]) for label in columns[0]]
        if len(summaries) > 1:
            rows.insert(0, ("", [summary.name for summary in summaries]))
        return [f"  {label:<{first}}  " + "  ".join(map(str.rjust, cells, widths)) for label, cells in rows]

    def failure_lines(self) -> list[str]:
        """Return a line for each failure of a policy."""
        return [
            f"{self.name}: a policy failed in {count} of {self.cycles} cycles, and its decisions were lost: {printable(text, 300)}"
            for text, count in self.failures.items()
        ]

    def class_rows(self) -> list[tuple[str, ...]]:
        """Return the headings, and a row for each service class; empty without classes."""
        ordered = sorted(self.classes.items(), key=lambda item: -item[1].least)
        rows = [(name, *(row.cell(summary) for row in _CLASS_ROWS)) for name, summary in ordered]
        return [("class", *(row.label for row in _CLASS_ROWS)), *rows] if rows else []

    def as_json(self) -> dict[str, Value]:
        """Return JSON in the attributes' units."""
        return {
            **({"classes": {name: summary.as_json() for name, summary in self.classes.items()}} if self.classes else {}),
            **{name: getattr(self, name) for name in _JSON_ONLY},
            **{row.key: row.value(self) for row in _ROWS if row.key},
            "failures": dict(self.failures),
        }


_ROWS: Final[Sequence[_Row[RunSummary]]] = (
    _Row("unbacked guest memory, on average", "unbacked_kib", lambda run: run.unbacked.mean, _gib),
    _Row("memory in balloons, on average", "reclaimed_kib", lambda run: run.reclaimed.mean, _gib),
    _Row("memory in balloons, at most", "most_reclaimed_kib", lambda run: run.reclaimed.most, _gib),
    _Row("memory saved by KSM, on average", "merged_kib", lambda run: run.merged.mean, _gib),
    _Row("work done by guests", "work_done", lambda run: run.work_done, _work),
    _Row("programs killed by guests' kernels", "killed", lambda run: run.killed, str),
    _Row("host memory available, at least", "least_available_kib", lambda run: run.available.least, _gib),
    _Row("host memory available, on average", "available_kib", lambda run: run.available.mean, _gib),
    _Row("memory in the host's swap, at most", "most_swapped_kib", lambda run: run.swapped.most, _gib),
    _Row("memory pressure on the host, at most", "most_pressure_percent", lambda run: run.pressure.most, "{:.1f} %".format),
    _Row("host under pressure for", "pressed_seconds", lambda run: run.pressed_seconds),
    _Row("changes made, per hour", "", lambda run: 3600 * run.applied / (run.seconds or 1.0), "{:.0f}".format),
    _Row("changes that failed", "failed", lambda run: run.failed, str),
    _Row("cycles", "", lambda run: run.cycles, str),
    _Row("cycles started early", "", lambda run: run.woken, str),
)  # fmt: skip


def _unbacked(guest: Guest) -> float | None:
    most, held = as_number(guest.fields.get("balloon_max")), as_number(guest.fields.get("rss"))
    return None if most is None or held is None else max(0.0, most - held - field_number(guest.fields, "host_swap"))
