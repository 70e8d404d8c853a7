"""Fair shares of places: the user who holds most places yields."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Protocol

from mom_plugins_http.server.access import Right


class PlaceHolder(Protocol):
    """Owner of a place."""

    @property
    def right(self) -> Right:
        """Return the owner's right."""

    @property
    def user(self) -> str:
        """Return the user, who may hold several places."""


class Shares:
    """Number of each user's places, once all places are taken."""

    def __init__(self, holders: Iterable[PlaceHolder]) -> None:
        self._held = Counter((holder.right, holder.user) for holder in holders)

    def order(self, holder: PlaceHolder) -> tuple[Right, int]:
        """Return the sort key: the lowest right yields first, then the user who holds most."""
        return holder.right, -self._held[holder.right, holder.user]

    def yields(self, holder: PlaceHolder, newcomer: PlaceHolder) -> bool:
        """Return whether a newcomer gets a busy place: its right is higher, or is equal and it would still hold fewer places."""
        held, own = (self._held[each.right, each.user] for each in (holder, newcomer))
        return holder.right < newcomer.right or (holder.right == newcomer.right and held > own + 1)
