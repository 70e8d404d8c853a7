"""Fields and columns of the plugin."""

from __future__ import annotations

import math

from mom_core import FieldSpec, GuestColumn, Scope, Unit, Value
from mom_plugins_sla.classes import ALLOWED, ServiceClass

_CLASS = "the guest's class"
_SOURCES = "YAML file, metadata, default"


def _guest(name: str, unit: Unit, description: str, source: str = _CLASS) -> FieldSpec:
    return FieldSpec(name, unit, Scope.GUEST, description, source)


FIELDS = (
    _guest("sla_class", Unit.TEXT, "the guest's service class; unknown if it has none", _SOURCES),
    _guest("sla_class_by", Unit.TEXT, "source of sla_class, and if this is not the configured class, the reason", _SOURCES),
    _guest("mem_guarantee", Unit.KIB, "memory that the class guarantees; for a share, computed from the guest's maximum in the last cycle"),
    _guest("mem_guarantee_share", Unit.RATIO, "mem_guarantee as a share of the guest's maximum, if the class guarantees a share"),
    _guest("priority", Unit.COUNT, "priority of the guarantee, 0 to 100; if memory is short, mom reduces guarantees of low priority first"),
    _guest("reclaim_cost", Unit.RATIO, "relative cost of reclaiming memory from the guest; 1 is normal"),
    _guest("cpu_share", Unit.COUNT, "the guest's weight when CPUs are short; 100 is normal"),
    _guest("io_share", Unit.RATIO, "part of the guest's disk limits that it may use while disks are overloaded"),
    _guest("may_offload", Unit.FLAG, "whether the guest's cold memory may go to the host's swap"),
    *(_guest(name, Unit.FLAG, f"whether the guest may be {step} when the host is full") for name, step in ALLOWED.items()),
    _guest("leave_warning", Unit.SECONDS, "time between announcing and taking a step; unknown if the class permits no step"),
    _guest("comes_back", Unit.FLAG, "whether a stopped guest comes back later; unknown if the class permits no step"),
    FieldSpec.reads("mem_promised_stopped", Unit.KIB, Scope.HOST),
)

COLUMNS = (GuestColumn("class", ("sla_class",), Unit.TEXT, "the guest's service class", 10, 1),)


def fields_of(name: str, source: str, terms: ServiceClass, maximum_kib: float | None) -> dict[str, Value]:
    """Return the fields of a guest with the class `name`."""
    result: dict[str, Value] = {
        "sla_class": name,
        "sla_class_by": source,
        "mem_guarantee_share": terms.guarantee.share,
        "priority": terms.priority,
        "reclaim_cost": terms.reclaim_cost,
        "may_offload": int(terms.offload),
        "cpu_share": terms.cpu_share,
        "io_share": terms.io_share,
        **{str(allowed): int(getattr(terms, allowed)) for allowed in ALLOWED},
    }
    guarantee = terms.guarantee.kib_of(maximum_kib)
    if guarantee is not None:
        result["mem_guarantee"] = math.ceil(guarantee)
    if terms.may_leave:
        result["leave_warning"], result["comes_back"] = terms.warning, int(terms.comes_back)
    return result
