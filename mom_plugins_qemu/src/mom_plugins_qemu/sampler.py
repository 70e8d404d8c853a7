"""Sampler that queries all QEMU monitors in rounds, and keeps the guests that they report."""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Final, TypeAlias

from mom_core import Guest, GuestBusy, GuestGone, HypervisorError, NotSupported, PermissionDenied, PluginContext, Value, printable
from mom_kvm import HostSide, PlatformProperties, ProcessStat, SeenGuests, StatisticsRecord, read_meminfo, root_cure
from mom_plugins_qemu.description import DESCRIBING, Description, described, guest_look, with_held_memory
from mom_plugins_qemu.fields import QemuGuestSettings
from mom_plugins_qemu.monitored_guest import (
    FIRST_RETRY_SECONDS,
    LAST_RETRY_SECONDS,
    LIES,
    MonitoredGuest,
    guess_ids,
    id_by_process,
    index_guests,
    state_of,
)
from mom_plugins_qemu.monitors import find_monitors, listeners_of, trusted_users
from mom_plugins_qemu.proxmox import Definitions
from mom_plugins_qemu.qemu_process import identity_of
from mom_plugins_qemu.visits import Failure, Visit, visit_all
from mom_plugins_qemu.wire import Answer, FalseAnswer, Question, Refusal, WireError, request

_DESCRIBE_AGAIN_SECONDS: Final = 150.0
"""mom reads a guest's description again after one to two times this period."""

_DOUBT_SECONDS: Final = 10.0
"""If statistics contradict a description older than this, mom reads the description again."""

_MOST_ROUNDS: Final = 3
"""Maximum number of rounds per cycle: one for descriptions, one for statistics, one for monitors that served another client."""

_SEE_PROCESSES: Final = "run mom as root, because root can see the host's processes; or restart the guest"

_DESCRIBING: Final = request(DESCRIBING)

_Visits: TypeAlias = "list[tuple[Visit, MonitoredGuest | None]]"
"""Visits, each with the monitor's guest; None if not known yet."""


