"""Who answers at QEMU's monitors, and how its guests are: rounds of visits to all monitors at once, and single commands."""

from __future__ import annotations

import threading
import time
import uuid as uuids
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from mom_core import GuestBusy, GuestGone, HypervisorError, NotSupported, PermissionDenied, PluginContext, Value, printable
from mom_kvm import HostSide, PlatformProperties, Record, SeenGuests, largest_kib, read_meminfo, root_cure, times_of
from mom_plugins_qemu.command_line import identity_of
from mom_plugins_qemu.description import DESCRIBING, Description, as_held, described, looked
from mom_plugins_qemu.guest_files import Defined, GuestFiles
from mom_plugins_qemu.held_memory import held_memory
from mom_plugins_qemu.monitored_guest import FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS, MonitoredGuest
from mom_plugins_qemu.monitors import listeners_of, monitors, trusted_users
from mom_plugins_qemu.proxmox import Definitions
from mom_plugins_qemu.states import COMING, MOVED_AWAY, state_name
from mom_plugins_qemu.visits import Failure, Visit, prepared, visit_all
from mom_plugins_qemu.wire import Answer, FalseAnswer, Question, Refusal, WireError

_DESCRIBE_AGAIN_SECONDS: Final = 150.0
"""A guest is described again after this to twice this, spread over the guests: devices may be plugged in and taken out."""

_DOUBT_SECONDS: Final = 10.0
"""What does not fit a description that is older than this has the guest described again first, for the same reason. One that lies in each
cycle is to cost no more than that."""

_ASKED_AGAIN: Final = 3
"""Rounds of visits in one cycle: what a guest is, how it is, and once more where another client was just there."""

_SEE_PROCESSES: Final = "run mom as root, and where it sees the host's processes; or start the guest anew"

LIES: Final = "its monitor says that"
"""So begins what cannot be true."""

_DESCRIBING: Final = prepared(DESCRIBING)

_Visits: TypeAlias = "list[tuple[Visit, MonitoredGuest | None]]"
"""Each with the guest that is known at that monitor; None: none is."""


@dataclass(frozen=True, slots=True)
class QemuHypervisorSettings:
    """Patterns of where monitors are; `stale_after` in seconds (None: by each guest's own period)."""

    sockets: Sequence[str] = ()
    stale_after: float | None = None
    readonly: bool = False
    users: Set[int] = field(default_factory=lambda: trusted_users(()))
    """The ids of the users whose monitors are believed."""
    definitions: Path | None = None
    """Proxmox VE's folder with the definitions of this node's guests."""
    guest_files: Path | None = None
    """A folder with a file for each guest that the operator defines."""


