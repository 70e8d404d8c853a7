"""Guests that were asked for memory and have not given it yet, kept on disk: such a guest goes on shrinking, and after a crash nothing but
this tells that its size is on the way to what mom asked for, and not one that another process has set."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from typing import Annotated, Final

from pydantic import Field, TypeAdapter

from mom_core import PluginContext, StateError, Value
from mom_plugins_balloon.ballooned_guests import BalloonedGuests
from mom_plugins_balloon.sizes import SizeRequest

_Kib = Annotated[int, Field(gt=0, lt=1 << 53)]
TWO_SIZES: Final = TypeAdapter(dict[str, tuple[str, _Kib, _Kib]])
"""The form of what is noted of guests whose sizes change: by guest id the incarnation, and two sizes."""


class ShrinksUnderWay:
    """Notes them: by guest id the incarnation, the size before, and the one that was asked for, in KiB."""

    def __init__(self, context: PluginContext, records: BalloonedGuests) -> None:
        self._context, self._records = context, records
        loss = "a guest that has not given what mom asked of it counts as one that another process has resized"
        self._file = context.state_file("shrinks.json", "the file of guests that are on their way to a smaller size", TWO_SIZES, loss=loss)

    @cached_property
    def noted(self) -> Mapping[str, tuple[str, int, int]]:
        """Those that are noted: until this mom notes some, those of the mom before it."""
        return self._file.read() or {}

    def of_before(self, identity: str) -> SizeRequest | None:
        """What the mom before this one had asked of a guest that has not been seen yet; None: nothing."""
        found = self.noted.get(identity)
        return None if found is None else SizeRequest(found[2], found[1], 0.0)

    def note(self, asked: Mapping[str, tuple[float, Value]] | None = None) -> None:
        """Note what is under way, if that has changed since.

        :param asked: sizes of guests, and what they are about to be asked for
        """
        guests = self._records.snapshot.listed
        if not self._context.serves or not guests:
            return
        noted = {identity: one for identity, one in self.noted.items() if self._is_missing(identity, one[0])}
        noted |= {
            guest.id: (guest.incarnation, int(request.began_at), request.target)
            for guest, memory in zip(guests, self._records.of_all(guests), strict=True)
            if (request := memory.request) is not None
            and not request.arrived
            and not request.sweeps
            and 0 < request.target < request.began_at
        }
        for identity, (size, target) in (asked or {}).items():
            guest = self._records.snapshot.guests.get(identity)
            if guest is not None and isinstance(target, int) and 0 < target < size:
                noted[identity] = (guest.incarnation, int(size), target)
        if noted != self.noted:
            # No guest outlives the host. Where it cannot be written mom says so, and its ledger could not be either.
            with suppress(StateError):
                self._file.write(noted, durable=False)
                self.noted = noted

    def _is_missing(self, identity: str, incarnation: str) -> bool:
        """True if the last list lacks a guest that is expected back: it was there lately, or was asked by the mom before this one."""
        memory = self._records.of(identity)
        known = identity in self._records.asked_before if memory is None else memory.incarnation == incarnation
        return known and identity not in self._records.snapshot.guests
