"""Metric names for host fields, following Prometheus' conventions."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from mom_core import FieldSpec, Metric, Unit

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
    "mem_watermark_hard": 'mom_memory_watermark_bytes{watermark="hard"}',
    "mem_watermark_high": 'mom_memory_watermark_bytes{watermark="high"}',
    "mem_watermark_low": 'mom_memory_watermark_bytes{watermark="low"}',
    "numa_node_count": "mom_host_numa_nodes",
    "swap_usage": "mom_host_swap_used_bytes",
}
"""Metric names for fields whose own names mislead, or that share a metric. MOM's field `mem_available` is the total memory."""

_UNIT_WORDS: Final = re.compile(r"_(?:kib|kb|mib|mb|bytes|percent|rate|ratio|seconds|secs|millisecs|milliseconds|msecs|ms|usecs|us)$")
"""Unit in a field's name. The metric's unit replaces it."""

_RESERVED: Final = re.compile(r"_(?:total|count|sum|bucket|created|info)$")


class HostMetric(NamedTuple):
    """Metric of a field."""

    field: str
    name: str
    kind: Metric
    help: str
    factor: float
    """Factor to base units."""


def host_metrics(specs: Iterable[FieldSpec]) -> list[HostMetric]:
    """Return the fields' metrics. If names are equal, the first field counts."""
    metrics: dict[str, HostMetric] = {}
    for spec in specs:
        scale = SCALES.get(spec.unit)
        if scale is None or spec.metric is Metric.NONE:
            continue
        name = NAMES.get(spec.name) or _name(spec, scale.suffix)
        unit = ", in bytes" if spec.unit is Unit.PAGES_PER_SECOND else ""
        metrics.setdefault(name, HostMetric(spec.name, name, spec.metric, f"{spec.description}{unit}.", scale.factor))
    return list(metrics.values())


def _name(spec: FieldSpec, suffix: str) -> str:
    words = re.sub(r"[^a-zA-Z0-9_]", "_", re.sub("^mem_", "memory_", spec.name))
    if spec.metric is Metric.COUNTER:
        words = words.removesuffix("_total")
    if suffix:
        words = _UNIT_WORDS.sub("", words)
    if suffix.strip("_") in words.split("_"):
        suffix = ""
    if spec.metric is Metric.COUNTER:
        return f"{_PREFIX}{words}{suffix}_total"
    return _RESERVED.sub("", f"{_PREFIX}{words}{suffix}")
