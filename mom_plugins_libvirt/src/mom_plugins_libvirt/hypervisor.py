"""The hypervisor that libvirt gives: guests with their statistics from one bulk call, balloons, and the statistics period."""

from __future__ import annotations

import logging
import threading
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from mom_core import Entity, Guest, GuestBusy, GuestGone, HypervisorError, NotSupported, PermissionDenied, Value, printable
from mom_guests import AUTODEFLATE, REPORTING, HostSide, convert, distrusted, possible_maximum, why_silent
from mom_plugins_libvirt.agents import AgentCommands
from mom_plugins_libvirt.api import Domain, Record
from mom_plugins_libvirt.connection import Connection, GuestRecord
from mom_plugins_libvirt.domain_xml import DomainDescription, described
from mom_plugins_libvirt.events import EventBook
from mom_plugins_libvirt.known_guest import KnownDomain
from mom_plugins_libvirt.lifecycle import Lifecycle
from mom_plugins_libvirt.qemu_process import pid_of
from mom_plugins_libvirt.states import PAUSED, job_name, state_name, why_left_alone
from mom_plugins_libvirt.tunes import TunableGuests
from mom_plugins_libvirt.uri import is_local
from mom_toolkit import Destination, GuestState, boot_id, stale_seconds

T = TypeVar("T")

_DUE_SECONDS = 1.0
_DUE_PERIODS = 1.5
"""Statistics are late after so many of the guest's periods, and a second, as their time is known in whole seconds: then it is looked
whether the operator has switched them off, long before they are stale."""

_DESCRIBE_SECONDS = 0.5
"""How much of a cycle reading guests' descriptions may take; the rest is read in the next ones. One takes about a millisecond."""

_DESCRIBE_AGAIN_SECONDS = 150.0
"""A description is read again after this to twice this, spread over the guests: an event may be lost, and some changes have none."""


_SILENT = "the guest has not answered libvirt's last call"

ALL_CONTROLS = "*"
BALLOON_CONTROL = "balloon_target"
PERIOD_CONTROL = "balloon_stats_period"


@dataclass(frozen=True, slots=True)
class SamplingSettings:
    """`stale_after` in seconds (None: by each guest's own period); the folders of libvirt's pid files, of /proc and of the cgroups."""

    stale_after: float | None = None
    pid_folder: Path = Path("/run/libvirt/qemu")
    proc: Path = Path("/proc")
    cgroups: Path = Path("/sys/fs/cgroup")


