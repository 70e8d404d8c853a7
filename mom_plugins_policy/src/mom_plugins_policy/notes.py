"""What policies remember about entities across cycles and restarts (`Remember`, `Recall`), so that they can have hysteresis."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from mom_core import HOST_ID, MomError, Snapshot, Value, replace_file

_VERSION = 1
_NOTHING: Mapping[str, Any] = {}
_NO_NOTES = (ValueError, TypeError, KeyError, AttributeError, RecursionError)
"""What comes of reading something else."""
_ABSENCES = 60
"""Evaluations for which the notes on an absent guest are kept where its return can be told from a new start (five minutes at 5 s)."""


class Notes(Protocol):
    """Where an evaluation finds what earlier ones remembered."""

    def of(self, identity: str) -> Mapping[str, Any]:
        """The notes on an entity, by name."""


class NoteStore:
    """Notes in memory and, from one cycle to the next, in one JSON file that is replaced atomically.

    The notes on a guest go with it: when it is started anew (another `incarnation`), or when it is not there. If the hypervisor tells
    incarnations, a guest may be away for a while (as all are while the hypervisor restarts) and is still the same when it returns.
    """

    def __init__(self, path: Path, log: logging.Logger) -> None:
        self.path = path
        self.damage = ""
        """What was wrong with the file that was found, until the next start; empty if nothing was."""
        self.write_error = ""
        """Why notes are not kept on disk, empty if they are."""
        self._log = log
        self._notes: dict[str, dict[str, Any]] = {}
        self._incarnations: dict[str, str] = {}
        self._absent: dict[str, int] = {}
        self._unwritten = False

    def load(self) -> None:
        """Read what is on disk. A damaged file is set aside, and said to be."""
        try:
            text = self.path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            self.damage = f"the policies' notes {self.path} cannot be read: {error.strerror}"
            return
        try:
            content = json.loads(text)
            if content["version"] != _VERSION:
                raise ValueError("another version")
            self._take(content["notes"])
        except _NO_NOTES:
            aside = self.path.with_name(f"{self.path.name}.damaged-{time.time_ns()}")
            self.damage = f"the policies' notes were damaged and are set aside as {aside}: policies began without notes"
            with contextlib.suppress(OSError):
                self.path.rename(aside)
            self._log.error("%s", self.damage)

    def memory(self) -> dict[str, Value]:
        """All notes, and whose they are: what `set_memory` takes."""
        return {
            identity: {"incarnation": self._incarnations.get(identity, ""), "values": values} for identity, values in self._notes.items()
        }

    def set_memory(self, memory: Value) -> None:
        """Have these notes and no others. Raises `MomError` for anything but notes, and keeps what was there."""
        try:
            self._take(memory)
        except _NO_NOTES as error:
            raise MomError(f"these are no notes: {error}", hint="give what `memory` gave") from error
        self._unwritten = True

    def _take(self, entries: Any) -> None:
        notes = {str(identity): dict(entry["values"]) for identity, entry in entries.items()}
        self._incarnations = {str(identity): str(entry["incarnation"]) for identity, entry in entries.items()}
        self._notes, self._absent = notes, {}

    def of(self, identity: str) -> Mapping[str, Any]:
        """The notes on an entity, by name."""
        return self._notes.get(identity, _NOTHING)

    def forget_gone(self, snapshot: Snapshot) -> None:
        """Before an evaluation: drop the notes on guests that are gone or were started anew."""
        for identity in list(self._notes):
            if identity == HOST_ID:
                continue
            guest = snapshot.guests.get(identity)
            known = self._incarnations.get(identity, "")
            if guest is None:
                self._absent[identity] = self._absent.get(identity, 0) + 1
                if known and self._absent[identity] < _ABSENCES:
                    continue
            elif guest.incarnation == known:
                self._absent.pop(identity, None)
                continue
            self._drop(identity)

    def keep(self, notes: Mapping[str, Mapping[str, Any]], snapshot: Snapshot) -> None:
        """After an evaluation: take in its notes, nil forgetting, and write to disk what has changed."""
        for identity, values in notes.items():
            there = self._notes.get(identity, {})
            now = {name: value for name, value in {**there, **values}.items() if value is not None}
            if now == there and all(type(now[name]) is type(there[name]) for name in now):
                continue
            if now:
                self._notes[identity] = now
                self._incarnations[identity] = "" if identity == HOST_ID else snapshot.guests[identity].incarnation
                self._unwritten = True
            else:
                self._drop(identity)
        if self._unwritten:
            self._write()

    def _drop(self, identity: str) -> None:
        self._notes.pop(identity, None)
        self._incarnations.pop(identity, None)
        self._absent.pop(identity, None)
        self._unwritten = True

    def _write(self) -> None:
        text = json.dumps({"version": _VERSION, "notes": self.memory()}, separators=(",", ":")) + "\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
            replace_file(self.path, text, durable=True, mode=0o600)
        except OSError as error:
            self.write_error = f"the policies' notes cannot be written to {self.path}: {error.strerror}; they last until mom ends"
            return
        self.write_error = ""
        self._unwritten = False
