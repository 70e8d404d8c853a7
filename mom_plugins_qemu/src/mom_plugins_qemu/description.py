"""A guest's devices, disks and statistics, read from its monitor's answers. Functions raise `WireError` for invalid answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from mom_core import DiskTune, Value
from mom_kvm import GuestField
from mom_plugins_qemu.qemu_process import canonical
from mom_plugins_qemu.wire import Answer, Question, Refusal, WireError

_NAMES: Final = dict(zip(DiskTune.LIMITS, ("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"), strict=True))
"""QEMU's names of disk limits, keyed by mom's names."""

_BURSTS: Final = (
    *(f"{name}_max" for name in _NAMES.values()), *(f"{name}_max_length" for name in _NAMES.values()), "iops_size", "group",
)  # fmt: skip
"""Disk settings that QEMU resets unless each change of limits repeats them."""


class ThrottledDisk(NamedTuple):
    """Disk with its limits, its address in QEMU's commands, and settings that each change must repeat."""

    tune: DiskTune
    address: Mapping[str, str]
    bursts: Mapping[str, object]


def disks_of(answer: Answer) -> dict[str, ThrottledDisk]:
    """Return the disks in the answer to `query-block`, keyed by name, without removable disks."""
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
    """Return the command that sets all limits of a disk (missing ones to 0), and keeps its bursts."""
    named = {theirs: limits.get(ours, 0) for ours, theirs in _NAMES.items()}
    kept = {key: value for key, value in disk.bursts.items() if key in {"iops_size", "group"} or named.get(key.partition("_max")[0])}
    return Question("block_set_io_throttle", {**disk.address, **named, **kept})


_LARGEST: Final = 1 << 62

_LONGEST_NAME: Final = 1024

_PERIPHERAL: Final = "/machine/peripheral"
_ANONYMOUS: Final = "/machine/peripheral-anon"

DESCRIBING: Final = (
    Question("query-name"),
    Question("query-uuid"),
    Question("query-memory-size-summary"),
    Question("query-memory-devices"),
    Question("query-cpus-fast"),
    Question("qom-list", {"path": _PERIPHERAL}),
    Question("qom-list", {"path": _ANONYMOUS}),
    Question("qom-get", {"path": "/machine", "property": "confidential-guest-support"}),
)
"""Queries about a guest's identity and devices."""

_GUESTSTATISTICS: Final = "guest-stats"
POLLING_INTERVAL: Final = "guest-stats-polling-interval"

_SWITCHES: Final = {GuestField.REPORTING: "free-page-reporting", GuestField.AUTODEFLATE: "deflate-on-oom"}
"""Properties of QEMU's balloon device, keyed by field. Their values are fixed at the guest's start."""

_PINNING: Final = ("vfio-pci", "vhost-vdpa")
"""Devices with direct access to guest memory. With such a device, QEMU gives no ballooned memory back to the host."""

STATISTICS: Final = {
    "stat-total-memory": ("balloon.available", 10),
    "stat-free-memory": ("balloon.unused", 10),
    "stat-available-memory": ("balloon.usable", 10),
    "stat-disk-caches": ("balloon.disk_caches", 10),
    "stat-swap-in": ("balloon.swap_in", 10),
    "stat-swap-out": ("balloon.swap_out", 10),
    "stat-major-faults": ("balloon.major_fault", 0),
    "stat-minor-faults": ("balloon.minor_fault", 0),
}
"""For each of QEMU's statistics: its name in records, and how many low bits to drop (10: bytes to KiB)."""

_UNKNOWN: Final = (-1, (1 << 64) - 1)
"""Values with which the balloon driver marks a statistic as unknown."""


class VirtioMem(NamedTuple):
    """virtio-mem device. `path` is its place in QEMU's object tree; empty if the device has no ID."""

    path: str
    size_kib: int
    requested_kib: int
    maximum_kib: int
    block_kib: int


