"""From what a guest says about its memory to fields: what cannot be true is not believed, and counts become rates.

Pure: numbers in, numbers out. Whatever a guest says, this does not raise, and gives no number that is negative or not finite.
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
"""KiB, which is an exbibyte: no guest has so much memory or swap."""

_LARGEST_COUNT: Final = 1 << 62
_MOST: Final = {Unit.PERCENT: 100.0, Unit.RATIO: 1e6}
"""The largest number of a unit, where it is less than the largest count. No guest has a million tasks that run."""

_MOST_GROWTH: Final = {Unit.KIB_PER_SECOND: 1 << 30, Unit.PER_SECOND: 1e10}
"""The units of counts since boot, of which the growth per second is the field. No machine swaps a tebibyte a second."""

_GROWTH_OF: Final = {spec.name: _MOST_GROWTH[spec.unit] for spec in FIGURES if spec.unit in _MOST_GROWTH}

_KILLS: Final = "guest_oom_kills"
_MOST_KILLS: Final = 1000.0
"""In a second: before each, a kernel looks through all of its tasks. What all guests' kernels have killed is added up for weeks: a count
that leaps must not be in it."""

_LEAST_SECONDS: Final = 0.5
"""Over less than this, the growth of a count says nothing."""

_NUMBER: Final = re.compile(r"-?[0-9]{1,18}(?:\.[0-9]{1,6})?")


@dataclass(frozen=True, slots=True)
class AgentSample:
    """The believed part of what a guest said at one moment.

    `monotonic` is in seconds; `counts` are those since boot, whose growth is among the `fields` of the next sample. `of_memory`: it said
    something of its memory, believed or not, and not only how busy it is. `lies` say why some of it is not here, and hold no number or text
    of the guest's. `kills` is how often its kernel had killed, as was believed last; None: it never told.
    """

    monotonic: float
    fields: Mapping[str, Value] = field(default_factory=dict)
    counts: Mapping[str, float] = field(default_factory=dict)
    of_memory: bool = True
    lies: tuple[str, ...] = ()
    kills: float | None = None


def judge(said: Mapping[str, object], monotonic: float, previous: AgentSample | None = None, maximum_kib: int | None = None) -> AgentSample:
    """Believe of this what can be true.

    :param said: numbers, or texts that are numbers, by name; other names are passed over
    :param previous: the same guest's last sample since it was started
    :param maximum_kib: what the hypervisor gives the guest at most, if that is known
    """
    lies: list[str] = []
    numbers: dict[str, float] = {}
    for spec in FIGURES:
        name = spec.name.removeprefix("guest_")
        if name in said:
            number = _number(said[name])
            if number is None or not 0 <= number <= _MOST.get(spec.unit, _LARGEST_COUNT):
                lies.append(f"{name} is no number that it can be")
            else:
                numbers[spec.name] = number if spec.unit in _MOST else int(number)
    counts = {name: numbers.pop(name) for name in _GROWTH_OF if name in numbers}
    # One size that cannot be makes all of its kind worthless: who knows which one is wrong.
    for kind, lie in (("mem_", _lie_of_memory(numbers, maximum_kib)), ("swap_", _lie_of_swap(numbers))):
        if lie:
            lies.append(lie)
            numbers = {name: number for name, number in numbers.items() if not name.startswith(kind)}
    growth = {} if previous is None else _growth(previous, counts, monotonic)
    if any(rate > _GROWTH_OF[name] for name, rate in growth.items()):
        lies.append("its counts grow faster than any machine could make them")
        growth = {}
    kills = None if previous is None else previous.kills
    if previous is not None and kills is not None and numbers.get(_KILLS, 0) - kills > _MOST_KILLS * (monotonic - previous.monotonic):
        lies.append("its kernel kills more often than any could")
        del numbers[_KILLS]
    of_memory = any(not name.startswith("load_") for name in said)
    return AgentSample(monotonic, {**numbers, **growth}, counts, of_memory, tuple(lies), numbers.get(_KILLS, kills))


def _number(value: object) -> float | None:
    """A finite number of reasonable size; None for everything else."""
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
    """Why these sizes of memory cannot be; empty: they can."""
    sizes = {name: size for name, size in numbers.items() if name.startswith("mem_")}
    total = sizes.get("mem_available", 0)
    if not sizes:
        return ""
    if not 0 < total < _LARGEST:
        return "it does not say how much memory it has"
    if maximum_kib is not None and total > maximum_kib:
        return "it says that it has more memory than it can have"
    if above := [name for name, size in sizes.items() if size > total]:
        return f"{above[0]} is more than all its memory"
    return "it has more unused than free memory" if sizes.get("mem_free", total) < sizes.get("mem_unused", 0) else ""


def _lie_of_swap(numbers: Mapping[str, float]) -> str:
    total = numbers.get("swap_total", 0)
    return "it uses more swap space than it can have" if total >= _LARGEST or numbers.get("swap_usage", 0) > total else ""


def _growth(previous: AgentSample, counts: Mapping[str, float], monotonic: float) -> dict[str, float]:
    """Growth per second; unknown where a count went back, as all do when the guest reboots."""
    seconds, before = monotonic - previous.monotonic, previous.counts
    if seconds < _LEAST_SECONDS or any(count < before.get(name, 0) for name, count in counts.items()):
        return {}
    return {name: round((count - before[name]) / seconds, 3) for name, count in counts.items() if name in before}
