"""Newest revisions of records, stored on disk. Older records are rejected."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Final

from pydantic import Field, TypeAdapter

from mom_core import MomError, StateFile, lasting
from mom_plugins_fleet.records import MOST_MOVES, Kind, OrderProgress
from mom_plugins_fleet.signatures import Opened, opened

FILE: Final = "revisions.json"
WHAT: Final = "the file of the fleet's revisions that were used here"
LOSS: Final = "an outdated record with an operator's signature would be accepted again"

AHEAD_SECONDS: Final = 86_400.0
"""How far ahead of the clock a revision may be. Without a limit, a stolen key could sign the last possible revision."""


@dataclass(frozen=True, slots=True)
class RevisionsContent:
    """File content. `newest` maps a bucket and key to a revision."""

    newest: Mapping[str, Annotated[int, Field(ge=0)]] = field(default_factory=dict)
    moves: Annotated[tuple[OrderProgress, ...], Field(max_length=MOST_MOVES)] = ()


FORM: Final = TypeAdapter(RevisionsContent)


def off_clock(servers: float) -> str:
    """Return how far the local clock is off, as text; empty if hosts accept signatures with this clock's time.

    :param servers: the servers' time, in seconds since the epoch
    """
    ahead = time.time() - servers
    return f"{lasting(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'}" if abs(ahead) > AHEAD_SECONDS else ""


class SeenRevisions:
    """Newest revisions used here. `save` writes them to the file, if any."""

    def __init__(self, file: StateFile[RevisionsContent] | None = None) -> None:
        self._file, self._is_saved = file, True
        self._newest: dict[str, int] = {}
        self.moves: Mapping[tuple[str, int], OrderProgress] = {}
        """Progress of moves, keyed by guest and `order`."""

    def load(self) -> None:
        """Read the file of the last run."""
        content = None if self._file is None else self._file.read()
        if content is not None:
            self._newest, self.moves = dict(content.newest), {(step.guest, step.order): step for step in content.moves}

    def open(self, kind: type[Kind], key: str, data: bytes, trusted: Collection[str]) -> Opened[Kind]:
        """Return a verified record. Raise `MomError` if the record is unsigned, outdated or far ahead of the clock."""
        record, bucket = opened(kind, key, data, trusted), kind.bucket
        newest, ahead = self.newest(bucket, key), record.revision - time.time()
        if record.revision < newest:
            raise MomError(
                f"the record is rejected: its revision {record.revision} is older than revision {newest}, which was in force here",
                hint=f"the servers may have sent an old record; if an operator wants it, change {bucket} {key} again with `mom fleet`",
            )
        if record.revision > newest and ahead > AHEAD_SECONDS:
            far = lasting(ahead) if ahead < 1e10 else "centuries"
            raise MomError(
                f"the record is rejected: its revision is {far} ahead of the clock here",
                hint="check the clocks here and where the record was signed; then repeat the change",
            )
        if record.revision > newest:
            self._newest[f"{bucket} {key}"], self._is_saved = record.revision, False
        return record

    def newest(self, bucket: str, key: str) -> int:
        """Return the newest revision used here; 0 if none."""
        return self._newest.get(f"{bucket} {key}", 0)

    def note(self, moves: Collection[OrderProgress]) -> None:
        """Save the progress of moves. After a `StateError`, the caller must start no move."""
        before, self.moves = self.moves, {(step.guest, step.order): step for step in moves}
        self._is_saved = self._is_saved and self.moves == before
        try:
            self.save()
        except MomError:
            self.moves = before
            raise

    def save(self) -> None:
        """Write to disk."""
        if self._file is not None and not self._is_saved:
            self._file.write(asdict(RevisionsContent(self._newest, tuple(self.moves.values()))))
        self._is_saved = True