@dataclass(frozen=True, slots=True)
class Description:
    """Guest's devices and memory. Sizes in KiB.

    `balloon` is the balloon device's path in QEMU's object tree. `pinned` says why the host cannot use ballooned memory. If `immovable`,
    the host cannot use unplugged memory either. `fixed_kib` is the memory without virtio-mem.
    """

    name: str
    uuid: str
    fixed_kib: int
    vcpus: int
    balloon: str = ""
    pinned: str = ""
    virtio_mem: tuple[VirtioMem, ...] = ()
    immovable: bool = False
    dimms_kib: int = 0

    @property
    def balloon_works(self) -> bool:
        """Whether the host can use ballooned memory."""
        return bool(self.balloon) and not self.pinned

    def cycle_questions(self, *, switches: bool = False) -> tuple[Question, ...]:
        """Return the queries that mom makes in each cycle.

        :param switches: also read the balloon device's features
        """
        once = _SWITCHES.values() if switches and self.balloon else ()
        features = (Question("qom-get", {"path": self.balloon, "property": name}) for name in once)
        return (Question("query-status"), Question("query-migrate"), *self.size_questions(), *features)

    def size_questions(self) -> tuple[Question, ...]:
        """Return queries about size and statistics."""
        devices = Question("query-memory-devices")
        if not self.balloon:
            return (devices,)
        return (
            devices,
            Question("query-balloon"),
            Question("qom-get", {"path": self.balloon, "property": _GUESTSTATISTICS}),
            Question("qom-get", {"path": self.balloon, "property": POLLING_INTERVAL}),
        )


class Look(NamedTuple):
    """State of a guest in one cycle. `period` is the statistics period in seconds. If `again`, mom must read the description again."""

    status: str
    migration: str
    record: Mapping[str, object]
    period: int | None
    virtio_mem: tuple[VirtioMem, ...] = ()
    again: bool = False
    switches: Mapping[str, Value] | None = None


def described(answers: Sequence[Answer]) -> Description:
    """Return the description from the answers to `DESCRIBING`."""
    name, uuid, memory, devices, cpus, named, unnamed, confidential = answers
    sizes = _mapping(memory)
    dimms, virtio_mem = memory_devices(devices)
    peripherals = [*_devices(_PERIPHERAL, named), *_devices(_ANONYMOUS, unnamed)]
    balloons = [path for path, kind in peripherals if kind.startswith("virtio-balloon")]
    text = _mapping(name).get("name")
    return Description(
        _text(text if isinstance(text, str) else ""),
        canonical(str(_mapping(uuid).get("UUID", ""))),
        (_size(sizes.get("base-memory")) + dimms) >> 10,
        len(cpus) if isinstance(cpus, list) else 0,
        balloons[0] if balloons else "",
        _why_pinned([kind for _, kind in peripherals], confidential),
        virtio_mem,
        isinstance(confidential, str) and bool(confidential),
        dimms >> 10,
    )


def _why_pinned(kinds: Sequence[str], confidential: Answer) -> str:
    if isinstance(confidential, str) and confidential:
        return "the guest is confidential: the host cannot reclaim its memory"
    passed = next((kind for kind in kinds if kind.startswith(_PINNING)), "")
    return f"a host device ({passed}) pins the guest's memory: the host cannot reclaim it" if passed else ""


def with_held_memory(description: Description, *, pool_kib: int = 0, locked_kib: int = 0) -> Description:
    """Return the description, with the reasons why the host cannot use the guest's memory.

    :param pool_kib: memory in huge pages from the host's pool
    """
    if pool_kib:
        return replace(description, pinned="the guest's memory is in huge pages: nothing else can use them", immovable=True)
    if not description.pinned and 0 < description.fixed_kib <= locked_kib:
        return replace(description, pinned="the guest's memory is locked: the host cannot reclaim it")
    return description


def _devices(folder: str, listed: Answer) -> Iterator[tuple[str, str]]:
    for item in listed if isinstance(listed, list) else ():
        kind, name = _mapping(item).get("type"), _mapping(item).get("name")
        if isinstance(kind, str) and isinstance(name, str) and kind.startswith("child<") and name.isprintable():
            yield f"{folder}/{name}", kind[6:-1]


