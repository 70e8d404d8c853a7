"""Limits of guests' disks, and the QEMU command that sets them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from mom_core import DiskTune
from mom_plugins_qemu.wire import Answer, Question, WireError

_NAMES: Final = dict(zip(DiskTune.LIMITS, ("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"), strict=True))
"""Mapping from mom's names of limits to QEMU's."""

_BURSTS: Final = (
    *(f"{name}_max" for name in _NAMES.values()), *(f"{name}_max_length" for name in _NAMES.values()), "iops_size", "group",
)  # fmt: skip
"""QEMU resets these settings unless they are set again."""

_LARGEST: Final = 1 << 62


class ThrottledDisk(NamedTuple):
    """Disk with its limits, its address in QEMU's commands, and settings to repeat."""

    tune: DiskTune
    address: Mapping[str, str]
    bursts: Mapping[str, object]


def disks_of(answer: Answer) -> dict[str, ThrottledDisk]:
    """Return the disks from the answer to `query-block`, without removable disks. Raise `WireError` if invalid."""
    if not isinstance(answer, list):
        raise WireError("QEMU does not report the disks of the guest")
    disks: dict[str, ThrottledDisk] = {}
    for item in answer:
        inserted = item.get("inserted") if isinstance(item, dict) else None
        if not isinstance(inserted, dict) or item.get("removable") is True:
            continue
        device, qdev = item.get("device"), item.get("qdev")
        if isinstance(device, str) and device:
            name, address = device, {"device": device}
        elif isinstance(qdev, str) and qdev:
            name, address = qdev.removesuffix("/virtio-backend").rpartition("/")[2], {"id": qdev}
        else:
            continue
        path = inserted.get("file")
        limits = {ours: value for ours, theirs in _NAMES.items() if type(value := inserted.get(theirs)) is int and 0 <= value < _LARGEST}
        tune = DiskTune(name, path if isinstance(path, str) else "", limits)
        disks[name] = ThrottledDisk(tune, address, {key: inserted[key] for key in _BURSTS if type(inserted.get(key)) in {int, str}})
    return disks


def throttling(disk: ThrottledDisk, limits: Mapping[str, int]) -> Question:
    """Return the command that sets all limits of a disk and keeps its bursts."""
    named = {theirs: limits.get(ours, 0) for ours, theirs in _NAMES.items()}
    kept = {key: value for key, value in disk.bursts.items() if key in {"iops_size", "group"} or named.get(key.partition("_max")[0])}
    return Question("block_set_io_throttle", {**disk.address, **named, **kept})