class Sampler(SeenGuests[MonitoredGuest]):
    """Monitors and the guests behind them. Thread-safe: one thread at a time queries monitors, for a second at most.

    :param sockets: patterns of monitors' sockets
    :param users: IDs of trusted users; None for root and mom's own user
    :param definitions: folder with Proxmox VE's definitions
    """

    def __init__(
        self,
        context: PluginContext,
        sockets: Sequence[str],
        users: Set[int] | None = None,
        definitions: Path | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._proc = context.root / "proc"
        self._processes = HostSide(self._process_of, context.root, context.monotonic)
        super().__init__(context.monotonic, self._processes, self._proc)
        self.uri = "qmp:" + ",".join(sockets)
        self._sockets, self._users = sockets, trusted_users(()) if users is None else users
        self._context, self._log, self._wall = context, context.log, wall
        self._visiting = threading.Lock()
        self._guests: dict[str, MonitoredGuest] = {}
        """Guests keyed by monitor path."""
        self._ask_again_at = 0.0
        self._search_at: dict[str, float] = {}
        """Monotonic times, keyed by monitor path, at which mom may search again for a monitor's process after a full backlog."""
        self._incomplete: HypervisorError | None = None
        """Why the current sample cannot list all guests."""
        self._visited: set[str] = set()
        """Paths of existing monitors that mom has queried at least once."""
        self._definitions: Definitions | None = None
        if definitions is not None:
            self._definitions = Definitions(context.root, definitions, PlatformProperties(context))
        self.duplicates: Mapping[str, str] = {}
        """Messages about monitors that claim another guest's ID, keyed by monitor path."""
        self.foreign: dict[str, str] = {}
        """Texts that name the untrusted users of monitors in the last sample, keyed by monitor path."""
        self.proxmox_resizes = False

    # --- one sample --------------------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        # Raise `HypervisorError` for an unknown guest, which must not count as stopped.
        now = self._monotonic()
        self._incomplete = None
        self.foreign = {}
        paths = find_monitors(self._context.root, self._sockets, self._users)
        with self._lock:
            due = self._begin(paths, now)
        self._run_rounds(due, 0)
        if self._incomplete is not None:
            raise self._incomplete
        with self._lock:
            self._read_proxmox()
            self._index()

    def _run_rounds(self, due: _Visits, first: int) -> None:
        for attempt in range(first, _MOST_ROUNDS):
            if due:
                self._visit([visit for visit, _ in due])
                with self._lock:
                    due = self._take_round(due, attempt)

    def _ask_again(self) -> None:
        # Repeat failed queries: a restore before mom exits has no next cycle.
        with self._looking:
            now = self._monotonic()
            if now < self._ask_again_at:
                return
            with self._lock:
                due: _Visits = [(self._next_visit(guest, now), guest) for guest in self._guests.values() if guest.failure]
            self._run_rounds(due, 1)
            with self._lock:
                self._index()
            self._ask_again_at = self._monotonic() + FIRST_RETRY_SECONDS

    def _begin(self, paths: Sequence[str], now: float) -> _Visits:
        existing = set(paths)
        self._visited &= existing
        for gone in [guest for path, guest in self._guests.items() if path not in existing]:
            self._lose(gone, Failure.ABSENT)
        due: _Visits = []
        for path in paths:
            guest = self._guests.get(path)
            if guest is None:
                due.append((Visit(path, _DESCRIBING), None))
            elif guest.failure in {"", Failure.LEFT} or now >= guest.retry_at or not self._is_alive(guest):
                due.append((self._next_visit(guest, now), guest))
            else:
                self._update(guest, {})
        return sorted(due, key=lambda visit: _turn_of(visit[1]))

    def _next_visit(self, guest: MonitoredGuest, now: float) -> Visit:
        spread = 1 + zlib.crc32(guest.path.encode(errors="replace")) % 100 / 100
        outdated = guest.description is None or now >= guest.described_at + _DESCRIBE_AGAIN_SECONDS * spread
        return guest.visit(_DESCRIBING if outdated else guest.cycle_questions)

    def _take_round(self, visits: _Visits, attempt: int) -> _Visits:
        # Call with the lock held. Return the next round's visits.
        self._find_listeners(visit for visit, guest in visits if guest is None)
        # Recognize all guests first: a guest without a UUID gets its id from all monitors of its process.
        recognized = [(visit, self._recognize(visit, guest)) for visit, guest in visits]
        now = self._monotonic()
        last = attempt == _MOST_ROUNDS - 1
        following: list[tuple[Visit, MonitoredGuest | None]] = []
        for visit, guest in recognized:
            if guest is None:
                continue
            again = self._take_visit(guest, visit, last=last)
            if again and not last:
                following.append((self._next_visit(guest, now), guest))
        return following

    def _take_visit(self, guest: MonitoredGuest, visit: Visit, *, last: bool) -> bool:
        # Call with the lock held. Return whether another visit must follow.
        if visit.failure is not Failure.LEFT:
            guest.asked_at = self._monotonic()
        try:
            if visit.answers is None:
                again = visit.failure is Failure.STRANGER and not last
                if not again:
                    self._fail(guest, visit)
                return again
            if visit.questions is _DESCRIBING:
                self._describe(guest, described(visit.answers))
                return True
            self._take_look(guest, visit.answers)
        except WireError as error:
            visit.fail(Failure.FALSE if isinstance(error, FalseAnswer) else Failure.GARBLED, str(error))
            self._fail(guest, visit)
            return False
        return guest.description is None

    # --- who is behind a monitor -------------------------------------------------------------------------------------------------

    def _recognize(self, visit: Visit, before: MonitoredGuest | None) -> MonitoredGuest | None:
        process = visit.process
        if before is not None and process in {0, before.process} and (visit.answers is not None or not process or self._is_alive(before)):
            return before
        if visit.failure is not Failure.LEFT:
            self._visited.add(visit.path)
        if not process:
            self._note_unknown(visit)
            return None
        identity, started = identity_of(self._proc, process), self._started(process)
        guest = self._guests[visit.path] = MonitoredGuest(
            id=identity.uuid,
            path=visit.path,
            process=process,
            started=started,
            start=f"{process}.{started}",
            identity=identity,
            own_name=identity.name,
            since=self._monotonic(),
            failure=Failure.LEFT,
        )
        return guest

    def _note_unknown(self, visit: Visit) -> None:
        if visit.failure in {Failure.DENIED, Failure.UNKNOWN}:
            hint = root_cure() if visit.failure is Failure.DENIED else _SEE_PROCESSES
            self._incomplete = PermissionDenied(f"{printable(visit.path)}: {visit.failure}", hint=hint)
        if visit.failure is Failure.LEFT and visit.path not in self._visited:
            self._incomplete = self._incomplete or HypervisorError("mom has not queried all monitors yet")
        if visit.failure is Failure.FOREIGN:
            self.foreign[visit.path] = visit.why
        if visit.failure not in {Failure.OCCUPIED, Failure.ABSENT}:
            self._log.debug("%s: %s: %s", visit.path, visit.failure, visit.why)

    def _find_listeners(self, visits: Iterable[Visit]) -> None:
        # Find the processes that listen on monitors with a full backlog. Their guests must not count as stopped.
        now = self._monotonic()
        self._search_at = {path: at for path, at in self._search_at.items() if now < at}
        full = [visit for visit in visits if visit.failure is Failure.OCCUPIED and not visit.process and visit.path not in self._search_at]
        if full:
            self._search_at |= dict.fromkeys((visit.path for visit in full), now + LAST_RETRY_SECONDS)
            processes = listeners_of(self._proc, {visit.path for visit in full}, self._users)
            for visit in full:
                visit.process = processes.get(visit.path, 0)

    def _fail(self, guest: MonitoredGuest, visit: Visit) -> None:
        failure = visit.failure or Failure.GARBLED
        self._log.debug("%s: %s: %s", visit.path, failure, visit.why)
        if failure is Failure.ABSENT:
            self._lose(guest, failure)
            return
        guest.failure = visit.why if failure is Failure.FALSE else f"{failure}: {visit.why}" if failure is Failure.GARBLED else failure
        if failure is not Failure.LEFT:
            guest.postpone(self._monotonic())
        self._update(guest, {})

    def _lose(self, guest: MonitoredGuest, failure: Failure) -> None:
        if guest.started and self._is_alive(guest):
            guest.failure = failure
            guest.retry_at = 0.0
            self._update(guest, {})
        else:
            self._guests.pop(guest.path, None)

    # --- what a monitor says -----------------------------------------------------------------------------------------------------

    def _describe(self, guest: MonitoredGuest, description: Description) -> None:
        claimed = printable(description.uuid) or "without a UUID"
        if guest.identity.uuid and description.uuid != guest.identity.uuid:
            raise FalseAnswer(f"{LIES} the guest is {claimed}, but QEMU was started as {guest.identity.uuid}")
        identity = description.uuid or id_by_process(guest, self._guests.values())
        if guest.id and not guest.guessed and identity != guest.id:
            raise FalseAnswer(f"{LIES} the guest is {claimed}, but it said {guest.id} before")
        guest.id, guest.guessed = identity, False
        guest.own_name = description.name or guest.identity.name or Path(guest.path).stem
        properties = {"name": guest.own_name, "uuid": guest.id}
        settings = self._context.guest_settings(Guest(guest.id, guest.own_name, properties=properties))
        memory = settings.memory if isinstance(settings, QemuGuestSettings) else None
        guest.assigned_kib = None if memory is None else memory >> 10
        too_large = self._why_too_large(guest, description.fixed_kib)
        if too_large:
            guest.description = None
            raise FalseAnswer(too_large)
        held = ProcessStat.sizes(f"{self._proc}/{guest.process}")  # memory that VFIO pins counts as locked
        description = with_held_memory(description, pool_kib=held.get("HugetlbPages", 0), locked_kib=held.get("VmLck", 0))
        before, guest.description = guest.description, description
        guest.virtio_mem = description.virtio_mem
        if before is None or before.balloon != description.balloon:
            guest.switches = None
        guest.cycle_questions = request(description.cycle_questions(switches=guest.switches is None))
        guest.described_at = self._monotonic()

    def _take_look(self, guest: MonitoredGuest, answers: Sequence[Answer]) -> None:
        description = guest.description
        if description is None:
            return
        look, now = guest_look(description, answers), self._monotonic()
        if guest.status not in {"", look.status} or not guest.period:
            guest.since = now
        guest.status, guest.migration, guest.virtio_mem = look.status, look.migration, look.virtio_mem
        guest.note_plugging(sum(abs(device.requested_kib - device.size_kib) for device in look.virtio_mem), now)
        guest.state, guest.period = state_of(look.status)[0], look.period
        before = guest.reading
        self._update(guest, guest.with_maximum(look.record))
        too_large = self._why_too_large(guest, guest.fields.get("balloon_max"), guest.size)
        if (too_large or guest.contradicts(look.record)) and now - guest.described_at > _DOUBT_SECONDS:
            self._update(guest, {})
            guest.reading, guest.description = before, None  # compare statistics with a fresh description
            return
        if too_large:
            raise FalseAnswer(too_large)
        guest.failure, guest.retry_pause = "", FIRST_RETRY_SECONDS
        if look.switches is not None:
            guest.switches, guest.cycle_questions = look.switches, request(description.cycle_questions())
        if look.again:
            guest.description = None

    def _why_too_large(self, guest: MonitoredGuest, *sizes: Value) -> str:
        largest = max((size for size in sizes if isinstance(size, int)), default=0)
        if largest <= guest.possible_kib:
            return ""
        host_kib = read_meminfo(self._context.root).get("MemTotal")
        possible = ProcessStat.mapped_kib(f"{self._proc}/{guest.process}", host_kib)
        guest.possible_kib = max(possible, guest.possible_kib)
        if largest <= possible or not possible:
            return ""
        return f"{LIES} the guest has up to {largest} KiB, but its process and the host have room for only {possible} KiB"

    def _index(self) -> None:
        guests = self._guests.values()
        guess_ids(guests)
        self._seen, self.duplicates = index_guests(guests)
        self._processes.follow((guest.id, guest.name, guest.start) for guest in self._seen.values())

    def _read_proxmox(self) -> None:
        if self._definitions is not None:
            by_monitor = self._definitions.read(self._guests)
            for path, guest in self._guests.items():
                guest.proxmox = by_monitor.get(path)
            self.proxmox_resizes = self._definitions.daemon_runs()

    # --- visits and processes ----------------------------------------------------------------------------------------------------

    def _command(self, guest: MonitoredGuest, doing: str, question: Question) -> Answer:
        visit = guest.visit(request([question]))
        self._visit([visit])
        if visit.answers is None:
            if visit.failure in {Failure.ABSENT, Failure.STRANGER} and not self._is_alive(guest):
                raise GuestGone(f"{doing}: the guest has stopped")
            if visit.failure is Failure.DENIED:
                raise PermissionDenied(f"{doing}: {visit.failure}", hint=root_cure())
            raise GuestBusy(f"{doing}: {visit.failure}")
        (answer,) = visit.answers
        if isinstance(answer, Refusal):
            text = f"{doing}: QEMU says: {printable(answer.text)}"
            raise NotSupported(text) if answer.kind in {"DeviceNotActive", "KVMMissingCap", "CommandNotFound"} else HypervisorError(text)
        return answer

    def _visit(self, visits: Sequence[Visit]) -> None:
        # Two connections of mom would wait for each other.
        if visits:
            with self._visiting:
                visit_all(visits, self._monotonic, self._users)

    def _started(self, process: int) -> int:
        times = ProcessStat.running(f"{self._proc}/{process}")
        return times.started if times is not None else 0

    def _is_alive(self, guest: MonitoredGuest) -> bool:
        return not guest.started or self._started(guest.process) == guest.started

    def _update(self, guest: MonitoredGuest, record: StatisticsRecord) -> None:
        guest.add_record(record, self._wall(), self._monotonic())

    def _process_of(self, name: str, uuid: str) -> int | None:
        guest = self._seen.get(uuid)
        return guest.process or None if guest is not None else None


def _turn_of(guest: MonitoredGuest | None) -> tuple[int, float]:
    if guest is None:
        return 0, 0.0
    if guest.failure is Failure.LEFT:
        return 1, guest.asked_at
    return 3 if guest.failure else 2, 0.0
