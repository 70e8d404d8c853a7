"""The hypervisor that QEMU's monitors give: guests with their statistics from one round of visits, balloons, and the statistics period."""

from __future__ import annotations

import logging
import threading
import time
import uuid as uuids
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from mom_core import DiskTune, Entity, Guest, GuestBusy, GuestGone, HypervisorError, NotSupported, PermissionDenied, Value, printable
from mom_guests import (
    PERIOD,
    HostSide,
    Reading,
    Record,
    Resizes,
    Subscribers,
    convert,
    distrusted,
    times_of,
    wanted_limits,
    why_silent,
)
from mom_plugins_qemu.command_line import Identity, identity_of
from mom_plugins_qemu.description import (
    DESCRIBING,
    POLLING_INTERVAL,
    Description,
    VirtioMem,
    described,
    looked,
    size_record,
    virtio_mem_of,
)
from mom_plugins_qemu.disks import ThrottledDisk, disks_of, throttling
from mom_plugins_qemu.fields import PLUGGED, PLUGGED_MAXIMUM, PLUGGED_REQUESTED, SIZED_BY, VIRTIO_MEM
from mom_plugins_qemu.guest_files import Defined, GuestFiles
from mom_plugins_qemu.monitors import listener_of, monitors, trusted_users
from mom_plugins_qemu.proxmox import Definitions, GuestDefinition
from mom_plugins_qemu.states import state_name, why_left_alone
from mom_plugins_qemu.visits import Failure, Visit, prepared, visit_all
from mom_plugins_qemu.way import ByVirtioMem, by_virtio_mem
from mom_plugins_qemu.wire import Answer, Question, Refusal, WireError
from mom_toolkit import GuestState, boot_id, stale_seconds

BALLOON: Final = "balloon_target"

_DESCRIBE_AGAIN_SECONDS: Final = 150.0
"""A guest is described again after this to twice this, spread over the guests: devices may be plugged in and taken out."""

_FIRST_RETRY_SECONDS: Final = 0.5
_LAST_RETRY_SECONDS: Final = 10.0
"""How long a monitor that did not answer is left in peace: doubled from the first to the last. A backup holds one for minutes."""

_ASKED_AGAIN: Final = 3
"""Rounds of visits in one cycle: what a guest is, how it is, and once more where another client was just there."""


@dataclass(frozen=True, slots=True)
class QemuHypervisorSettings:
    """Where monitors are, as patterns below `root`; `stale_after` in seconds (None: by each guest's own period)."""

    root: Path = Path("/")
    sockets: Sequence[str] = ()
    stale_after: float | None = None
    readonly: bool = False
    users: Set[int] = field(default_factory=lambda: trusted_users(()))
    """The ids of the users whose monitors are believed."""
    definitions: Path | None = None
    """Proxmox VE's folder with the definitions of this node's guests."""
    guest_files: Path | None = None
    """A folder with a file for each guest that the operator defines."""
    observing: Callable[[], bool] = lambda: False
    """Whether mom only observes now: then what another daemon resizes is no reason not to say what mom would do."""


@dataclass(slots=True)
class KnownGuest:
    """What is known of the guest behind one monitor since its QEMU was started. Belongs to the hypervisor's lock."""

    path: str
    process: int
    started: int
    identity: Identity
    since: float
    """Monotonic seconds since when statistics could have come."""
    id: str = ""
    name: str = ""
    description: Description | None = None
    describe_at: float = 0.0
    looking: tuple[bytes, int] = (b"", 0)
    status: str = ""
    migration: str = ""
    period: int | None = None
    virtio_mem: tuple[VirtioMem, ...] = ()
    switches: Mapping[str, Value] | None = None
    """The fields of what its balloon device does by itself; None: not asked yet."""
    reading: Reading | None = None
    fresh: bool = False
    fields: dict[str, Value] = field(default_factory=dict)
    number: str = ""
    """Its VMID, where it is Proxmox VE's."""
    definition: GuestDefinition | None = None
    defined: Defined | None = None
    """What the operator has defined."""
    failure: str = ""
    """Why its monitor gave no answer to the last visit; empty where it did."""
    retry_at: float = 0.0
    retry_after: float = _FIRST_RETRY_SECONDS

    @property
    def way(self) -> ByVirtioMem | None:
        """How virtio-mem sizes it; None: it does not."""
        return by_virtio_mem(self.description, self.virtio_mem, None if self.defined is None else self.defined.guest)


