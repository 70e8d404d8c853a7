"""Filter of implausible statistics, and conversion of counts into rates.

Pure functions. Whatever an agent answers, they raise nothing, and their results are finite and not negative.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from mom_core import Unit, Value
from mom_plugins_guestagent.fields import FIGURES

_LARGEST: Final = 1 << 50
"""Limit in KiB (1 EiB): no guest has that much memory or swap."""

_LARGEST_COUNT: Final = 1 << 62
_MOST: Final = {Unit.PERCENT: 100.0, Unit.RATIO: 1e6}
"""Limits, keyed by unit. No guest has a million running tasks."""

_MOST_GROWTH: Final = {Unit.KIB_PER_SECOND: 1 << 30, Unit.PER_SECOND: 1e10}
"""Limits for rates. No machine swaps 1 TiB/s."""

_GROWTH_OF: Final = {spec.name: _MOST_GROWTH[spec.unit] for spec in FIGURES if spec.unit in _MOST_GROWTH}

_LEAST_SECONDS: Final = 0.5
"""Shortest time between two samples for a reliable rate."""

_NUMBER: Final = re.compile(r"-?[0-9]{1,18}(?:\.[0-9]{1,6})?")


@dataclass(frozen=True, slots=True)
class AgentSample:
    """Plausible statistics of a guest at one moment."""

    monotonic: float
    fields: Mapping[str, Value] = field(default_factory=dict)
    counts: Mapping[str, float] = field(default_factory=dict)
    """Counts since boot. The fields of the next sample contain rates, computed from the growth of these counts."""
    lies: tuple[str, ...] = ()
    """Faults of the answer, described without any number or string from the guest."""


def judge(said: Mapping[str, object], monotonic: float, previous: AgentSample | None = None, maximum_kib: int | None = None) -> AgentSample:
    """Return the plausible part of an answer.

    :param said: the agent's numbers, or strings of digits, keyed by name; unknown names are ignored
    :param previous: last sample of the same incarnation
    :param maximum_kib: largest memory according to the hypervisor; None if unknown
    """
    lies: list[str] = []
    numbers: dict[str, float] = {}
    for spec in FIGURES:
        name = spec.name.removeprefix("guest_")
        if name in said:
            number = _number(said[name])
            if number is None or not 0 <= number <= _MOST.get(spec.unit, _LARGEST_COUNT):
                lies.append(f"{name} is not a plausible number")
            else:
                numbers[spec.name] = number if spec.unit in _MOST else int(number)
    counts = {name: numbers.pop(name) for name in _GROWTH_OF if name in numbers}
    # If sizes contradict each other, any of them may be wrong: drop all.
    for kind, lie in (("mem_", _lie_of_memory(numbers, maximum_kib)), ("swap_", _lie_of_swap(numbers))):
        if lie:
            lies.append(lie)
            numbers = {name: number for name, number in numbers.items() if not name.startswith(kind)}
    growth = {} if previous is None else _growth(previous, counts, monotonic)
    if any(rate > _GROWTH_OF[name] for name, rate in growth.items()):
        lies.append("the guest's counters grow faster than is possible")
        growth = {}
    return AgentSample(monotonic, {**numbers, **growth}, counts, tuple(lies))


def _number(value: object) -> float | None:
    if isinstance(value, str):
        if not value.isascii() or not _NUMBER.fullmatch(value):
            return None
        value = float(value) if "." in value else int(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if -_LARGEST_COUNT < value < _LARGEST_COUNT else None


def _lie_of_memory(numbers: Mapping[str, float], maximum_kib: int | None) -> str:
    sizes = {name: size for name, size in numbers.items() if name.startswith("mem_")}
    total = sizes.get("mem_available", 0)
    if not sizes:
        return ""
    if not 0 < total < _LARGEST:
        return "the agent reports no valid total of the guest's memory"
    if maximum_kib is not None and total > maximum_kib:
        return "the agent reports more memory than the guest's maximum"
    if above := [name for name, size in sizes.items() if size > total]:
        return f"{above[0]} is larger than the guest's total memory"
    return "mem_unused is larger than mem_free" if sizes.get("mem_free", total) < sizes.get("mem_unused", 0) else ""


def _lie_of_swap(numbers: Mapping[str, float]) -> str:
    total = numbers.get("swap_total", 0)
    return "the guest's swap statistics are impossibly large" if total >= _LARGEST or numbers.get("swap_usage", 0) > total else ""


def _growth(previous: AgentSample, counts: Mapping[str, float], monotonic: float) -> dict[str, float]:
    # If a count has decreased, as after a reboot, there are no rates.
    seconds, before = monotonic - previous.monotonic, previous.counts
    if seconds < _LEAST_SECONDS or any(count < before.get(name, 0) for name, count in counts.items()):
        return {}
    return {name: round((count - before[name]) / seconds, 3) for name, count in counts.items() if name in before}
