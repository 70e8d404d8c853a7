"""A hypervisor that keeps limits in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mom_core import CpuTune, DiskTune, Entity, Guest, GuestGone, HypervisorError, NetTune, Scope

NONE = dict.fromkeys(DiskTune.LIMITS, 0)
FREE = CpuTune(-1, 100_000, 1024, 100.0)


class FakeHypervisor:
    """Guests by id; every command is noted, and fails where `errors` says so."""

    uri = "fake:///"

    def __init__(self) -> None:
        self.cpu: dict[str, CpuTune] = {}
        self.disks: dict[str, tuple[DiskTune, ...]] = {}
        self.nets: dict[str, tuple[NetTune, ...]] = {}
        self.commands: list[tuple[object, ...]] = []
        self.errors: dict[str, HypervisorError] = {}
        self.incarnation = "1"
        self.blocked: dict[str, str] = {}

    def add(self, name: str) -> Entity:
        self.cpu[name] = FREE
        self.disks[name] = (DiskTune("vda", "/a", NONE), DiskTune("vdb", "/b", NONE))
        self.nets[name] = (NetTune("vnet0", {}, {}),)
        return Entity(Scope.GUEST, name, name)

    def guests(self) -> Sequence[Guest]:
        return [Guest(name, name, incarnation=self.incarnation, blocked=self.blocked) for name in self.cpu]

    def cpu_tunes(self, guests: Sequence[Entity]) -> Mapping[str, CpuTune]:
        return {guest.id: self.cpu[guest.id] for guest in guests if guest.id in self.cpu}

    def set_cpu_tune(self, guest: Entity, quota_us: int | None = None, period_us: int | None = None, shares: int | None = None) -> None:
        self._note("cpu", guest, quota_us, period_us, shares)
        now = self.cpu[guest.id]
        self.cpu[guest.id] = CpuTune(
            now.quota_us if quota_us is None else quota_us,
            now.period_us if period_us is None else period_us,
            now.shares if shares is None else shares,
            now.user_limit_percent,
        )

    def io_tunes(self, guests: Sequence[Entity]) -> Mapping[str, Sequence[DiskTune]]:
        return {guest.id: self.disks[guest.id] for guest in guests if guest.id in self.disks}

    def set_io_tune(self, guest: Entity, disk: str, limits: Mapping[str, int]) -> None:
        self._note(disk, guest, dict(limits))
        self.disks[guest.id] = tuple(
            DiskTune(tune.name, tune.path, {**tune.current, **limits}) if tune.name == disk else tune for tune in self.disks[guest.id]
        )

    def net_tunes(self, guests: Sequence[Entity]) -> Mapping[str, Sequence[NetTune]]:
        return {guest.id: self.nets[guest.id] for guest in guests if guest.id in self.nets}

    def set_net_tune(self, guest: Entity, interface: str, inbound: Mapping[str, int], outbound: Mapping[str, int]) -> None:
        self._note(interface, guest, dict(inbound), dict(outbound))
        self.nets[guest.id] = tuple(
            NetTune(tune.name, inbound, outbound) if tune.name == interface else tune for tune in self.nets[guest.id]
        )

    def _note(self, what: str, guest: Entity, *values: object) -> None:
        self.commands.append((what, guest.id, *values))
        if guest.id not in self.cpu:
            raise GuestGone("no such guest")
        if what in self.errors:
            raise self.errors[what]
