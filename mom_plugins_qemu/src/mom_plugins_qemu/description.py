"""From a monitor's answers to what a guest is, and how it is now. Pure: whatever QEMU says gives a description, or is a `WireError`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from mom_core import Value
from mom_kvm import GuestField, Record
from mom_plugins_qemu.command_line import canonical
from mom_plugins_qemu.held_memory import HeldMemory
from mom_plugins_qemu.wire import Answer, Question, Refusal, WireError

_LARGEST: Final = 1 << 62
"""Above this a number is no size."""

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
"""Asked of a guest that is not known yet."""

GUESTSTATISTICS: Final = "guest-stats"
POLLING_INTERVAL: Final = "guest-stats-polling-interval"

_SWITCHES: Final = {GuestField.REPORTING: "free-page-reporting", GuestField.AUTODEFLATE: "deflate-on-oom"}
"""A balloon device's own doings: the fields, and its properties, which are fixed when the guest is started."""

_PINNING: Final = ("vfio-pci", "vhost-vdpa")
"""Devices that reach the guest's memory by themselves: QEMU discards nothing while there is one."""

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
"""The balloon device's statistics: their names in records, and by how many bits to shift them, as it counts bytes."""

_UNKNOWN: Final = (-1, (1 << 64) - 1)
"""Reported by the driver for what it does not know."""


class VirtioMem(NamedTuple):
    """A virtio-mem device: its path in QEMU's tree of objects, its size and what it is to be, at most and in steps of; KiB. QEMU tells no
    path of one that was given no id: the guest has its memory all the same."""

    path: str
    size_kib: int
    requested_kib: int
    maximum_kib: int
    block_kib: int


@dataclass(frozen=True, slots=True)
class Description:
    """A guest as it is known since it was started. Sizes in KiB.

    `balloon` is the balloon device's path in QEMU's tree of objects, empty where there is none. `pinned` says why the host cannot use what
    the balloon takes, empty where it can; `immovable`, that it can use nothing that is taken by virtio-mem either. `fixed_kib` is all
    memory but virtio-mem's, with `dimms_kib` that are plugged in as DIMMs.
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
        """The host gets what a balloon takes."""
        return bool(self.balloon) and not self.pinned

    def looking(self, *, switches: bool = False) -> tuple[Question, ...]:
        """The questions to this guest in each cycle.

        :param switches: ask what its balloon device does by itself, too
        """
        once = _SWITCHES.values() if switches and self.balloon else ()
        asked = (Question("qom-get", {"path": self.balloon, "property": name}) for name in once)
        return (Question("query-status"), Question("query-migrate"), *self.size_questions(), *asked)

    def size_questions(self) -> tuple[Question, ...]:
        """The questions about its size, and what its balloon driver says."""
        return (Question("query-memory-devices"), *self.balloon_questions())

    def balloon_questions(self) -> tuple[Question, ...]:
        """The questions about its balloon."""
        if not self.balloon:
            return ()
        return (
            Question("query-balloon"),
            Question("qom-get", {"path": self.balloon, "property": GUESTSTATISTICS}),
            Question("qom-get", {"path": self.balloon, "property": POLLING_INTERVAL}),
        )


class Look(NamedTuple):
    """How a guest is now: QEMU's words for its state and its migration, its record, and its statistics period in seconds (None: unknown).

    `again` says that its devices are others than it was described with. `switches` are the fields of what its balloon device does by
    itself, without those that this QEMU does not know; None where it was not asked.
    """

    status: str
    migration: str
    record: Record
    period: int | None
    virtio_mem: tuple[VirtioMem, ...] = ()
    again: bool = False
    switches: Mapping[str, Value] | None = None


def described(answers: Sequence[Answer]) -> Description:
    """Describe a guest by the answers to `DESCRIBING`. Raises `WireError`."""
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
        return "the guest is confidential: the host cannot take its memory"
    passed = next((kind for kind in kinds if kind.startswith(_PINNING)), "")
    return f"a host device ({passed}) pins the guest's memory: the host cannot take it" if passed else ""


def as_held(description: Description, memory: HeldMemory) -> Description:
    """This description, with why the host cannot use what is taken from the guest where QEMU does not say so: by what the kernel says of
    its process, in which VFIO's memory, which virtio-mem can take, is locked, too."""
    if memory.pool_kib:
        return replace(description, pinned="the guest's memory is in huge pages: nothing else can use them", immovable=True)
    if not description.pinned and 0 < description.fixed_kib <= memory.locked_kib:
        return replace(description, pinned="the guest's memory is locked: the host cannot take it")
    return description


