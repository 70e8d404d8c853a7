"""How many CPUs the host has, and how busy they are."""

from __future__ import annotations

import re

from mom_core import FieldSpec, Scope, Unit

_LOAD = re.compile(r"([0-9]{1,9}\.[0-9]{1,4}) ([0-9]{1,9}\.[0-9]{1,4}) ([0-9]{1,9}\.[0-9]{1,4}) ")
_CPU_LIST = re.compile(r"[0-9]{1,9}(?:-[0-9]{1,9})?(?:,[0-9]{1,9}(?:-[0-9]{1,9})?)*\n?")

FIELDS = (
    FieldSpec("cpu_count", Unit.COUNT, Scope.HOST, "CPUs that are online", "/sys/devices/system/cpu/online"),
    *(
        FieldSpec(
            f"load_{minutes}",
            Unit.RATIO,
            Scope.HOST,
            f"tasks that run or wait to, average of {minutes} min, not divided by CPUs",
            "/proc/loadavg",
        )
        for minutes in (1, 5, 15)
    ),
)


def load_fields(text: str) -> dict[str, float]:
    """`load_1`, `load_5` and `load_15` from /proc/loadavg; empty when the text is malformed."""
    match = _LOAD.match(text)
    return {} if match is None else dict(zip(("load_1", "load_5", "load_15"), map(float, match.groups()), strict=True))


def count_cpus(text: str) -> int | None:
    """How many CPUs a kernel CPU list such as `0-3,8` names; None when it is malformed (its numbers always rise)."""
    if not _CPU_LIST.fullmatch(text):
        return None
    count, highest = 0, -1
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        low, high = int(first), int(last or first)
        if low <= highest or high < low:
            return None
        count, highest = count + high - low + 1, high
    return count
