"""A hypervisor of memory only, with the capabilities that set something on running guests: what is set on a guest is what is read back."""

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
"""The fields that the test host has for its guests, unless the plugin under test collects them itself."""


@dataclass(slots=True)
class FakeGuest:
    """A guest that a test can look at and change. Sizes in KiB; `fields` is what the test host collects for it."""

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
        """The usual fields of a guest, as a hypervisor's plugin would collect them now."""
        free = self.balloon_kib // 2
        sizes = (self.balloon_kib, self.maximum_kib, 0, self.balloon_kib, free, free, 0, 0, 0.0)
        return {**dict(zip(USUAL_UNITS, sizes, strict=True)), **self.fields}


class FakeHypervisor:
    """Implements `Hypervisor`, `BalloonControl`, `CpuTuneControl`, `IoTuneControl`, `NetTuneControl`, `CpuPinControl` and
    `NodeTuneControl`, but not `KsmControl`: KSM is the test host's own.

    :param guests: three of 1 GiB each when left out; kept by name in `known`, and gone when they are taken out of it
    """

    uri = "fake:///test"

    def __init__(self, guests: Sequence[FakeGuest] | None = None) -> None:
        made = [FakeGuest(f"vm{number}") for number in (1, 2, 3)] if guests is None else guests
        self.known = {guest.name: guest for guest in made}
        self.ended: list[FakeGuest] = []
        """Guests that are still listed, and end before anything is asked about them."""

    def guests(self) -> Sequence[Guest]:
        """All that are known."""
        return [
            Guest(
                one.id,
                one.name,
                properties={"name": one.name, "uuid": one.id, **one.properties},
                blocked=dict(one.blocked),
                incarnation=one.incarnation,
            )
            for one in (*self.known.values(), *self.ended)
        ]

    def guest(self, entity: Entity) -> FakeGuest:
        """The guest that is meant; raises `GuestGone`."""
        one = self.known.get(entity.name)
        if one is None or one.id != entity.id:
            raise GuestGone(f"there is no guest {entity.name}")
        return one

    def _there(self, guests: Sequence[Entity]) -> list[FakeGuest]:
        wanted = {entity.id for entity in guests}
        return [one for one in self.known.values() if one.id in wanted]

    # BalloonControl

    def set_balloon(self, guest: Entity, target_kib: int) -> None:
        """Gives the guest that size at once."""
        one = self.guest(guest)
        if not 0 < target_kib <= one.maximum_kib:
            raise NotSupported(f"{target_kib} KiB is not within 1 and {one.maximum_kib}")
        one.balloon_kib = target_kib

    def balloon_sizes(self, guests: Sequence[Entity]) -> Mapping[str, int]:
        """Their sizes."""
        return {one.id: one.balloon_kib for one in self._there(guests)}

    # CpuTuneControl

    def cpu_tunes(self, guests: Sequence[Entity]) -> Mapping[str, CpuTune]:
        """The present settings."""
        return {one.id: one.cpu for one in self._there(guests)}

    def set_cpu_tune(self, guest: Entity, quota_us: int | None = None, period_us: int | None = None, shares: int | None = None) -> None:
        """Sets what is given, within the kernel's bounds."""
        one = self.guest(guest)
        if period_us is not None and not 1000 <= period_us <= 1_000_000:
            raise NotSupported("a period is 1000 to 1000000 us")
        if quota_us is not None and quota_us != -1 and quota_us < 1000:
            raise NotSupported("a quota is -1, or at least 1000 us")
        given = {"quota_us": quota_us, "period_us": period_us, "shares": shares}
        one.cpu = replace(one.cpu, **{name: value for name, value in given.items() if value is not None})

    # IoTuneControl

    def io_tunes(self, guests: Sequence[Entity]) -> Mapping[str, Sequence[DiskTune]]:
        """The present settings."""
        return {one.id: one.disks for one in self._there(guests)}

    def set_io_tune(self, guest: Entity, disk: str, limits: Mapping[str, int]) -> None:
        """Sets what is given."""
        one = self.guest(guest)
        if all(there.name != disk for there in one.disks):
            raise NotSupported(f"{one.name} has no disk {disk}")
        one.disks = tuple(replace(d, current={**d.current, **limits}) if d.name == disk else d for d in one.disks)

    # NetTuneControl

    def net_tunes(self, guests: Sequence[Entity]) -> Mapping[str, Sequence[NetTune]]:
        """The present settings."""
        return {one.id: one.interfaces for one in self._there(guests)}

    def set_net_tune(self, guest: Entity, interface: str, inbound: Mapping[str, int], outbound: Mapping[str, int]) -> None:
        """Sets both directions."""
        one = self.guest(guest)
        if all(there.name != interface for there in one.interfaces):
            raise NotSupported(f"{one.name} has no interface {interface}")
        one.interfaces = tuple(NetTune(n.name, dict(inbound), dict(outbound)) if n.name == interface else n for n in one.interfaces)

    # CpuPinControl and NodeTuneControl

    def cpu_pins(self, guests: Sequence[Entity]) -> Mapping[str, Sequence[AbstractSet[int]]]:
        """The present settings."""
        return {one.id: tuple(one.pins) for one in self._there(guests)}

    def set_cpu_pin(self, guest: Entity, vcpu: int, cpus: AbstractSet[int]) -> None:
        """Pins one vCPU."""
        one = self.guest(guest)
        if not 0 <= vcpu < len(one.pins):
            raise NotSupported(f"{one.name} has no vCPU {vcpu}")
        one.pins[vcpu] = frozenset(cpus)

    def node_tunes(self, guests: Sequence[Entity]) -> Mapping[str, NodeTune]:
        """The present settings."""
        return {one.id: one.nodes for one in self._there(guests)}

    def set_node_tune(self, guest: Entity, nodes: AbstractSet[int]) -> None:
        """Changes the nodes, as far as the mode allows it."""
        one = self.guest(guest)
        if one.nodes.mode not in {"strict", "restrictive"}:
            raise NotSupported(f"nodes of mode {one.nodes.mode} cannot be changed while the guest runs")
        one.nodes = NodeTune(one.nodes.mode, frozenset(nodes))


class FakePromises:
    """Implements `mom_core.Promises` by fields of guests: `PluginContext(offers={Promises: (FakePromises("x"),)})`.

    :param guaranteed: the name of the field with what holds, in KiB
    :param promised: the name of the field with all that is promised; empty: the same
    """

    def __init__(self, guaranteed: str, promised: str = "") -> None:
        self._guaranteed, self._promised = guaranteed, promised or guaranteed

    def guaranteed_kib(self, guest: Guest) -> float | None:
        """The field's value."""
        return guest.number(self._guaranteed)

    def promised_kib(self, guest: Guest) -> float | None:
        """The field's value."""
        return guest.number(self._promised)
