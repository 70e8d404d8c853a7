"""Ledger of original values, written before each change."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from mom_core.errors import MomError, StateError
from mom_core.files import advice_when_denied, is_there, refuse_untrusted
from mom_core.model import Entity, LedgerEntry, Outcome, Scope, Status, Value
from mom_core.state_files import LaterVersionError, StateFile, UnreadableError
from mom_core.values import is_usual_number

LOG = logging.getLogger("mom.ledger")

FILE: Final = "ledger.json"

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")

LARGEST_VALUE: Final = 64 << 10
"""Maximum size of a value, in characters of JSON."""

Key = tuple[str, str]
"""Entity id and control."""


class Ledger:
    """Ledger entries in memory and in a state file."""

    def __init__(self, path: Path, *, look: bool = False) -> None:
        self.boot = ""
        """Boot id of the kernel; empty if unknown."""
        loss = "mom cannot restore the values in it"
        self.file = StateFile(path, "the ledger", _from_json, loss=loss, log=LOG, sets_aside=not look)
        self._entries: dict[Key, LedgerEntry] = {}
        self._written: dict[Key, LedgerEntry] = {}
        self._recorded: dict[Key, LedgerEntry | None] = {}

    @classmethod
    def open(cls, directory: Path, *, look: bool = False) -> Ledger:
        """Open the ledger. It is empty if the file is missing or damaged.

        :param look: change nothing on disk: do not even rename a damaged file
        :raises StateError: the file is unreadable, or a newer mom wrote it
        """
        ledger = cls(directory / FILE, look=look)
        with suppress(OSError):
            ledger.boot = BOOT_ID.read_text("ascii", "replace").strip()
        try:
            if look and not is_there(directory):
                return ledger
            directory.mkdir(parents=True, exist_ok=True, mode=0o750)
            refuse_untrusted(directory, "state_directory")
            entries = ledger.file.look()
        except OSError as error:
            denied = isinstance(error, PermissionError)
            hint = advice_when_denied(directory) if denied else "repair the file system, or set another state_directory"
            raise StateError(f"the ledger {ledger.file.path} cannot be read: {error.strerror}", hint=hint) from error
        except LaterVersionError as error:
            raise StateError(error.message, hint="upgrade mom, or run `mom restore` of the later version") from error
        except UnreadableError:
            raise
        except StateError:
            entries = ledger.file.read()  # sets `damage`
        if entries is not None:
            ledger._written = entries
            ledger._entries = ledger._of_this_boot(entries)
        return ledger

    def _of_this_boot(self, entries: Mapping[Key, LedgerEntry]) -> dict[Key, LedgerEntry]:
        # A boot has undone earlier changes of the host.
        standing: dict[Key, LedgerEntry] = {}
        of_host = (entry.incarnation for entry in entries.values() if entry.entity.scope is Scope.HOST)
        self.boot = self.boot or next(filter(None, of_host), "")
        for key, entry in entries.items():
            if entry.entity.scope is Scope.GUEST:
                standing[key] = entry
            elif entry.incarnation in {"", self.boot}:
                standing[key] = entry._replace(incarnation=self.boot)
        if over := len(entries) - len(standing):
            LOG.info("%d changes of host settings were lost when the host rebooted: nothing needs to be restored for them", over)
        return standing

    @property
    def entries(self) -> Mapping[Key, LedgerEntry]:
        """Entries, keyed by entity id and control."""
        return self._entries

    def resolve(self, present: Callable[[LedgerEntry], Value]) -> None:
        """Settle entries that an interrupted mom left in doubt.

        :param present: returns a control's present value. None means unknown: the entry stays in doubt
        """
        doubtful = {key: entry for key, entry in self._entries.items() if entry.in_doubt}
        if not doubtful:
            return
        standing = {key: value for key, entry in doubtful.items() if (value := present(entry)) is not None}
        ended = {key: doubtful[key].resolved(value if can_be_kept(value) else None) for key, value in standing.items()}
        self._entries = {**self._entries, **ended}

    def record(self, entries: Iterable[LedgerEntry]) -> None:
        """Write these entries durably. After a `StateError`, the ledger contains none of them.

        An existing entry keeps its `before`, `time` and owner; its `applied` becomes `earlier`.
        """
        present = self._entries
        changed = dict(present)
        recorded: dict[Key, LedgerEntry | None] = {}
        for entry in entries:
            key = (entry.entity.id, entry.control)
            old = present.get(key)
            if old is None or old.incarnation != entry.incarnation:
                recorded[key] = old
                new, written = entry._replace(in_doubt=True), self._written.get(key)
                # On disk already, except for the time.
                changed[key] = written if written is not None and written._replace(time=entry.time) == new else new
            elif old.applied != entry.applied:
                recorded[key] = old
                # The caller derived an entry in doubt from the existing one.
                changed[key] = entry if entry.in_doubt else old.next(entry.applied)
        self._write(changed)
        self._recorded = recorded

    def settle(self, outcomes: Iterable[Outcome]) -> None:
        """Record results right after the changes: later, mom could mistake another process's value for its own."""
        settled, recorded = dict(self._entries), self._recorded
        applied, failed, unchanged, refused = Status.APPLIED, Status.FAILED, Status.UNCHANGED, Status.REFUSED
        changed = False
        for outcome in outcomes:
            decision, status, after = outcome.decision, outcome.status, outcome.after
            key = (decision.entity.id, decision.control)
            entry = settled.get(key)
            if entry is None:
                continue
            is_recorded = key in recorded
            if not can_be_kept(after):
                after = None
            if is_recorded and (status is applied or status is failed):
                changed = True
            # An interrupted mom set this value without noting it.
            stands = status is unchanged and entry.in_doubt and not is_recorded
            if (status is applied or stands) and entry.applied == decision.value:
                settled[key] = entry.succeeded(after)
            elif not is_recorded:
                continue
            elif status is refused or status is unchanged:
                old = recorded[key]
                if old is None:
                    del settled[key]
                else:
                    settled[key] = old
            elif status is failed:
                settled[key] = entry.failed(after)
        self._entries, self._recorded = settled, {}
        if not changed:
            return
        try:
            self._write(settled, durable=False)
        except StateError as error:
            LOG.error("%s", error)

    def forget(self, keys: Iterable[Key]) -> None:
        """Remove entries that have ended. Raise `StateError` on a disk error."""
        gone = set(keys)
        self._write({key: entry for key, entry in self._entries.items() if key not in gone})

    def _write(self, entries: dict[Key, LedgerEntry], *, durable: bool = True) -> None:
        if entries == self._written and not self.file.write_error:
            self._entries = entries
            return
        try:
            self.file.write([_record(entry) for entry in entries.values()], durable=durable)
        except StateError as error:
            raise StateError(
                error.message, hint="free space or repair the disk; until then mom makes only changes that it can undo"
            ) from error
        self._entries = self._written = entries


