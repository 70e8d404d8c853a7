"""How many bytes clients have a server keep: requests that are still arriving or wait for their turn, answers that are not read yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

MOST_BYTES: Final = 64 << 20
"""Of all that is held together. A hundred clients that read what they ask for need a few of the largest answers at a time."""


class Holder(Protocol):
    """A holder of a body that is in memory for a client's sake."""

    @property
    def body(self) -> bytes | bytearray | memoryview:
        """It, as far as it is there."""


class HeldBytes:
    """Bodies that are held for clients. One that several clients wait for is in memory once, and counts once.

    Where more does not fit, the connections end that have held theirs for longest: a client that sends and reads is done before.
    """

    def __init__(self, most: int = MOST_BYTES) -> None:
        self._most = most
        self._held: dict[Holder, Callable[[], object]] = {}
        self._kept: set[Holder] = set()

    def begin(self, holder: Holder, end_connection: Callable[[], object]) -> None:
        """Count this body from now on."""
        self._held[holder] = end_connection

    def fits(self, holder: Holder) -> bool:
        """Make room for a body that is new or has grown. False: what is kept for others leaves none."""
        while self.size > self._most and (others := self._held.keys() - {holder}):
            longest = next((one for one in self._held if one in others and one not in self._kept), None)
            if longest is None:
                return False
            self._held.pop(longest)()
        return True

    def keep(self, holder: Holder) -> None:
        """Its connection is not ended any more to make room for others: the request has arrived, and what it asks for may be under way."""
        if holder in self._held:
            self._kept.add(holder)

    def end(self, holder: Holder) -> None:
        """Count it no longer."""
        self._held.pop(holder, None)
        self._kept.discard(holder)

    @property
    def size(self) -> int:
        """Bytes of all bodies together."""
        return sum({id(one.body): len(one.body) for one in self._held}.values())
