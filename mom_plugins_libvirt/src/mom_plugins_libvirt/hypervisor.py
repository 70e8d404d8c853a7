"""libvirt's hypervisor: guests, their balloons, limits and states."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence, Set
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from mom_core import (
    CpuTune,
    DiskTune,
    Entity,
    Finding,
    GuestBusy,
    GuestGone,
    HypervisorError,
    NetTune,
    NotSupported,
    PluginContext,
    Severity,
    printable,
)
from mom_kvm import Destination, GuestState, NodeTune, StatisticsRecord
from mom_plugins_libvirt.api import Domain, qemu_binding
from mom_plugins_libvirt.changes import HELPER_CURE, GuestOrders, OrderedDomain, OrderRefused
from mom_plugins_libvirt.connection import Connection
from mom_plugins_libvirt.domain_entry import CPU_CONTROLS, MOVES_AWAY, PAUSED, DomainEntry
from mom_plugins_libvirt.domains import SILENT, SIZES_SECONDS, Domains, SamplingSettings, whole
from mom_plugins_libvirt.long_calls import AgentCommands, LongJobs, Unanswered

Tune = TypeVar("Tune", DiskTune, NetTune)

NO_QUOTA = -1
_MOST_QUOTA_US = (1 << 44) - 1
"""Largest quota that libvirt accepts (src/util/vircgroup.h). Larger values mean that there is no quota."""

_READ_SECONDS = 0.5
"""Time in a cycle for reading CPU limits."""


class LibvirtHypervisor(Domains):
    """Guests of one libvirtd. Implements `BalloonControl`, `AgentAccess`, limits and states. Thread-safe.

    Methods that change guests raise `HypervisorError` on failure. After `GuestBusy`, the change may still take effect.
    """

    def __init__(self, connection: Connection, settings: SamplingSettings, context: PluginContext) -> None:
        super().__init__(connection, settings, context)
        self._agents, self._jobs = AgentCommands(connection), LongJobs(connection)

    def examined_changes(self) -> Finding:
        """Return the finding that says whether mom or its helper can change guests."""
        connection, subject = self.connection, "libvirt"
        if connection.why_no_changes:
            message = f"{connection.why_no_changes}: mom can observe guests, but change nothing"
            return Finding(Severity.WARNING, subject, message, connection.cure_of_no_changes)
        helper = GuestOrders.reached(self.uri) if connection.by_helper else None
        if helper is None:
            return Finding(Severity.OK, subject, "mom itself changes guests: libvirt permits this")
        try:
            helper.destinations()
        except OrderRefused as error:
            return Finding(Severity.ERROR, subject, f"{error}: mom cannot change guests", HELPER_CURE)
        finally:
            helper.close()
        return Finding(Severity.OK, subject, "mom-libvirt-helper changes guests")

    def close(self) -> None:
        """Close all connections within half a second."""
        closing = [*self._agents.close(), *self._jobs.close()]
        self.connection.close()
        for thread in closing:
            thread.join()

    # --- balloons ----------------------------------------------------------------------------------------------------------------

    def set_balloon(self, guest: Entity, target_kib: int) -> None:
        """Set the balloon target. During a migration, a guest can still grow."""
        entry = self.ready(guest)
        if entry.resizable:  # virtio-mem may have changed the size since the last bulk call
            self.read_description(entry)
        maximum = entry.fields.get("balloon_max")
        balloon_kib = entry.balloon_request(target_kib, maximum if isinstance(maximum, int) else None)
        doing = f"setting the balloon of {guest}"
        try:
            self.change(entry, doing, lambda domain, live: domain.setMemoryFlags(balloon_kib, live))
        except GuestBusy:
            if entry.job != MOVES_AWAY or entry.size is None or target_kib < entry.size:
                raise
            self._give_by_qemu(entry, doing, balloon_kib)

    def _give_by_qemu(self, entry: DomainEntry, doing: str, kib: int) -> None:
        # libvirt's call would wait for the migration.
        qemu = qemu_binding(doing)
        command = json.dumps({"execute": "balloon", "arguments": {"value": kib << 10}})

        def ask(domain: Domain) -> str:
            return domain.give(kib) if isinstance(domain, OrderedDomain) else str(qemu.qemuMonitorCommand(domain, command, 0))

        answer = self.ask(entry, doing, ask, entry.start)
        if '"error"' in answer:
            raise HypervisorError(f"{doing}: QEMU says: {printable(answer, 300)}")

    def balloon_sizes(self, guests: Sequence[Entity]) -> Mapping[str, int]:
        """Return the guests' present sizes in KiB, keyed by UUID."""
        self._look_first()
        records = self.of({entry.id for entry in self.seen(guests)})
        return {uuid: size for uuid, record in records.items() if (size := whole(record.get("balloon.current")))}

    def size_now(self, guest: Entity) -> float | None:
        """Return the present size in KiB; None if unknown."""
        # Ask QEMU: libvirt updates the size of a moving balloon only once a second.
        return self._size_by_qemu(self.ready(guest))

    def of(self, guests: Set[str]) -> Mapping[str, StatisticsRecord]:
        """Return balloon statistics, keyed by UUID, with doubtful sizes corrected."""
        records, end = self.connection.of(guests), self._monotonic() + SIZES_SECONDS
        doubted = [entry for entry in self.seen() if entry.id in records and entry.is_doubtful]
        return {**records, **{entry.id: {**records[entry.id], "balloon.current": self._true_size(entry, end)} for entry in doubted}}

    def stats_period(self, guest: Entity) -> int:
        """Return the guest's statistics period in seconds; 0: off."""
        entry = self.ready(guest)
        self.read_description(entry)
        if entry.period is None:
            raise NotSupported(f"{guest} has no balloon device")
        return entry.period

    def set_stats_period(self, guest: Entity, seconds: int) -> None:
        """Set the guest's statistics period in seconds; 0: off."""
        entry = self.ready(guest)
        entry.describe = True
        doing = f"setting the statistics period of {guest}"
        self.change(entry, doing, lambda domain, live: domain.setMemoryStatsPeriod(seconds, live))

    # --- agents inside guests ----------------------------------------------------------------------------------------------------

    def agent_channels(self, guests: Sequence[Entity]) -> Mapping[str, Mapping[str, str]]:
        """Return the socket paths of agent channels, keyed by UUID and channel. A path is empty if mom cannot connect."""
        by_guest = {entry.id: entry.description.channels for entry in self.seen(guests) if entry.description is not None}
        return {uuid: channels if self._local else dict.fromkeys(channels, "") for uuid, channels in by_guest.items() if channels}

    def agent_command(self, guest: Entity, command: str, timeout_seconds: float) -> str:
        """Send a JSON command to the guest's agent; return the answer. The call may take twice `timeout_seconds`."""
        return self._agents.command(guest, command, timeout_seconds)

    # --- CPU time ----------------------------------------------------------------------------------------------------------------

    def cpu_tunes(self, guests: Sequence[Entity]) -> Mapping[str, CpuTune]:
        """Return the limits of CPU time, keyed by guest ID."""
        end = self._monotonic() + _READ_SECONDS
        tunes = {}
        for entry in self.described(guests):
            tune = entry.cpu_tune  # another thread may clear it
            if tune is None and not entry.untunable and not self.has_open_call(entry.id) and self._monotonic() < end:
                entry.cpu_tune = tune = self._read_cpu_tune(entry)
            tunes[entry.id] = CpuTune(user_limit_percent=entry.tuning.user_limit_percent) if tune is None else tune
        return tunes

    def _read_cpu_tune(self, entry: DomainEntry) -> CpuTune | None:
        live = self.connection.module.VIR_DOMAIN_AFFECT_LIVE
        doing = f"reading the CPU limits of {printable(entry.name)}"
        try:
            answer = self.ask(entry, doing, lambda domain: domain.schedulerParametersFlags(live))
        except NotSupported as error:
            entry.untunable = f"CPU time cannot be limited: {_reason(error)}"
            return None
        except HypervisorError:  # affects only this guest: the bulk call raises other errors
            return None
        quota = whole(answer.get("vcpu_quota"))
        if quota is not None and not 0 < quota < _MOST_QUOTA_US:  # the value for "no limit" depends on the cgroup version
            quota = NO_QUOTA
        return CpuTune(quota, whole(answer.get("vcpu_period")), whole(answer.get("cpu_shares")), entry.tuning.user_limit_percent)

    def set_cpu_tune(self, guest: Entity, quota_us: int | None = None, period_us: int | None = None, shares: int | None = None) -> None:
        """Set the limits that are not None, in one call."""
        values = zip(CPU_CONTROLS, (None if quota_us is None else max(NO_QUOTA, quota_us), period_us, shares), strict=True)
        limits = {name: value for name, value in values if value is not None}
        entry = self.ready(guest)
        try:
            self.change(entry, f"setting the CPU limits of {guest}", lambda domain, live: domain.setSchedulerParametersFlags(limits, live))
        finally:
            entry.cpu_tune = None  # mom reads the limits again, even after an error

    # --- disks -------------------------------------------------------------------------------------------------------------------

    def io_tunes(self, guests: Sequence[Entity]) -> Mapping[str, Sequence[DiskTune]]:
        """Return the disks' limits from the guests' descriptions, keyed by guest ID."""
        return {entry.id: entry.tuning.disks for entry in self.described(guests)}

    def set_io_tune(self, guest: Entity, disk: str, limits: Mapping[str, int]) -> None:
        """Set limits of a disk. Keep its other limits."""
        entry = self.ready_described(guest)
        # libvirt sets missing limits to 0 if another limit of the same kind is present.
        all_limits = {**_tune_named(guest, "disk", disk, entry.tuning.disks).current, **limits}
        doing = f"setting the limits of disk {printable(disk)} of {guest}"
        self.change_described(entry, doing, lambda domain, live: domain.setBlockIoTune(disk, all_limits, live))

    # --- network -----------------------------------------------------------------------------------------------------------------

    def net_tunes(self, guests: Sequence[Entity]) -> Mapping[str, Sequence[NetTune]]:
        """Return the network interfaces' limits, keyed by guest ID."""
        return {entry.id: entry.tuning.interfaces for entry in self.described(guests)}

    def set_net_tune(self, guest: Entity, interface: str, inbound: Mapping[str, int], outbound: Mapping[str, int]) -> None:
        """Set the limits of a network interface for both directions."""
        entry = self.ready_described(guest)
        tune = _tune_named(guest, "network interface", interface, entry.tuning.interfaces)
        after, before = _parameters(inbound, outbound), _parameters(tune.inbound, tune.outbound)
        doing = f"setting the limits of network interface {printable(interface)} of {guest}"
        try:
            self.change_described(entry, doing, lambda domain, live: domain.setInterfaceParameters(interface, after, live))
        except (GuestGone, GuestBusy):
            raise
        except HypervisorError:
            # If a step fails, libvirt keeps a part of the limit, but reports no limit.
            with suppress(HypervisorError):
                self.change(entry, doing, lambda domain, live: domain.setInterfaceParameters(interface, before, live))
            raise

    # --- CPUs and NUMA nodes -----------------------------------------------------------------------------------------------------

    def cpu_pins(self, guests: Sequence[Entity]) -> Mapping[str, Sequence[Set[int]]]:
        """Return the host CPUs allowed to each vCPU, keyed by guest ID."""
        end = self._monotonic() + _READ_SECONDS
        pins_by_guest = {}
        for entry in self.described(guests):
            pins = entry.pins
            if pins is None and not self.has_open_call(entry.id) and self._monotonic() < end:
                with suppress(HypervisorError):  # affects only this guest
                    pins = self._read_pins(entry)
            if pins is not None:
                pins_by_guest[entry.id] = [frozenset(cpu for cpu, allowed in enumerate(row) if allowed) for row in pins]
        return pins_by_guest

    def _read_pins(self, entry: DomainEntry) -> Sequence[Sequence[bool]]:
        live = self.connection.module.VIR_DOMAIN_AFFECT_LIVE
        pins: Sequence[Sequence[bool]] = self.ask(
            entry, f"reading the CPUs of {printable(entry.name)}", lambda domain: domain.vcpuPinInfo(live)
        )
        entry.pins = pins
        return pins

    def set_cpu_pin(self, guest: Entity, vcpu: int, cpus: Set[int]) -> None:
        """Allow a vCPU to run only on these host CPUs."""
        entry = self.ready(guest)
        rows = entry.pins or self._read_pins(entry)
        if not 0 <= vcpu < len(rows):
            raise NotSupported(f"{guest} has no vCPU {vcpu}; it has vCPUs 0 to {len(rows) - 1}")
        count = len(rows[vcpu])
        if not cpus or min(cpus) < 0 or max(cpus) >= count:
            raise NotSupported(f"CPUs {sorted(cpus)[:8]} do not exist on the host, which has CPUs 0 to {count - 1}")
        chosen = tuple(cpu in cpus for cpu in range(count))
        entry.pins = None
        self.change(entry, f"pinning vCPU {vcpu} of {guest}", lambda domain, live: domain.pinVcpuFlags(vcpu, chosen, live))

    def node_tunes(self, guests: Sequence[Entity]) -> Mapping[str, NodeTune]:
        """Return the NUMA nodes of the guests' memory, keyed by guest ID."""
        return {entry.id: entry.tuning.nodes for entry in self.described(guests)}

    def set_node_tune(self, guest: Entity, nodes: Set[int]) -> None:
        """Allocate the guest's new memory on these nodes. Only guests with numatune mode `strict` or `restrictive` support this."""
        if not nodes:
            raise NotSupported("the list of nodes is empty; to lift the restriction, list all nodes")
        entry = self.ready(guest)
        nodeset = ",".join(str(node) for node in sorted(nodes))
        doing = f"setting the NUMA nodes of {guest}"
        self.change_described(entry, doing, lambda domain, live: domain.setNumaParameters({"numa_nodeset": nodeset}, live))

    # --- states -------------------------------------------------------------------------------------------------------------------

    def standings(self, guests: Sequence[Entity]) -> Mapping[str, GuestState]:
        """Return the guests' states, keyed by ID. mom makes one call for each guest."""
        standings: dict[str, GuestState] = {}
        for guest in guests:
            if self.has_open_call(guest.id):
                raise GuestBusy(f"reading the state of {guest}: {SILENT}")
            with suppress(GuestGone):
                standings[guest.id] = self.connection.call(
                    f"reading the state of {guest}", guest.id, _standing, partial(self.note_open_call, guest.id)
                )
        return standings

    def pause(self, guest: Entity) -> None:
        """Stop the guest's vCPUs."""
        self._order(guest, f"pausing {guest}", lambda domain: domain.suspend())

    def resume(self, guest: Entity) -> None:
        """Continue the guest's vCPUs, even if libvirt itself paused them."""
        self._order(guest, f"resuming {guest}", lambda domain: domain.resume())

    def shut_down(self, guest: Entity) -> None:
        """Shut the guest down by agent or power button. Raise `NotSupported` for a transient guest."""
        doing = f"shutting {guest} down"
        self._order(guest, doing, lambda domain: _only_persistent(domain, doing).shutdown())

    def save(self, guest: Entity, timeout_seconds: float) -> None:
        """Save the guest's memory to a file, and stop the guest. Raise `NotSupported` for a transient guest."""
        doing, number = f"saving {guest}", self.start_of(guest)
        self._jobs.do(doing, guest, timeout_seconds, lambda domain: _only_persistent(domain, doing).managedSave(0), number)

    def start(self, guest: Entity, timeout_seconds: float) -> None:
        """Start the guest. A saved guest continues from its saved memory."""
        self.check_writable()
        self._jobs.do(f"starting {guest}", guest, timeout_seconds, lambda domain: domain.create())

    def _order(self, guest: Entity, doing: str, function: Callable[[Domain], object]) -> None:
        entry = self.ready(guest)
        self.ask(entry, doing, function, entry.start)

    def migrate(self, guest: Entity, destination: Destination, timeout_seconds: float) -> None:
        """Migrate the guest as mom's user. With mom-libvirt-helper, migrate as root, but only to destinations that root declared."""
        doing, number = f"moving {guest} to {destination.uri}", self.start_of(guest)
        self.connection.call(doing, guest.id, lambda domain: None, number=number)  # raises `GuestGone` before connecting
        module = self.connection.module
        reached = None if self.connection.by_helper else self._jobs.reach(destination, doing)
        flags = module.VIR_MIGRATE_LIVE | module.VIR_MIGRATE_ABORT_ON_ERROR
        parameters = {module.VIR_MIGRATE_PARAM_URI: destination.way} if destination.way else {}

        def move(domain: Domain) -> object:
            if isinstance(domain, OrderedDomain):
                return domain.migrate(destination)
            # Define a persistent guest on the destination, and no longer here: nobody must start it twice.
            persistent = module.VIR_MIGRATE_PERSIST_DEST | module.VIR_MIGRATE_UNDEFINE_SOURCE if domain.isPersistent() else 0
            return domain.migrate3(reached, parameters, flags | persistent)

        left: Future[Any] | None = None
        try:
            self._jobs.do(doing, guest, timeout_seconds, move, number)
        except Unanswered as error:  # TimeoutError, because HypervisorError means that the guest is still here
            left = error.call
            raise TimeoutError(error.message) from error
        finally:
            if reached is not None:
                self._jobs.part_from(reached, left)