class LibvirtHypervisor(TunableGuests):
    """The guests of one libvirtd: implements `Hypervisor`, `BalloonControl`, `AgentAccess`, `LifecycleControl`,
    `MigrationControl`, `GuestEvents`, and what `TunableGuests` does.

    Safe to be used from several threads. A call takes at most two of the connection's call timeouts, and however many guests hang, all
    calls of a cycle together not much more. A guest that does not answer is not asked again while the question to it is still open.
    """

    def __init__(
        self,
        connection: Connection,
        settings: SamplingSettings,
        log: logging.Logger,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._log = log
        self._wall = wall
        self._monotonic = monotonic
        self._sampling = threading.Lock()
        self._lock = threading.Lock()
        self._known: dict[str, KnownDomain] = {}
        self._opened = 0
        self._agents = AgentCommands(connection, log)
        self._lifecycle = Lifecycle(connection, log)
        self._events = EventBook(monotonic)
        connection.on_event = self._events.heard
        connection.on_return = partial(self._events.returned, self.uri)
        local = is_local(self.uri)
        pid = partial(pid_of, settings.pid_folder, settings.proc)
        self._host_side = HostSide(pid, settings.proc, settings.cgroups, monotonic) if local else None
        self._boot = ""
        """Part of the guests' incarnations: libvirt counts starts from one again when the host was booted."""
        if local:
            boot = boot_id(settings.proc)
            self._boot = f"@{boot}" if boot else ""

    @property
    def uri(self) -> str:
        """libvirt's URI."""
        return self._connection.settings.uri

    @property
    def library_version(self) -> int:
        """Of libvirt on this host: 1,000,000 times the major version, and 1,000 times the minor one."""
        version: int = self._connection.module.getVersion()
        return version

    def close(self) -> None:
        """Let all connections go, in well under half a second."""
        wait = self._agents.close()
        self._lifecycle.close()
        self._connection.close()
        wait()

    # --- what there is -----------------------------------------------------------------------------------------------------------

    def guests(self) -> Sequence[Guest]:
        """The guests that are active now, by one bulk call, which also reads the statistics that `fields` then hands out.

        Guests that were not there before, or that seem to have changed, cost one more call each, once.
        Raises `HypervisorError` while libvirtd cannot be reached.
        """
        with self._sampling:
            module = self._connection.module
            end = self._monotonic() + self._connection.settings.call_timeout
            asks_nobody = module.VIR_DOMAIN_STATS_STATE
            asks_guests = module.VIR_DOMAIN_STATS_CPU_TOTAL | module.VIR_DOMAIN_STATS_BALLOON | module.VIR_DOMAIN_STATS_VCPU
            self._take(self._connection.statistics(asks_nobody | asks_guests, fallback=asks_nobody))
            self._describe(end)
            with self._lock:
                return tuple(self._listed(known) for known in self._known.values())

    def fields(self, guests: Sequence[Guest]) -> dict[str, dict[str, Value]]:
        """The fields of these guests as of the last call of `guests`, by guest id. A guest that is not known is absent."""
        with self._lock:
            found = {guest.id: known for guest in guests if (known := self._known.get(guest.id)) is not None}
            seen = {} if self._host_side is None else self._host_side.fields(found)
            return {uuid: {**known.fields, **_described(known), **seen.get(uuid, {})} for uuid, known in found.items()}

    def descriptions(self) -> Mapping[str, DomainDescription]:
        """What is known of the guests' balloon devices and statistics periods, by guest id, as of the last call of `guests`."""
        with self._lock:
            return {uuid: known.description for uuid, known in self._known.items() if known.description is not None}

    def without_statistics(self) -> Sequence[str]:
        """The ids of the guests that have a balloon device and a statistics period, and give no statistics, or not any more."""
        with self._lock:
            return [uuid for uuid, known in self._known.items() if _reports(known) and not known.fresh]

    def silent(self) -> Mapping[str, str]:
        """The guests whose statistics ought to come, and have not for long, by id: in what way."""
        with self._lock:
            return {uuid: why for uuid, known in self._known.items() if (why := self._silence(known))}

    def impossible(self) -> Mapping[str, Sequence[str]]:
        """The guests whose last statistics cannot be true, by id: the names of the fields."""
        with self._lock:
            return distrusted(self._known)

    def _take(self, records: Sequence[GuestRecord]) -> None:
        wall, monotonic = self._wall(), self._monotonic()
        with self._lock:
            missed_events = self._opened != self._connection.opened
            self._opened = self._connection.opened
            changed = self._events.changed({found.uuid for found in records})
            before, self._known = self._known, {}
            for uuid, name, number, record in records:
                known = before.get(uuid)
                if known is None or known.number != number:
                    known = KnownDomain(uuid, name, number, monotonic)
                known.describe |= missed_events or uuid in changed or monotonic >= known.describe_at
                self._update(known, record, wall, monotonic)
                self._known[uuid] = known
            if self._host_side is not None:
                self._host_side.follow((known.uuid, known.name, known.number) for known in self._known.values())

    def _update(self, known: KnownDomain, record: Record, wall: float, monotonic: float) -> None:
        state, before, size = known.state, known.reading, known.fields.get("balloon_cur")
        known.state, known.reason = _whole(record, "state.state"), _whole(record, "state.reason")
        if state == PAUSED != known.state:
            known.since = monotonic
        stale_after = self._stale_after(known.description)
        unplugged = known.description.unplugged_kib if known.description else 0
        known.fields, known.reading = convert(
            record, before, wall=wall, monotonic=monotonic, stale_after=stale_after, unplugged_kib=unplugged
        )
        age = known.reading.age(monotonic)
        fresh = age is not None and age <= stale_after
        period = known.description.stats_period if known.description else 0
        prompt = age is not None and age <= _DUE_SECONDS + _DUE_PERIODS * period
        # Statistics that begin or cease to come or are late, and a new maximum, are signs that the guest was changed; so is,
        # where memory can be plugged in by the block, a new size. Jobs end.
        known.describe |= (
            fresh != known.fresh
            or (known.prompt and not prompt)
            or (before is not None and known.reading.maximum != before.maximum)
            or bool(known.job)
        )
        if known.description is not None and known.description.resizable_kib:
            known.describe |= known.fields.get("balloon_cur") != size
        known.fresh, known.prompt = fresh, prompt
        if known.late is not None and known.late.done():
            known.late = None

    def _stale_after(self, description: DomainDescription | None) -> float:
        return stale_seconds(description.stats_period if description else 0, self._settings.stale_after)

    def _describe(self, end: float) -> None:
        """Read the descriptions that are missing or may have changed, as many as there is time for until `end`, or before."""
        end = min(end, self._monotonic() + _DESCRIBE_SECONDS)
        with self._lock:
            due = [known for known in self._known.values() if known.describe and known.late is None]
        for known in due:
            if self._monotonic() >= end:
                return
            try:
                description = self._read_description(known)
            except GuestGone:
                with self._lock:
                    self._known.pop(known.uuid, None)
                continue
            except HypervisorError as error:  # this guest's matter only: what concerns all is raised by the bulk call
                self._log.debug("%s", error)
                continue
            with self._lock:
                self._learn(known, description)

    def _read_description(self, known: KnownDomain) -> DomainDescription | None:
        def read(domain: Domain) -> str:
            known.job = self._job(domain)
            return domain.XMLDesc(0)

        with self._lock:
            known.describe = False  # before it is read, so that what is said to have changed in the meantime is read again
        try:
            return described(self._ask(known, f"reading the description of {printable(known.name)}", read))
        except HypervisorError:
            with self._lock:
                known.describe = True
            raise

    def _job(self, domain: Domain) -> str:
        """What libvirt is doing with the guest that allows no change now."""
        try:
            return job_name(domain.jobStats())
        except self._connection.module.libvirtError:  # a driver without jobs; or the guest is gone, which the next call says
            return ""

    def _learn(self, known: KnownDomain, description: DomainDescription | None) -> None:
        """The lock is held."""
        had = known.description.stats_period if known.description else 0
        if description is not None and description.stats_period and not had:
            known.since = self._monotonic()
        known.description = description
        known.describe_at = self._monotonic() + _DESCRIBE_AGAIN_SECONDS * (1 + zlib.crc32(known.uuid.encode()) % 100 / 100)
        known.cpu_tune = known.pins = None
        if description is not None and known.reading is not None and known.reading.maximum is not None:
            size = known.fields.get("balloon_cur")
            known.fields["balloon_max"] = possible_maximum(known.reading.maximum, description.unplugged_kib, size)

    def _listed(self, known: KnownDomain) -> Guest:
        uuid, name = known.uuid, known.name
        properties: dict[str, Value] = {"name": name, "uuid": uuid, "state": state_name(known.state)}
        if self._host_side is not None:
            properties |= self._host_side.properties(uuid)
        if known.description is not None:
            properties |= known.description.promises
            if known.description.pinned:
                properties["pinned"] = known.description.pinned
        return Guest(
            uuid,
            name,
            properties=properties,
            blocked={**self._tuning_blocked(), **self._blocked(known)},
            incarnation=f"{known.number}{self._boot}",
        )

    def _blocked(self, known: KnownDomain) -> dict[str, str]:
        reason = self._nothing_can_be_done(known)
        if reason:
            return {ALL_CONTROLS: reason}
        if known.description is None:
            return dict.fromkeys((BALLOON_CONTROL, PERIOD_CONTROL), "the guest's description has not been read yet")
        if not known.description.balloon:
            return dict.fromkeys((BALLOON_CONTROL, PERIOD_CONTROL), "the guest has no balloon device")
        if known.description.pinned and not _is_smaller(known):
            return {BALLOON_CONTROL: known.description.pinned}
        silence = self._silence(known)
        return {BALLOON_CONTROL: silence} if silence else {}

    def _silence(self, known: KnownDomain) -> str:
        """How the guest's statistics have failed to come for long; empty when they come, or need not."""
        if known.reading is None or known.fresh or not _reports(known) or why_left_alone(known.state, known.reason):
            return ""
        return why_silent(known.reading, known.since, self._monotonic(), self._stale_after(known.description))

    def _nothing_can_be_done(self, known: KnownDomain) -> str:
        if self._connection.settings.readonly:
            return "the connection to libvirt is read-only"
        if known.late is not None:
            return _SILENT
        return why_left_alone(known.state, known.reason) or (f"the guest is {known.job}" if known.job else _without_cpus(known))

    # --- what can be changed -----------------------------------------------------------------------------------------------------

    def set_balloon(self, guest: Entity, target_kib: int) -> None:
        """Ask the guest to go to that size; returns when QEMU has taken the request, not when the guest has followed.

        Raises `NotSupported` for a size that the guest cannot have, `GuestGone`, `GuestBusy` when it did not come back in time (it may
        still take effect), and other kinds of `HypervisorError`.
        """
        known = self._ready(guest)
        maximum = known.fields.get("balloon_max")
        if isinstance(target_kib, bool) or not isinstance(target_kib, int) or target_kib < 1:
            raise NotSupported(f"{target_kib!r} KiB is no size for {guest}")
        if isinstance(maximum, int) and target_kib > maximum:
            raise NotSupported(f"{target_kib} KiB is more than the {maximum} KiB that {guest} can have")
        # What virtio-mem has plugged in is part of the guest's size, and out of the balloon's reach: libvirt leaves it out here.
        plugged = known.description.plugged_kib if known.description else 0
        if target_kib <= plugged:
            raise NotSupported(f"{target_kib} KiB is not more than the {plugged} KiB of {guest} that its balloon cannot take")
        live = self._connection.module.VIR_DOMAIN_AFFECT_LIVE
        size = known.fields.get("balloon_cur")
        self._events.resizing(known.uuid, size if isinstance(size, int) else None, target_kib)
        self._change(known, f"setting the balloon of {guest}", lambda domain: domain.setMemoryFlags(target_kib - plugged, live))

    def balloon_sizes(self, guests: Sequence[Entity]) -> Mapping[str, int]:
        """What these guests have now in KiB, by guest id, in one bulk call. A guest that is gone, unknown or silent is absent."""
        self._sample_first()
        with self._lock:
            uuids = [guest.id for guest in guests if guest.id in self._known]
        if not uuids:
            return {}
        records = self._connection.statistics(self._connection.module.VIR_DOMAIN_STATS_BALLOON, uuids)
        return {found.uuid: size for found in records if (size := _whole(found.record, "balloon.current")) > 0}

    def stats_period(self, guest: Entity) -> int:
        """What libvirt says now: every how many seconds it reads the guest's statistics, or 0. Raises as `set_balloon` does."""
        known = self._ready(guest)
        self._describe_now(known)
        description = known.description
        if description is None or not description.balloon:
            raise NotSupported(f"{guest} has no balloon device")
        return description.stats_period

    def set_stats_period(self, guest: Entity, seconds: int) -> None:
        """Have the guest's statistics read every `seconds` from now on, 0 for no longer. Raises as `set_balloon` does."""
        known = self._ready(guest)
        live = self._connection.module.VIR_DOMAIN_AFFECT_LIVE
        known.describe = True
        self._change(known, f"setting the statistics period of {guest}", lambda domain: domain.setMemoryStatsPeriod(seconds, live))

    def _describe_now(self, known: KnownDomain) -> None:
        description = self._read_description(known)
        with self._lock:
            self._learn(known, description)

    def _cgroup_folder(self) -> Path | None:
        return self._settings.cgroups if is_local(self.uri) else None

    def _ready(self, guest: Entity) -> KnownDomain:
        self._writable()
        self._sample_first()
        with self._lock:
            known = self._known.get(guest.id)
            if known is None:
                raise GuestGone(f"{guest} is not there any more")
            if known.late is not None and not known.late.done():
                raise GuestBusy(f"{guest}: {_SILENT}")
            return known

    def _sample_first(self) -> None:
        """A caller may ask for guests by what an earlier process knew of them."""
        if not self._opened:
            self.guests()

    def _change(self, known: KnownDomain, doing: str, function: Callable[[Domain], T]) -> T:
        """As `_ask`, for what libvirt would make wait for the end of a migration or another long job with the guest."""

        def unless_busy(domain: Domain) -> T:
            known.job = self._job(domain)
            if known.job:
                raise GuestBusy(f"{doing}: the guest is {known.job}")
            return function(domain)

        return self._ask(known, doing, unless_busy)

    def _ask(self, known: KnownDomain, doing: str, function: Callable[[Domain], T]) -> T:
        def late(call: Future[Any]) -> None:
            with self._lock:
                known.late = call

        return self._connection.call(doing, known.uuid, function, late)

    # --- stopping, going on, leaving ------------------------------------------------------------------------------------------------

    def standings(self, guests: Sequence[Entity]) -> Mapping[str, GuestState]:
        """How these guests are; a call for each: it is meant for the few that were stopped."""
        return self._lifecycle.standings(guests)

    def pause(self, guest: Entity) -> None:
        """Let the guest's CPUs stand still. Raises as `set_balloon` does."""
        self._writable()
        self._lifecycle.pause(guest)

    def resume(self, guest: Entity) -> None:
        """Let the guest's CPUs go on. Raises as `set_balloon` does."""
        self._writable()
        self._lifecycle.resume(guest)

    def save(self, guest: Entity, timeout_seconds: float) -> None:
        """Write the guest's memory to disk and end it. Raises `NotSupported` for a guest that libvirt would forget then."""
        self._writable()
        self._lifecycle.save(guest, timeout_seconds)

    def shut_down(self, guest: Entity) -> None:
        """Ask the guest's system to shut down."""
        self._writable()
        self._lifecycle.shut_down(guest)

    def start(self, guest: Entity, timeout_seconds: float) -> None:
        """Start a guest, or let one that was saved go on where it was."""
        self._writable()
        self._lifecycle.start(guest, timeout_seconds)

    def migrate(self, guest: Entity, destination: Destination, timeout_seconds: float) -> None:
        """Move the guest to another libvirt while it runs."""
        self._writable()
        self._lifecycle.migrate(guest, destination, timeout_seconds)

    def _writable(self) -> None:
        if self._connection.settings.readonly:
            raise PermissionDenied("the connection to libvirt is read-only", hint="set readonly to false for the plugin libvirt")

    # --- agents inside guests ----------------------------------------------------------------------------------------------------

    def agent_channels(self, guests: Sequence[Entity]) -> Mapping[str, Mapping[str, str]]:
        """The agent channels of these guests as of the last call of `guests`; sockets on another host have no path here."""
        local = is_local(self.uri)
        with self._lock:
            known = ((guest.id, self._known.get(guest.id)) for guest in guests)
            found = {uuid: one.description.channels for uuid, one in known if one is not None and one.description is not None}
        return {uuid: channels if local else dict.fromkeys(channels, "") for uuid, channels in found.items() if channels}

    def agent_command(self, guest: Entity, command: str, timeout_seconds: float) -> str:
        """Have libvirtd pass this JSON text to the guest's agent; takes twice `timeout_seconds`, rounded up, and a second at most.

        Raises `GuestBusy` when no answer came in time, `NotSupported` where there is no agent, `GuestGone`, and other `HypervisorError`s.
        """
        return self._agents.command(guest, command, timeout_seconds)

    # --- what happens ------------------------------------------------------------------------------------------------------------

    def subscribe(self, callback: Callable[[str], None]) -> Callable[[], None]:
        """Call `callback(what happened)` from libvirt's thread on what needs a cycle; the result ends that.

        That is a guest that starts, stops, pauses, goes on or migrates, that another process resizes, or that has a device more or less.
        """
        return self._events.subscribe(callback)


def _reports(known: KnownDomain) -> bool:
    """Whether the guest's statistics ought to come."""
    return known.description is not None and bool(known.description.balloon) and known.description.stats_period > 0


def _is_smaller(known: KnownDomain) -> bool:
    """Whether there is something to be given back to the guest."""
    size, maximum = known.fields.get("balloon_cur"), known.fields.get("balloon_max")
    return isinstance(size, int) and isinstance(maximum, int) and size < maximum


def _without_cpus(known: KnownDomain) -> str:
    return "none of the guest's CPUs is online" if known.fields.get("vcpu_count") == 0 else ""


def _described(known: KnownDomain) -> dict[str, Value]:
    """The fields that the guest's description gives."""
    description = known.description
    if description is None or not description.balloon:
        return {}
    fields: dict[str, Value] = {PERIOD_CONTROL: description.stats_period}
    if description.balloon.startswith("virtio"):
        fields |= {REPORTING: int(description.reports_free_pages), AUTODEFLATE: int(description.autodeflate)}
    return fields


def _whole(record: Record, key: str) -> int:
    value = record.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
