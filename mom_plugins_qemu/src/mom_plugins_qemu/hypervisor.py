"""Hypervisor that uses QEMU's monitors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Final, TypeVar

from mom_core import DiskTune, Entity, Finding, GuestBusy, HypervisorError, NotSupported, Severity, Value, printable
from mom_kvm import Cures, GuestState, Promises, StatisticsRecord
from mom_plugins_qemu.description import POLLING_INTERVAL, Description, disks_of, memory_devices, size_record, throttling
from mom_plugins_qemu.fields import VIRTIO_MEM
from mom_plugins_qemu.monitored_guest import LIES, PAUSED, MonitoredGuest
from mom_plugins_qemu.sampler import Sampler
from mom_plugins_qemu.wire import Answer, Question, WireError, request

T = TypeVar("T")

_MANAGEMENT_CHANNEL: Final = "org.qemu.guest_agent.0"

_DISKS: Final = request((Question("query-block"),))

SUBJECT: Final = "qemu"

_CURES: Final = Cures(
    SUBJECT,
    balloon="start them with -device virtio-balloon-pci",
    reporting="add free-page-reporting=on to the guest's -device virtio-balloon-pci",
    autodeflate="add deflate-on-oom=on to the guest's -device virtio-balloon-pci",
)


_LET_GIVE: Final = "run the commands that `mom guests` shows for them; or change nothing, to keep all their memory guaranteed"

_LET_READ: Final = "let mom's user read the definitions: usermod -aG www-data mom, then systemctl restart mom; or check them: qm config"


class QemuHypervisor(Sampler):
    """Guests of QEMU processes with monitors. Thread-safe.

    Implements `BalloonControl`, `IoTuneControl`, `BalloonStatistics`, the pausing of `LifecycleControl`, and the sockets of `AgentAccess`.
    Methods that change guests raise `HypervisorError` on failure. After `GuestBusy`, the command may still take effect.
    """

    # --- the guests --------------------------------------------------------------------------------------------------------------

    def _properties(self, seen: MonitoredGuest) -> Mapping[str, Value]:
        definition = seen.definition
        unread = seen.description is None or (seen.proxmox and definition is None)
        properties: dict[str, Value] = {} if unread else {**Promises.NOTHING}
        if definition is not None:
            properties |= definition.properties()
        if seen.sizing is not None:
            properties["sized_by"] = VIRTIO_MEM
            if definition is None:  # mom cannot unplug the rest
                properties["mem_guarantee"] = f"{seen.sizing.fixed_kib}KiB"
        elif seen.pinned:
            properties["pinned"] = seen.pinned
        return properties

    def _obstacle(self, seen: MonitoredGuest) -> str:
        return seen.obstacle()

    def _moved_by(self, seen: MonitoredGuest) -> str:
        vmid = self._resized_vmid(seen)
        if not vmid or self._context.observes:  # mom only reports decisions
            return ""
        return f"pvestatd of Proxmox VE resizes the guest; to prevent this: {cure(vmid)}"

    def _resized_vmid(self, seen: MonitoredGuest) -> str:
        definition = seen.definition
        resized = self.proxmox_resizes and definition is not None and definition.is_resized_by_proxmox
        return seen.proxmox.vmid if resized and seen.proxmox is not None else ""

    def resized_by_proxmox(self) -> Mapping[str, str]:
        """Return the names of guests that pvestatd resizes, keyed by VMID."""
        return {vmid: guest.name for guest in self.seen() if (vmid := self._resized_vmid(guest))}

    def _fields_of(self, seen: MonitoredGuest, process: Mapping[str, Value]) -> dict[str, Value]:
        fields = {**seen.all_fields(self._monotonic()), **process}
        if "host_cpu_usage" in process:
            fields["cpu_usage"] = process["host_cpu_usage"]
        return fields

    # --- balloons ----------------------------------------------------------------------------------------------------------------

    def set_balloon(self, guest: Entity, target_kib: int) -> None:
        """Set the guest's size, by its balloon or virtio-mem. During a migration, a guest can still grow."""
        monitored, description = self._ready(guest, target_kib)
        sizing = monitored.sizing
        if sizing is None:
            if monitored.virtio_mem:  # the balloon's part depends on the memory that is plugged now
                _, monitored.virtio_mem = self._read(monitored, guest, "reading the memory devices", "query-memory-devices", memory_devices)
            balloon_kib = monitored.balloon_request(target_kib, description.fixed_kib + monitored.plugged_kib)
            question = Question("balloon", {"value": balloon_kib << 10})
        else:
            # Restoring may need a larger size than the assigned memory.
            monitored.balloon_request(target_kib, sizing.fixed_kib + sizing.device.maximum_kib)
            size = {"path": sizing.device.path, "property": "requested-size", "value": sizing.plugged_for(target_kib) << 10}
            question = Question("qom-set", size)
        self._command(monitored, f"setting the size of {guest}", question)

    def balloon_sizes(self, guests: Sequence[Entity]) -> Mapping[str, int]:
        """Return the guests' present sizes in KiB, keyed by ID."""
        self._look_first()
        ids = {guest.id for guest in self.seen(guests)}
        sizes = self._sizes(ids)
        if ids - sizes.keys():  # the monitor served another client, and a restore before mom exits has no next cycle
            self._ask_again()
            sizes |= self._sizes(ids - sizes.keys())
        return sizes

    def _sizes(self, guests: Set[str]) -> dict[str, int]:
        records = self.of(guests).items()
        return {identity: size for identity, record in records if isinstance(size := record.get("balloon.current"), int)}

    def of(self, guests: Set[str]) -> Mapping[str, StatisticsRecord]:
        """Return the guests' sizes and balloon statistics, keyed by ID."""
        sizable = [guest for guest in self.seen() if guest.id in guests and (guest.balloon or guest.sizing is not None)]
        descriptions = {guest.id: guest.description for guest in sizable if guest.description is not None}
        questions = [(guest, request(descriptions[guest.id].size_questions())) for guest in sizable if guest.id in descriptions]
        return self._answers(questions, lambda guest, answers: guest.with_maximum(size_record(descriptions[guest.id], answers)))

    def _answers(
        self, questions: Iterable[tuple[MonitoredGuest, tuple[bytes, int]]], read: Callable[[MonitoredGuest, Sequence[Answer]], T]
    ) -> dict[str, T]:
        visits = [(guest, guest.visit(queries)) for guest, queries in questions if not guest.failure]
        self._visit([visit for _, visit in visits])
        results = {}
        for guest, visit in visits:
            if visit.answers is not None:
                try:
                    results[guest.id] = read(guest, visit.answers)
                except WireError as error:
                    self._log.debug("%s: %s", visit.path, error)
        return results

    def stats_period(self, guest: Entity) -> int:
        """Return the guest's statistics period in seconds; 0: off."""
        monitored, address = self._polling_of(guest)
        period = self._command(monitored, f"reading the statistics period of {guest}", Question("qom-get", address))
        if type(period) is not int or period < 0:
            raise HypervisorError(f"QEMU reports an invalid statistics period of {guest}: {printable(str(period))[:40]}")
        return period

    def set_stats_period(self, guest: Entity, seconds: int) -> None:
        """Set the guest's statistics period in seconds; 0: off."""
        monitored, address = self._polling_of(guest)
        self._command(monitored, f"setting the statistics period of {guest}", Question("qom-set", {**address, "value": seconds}))

    def _polling_of(self, guest: Entity) -> tuple[MonitoredGuest, dict[str, object]]:
        monitored, description = self._ready(guest)
        if not description.balloon:
            raise NotSupported(f"{guest} has no balloon device")
        return monitored, {"path": description.balloon, "property": POLLING_INTERVAL}

    # --- disks -------------------------------------------------------------------------------------------------------------------

    def io_tunes(self, guests: Sequence[Entity]) -> Mapping[str, Sequence[DiskTune]]:
        """Return the limits of the guests' disks, keyed by guest ID."""
        self._look_first()
        questions = [(guest, _DISKS) for guest in self.seen(guests)]
        return self._answers(questions, lambda _, answers: [disk.tune for disk in disks_of(answers[0]).values()])

    def set_io_tune(self, guest: Entity, disk: str, limits: Mapping[str, int]) -> None:
        """Set limits of a disk. Keep its other limits."""
        monitored, _ = self._ready(guest)
        disks = self._read(monitored, guest, "reading the limits of the disks", "query-block", disks_of)
        if disk not in disks:
            raise NotSupported(f"{guest} has no disk {printable(disk)}")
        arguments = throttling(disks[disk], {**disks[disk].tune.current, **limits})
        self._command(monitored, f"setting the limits of disk {printable(disk)} of {guest}", arguments)

    def _read(self, monitored: MonitoredGuest, guest: Entity, doing: str, command: str, read: Callable[[Answer], T]) -> T:
        try:
            return read(self._command(monitored, f"{doing} of {guest}", Question(command)))
        except WireError as error:
            raise HypervisorError(f"{guest}: {error}") from error

    # --- agents ------------------------------------------------------------------------------------------------------------------

    def agent_channels(self, guests: Sequence[Entity]) -> Mapping[str, Mapping[str, str]]:
        """Return the socket paths of agent channels, keyed by guest ID and channel. Leave out the management system's channel."""
        self._look_first()
        by_guest = ((guest.id, dict(guest.identity.channels)) for guest in self.seen(guests))
        sockets = {
            identity: {name: path for name, path in by_name.items() if name != _MANAGEMENT_CHANNEL} for identity, by_name in by_guest
        }
        return {identity: channels for identity, channels in sockets.items() if channels}

    def agent_command(self, guest: Entity, command: str, timeout_seconds: float) -> str:
        """Raise `NotSupported`: QEMU sends no commands to agents."""
        hint = "add a channel org.qemu.guest_agent.1 to the guest, or install mom-guestd in it"
        raise NotSupported(f"mom cannot send commands to the agent of {guest} through QEMU", hint=hint)

    # --- pausing -----------------------------------------------------------------------------------------------------------------

    def standings(self, guests: Sequence[Entity]) -> Mapping[str, GuestState]:
        """Return the guests' states, keyed by ID. Raise `GuestBusy` if a guest does not answer."""
        self._look_first()
        if any(guest.failure for guest in self.seen(guests)):  # the monitor served another client, and there may be no next cycle
            self._ask_again()
        monitored = self.seen(guests)
        for guest in monitored:
            if guest.failure:
                raise GuestBusy(f"reading the state of guest {printable(guest.name)}: {guest.failure}")
        return {guest.id: GuestState.PAUSED if guest.status == PAUSED else GuestState.RUNNING for guest in monitored}

    def pause(self, guest: Entity) -> None:
        """Stop the guest's vCPUs."""
        self._switch(guest, f"pausing {guest}", "stop", PAUSED)

    def resume(self, guest: Entity) -> None:
        """Continue the guest's vCPUs."""
        self._switch(guest, f"resuming {guest}", "cont", "running")

    def _switch(self, guest: Entity, doing: str, command: str, status: str) -> None:
        monitored, _ = self._ready(guest)
        self._command(monitored, doing, Question(command))
        with self._lock:
            monitored.status = status

    def save(self, guest: Entity, timeout_seconds: float) -> None:
        """Raise `NotSupported`: nothing could start the saved guest again."""
        raise NotSupported(f"saving {guest}: without libvirt, nothing could start the saved guest again")

    def shut_down(self, guest: Entity) -> None:
        """Raise `NotSupported`: mom could not start the guest again."""
        hint = "run the guest under libvirt, or shut it down yourself"
        raise NotSupported(f"shutting down {guest}: without libvirt, nothing could start it again", hint=hint)

    def start(self, guest: Entity, timeout_seconds: float) -> None:
        """Raise `NotSupported`: mom can start guests only through libvirt."""
        raise NotSupported(f"starting {guest}: mom can start guests only through libvirt")

    def _ready(self, guest: Entity, size_kib: int | None = None) -> tuple[MonitoredGuest, Description]:
        self._look_first()
        if self._seen_guest(guest).failure:
            self._ask_again()
        monitored = self._seen_guest(guest)
        with self._lock:
            description = monitored.description
            if description is None or monitored.failure:
                raise GuestBusy(f"{guest}: {monitored.failure or 'mom has not read its description yet'}")
            grows = size_kib is not None and monitored.size is not None and size_kib >= monitored.size and monitored.sizing is None
            why = monitored.obstacle(while_paused=True, while_migrating=grows)
            if why:
                raise GuestBusy(f"{guest}: {why}")
            return monitored, description