def _tune_named(guest: Entity, kind: str, name: str, tunes: Sequence[Tune]) -> Tune:
    by_name = {tune.name: tune for tune in tunes}
    if name not in by_name:
        has = f"; it has {', '.join(map(printable, by_name))}" if by_name else ""
        raise NotSupported(f"{guest} has no {kind} {printable(name)}{has}")
    return by_name[name]


def _parameters(inbound: Mapping[str, int], outbound: Mapping[str, int]) -> dict[str, int]:
    directions = (("inbound", inbound), ("outbound", outbound))
    return {
        name: limit
        for direction, limits in directions
        for name, limit in ({f"{direction}.{key}": limit for key, limit in limits.items()} or {f"{direction}.average": 0}).items()
    }


def _reason(error: HypervisorError) -> str:
    return error.message.partition(": ")[2] or error.message


def _standing(domain: Domain) -> GuestState:
    if domain.isActive():
        return GuestState.PAUSED if domain.state()[0] == PAUSED else GuestState.RUNNING
    return GuestState.SAVED if domain.hasManagedSaveImage() else GuestState.OFF


def _only_persistent(domain: Domain, doing: str) -> Domain:
    if not domain.isPersistent():
        raise NotSupported(
            f"{doing}: the guest is transient: once stopped, libvirt cannot start it again",
            hint="make the guest persistent: virsh define FILE",
        )
    return domain
