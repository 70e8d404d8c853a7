"""What this host has followed of the fleet's, on disk: nothing that directs it goes back to what it was, also after a restart."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Final

from pydantic import Field, TypeAdapter

from mom_core import MomError, StateFile
from mom_plugins_fleet.records import MOST_MOVES, OrderProgress, Read
from mom_plugins_fleet.signatures import Opened, opened

FILE: Final = "followed.json"
WHAT: Final = "the file of what this host has followed in its fleet"
LOSS: Final = "an older record of the fleet's, with its operator's signature, would be taken once more"


@dataclass(frozen=True, slots=True)
class FollowedContent:
    """The newest revision of each record that was used, and how far moves are."""

    revisions: Mapping[str, Annotated[int, Field(ge=0)]] = field(default_factory=dict)
    moves: Annotated[tuple[OrderProgress, ...], Field(max_length=MOST_MOVES)] = ()


FORM: Final = TypeAdapter(FollowedContent)


class Followed:
    """Opens records that direct this host, none of them older than one that it has used. For one thread, once it is loaded.

    :param file: None: it is not kept
    """

    def __init__(self, file: StateFile[FollowedContent] | None = None) -> None:
        self._file = file
        self._content = FollowedContent()

    def load(self) -> None:
        """Read what the last run has left."""
        if self._file is not None:
            self._content = self._file.read() or FollowedContent()

    @property
    def moves(self) -> Mapping[str, OrderProgress]:
        """By guest."""
        return {one.guest: one for one in self._content.moves}

    def open(self, kind: type[Read], bucket: str, key: str, data: bytes, trusted: Collection[str]) -> Opened[Read]:
        """The record at a key, noted on disk before it is used. Raises `MomError` for one that no trusted key has signed, or that is older
        than one that was used here, and when it cannot be noted."""
        found = opened(kind, bucket, key, data, trusted)
        name = f"{bucket} {key}"
        known = self._content.revisions.get(name, 0)
        if found.revision < known:
            raise MomError(
                f"its revision {found.revision} is older than {known}, which was in force here: it is not taken",
                hint=f"if an operator means it, change {name} with `mom fleet` once more; else the servers repeat what is over",
            )
        if found.revision > known:
            self._write(FollowedContent({**self._content.revisions, name: found.revision}, self._content.moves))
        return found

    def note(self, moves: Collection[OrderProgress]) -> None:
        """How far moves are. Raises `StateError`: then none of them must be begun."""
        if set(moves) != set(self._content.moves):
            self._write(FollowedContent(self._content.revisions, tuple(moves)))

    def _write(self, content: FollowedContent) -> None:
        if self._file is not None:
            self._file.write(asdict(content))
        self._content = content
