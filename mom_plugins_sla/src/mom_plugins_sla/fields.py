"""The plugin's fields of each guest."""

from __future__ import annotations

import math

from mom_core import FieldSpec, Scope, Unit, Value
from mom_plugins_sla.classes import ALLOWED, ServiceClass

_CLASS = "the guest's class"


_SAID = "YAML file, metadata, patterns, default"
_WRONG = "why the classes of classes_file are not in force; empty: they are; unknown without that setting"
_LACK = "what the host lacks of what it is to have available (host_keeps); 0: nothing; as of the last cycle"


def _guest(name: str, unit: Unit, description: str, source: str = _CLASS) -> FieldSpec:
    return FieldSpec(name, unit, Scope.GUEST, description, source)


FIELDS = (
    _guest("sla_class", Unit.TEXT, "the guest's service class; unknown if it has none", _SAID),
    _guest("sla_class_by", Unit.TEXT, "what gave the guest its sla_class, and what is wrong with it", _SAID),
    _guest("mem_guarantee", Unit.KIB, "what the guest is promised by its class; a share of the maximum as of the last cycle"),
    _guest("mem_guarantee_share", Unit.RATIO, "mem_guarantee as a share of the guest's maximum, where the class promises one"),
    _guest("priority", Unit.COUNT, "0 to 100: whose promises are kept when not all can be; 100 is the last to lose"),
    _guest("reclaim_cost", Unit.RATIO, "what it costs to take memory from the guest; 1 is ordinary, more is dearer"),
    _guest("cpu_share", Unit.COUNT, "the guest's weight when CPUs are short; 100 is ordinary"),
    _guest("io_share", Unit.RATIO, "how much of its disks' agreed limits the guest may use while disks are short"),
    _guest("may_offload", Unit.FLAG, "whether memory that the guest no longer touches may go to the host's swap"),
    *(_guest(name, Unit.FLAG, f"whether the guest may be {what} when the host is full") for name, what in ALLOWED.items()),
    _guest("leave_warning", Unit.SECONDS, "how long before the guest is moved or stopped it is warned; unknown if nothing may be done"),
    _guest("comes_back", Unit.FLAG, "whether a guest that was stopped comes back later; unknown if nothing may be done"),
    FieldSpec.reads("mem_promised_stopped", Unit.KIB, Scope.HOST),
    FieldSpec.reads("balloon_reason", Unit.TEXT, Scope.GUEST),
    FieldSpec("classes_file_wrong", Unit.TEXT, Scope.HOST, _WRONG, "classes_file"),
    FieldSpec("fair_share_lack", Unit.KIB, Scope.HOST, _LACK, "mem_really_available"),
    _guest("fair_share", Unit.KIB, "the guest's fair share of what guests can have together; as of the last cycle", "all guests' needs"),
)


def fields_of(name: str, by: str, one: ServiceClass, maximum_kib: float | None) -> dict[str, Value]:
    """Return the fields of a guest of this class.

    :param by: who says that it is of it
    :param maximum_kib: the most memory that the guest can have, as far as it is known
    """
    result: dict[str, Value] = {
        "sla_class": name,
        "sla_class_by": by,
        "mem_guarantee_share": one.guarantee.share,
        "priority": one.priority,
        "reclaim_cost": one.reclaim_cost,
        "may_offload": int(one.offload),
        "cpu_share": one.cpu_share,
        "io_share": one.io_share,
        **{str(allowed): int(getattr(one, allowed)) for allowed in ALLOWED},
    }
    guarantee = one.guarantee.kib_of(maximum_kib)
    if guarantee is not None:
        result["mem_guarantee"] = math.ceil(guarantee)
    if one.may_leave:
        result["leave_warning"], result["comes_back"] = one.warning, int(one.comes_back)
    return result
