"""Hypervisor with limits in memory that records commands."""

import dataclasses
from collections.abc import Mapping, Sequence

from mom_core import CpuTune, DiskTune, Entity, Guest, HypervisorError, Scope
from mom_devkit import FakeGuest, FakeHypervisor

NONE = dict.fromkeys(DiskTune.LIMITS, 0)
FREE = CpuTune(-1, 100_000, 1024, 100.0)


class NotingHypervisor(FakeHypervisor):
    """Hypervisor that records commands. They fail with `errors`. `blocked` applies to all guests."""

    def __init__(self) -> None:
        super().__init__([])
        self.commands: list[tuple[object, ...]] = []
        self.errors: dict[str, HypervisorError] = {}
        self.blocked: dict[str, str] = {}

    def add(self, name: str) -> Entity:
        self.known[name] = FakeGuest(name, name, cpu=FREE, disks=(DiskTune("vda", "/a", NONE), DiskTune("vdb", "/b", NONE)))
        return Entity(Scope.GUEST, name, name)

    def guests(self) -> Sequence[Guest]:
        return [dataclasses.replace(guest, blocked=self.blocked) for guest in super().guests()]

    def set_cpu_tune(self, guest: Entity, quota_us: int | None = None, period_us: int | None = None, shares: int | None = None) -> None:
        self._note("cpu", guest, quota_us, period_us, shares)
        super().set_cpu_tune(guest, quota_us, period_us, shares)

    def set_io_tune(self, guest: Entity, disk: str, limits: Mapping[str, int]) -> None:
        self._note(disk, guest, dict(limits))
        super().set_io_tune(guest, disk, limits)

    def set_net_tune(self, guest: Entity, interface: str, inbound: Mapping[str, int], outbound: Mapping[str, int]) -> None:
        self._note(interface, guest, dict(inbound), dict(outbound))
        super().set_net_tune(guest, interface, inbound, outbound)

    def _note(self, what: str, guest: Entity, *values: object) -> None:
        self.commands.append((what, guest.id, *values))
        if what in self.errors:
            raise self.errors[what]
