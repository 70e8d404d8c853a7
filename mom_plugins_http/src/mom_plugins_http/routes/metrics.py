"""Metrics in Prometheus' text format.

Names begin with `mom_`, so that sums exclude a libvirt exporter's metrics.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from mom_core import FieldSpec, Guest, GuestColumn, PluginReport, Report, Scope, Severity, Snapshot, Status, Unit, __version__
from mom_daemon import guest_columns
from mom_plugins_http.routes.published import ReportView, Totals

MEDIA_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


def exposition(view: ReportView) -> bytes:
    """Return all metrics of a report."""
    lines: list[str] = []
    report = view.report
    listed = not report.guests_unknown
    for part in (
        _cycle(view),
        _verdict(report),
        _host(view),
        _sums(view) if listed else (),
        _totals(view.totals),
        _plugins(report),
        _trial(report),
    ):
        for family in part:
            family.write(lines)
    if listed:
        _guests(view, lines)
    failed = [outcome for outcome in report.outcomes if outcome.status is Status.FAILED]
    _one("mom_outcomes_failed", "Decisions of the last cycle that mom could not apply.", len(failed)).write(lines)
    lines.append("")
    return "\n".join(lines).encode("utf-8", "backslashreplace")


class _Family(NamedTuple):
    name: str
    help: str
    samples: Sequence[tuple[str, float]]

    def write(self, lines: list[str]) -> None:
        if self.samples:
            kind = "counter" if self.name.endswith("_total") else "gauge"
            lines += (f"# HELP {self.name} {_escaped_help(self.help)}", f"# TYPE {self.name} {kind}")
            lines += [f"{self.name}{labels} {_number(value)}" for labels, value in self.samples]


def _one(name: str, text: str, value: float) -> _Family:
    return _Family(name, text, [("", value)])


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else repr(float(value)).replace("inf", "Inf").replace("nan", "NaN")


_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def _labels(**labels: str) -> str:
    pairs = [f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels.items()]
    return f"{{{','.join(pairs)}}}"


def _escaped_help(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _cycle(view: ReportView) -> Iterator[_Family]:
    report, totals = view.report, view.totals
    yield _Family("mom_info", "The version of mom, and its mode.", [(_labels(version=__version__, mode=report.mode), 1)])
    yield _one("mom_cycles_total", "Cycles since the start.", totals.cycles)
    yield _one("mom_cycles_skipped_total", "Scheduled cycles that mom skipped because an earlier cycle took too long.", report.skipped)
    yield _one("mom_cycles_woken_total", "Cycles started early by an event.", totals.woken)
    yield _one("mom_cycle_timestamp_seconds", "Time of the last cycle's snapshot, in seconds since the epoch.", report.time)
    interval = report.snapshot.host.properties.get("interval")
    if isinstance(interval, int | float):
        yield _one("mom_interval_seconds", "The time from one scheduled cycle to the next.", interval)
    yield _one("mom_cycle_lag_seconds", "How late the last cycle began.", report.lag)
    yield _one("mom_cycle_last_duration_seconds", "How long the last cycle took.", report.duration)
    yield _one("mom_cycle_duration_seconds_total", "How long all cycles took together.", totals.seconds)
    standing = view.state.problems
    yield _one("mom_problems", "Current problems.", max(len(standing), len(report.problems)))
    yield _one("mom_changes_to_put_back", "Changes that mom would undo if it stopped now.", len(view.state.changes))


def _verdict(report: Report) -> Iterator[_Family]:
    if report.verdict is None:
        return
    worst = report.verdict.severity
    severities = [(_labels(severity=severity), int(worst is severity)) for severity in Severity]
    yield _Family("mom_verdict", "1 for the severity of the worst condition of the host as a whole.", severities)
    standing = [
        (_labels(condition=condition.name, severity=condition.severity), condition.lasted) for condition in report.verdict.conditions
    ]
    yield _Family("mom_condition_seconds", "How long a condition of the host as a whole has lasted.", standing)


def _host(view: ReportView) -> Iterator[_Family]:
    fields = view.report.snapshot.host.fields
    for metric in host_metrics(spec for (scope, _), spec in view.declarations.fields.items() if scope is Scope.HOST):
        value = fields.get(metric.field)
        if isinstance(value, int | float):
            yield _one(metric.name, metric.help, value * metric.factor)


def _sums(view: ReportView) -> Iterator[_Family]:
    guests = view.report.snapshot.guests.values()
    yield _one("mom_guests", "Guests that mom sees.", len(guests))
    yield _one("mom_guests_blocked", "Guests with a control that mom cannot set now.", sum(1 for guest in guests if guest.blocked))
    if reclaimed := _differences(view.report.snapshot, "balloon_max", "balloon_cur"):
        yield _one("mom_reclaimed_bytes", "Memory in the balloons of all guests together.", max(0, sum(reclaimed)) * 1024)
    if distances := _differences(view.report.snapshot, "balloon_target", "balloon_cur"):
        text = "Sum over all guests of the difference between the guest's size and the size that mom last set."
        yield _one("mom_balloon_distance_bytes", text, sum(map(abs, distances)) * 1024)
    for column in _measured(view):
        figures = [value for value in column.values(view.report.snapshot) if isinstance(value, int | float)]
        name = column.metric.replace("_guest_", "_guests_", 1)
        if figures and column.unit is Unit.KIB and name != column.metric:  # a plugin's own metric name has no plural
            yield _one(name, f"Of all guests together: {column.about}.", sum(figures) * 1024)


def _differences(snapshot: Snapshot, more: str, less: str) -> list[float]:
    pairs = zip(snapshot.numbers(more), snapshot.numbers(less), strict=True)
    return [large - small for large, small in pairs if large is not None and small is not None]


def _measured(view: ReportView) -> list[GuestColumn]:
    columns: dict[str, GuestColumn] = {}
    for column in guest_columns(view.declarations):
        if column.metric and column.unit in SCALES:
            columns.setdefault(column.metric, column)
    return list(columns.values())


def _totals(totals: Totals) -> Iterator[_Family]:
    for name, text, counts in (
        ("mom_decisions_total", "Decisions of evaluators.", totals.decisions),
        ("mom_revisions_total", "Decisions that mom's review changed or dropped.", totals.revisions),
    ):
        yield _Family(name, text, [(_labels(control=control), count) for control, count in sorted(counts.items())])
    outcomes = [(_labels(control=control, status=status), count) for (control, status), count in sorted(totals.outcomes.items())]
    yield _Family("mom_outcomes_total", "Outcomes of decisions.", outcomes)


def _plugins(report: Report) -> Iterator[_Family]:
    plugins = report.plugins
    took = [(_labels(plugin=plugin.name, hook=hook), seconds) for plugin in plugins for hook, seconds in plugin.durations.items()]
    yield _Family("mom_plugin_duration_seconds", "How long a plugin's hook took in the last cycle.", took)
    states = [(_labels(plugin=plugin.name, state=state), int(plugin.state is state)) for plugin in plugins for state in PluginReport.State]
    yield _Family("mom_plugin_state", "1 for the present state of a plugin.", states)
    named = [(_labels(plugin=plugin.name), plugin) for plugin in plugins]
    yield _Family("mom_plugin_calls_total", "Calls of a plugin.", [(label, plugin.calls) for label, plugin in named])
    yield _Family("mom_plugin_failures_total", "Calls of a plugin that failed.", [(label, plugin.failures) for label, plugin in named])
    text = "Time until mom calls a repeatedly failing plugin again; 0 for other plugins."
    yield _Family("mom_plugin_retry_seconds", text, [(label, plugin.retry_in) for label, plugin in named])


def _trial(report: Report) -> Iterator[_Family]:
    if report.considered is None:
        return
    yield _one("mom_trial_decisions", "Decisions of policies on trial.", len(report.considered))
    yield _one("mom_trial_differences", "Decisions in which policies on trial differ from policies in force.", len(report.differences()))


def _guests(view: ReportView, lines: list[str]) -> None:
    snapshot = view.report.snapshot
    labels = _domains(snapshot.listed)
    for column in _measured(view):
        name, factor = column.metric, SCALES[column.unit].factor
        values = dict(zip(snapshot.guests, column.values(snapshot), strict=True))
        samples = [
            f"{name}{label} {value * factor}"
            for label, guest in zip(labels, snapshot.listed, strict=True)
            if isinstance(value := values[guest.id], int | float) and value - value == 0  # neither infinite nor NaN
        ]
        if samples:
            lines += (f"# HELP {name} Of a guest: {_escaped_help(column.about)}.", f"# TYPE {name} gauge")
            lines += samples


def _domains(guests: Sequence[Guest]) -> list[str]:
    names: dict[str, None] = {}
    for guest in guests:
        name = guest.name
        while name in names:  # another guest's name may contain this id
            name = f"{name} ({guest.id})"
        names[name] = None
    return [_labels(domain=name) for name in names]


# --- names of the metrics of the host, by the conventions of Prometheus ------------------------------------------------------------------

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")

_PREFIX: Final = "mom_host_"


class Scale(NamedTuple):
    """Conversion to a base unit: suffix of the metric's name, and factor."""

    suffix: str
    factor: float = 1


