"""The host's swap: how much there is and is used, from /proc/meminfo, and how busy it is, from the counters in /proc/vmstat."""

from __future__ import annotations

import re
from collections.abc import Mapping

from mom_core import FieldSpec, Metric, Scope, Unit

_COUNTERS = (("swap_in", "pswpin", "read back from"), ("swap_out", "pswpout", "written to"))
_COUNTER = re.compile(r"^(pswpin|pswpout) ([0-9]{1,20})$", re.MULTILINE)


def _spec(name: str, unit: Unit, when: str, counter: str, done: str, metric: Metric = Metric.GAUGE) -> FieldSpec:
    return FieldSpec(name, unit, Scope.HOST, f"pages {done} swap {when}", f"/proc/vmstat {counter}", metric)


FIELDS = (
    FieldSpec("swap_total", Unit.KIB, Scope.HOST, "swap space that is switched on", "/proc/meminfo SwapTotal"),
    FieldSpec("swap_usage", Unit.KIB, Scope.HOST, "swap space that is in use", "/proc/meminfo SwapTotal - SwapFree"),
    *(_spec(name, Unit.PAGES, "since the last sample", counter, done, Metric.NONE) for name, counter, done in _COUNTERS),
    *(_spec(f"{name}_rate", Unit.PAGES_PER_SECOND, "a second", counter, done) for name, counter, done in _COUNTERS),
)


def swap_space_fields(meminfo: Mapping[str, int]) -> dict[str, int]:
    """`swap_total` and `swap_usage` in KiB, from the lines of /proc/meminfo; what is missing or negative is left out."""
    total, free = meminfo.get("SwapTotal"), meminfo.get("SwapFree")
    if total is None:
        return {}
    return {"swap_total": total} | ({"swap_usage": total - free} if free is not None and free <= total else {})


def parse_swap_counters(text: str) -> dict[str, int]:
    """`pswpin` and `pswpout` of /proc/vmstat: pages since the host has started. A malformed line is left out."""
    return {name: int(number) for name, number in _COUNTER.findall(text)}


class SwapActivity:
    """Swap counters, over the time between two samples.

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
            if (count := counters.get(counter)) is None:
                continue
            before, since = self._last.get(counter, (count + 1, now))  # as if it went backwards: unknown
            self._last[counter] = (count, now)
            if count >= before:
                fields[name] = count - before
                if now > since:
                    fields[f"{name}_rate"] = (count - before) / (now - since)
        return fields
