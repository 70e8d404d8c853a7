"""What mom changed and what stood there before: on disk before it is changed, so that it can be put back also after a crash."""

from __future__ import annotations

import json
import logging
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mom_core.errors import LedgerError
from mom_core.files import replace_file
from mom_core.model import Entity, LedgerEntry, Outcome, Scope, Status, Value
from mom_core.ownership import advice_when_denied, refuse_untrusted

LOG = logging.getLogger("mom.ledger")

VERSION = 1
"""The format's version. A ledger of a later version is refused, not guessed at."""

Key = tuple[str, str]
"""An entity's id and a control."""


class Ledger:
    """The entries, in memory and in one JSON file that is replaced atomically.

    The file holds `{"version": 1, "crc32": …, "entries": […]}`; the checksum is over the entries' compact JSON text, so a file that
    was damaged is noticed. Such a file is set aside under another name, and `damage` says so until the next start.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damage = ""
        self.write_error = ""
        self._entries: dict[Key, LedgerEntry] = {}
        self._written: dict[Key, LedgerEntry] = {}
        self._recorded: dict[Key, LedgerEntry | None] = {}
        """What the last `record` changed, and what stood there before it."""

    @classmethod
    def open(cls, directory: Path) -> Ledger:
        """The ledger in that folder, which is made if need be; empty when there is none yet.

        Raises `LedgerError` when it cannot be read at all (no permission, a later version).
        """
        ledger = cls(directory / "ledger.json")
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o750)
            refuse_untrusted(directory, "state_directory")
            text = ledger.path.read_bytes()
        except FileNotFoundError:
            return ledger
        except PermissionError as error:
            raise LedgerError(
                f"cannot read the ledger {ledger.path}: {error.strerror}", hint=advice_when_denied(ledger.path, directory)
            ) from error
        except OSError as error:
            raise LedgerError(
                f"cannot read the ledger {ledger.path}: {error.strerror}", hint="repair the file system, or set state_directory"
            ) from error
        try:
            ledger._entries = ledger._written = _parse(text)
        except _LaterVersionError as error:
            raise LedgerError(
                f"the ledger {ledger.path} was written by a later mom: {error}", hint="upgrade, or restore with that one"
            ) from error
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            ledger._set_aside(str(error))
        return ledger

    @property
    def entries(self) -> Mapping[Key, LedgerEntry]:
        """All entries by entity id and control. Not to be changed by the caller."""
        return self._entries

    def resolve(self, present: Callable[[LedgerEntry], Value]) -> None:
        """End the doubt about changes of an earlier run by what stands now. In memory; `record` writes it.

        :param present: what an entry's control stands at; None: unknown, and the doubt stays
        """
        doubtful = {key: entry for key, entry in self._entries.items() if entry.in_doubt}
        standing = {key: value for key, entry in doubtful.items() if (value := present(entry)) is not None}
        ended = {key: doubtful[key].resolved(value if can_be_kept(value) else None) for key, value in standing.items()}
        self._entries = {**self._entries, **ended}

    def record(self, entries: Iterable[LedgerEntry]) -> None:
        """Note these entries, durably, before their controls are changed.

        An entry that stands already keeps its `before`, `time` and owner; what is about to be applied is brought up to date, and what
        was applied until now becomes `earlier`. Raises `LedgerError`, and keeps nothing of it, when the file cannot be written.
        """
        changed = dict(self._entries)
        recorded: dict[Key, LedgerEntry | None] = {}
        for entry in entries:
            key = (entry.entity.id, entry.control)
            old = self._entries.get(key)
            if old is None or old.incarnation != entry.incarnation or old.applied != entry.applied:
                recorded[key] = old
            if old is None or old.incarnation != entry.incarnation:
                new, written = replace(entry, in_doubt=True), self._written.get(key)
                # The same entry as on disk, but for the time: nothing has to be written for it.
                changed[key] = written if written is not None and replace(written, time=entry.time) == new else new
            elif old.applied != entry.applied:
                changed[key] = old.next(entry.applied)
        self._write(changed)
        self._recorded = recorded

    def settle(self, outcomes: Iterable[Outcome]) -> None:
        """Take in what came of the changes that were recorded last, so that what mom never set does not count as set by mom.

        It goes to the disk with the next `record`, as the file holds both the value that was to be applied and the one before it. When
        another value stands, because the kernel rounds, it is written at once: nothing in the file would tell. If that cannot be written,
        the file says that the change is in doubt.
        """
        settled = dict(self._entries)
        other = False
        for outcome in outcomes:
            key = (outcome.decision.entity.id, outcome.decision.control)
            if key not in settled:
                continue
            entry, after = settled[key], outcome.after if can_be_kept(outcome.after) else None
            # What stands so already was set by a mom that could not note it any more.
            stands = outcome.status is Status.UNCHANGED and entry.in_doubt and key not in self._recorded
            if (outcome.status is Status.APPLIED or stands) and entry.applied == outcome.decision.value:
                settled[key] = entry.succeeded(after)
            elif key not in self._recorded:
                continue
            elif outcome.status in {Status.REFUSED, Status.UNCHANGED}:
                old = self._recorded[key]
                if old is None:
                    del settled[key]
                else:
                    settled[key] = old
            elif outcome.status is Status.FAILED:
                settled[key] = entry.failed(after)
            other = other or (after != entry.applied and after is not None and key in self._recorded and after not in entry.ours)
        self._entries, self._recorded = settled, {}
        if other:
            try:
                self._write(settled)
            except LedgerError as error:
                LOG.error("%s", error)

    def forget(self, keys: Iterable[Key]) -> None:
        """End these entries: they were put back, or there is nothing left to put back. Raises `LedgerError` when it cannot be written."""
        gone = set(keys)
        if gone & (self._entries.keys() | self._written.keys()):
            self._write({key: entry for key, entry in self._entries.items() if key not in gone})

    def _write(self, entries: dict[Key, LedgerEntry]) -> None:
        if entries == self._written and not self.write_error:
            self._entries = entries
            return
        body = json.dumps([_as_json(entry) for entry in entries.values()], separators=(",", ":"))
        text = f'{{"version":{VERSION},"crc32":{zlib.crc32(body.encode())},"entries":{body}}}\n'
        try:
            replace_file(self.path, text, durable=True)
        except OSError as error:
            self.write_error = f"cannot write the ledger {self.path}: {error.strerror}"
            raise LedgerError(
                self.write_error, hint="free space or repair the disk; mom changes nothing that it could not put back"
            ) from error
        self.write_error = ""
        self._entries = self._written = entries

    def _set_aside(self, reason: str) -> None:
        aside = self.path.with_name(f"ledger.damaged-{time.time_ns()}.json")
        try:
            self.path.rename(aside)
        except OSError as error:
            raise LedgerError(f"the ledger {self.path} is damaged ({reason}) and cannot be set aside: {error.strerror}") from error
        self.damage = f"the ledger was damaged ({reason}) and set aside as {aside}: what it held is not put back by itself"
        LOG.error("%s", self.damage)


class _DamagedError(ValueError):
    """The text is not what a mom wrote."""


class _LaterVersionError(Exception):
    """The file's version is not one of ours."""


