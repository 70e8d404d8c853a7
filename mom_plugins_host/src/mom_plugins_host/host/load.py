"""How many CPUs the host has, and how busy they are."""

from __future__ import annotations

import re

from mom_core import FieldSpec, Scope, Unit

_LOAD = re.compile(r"([0-9]{1,9}\.[0-9]{1,4}) ([0-9]{1,9}\.[0-9]{1,4}) ([0-9]{1,9}\.[0-9]{1,4}) ")

_ABOUT = "tasks that run or wait to, average of {} min, not divided by CPUs"

FIELDS = (
    FieldSpec("cpu_count", Unit.COUNT, Scope.HOST, "CPUs that are online", "/sys/devices/system/cpu/online"),
    *(FieldSpec(f"load_{time}", Unit.RATIO, Scope.HOST, _ABOUT.format(time), "/proc/loadavg") for time in (1, 5, 15)),
)


def load_fields(text: str) -> dict[str, float]:
    """`load_1`, `load_5` and `load_15` from /proc/loadavg; empty when the text is malformed."""
    match = _LOAD.match(text)
    return {} if match is None else dict(zip(("load_1", "load_5", "load_15"), map(float, match.groups()), strict=True))
