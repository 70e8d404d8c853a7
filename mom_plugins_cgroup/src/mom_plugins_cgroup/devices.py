"""Limits of disks as the kernel writes them, a line for each, and as mom does, a list of mappings. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from mom_core import Value
from mom_plugins_cgroup.names import IO_LATENCY, IO_MAX, NO_LIMIT

Item = dict[str, Value]

KEYS = {IO_MAX: ("rbps", "wbps", "riops", "wiops"), IO_LATENCY: ("target",)}
"""What can be limited on each disk: bytes and operations per second; microseconds."""

V1_FILES = {
    "rbps": "blkio.throttle.read_bps_device",
    "wbps": "blkio.throttle.write_bps_device",
    "riops": "blkio.throttle.read_iops_device",
    "wiops": "blkio.throttle.write_iops_device",
}

_DEVICE = re.compile(r"(\d{1,4}):(\d{1,7})")
_MOST = (1 << 63) - 1


class ImpossibleLimit(ValueError):
    """A list that no kernel takes, and why."""


def free(control: str) -> dict[str, int]:
    """The limits of a disk that has none."""
    return dict.fromkeys(KEYS[control], NO_LIMIT)


def parsed(control: str, text: str) -> list[Item]:
    """The lines of io.max or io.latency; disks without any limit are left out, as the kernel does."""
    found: dict[str, dict[str, int]] = {}
    for line in text.splitlines():
        device, *words = line.split() or [""]
        if not _DEVICE.fullmatch(device):
            continue
        limits = free(control)
        for word in words:
            key, _, value = word.partition("=")
            if key in limits and value.isdigit():
                limits[key] = int(value) or NO_LIMIT  # as a latency target, 0 is none
        found[device] = limits
    return _listed(control, found)


def parsed_v1(texts: Mapping[str, str]) -> list[Item]:
    """The same from the four files of cgroups v1, given by the keys of io.max: lines of `MAJOR:MINOR NUMBER`."""
    found: dict[str, dict[str, int]] = {}
    for key, text in texts.items():
        for line in text.splitlines():
            device, _, value = line.partition(" ")
            if _DEVICE.fullmatch(device) and value.strip().isdigit():
                found.setdefault(device, free(IO_MAX))[key] = int(value)
    return _listed(IO_MAX, found)


def completed(control: str, value: Value, present: Value) -> list[Item]:
    """All limits that are to stand: those of the present list, with what the other one says. Raises `ImpossibleLimit`."""
    wanted = by_device(control, present)
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ImpossibleLimit("it is no list of disks")
    for item in value:
        device = item.get("device") if isinstance(item, Mapping) else None
        if not isinstance(item, Mapping) or not isinstance(device, str) or not _DEVICE.fullmatch(device):
            raise ImpossibleLimit("each disk needs its `device`, as MAJOR:MINOR")
        unknown = item.keys() - {"device", *KEYS[control]}
        if unknown:
            raise ImpossibleLimit(f"{sorted(unknown)[0]!r:.40} is none of {', '.join(KEYS[control])}")
        limits = wanted.setdefault(device, free(control))
        for key in KEYS[control]:
            number = item.get(key)
            if number is None:
                continue
            if isinstance(number, bool) or not isinstance(number, int) or not (number == NO_LIMIT or 0 < number <= _MOST):
                raise ImpossibleLimit(f"{key} must be a whole number above 0, or -1 for no limit, not {number!r:.40}")
            limits[key] = number
    return _listed(control, wanted)


def by_device(control: str, value: Value) -> dict[str, dict[str, int]]:
    """The limits of each disk in a list."""
    found: dict[str, dict[str, int]] = {}
    for item in value if isinstance(value, Sequence) and not isinstance(value, str) else ():
        if isinstance(item, Mapping) and isinstance(item.get("device"), str):
            numbers = {key: item.get(key) for key in KEYS[control]}
            found[str(item["device"])] = free(control) | {key: n for key, n in numbers.items() if isinstance(n, int)}
    return found


def line_of(control: str, device: str, limits: Mapping[str, int]) -> str:
    """What is written into io.max or io.latency for one disk."""
    none = "max" if control == IO_MAX else "0"
    return " ".join([device, *(f"{key}={none if number == NO_LIMIT else number}" for key, number in limits.items())])


def _listed(control: str, limits: Mapping[str, Mapping[str, int]]) -> list[Item]:
    none = free(control)
    order = sorted(limits, key=lambda device: [int(number) for number in device.split(":")])
    return [{"device": device, **limits[device]} for device in order if limits[device] != none]
