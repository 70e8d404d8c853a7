"""What guests started with: kept for as long as they run, also across restarts of mom, for `guarantee: start`.

It is nowhere to be read. libvirt's description of a guest that runs follows its balloon; and a guest that is started with less than it can
have boots with all of it, until its driver has filled the balloon, at half a GiB in a second. So the size counts at which a guest has come
to rest after its driver has answered, before mom first asks it for another; that is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from operator import is_
from typing import Annotated, Final, NamedTuple

from pydantic import Field, TypeAdapter

from mom_core import Guest, PluginContext, Snapshot, StateError, as_number
from mom_plugins_balloon.ballooned_guests import CLOCK_SLACK_SECONDS, CONTROL, SAME_SIZE_KIB

SETTLES_SECONDS: Final = 3.0
"""s. A guest whose size has not changed for so long does not fill its balloon any more: QEMU tells of that once a second."""

GONE_KEPT: Final = 1000
"""Guests that are not listed any more are remembered, the last so many: one whose hypervisor does not answer for a while comes back."""

_Size = Annotated[int, Field(gt=0, lt=1 << 53)]
_Maximum = Annotated[int, Field(ge=0, lt=1 << 53)]
_FORM: Final = TypeAdapter(dict[str, tuple[str, _Size, _Maximum]])


class StartedSize(NamedTuple):
    """What one incarnation of a guest started with, and could have then at most (0: not known yet), in KiB."""

    incarnation: str
    size: int
    maximum: int

    @property
    def is_below(self) -> bool:
        """It was started with less than it could have."""
        return self.size < self.maximum - SAME_SIZE_KIB


class _Settling:
    """A guest that may still be filling its balloon, since it was met; moments are monotonic seconds."""

    __slots__ = ("_heard", "_met", "_since", "_size")

    def __init__(self, now: float) -> None:
        self._met = now
        self._heard: float | None = None
        self._since = now
        self._size = 0.0

    def settled(self, now: float, size: float | None, age: float | None) -> bool:
        """Take in one more look; True if it has come to rest, with statistics that it has made since it was met: before those it boots."""
        if size is None or size < 1:
            return False
        if abs(size - self._size) >= SAME_SIZE_KIB:
            self._size, self._since = size, now
        if self._heard is None and age is not None and now - age > self._met + CLOCK_SLACK_SECONDS:
            self._heard = now
        return self._heard is not None and now - max(self._heard, self._since) >= SETTLES_SECONDS


class StartedSizes:
    """The sizes that the guests of this host started with.

    Of a guest whose size mom has changed, and of which there is no note, as the file is damaged or mom changed it before the guest had come
    to rest, the ledger has what stood there before.
    """

    def __init__(self, context: PluginContext) -> None:
        self._context = context
        loss = "`guarantee: start` of a guest that mom has resized goes by the ledger, or by what the guest has now"
        self._file = context.state_file("starts.json", "the file of the sizes that guests started with", _FORM, loss=loss)
        self._known: dict[str, StartedSize] | None = None
        """By guest id; None: the file was not read yet."""
        self._guests: Sequence[Guest] = ()
        self._open: dict[int, _Settling | None] = {}
        """The guests of whom something is not known yet, by their places; None: only their maximum."""
        self._below: Sequence[int | None] = ()
        """`below` of the guests, in their order; nothing where that is nothing for all of them."""
        self._is_written = True

    def see(self, snapshot: Snapshot) -> None:
        """Take in a snapshot, before anything is asked of the guests in it. Without any guest the hypervisor is away."""
        guests = snapshot.listed
        if not guests:
            return
        known, now = self._notes(), snapshot.monotonic
        if not self._are_listed(guests):
            self._meet(guests, known, now)
        if self._open:
            self._look(snapshot, known, now)
        if self._context.serves and not self._is_written:
            # Written again with the next cycle if it cannot be now; mom says what is wrong with the file. No guest outlives the host.
            with suppress(StateError):
                self._file.write(known, durable=False)
                self._is_written = True

    def _meet(self, guests: Sequence[Guest], known: dict[str, StartedSize], now: float) -> None:
        """Take in another list of guests."""
        settling = {self._guests[place].id: (self._guests[place].incarnation, one) for place, one in self._open.items()}
        there = {guest.id for guest in guests}
        for identity in [identity for identity in known if identity not in there][:-GONE_KEPT]:
            del known[identity]
            self._is_written = False
        self._guests, self._open = guests, {}
        for place, guest in enumerate(guests):
            one = known.get(guest.id)
            if one is None or one.incarnation != guest.incarnation:
                incarnation, before = settling.get(guest.id, ("", None))
                self._open[place] = before if before is not None and incarnation == guest.incarnation else _Settling(now)
            elif not one.maximum:
                self._open[place] = None
        self._count()

    def _look(self, snapshot: Snapshot, known: dict[str, StartedSize], now: float) -> None:
        """Look at the guests of whom something is not known yet."""
        sizes, maxima, ages = (snapshot.numbers(name) for name in ("balloon_cur", "balloon_max", "stats_age"))
        before: dict[tuple[str, str], float] | None = None
        for place, settling in list(self._open.items()):
            guest, size, maximum, age = self._guests[place], sizes[place], maxima[place], ages[place]
            if settling is not None:
                if before is None and age is not None:  # mom does nothing with guests that say nothing
                    before = self._before_mom()
                stood = before.get((guest.id, guest.incarnation)) if before is not None else None
                if stood is None:
                    stood = size if settling.settled(now, size, age) else None
                if stood is None:
                    continue
                known[guest.id] = StartedSize(guest.incarnation, int(stood), int(maximum or 0))
            elif maximum:
                known[guest.id] = known[guest.id]._replace(maximum=int(maximum))
            else:
                continue
            self._is_written = False
            if known[guest.id].maximum:
                del self._open[place]
            else:
                self._open[place] = None
        self._count()

    def _count(self) -> None:
        below = [self.below(guest) for guest in self._guests]
        self._below = below if any(below) else ()

    def _are_listed(self, guests: Sequence[Guest]) -> bool:
        """True if these are the very guests that were seen last."""
        return len(guests) == len(self._guests) and all(map(is_, guests, self._guests))

    def all_below(self, guests: Sequence[Guest]) -> Sequence[int | None]:
        """`below` of all these guests; nothing where that is nothing for all of them."""
        if self._are_listed(guests):
            return self._below
        below = [self.below(guest) for guest in guests]
        return below if any(below) else ()

    def of(self, guest: Guest) -> StartedSize | None:
        """What the guest started with; None: not known, or not yet."""
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

    def _before_mom(self) -> dict[tuple[str, str], float]:
        """What guests had before mom touched their sizes, by the ledger: KiB by guest id and incarnation."""
        found: dict[tuple[str, str], float] = {}
        for entry in self._context.engine_state().changes:
            before = as_number(entry.before) if entry.control == CONTROL else None
            if before is not None and before > 0:
                found[entry.entity.id, entry.incarnation] = before
        return found
