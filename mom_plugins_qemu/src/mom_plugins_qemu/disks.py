"""Guests' disks by QEMU's word: their limits, and the command that sets them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from mom_core import DiskTune
from mom_plugins_qemu.wire import Answer, Question, WireError

_NAMES: Final = dict(zip(DiskTune.LIMITS, ("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"), strict=True))
"""The limits, and what QEMU calls them."""

_BURSTS: Final = (
    *(f"{name}_max" for name in _NAMES.values()), *(f"{name}_max_length" for name in _NAMES.values()), "iops_size", "group",
)  # fmt: skip
"""Not limited for QEMU where it is not given again: bursts, and which disks share their limits."""

_LARGEST: Final = 1 << 62


class ThrottledDisk(NamedTuple):
    """A disk: its limits, how QEMU's command names it, and what has to be given again with new limits."""

    tune: DiskTune
    address: Mapping[str, str]
    bursts: Mapping[str, object]


def disks_of(answer: Answer) -> dict[str, ThrottledDisk]:
    """The disks of a guest, by the answer to `query-block`, without what can be taken out. Raises `WireError`."""
    if not isinstance(answer, list):
        raise WireError("QEMU does not say which disks the guest has")
    found: dict[str, ThrottledDisk] = {}
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
        found[name] = ThrottledDisk(tune, address, {key: inserted[key] for key in _BURSTS if type(inserted.get(key)) in {int, str}})
    return found


def throttling(disk: ThrottledDisk, limits: Mapping[str, int]) -> Question:
    """The command that sets all limits of this disk at once; its bursts stay, as far as they still have a limit to go beyond."""
    named = {theirs: limits.get(ours, 0) for ours, theirs in _NAMES.items()}
    kept = {key: value for key, value in disk.bursts.items() if key in {"iops_size", "group"} or named.get(key.partition("_max")[0])}
    return Question("block_set_io_throttle", {**disk.address, **named, **kept})