class Sampler(SeenGuests[MonitoredGuest]):
    """The monitors that are found by patterns, and the guests behind them.

    Safe to be used from several threads; one of them at a time visits monitors. A sample's visits take a second at most, whatever hangs.
    """

    def __init__(self, settings: QemuHypervisorSettings, context: PluginContext, wall: Callable[[], float] = time.time) -> None:
        self._proc = context.root / "proc"
        self._processes = HostSide(self._process_of, context.root, context.monotonic)
        super().__init__(settings.stale_after, context.monotonic, self._processes, self._proc)
        self.uri = "qmp:" + ",".join(settings.sockets)
        """The patterns by which monitors are found."""
        self._settings, self._context, self._log, self._wall = settings, context, context.log, wall
        self._visiting = threading.Lock()
        self._guests: dict[str, MonitoredGuest] = {}
        self._ask_again_at = 0.0
        self._longest_stay = 0.0
        self._looked_at: dict[str, float] = {}
        """Until when, in monotonic seconds, it is not looked again for what listens at a monitor that takes no connection."""
        self._untold: HypervisorError | None = None
        """Why it is not known which guests there are, in the sample that is being taken."""
        self._visited: set[str] = set()
        """The monitors that are there and were visited once."""
        self._definitions: Definitions | None = None
        if settings.definitions is not None:
            self._definitions = Definitions(context.root, settings.definitions, PlatformProperties(context))
        self._files = None if settings.guest_files is None else GuestFiles(context.root, settings.guest_files)
        self._defined: Mapping[str, Defined] = {}
        """The operator's definitions, by the monitors' paths."""
        self._undefined: Defined | None = None
        """As in `GuestFiles`."""
        self.doubles: dict[str, str] = {}
        """Monitors whose guest says that it is another one that is there already, by path: which."""
        self.foreign: dict[str, str] = {}
        """Monitors at which another user's process listens, in the last sample: whose."""
        self.proxmox_resizes = False
        """Proxmox VE's own daemon runs."""

    def _look(self) -> None:
        """Find the monitors that are there now, and ask all of them at once. Raises `HypervisorError` where a guest may be behind one of
        which nothing is known: it is not to be taken for one that has ended."""
        now = self._monotonic()
        self._untold = None
        self.foreign = {}
        defined = {} if self._files is None else self._files.read()
        paths = monitors(self._context.root, self._settings.sockets, self._settings.users, defined)
        with self._lock:
            self._defined, self._undefined = defined, None if self._files is None else self._files.undefined
            due = self._begin(paths, now)
        self._rounds(due, 0)
        if self._untold is not None:
            raise self._untold
        with self._lock:
            self._define()
            self._index()

    def garbled(self) -> Mapping[str, str]:
        """See `SeenGuests`: what their monitors say is no QMP, or cannot be true."""
        return {known.id: known.failure for known in self.seen() if known.failure.startswith((Failure.GARBLED, LIES))}

    def _rounds(self, due: _Visits, first: int) -> None:
        """Make these visits, and those that follow from them. Sampling is locked."""
        for attempt in range(first, _ASKED_AGAIN):
            if due:
                self._visit([visit for visit, _ in due])
                with self._lock:
                    due = self._take(due, attempt)

    def _ask_again(self) -> None:
        """Visit the monitors that did not answer once more, all at once, before their time: what was held by another client may be free
        now, and what is to be put back at the end has no next cycle to wait for."""
        with self._looking:
            now = self._monotonic()
            if now < self._ask_again_at:
                return
            with self._lock:
                due: _Visits = [(self._due(known, now), known) for known in self._guests.values() if known.failure]
            self._rounds(due, 1)
            with self._lock:
                self._index()
            self._ask_again_at = self._monotonic() + FIRST_RETRY_SECONDS

    def _begin(self, paths: Sequence[str], now: float) -> _Visits:
        """The visits of this cycle: to monitors of which nothing is known, to those whose turn did not come in the last one, and then to
        those that are likely to answer. The lock is held."""
        there = set(paths)
        self._visited &= there
        self._give_definitions()
        for gone in [known for path, known in self._guests.items() if path not in there]:
            self._lost(gone, Failure.ABSENT)
        due: _Visits = []
        for path in paths:
            known = self._guests.get(path)
            if known is None:
                due.append((Visit(path, _DESCRIBING), None))
            elif known.failure in {"", Failure.LEFT} or now >= known.retry_at or not self._is_alive(known):
                due.append((self._due(known, now), known))
            else:
                self._update(known, {})
        return sorted(due, key=lambda one: _turn_of(one[1]))

    def _due(self, known: MonitoredGuest, now: float) -> Visit:
        if known.description is None or now >= known.describe_at:
            return known.visit(_DESCRIBING)
        return known.visit(known.looking)

    def _take(self, visits: _Visits, attempt: int) -> _Visits:
        """Take note of what came of visits; those that have to follow. The lock is held."""
        following: _Visits = []
        last = attempt == _ASKED_AGAIN - 1
        self._find_listeners(visit for visit, before in visits if before is None)
        # All before the first is described: a guest without a UUID is known by the first of its process's monitors.
        for visit, known in [(visit, self._recognized(visit, before)) for visit, before in visits]:
            if known is None:
                continue
            if visit.failure is not Failure.LEFT:
                known.turn_at = self._monotonic()
            try:
                if visit.answers is None:
                    again = not last and self._worth_another_attempt(known, visit, attempt)
                    if not again:
                        self._failed(known, visit)
                elif visit.questions is _DESCRIBING:
                    self._learn(known, described(visit.answers))
                    again = True
                else:
                    self._heard_of(known, visit.answers)
                    again = known.description is None
            except WireError as error:
                visit.fail(Failure.FALSE if isinstance(error, FalseAnswer) else Failure.GARBLED, str(error))
                self._failed(known, visit)
                again = False
            if again and not last:
                following.append((self._due(known, self._monotonic()), known))
        return following

    def _recognized(self, visit: Visit, before: MonitoredGuest | None) -> MonitoredGuest | None:
        """Whose monitor was visited: the guest that is known there, or another one that was started since; None: nothing is there."""
        process = visit.process
        if before is not None and process in {0, before.process} and (visit.answers is not None or not process or self._is_alive(before)):
            return before
        if visit.failure is not Failure.LEFT:
            self._visited.add(visit.path)
        if not process:
            if visit.failure in {Failure.DENIED, Failure.UNTOLD}:
                hint = root_cure() if visit.failure is Failure.DENIED else _SEE_PROCESSES
                self._untold = PermissionDenied(f"{printable(visit.path)}: {visit.failure}", hint=hint)
            if visit.failure is Failure.LEFT and visit.path not in self._visited:
                self._untold = self._untold or HypervisorError("not all monitors have been asked yet")
            if visit.failure is Failure.FOREIGN:
                self.foreign[visit.path] = visit.why
            if visit.failure not in {Failure.OCCUPIED, Failure.ABSENT}:
                self._log.debug("%s: %s: %s", visit.path, visit.failure, visit.why)
            return None
        identity, started = identity_of(self._proc, process), self._started(process)
        known = MonitoredGuest(
            id=identity.uuid,
            path=visit.path,
            process=process,
            started=started,
            start=f"{process}.{started}",
            identity=identity,
            own_name=identity.name,
            defined=self._defined.get(visit.path, self._undefined),
            since=self._monotonic(),
            failure=Failure.LEFT,
        )
        self._guests[visit.path] = known
        return known

    def _find_listeners(self, visits: Iterable[Visit]) -> None:
        """Find the processes behind monitors at which as many clients stand in line as may: whose guests they are must be known, so that
        none is taken for one that has ended. One search for all: each looks at the open files of all processes."""
        now = self._monotonic()
        self._looked_at = {path: until for path, until in self._looked_at.items() if now < until}
        full = [one for one in visits if one.failure is Failure.OCCUPIED and not one.process and one.path not in self._looked_at]
        if full:
            self._looked_at |= dict.fromkeys((visit.path for visit in full), now + LAST_RETRY_SECONDS)
            found = listeners_of(self._proc, {visit.path for visit in full}, self._settings.users)
            for visit in full:
                visit.process = found.get(visit.path, 0)

    def _worth_another_attempt(self, known: MonitoredGuest, visit: Visit, attempt: int) -> bool:
        """A visit that brought nothing is made again at once: another process listens now, or another client was just there."""
        return visit.failure is Failure.STRANGER or (
            visit.failure is Failure.OCCUPIED and attempt == 0 and not known.failure and known.description is not None
        )

    def _failed(self, known: MonitoredGuest, visit: Visit) -> None:
        """The lock is held."""
        failure = visit.failure or Failure.GARBLED
        self._log.debug("%s: %s: %s", visit.path, failure, visit.why)
        if failure is Failure.ABSENT:
            self._lost(known, failure)
            return
        known.failure = visit.why if failure is Failure.FALSE else f"{failure}: {visit.why}" if failure is Failure.GARBLED else failure
        if failure is not Failure.LEFT:
            known.retry_at = self._monotonic() + known.retry_after
            known.retry_after = min(2 * known.retry_after, LAST_RETRY_SECONDS)
        self._update(known, {})

    def _lost(self, known: MonitoredGuest, failure: Failure) -> None:
        """Its socket is not there any more: it has ended, unless its process lives on without. The lock is held."""
        if known.started and self._is_alive(known):
            known.failure = failure
            known.retry_at = 0.0
            self._update(known, {})
        else:
            self._guests.pop(known.path, None)

    def _learn(self, known: MonitoredGuest, description: Description) -> None:
        """Raises `FalseAnswer` where it says that it is another guest than it was, and for a size that cannot be. The lock is held."""
        said = printable(description.uuid) or "without a UUID"
        if known.identity.uuid and description.uuid != known.identity.uuid:
            raise FalseAnswer(f"{LIES} it is {said}, and it was started as {known.identity.uuid}")
        identity = description.uuid or self._id_by_process(known)
        if known.id and not known.guessed and identity != known.id:
            raise FalseAnswer(f"{LIES} it is {said}, and it said {known.id} before")
        known.id, known.guessed = identity, False
        known.own_name = description.name or known.identity.name or Path(known.path).stem
        too_large = self._too_large(known, description.fixed_kib)
        if too_large:
            known.description = None
            raise FalseAnswer(too_large)
        description = as_held(description, held_memory(f"{self._proc}/{known.process}"))
        before, known.description = known.description, description
        known.virtio_mem = description.virtio_mem
        if before is None or before.balloon != description.balloon:
            known.switches = None
        known.looking = prepared(description.looking(switches=known.switches is None))
        spread = 1 + zlib.crc32(known.path.encode(errors="replace")) % 100 / 100
        known.described_at = self._monotonic()
        known.describe_at = known.described_at + _DESCRIBE_AGAIN_SECONDS * spread

    def _id_by_process(self, known: MonitoredGuest) -> str:
        """The id of a guest that was given no UUID: the same at all monitors of its process."""
        others = (one for one in self._guests.values() if (one.process, one.started) == (known.process, known.started))
        of_process = [known, *others]
        first = min(one.path for one in of_process)
        return next((one.id for one in of_process if one.id and not one.guessed), "") or str(
            uuids.uuid5(uuids.NAMESPACE_URL, f"qmp:{first}")
        )

    def _heard_of(self, known: MonitoredGuest, answers: Sequence[Answer]) -> None:
        """Raises `FalseAnswer` for a size that cannot be. The lock is held."""
        description = known.description
        if description is None:
            return
        look = looked(description, answers)
        monotonic = self._monotonic()
        if known.status not in {"", look.status} or not known.period:
            known.since = monotonic
        known.status, known.migration, known.polling, known.virtio_mem = look.status, look.migration, look.period, look.virtio_mem
        known.see_plugging(sum(abs(device.requested_kib - device.size_kib) for device in look.virtio_mem), monotonic)
        known.state, known.period = state_name(look.status), look.period or 0
        before = known.reading
        self._update(known, known.with_maximum(look.record))
        too_large = self._too_large(known, known.fields.get("balloon_max"), known.size)
        if (too_large or known.contradicts(look.record)) and monotonic - known.described_at > _DOUBT_SECONDS:
            self._update(known, {})
            known.reading, known.description = before, None  # none of it was taken for a lie
            return
        if too_large:
            raise FalseAnswer(too_large)
        known.failure, known.retry_after = "", FIRST_RETRY_SECONDS
        if look.switches is not None:
            known.switches, known.looking = look.switches, prepared(description.looking())
        if look.again:
            known.description = None

    def _too_large(self, known: MonitoredGuest, *sizes: Value) -> str:
        """Return why it cannot have so many KiB: QEMU maps all that its guest may have. Empty: it can, or the process is about to end."""
        most = max((size for size in sizes if isinstance(size, int)), default=0)
        if most <= known.possible_kib:
            return ""
        possible = largest_kib(f"{self._proc}/{known.process}", read_meminfo(self._context.root).get("MemTotal"))
        known.possible_kib = max(possible, known.possible_kib)
        if most <= possible or not possible:
            return ""
        return f"{LIES} the guest has up to {most} KiB, and its process and the host have room for {possible} KiB"

    def _give_definitions(self) -> None:
        """What the operator says of a guest by one of its monitors holds at its others, too. The lock is held."""
        of_guests: dict[tuple[int, str], Defined] = {}
        for one in self._guests.values():
            if one.id and one.path in self._defined:
                defined = self._defined[one.path]
                first = of_guests.setdefault((one.process, one.id), defined)
                if first is not defined:
                    wrong = f"it is defined in two files, by its monitors {first.guest.monitor} and {defined.guest.monitor}"
                    of_guests[one.process, one.id] = first._replace(wrong=first.wrong or printable(wrong, 300))
        for one in self._guests.values():
            one.defined = of_guests.get((one.process, one.id), self._defined.get(one.path, self._undefined))

    def _guess(self) -> None:
        """Have guests listed that were started without a UUID and whose monitors other clients hold since before mom was started: what an
        earlier mom has changed of them is still to be put back, so they must not seem to be gone. The lock is held."""
        for known in self._guests.values():
            silent = known.failure in {Failure.OCCUPIED, Failure.LATE}
            if known.guessed or (not known.id and silent and known.identity.monitored):
                known.id, known.guessed = self._id_by_process(known), True
                known.own_name = known.identity.name or Path(known.path).stem

    def _index(self) -> None:
        """Guests by their ids; of two monitors that say they are of one guest, the one stays whose QEMU was started with that id, or else
        the one known first; but not one that was migrated away from, which its management has not ended yet, nor, as long as there is the
        other, one to which it is to be migrated. Of two that one QEMU has, it is one that answers: another client may hold the first."""
        self._guess()
        self._give_definitions()
        found: dict[str, MonitoredGuest] = {}
        self.doubles = {}
        for known in sorted(self._guests.values(), key=_precedence):
            if not known.id:
                continue
            known.name = (known.defined.guest.name if known.defined is not None else "") or known.own_name or known.id
            first = found.setdefault(known.id, known)
            if first is not known and first.process != known.process:
                self.doubles[known.path] = f"it says that it is guest {printable(first.name)}, which {first.path} is"
            elif first is not known:
                if not known.number:
                    known.number, known.definition = first.number, first.definition
                elif not first.number:
                    first.number, first.definition = known.number, known.definition
                if first.failure and not known.failure:
                    found[known.id] = known
        self._seen = found
        self._resizes.keep(found)
        self._processes.follow((known.id, known.name, known.start) for known in found.values())

    def _define(self) -> None:
        """Read what Proxmox VE says of its guests. The lock is held."""
        if self._definitions is not None:
            found = self._definitions.read(self._guests)
            for path, known in self._guests.items():
                known.number, known.definition = found.get(path, ("", None))
            self.proxmox_resizes = self._definitions.daemon_runs()

    def _command(self, known: MonitoredGuest, doing: str, question: Question) -> Answer:
        """QEMU's answer to one command. Raises `HypervisorError` of the kind that says what became of it.

        :param doing: what is being done, for error messages
        """
        visit = known.visit(prepared([question]))
        self._visit([visit])
        if visit.answers is None:
            if visit.failure in {Failure.ABSENT, Failure.STRANGER} and not self._is_alive(known):
                raise GuestGone(f"{doing}: the guest is not there any more")
            if visit.failure is Failure.DENIED:
                raise PermissionDenied(f"{doing}: {visit.failure}", hint=root_cure())
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

    def _started(self, process: int) -> int:
        times = times_of(f"{self._proc}/{process}")
        return times.started if times is not None else 0

    def _is_alive(self, known: MonitoredGuest) -> bool:
        """The process is the one that it was; where that cannot be read, by its number alone."""
        return not known.started or self._started(known.process) == known.started

    def _update(self, known: MonitoredGuest, record: Record) -> None:
        """The lock is held."""
        known.take(record, self._wall(), self._monotonic(), self._stale_after)

    def _process_of(self, name: str, uuid: str) -> int | None:
        known = self._seen.get(uuid)
        return known.process or None if known is not None else None


def _precedence(known: MonitoredGuest) -> tuple[bool, bool, bool]:
    """Of two that say they are of one guest, the lower one is believed."""
    return known.id != known.identity.uuid, known.status == MOVED_AWAY, known.status == COMING


def _turn_of(known: MonitoredGuest | None) -> tuple[int, float]:
    """When a monitor is visited: first where nothing is known; then whose turn did not come, the longest ago first; then who answers."""
    if known is None:
        return 0, 0.0
    if known.failure is Failure.LEFT:
        return 1, known.turn_at
    return 3 if known.failure else 2, 0.0
