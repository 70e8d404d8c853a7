"""libvirt's hypervisor: guests, balloons, and the statistics period."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set

from mom_core import Entity, Finding, GuestBusy, HypervisorError, NotSupported, PluginContext, Severity, printable
from mom_kvm import StatisticsRecord
from mom_plugins_libvirt.agents import AgentCommands
from mom_plugins_libvirt.api import Domain, qemu_binding
from mom_plugins_libvirt.changes import HELPER_CURE, GuestOrders, OrderedDomain, OrderRefused
from mom_plugins_libvirt.connection import Connection
from mom_plugins_libvirt.domain_entry import MOVES_AWAY, DomainEntry
from mom_plugins_libvirt.domains import SIZES_SECONDS, SamplingSettings, whole
from mom_plugins_libvirt.lifecycle import GuestLifecycle
from mom_plugins_libvirt.tunes import GuestTuning


class LibvirtHypervisor(GuestTuning, GuestLifecycle):
    """Guests of one libvirtd. Implements `BalloonControl`, `AgentAccess`, limits and states. Thread-safe.

    Methods that change guests raise `HypervisorError` on failure. After `GuestBusy`, the change may still take effect.
    """

    def __init__(self, connection: Connection, settings: SamplingSettings, context: PluginContext) -> None:
        super().__init__(connection, settings, context)
        self._agents = AgentCommands(connection)

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
