"""Disks' and CPUs' limits in vdsm's words, without those that vdsm or libvirt would refuse. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mom_core import DiskTune, NotSupported, printable
from mom_plugins_vdsm.statistics import number

IO_KEYS = ("total_bytes_sec", "read_bytes_sec", "write_bytes_sec", "total_iops_sec", "read_iops_sec", "write_iops_sec")
_EXCLUSIVE = (IO_KEYS[:3], IO_KEYS[3:])
"""A limit on the sum, and one on a part of it, exclude each other."""

_LEAST_PERIOD_US, _MOST_PERIOD_US = 1000, 1_000_000
_LEAST_QUOTA_US, _MOST_QUOTA_US = 1000, 17_592_186_044_415
"""libvirt's bounds: of the kernel's CFS bandwidth control, which counts nanoseconds in 64 bits less the lowest 20."""


def disk_tunes(entry: object) -> tuple[DiskTune, ...]:
    """The limits of one guest's disks, from its entry in the answer to Host.getAllVmIoTunePolicies.

    What was agreed for a disk is found by its path; by its name where a path is missing. Without it the disk has `current` only.
    """
    if not isinstance(entry, Mapping):
        return ()
    policies = _objects(entry.get("policy"))[::-1]  # of two for one disk, the first counts
    by_path = {path: policy for policy in policies if (path := _text(policy, "path"))}
    by_name = {name: policy for policy in policies if (name := _text(policy, "name"))}
    without_path = {_text(policy, "name"): policy for policy in policies if not _text(policy, "path")}
    tunes = []
    for item in _objects(entry.get("current_values")):
        name, path = _text(item, "name"), _text(item, "path")
        if not name and not path:
            continue
        agreed = (by_path.get(path) or without_path.get(name, {})) if path else by_name.get(name, {})
        current = _limits(item.get("ioTune")) or {}
        tunes.append(DiskTune(name or path, path, current, _limits(agreed.get("maximum")), _limits(agreed.get("guaranteed"))))
    return tuple(tunes)


def _limits(value: object) -> dict[str, int] | None:
    if not isinstance(value, Mapping):
        return None
    return {key: limit for key in IO_KEYS if (limit := number(value.get(key))) is not None}


def _objects(value: object) -> Sequence[Mapping[str, object]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else ()


def _text(item: Mapping[str, object], key: str) -> str:
    value = item.get(key)
    return value if isinstance(value, str) else ""


def tunable(disk: DiskTune, limits: Mapping[str, int]) -> dict[str, object]:
    """The entry with which VM.setIoTune gives this disk these limits. Raises `NotSupported` for those that vdsm would refuse."""
    for key, limit in limits.items():
        if key not in IO_KEYS:
            raise NotSupported(f"vdsm knows no limit {printable(str(key), 40)}", hint=f"it knows {', '.join(IO_KEYS)}")
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
            raise NotSupported(f"{limit!r:.40} is no limit for {key}: it takes whole numbers from 0, which means none")
    then = {**disk.current, **limits}
    for total, *parts in _EXCLUSIVE:
        if then.get(total) and any(then.get(part) for part in parts):
            raise NotSupported(f"{disk.name}: {total} and a limit on {parts[0]} or {parts[1]} exclude each other; set one of them to 0")
    told: dict[str, object] = {"ioTune": {key: then[key] for key in IO_KEYS if key in then}}
    if disk.path:
        told["path"] = disk.path
    if disk.name != disk.path:
        told["name"] = disk.name
    return told


def check_cpu_tune(quota_us: int | None, period_us: int | None) -> None:
    """Raise `NotSupported`, with libvirt's bounds, for what it would refuse."""
    for value in (quota_us, period_us):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise NotSupported(f"{value!r:.40} is no whole number of microseconds")
    if period_us is not None and not _LEAST_PERIOD_US <= period_us <= _MOST_PERIOD_US:
        raise NotSupported(f"a period of {period_us} µs is impossible: it is {_LEAST_PERIOD_US} to {_MOST_PERIOD_US}")
    if quota_us is not None and quota_us >= 0 and not _LEAST_QUOTA_US <= quota_us <= _MOST_QUOTA_US:
        raise NotSupported(f"a quota of {quota_us} µs is impossible: it is {_LEAST_QUOTA_US} to {_MOST_QUOTA_US}, or -1 for no limit")