class QemuHypervisor:
    """The guests of QEMU processes whose monitors are found by patterns: implements `Hypervisor`, `BalloonControl`, `IoTuneControl`,
    `LifecycleControl` (of guests that run), `AgentAccess` (sockets) and `GuestEvents`, and is the watch's `BalloonStatistics`.

    Safe to be used from several threads; one of them at a time visits monitors. A cycle's visits take a second at most, whatever hangs.
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
        self._wall = wall
        self._monotonic = monotonic
        self._sampling = threading.Lock()
        self._visiting = threading.Lock()
        self._lock = threading.Lock()
        self._known: dict[str, KnownGuest] = {}
        self._by_id: dict[str, KnownGuest] = {}
        self._twice: dict[str, str] = {}
        self._subscribers = Subscribers()
        self._resizes = Resizes(monotonic)
        self._sampled = False
        self._ask_again_at = 0.0
        self._longest_stay = 0.0
        self._looked_at: dict[str, float] = {}
        """Until when, in monotonic seconds, it is not looked again for what listens at a monitor that takes no connection."""
        self._denied = ""
        """A monitor that this user may not visit, in the sample that is being taken."""
        self._foreign: dict[str, str] = {}
        """Monitors at which another user's process listens, in the last sample: whose."""
        self._proc = settings.root / "proc"
        self._host_side = HostSide(self._process_of, self._proc, settings.root / "sys/fs/cgroup", monotonic)
        self._definitions = None if settings.definitions is None else Definitions(settings.root, settings.definitions)
        self._defined: Mapping[str, Defined] = {}
        """What the operator has defined, by the monitors' paths."""
        self._files = None if settings.guest_files is None else GuestFiles(settings.root, settings.guest_files)
        self._resizing = False
        """Whether Proxmox VE's own daemon runs."""
        boot = boot_id(self._proc)
        self._boot = f"@{boot}" if boot else ""

    @property
    def uri(self) -> str:
        """The patterns by which monitors are found."""
        return "qmp:" + ",".join(self._settings.sockets)

    # --- what there is -----------------------------------------------------------------------------------------------------------

    def guests(self) -> Sequence[Guest]:
        """The guests whose monitors are there now, with what `fields` hands out, by one round of visits to all of them at once."""
        with self._sampling:
            now = self._monotonic()
            self._denied = ""
            self._foreign = {}
            defined = {} if self._files is None else self._files.read()
            paths = monitors(self._settings.root, self._settings.sockets, self._settings.users, defined)
            with self._lock:
                self._defined = defined
                due = self._begin(paths, now)
            self._rounds(due, 0)
            if self._denied:  # the guest behind it is not known: it is not to be taken for one that has ended
                raise PermissionDenied(f"{self._denied}: {Failure.DENIED}", hint="run mom as root, or as QEMU's own user")
            with self._lock:
                self._define()
                self._index()
                self._sampled = True
                return tuple(self._listed(known) for known in self._by_id.values())

    def _rounds(self, due: list[tuple[Visit, KnownGuest | None]], first: int) -> None:
        """Make these visits, and those that follow from them. Sampling is locked."""
        for attempt in range(first, _ASKED_AGAIN):
            if due:
                self._visit([visit for visit, _ in due])
                with self._lock:
                    due = self._take(due, attempt)

    def _ask_again(self) -> None:
        """Visit the monitors that did not answer once more, all at once, before their time: what was held by another client may be free
        now, and what is to be put back at the end has no next cycle to wait for."""
        with self._sampling:
            now = self._monotonic()
            if now < self._ask_again_at:
                return
            with self._lock:
                due: list[tuple[Visit, KnownGuest | None]] = [
                    (self._due(known, now), known) for known in self._known.values() if known.failure
                ]
            self._rounds(due, 1)
            with self._lock:
                self._index()
            self._ask_again_at = self._monotonic() + _FIRST_RETRY_SECONDS

    def _begin(self, paths: Sequence[str], now: float) -> list[tuple[Visit, KnownGuest | None]]:
        """The visits of this cycle, those that are likely to be answered first. The lock is held."""
        there = set(paths)
        for one in self._known.values():
            one.defined = self._defined.get(one.path)
        for gone in [known for path, known in self._known.items() if path not in there]:
            self._lost(gone, Failure.ABSENT)
        prompt: list[tuple[Visit, KnownGuest | None]] = []
        others: list[tuple[Visit, KnownGuest | None]] = []
        for path in paths:
            known = self._known.get(path)
            if known is None:
                others.append((Visit(path, _DESCRIBING), None))
            elif not known.failure:
                prompt.append((self._due(known, now), known))
            elif now >= known.retry_at:
                others.append((self._due(known, now), known))
            else:
                self._stale(known)
        return [*prompt, *others]

    def _due(self, known: KnownGuest, now: float) -> Visit:
        if known.description is None or now >= known.describe_at:
            return Visit(known.path, _DESCRIBING, known.process)
        return Visit(known.path, known.looking, known.process)

    def _take(self, visits: Iterable[tuple[Visit, KnownGuest | None]], attempt: int) -> list[tuple[Visit, KnownGuest | None]]:
        """Take note of what came of visits; those that have to follow. The lock is held."""
        following: list[tuple[Visit, KnownGuest | None]] = []
        last = attempt == _ASKED_AGAIN - 1
        for visit, before in visits:
            known = self._recognized(visit, before)
            if known is None:
                continue
            try:
                if visit.answers is None:
                    again = not last and self._worth_another_attempt(known, visit, attempt)
                    if not again:
                        self._failed(known, visit)
                elif visit.bytes is _DESCRIBING[0]:
                    self._learn(known, described(visit.answers))
                    again = True
                else:
                    self._look(known, visit.answers)
                    again = known.description is None
            except WireError as error:
                visit.fail(Failure.GARBLED, str(error))
                self._failed(known, visit)
                again = False
            if again and not last:
                following.append((self._due(known, self._monotonic()), known))
        return following

    def _recognized(self, visit: Visit, before: KnownGuest | None) -> KnownGuest | None:
        """Whose monitor was visited: the guest that is known there, or another one that was started since; None: nothing is there."""
        process = visit.process
        if before is not None and process in {0, before.process} and (visit.answers is not None or not process or self._is_alive(before)):
            return before
        if not process:
            if visit.failure is Failure.DENIED:
                self._denied = visit.path
            if visit.failure is Failure.FOREIGN:
                self._foreign[visit.path] = visit.why
            if visit.failure is Failure.OCCUPIED:
                process = self._listener(visit.path)
            elif visit.failure is not Failure.ABSENT:
                self._log.debug("%s: %s: %s", visit.path, visit.failure, visit.why)
        if not process:
            return None
        known = KnownGuest(
            visit.path, process, self._started(process), identity_of(self._proc, process), self._monotonic(), failure=Failure.LEFT
        )
        known.id = known.identity.uuid
        known.name = known.identity.name
        known.defined = self._defined.get(visit.path)
        self._known[visit.path] = known
        return known

    def _listener(self, path: str) -> int:
        """The process behind a monitor at which as many clients stand in line as may: whose guest it is must be known, so that it is not
        taken for one that has ended."""
        now = self._monotonic()
        if now < self._looked_at.get(path, 0.0):
            return 0
        self._looked_at = {one: until for one, until in self._looked_at.items() if now < until}
        self._looked_at[path] = now + _LAST_RETRY_SECONDS
        return listener_of(self._proc, path)

    def _worth_another_attempt(self, known: KnownGuest, visit: Visit, attempt: int) -> bool:
        """Whether a visit that brought nothing is made again at once: another process listens now, or another client was just there."""
        return visit.failure is Failure.STRANGER or (
            visit.failure is Failure.OCCUPIED and attempt == 0 and not known.failure and known.description is not None
        )

    def _failed(self, known: KnownGuest, visit: Visit) -> None:
        """The lock is held."""
        failure = visit.failure or Failure.GARBLED
        self._log.debug("%s: %s: %s", visit.path, failure, visit.why)
        if failure is Failure.ABSENT:
            self._lost(known, failure)
            return
        known.failure = failure
        if failure is not Failure.LEFT:
            known.retry_at = self._monotonic() + known.retry_after
            known.retry_after = min(2 * known.retry_after, _LAST_RETRY_SECONDS)
        self._stale(known)

    def _lost(self, known: KnownGuest, failure: Failure) -> None:
        """Its socket is not there any more: it has ended, unless its process lives on without. The lock is held."""
        if known.started and self._is_alive(known):
            known.failure = failure
            known.retry_at = 0.0
            self._stale(known)
        else:
            self._known.pop(known.path, None)

    def _learn(self, known: KnownGuest, description: Description) -> None:
        """The lock is held."""
        if known.identity.uuid and description.uuid != known.identity.uuid:
            raise WireError(f"it says that it is {printable(description.uuid) or 'without a UUID'}, and was started otherwise")
        known.id = description.uuid or str(uuids.uuid5(uuids.NAMESPACE_URL, f"qmp:{known.path}"))
        known.name = description.name or known.identity.name or Path(known.path).stem
        before, known.description = known.description, description
        known.virtio_mem = description.virtio_mem
        if before is None or before.balloon != description.balloon:
            known.switches = None
        known.looking = prepared(description.looking(switches=known.switches is None))
        spread = 1 + zlib.crc32(known.path.encode(errors="replace")) % 100 / 100
        known.describe_at = self._monotonic() + _DESCRIBE_AGAIN_SECONDS * spread

    def _look(self, known: KnownGuest, answers: Sequence[Answer]) -> None:
        """The lock is held."""
        description = known.description
        if description is None:
            return
        look = looked(description, answers)
        monotonic = self._monotonic()
        if known.status not in {"", look.status} or not known.period:
            known.since = monotonic
        known.status, known.migration, known.period, known.virtio_mem = look.status, look.migration, look.period, look.virtio_mem
        known.failure, known.retry_after = "", _FIRST_RETRY_SECONDS
        self._convert(known, _with_what_was_sold(known, look.record))
        if look.switches is not None:
            known.switches, known.looking = look.switches, prepared(description.looking())
        if look.again:
            known.description = None

    def _stale(self, known: KnownGuest) -> None:
        """Nothing new is known of it: what it said last grows older. The lock is held."""
        if known.reading is not None:
            self._convert(known, {})

    def _convert(self, known: KnownGuest, record: Record) -> None:
        monotonic = self._monotonic()
        stale_after = stale_seconds(known.period or 0, self._settings.stale_after)
        known.fields, known.reading = convert(record, known.reading, wall=self._wall(), monotonic=monotonic, stale_after=stale_after)
        age = known.reading.age(monotonic)
        known.fresh = age is not None and age <= stale_after

    def _index(self) -> None:
        """Guests by their ids; of two monitors that say they are of one guest, the one known first stays."""
        found: dict[str, KnownGuest] = {}
        self._twice = {}
        for known in self._known.values():
            if not known.id:
                continue
            first = found.setdefault(known.id, known)
            if first is not known and first.process != known.process:
                self._twice[known.path] = f"it says that it is guest {printable(first.name)}, which {first.path} is"
        self._by_id = found
        self._resizes.keep(found)
        self._host_side.follow((known.id, known.name, (known.process, known.started)) for known in found.values())

    def _define(self) -> None:
        """Read what Proxmox VE says of its guests. The lock is held."""
        definitions = self._definitions
        if definitions is None:
            return
        for known in self._known.values():
            known.number = definitions.number(known.path)
            known.definition = definitions.of(known.number) if known.number else None
        definitions.forget_others({known.number for known in self._known.values()})
        self._resizing = definitions.daemon_runs()

    def _listed(self, known: KnownGuest) -> Guest:
        name = (known.defined.guest.name if known.defined is not None else "") or known.name or known.id
        properties: dict[str, Value] = {"name": name, "uuid": known.id, "state": state_name(known.status)}
        properties |= self._host_side.properties(known.id)
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

    def _blocked(self, known: KnownGuest) -> dict[str, str]:
        why = self._nothing_can_be_done(known)
        if why:
            return {"*": why}
        if known.description is None:
            return dict.fromkeys((BALLOON, PERIOD), "the guest has not been described yet")
        if not known.description.balloon:
            return dict.fromkeys((PERIOD,) if known.way is not None else (BALLOON, PERIOD), "the guest has no balloon device")
        if self.is_resized_by_proxmox(known) and not self._settings.observing():
            return {BALLOON: f"pvestatd of Proxmox VE resizes the guest; to end that: {cure(known.number)}"}
        if known.description.pinned and known.way is None and not _is_smaller(known):
            return {BALLOON: known.description.pinned}
        silence = self._silence(known)
        return {BALLOON: silence} if silence else {}

    def _nothing_can_be_done(self, known: KnownGuest) -> str:
        if self._settings.readonly:
            return "mom was told to change nothing here (readonly)"
        if known.defined is not None and known.defined.wrong:
            return f"the guest's definition is wrong, so what it is promised is not known: {known.defined.wrong}"
        if known.definition is not None and known.definition.lock:
            return f"Proxmox VE has locked the guest: {printable(known.definition.lock)[:40]}"
        if known.number and known.definition is None:
            return "the guest's definition cannot be read, so what it is promised is not known"
        return known.failure or why_left_alone(known.status, known.migration)

    def is_resized_by_proxmox(self, known: KnownGuest) -> bool:
        """Whether another daemon moves this guest's balloon."""
        return self._resizing and known.definition is not None and known.definition.is_resized_by_proxmox

    def resized_by_proxmox(self) -> Mapping[str, str]:
        """The names of the guests that Proxmox VE's own daemon resizes, by VMID; as of the last call of `guests`."""
        with self._lock:
            return {known.number: known.name for known in self._by_id.values() if self.is_resized_by_proxmox(known)}

    def wrongly_defined(self) -> Mapping[str, str]:
        """The names of the guests whose files say what cannot be, and what that is; as of the last call of `guests`."""
        with self._lock:
            defined = ((known.name, known.defined) for known in self._by_id.values())
            return {name: one.wrong for name, one in defined if one is not None and one.wrong}

    def _silence(self, known: KnownGuest) -> str:
        if known.reading is None or known.fresh or not known.period or known.failure or why_left_alone(known.status, known.migration):
            return ""
        return why_silent(known.reading, known.since, self._monotonic(), stale_seconds(known.period, self._settings.stale_after))

    def fields(self, guests: Sequence[Guest]) -> dict[str, dict[str, Value]]:
        """The fields of these guests as of the last call of `guests`, by guest id. A guest that is not known is absent."""
        with self._lock:
            found = {guest.id: known for guest in guests if (known := self._by_id.get(guest.id)) is not None}
            seen = self._host_side.fields(found)
            return {identity: self._fields(known, seen.get(identity, {})) for identity, known in found.items()}

    def _fields(self, known: KnownGuest, seen: Mapping[str, Value]) -> dict[str, Value]:
        fields = {**known.fields, **(known.switches or {}), **seen}
        if known.period is not None and not known.failure:
            fields[PERIOD] = known.period
        if len(known.virtio_mem) == 1 and not known.failure:
            (device,) = known.virtio_mem
            fields |= {PLUGGED: device.size_kib, PLUGGED_REQUESTED: device.requested_kib, PLUGGED_MAXIMUM: device.maximum_kib}
            works = known.description is not None and known.description.balloon_works
            if known.way is not None or works:
                fields[SIZED_BY] = VIRTIO_MEM if known.way is not None else "balloon"
        if known.definition is not None and known.definition.reclaim_cost is not None:
            fields["reclaim_cost"] = known.definition.reclaim_cost
        if "host_cpu_usage" in seen:
            fields["cpu_usage"] = seen["host_cpu_usage"]
        process = self._host_side.process(known.id) if seen else None
        if process is not None and process.resident_kib is not None:
            fields["rss"] = process.resident_kib
        return fields

    def silent(self) -> Mapping[str, str]:
        """The guests whose statistics ought to come, and have not for long, by id: in what way."""
        with self._lock:
            return {identity: why for identity, known in self._by_id.items() if (why := self._silence(known))}

    def impossible(self) -> Mapping[str, Sequence[str]]:
        """The guests whose last statistics cannot be true, by id: the names of the fields."""
        with self._lock:
            return distrusted(self._by_id)

    def doubles(self) -> Mapping[str, str]:
        """Monitors whose guest says that it is another one that is known already, by path: which."""
        with self._lock:
            return dict(self._twice)

    def foreign(self) -> Mapping[str, str]:
        """Monitors at which a process listens that is another user's, by path: whose; by the last call of `guests`."""
        with self._lock:
            return dict(self._foreign)

    def known(self) -> Mapping[str, tuple[str, Description | None, str, int | None]]:
        """By guest id: its name, what it is, why its monitor does not answer, its statistics period; by the last call of `guests`."""
        with self._lock:
            return {identity: (known.name, known.description, known.failure, known.period) for identity, known in self._by_id.items()}

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
            self._resizes.resizing(known.id, size if isinstance(size, int) else None, target_kib)
            self.set_plugged(guest, plugged)
            return
        plugged = sum(device.size_kib for device in known.virtio_mem)
        maximum = description.fixed_kib + plugged
        if target_kib > maximum:
            raise NotSupported(f"{target_kib} KiB is more than the {maximum} KiB that {guest} can have")
        # What virtio-mem has plugged in is part of the guest's size, and out of the balloon's reach: QEMU leaves it out here.
        if target_kib <= plugged:
            raise NotSupported(f"{target_kib} KiB is not more than the {plugged} KiB of {guest} that its balloon cannot take")
        self._resizes.resizing(known.id, size if isinstance(size, int) else None, target_kib)
        self._command(known, f"setting the balloon of {guest}", Question("balloon", {"value": (target_kib - plugged) << 10}))

    def balloon_sizes(self, guests: Sequence[Entity]) -> Mapping[str, int]:
        """What these guests have now in KiB, by guest id, in one round. A guest that is gone, unknown or silent is absent."""
        self._sample_first()
        wanted = {guest.id for guest in guests}
        sizes = self._sizes(wanted)
        with self._lock:
            busy = {identity for identity in wanted - sizes.keys() if identity in self._by_id}
        if busy:  # another client was just there, and what is to be put back at the end has no next cycle to wait for
            self._ask_again()
            sizes |= self._sizes(busy)
        return sizes

    def _sizes(self, guests: Set[str]) -> dict[str, int]:
        found = self.of(guests).items()
        return {identity: size for identity, record in found if isinstance(size := record.get("balloon.current"), int)}

    def of(self, guests: Set[str]) -> Mapping[str, Record]:
        """The balloon part of these guests' records, by guest id, in one round; without those that do not answer."""
        with self._lock:
            asked = []
            for identity in guests:
                known = self._by_id.get(identity)
                if known is None or known.description is None or known.failure:
                    continue
                if known.description.balloon or known.way is not None:
                    asked.append((identity, known, known.description))
        visits = [Visit(known.path, prepared(description.size_questions()), known.process) for _, known, description in asked]
        self._visit(visits)
        found = {}
        for visit, (identity, known, description) in zip(visits, asked, strict=True):
            if visit.answers is not None:
                try:
                    found[identity] = _with_what_was_sold(known, size_record(description, visit.answers))
                except WireError as error:
                    self._log.debug("%s: %s", visit.path, error)
        return found

    def stats_period(self, guest: Entity) -> int:
        """What QEMU says now: every how many seconds it asks the guest, or 0. Raises as `set_balloon` does."""
        known, description = self._ready(guest)
        where = {"path": self._balloon_of(guest, description), "property": POLLING_INTERVAL}
        period = self._command(known, f"reading the statistics period of {guest}", Question("qom-get", where))
        if type(period) is not int or period < 0:
            raise HypervisorError(f"QEMU says that the statistics period of {guest} is {printable(str(period))[:40]}")
        return period

    def set_stats_period(self, guest: Entity, seconds: int) -> None:
        """Have the guest asked every `seconds` from now on, 0 for no longer. Raises as `set_balloon` does."""
        known, description = self._ready(guest)
        where = {"path": self._balloon_of(guest, description), "property": POLLING_INTERVAL, "value": seconds}
        self._command(known, f"setting the statistics period of {guest}", Question("qom-set", where))

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
        self._command(known, f"setting the virtio-mem size of {guest}", Question("qom-set", where))

    def _device(self, known: KnownGuest, guest: Entity) -> VirtioMem:
        try:
            answer = self._command(known, f"reading the memory devices of {guest}", Question("query-memory-devices"))
            devices = virtio_mem_of(answer)
        except WireError as error:
            raise HypervisorError(f"{guest}: {error}") from error
        if len(devices) != 1:
            raise NotSupported(f"{guest} has {len(devices) or 'no'} virtio-mem devices; one can be resized")
        return devices[0]

    def io_tunes(self, guests: Sequence[Entity]) -> Mapping[str, Sequence[DiskTune]]:
        """The limits of these guests' disks, by guest id, in one round. A guest that is gone, unknown or silent is absent."""
        self._sample_first()
        with self._lock:
            there = [known for guest in guests if (known := self._by_id.get(guest.id)) is not None and not known.failure]
        visits = [Visit(known.path, _BLOCK, known.process) for known in there]
        self._visit(visits)
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
        self._command(known, f"setting the limits of disk {printable(disk)} of {guest}", throttling(disks[disk], wanted))

    def _disks(self, known: KnownGuest, guest: Entity) -> Mapping[str, ThrottledDisk]:
        try:
            return disks_of(self._command(known, f"reading the limits of the disks of {guest}", Question("query-block")))
        except WireError as error:
            raise HypervisorError(f"{guest}: {error}") from error

    # --- agents ------------------------------------------------------------------------------------------------------------------

    def agent_channels(self, guests: Sequence[Entity]) -> Mapping[str, Mapping[str, str]]:
        """The sockets of these guests' channels by their names, by guest id, from QEMU's command line.

        Without the one on which management systems talk to qemu-guest-agent: it serves one client at a time, and is theirs.
        """
        self._sample_first()
        found = {}
        with self._lock:
            for guest in guests:
                known = self._by_id.get(guest.id)
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
        with self._lock:
            there = [known for guest in guests if (known := self._by_id.get(guest.id)) is not None]
            return {known.id: GuestState.PAUSED if known.status == _PAUSED else GuestState.RUNNING for known in there}

    def pause(self, guest: Entity) -> None:
        """Let its CPUs stand still. Raises as `set_balloon` does."""
        self._stand(guest, f"pausing {guest}", "stop", _PAUSED)

    def resume(self, guest: Entity) -> None:
        """Let its CPUs go on. Raises as `set_balloon` does."""
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
        """Press its power button. Raises as `set_balloon` does."""
        known, _ = self._ready(guest)
        self._command(known, f"shutting down {guest}", Question("system_powerdown"))

    def start(self, guest: Entity, timeout_seconds: float) -> None:
        """Raises `NotSupported`: who starts QEMU here is not known."""
        raise NotSupported(f"starting {guest}: mom knows no command for that without libvirt")

    # --- what happens ------------------------------------------------------------------------------------------------------------

    def subscribe(self, callback: Callable[[str], None]) -> Callable[[], None]:
        """Call `callback(what happened)` from the thread that listens at mom's own monitors; the result ends that."""
        return self._subscribers.subscribe(callback)

    def heard(self, process: int, what: str) -> None:
        """An event of the guest that this process runs, which is worth a cycle."""
        with self._lock:
            name = next((known.name for known in self._by_id.values() if known.process == process), "")
        self._subscribers.tell(f"guest {printable(name) or f'of process {process}'} {what}")

    def resized(self, process: int, actual: int) -> None:
        """The balloon of the guest that this process runs has another size, in bytes: worth a cycle if that was not mom."""
        with self._lock:
            known = next((known for known in self._by_id.values() if known.process == process), None)
        if known is not None:
            size = (actual >> 10) + sum(device.size_kib for device in known.virtio_mem)
            if not self._resizes.is_own(known.id, size) and self._resizes.may_tell():
                self.heard(process, "was resized by another process")

    def _ready(self, guest: Entity) -> tuple[KnownGuest, Description]:
        if self._settings.readonly:
            raise PermissionDenied("mom was told to change nothing here", hint="set readonly to false for the plugin qemu")
        self._sample_first()
        with self._lock:
            known = self._by_id.get(guest.id)
            busy = known is not None and bool(known.failure)
        if busy:
            self._ask_again()
        with self._lock:
            known = self._by_id.get(guest.id)
            if known is None:
                raise GuestGone(f"{guest} is not there any more")
            description = known.description
            if description is None or known.failure:
                raise GuestBusy(f"{guest}: {known.failure or 'it has not been described yet'}")
            locked = known.definition.lock if known.definition is not None else ""
            unknown = (known.number and known.definition is None) or (known.defined is not None and known.defined.wrong)
            if locked or unknown:
                raise GuestBusy(f"{guest}: {self._nothing_can_be_done(known)}")
            why = why_left_alone("running" if known.status == "paused" else known.status, known.migration)
            if why:
                raise GuestBusy(f"{guest}: {why}")
            return known, description

    def _sample_first(self) -> None:
        """A caller may ask for guests by what an earlier process knew of them."""
        if not self._sampled:
            self.guests()

    def _command(self, known: KnownGuest, doing: str, question: Question) -> Answer:
        visit = Visit(known.path, prepared([question]), known.process)
        self._visit([visit])
        if visit.answers is None:
            if visit.failure in {Failure.ABSENT, Failure.STRANGER} and not self._is_alive(known):
                raise GuestGone(f"{doing}: the guest is not there any more")
            if visit.failure is Failure.DENIED:
                raise PermissionDenied(f"{doing}: {visit.failure}", hint="run mom as root, or as QEMU's own user")
            raise GuestBusy(f"{doing}: {visit.failure}")
        (answer,) = visit.answers
        if isinstance(answer, Refusal):
            text = f"{doing}: QEMU says: {printable(answer.text)}"
            raise NotSupported(text) if answer.kind in {"DeviceNotActive", "KVMMissingCap", "CommandNotFound"} else HypervisorError(text)
        return answer

    def _visit(self, visits: Sequence[Visit]) -> None:
        """One thread at a time: two connections of mom's would only stand in each other's way."""
        if visits:
            with self._visiting:
                visit_all(visits, self._monotonic, self._settings.users)
                longest = max((left - came for visit in visits for came, left in visit.stays), default=0.0)
                self._longest_stay = max(self._longest_stay, longest)

    def longest_stay(self) -> float:
        """The longest that a monitor was kept from other clients since this was asked last, in seconds."""
        with self._visiting:
            longest, self._longest_stay = self._longest_stay, 0.0
        return longest

    def close(self) -> None:
        """Nothing is left open between two rounds."""

    # --- processes ---------------------------------------------------------------------------------------------------------------

    def _process_of(self, name: str, uuid: str) -> int | None:
        known = self._by_id.get(uuid)
        return known.process or None if known is not None else None

    def _started(self, process: int) -> int:
        times = times_of(f"{self._proc}/{process}")
        return times.started if times is not None else 0

    def _is_alive(self, known: KnownGuest) -> bool:
        """Whether the process is the one that it was; where that cannot be read, by its number alone."""
        return not known.started or self._started(known.process) == known.started


_PAUSED: Final = "paused"

_OF_OTHERS: Final = "org.qemu.guest_agent.0"

_DESCRIBING: Final = prepared(DESCRIBING)
_BLOCK: Final = prepared((Question("query-block"),))


def _with_what_was_sold(known: KnownGuest, record: Record) -> Record:
    """The same, with the size that virtio-mem may bring the guest to as its maximum."""
    way, size = known.way, record.get("balloon.current")
    if way is None or not isinstance(size, int):
        return record
    return {**record, "balloon.maximum": max(way.sold_kib, size)}


def cure(number: str) -> str:
    """The line that has pvestatd leave a guest's balloon alone."""
    return f"qm set {number} --shares 0"


def _is_smaller(known: KnownGuest) -> bool:
    """Whether there is something to be given back to the guest."""
    size, maximum = known.fields.get("balloon_cur"), known.fields.get("balloon_max")
    return isinstance(size, int) and isinstance(maximum, int) and size < maximum