def memory_devices(listed: Answer) -> tuple[int, tuple[VirtioMem, ...]]:
    """Return the DIMMs' total bytes, and the virtio-mem devices."""
    dimms, virtio_mem = 0, []
    for item in listed if isinstance(listed, list) else ():
        kind, content = _mapping(item).get("type"), _mapping(_mapping(item).get("data"))
        if kind == "dimm":
            dimms += _size(content.get("size"))
        elif kind == "virtio-mem":
            identity = content.get("id")
            path = f"{_PERIPHERAL}/{identity}" if isinstance(identity, str) and identity.isprintable() else ""
            numbers = [_size(content.get(key)) >> 10 for key in ("size", "requested-size", "max-size", "block-size")]
            virtio_mem.append(VirtioMem(path, *numbers))
    return dimms, tuple(virtio_mem)


def guest_look(description: Description, answers: Sequence[Answer]) -> Look:
    """Return a guest's state from the answers to `cycle_questions`."""
    status, migration, devices, *balloon = answers
    status_word = _mapping(status).get("status")
    if not isinstance(status_word, str):
        raise WireError("QEMU does not report the guest's status")
    moving = _mapping(migration).get("status") if not isinstance(migration, Refusal) else None
    now, virtio_mem = _with_devices(description, devices)
    again = now != description or [device.path for device in virtio_mem] != [device.path for device in description.virtio_mem]
    count = len(description.size_questions()) - 1
    record, period, gone = _balloon_record(now, balloon[:count], virtio_mem)
    features = zip(_SWITCHES, balloon[count:], strict=True) if balloon[count:] else None
    switches = None if features is None else {name: int(on) for name, on in features if isinstance(on, bool)}
    return Look(status_word, moving if isinstance(moving, str) else "", record, period, virtio_mem, again or gone, switches)


def size_record(description: Description, answers: Sequence[Answer]) -> Mapping[str, object]:
    """Return a guest's sizes and statistics from the answers to `size_questions`."""
    now, virtio_mem = _with_devices(description, answers[0])
    return _balloon_record(now, answers[1:], virtio_mem)[0]


def _with_devices(description: Description, listed: Answer) -> tuple[Description, tuple[VirtioMem, ...]]:
    # QEMU sends no event for a new DIMM. mom would shrink the guest to the old maximum.
    dimms, virtio_mem = memory_devices(listed)
    more_kib = (dimms >> 10) - description.dimms_kib
    return replace(description, fixed_kib=description.fixed_kib + more_kib, dimms_kib=dimms >> 10), virtio_mem


def _balloon_record(
    description: Description, answers: Sequence[Answer], virtio_mem: Sequence[VirtioMem]
) -> tuple[Mapping[str, object], int | None, bool]:
    plugged = sum(device.size_kib for device in virtio_mem)
    record: dict[str, object] = {"balloon.maximum": description.fixed_kib + plugged, "vcpu.current": description.vcpus}
    if not description.vcpus:
        del record["vcpu.current"]
    if not answers:
        record["balloon.current"] = description.fixed_kib + plugged
        return record, None, False
    balloon, statistics, interval = answers
    actual = _mapping(balloon).get("actual") if not isinstance(balloon, Refusal) else None
    if type(actual) is int and 0 < actual < _LARGEST:
        record["balloon.current"] = (actual >> 10) + plugged
    if not isinstance(statistics, Refusal):
        record |= _statistics(_mapping(statistics))
    period = interval if type(interval) is int and 0 <= interval < _LARGEST else None
    gone = isinstance(interval, Refusal) and interval.kind == "DeviceNotFound"
    return record, period, gone


def _statistics(answer: Mapping[str, object]) -> dict[str, object]:
    # `convert` refuses impossible values.
    statistics = answer.get("stats")
    record: dict[str, object] = {}
    for name, value in statistics.items() if isinstance(statistics, dict) else ():
        target = STATISTICS.get(name)
        if target is not None and value not in _UNKNOWN:
            record[target[0]] = value >> target[1] if type(value) is int else value
    updated = answer.get("last-update")
    if type(updated) is int and 0 < updated < _LARGEST:
        record["balloon.last-update"] = updated
    return record


def _mapping(value: Answer) -> Mapping[str, object]:
    if isinstance(value, Refusal):
        return {}
    if not isinstance(value, dict):
        raise WireError("an answer has the wrong type")
    return value


def _size(value: object) -> int:
    return value if type(value) is int and 0 < value < _LARGEST else 0


def _text(text: str) -> str:
    return text[:_LONGEST_NAME].encode(errors="replace").decode()
