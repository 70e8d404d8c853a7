"""Fake hypervisor with every capability that changes running guests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Final

from mom_core import CpuTune, DiskTune, Entity, Guest, GuestGone, NetTune, NotSupported, Unit, Value
from mom_kvm import NodeTune

USUAL_UNITS: Final[Mapping[str, Unit]] = {
    **dict.fromkeys(("balloon_cur", "balloon_max", "balloon_min", "mem_available", "mem_unused", "mem_usable"), Unit.KIB),
    **dict.fromkeys(("swap_in", "swap_out"), Unit.KIB_PER_SECOND),
    "stats_age": Unit.SECONDS,
}
"""Units of guests' fields that the test host provides, unless the plugin under test collects them."""


@dataclass(slots=True)
class FakeGuest:
    """Guest that a test can change. Sizes are in KiB. `fields` contains further fields that the test host collects."""

    name: str
    id: str = ""
    balloon_kib: int = 1 << 20
    maximum_kib: int = 1 << 20
    cpu: CpuTune = field(default_factory=lambda: CpuTune(-1, 100_000, 1024))
    disks: tuple[DiskTune, ...] = (DiskTune("vda", "/images/vda.qcow2", {"total_bytes_sec": 0, "total_iops_sec": 0}),)
    interfaces: tuple[NetTune, ...] = (NetTune("vnet0", {}, {}),)
    pins: list[AbstractSet[int]] = field(default_factory=lambda: [frozenset({0, 1}), frozenset({0, 1})])
    nodes: NodeTune = field(default_factory=lambda: NodeTune("strict", frozenset({0})))
    fields: dict[str, Value] = field(default_factory=dict)
    properties: dict[str, Value] = field(default_factory=dict)
    blocked: dict[str, str] = field(default_factory=dict)
    incarnation: str = "1"

    def __post_init__(self) -> None:
        self.id = self.id or f"00000000-0000-4000-8000-{sum(map(ord, self.name)):012d}"

    def collected(self) -> dict[str, Value]:
        """Return the fields that a plugin would collect."""
        free = self.balloon_kib // 2
        sizes = (self.balloon_kib, self.maximum_kib, 0, self.balloon_kib, free, free, 0, 0, 0.0)
        return {**dict(zip(USUAL_UNITS, sizes, strict=True)), **self.fields}