def _parse(text: bytes) -> dict[Key, LedgerEntry]:
    content: Any = json.loads(text)
    if not isinstance(content, dict) or not isinstance(content.get("version"), int):
        raise _DamagedError("it is no ledger")
    if content["version"] > VERSION:
        raise _LaterVersionError(f"format {content['version']}")
    body = json.dumps(content["entries"], separators=(",", ":"))
    if zlib.crc32(body.encode()) != content["crc32"]:
        raise _DamagedError("its checksum is wrong")
    entries = [_from_json(record) for record in content["entries"]]
    return {(entry.entity.id, entry.control): entry for entry in entries}


def can_be_kept(value: Value) -> bool:
    """Whether a value can stand in the ledger: not every plugin keeps to what a `Value` may be."""
    try:
        json.dumps(value, allow_nan=False)
    except (ValueError, TypeError, RecursionError):
        return False
    return True


def _as_json(entry: LedgerEntry) -> dict[str, Value]:
    entity = entry.entity
    return {
        "scope": entity.scope.value,
        "id": entity.id,
        "name": entity.name,
        "control": entry.control,
        "before": entry.before,
        "applied": entry.applied,
        "plugin": entry.plugin,
        "time": entry.time,
        "incarnation": entry.incarnation,
        "earlier": entry.earlier,
        "attempted": list(entry.attempted),
        "found": entry.found,
        "in_doubt": entry.in_doubt,
    }


def _from_json(record: dict[str, Any]) -> LedgerEntry:
    entity = Entity(Scope(record["scope"]), record["id"], record["name"])
    return LedgerEntry(
        entity,
        record["control"],
        record["before"],
        record["applied"],
        record["plugin"],
        float(record["time"]),
        record["incarnation"],
        record["earlier"],
        tuple(record.get("attempted", ())),
        record.get("found"),
        record.get("in_doubt", False),
    )
