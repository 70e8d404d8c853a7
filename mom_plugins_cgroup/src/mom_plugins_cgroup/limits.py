"""What the operator's settings ask for. Pure: a snapshot and settings in, values out.

They are decided in every cycle: what another process has reset is set again, as systemd does when it reads its units again.
"""

from __future__ import annotations

from collections.abc import Callable

from mom_core import Guest
from mom_plugins_cgroup.devices import Item, completed
from mom_plugins_cgroup.names import (
    CPU_WEIGHT,
    CURRENT,
    IO_LATENCY,
    IO_MAX,
    MEMORY_CONTROLS,
    MEMORY_LOW,
    NO_LIMIT,
    RECLAIM,
)
from mom_plugins_cgroup.need import Need
from mom_plugins_cgroup.settings import CgroupSettings, GroupLimits
from mom_toolkit import SetValue

_SETTINGS = dict(zip(MEMORY_CONTROLS, ("memory_high", "memory_low", "memory_min", "swap_max"), strict=True))


def wishes_of(
    guest: Guest, own: GroupLimits | None, settings: CgroupSettings, need: Need, number_of: Callable[[str], str | None]
) -> dict[str, SetValue]:
    """What the settings say about this guest, by control; without what cannot be known yet.

    :param number_of: gives a disk's number (`8:0`) for its name
    """
    wishes: dict[str, SetValue] = {}
    if own is not None:
        for control, name in _SETTINGS.items():
            size = getattr(own, name)
            if size is not None:
                wishes[control] = SetValue(NO_LIMIT if size == "max" else size >> 10)
        if own.cpu_weight is not None:
            wishes[CPU_WEIGHT] = SetValue(float(own.cpu_weight))
        for control, items in ((IO_MAX, _io_max(own, number_of)), (IO_LATENCY, _io_latency(own, number_of))):
            if items and (present := guest.fields.get(control)) is not None:
                wishes[control] = SetValue(completed(control, items, present))
    if settings.protect and need.promised and MEMORY_LOW not in wishes:
        wishes[MEMORY_LOW] = SetValue(need.promised, "what the guest is guaranteed, and QEMU's own")
    asked = None if own is None else own.reclaim
    size = guest.number("balloon_max") or guest.number(CURRENT)
    if (settings.reclaim if asked is None else asked) and size:
        pace = max(1, round(size * settings.reclaim_ratio / 60))
        wishes[RECLAIM] = SetValue(pace) if asked else SetValue(pace, "memory that guests do not touch is taken ahead of need")
    return wishes


def _io_max(own: GroupLimits, number_of: Callable[[str], str | None]) -> list[Item]:
    found: list[Item] = []
    for name, limit in (own.io_max or {}).items():
        number = number_of(name)
        if number is not None:
            given: Item = {key: NO_LIMIT if value == "max" else value for key, value in limit if value is not None}
            found.append({"device": number, **given})
    return found


def _io_latency(own: GroupLimits, number_of: Callable[[str], str | None]) -> list[Item]:
    pairs = [(number_of(name), seconds) for name, seconds in (own.io_latency or {}).items()]
    return [{"device": number, "target": max(1, round(seconds * 1e6))} for number, seconds in pairs if number is not None]
