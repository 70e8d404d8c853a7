"""The revisions of records that were used, on disk: what directs hosts, and what operators build on, never goes back to what it was."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Final

from pydantic import Field, TypeAdapter

from mom_core import MomError, StateError, StateFile, lasting
from mom_plugins_fleet.records import MOST_MOVES, Kind, OrderProgress, Orders
from mom_plugins_fleet.signatures import Opened, opened

FILE: Final = "revisions.json"
WHAT: Final = "the file of the revisions that this host has used of its fleet"
LOSS: Final = "an older record of the fleet's, with its operator's signature, would be taken once more"

AHEAD_SECONDS: Final = 86_400.0
"""Revisions begin with the clock of who signs, and may be so far ahead of the one here. The last number that there is, signed with a stolen
key, would else be one that nothing comes after."""


REMOVED: Final = "removed"
"""In the place of a digest: nothing stands there since."""


@dataclass(frozen=True, slots=True)
class RevisionsContent:
    """The newest revision of each record, with a digest, by who has signed it; how far moves are; and of a coordinator hosts' orders, with
    their revisions."""

    newest: Mapping[str, Mapping[str, tuple[Annotated[int, Field(ge=0)], str]]] = field(default_factory=dict)
    moves: Annotated[tuple[OrderProgress, ...], Field(max_length=MOST_MOVES)] = ()
    orders: Mapping[str, tuple[Annotated[int, Field(ge=0)], Orders]] = field(default_factory=dict)


FORM: Final = TypeAdapter(RevisionsContent)


def off_clock(servers: float) -> str:
    """How far the clock here is from the servers', where hosts would not take what it signs; empty: near enough.

    :param servers: their time, in seconds since the epoch
    """
    ahead = time.time() - servers
    return f"{lasting(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'}" if abs(ahead) > AHEAD_SECONDS else ""


class SeenRevisions:
    """Opens records, none of them older than one that was used here. For one thread, once it is loaded.

    What a key has signed counts as long as that key is trusted: what its thief has signed ends with it.

    :param file: None: it is not kept
    :param at_once: of a host: write each change before it is used. Else, of who signs, `save` does; and what was noted while its own
        clock was wrong, and is far ahead of it now, does not count: it could sign nothing after that. On a host, whose clock may be set
        back to have it follow what is over, it does
    """

    def __init__(self, file: StateFile[RevisionsContent] | None = None, *, at_once: bool = True) -> None:
        self._file, self._at_once, self._is_saved = file, at_once, True
        self._newest: dict[str, Mapping[str, tuple[int, str]]] = {}
        self._moves: tuple[OrderProgress, ...] = ()
        self.orders: Mapping[str, tuple[int, Orders]] = {}
        """What `keep_orders` was given last, also in an earlier run."""
        self._noted: set[str] = set()

    def load(self) -> None:
        """Read what the last run has left."""
        content = None if self._file is None else self._file.read()
        if content is not None:
            self._newest, self._moves, self.orders = dict(content.newest), content.moves, content.orders

    @property
    def moves(self) -> Mapping[tuple[str, int], OrderProgress]:
        """By guest, and the revision of its orders."""
        return {(one.guest, one.order): one for one in self._moves}

    def open(self, kind: type[Kind], bucket: str, key: str, data: bytes, trusted: Collection[str]) -> Opened[Kind]:
        """The record at a key, noted before it is used. Raises `MomError` for one that no trusted key has signed, that is older than one
        that was used here, another one of the same revision, or far ahead of the clock, and when it cannot be noted."""
        found = opened(kind, bucket, key, data, trusted)
        known, digest = self._known(bucket, key, trusted)
        if found.revision < known:
            raise MomError(
                f"its revision {found.revision} is older than {known}, which was in force here: it is not taken",
                hint=f"if an operator means it, change {bucket} {key} with `mom fleet` once more; else the servers repeat what is over",
            )
        if found.revision == known and found.digest != digest:
            was = "it was removed" if digest == REMOVED else f"another record of its revision {known} was in force here"
            raise MomError(f"{was}: it is not taken", hint=f"if an operator means it, change {bucket} {key} with `mom fleet` once more")
        ahead = found.revision - time.time()
        if found.revision > known and ahead > AHEAD_SECONDS:
            far = lasting(ahead) if ahead < 1e10 else "centuries"
            raise MomError(
                f"its revision is {far} ahead of the clock here: it is not taken",
                hint=f"see to the clock, here and where it was signed; then `mom fleet countersign {found.by}` signs it anew",
            )
        if found.revision > known:
            self._note(f"{bucket} {key}", found.by, (found.revision, found.digest))
        return found

    def newest(self, bucket: str, key: str, trusted: Collection[str]) -> int:
        """The newest revision of a record that was used here; 0: none."""
        return self._known(bucket, key, trusted)[0]

    def stood(self, bucket: str, key: str, trusted: Collection[str]) -> bool:
        """True if a record stood there the last time."""
        return self._known(bucket, key, trusted)[1] not in ("", REMOVED)

    def is_new(self, bucket: str, key: str) -> bool:
        """True if the record there was seen in this run for the first time."""
        return f"{bucket} {key}" in self._noted

    def made(self, bucket: str, key: str) -> None:
        """The record there was signed in this run, and is not new to who signed it."""
        self._noted.discard(f"{bucket} {key}")

    def removed(self, bucket: str, key: str, by: str, trusted: Collection[str]) -> None:
        """Nothing stands there any more, and what stood there is not to come back."""
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
        """How far moves are. Raises `StateError`: then none of them must be begun."""
        before = self._moves
        if set(moves) != set(before):
            self._moves = tuple(moves)
            try:
                self._changed()
            except StateError:
                self._moves = before
                raise

    def keep_orders(self, orders: Mapping[str, tuple[int, Orders]]) -> None:
        """Have these in the file, by host, once it is saved."""
        if orders != self.orders:
            self.orders, self._is_saved = orders, False

    def _changed(self) -> None:
        self._is_saved = False
        if self._at_once:
            self.save()

    def save(self) -> None:
        """Have on disk what was noted. Raises `StateError`."""
        if self._file is not None and not self._is_saved:
            moves = [asdict(one) for one in self._moves]
            orders = {host: (revision, one.model_dump(mode="json", exclude_defaults=True)) for host, (revision, one) in self.orders.items()}
            self._file.write({"newest": self._newest, "moves": moves, "orders": orders})  # as `RevisionsContent` is
        self._is_saved = True
