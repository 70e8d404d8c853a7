"""Pressure stall information (PSI): how much time tasks lose waiting for memory, CPU or I/O, from /proc/pressure."""

from __future__ import annotations

from collections.abc import Mapping

from mom_core import FieldSpec, Metric, Scope, Unit
from mom_toolkit import Pressure

RESOURCES = ("memory", "cpu", "io")
_KINDS = {"some": "at least one task", "full": "all tasks that were not idle"}
_AVERAGES = (10, 60, 300)  # seconds, as the kernel keeps them


def _specs() -> tuple[FieldSpec, ...]:
    specs: list[FieldSpec] = []
    for resource in RESOURCES:
        for kind, who in _KINDS.items():
            # The kernel has no "full" for the CPU of a whole host; since 5.13 it writes zeros there, for the file's shape.
            remark = " (always 0 for a whole host)" if (resource, kind) == ("cpu", "full") else ""
            source = f"/proc/pressure/{resource} {kind}"
            waited = f"time that {who} waited for {resource.replace('io', 'I/O').replace('cpu', 'CPU')}"
            for seconds in _AVERAGES:
                name = f"psi_{resource}_{kind}_avg{seconds}"
                specs.append(
                    FieldSpec(name, Unit.PERCENT, Scope.HOST, f"{waited}, average of {seconds} s{remark}", f"{source} avg{seconds}")
                )
            name = f"psi_{resource}_{kind}_total"
            text = f"{waited}, since the host has started{remark}"
            specs.append(FieldSpec(name, Unit.MICROSECONDS, Scope.HOST, text, f"{source} total", Metric.COUNTER))
    return tuple(specs)


FIELDS = _specs()


def pressure_fields(resource: str, told: Mapping[str, Pressure]) -> dict[str, int | float]:
    """The fields of one resource: averages in percent of the time, totals in microseconds."""
    fields: dict[str, int | float] = {}
    for kind, pressure in told.items():
        for seconds, share in zip(_AVERAGES, pressure[:3], strict=True):
            fields[f"psi_{resource}_{kind}_avg{seconds}"] = share
        fields[f"psi_{resource}_{kind}_total"] = pressure.total
    return fields