def cure(vmid: str) -> str:
    """Return the command that stops pvestatd from resizing a guest."""
    return f"qm set {vmid} --shares 0"


# --- findings of `mom doctor` ----------------------------------------------------------------------------------------------------


def examined(hypervisor: QemuHypervisor, *, stats_period: float) -> Iterable[Finding]:
    """Yield findings about monitors and guests. Raise `HypervisorError` on failure."""
    guests = hypervisor.guests()
    monitored = hypervisor.seen()
    for path, whose in hypervisor.foreign.items():
        text = f"mom does not use {printable(path)}: {whose}, who could impersonate any guest"
        yield Finding(Severity.WARNING, "monitor", text, "if that user runs QEMU here, add the user to `users` of the qemu plugin")
    if not guests:
        hint = "start guests with -qmp unix:PATH,server=on,wait=off, and add PATH to `sockets` of the qemu plugin"
        yield Finding(Severity.WARNING, SUBJECT, f"mom found no guest's monitor at {hypervisor.uri.removeprefix('qmp:')}", hint)
        return
    answering = [guest for guest in monitored if not guest.failure]
    yield Finding(Severity.OK, SUBJECT, f"{len(answering)} of {len(guests)} guests answer on their monitors")
    for reason in sorted({guest.failure for guest in monitored if guest.failure}):
        names = [guest.name for guest in monitored if guest.failure == reason]
        hint = "find the client that uses the monitor (ss -xp), or give mom a separate monitor: a second -qmp that `sockets` matches"
        if reason.startswith(LIES):
            hint = "check this QEMU process: the guest may have broken out of it"
        yield Finding(Severity.WARNING, "monitor", f"{Cures.named(names, ' left alone')}: {reason}", hint)
    for path, why in hypervisor.duplicates.items():
        text = f"{printable(path)}: {why}; mom does not use this monitor"
        yield Finding(Severity.WARNING, "monitor", text, "give each guest a UUID of its own (-uuid)")
    unread = [guest.name for guest in monitored if guest.proxmox is not None and guest.proxmox.definition is None]
    if unread:
        text = f"{Cures.named(unread, ' left alone')}: their definitions are unreadable or invalid, so their guarantees are unknown"
        yield Finding(Severity.WARNING, "Proxmox VE", text, _LET_READ)
    for vmid, name in hypervisor.resized_by_proxmox().items():
        text = f"pvestatd resizes {printable(name)} ({vmid}) every ten seconds: until this stops, mom does not change the guest's balloon"
        yield Finding(Severity.WARNING, "Proxmox VE", text, cure(vmid))
    if keeping := [guest.name for guest in answering if guest.balloon and guest.definition is not None and guest.definition.keeps_all]:
        text = f"{Cures.named(keeping, ' without Minimum memory')}: mom takes nothing from them"
        yield Finding(Severity.WARNING, "Proxmox VE", text, _LET_GIVE)
    yield from _CURES.examine(hypervisor, guests, answering, acts=True, stats_period=stats_period)