def _devices(folder: str, listed: Answer) -> Iterator[tuple[str, str]]:
    """The path and the type of each device in a list of QEMU's objects."""
    for item in listed if isinstance(listed, list) else ():
        kind, name = _mapping(item).get("type"), _mapping(item).get("name")
        if isinstance(kind, str) and isinstance(name, str) and kind.startswith("child<") and name.isprintable():
            yield f"{folder}/{name}", kind[6:-1]


def memory_devices(listed: Answer) -> tuple[int, tuple[VirtioMem, ...]]:
    """Bytes of the DIMMs, and the virtio-mem devices."""
    dimms, found = 0, []
    for item in listed if isinstance(listed, list) else ():
        kind, content = _mapping(item).get("type"), _mapping(_mapping(item).get("data"))
        if kind == "dimm":
            dimms += _size(content.get("size"))
        elif kind == "virtio-mem":
            named = content.get("id")
            path = f"{_PERIPHERAL}/{named}" if isinstance(named, str) and named.isprintable() else ""
            numbers = [_size(content.get(key)) >> 10 for key in ("size", "requested-size", "max-size", "block-size")]
            found.append(VirtioMem(path, *numbers))
    return dimms, tuple(found)


def looked(description: Description, answers: Sequence[Answer]) -> Look:
    """How a guest is, by the answers to its `looking`. Raises `WireError`."""
    status, migration, devices, *rest = answers
    word = _mapping(status).get("status")
    if not isinstance(word, str):
        raise WireError("QEMU does not say how the guest is")
    moving = _mapping(migration).get("status") if not isinstance(migration, Refusal) else None
    now, virtio_mem = _with_devices(description, devices)
    again = now != description or [device.path for device in virtio_mem] != [device.path for device in description.virtio_mem]
    count = len(description.balloon_questions())
    record, period, unknown = balloon_record(now, rest[:count], virtio_mem)
    said = zip(_SWITCHES, rest[count:], strict=True) if rest[count:] else None
    switches = None if said is None else {name: int(on) for name, on in said if isinstance(on, bool)}
    return Look(word, moving if isinstance(moving, str) else "", record, period, virtio_mem, again or unknown, switches)


def size_record(description: Description, answers: Sequence[Answer]) -> Record:
    """A guest's record, by the answers to its `size_questions`. Raises `WireError`."""
    now, virtio_mem = _with_devices(description, answers[0])
    return balloon_record(now, answers[1:], virtio_mem)[0]


def _with_devices(description: Description, listed: Answer) -> tuple[Description, tuple[VirtioMem, ...]]:
    """This description with the DIMMs that there are now, and the virtio-mem devices.

    QEMU has no event for a DIMM, and the guest's size grows by it at once: with its old maximum, mom would take from a guest that it holds
    small as much as was plugged in, before the guest's kernel has it.
    """
    dimms, virtio_mem = memory_devices(listed)
    more_kib = (dimms >> 10) - description.dimms_kib
    return replace(description, fixed_kib=description.fixed_kib + more_kib, dimms_kib=dimms >> 10), virtio_mem


def balloon_record(description: Description, answers: Sequence[Answer], virtio_mem: Sequence[VirtioMem]) -> tuple[Record, int | None, bool]:
    """A guest's record, by the answers to its `balloon_questions`, its statistics period, and whether the device is not there any more."""
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
    """The balloon driver's statistics, in the words of records. It is the guest's: what is not possible is for the conversion to refuse."""
    said = answer.get("stats")
    found: dict[str, object] = {}
    for name, value in said.items() if isinstance(said, dict) else ():
        known = STATISTICS.get(name)
        if known is not None and value not in _UNKNOWN:
            found[known[0]] = value >> known[1] if type(value) is int else value
    updated = answer.get("last-update")
    if type(updated) is int and 0 < updated < _LARGEST:
        found["balloon.last-update"] = updated
    return found


def _mapping(value: Answer) -> Mapping[str, object]:
    if isinstance(value, Refusal):
        return {}
    if not isinstance(value, dict):
        raise WireError("an answer is not of the kind that was asked for")
    return value


def _size(value: object) -> int:
    """Bytes; 0 for what is none."""
    return value if type(value) is int and 0 < value < _LARGEST else 0


def _text(text: str) -> str:
    """A name that can be written anywhere."""
    return text[:_LONGEST_NAME].encode(errors="replace").decode()
