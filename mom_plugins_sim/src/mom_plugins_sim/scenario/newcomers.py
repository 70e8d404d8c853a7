"""Additional guests for a recorded host: they repeat the work of recorded guests at another time."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Final

from mom_core import MomError
from mom_plugins_sim.scene import FOREVER, GUEST_GRAIN_KIB, GuestScene, Scene, draw_identity
from mom_plugins_sim.workload import Demand, Trace

NAME: Final = "advised"
"""Prefix of their names, for patterns in the section `guests`."""


def with_newcomers(scene: Scene, count: int, memory_kib: float | None, seed: int) -> Scene:
    """Return the scene with `count` more guests. Raise `MomError` if no recorded guest has statistics.

    :param memory_kib: memory of each guest; None for that of the recorded guest
    :param seed: decides which recorded guest each repeats, and the time shift
    """
    models = [guest for guest in scene.guests if not guest.silent and isinstance(guest.workload.demand, Trace)]
    if not models:
        raise MomError("no guest of the recording reports its memory use", hint="record guests with memory statistics")
    source = random.Random(seed)  # noqa: S311  # the simulation must be repeatable
    newcomers = [_copy(source.choice(models), number, memory_kib, source) for number in range(1, count + 1)]
    return replace(scene, guests=[*scene.guests, *newcomers])


def _copy(model: GuestScene, number: int, memory_kib: float | None, source: random.Random) -> GuestScene:
    memory = model.memory if memory_kib is None else max(GUEST_GRAIN_KIB, memory_kib)
    ratio, work = memory / model.memory, model.workload
    guest = replace(model, identity=draw_identity(source), name=f"{NAME}-{number:03d}", memory=memory, swap=model.swap * ratio)
    demand = _shifted(work.demand, ratio, source)
    workload = replace(work, demand=demand, files=work.files * ratio, hot_cache=work.hot_cache * ratio, cold=0.0)
    first = source.uniform(0.0, model.statistics_period)
    fresh = replace(guest, rigid=False, arrives=0.0, departs=FOREVER, size=None, sold_as=None, properties={})
    return replace(fresh, workload=workload, statistics_first=first)


def _shifted(demand: Demand, ratio: float, source: random.Random) -> Demand:
    if not isinstance(demand, Trace) or len(demand.times) < 2:
        return demand if not isinstance(demand, Trace) else Trace([0.0], [value * ratio for value in demand.values[:1]])
    first, duration = demand.times[0], demand.times[-1] - demand.times[0]
    begin = source.uniform(0.0, duration)
    points = [((time - first - begin) % duration, value * ratio) for time, value in zip(demand.times[:-1], demand.values[:-1], strict=True)]
    points.sort()
    times, values = [0.0], [points[-1][1]]
    for time, value in points:
        if time > times[-1]:
            times.append(time)
            values.append(value)
    return Trace(times, values)