SCALES: Final[Mapping[Unit, Scale]] = {
    Unit.KIB: Scale("_bytes", 1024),
    Unit.BYTES: Scale("_bytes"),
    Unit.PAGES: Scale("_pages"),
    Unit.COUNT: Scale(""),
    Unit.PERCENT: Scale("_ratio", 0.01),
    Unit.RATIO: Scale("_ratio"),
    Unit.FLAG: Scale(""),
    Unit.SECONDS: Scale("_seconds"),
    Unit.MILLISECONDS: Scale("_seconds", 1e-3),
    Unit.MICROSECONDS: Scale("_seconds", 1e-6),
    Unit.KIB_PER_SECOND: Scale("_bytes_per_second", 1024),
    Unit.PAGES_PER_SECOND: Scale("_bytes_per_second", _PAGE),
    Unit.PER_SECOND: Scale("_per_second"),
    Unit.BYTES_PER_SECOND: Scale("_bytes_per_second"),
}
"""Scales of all units except text and lists. KSM counters stay in pages, as in the kernel and node_exporter."""

NAMES: Final[Mapping[str, str]] = {
    "anon_pages": "mom_host_memory_anonymous_bytes",
    "cpu_count": "mom_host_cpus",
    "load_1": "mom_host_load1",
    "load_5": "mom_host_load5",
    "load_15": "mom_host_load15",
    "mem_available": "mom_host_memory_total_bytes",
    "mem_free": "mom_host_memory_free_or_cached_bytes",
    "mem_really_available": "mom_host_memory_available_bytes",
    "mem_unused": "mom_host_memory_free_bytes",
    "numa_node_count": "mom_host_numa_nodes",
    "swap_usage": "mom_host_swap_used_bytes",
}
"""Metrics of fields whose own names mislead. MOM's field `mem_available` is the total memory."""

