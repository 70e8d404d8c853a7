"""The host's swap: how much there is and is used, from /proc/meminfo, and how busy it is, from the counters in /proc/vmstat."""

from __future__ import annotations

import re
from collections.abc import Mapping

from mom_core import FieldSpec, Metric, Scope, Unit

_COUNTERS = (("swap_in", "pswpin", "read back from"), ("swap_out", "pswpout", "written to"))
_COUNTER = re.compile(r"^(pswpin|pswpout) ([0-9]{1,20})$", re.MULTILINE)

FIELDS = (
    FieldSpec("swap_total", Unit.KIB, Scope.HOST, "swap space that is switched on", "/proc/meminfo SwapTotal"),
    FieldSpec("swap_usage", Unit.KIB, Scope.HOST, "swap space that is in use", "/proc/meminfo SwapTotal - SwapFree"),
    *(
        FieldSpec(name, Unit.PAGES, Scope.HOST, f"pages {done} swap since the last sample", f"/proc/vmstat {counter}", Metric.NONE)
        for name, counter, done in _COUNTERS
    ),
    *(
        FieldSpec(
            f"{name}_rate",
            Unit.PAGES_PER_SECOND,
            Scope.HOST,
            f"pages {done} swap a second since the last sample",
            f"/proc/vmstat {counter}",
        )
        for name, counter, done in _COUNTERS
    ),
)


def swap_space_fields(meminfo: Mapping[str, int]) -> dict[str, int]:
    """`swap_total` and `swap_usage` in KiB, from the lines of /proc/meminfo; what is missing or negative is left out."""
    fields: dict[str, int] = {}
    total, free = meminfo.get("SwapTotal"), meminfo.get("SwapFree")
    if total is not None:
        fields["swap_total"] = total
        if free is not None and free <= total:
            fields["swap_usage"] = total - free
    return fields


def parse_swap_counters(text: str) -> dict[str, int]:
    """`pswpin` and `pswpout` of /proc/vmstat: pages since the host has started. A malformed line is left out."""
    return {name: int(number) for name, number in _COUNTER.findall(text)}


class SwapActivity:
    """What the swap counters say about the time between two samples.

    Each counter is remembered by itself: one that could not be read once is compared with its last known value, over the time that
    has really passed.
    """

    def __init__(self) -> None:
        self._last: dict[str, tuple[int, float]] = {}

    def fields(self, counters: Mapping[str, int], now: float) -> dict[str, int | float]:
        """`swap_in`, `swap_out` in pages and their `_rate` in pages/s since the last sample.

        Left out: everything at the first sample, a counter that has gone backwards, and rates when no time has passed.

        :param counters: `pswpin` and `pswpout`, as far as they are known
        :param now: seconds of a clock that never jumps
        """
        fields: dict[str, int | float] = {}
        for name, counter, _ in _COUNTERS:
            count = counters.get(counter)
            if count is None:
                continue
            before = self._last.get(counter)
            self._last[counter] = (count, now)
            if before is None or count < before[0]:
                continue
            fields[name] = count - before[0]
            if now > before[1]:
                fields[f"{name}_rate"] = (count - before[0]) / (now - before[1])
        return fields
