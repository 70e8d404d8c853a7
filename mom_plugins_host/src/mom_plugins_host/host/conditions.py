"""Memory pressure on the host as a whole, for the verdict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from mom_core import Condition, Severity, Value, format_kib

STALLED_PERCENT: Final = 60.0
"""From here on systemd-oomd kills (its DefaultMemoryPressureLimit). The average of a minute, so that a burst is none."""

PLENTY_SHARE: Final = 0.1
"""A host with so much of its memory available is not what processes wait for: a control group is at a limit of its own."""


def conditions(fields: Mapping[str, Value]) -> Iterable[Condition]:
    """That processes do little but wait for memory; nothing where the kernel does not tell."""
    stalled, total, available = (fields.get(name) for name in ("psi_memory_some_avg60", "mem_available", "mem_really_available"))
    if not isinstance(stalled, int | float) or stalled < STALLED_PERCENT:
        return
    message = f"processes wait for memory {stalled:.0f} % of the time"
    if isinstance(total, int) and isinstance(available, int) and available >= PLENTY_SHARE * total:
        why = f"a control group is at its limit (memory.max, memory.high): the host itself has {format_kib(available)} available"
        yield Condition("pressure", message, why, "find it with systemd-cgtop -m, and raise its limit", Severity.WARNING)
    else:
        yield Condition("memory", message, "", "stop what does not need to run, or give the host more memory")
