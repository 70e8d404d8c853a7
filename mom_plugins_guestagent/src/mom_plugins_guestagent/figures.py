"""From what a guest says about its memory to fields: what cannot be true is not believed, and counts become rates.

Pure: numbers in, numbers out. Whatever a guest says, this does not raise, and gives no number that is negative or not finite.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from mom_core import Value

SIZES = ("mem_available", "mem_unused", "mem_usable", "mem_free", "mem_disk_caches", "swap_total", "swap_usage")
"""KiB. `mem_available` is all the memory that the guest's kernel manages, as MOM and libvirt name it."""

SIZE_RATES = ("swap_in", "swap_out")
COUNT_RATES = ("major_fault", "minor_fault")
"""Counts since the guest's boot (KiB, faults), whose growth per second is the field."""

OOM_KILLS = "oom_kills"
PRESSURE_SHARES = tuple(f"psi_memory_{kind}_avg{seconds}" for kind in ("some", "full") for seconds in (10, 60, 300))
PRESSURE_TOTALS = tuple(f"psi_memory_{kind}_total" for kind in ("some", "full"))
LOADS = tuple(f"load_{minutes}" for minutes in (1, 5, 15))

PREFIX = "guest_"
"""Before the names of fields that only agents know."""

_LARGEST = 1 << 50
"""KiB, which is an exbibyte: no guest has so much memory or swap."""

_LARGEST_COUNT = 1 << 62
_MOST_KIB_PER_SECOND = 1 << 30
"""A tebibyte a second: no machine swaps so fast."""

_MOST_FAULTS_PER_SECOND = 1e10
_LARGEST_LOAD = 1e6

_LEAST_SECONDS = 0.5
"""Over less than this, the growth of a count says nothing."""

_NUMBER = re.compile(r"-?[0-9]{1,18}(?:\.[0-9]{1,6})?")


@dataclass(frozen=True, slots=True)
class AgentSample:
    """The believed part of what a guest said at one moment.

    `monotonic` is in seconds; `now` holds fields that are true as they are, `counts` those of which only the growth says something, and
    `rates` that growth per second. `of_memory`: it said something of its memory, believed or not, and not only how busy it is.
    """

    monotonic: float
    now: Mapping[str, Value]
    counts: Mapping[str, int] = field(default_factory=dict)
    rates: Mapping[str, float] = field(default_factory=dict)
    of_memory: bool = True


@dataclass(frozen=True, slots=True)
class Judged:
    """A sample, and why some of what was said is not in it; empty when all is. No number or text of the guest's is in the reasons."""

    sample: AgentSample
    lies: tuple[str, ...] = ()


def judge(said: Mapping[str, object], monotonic: float, previous: AgentSample | None = None, maximum_kib: int | None = None) -> Judged:
    """Believe of this what can be true.

    :param said: numbers, or texts that are numbers, by name; other names are passed over
    :param previous: the same guest's last sample since it was started
    :param maximum_kib: what the hypervisor gives the guest at most, if that is known
    """
    lies: list[str] = []
    numbers: dict[str, float] = {}
    for name in (*SIZES, *SIZE_RATES, *COUNT_RATES, OOM_KILLS, *PRESSURE_SHARES, *PRESSURE_TOTALS, *LOADS):
        if name in said:
            number = _number(said[name])
            if number is None or number < 0:
                lies.append(f"{name} is no number that it can be")
            else:
                numbers[name] = number
    now: dict[str, Value] = {}
    now.update(_memory(numbers, maximum_kib, lies))
    now.update(_swap(numbers, lies))
    now.update(_pressure(numbers, lies))
    loads = {name: numbers[name] for name in LOADS if name in numbers}
    if all(load <= _LARGEST_LOAD for load in loads.values()):
        now.update({PREFIX + name: load for name, load in loads.items()})
    else:
        lies.append("its load is no load")
    if OOM_KILLS in numbers:
        now[PREFIX + OOM_KILLS] = int(numbers[OOM_KILLS])
    counts = {name: int(numbers[name]) for name in (*SIZE_RATES, *COUNT_RATES) if name in numbers}
    rates = {} if previous is None else _rates(previous, counts, monotonic, lies)
    return Judged(AgentSample(monotonic, now, counts, rates, any(name not in LOADS for name in said)), tuple(lies))


def fields_of(sample: AgentSample) -> dict[str, Value]:
    """A sample as fields."""
    return {**sample.now, **sample.rates}


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


def _memory(numbers: Mapping[str, float], maximum_kib: int | None, lies: list[str]) -> dict[str, Value]:
    """Sizes of memory. One that cannot be makes all of them worthless: who knows which one is wrong."""
    sizes = {name: int(numbers[name]) for name in SIZES[:5] if name in numbers}
    if not sizes:
        return {}
    total = sizes.get("mem_available", 0)
    if not 0 < total < _LARGEST:
        lies.append("it does not say how much memory it has")
        return {}
    if maximum_kib is not None and total > maximum_kib:
        lies.append("it says that it has more memory than it can have")
        return {}
    for name, size in sizes.items():
        if size > total:
            lies.append(f"{name} is more than all its memory")
            return {}
    if sizes.get("mem_free", total) < sizes.get("mem_unused", 0):
        lies.append("it has more unused than free memory")
        return {}
    return dict(sizes)


def _swap(numbers: Mapping[str, float], lies: list[str]) -> dict[str, Value]:
    sizes = {name: int(numbers[name]) for name in SIZES[5:] if name in numbers}
    total = sizes.get("swap_total")
    if total is None:
        return {}
    if total >= _LARGEST or sizes.get("swap_usage", 0) > total:
        lies.append("it uses more swap space than it can have")
        return {}
    return dict(sizes)


def _pressure(numbers: Mapping[str, float], lies: list[str]) -> dict[str, Value]:
    shares = {name: numbers[name] for name in PRESSURE_SHARES if name in numbers}
    if any(share > 100 for share in shares.values()):
        lies.append("its memory pressure is more than 100 %")
        return {}
    totals = {name: int(numbers[name]) for name in PRESSURE_TOTALS if name in numbers}
    return {PREFIX + name: value for name, value in {**shares, **totals}.items()}


def _rates(previous: AgentSample, counts: Mapping[str, int], monotonic: float, lies: list[str]) -> dict[str, float]:
    """Growth per second; unknown where a count went back, as all do when the guest reboots."""
    seconds = monotonic - previous.monotonic
    before = previous.counts
    if seconds < _LEAST_SECONDS or any(count < before.get(name, 0) for name, count in counts.items()):
        return {}
    rates = {name: round((count - before[name]) / seconds, 3) for name, count in counts.items() if name in before}
    for names, limit in ((SIZE_RATES, _MOST_KIB_PER_SECOND), (COUNT_RATES, _MOST_FAULTS_PER_SECOND)):
        if any(rates.get(name, 0) > limit for name in names):
            lies.append("its counts grow faster than any machine could make them")
            return {}
    return rates
