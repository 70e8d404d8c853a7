"""Guests of one libvirtd, read by bulk calls and from descriptions (domain XML)."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from xml.etree.ElementTree import Element

from mom_core import Entity, GuestBusy, GuestGone, HypervisorError, PermissionDenied, PluginContext, Value, printable
from mom_kvm import GuestDescription, GuestField, HostSide, PlatformProperties, Promises, SeenGuests, StatisticsRecord
from mom_plugins_libvirt.api import Domain, is_local
from mom_plugins_libvirt.connection import Connection
from mom_plugins_libvirt.domain_entry import CPU_CONTROLS, PAUSED, STATES, DomainEntry, job_name
from mom_plugins_libvirt.domain_xml import PLUG_LIMIT, DomainDescription, described
from mom_plugins_libvirt.events import GuestEvent
from mom_plugins_libvirt.open_connection import GuestRecord

T = TypeVar("T")

_DUE_SECONDS = 1.0
_DUE_PERIODS = 1.5
"""Statistics are late after this number of periods, plus `_DUE_SECONDS`."""

SIZES_SECONDS = 0.3
"""Time in a cycle for reading doubtful sizes from QEMU."""

_DESCRIBE_AGAIN_SECONDS = 150.0
"""mom reads a description again after one to two times this period."""

_RESIZABLE_AGAIN_SECONDS = 10.0
"""Like `_DESCRIBE_AGAIN_SECONDS`, for guests with virtio-mem and an inflated balloon."""

SILENT = "the guest has not answered libvirt's last call"


@dataclass(frozen=True, slots=True)
class SamplingSettings:
    """Settings for reading guests.

    :param find: returns the PID for a guest's name and UUID
    :param describe_seconds: time in a cycle for reading descriptions
    """

    find: Callable[[str, str], int | None] | None = None
    platforms: PlatformProperties | None = None
    describe_seconds: float = 0.5
    wall: Callable[[], float] = time.time
    counts_vcpus: bool = True


class Domains(SeenGuests[DomainEntry]):
    """Guests of one libvirtd. While a call for a guest is unanswered, mom makes no further call for this guest."""

    def __init__(self, connection: Connection, settings: SamplingSettings, context: PluginContext) -> None:
        self.uri = connection.settings.uri
        self.connection, self._settings, self._log = connection, settings, context.log
        self._local = is_local(self.uri)
        find = settings.find if self._local else None
        host_side = None if find is None else HostSide(find, context.root, context.monotonic)
        super().__init__(context.monotonic, host_side, context.root / "proc" if self._local else None)
        self.wake: Callable[[str], None] = lambda reason: None
        """Starts a cycle immediately. The argument is the reason."""
        self._opened = 0
        self._late: dict[str, Future[Any]] = {}
        """Last timed-out calls, keyed by guest ID."""
        self._changed: set[str] = set()
        """IDs of the guests that events have concerned since the last look."""
        connection.on_event = self._heard

    def _heard(self, event: GuestEvent) -> None:
        # libvirt's thread calls this.
        self._changed.add(event.uuid)
        if news := event.news:
            self.wake(news)

    def _look(self) -> None:
        module = self.connection.module
        end = self._monotonic() + self.connection.settings.call_timeout
        asks_nobody = module.VIR_DOMAIN_STATS_STATE
        asks_guests = module.VIR_DOMAIN_STATS_CPU_TOTAL | module.VIR_DOMAIN_STATS_BALLOON
        asks_guests |= module.VIR_DOMAIN_STATS_VCPU if self._settings.counts_vcpus else 0
        records = self.connection.statistics(asks_nobody | asks_guests, fallback=asks_nobody)
        self._take(records)
        with self._lock:
            due = [entry for entry in self._seen.values() if entry.describe]
        due.sort(key=lambda entry: entry.description is not None)
        self._describe(due, min(end, self._monotonic() + self._settings.describe_seconds))
        self._ask_sizes(min(end, self._monotonic() + SIZES_SECONDS))

    def unanswered(self) -> None:
        """Let the last statistics age, because a bulk call had no answer."""
        wall, monotonic = self._settings.wall(), self._monotonic()
        with self._lock:
            for entry in self._seen.values():
                entry.add_record({}, wall, monotonic)

    def _take(self, records: Sequence[GuestRecord]) -> None:
        wall, monotonic = self._settings.wall(), self._monotonic()
        with self._lock:
            missed_events = self._opened != self.connection.opened
            self._opened = self.connection.opened
            changed = {self._changed.pop() for _ in range(len(self._changed))}
            unasked = self._settings.platforms is not None and self._settings.platforms.have_changed()
            before, self._seen = self._seen, {}
            self._late = {uuid: call for uuid, call in self._late.items() if not call.done()}
            for uuid, name, number, record in records:
                entry = before.get(uuid)
                if entry is None or entry.start != number:
                    entry = DomainEntry(id=uuid, name=name, start=number, since=monotonic)
                entry.describe |= missed_events or unasked or uuid in changed or monotonic >= entry.describe_at
                self._update(entry, record, wall, monotonic)
                self._seen[uuid] = entry
            if self._host_side is not None:
                self._host_side.follow((entry.id, entry.name, entry.start) for entry in self._seen.values())

    def _ask_sizes(self, end: float) -> None:
        for entry in self.seen():
            if entry.is_doubtful:
                size = self._true_size(entry, end)
                with self._lock:
                    entry.see_size(size)

    def _true_size(self, entry: DomainEntry, end: float) -> int | None:
        if self._monotonic() < end and not self.has_open_call(entry.id):
            with suppress(HypervisorError):
                return self._size_by_qemu(entry)
        return None

    def _size_by_qemu(self, entry: DomainEntry) -> int | None:
        statistics = self.ask(entry, f"querying the balloon of {printable(entry.name)}", lambda domain: domain.memoryStats())
        size = whole(statistics.get("actual"))
        return None if size is None else size + entry.plugged_kib

    def _update(self, entry: DomainEntry, record: StatisticsRecord, wall: float, monotonic: float) -> None:
        status, before, size, fresh = entry.status, entry.reading, entry.size, entry.fresh
        entry.status, entry.reason = whole(record.get("state.state")) or 0, whole(record.get("state.reason")) or 0
        entry.state = STATES.get(entry.status, "unknown")
        if status == PAUSED != entry.status:
            entry.since = monotonic
        entry.add_record(record, wall, monotonic)
        entry.fit_sizes()
        if entry.doubted is None and (entry.may_come or entry.has_come):
            entry.doubted = True
        age = entry.reading.age(monotonic) if entry.reading else None
        prompt = age is not None and age <= _DUE_SECONDS + _DUE_PERIODS * (entry.period or 0)
        # Read the description again if statistics started, stopped or are late, or a job may have ended. Also read it again if the
        # maximum, or the size with virtio-mem, has changed.
        entry.describe |= (
            fresh != entry.fresh
            or (entry.prompt and not prompt)
            or (before is not None and entry.reading is not None and entry.reading.maximum != before.maximum)
            or bool(entry.job)
            or (entry.resizable and entry.size != size)
        )
        entry.prompt = prompt

    def _describe(self, due: Sequence[DomainEntry], end: float) -> None:
        for entry in due:
            if self._monotonic() >= end:
                return
            if self.has_open_call(entry.id):
                continue
            try:
                self.read_description(entry)
            except GuestGone:
                with self._lock:
                    self._seen.pop(entry.id, None)
            except HypervisorError as error:  # affects only this guest: the bulk call raises other errors
                self._log.debug("%s", error)

    def read_description(self, entry: DomainEntry) -> None:
        """Read the guest's description. Raise `HypervisorError` on failure."""

        def read(domain: Domain) -> str:
            entry.job = self._job(domain)
            return str(domain.XMLDesc(0))

        with self._lock:
            entry.describe = False  # reset first: an event during the reading must lead to another reading
        try:
            xml = self.ask(entry, f"reading the description of {printable(entry.name)}", read)
        except HypervisorError:
            with self._lock:
                entry.describe = True
            raise
        description = described(xml, self._of_platform)
        with self._lock:
            self._learn(entry, description)

    def _of_platform(self, domain: Element) -> Mapping[str, str]:
        return {} if self._settings.platforms is None else self._settings.platforms.of(GuestDescription(domain=domain))

    def _job(self, domain: Domain) -> str:
        try:
            return job_name(domain.jobStats())
        except self.connection.module.libvirtError:  # a driver without jobs; or the guest is gone, and the next call fails
            return ""

    def _learn(self, entry: DomainEntry, description: DomainDescription | None) -> None:
        had, entry.description = entry.period, description
        entry.garbled = "it is not a domain XML" if description is None else ""
        entry.period = None if description is None or not description.balloon else description.stats_period
        if entry.period and not had:
            entry.since = self._monotonic()
        entry.cpu_tune = entry.pins = None
        entry.note_plugging(0 if description is None else description.plugging_kib, self._monotonic())
        entry.fit_sizes()
        again = _RESIZABLE_AGAIN_SECONDS if entry.resizable and entry.is_smaller else _DESCRIBE_AGAIN_SECONDS
        entry.describe_at = self._monotonic() + again * (1 + zlib.crc32(entry.id.encode()) % 100 / 100)

    def _properties(self, seen: DomainEntry) -> Mapping[str, Value]:
        if seen.description is None:
            return {}
        pinned = {"pinned": seen.pinned} if seen.pinned else {}
        return {**Promises.NOTHING, **seen.description.properties, **pinned}

    def _fields_of(self, seen: DomainEntry, process: Mapping[str, Value]) -> dict[str, Value]:
        described, description = seen.balloon_fields(self._monotonic()), seen.description
        if description is not None:
            if description.balloon.startswith("virtio"):
                described[GuestField.REPORTING] = int(description.reports_free_pages)
                described[GuestField.AUTODEFLATE] = int(description.autodeflate)
            if not self._settings.counts_vcpus:
                described["vcpu_count"] = description.vcpus or None
            if description.plug_limit_kib:
                described[PLUG_LIMIT] = description.plug_limit_kib
        return {**process, **seen.fields, **described}  # libvirt has no `rss` of a guest that is arriving or has hung

    def _obstacle(self, seen: DomainEntry) -> str:
        if self.connection.why_no_changes:
            return self.connection.why_no_changes
        if self.has_open_call(seen.id):
            return SILENT
        why = seen.left_alone() or (f"the guest is {seen.job}" if seen.job else "")
        return why or ("none of the guest's CPUs is online" if seen.fields.get("vcpu_count") == 0 else "")

    def _blocked(self, seen: DomainEntry) -> dict[str, str]:
        return {**(dict.fromkeys(CPU_CONTROLS, seen.untunable) if seen.untunable else {}), **super()._blocked(seen)}

    # --- one call on one guest ---------------------------------------------------------------------------------------------------

    def described(self, guests: Sequence[Entity]) -> list[DomainEntry]:
        """Return the guests with known descriptions."""
        self._look_first()
        return [entry for entry in self.seen(guests) if entry.description is not None]

    def check_writable(self) -> None:
        """Raise `PermissionDenied` if neither mom nor its helper can change guests."""
        if self.connection.why_no_changes:
            raise PermissionDenied(self.connection.why_no_changes, hint=self.connection.cure_of_no_changes)

    def ready(self, guest: Entity) -> DomainEntry:
        """Return the guest if mom can change it.

        Raise `GuestGone` if it has stopped, `GuestBusy` if an earlier call for it is unanswered, `PermissionDenied` if mom lacks access.
        """
        self._look_first()
        self.check_writable()
        entry = self._seen_guest(guest)
        if self.has_open_call(entry.id):
            raise GuestBusy(f"{guest}: {SILENT}")
        return entry

    def ready_described(self, guest: Entity) -> DomainEntry:
        """Return the guest if mom can change it, and read a missing description. Raise the same errors as `ready`."""
        entry = self.ready(guest)
        if entry.description is None:
            self.read_description(entry)
        return entry

    def start_of(self, guest: Entity) -> Hashable:
        """Return libvirt's domain ID, which is new at each start. Raise `GuestGone` or `PermissionDenied`."""
        self._look_first()
        self.check_writable()
        return self._seen_guest(guest).start

    def ask(self, entry: DomainEntry, doing: str, function: Callable[[Domain], T], number: Hashable = None) -> T:
        """Make a call on the guest like `Connection.call`. Record the call if it times out."""
        return self.connection.call(doing, entry.id, function, partial(self.note_open_call, entry.id), number)

    def note_open_call(self, identity: str, call: Future[Any]) -> None:
        """Record a call that has timed out."""
        with self._lock:
            self._late[identity] = call

    def has_open_call(self, identity: str) -> bool:
        """Return whether a call on the guest is still unanswered."""
        call = self._late.get(identity)
        return call is not None and not call.done()

    def change(self, entry: DomainEntry, doing: str, function: Callable[[Domain, int], T]) -> T:
        """Change the guest by one call. Raise `GuestBusy` during a migration or another long job, and `GuestGone` after a restart.

        :param function: called with the guest's handle and VIR_DOMAIN_AFFECT_LIVE
        """

        def unless_busy(domain: Domain) -> T:
            entry.job = self._job(domain)
            if entry.job:
                raise GuestBusy(f"{doing}: the guest is {entry.job}")
            return function(domain, self.connection.module.VIR_DOMAIN_AFFECT_LIVE)

        return self.ask(entry, doing, unless_busy, entry.start)

    def change_described(self, entry: DomainEntry, doing: str, function: Callable[[Domain, int], T]) -> None:
        """Change a setting that the guest's description contains. Then read the description again."""
        entry.describe = True
        self.change(entry, doing, function)
        with suppress(HypervisorError):  # the change succeeded; the next cycle reads it
            self.read_description(entry)


def whole(value: object) -> int | None:
    """Return `value` if it is an integer, otherwise None."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None
