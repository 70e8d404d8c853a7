"""What guests started with: kept for as long as they run, also across restarts of mom, for `guarantee: start`.

libvirt's description of a guest that runs follows its balloon: what stood in it when the guest was started is nowhere to be read later.
So the size with which mom first sees a guest counts as the one that it was started with, and is kept before mom asks for another.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from operator import is_
from typing import Annotated, Final, NamedTuple

from pydantic import Field, TypeAdapter

from mom_core import Guest, LedgerEntry, PluginContext, Snapshot, StateError, as_number
from mom_plugins_balloon.ballooned_guests import CONTROL

SAME_SIZE_KIB: Final = 1024
"""KiB. Sizes that differ by less are the same: hypervisors round to whole MiB."""

GONE_KEPT: Final = 1000
"""Guests that are not listed any more are remembered, the last so many: one whose hypervisor does not answer for a while comes back."""

_Kib = Annotated[int, Field(ge=0, lt=1 << 53)]
_FORM: Final = TypeAdapter(dict[str, tuple[str, _Kib, _Kib]])


class StartedSize(NamedTuple):
    """What one incarnation of a guest had when it was first seen, and could have then at most (0: not known yet), in KiB."""

    incarnation: str
    size: int
    maximum: int

    @property
    def is_below(self) -> bool:
        """It was started with less than it could have."""
        return self.size < self.maximum - SAME_SIZE_KIB


class StartedSizes:
    """The sizes that the guests of this host started with.

    A mom that finds no note of a guest, as the file is damaged or this mom is the first that keeps one, goes by the ledger, which has what
    stood there before mom touched the guest's size; and where there is no entry of this incarnation, mom has not touched it.
    """

    def __init__(self, context: PluginContext) -> None:
        self._context = context
        loss = "`guarantee: start` of a guest that mom has resized goes by the ledger, or by what the guest has now"
        self._file = context.state_file("starts.json", "the file of the sizes that guests started with", _FORM, loss=loss)
        self._known: dict[str, StartedSize] | None = None
        """By guest id; None: the file was not read yet."""
        self._guests: Sequence[Guest] = ()
        self._is_complete = self._is_written = True
        self.any_below = False
        """Some guest that is there was started with less than it could have."""

    def see(self, snapshot: Snapshot) -> None:
        """Note the guests that were not seen before. Before anything is asked of them; without any guest the hypervisor is away."""
        guests = snapshot.listed
        same = len(guests) == len(self._guests) and all(map(is_, guests, self._guests))
        if not guests or (same and self._is_complete and self._is_written):
            return
        known, found = self._notes(), dict[str, StartedSize]()
        sizes, maxima = snapshot.numbers("balloon_cur"), snapshot.numbers("balloon_max")
        before: dict[str, float] | None = None
        for guest, size, maximum in zip(guests, sizes, maxima, strict=True):
            one = known.get(guest.id)
            if one is None or one.incarnation != guest.incarnation:
                if before is None:
                    before = self._before_mom(guests)
                stood = before.get(guest.id, size)
                one = None if stood is None else StartedSize(guest.incarnation, int(stood), int(maximum or 0))
            elif not one.maximum and maximum:
                one = one._replace(maximum=int(maximum))
            if one is not None:
                found[guest.id] = one
        gone = [(identity, one) for identity, one in known.items() if identity not in snapshot.guests]
        self._known = dict(gone[-GONE_KEPT:]) | found
        self._guests, self._is_complete = guests, len(found) == len(guests) and all(one.maximum for one in found.values())
        self._is_written = self._is_written and self._known == known
        self.any_below = any(one.is_below for one in found.values())
        if self._context.serves and not self._is_written:
            # Written again with the next cycle if it cannot be now; mom says what is wrong with the file. No guest outlives the host.
            with suppress(StateError):
                self._file.write(self._known, durable=False)
                self._is_written = True

    def of(self, guest: Guest) -> StartedSize | None:
        """What the guest started with; None: not known."""
        one = self._notes().get(guest.id)
        return one if one is not None and one.incarnation == guest.incarnation else None

    def kib_of(self, guest: Guest, maximum: float | None) -> float | None:
        """The guarantee of a guest that is promised what it started with, in KiB; None: that is not known.

        Of a guest whose maximum has grown since, as memory was plugged in, it is the same share of that.

        :param maximum: the most that the guest can have now, in KiB; None: unknown
        """
        one = self.of(guest)
        if one is None:
            return None
        if maximum is None or not one.maximum or maximum == one.maximum:
            return float(one.size)
        return min(maximum, max(float(one.size), one.size * (maximum / one.maximum)))

    def below(self, guest: Guest) -> int | None:
        """KiB that the guest started with where that was less than it could have; None: it was not, or that is not known."""
        one = self.of(guest)
        return one.size if one is not None and one.is_below else None

    def _notes(self) -> dict[str, StartedSize]:
        if self._known is None:
            self._known = {}
            with suppress(StateError):
                kept = (self._file.read() if self._context.serves else self._file.look()) or {}
                self._known = {identity: StartedSize(*one) for identity, one in kept.items()}
        return self._known

    def _before_mom(self, guests: Sequence[Guest]) -> dict[str, float]:
        """What these guests had before mom touched their sizes, by the ledger: KiB by guest id, of those that it did."""
        changes: Collection[LedgerEntry] = self._context.engine_state().changes
        there = {guest.id: guest.incarnation for guest in guests}
        found: dict[str, float] = {}
        for entry in changes:
            if entry.control == CONTROL and there.get(entry.entity.id) == entry.incarnation:
                before = as_number(entry.before)
                if before is not None and before > 0:
                    found[entry.entity.id] = before
        return found
