"""The hypervisor that QEMU's monitors give: guests with their statistics from one round of visits, balloons, and the statistics period."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Final

from mom_core import DiskTune, Entity, Guest, GuestBusy, GuestGone, HypervisorError, NotSupported, PermissionDenied, Value, printable
from mom_guests import PERIOD, Record, Subscribers, distrusted, wanted_limits
from mom_plugins_qemu.description import POLLING_INTERVAL, Description, VirtioMem, size_record, virtio_mem_of
from mom_plugins_qemu.disks import ThrottledDisk, disks_of, throttling
from mom_plugins_qemu.fields import VIRTIO_MEM
from mom_plugins_qemu.monitored_guest import PAUSED, MonitoredGuest
from mom_plugins_qemu.sampler import QemuHypervisorSettings, Sampler
from mom_plugins_qemu.states import state_name
from mom_plugins_qemu.visits import Visit, prepared
from mom_plugins_qemu.wire import Question, Refusal, WireError
from mom_toolkit import GuestState, boot_id

BALLOON: Final = "balloon_target"

_OF_OTHERS: Final = "org.qemu.guest_agent.0"

_BLOCK: Final = prepared((Question("query-block"),))


class QemuHypervisor:
    """The guests of QEMU processes whose monitors are found by patterns: implements `Hypervisor`, `BalloonControl`, `IoTuneControl`,
    `LifecycleControl` (of guests that run), `AgentAccess` (sockets) and `GuestEvents`, and is the watch's `BalloonStatistics`.

    Safe to be used from several threads.
    """

    def __init__(
        self,
        settings: QemuHypervisorSettings,
        log: logging.Logger,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._log = log
        self._monotonic = monotonic
        self._sampler = Sampler(settings, log, wall, monotonic)
        self._subscribers = Subscribers()
        self._sampled = False
        boot = boot_id(settings.root / "proc")
        self._boot = f"@{boot}" if boot else ""

    @property
    def uri(self) -> str:
        """The patterns by which monitors are found."""
        return "qmp:" + ",".join(self._settings.sockets)

    # --- what there is -----------------------------------------------------------------------------------------------------------

    def guests(self) -> Sequence[Guest]:
        """The guests whose monitors are there now, with what `fields` hands out, by one round of visits to all of them at once."""
        self._sampler.sample()
        self._sampled = True
        with self._sampler.lock:
            return tuple(self._listed(known) for known in self._sampler.by_id.values())

    def _listed(self, known: MonitoredGuest) -> Guest:
        name = (known.defined.guest.name if known.defined is not None else "") or known.name or known.id
        properties: dict[str, Value] = {"name": name, "uuid": known.id, "state": state_name(known.status)}
        properties |= self._sampler.host_side.properties(known.id)
        if known.definition is not None:
            properties |= known.definition.properties()
        if known.defined is not None:
            properties |= known.defined.guest.properties()
        way = known.way
        if way is not None and known.defined is not None:
            properties |= {"sized_by": VIRTIO_MEM, "mem_guarantee": f"{way.guaranteed_kib(known.defined.guest)}KiB"}
        elif known.description is not None and known.description.pinned:
            properties["pinned"] = known.description.pinned
        return Guest(
            known.id,
            name,
            properties=properties,
            blocked=self._blocked(known),
            incarnation=f"{known.process}.{known.started}{self._boot}",
        )

    def _blocked(self, known: MonitoredGuest) -> dict[str, str]:
        why = self._obstacle(known)
        if why:
            return {"*": why}
        if known.description is None:
            return dict.fromkeys((BALLOON, PERIOD), "the guest has not been described yet")
        if not known.description.balloon:
            return dict.fromkeys((PERIOD,) if known.way is not None else (BALLOON, PERIOD), "the guest has no balloon device")
        if self.is_resized_by_proxmox(known) and not self._settings.observing():
            return {BALLOON: f"pvestatd of Proxmox VE resizes the guest; to end that: {cure(known.number)}"}
        if known.description.pinned and known.way is None and not known.is_smaller():
            return {BALLOON: known.description.pinned}
        silence = known.silence(self._monotonic(), self._settings.stale_after)
        return {BALLOON: silence} if silence else {}

    def _obstacle(self, known: MonitoredGuest) -> str:
        return "mom was told to change nothing here (readonly)" if self._settings.readonly else known.obstacle()

    def is_resized_by_proxmox(self, known: MonitoredGuest) -> bool:
        """Whether another daemon moves this guest's balloon."""
        return self._sampler.proxmox_resizes and known.definition is not None and known.definition.is_resized_by_proxmox

    def resized_by_proxmox(self) -> Mapping[str, str]:
        """The names of the guests that Proxmox VE's own daemon resizes, by VMID; as of the last call of `guests`."""
        with self._sampler.lock:
            return {known.number: known.name for known in self._sampler.by_id.values() if self.is_resized_by_proxmox(known)}

    def wrongly_defined(self) -> Mapping[str, str]:
        """The names of the guests whose files say what cannot be, and what that is; as of the last call of `guests`."""
        with self._sampler.lock:
            defined = ((known.name, known.defined) for known in self._sampler.by_id.values())
            return {name: one.wrong for name, one in defined if one is not None and one.wrong}

    def fields(self, guests: Sequence[Guest]) -> dict[str, dict[str, Value]]:
        """The fields of these guests as of the last call of `guests`, by guest id. A guest that is not known is absent."""
        with self._sampler.lock:
            there = {guest.id: known for guest in guests if (known := self._sampler.by_id.get(guest.id)) is not None}
            seen = self._sampler.host_side.fields(there)
            return {identity: self._fields(known, seen.get(identity, {})) for identity, known in there.items()}

    def _fields(self, known: MonitoredGuest, seen: Mapping[str, Value]) -> dict[str, Value]:
        fields = {**known.all_fields(), **seen}
        if "host_cpu_usage" in seen:
            fields["cpu_usage"] = seen["host_cpu_usage"]
        process = self._sampler.host_side.process(known.id) if seen else None
        if process is not None and process.resident_kib is not None:
            fields["rss"] = process.resident_kib
        return fields

    def silent(self) -> Mapping[str, str]:
        """The guests whose statistics ought to come, and have not for long, by id: in what way."""
        with self._sampler.lock:
            return {
                identity: why
                for identity, known in self._sampler.by_id.items()
                if (why := known.silence(self._monotonic(), self._settings.stale_after))
            }

    def impossible(self) -> Mapping[str, Sequence[str]]:
        """The guests whose last statistics cannot be true, by id: the names of the fields."""
        with self._sampler.lock:
            return distrusted(self._sampler.by_id)

    def doubles(self) -> Mapping[str, str]:
        """Monitors whose guest says that it is another one that is known already, by path: which."""
        with self._sampler.lock:
            return dict(self._sampler.doubles)

    def foreign(self) -> Mapping[str, str]:
        """Monitors at which a process listens that is another user's, by path: whose; by the last call of `guests`."""
        with self._sampler.lock:
            return dict(self._sampler.foreign)

    def known(self) -> Mapping[str, tuple[str, Description | None, str, int | None]]:
        """By guest id: its name, what it is, why its monitor does not answer, its statistics period; by the last call of `guests`."""
        with self._sampler.lock:
            return {
                identity: (known.name, known.description, known.failure, known.period) for identity, known in self._sampler.by_id.items()
            }

    # --- what can be changed -----------------------------------------------------------------------------------------------------

    def set_balloon(self, guest: Entity, target_kib: int) -> None:
        """Ask the guest to go to that size; returns when QEMU has taken the request, not when the guest has followed.

        Raises `NotSupported` for a size that the guest cannot have, `GuestGone`, `GuestBusy` when its monitor did not answer (where it was
        asked, it may still take effect), and other kinds of `HypervisorError`.
        """
        known, description = self._ready(guest)
        if isinstance(target_kib, bool) or not isinstance(target_kib, int) or target_kib < 1:
            raise NotSupported(f"{target_kib!r} KiB is no size for {guest}")
        size = known.fields.get("balloon_cur")
        way = known.way
        if way is not None:
            plugged = way.plugged_for(target_kib)
            self._sampler.resizes.resizing(known.id, size if isinstance(size, int) else None, target_kib)
            self.set_plugged(guest, plugged)
            return
        plugged = sum(device.size_kib for device in known.virtio_mem)
        maximum = description.fixed_kib + plugged
        if target_kib > maximum:
            raise NotSupported(f"{target_kib} KiB is more than the {maximum} KiB that {guest} can have")
        # What virtio-mem has plugged in is part of the guest's size, and out of the balloon's reach: QEMU leaves it out here.
        if target_kib <= plugged:
            raise NotSupported(f"{target_kib} KiB is not more than the {plugged} KiB of {guest} that its balloon cannot take")
        self._sampler.resizes.resizing(known.id, size if isinstance(size, int) else None, target_kib)
        self._sampler.command(known, f"setting the balloon of {guest}", Question("balloon", {"value": (target_kib - plugged) << 10}))

    def balloon_sizes(self, guests: Sequence[Entity]) -> Mapping[str, int]:
        """What these guests have now in KiB, by guest id, in one round. A guest that is gone, unknown or silent is absent."""
        self._sample_first()
        wanted = {guest.id for guest in guests}
        sizes = self._sizes(wanted)
        with self._sampler.lock:
            busy = {identity for identity in wanted - sizes.keys() if identity in self._sampler.by_id}
        if busy:  # another client was just there, and what is to be put back at the end has no next cycle to wait for
            self._sampler.ask_again()
            sizes |= self._sizes(busy)
        return sizes

    def _sizes(self, guests: Set[str]) -> dict[str, int]:
        found = self.of(guests).items()
        return {identity: size for identity, record in found if isinstance(size := record.get("balloon.current"), int)}

    def of(self, guests: Set[str]) -> Mapping[str, Record]:
        """The balloon part of these guests' records, by guest id, in one round; without those that do not answer."""
        with self._sampler.lock:
            asked = []
            for identity in guests:
                known = self._sampler.by_id.get(identity)
                if known is None or known.description is None or known.failure:
                    continue
                if known.description.balloon or known.way is not None:
                    asked.append((identity, known, known.description))
        visits = [Visit(known.path, prepared(description.size_questions()), known.process) for _, known, description in asked]
        self._sampler.visit(visits)
        found = {}
        for visit, (identity, known, description) in zip(visits, asked, strict=True):
            if visit.answers is not None:
                try:
                    found[identity] = known.with_maximum(size_record(description, visit.answers))
                except WireError as error:
                    self._log.debug("%s: %s", visit.path, error)
        return found

    def stats_period(self, guest: Entity) -> int:
        """What QEMU says now: every how many seconds it asks the guest, or 0. Raises as `set_balloon` does."""
        known, description = self._ready(guest)
        where = {"path": self._balloon_of(guest, description), "property": POLLING_INTERVAL}
        period = self._sampler.command(known, f"reading the statistics period of {guest}", Question("qom-get", where))
        if type(period) is not int or period < 0:
            raise HypervisorError(f"QEMU says that the statistics period of {guest} is {printable(str(period))[:40]}")
        return period

    def set_stats_period(self, guest: Entity, seconds: int) -> None:
        """Have the guest asked every `seconds` from now on, 0 for no longer. Raises as `set_balloon` does."""
        known, description = self._ready(guest)
        where = {"path": self._balloon_of(guest, description), "property": POLLING_INTERVAL, "value": seconds}
        self._sampler.command(known, f"setting the statistics period of {guest}", Question("qom-set", where))

    def _balloon_of(self, guest: Entity, description: Description) -> str:
        if not description.balloon:
            raise NotSupported(f"{guest} has no balloon device")
        return description.balloon

    def plugged(self, guest: Entity) -> int:
        """How much virtio-mem is to have plugged in, in KiB, by QEMU's word now. Raises as `set_balloon` does."""
        known, _ = self._ready(guest)
        return self._device(known, guest).requested_kib

    def set_plugged(self, guest: Entity, size_kib: int) -> None:
        """Ask virtio-mem to have so much plugged in, rounded up to what it can; the guest follows as far as its kernel can free memory.

        Raises as `set_balloon` does.
        """
        known, _ = self._ready(guest)
        device = self._device(known, guest)
        if isinstance(size_kib, bool) or not isinstance(size_kib, int) or not 0 <= size_kib <= device.maximum_kib:
            most = device.maximum_kib
            raise NotSupported(f"{size_kib!r:.40} is no size for virtio-mem of {guest}, which takes 0 to {most} KiB")
        step = max(1, device.block_kib)
        rounded = min(-(-size_kib // step) * step, device.maximum_kib)
        where = {"path": device.path, "property": "requested-size", "value": rounded << 10}
        self._sampler.command(known, f"setting the virtio-mem size of {guest}", Question("qom-set", where))

    def _device(self, known: MonitoredGuest, guest: Entity) -> VirtioMem:
        try:
            answer = self._sampler.command(known, f"reading the memory devices of {guest}", Question("query-memory-devices"))
            devices = virtio_mem_of(answer)
        except WireError as error:
            raise HypervisorError(f"{guest}: {error}") from error
        if len(devices) != 1:
            raise NotSupported(f"{guest} has {len(devices) or 'no'} virtio-mem devices; one can be resized")
        return devices[0]

    def io_tunes(self, guests: Sequence[Entity]) -> Mapping[str, Sequence[DiskTune]]:
        """The limits of these guests' disks, by guest id, in one round. A guest that is gone, unknown or silent is absent."""
        self._sample_first()
        with self._sampler.lock:
            there = [known for guest in guests if (known := self._sampler.by_id.get(guest.id)) is not None and not known.failure]
        visits = [Visit(known.path, _BLOCK, known.process) for known in there]
        self._sampler.visit(visits)
        found = {}
        for visit, known in zip(visits, there, strict=True):
            if visit.answers is not None and not isinstance(visit.answers[0], Refusal):
                try:
                    found[known.id] = [disk.tune for disk in disks_of(visit.answers[0]).values()]
                except WireError as error:
                    self._log.debug("%s: %s", visit.path, error)
        return found

    def set_io_tune(self, guest: Entity, disk: str, limits: Mapping[str, int]) -> None:
        """Set these limits of that disk; those that are not given stay. Raises as `set_balloon` does."""
        known, _ = self._ready(guest)
        disks = self._disks(known, guest)
        wanted = wanted_limits(guest, disk, [found.tune for found in disks.values()], limits)
        self._sampler.command(known, f"setting the limits of disk {printable(disk)} of {guest}", throttling(disks[disk], wanted))

    def _disks(self, known: MonitoredGuest, guest: Entity) -> Mapping[str, ThrottledDisk]:
        try:
            return disks_of(self._sampler.command(known, f"reading the limits of the disks of {guest}", Question("query-block")))
        except WireError as error:
            raise HypervisorError(f"{guest}: {error}") from error

    # --- agents ------------------------------------------------------------------------------------------------------------------

    def agent_channels(self, guests: Sequence[Entity]) -> Mapping[str, Mapping[str, str]]:
        """The sockets of these guests' channels by their names, by guest id, from QEMU's command line.

        Without the one on which management systems talk to qemu-guest-agent: it serves one client at a time, and is theirs.
        """
        self._sample_first()
        found = {}
        with self._sampler.lock:
            for guest in guests:
                known = self._sampler.by_id.get(guest.id)
                channels = {} if known is None else {name: path for name, path in known.identity.channels if name != _OF_OTHERS}
                if channels:
                    found[guest.id] = channels
        return found

    def agent_command(self, guest: Entity, command: str, timeout_seconds: float) -> str:
        """Raises `NotSupported`: QEMU passes nothing on to agents, which have sockets."""
        hint = "give the guest a channel org.qemu.guest_agent.1, or mom-guestd"
        raise NotSupported(f"QEMU passes no commands on to the agent of {guest}", hint=hint)

    # --- standing still ----------------------------------------------------------------------------------------------------------

    def standings(self, guests: Sequence[Entity]) -> Mapping[str, GuestState]:
        """How these guests were when they were seen last, by guest id. QEMU knows of none that do not run."""
        self._sample_first()
        with self._sampler.lock:
            there = [known for guest in guests if (known := self._sampler.by_id.get(guest.id)) is not None]
            return {known.id: GuestState.PAUSED if known.status == PAUSED else GuestState.RUNNING for known in there}

    def pause(self, guest: Entity) -> None:
        """Let its CPUs stand still. Raises as `set_balloon` does."""
        self._stand(guest, f"pausing {guest}", "stop", PAUSED)

    def resume(self, guest: Entity) -> None:
        """Let its CPUs go on. Raises as `set_balloon` does."""
        self._stand(guest, f"letting {guest} go on", "cont", "running")

    def _stand(self, guest: Entity, doing: str, command: str, status: str) -> None:
        known, _ = self._ready(guest)
        self._sampler.command(known, doing, Question(command))
        with self._sampler.lock:
            known.status = status

    def save(self, guest: Entity, timeout_seconds: float) -> None:
        """Raises `NotSupported`: by itself, QEMU would not find what it has saved."""
        raise NotSupported(f"saving {guest}: QEMU without a management does not start saved guests again")

    def shut_down(self, guest: Entity) -> None:
        """Press its power button. Raises as `set_balloon` does."""
        known, _ = self._ready(guest)
        self._sampler.command(known, f"shutting down {guest}", Question("system_powerdown"))

    def start(self, guest: Entity, timeout_seconds: float) -> None:
        """Raises `NotSupported`: who starts QEMU here is not known."""
        raise NotSupported(f"starting {guest}: mom knows no command for that without libvirt")

    # --- what happens ------------------------------------------------------------------------------------------------------------

    def subscribe(self, callback: Callable[[str], None]) -> Callable[[], None]:
        """Call `callback(what happened)` from the thread that listens at mom's own monitors; the result ends that."""
        return self._subscribers.subscribe(callback)

    def heard(self, process: int, what: str) -> None:
        """An event of the guest that this process runs, which is worth a cycle."""
        with self._sampler.lock:
            name = next((known.name for known in self._sampler.by_id.values() if known.process == process), "")
        self._subscribers.tell(f"guest {printable(name) or f'of process {process}'} {what}")

    def resized(self, process: int, actual: int) -> None:
        """The balloon of the guest that this process runs has another size, in bytes: worth a cycle if that was not mom."""
        with self._sampler.lock:
            known = next((known for known in self._sampler.by_id.values() if known.process == process), None)
        if known is not None:
            size = (actual >> 10) + sum(device.size_kib for device in known.virtio_mem)
            if not self._sampler.resizes.is_own(known.id, size) and self._sampler.resizes.may_tell():
                self.heard(process, "was resized by another process")

    def _ready(self, guest: Entity) -> tuple[MonitoredGuest, Description]:
        if self._settings.readonly:
            raise PermissionDenied("mom was told to change nothing here", hint="set readonly to false for the plugin qemu")
        self._sample_first()
        with self._sampler.lock:
            known = self._sampler.by_id.get(guest.id)
            busy = known is not None and bool(known.failure)
        if busy:
            self._sampler.ask_again()
        with self._sampler.lock:
            known = self._sampler.by_id.get(guest.id)
            if known is None:
                raise GuestGone(f"{guest} is not there any more")
            description = known.description
            if description is None or known.failure:
                raise GuestBusy(f"{guest}: {known.failure or 'it has not been described yet'}")
            why = known.obstacle(while_paused=True)
            if why:
                raise GuestBusy(f"{guest}: {why}")
            return known, description

    def _sample_first(self) -> None:
        """A caller may ask for guests by what an earlier process knew of them."""
        if not self._sampled:
            self.guests()

    def close(self) -> None:
        """Nothing is left open between two rounds."""

    def longest_stay(self) -> float:
        """The longest that a monitor was kept from other clients since this was asked last, in seconds."""
        return self._sampler.longest_stay()


def cure(number: str) -> str:
    """The line that has pvestatd leave a guest's balloon alone."""
    return f"qm set {number} --shares 0"
