"""Pressure stall information (PSI): how much time tasks lose waiting for memory, CPU or I/O, from /proc/pressure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mom_core import FieldSpec, Metric, Scope, Unit
from mom_kvm import Pressure

RESOURCES = {"memory": "memory", "cpu": "CPU", "io": "I/O"}
_KINDS = {"some": "at least one task", "full": "all tasks that were not idle"}
_AVERAGES = (10, 60, 300)  # seconds, as the kernel keeps them


def _specs(resource: str, kind: str) -> Iterator[FieldSpec]:
    # The kernel has no "full" for the CPU of a whole host; since 5.13 it writes zeros there, for the file's shape.
    remark = " (always 0 for a whole host)" if (resource, kind) == ("cpu", "full") else ""
    source, name = f"/proc/pressure/{resource} {kind}", f"psi_{resource}_{kind}"
    waited = f"time that {_KINDS[kind]} waited for {RESOURCES[resource]}"
    for seconds in _AVERAGES:
        about = f"{waited}, average of {seconds} s{remark}"
        yield FieldSpec(f"{name}_avg{seconds}", Unit.PERCENT, Scope.HOST, about, f"{source} avg{seconds}")
    about = f"{waited}, since the host has started{remark}"
    yield FieldSpec(f"{name}_total", Unit.MICROSECONDS, Scope.HOST, about, f"{source} total", Metric.COUNTER)


FIELDS = tuple(spec for resource in RESOURCES for kind in _KINDS for spec in _specs(resource, kind))


def pressure_fields(resource: str, told: Mapping[str, Pressure]) -> dict[str, int | float]:
    """The fields of one resource: averages in percent of the time, totals in microseconds."""
    names = [*(f"avg{seconds}" for seconds in _AVERAGES), "total"]
    return {f"psi_{resource}_{kind}_{name}": value for kind, all_of in told.items() for name, value in zip(names, all_of, strict=True)}
