"""The older samples that policies can look back at. Those of many guests are packed until a plugin looks into them: few policies do, and as
they were read, ten samples of 1,000 guests are a quarter of all memory that mom holds."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Final

from mom_core.model import GuestTable, Snapshot

PACKED_FROM: Final = 100
"""Guests; what fewer of them take is not worth the work."""


class History:
    """The older samples, oldest first.

    :param kept: how many, at the most
    """

    def __init__(self, kept: int) -> None:
        self._samples: deque[Snapshot] = deque(maxlen=kept)

    def samples(self) -> tuple[Snapshot, ...]:
        """All of them now."""
        return tuple(self._samples)

    def keep(self, kept: int) -> None:
        """Keep so many from now on."""
        self._samples = deque(self._samples, maxlen=kept)

    def add(self, snapshot: Snapshot) -> None:
        """Take in the newest sample."""
        guests = snapshot.guests
        if isinstance(guests, GuestTable) and len(guests) >= PACKED_FROM:
            snapshot = replace(snapshot, guests=guests.packed())
        self._samples.append(snapshot)