def changes_left(directory: Path) -> int:
    """Count the changes that mom left when it exited. Raise `MomError` if their number is unknown."""
    ledger = Ledger.open(directory, look=True)
    if ledger.file.damage:
        raise MomError(ledger.file.damage)
    return len(ledger.entries)


def can_be_kept(value: Value) -> bool:
    """Return whether the ledger can store a value: JSON of at most `LARGEST_VALUE` characters."""
    if is_usual_number(value):
        return True  # fast path: JSON takes ten times as long
    if isinstance(value, str) and len(value) > LARGEST_VALUE:
        return False
    try:
        return len(json.dumps(value, allow_nan=False)) <= LARGEST_VALUE
    except (ValueError, TypeError, RecursionError):
        return False


def _record(entry: LedgerEntry) -> dict[str, object]:
    record = entry._asdict()
    return {**record.pop("entity")._asdict(), **record}


def _from_json(content: Any) -> dict[Key, LedgerEntry]:
    if type(content) is not list:
        raise TypeError("it is not a list of entries")
    entries = [_entry(record) for record in content]
    return {(entry.entity.id, entry.control): entry for entry in entries}


def _entry(record: dict[str, Any]) -> LedgerEntry:
    texts = (record["id"], record["name"], record["control"], record["plugin"], record["incarnation"])
    if not all(type(text) is str for text in texts) or type(record["time"]) not in {int, float}:
        raise TypeError("an entry contains a value of a wrong type")
    if type(record["attempted"]) is not list or type(record["in_doubt"]) is not bool:
        raise TypeError("`attempted` or `in_doubt` of an entry has a wrong type")
    entity = Entity(Scope(record["scope"]), record["id"], record["name"])
    entry = LedgerEntry(entity, *(record[name] for name in LedgerEntry._fields[1:]))
    return entry._replace(time=float(entry.time), attempted=tuple(entry.attempted))
