"""Disks' limits in vdsm's format."""

from __future__ import annotations

from collections.abc import Mapping

from mom_core import DiskTune, as_items
from mom_plugins_vdsm.statistics import number


def disk_tunes(entry: object) -> tuple[DiskTune, ...]:
    """Return the disks' limits from a guest's entry of Host.getAllVmIoTunePolicies. A disk without a policy has only `current`."""
    if not isinstance(entry, Mapping):
        return ()
    policies = (as_items(entry.get("policy")) or ())[::-1]  # of two entries for one disk, the first counts
    by_path = {path: policy for policy in policies if (path := _text(policy, "path"))}
    by_name = {name: policy for policy in policies if (name := _text(policy, "name"))}
    without_path = {_text(policy, "name"): policy for policy in policies if not _text(policy, "path")}
    tunes = []
    for item in as_items(entry.get("current_values")) or ():
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
    return {key: limit for key in DiskTune.LIMITS if (limit := number(value.get(key))) is not None}


def _text(item: Mapping[str, object], key: str) -> str:
    value = item.get(key)
    return value if isinstance(value, str) else ""


def tunable(disk: DiskTune, limits: Mapping[str, int]) -> dict[str, object]:
    """Return the entry for VM.setIoTune that sets these limits. vdsm keeps the other limits."""
    entry: dict[str, object] = {"ioTune": {key: limits[key] for key in DiskTune.LIMITS if key in limits}}
    if disk.path:
        entry["path"] = disk.path
    if disk.name != disk.path:
        entry["name"] = disk.name
    return entry
