"""The hypervisor that QEMU's monitors give: guests with their statistics from one round of visits, balloons, and the statistics period."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Final, TypeVar

from mom_core import DiskTune, Entity, GuestBusy, HypervisorError, NotSupported, PermissionDenied, Value, printable
from mom_kvm import PROMISED_NOTHING, GuestField, GuestState, Record, wanted_limits
from mom_plugins_qemu.description import POLLING_INTERVAL, Description, memory_devices, size_record
from mom_plugins_qemu.disks import disks_of, throttling
from mom_plugins_qemu.fields import VIRTIO_MEM
from mom_plugins_qemu.monitored_guest import PAUSED, MonitoredGuest
from mom_plugins_qemu.sampler import Sampler
from mom_plugins_qemu.visits import prepared
from mom_plugins_qemu.wire import Answer, Question, WireError

T = TypeVar("T")

_OF_OTHERS: Final = "org.qemu.guest_agent.0"

_BLOCK: Final = prepared((Question("query-block"),))


class QemuHypervisor(Sampler):
    """The guests of QEMU processes whose monitors are found by patterns: implements `Hypervisor`, `BalloonControl`, `IoTuneControl`,
    `LifecycleControl` (of guests that run) and `AgentAccess` (sockets), and is the watch's `BalloonStatistics`.

    Safe to be used from several threads. Every setter raises `NotSupported` for what the guest cannot have, `GuestGone`, `GuestBusy` when
    its monitor did not answer (where it was asked, it may still take effect), and other kinds of `HypervisorError`.
    """

    # --- what there is -----------------------------------------------------------------------------------------------------------

    def _properties(self, seen: MonitoredGuest) -> Mapping[str, Value]:
        unread = seen.description is None or (seen.number and seen.definition is None) or (seen.defined is not None and seen.defined.wrong)
        properties: dict[str, Value] = {} if unread else {**PROMISED_NOTHING}
        if seen.definition is not None:
            properties |= seen.definition.properties()
        if seen.defined is not None:
            properties |= seen.defined.guest.properties()
        if seen.way is not None and seen.defined is not None:
            properties |= {"sized_by": VIRTIO_MEM, "mem_guarantee": f"{seen.way.guaranteed_kib(seen.defined.guest)}KiB"}
        elif seen.pinned:
            properties["pinned"] = seen.pinned
        return properties

    def _obstacle(self, seen: MonitoredGuest) -> str:
        return "mom was told to change nothing here (readonly)" if self._settings.readonly else seen.obstacle()

    def _moved_by(self, seen: MonitoredGuest) -> str:
        if not self._is_resized_by_proxmox(seen) or self._context.observes:  # that is no reason not to say what mom would do
            return ""
        return f"pvestatd of Proxmox VE resizes the guest; to end that: {cure(seen.number)}"

    def _is_resized_by_proxmox(self, seen: MonitoredGuest) -> bool:
        return self.proxmox_resizes and seen.definition is not None and seen.definition.is_resized_by_proxmox

    def resized_by_proxmox(self) -> Mapping[str, str]:
        """The names of the guests that Proxmox VE's own daemon resizes, by VMID; as of the last call of `guests`."""
        return {known.number: known.name for known in self.seen() if self._is_resized_by_proxmox(known)}

    def _fields_of(self, seen: MonitoredGuest, process: Mapping[str, Value]) -> dict[str, Value]:
        fields = {**seen.all_fields(), **process}
        if not seen.failure and (why := seen.why_give_back(self._monotonic())):
            fields[GuestField.GIVE_BACK] = why
        if "host_cpu_usage" in process:
            fields["cpu_usage"] = process["host_cpu_usage"]
        return fields

    # --- what can be changed -----------------------------------------------------------------------------------------------------

    def set_balloon(self, guest: Entity, target_kib: int) -> None:
        """Ask the guest to go to that size; returns when QEMU has taken the request, not when the guest has followed.

        A guest that is moved away gets memory back by its balloon all the same, such as its headroom after a sweep: a move may last for
        hours.
        """
        known, description = self._ready(guest, target_kib)
        way = known.way
        if way is None:
            if known.virtio_mem:  # what it has given or taken since the last look is not to be asked of the balloon
                _, known.virtio_mem = self._read(known, guest, "looking at the memory", "query-memory-devices", memory_devices)
            asked = known.balloon_request(target_kib, description.fixed_kib + known.plugged_kib)
            question = Question("balloon", {"value": asked << 10})
        else:
            # Before mom it may have had more than what its file says it was sold, and gets that back.
            known.balloon_request(target_kib, way.fixed_kib + way.device.maximum_kib)
            wanted = {"path": way.device.path, "property": "requested-size", "value": way.plugged_for(target_kib) << 10}
            question = Question("qom-set", wanted)
        self._resizes.resizing(known.id, known.size, target_kib)
        self._command(known, f"setting the size of {guest}", question)

    def balloon_sizes(self, guests: Sequence[Entity]) -> Mapping[str, int]:
        """The sizes of these guests now in KiB, by guest id, in one round. A guest that is gone, unknown or silent is absent."""
        self._look_first()
        there = {known.id for known in self.seen(guests)}
        sizes = self._sizes(there)
        if there - sizes.keys():  # another client was just there, and what is to be put back at the end has no next cycle to wait for
            self._ask_again()
            sizes |= self._sizes(there - sizes.keys())
        return sizes

    def _sizes(self, guests: Set[str]) -> dict[str, int]:
        found = self.of(guests).items()
        return {identity: size for identity, record in found if isinstance(size := record.get("balloon.current"), int)}

    def of(self, guests: Set[str]) -> Mapping[str, Record]:
        """The balloon part of these guests' records, by guest id, in one round; without those that do not answer."""
        sizable = [known for known in self.seen() if known.id in guests and (known.balloon or known.way is not None)]
        described = {known.id: known.description for known in sizable if known.description is not None}
        asked = [(known, prepared(described[known.id].size_questions())) for known in sizable if known.id in described]
        return self._told(asked, lambda known, answers: known.with_maximum(size_record(described[known.id], answers)))

    def _told(
        self, asked: Iterable[tuple[MonitoredGuest, tuple[bytes, int]]], read: Callable[[MonitoredGuest, Sequence[Answer]], T]
    ) -> dict[str, T]:
        """All that can be read in these guests' answers to these questions, by guest id, in one round."""
        visits = [(known, known.visit(questions)) for known, questions in asked if not known.failure]
        self._visit([visit for _, visit in visits])
        found = {}
        for known, visit in visits:
            if visit.answers is not None:
                try:
                    found[known.id] = read(known, visit.answers)
                except WireError as error:
                    self._log.debug("%s: %s", visit.path, error)
        return found

    def stats_period(self, guest: Entity) -> int:
        """By QEMU's word now: every how many seconds it asks the guest, or 0."""
        known, description = self._ready(guest)
        where = {"path": self._balloon_of(guest, description), "property": POLLING_INTERVAL}
        period = self._command(known, f"reading the statistics period of {guest}", Question("qom-get", where))
        if type(period) is not int or period < 0:
            raise HypervisorError(f"QEMU says that the statistics period of {guest} is {printable(str(period))[:40]}")
        return period

    def set_stats_period(self, guest: Entity, seconds: int) -> None:
        """Have the guest asked every `seconds` from now on, 0 for no longer."""
        known, description = self._ready(guest)
        where = {"path": self._balloon_of(guest, description), "property": POLLING_INTERVAL, "value": seconds}
        self._command(known, f"setting the statistics period of {guest}", Question("qom-set", where))

    def _balloon_of(self, guest: Entity, description: Description) -> str:
        if not description.balloon:
            raise NotSupported(f"{guest} has no balloon device")
        return description.balloon

    def io_tunes(self, guests: Sequence[Entity]) -> Mapping[str, Sequence[DiskTune]]:
        """The limits of these guests' disks, by guest id, in one round. A guest that is gone, unknown or silent is absent."""
        self._look_first()
        asked = [(known, _BLOCK) for known in self.seen(guests)]
        return self._told(asked, lambda known, answers: [disk.tune for disk in disks_of(answers[0]).values()])

    def set_io_tune(self, guest: Entity, disk: str, limits: Mapping[str, int]) -> None:
        """Set these limits of that disk; those that are not given stay."""
        known, _ = self._ready(guest)
        disks = self._read(known, guest, "reading the limits of the disks", "query-block", disks_of)
        wanted = wanted_limits(guest, disk, [found.tune for found in disks.values()], limits)
        self._command(known, f"setting the limits of disk {printable(disk)} of {guest}", throttling(disks[disk], wanted))

    def _read(self, known: MonitoredGuest, guest: Entity, what: str, command: str, read: Callable[[Answer], T]) -> T:
        """What is read in QEMU's answer to a command without arguments."""
        try:
            return read(self._command(known, f"{what} of {guest}", Question(command)))
        except WireError as error:
            raise HypervisorError(f"{guest}: {error}") from error

    # --- agents ------------------------------------------------------------------------------------------------------------------

    def agent_channels(self, guests: Sequence[Entity]) -> Mapping[str, Mapping[str, str]]:
        """The sockets of these guests' channels by their names, by guest id, from QEMU's command line.

        Without the one on which management systems talk to qemu-guest-agent: it serves one client at a time, and is theirs.
        """
        self._look_first()
        named = ((known.id, {name: path for name, path in known.identity.channels if name != _OF_OTHERS}) for known in self.seen(guests))
        return {identity: channels for identity, channels in named if channels}

    def agent_command(self, guest: Entity, command: str, timeout_seconds: float) -> str:
        """Raises `NotSupported`: QEMU passes nothing on to agents, which have sockets."""
        hint = "give the guest a channel org.qemu.guest_agent.1, or mom-guestd"
        raise NotSupported(f"QEMU passes no commands on to the agent of {guest}", hint=hint)

    # --- standing still ----------------------------------------------------------------------------------------------------------

    def standings(self, guests: Sequence[Entity]) -> Mapping[str, GuestState]:
        """How these guests were when they were seen last, by guest id. QEMU knows of none that do not run. Raises `GuestBusy` where one
        has not answered since: that mom has paused it may be all that is known of it."""
        self._look_first()
        if any(known.failure for known in self.seen(guests)):  # another client was just there, and there may be no next cycle
            self._ask_again()
        found = self.seen(guests)
        for known in found:
            if known.failure:
                raise GuestBusy(f"looking at guest {printable(known.name)}: {known.failure}")
        return {known.id: GuestState.PAUSED if known.status == PAUSED else GuestState.RUNNING for known in found}

    def pause(self, guest: Entity) -> None:
        """Let its CPUs stand still."""
        self._stand(guest, f"pausing {guest}", "stop", PAUSED)

    def resume(self, guest: Entity) -> None:
        """Let its CPUs go on."""
        self._stand(guest, f"letting {guest} go on", "cont", "running")

    def _stand(self, guest: Entity, doing: str, command: str, status: str) -> None:
        known, _ = self._ready(guest)
        self._command(known, doing, Question(command))
        with self._lock:
            known.status = status

    def save(self, guest: Entity, timeout_seconds: float) -> None:
        """Raises `NotSupported`: by itself, QEMU would not find what it has saved."""
        raise NotSupported(f"saving {guest}: QEMU without a management does not start saved guests again")

    def shut_down(self, guest: Entity) -> None:
        """Raises `NotSupported`: a guest that mom has shut down must come back."""
        hint = "run it under libvirt, or shut it down by hand"
        raise NotSupported(f"shutting down {guest}: without libvirt nothing could start it again", hint=hint)

    def start(self, guest: Entity, timeout_seconds: float) -> None:
        """Raises `NotSupported`: who starts QEMU here is not known."""
        raise NotSupported(f"starting {guest}: mom knows no command for that without libvirt")

    # --- what happens ------------------------------------------------------------------------------------------------------------

    def heard(self, process: int, what: str) -> None:
        """An event of the guest that this process runs, which is worth a cycle."""
        name = next((known.name for known in self.seen() if known.process == process), "")
        self.tell(f"guest {printable(name) or f'of process {process}'} {what}")

    def resized(self, process: int, actual: int) -> None:
        """The balloon of the guest that this process runs has another size, in bytes: worth a cycle if that was not mom."""
        known = next((known for known in self.seen() if known.process == process), None)
        if known is not None and not self._resizes.is_own(known.id, (actual >> 10) + known.plugged_kib) and self._resizes.may_tell():
            self.heard(process, "was resized by another process")

    def _ready(self, guest: Entity, size_kib: int | None = None) -> tuple[MonitoredGuest, Description]:
        """:param size_kib: the size that it is to be asked for; None: something else is"""
        if self._settings.readonly:
            raise PermissionDenied("mom was told to change nothing here", hint="set readonly to false for the plugin qemu")
        self._look_first()
        if self._there(guest).failure:
            self._ask_again()
        known = self._there(guest)
        with self._lock:
            description = known.description
            if description is None or known.failure:
                raise GuestBusy(f"{guest}: {known.failure or 'it has not been described yet'}")
            gives = size_kib is not None and known.size is not None and size_kib >= known.size and known.way is None
            why = known.obstacle(while_paused=True, while_moved=gives)
            if why:
                raise GuestBusy(f"{guest}: {why}")
            return known, description


def cure(number: str) -> str:
    """The line that has pvestatd leave a guest's balloon alone."""
    return f"qm set {number} --shares 0"