_UNIT_WORDS: Final = re.compile(r"_(?:kib|kb|mib|mb|bytes|percent|rate|ratio|seconds|secs|millisecs|milliseconds|msecs|ms|usecs|us)$")
"""Unit in a field's name. The metric's unit replaces it."""

_RESERVED: Final = re.compile(r"_(?:total|count|sum|bucket|created|info)$")


class HostMetric(NamedTuple):
    """Metric of a field of the host."""

    field: str
    name: str
    kind: FieldSpec.Metric
    help: str
    factor: float
    """Factor to base units."""


def host_metrics(specs: Iterable[FieldSpec]) -> list[HostMetric]:
    """Return the fields' metrics. If names are equal, the first field counts."""
    metrics: dict[str, HostMetric] = {}
    for spec in specs:
        scale = SCALES.get(spec.unit)
        if scale is None or spec.metric is FieldSpec.Metric.NONE:
            continue
        name = NAMES.get(spec.name) or _name(spec, scale.suffix)
        unit = ", in bytes" if spec.unit is Unit.PAGES_PER_SECOND else ""
        metrics.setdefault(name, HostMetric(spec.name, name, spec.metric, f"{spec.description}{unit}.", scale.factor))
    return list(metrics.values())


def _name(spec: FieldSpec, suffix: str) -> str:
    words = re.sub(r"[^a-zA-Z0-9_]", "_", re.sub("^mem_", "memory_", spec.name))
    if spec.metric is FieldSpec.Metric.COUNTER:
        words = words.removesuffix("_total")
    if suffix:
        words = _UNIT_WORDS.sub("", words)
    if suffix.strip("_") in words.split("_"):
        suffix = ""
    if spec.metric is FieldSpec.Metric.COUNTER:
        return f"{_PREFIX}{words}{suffix}_total"
    return _RESERVED.sub("", f"{_PREFIX}{words}{suffix}")
