"""What mom changed and what stood there before: on disk before it is changed, so that it can be put back also after a crash."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from mom_core.errors import MomError, StateError
from mom_core.files import is_there
from mom_core.model import Entity, LedgerEntry, Outcome, Scope, Status, Value
from mom_core.ownership import advice_when_denied, refuse_untrusted
from mom_core.state_files import LaterVersionError, StateFile, UnreadableError
from mom_core.values import is_usual_number

LOG = logging.getLogger("mom.ledger")

FILE: Final = "ledger.json"
"""In the state directory."""

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")

LARGEST_VALUE: Final = 64 << 10
"""Characters of one value as JSON: a list with all limits of some 200 disks. One without bounds would leave no room in the file for others'
changes."""

Key = tuple[str, str]
"""An entity's id and a control."""


class Ledger:
    """The entries, in memory and in a file of state."""

    def __init__(self, path: Path, *, look: bool = False) -> None:
        self.boot = ""
        """Which boot of this host it is: the incarnation of the host's entries; empty: unknown."""
        loss = "what it held is not put back by itself"
        self.file = StateFile(path, "the ledger", _from_json, loss=loss, log=LOG, sets_aside=not look)
        """Its `damage` and `write_error` say what is wrong with it."""
        self._entries: dict[Key, LedgerEntry] = {}
        self._written: dict[Key, LedgerEntry] = {}
        self._texts: dict[Key, tuple[LedgerEntry, str]] = {}
        self._recorded: dict[Key, LedgerEntry | None] = {}
        """What the last `record` changed, and what stood there before it."""

    @classmethod
    def open(cls, directory: Path, *, look: bool = False) -> Ledger:
        """The ledger in that folder; empty when there is none yet, or when it is damaged, which `file.damage` says.

        :param look: set nothing aside: for who does not hold mom's lock
        :raises StateError: it cannot be read at all (no permission), or a later mom wrote it: that one can put back what it holds
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
            hint = advice_when_denied(ledger.file.path, directory) if denied else "repair the file system, or set state_directory"
            raise StateError(f"the ledger {ledger.file.path} cannot be read: {error.strerror}", hint=hint) from error
        except LaterVersionError as error:
            raise StateError(error.message, hint="upgrade, or restore with that one") from error
        except UnreadableError:
            raise
        except StateError:
            entries = ledger.file.read()  # which says what is wrong with it, and gives none
        if entries is not None:
            ledger._written = entries
            ledger._entries = ledger._of_this_boot(entries)
        return ledger

    def _of_this_boot(self, entries: Mapping[Key, LedgerEntry]) -> dict[Key, LedgerEntry]:
        """The entries without those of the host from before it was started anew: what mom had set is gone, and what stands now was set by
        others. Those of earlier moms, which did not note the boot, count as of this one; all do where it cannot be read."""
        standing: dict[Key, LedgerEntry] = {}
        of_host = (entry.incarnation for entry in entries.values() if entry.entity.scope is Scope.HOST)
        self.boot = self.boot or next(filter(None, of_host), "")
        for key, entry in entries.items():
            if entry.entity.scope is Scope.GUEST:
                standing[key] = entry
            elif entry.incarnation in {"", self.boot}:
                standing[key] = entry._replace(incarnation=self.boot)
        if over := len(entries) - len(standing):
            LOG.info("%d changes of the host ended with its last boot: there is nothing to be put back of them", over)
        return standing

    @property
    def entries(self) -> Mapping[Key, LedgerEntry]:
        """All entries by entity id and control. Not to be changed by the caller."""
        return self._entries

    def resolve(self, present: Callable[[LedgerEntry], Value]) -> None:
        """End the doubt about changes of an earlier run by what stands now. In memory; `record` writes it.

        :param present: what an entry's control stands at; None: unknown, and the doubt stays
        """
        doubtful = {key: entry for key, entry in self._entries.items() if entry.in_doubt}
        if not doubtful:
            return
        standing = {key: value for key, entry in doubtful.items() if (value := present(entry)) is not None}
        ended = {key: doubtful[key].resolved(value if can_be_kept(value) else None) for key, value in standing.items()}
        self._entries = {**self._entries, **ended}

    def record(self, entries: Iterable[LedgerEntry]) -> None:
        """Note these entries, durably, before their controls are changed.

        An entry that stands already keeps its `before` (a list, that of the items that mom has set), `time` and owner; what is about to be
        applied is brought up to date, and what was applied until now becomes `earlier`. Raises `StateError`, and keeps nothing of it, when
        the file cannot be written.
        """
        there = self._entries
        changed = dict(there)
        recorded: dict[Key, LedgerEntry | None] = {}
        for entry in entries:
            key = (entry.entity.id, entry.control)
            old = there.get(key)
            if old is None or old.incarnation != entry.incarnation:
                recorded[key] = old
                new, written = entry._replace(in_doubt=True), self._written.get(key)
                # The same entry as on disk, but for the time: nothing has to be written for it.
                changed[key] = written if written is not None and written._replace(time=entry.time) == new else new
            elif old.applied != entry.applied:
                recorded[key] = old
                # One in doubt is what the caller has made of the entry that stands.
                changed[key] = entry if entry.in_doubt else old.next(entry.applied)
        self._write(changed)
        self._recorded = recorded

    def settle(self, outcomes: Iterable[Outcome]) -> None:
        """Take in what came of the changes that were recorded last, so that what mom never set does not count as set by mom.

        It is written at once: until then the file says that the change is in doubt, and what another process sets meanwhile could be taken
        for what the kernel made of it. If it cannot be written, the file goes on saying so until the next `record`; and also if the power
        fails before the next one, but then nothing stands any more of what was set.
        """
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
            # What stands so already was set by a mom that could not note it any more.
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
        """End these entries: they were put back, or there is nothing left to put back. Raises `StateError` when it cannot be written.

        What was refused was noted on disk, and ends there now, too.
        """
        gone = set(keys)
        self._write({key: entry for key, entry in self._entries.items() if key not in gone})

    def _write(self, entries: dict[Key, LedgerEntry], *, durable: bool = True) -> None:
        """Have these entries in memory and in the file. Raises `StateError`."""
        if entries == self._written and not self.file.write_error:
            self._entries = entries
            return
        try:
            self.file.write_json(lambda: self._as_json(entries), durable=durable)
        except StateError as error:
            raise StateError(error.message, hint="free space or repair the disk; mom changes nothing that it could not put back") from error
        self._entries = self._written = entries

    def _as_json(self, entries: Mapping[Key, LedgerEntry]) -> str:
        """All entries. What has not changed is not encoded again: of 1,000 entries that would take 5 ms, twice in a cycle."""
        before, self._texts = self._texts, {}
        for key, entry in entries.items():
            there = before.get(key)
            self._texts[key] = there if there is not None and there[0] is entry else (entry, StateFile.as_json(_record(entry)))
        return f"[{','.join(text for _, text in self._texts.values())}]"


def changes_left(directory: Path) -> int:
    """How many changes a mom that is gone has left. Raises `MomError` where its ledger is damaged or cannot be read: that is unknown."""
    ledger = Ledger.open(directory, look=True)
    if ledger.file.damage:
        raise MomError(ledger.file.damage)
    return len(ledger.entries)


def can_be_kept(value: Value) -> bool:
    """True if a value can stand in the ledger: not every plugin keeps to what a `Value` may be, or to a size that leaves room."""
    if is_usual_number(value):
        return True  # JSON takes ten times as long to say that it can have it
    if isinstance(value, str) and len(value) > LARGEST_VALUE:
        return False
    try:
        return len(json.dumps(value, allow_nan=False)) <= LARGEST_VALUE
    except (ValueError, TypeError, RecursionError):
        return False


def _record(entry: LedgerEntry) -> dict[str, object]:
    """All of an entry, as it stands in the file."""
    rest = entry._asdict()
    return {**rest.pop("entity")._asdict(), **rest}


def _from_json(content: Any) -> dict[Key, LedgerEntry]:
    if type(content) is not list:
        raise TypeError("it is no list of entries")
    entries = [_entry(record) for record in content]
    return {(entry.entity.id, entry.control): entry for entry in entries}


def _entry(record: dict[str, Any]) -> LedgerEntry:
    texts = (record["id"], record["name"], record["control"], record["plugin"], record["incarnation"])
    if not all(type(text) is str for text in texts) or type(record["time"]) not in {int, float}:
        raise TypeError("an entry holds something else than a text or a number")
    if type(record["attempted"]) is not list or type(record["in_doubt"]) is not bool:
        raise TypeError("an entry does not say what was attempted")
    entity = Entity(Scope(record["scope"]), record["id"], record["name"])
    entry = LedgerEntry(entity, *(record[name] for name in LedgerEntry._fields[1:]))
    return entry._replace(time=float(entry.time), attempted=tuple(entry.attempted))
