"""Limits of guests: CPU time, disk I/O, network bandwidth, host CPUs and NUMA nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress

from mom_core import CpuTune, DiskTune, Entity, GuestBusy, GuestGone, HypervisorError, NetTune, NotSupported, printable
from mom_kvm import NodeTune, tune_named
from mom_plugins_libvirt.domain_entry import CPU_CONTROLS, DomainEntry
from mom_plugins_libvirt.domains import Domains, whole

NO_QUOTA = -1
_MOST_QUOTA_US = (1 << 44) - 1
"""Largest quota that libvirt accepts (src/util/vircgroup.h). Larger values mean that there is no quota."""

_READ_SECONDS = 0.5
"""Time in a cycle for reading CPU limits."""


class GuestTuning(Domains):
    """Implementation of `CpuTuneControl`, `IoTuneControl`, `NetTuneControl`, `CpuPinControl` and `NodeTuneControl`."""

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
        all_limits = {**tune_named(guest, "disk", disk, entry.tuning.disks).current, **limits}
        doing = f"setting the limits of disk {printable(disk)} of {guest}"
        self.change_described(entry, doing, lambda domain, live: domain.setBlockIoTune(disk, all_limits, live))

    # --- network -----------------------------------------------------------------------------------------------------------------

    def net_tunes(self, guests: Sequence[Entity]) -> Mapping[str, Sequence[NetTune]]:
        """Return the network interfaces' limits, keyed by guest ID."""
        return {entry.id: entry.tuning.interfaces for entry in self.described(guests)}

    def set_net_tune(self, guest: Entity, interface: str, inbound: Mapping[str, int], outbound: Mapping[str, int]) -> None:
        """Set the limits of a network interface for both directions."""
        entry = self.ready_described(guest)
        tune = tune_named(guest, "network interface", interface, entry.tuning.interfaces)
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

    def cpu_pins(self, guests: Sequence[Entity]) -> Mapping[str, Sequence[AbstractSet[int]]]:
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

    def set_cpu_pin(self, guest: Entity, vcpu: int, cpus: AbstractSet[int]) -> None:
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

    def set_node_tune(self, guest: Entity, nodes: AbstractSet[int]) -> None:
        """Allocate the guest's new memory on these nodes. Only guests with numatune mode `strict` or `restrictive` support this."""
        if not nodes:
            raise NotSupported("the list of nodes is empty; to lift the restriction, list all nodes")
        entry = self.ready(guest)
        nodeset = ",".join(str(node) for node in sorted(nodes))
        doing = f"setting the NUMA nodes of {guest}"
        self.change_described(entry, doing, lambda domain, live: domain.setNumaParameters({"numa_nodeset": nodeset}, live))


def _parameters(inbound: Mapping[str, int], outbound: Mapping[str, int]) -> dict[str, int]:
    directions = (("inbound", inbound), ("outbound", outbound))
    return {
        name: limit
        for direction, limits in directions
        for name, limit in ({f"{direction}.{key}": limit for key, limit in limits.items()} or {f"{direction}.average": 0}).items()
    }


def _reason(error: HypervisorError) -> str:
    return error.message.partition(": ")[2] or error.message