class FakeHypervisor:
    """Implementation of `Hypervisor`, `BalloonControl`, `CpuTuneControl`, `IoTuneControl`, `NetTuneControl`, `CpuPinControl` and
    `NodeTuneControl`.

    :param guests: None for three guests of 1 GiB each. `known` contains the guests, keyed by name; to end a guest, remove it there
    """

    uri = "fake:///test"

    def __init__(self, guests: Sequence[FakeGuest] | None = None) -> None:
        fakes = [FakeGuest(f"vm{number}") for number in (1, 2, 3)] if guests is None else guests
        self.known = {fake.name: fake for fake in fakes}
        self.ended: list[FakeGuest] = []
        """Guests that `guests` still lists, although they have ended."""

    def guests(self) -> Sequence[Guest]:
        """Return all guests."""
        return [
            Guest(
                fake.id,
                fake.name,
                properties={"name": fake.name, "uuid": fake.id, **fake.properties},
                blocked=dict(fake.blocked),
                incarnation=fake.incarnation,
            )
            for fake in (*self.known.values(), *self.ended)
        ]

    def guest(self, entity: Entity) -> FakeGuest:
        """Return the guest of an entity. Raise `GuestGone` if it does not exist."""
        guest = self.known.get(entity.name)
        if guest is None or guest.id != entity.id:
            raise GuestGone(f"there is no guest {entity.name}")
        return guest

    def _running(self, guests: Sequence[Entity]) -> list[FakeGuest]:
        ids = {entity.id for entity in guests}
        return [fake for fake in self.known.values() if fake.id in ids]

    # BalloonControl

    def set_balloon(self, guest: Entity, target_kib: int) -> None:
        """Set the guest's size immediately."""
        fake = self.guest(guest)
        if not 0 < target_kib <= fake.maximum_kib:
            raise NotSupported(f"{target_kib} KiB is not between 1 and {fake.maximum_kib} KiB")
        fake.balloon_kib = target_kib

    def balloon_sizes(self, guests: Sequence[Entity]) -> Mapping[str, int]:
        """Return sizes in KiB, keyed by guest ID."""
        return {fake.id: fake.balloon_kib for fake in self._running(guests)}

    # CpuTuneControl

    def cpu_tunes(self, guests: Sequence[Entity]) -> Mapping[str, CpuTune]:
        """Return CPU limits, keyed by guest ID."""
        return {fake.id: fake.cpu for fake in self._running(guests)}

    def set_cpu_tune(self, guest: Entity, quota_us: int | None = None, period_us: int | None = None, shares: int | None = None) -> None:
        """Set CPU limits. Raise `NotSupported` beyond the kernel's bounds."""
        fake = self.guest(guest)
        if period_us is not None and not 1000 <= period_us <= 1_000_000:
            raise NotSupported("a period is 1000 to 1000000 us")
        if quota_us is not None and quota_us != -1 and quota_us < 1000:
            raise NotSupported("a quota is -1, or at least 1000 us")
        values = {"quota_us": quota_us, "period_us": period_us, "shares": shares}
        fake.cpu = replace(fake.cpu, **{name: value for name, value in values.items() if value is not None})

    # IoTuneControl

    def io_tunes(self, guests: Sequence[Entity]) -> Mapping[str, Sequence[DiskTune]]:
        """Return limits of disks, keyed by guest ID."""
        return {fake.id: fake.disks for fake in self._running(guests)}

    def set_io_tune(self, guest: Entity, disk: str, limits: Mapping[str, int]) -> None:
        """Set limits of a disk. Its other limits stay."""
        fake = self.guest(guest)
        if all(each.name != disk for each in fake.disks):
            raise NotSupported(f"{fake.name} has no disk {disk}")
        fake.disks = tuple(replace(each, current={**each.current, **limits}) if each.name == disk else each for each in fake.disks)

    # NetTuneControl

    def net_tunes(self, guests: Sequence[Entity]) -> Mapping[str, Sequence[NetTune]]:
        """Return limits of network interfaces, keyed by guest ID."""
        return {fake.id: fake.interfaces for fake in self._running(guests)}

    def set_net_tune(self, guest: Entity, interface: str, inbound: Mapping[str, int], outbound: Mapping[str, int]) -> None:
        """Set the limits of a network interface for both directions."""
        fake = self.guest(guest)
        if all(each.name != interface for each in fake.interfaces):
            raise NotSupported(f"{fake.name} has no interface {interface}")
        tune = NetTune(interface, dict(inbound), dict(outbound))
        fake.interfaces = tuple(tune if each.name == interface else each for each in fake.interfaces)

    # CpuPinControl and NodeTuneControl

    def cpu_pins(self, guests: Sequence[Entity]) -> Mapping[str, Sequence[AbstractSet[int]]]:
        """Return each vCPU's host CPUs, keyed by guest ID."""
        return {fake.id: tuple(fake.pins) for fake in self._running(guests)}

    def set_cpu_pin(self, guest: Entity, vcpu: int, cpus: AbstractSet[int]) -> None:
        """Allow a vCPU to run only on these host CPUs."""
        fake = self.guest(guest)
        if not 0 <= vcpu < len(fake.pins):
            raise NotSupported(f"{fake.name} has no vCPU {vcpu}")
        fake.pins[vcpu] = frozenset(cpus)

    def node_tunes(self, guests: Sequence[Entity]) -> Mapping[str, NodeTune]:
        """Return NUMA nodes and mode, keyed by guest ID."""
        return {fake.id: fake.nodes for fake in self._running(guests)}

    def set_node_tune(self, guest: Entity, nodes: AbstractSet[int]) -> None:
        """Set the guest's NUMA nodes. Raise `NotSupported` unless their mode permits it."""
        fake = self.guest(guest)
        if fake.nodes.mode not in {"strict", "restrictive"}:
            raise NotSupported(f"nodes of mode {fake.nodes.mode} cannot be changed while the guest runs")
        fake.nodes = NodeTune(fake.nodes.mode, frozenset(nodes))
