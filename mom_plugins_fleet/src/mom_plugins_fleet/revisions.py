"""Newest revisions of records, stored on disk. Older records are rejected."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Final, TypeVar

from pydantic import Field, TypeAdapter

from mom_core import MomError, StateError, StateFile, lasting
from mom_kvm import Callers
from mom_plugins_fleet.records import MOST_MOVES, Kind, OrderProgress
from mom_plugins_fleet.signatures import Opened, opened

Result = TypeVar("Result")

DISK_SECONDS: Final = 30.0

FILE: Final = "revisions.json"
WHAT: Final = "the file of the fleet's revisions that this host has used"
LOSS: Final = "an outdated record with an operator's signature would be accepted again"

AHEAD_SECONDS: Final = 86_400.0
"""How far ahead of the clock a revision may be. Without a limit, a stolen key could sign the last possible revision."""

REMOVED: Final = "removed"


@dataclass(frozen=True, slots=True)
class RevisionsContent:
    """File content. `newest` maps a record to its signers, and a signer to revision and digest."""

    newest: Mapping[str, Mapping[str, tuple[Annotated[int, Field(ge=0)], str]]] = field(default_factory=dict)
    moves: Annotated[tuple[OrderProgress, ...], Field(max_length=MOST_MOVES)] = ()


FORM: Final = TypeAdapter(RevisionsContent)


def off_clock(servers: float) -> str:
    """Return how far the local clock is off, as text; empty if hosts accept signatures with this clock's time.

    :param servers: the servers' time, in seconds since the epoch
    """
    ahead = time.time() - servers
    return f"{lasting(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'}" if abs(ahead) > AHEAD_SECONDS else ""


class SeenRevisions:
    """Newest revisions used here. Not thread-safe: hosts use them in `on_disk`.

    :param file: None to store nothing
    :param at_once: for hosts: save each change before it is used, and trust revisions recorded with a clock far ahead
    """

    def __init__(self, file: StateFile[RevisionsContent] | None = None, *, at_once: bool = True) -> None:
        self._file, self._at_once, self._is_saved = file, at_once, True
        self._newest: dict[str, Mapping[str, tuple[int, str]]] = {}
        self._moves: tuple[OrderProgress, ...] = ()
        self._noted: set[str] = set()
        self._caller = Callers("mom fleet disk", 1)

    async def on_disk(self, call: Callable[[], Result]) -> Result:
        """Call a function that uses files, in a thread. Raise `MomError` after `DISK_SECONDS`; the call may still succeed later."""
        future = asyncio.wrap_future(self._caller.start(call))
        await asyncio.wait([future], timeout=DISK_SECONDS)
        if not future.done():
            future.cancel()
            raise MomError(f"the disk did not answer within {DISK_SECONDS:g} s", hint="check the disk of mom's state directory")
        return future.result()

    def close(self) -> None:
        """End the thread of `on_disk` after its present call."""
        self._caller.close(0.0)

    def load(self) -> None:
        """Read the file of the last run."""
        content = None if self._file is None else self._file.read()
        if content is not None:
            self._newest, self._moves = dict(content.newest), content.moves

    @property
    def moves(self) -> Mapping[tuple[str, int], OrderProgress]:
        """Progress of moves, keyed by guest and `order`."""
        return {(step.guest, step.order): step for step in self._moves}

    def open(self, kind: type[Kind], key: str, data: bytes, trusted: Collection[str]) -> Opened[Kind]:
        """Return a verified record, after storing its revision.

        Raise `MomError` if the record is unsigned, outdated or far ahead of the clock, differs from the known record of the same revision,
        or cannot be stored.
        """
        record, bucket = opened(kind, key, data, trusted), kind.bucket
        newest, digest = self._known(bucket, key, trusted)
        if record.revision < newest:
            raise MomError(
                f"the record is rejected: its revision {record.revision} is older than revision {newest}, which was in force here",
                hint=f"the servers may have sent an old record; if an operator wants it, change {bucket} {key} again with `mom fleet`",
            )
        if record.revision == newest and record.digest != digest:
            was = "it was removed" if digest == REMOVED else f"a different record with revision {newest} was in force here"
            raise MomError(
                f"the record is rejected: {was}", hint=f"if an operator wants this record, change {bucket} {key} again with `mom fleet`"
            )
        ahead = record.revision - time.time()
        if record.revision > newest and ahead > AHEAD_SECONDS:
            far = lasting(ahead) if ahead < 1e10 else "centuries"
            raise MomError(
                f"the record is rejected: its revision is {far} ahead of the clock here",
                hint=f"check the clocks here and where the record was signed; then run `mom fleet countersign {record.by}`",
            )
        if record.revision > newest:
            self._note(f"{bucket} {key}", record.by, (record.revision, record.digest))
        return record

    def newest(self, bucket: str, key: str, trusted: Collection[str]) -> int:
        """Return the newest revision used here; 0 if none."""
        return self._known(bucket, key, trusted)[0]

    def stood(self, bucket: str, key: str, trusted: Collection[str]) -> bool:
        """Return whether a record existed at its last reading."""
        return self._known(bucket, key, trusted)[1] not in ("", REMOVED)

    def is_new(self, bucket: str, key: str) -> bool:
        """Return whether this record was first seen in this run."""
        return f"{bucket} {key}" in self._noted

    def made(self, bucket: str, key: str) -> None:
        """Record that this run signed the record."""
        self._noted.discard(f"{bucket} {key}")

    def removed(self, bucket: str, key: str, by: str, trusted: Collection[str]) -> None:
        """Record a permanent removal."""
        self._note(f"{bucket} {key}", by, (self.newest(bucket, key, trusted), REMOVED))

    def _known(self, bucket: str, key: str, trusted: Collection[str]) -> tuple[int, str]:
        last = float("inf") if self._at_once else time.time() + AHEAD_SECONDS
        noted = self._newest.get(f"{bucket} {key}", {}).items()
        return max((known for by, known in noted if by in trusted and known[0] <= last), default=(0, ""))

    def _note(self, name: str, by: str, known: tuple[int, str]) -> None:
        before = self._newest.get(name, {})
        self._newest[name] = {**before, by: known}
        self._noted.add(name)
        try:
            self._changed()
        except StateError:
            self._newest[name] = before
            raise

    def note(self, moves: Collection[OrderProgress]) -> None:
        """Record moves' progress. After a `StateError`, the caller must start no move."""
        before = self._moves
        if set(moves) != set(before):
            self._moves = tuple(moves)
            try:
                self._changed()
            except StateError:
                self._moves = before
                raise

    def _changed(self) -> None:
        self._is_saved = False
        if self._at_once:
            self.save()

    def save(self) -> None:
        """Write to disk."""
        if self._file is not None and not self._is_saved:
            self._file.write(asdict(RevisionsContent(self._newest, self._moves)))
        self._is_saved = True
