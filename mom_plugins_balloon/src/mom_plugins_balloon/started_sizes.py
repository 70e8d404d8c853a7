"""What guests started with: kept for as long as they run, also across restarts of mom, for `guarantee: start`.

It is nowhere to be read. libvirt's description of a guest that runs follows its balloon; and a guest that is started with less than it can
have boots with all of it, until its driver has filled the balloon, at half a GiB in a second. So the size counts at which a guest has come
to rest after its driver has answered, before mom first asks it for another; that is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from functools import cached_property
from typing import Annotated, Final, NamedTuple

from pydantic import Field, TypeAdapter

from mom_core import Guest, LedgerEntry, PluginContext, StateError, Value, as_number
from mom_plugins_balloon.ballooned_guests import CONTROL, SAME_SIZE_KIB, BalloonedGuests, Filling
from mom_plugins_balloon.names import STARTED

GONE_KEPT: Final = 1000
"""Guests that are not listed any more are remembered, the last so many: one whose hypervisor does not answer for a while comes back."""

_Size = Annotated[int, Field(gt=0, lt=1 << 53)]
_Maximum = Annotated[int, Field(ge=0, lt=1 << 53)]
_FORM: Final = TypeAdapter(dict[str, tuple[str, _Size, _Maximum]])


class StartedSize(NamedTuple):
    """What one incarnation of a guest started with, and could have then at most (0: not known yet), in KiB.

    Of one that had all, both follow what is plugged in and out, for as long as it has all, and nothing of it is mom's.
    """

    incarnation: str
    size: int
    maximum: int

    @property
    def is_below(self) -> bool:
        """It was started with less than it could have."""
        return self.size < self.maximum - SAME_SIZE_KIB

    def had(self, kib: float) -> bool:
        """That is what it was started with, or all that it could have then."""
        return abs(kib - self.size) < SAME_SIZE_KIB or abs(kib - self.maximum) < SAME_SIZE_KIB

    def is_to_follow(self, size: float | None, maximum: float | None, age: float | None) -> bool:
        """What it could have is not known yet; or it had all, and has all that it can have now, which is another size (KiB): memory was
        plugged in or out. `age` is that of its statistics."""
        if not maximum or not self.maximum:
            return bool(maximum)
        has_all = size is not None and size > maximum - SAME_SIZE_KIB and not self.is_below
        return has_all and age is not None and abs(maximum - self.maximum) >= SAME_SIZE_KIB


class StartedSizes:
    """The sizes that the guests of this host started with.

    Of a guest whose size mom has changed, and of which there is no note, as the file is damaged or mom changed it before the guest had come
    to rest, the ledger has what stood there before.
    """

    def __init__(self, context: PluginContext) -> None:
        self._context = context
        loss = "`guarantee: start` of a guest that mom has resized goes by the ledger, or by what the guest has now"
        self._file = context.state_file("starts.json", "the file of the sizes that guests started with", _FORM, loss=loss)
        self._is_written = True

    def see(self, records: BalloonedGuests) -> None:
        """Take in the last snapshot, before anything is asked of the guests in it. Without any guest the hypervisor is away."""
        snapshot, known, guests = records.snapshot, self._notes, records.snapshot.listed
        numbers = map(snapshot.numbers, ("balloon_cur", "balloon_max", "stats_age"))
        told = zip(guests, records.of_all(guests), *numbers, strict=True)
        open_ones = [one for one in told if (of_it := self.of(one[0])) is None or of_it.is_to_follow(*one[2:])]
        # Mom does nothing with guests that say nothing.
        before = self.before_mom() if any(age is not None for *_, age in open_ones) else {}
        for guest, memory, size, maximum, age in open_ones:
            one, filling, could = self.of(guest), memory.filling, maximum
            stood = one.size if one is not None else before.get((guest.id, guest.incarnation))
            if stood is None:
                filling = memory.filling = filling or Filling(snapshot.monotonic)
                filling.maximum = maximum
                stood = size if filling.is_over(snapshot.monotonic, size, age) else None
            elif one is not None and one.maximum:
                # What mom took from it belongs to the maximum that it had then, as does what it gets back.
                stood = None if (guest.id, guest.incarnation) in before else maximum
            elif one is None and filling is not None:
                # Mom has shrunk it before it had come to rest: memory may have been plugged in since.
                could = filling.maximum or maximum
            if stood is not None:
                known[guest.id] = StartedSize(guest.incarnation, int(stood), int(could or 0))
                self._is_written = False
        if guests and self._context.serves and not self._is_written:
            for identity in [identity for identity in known if identity not in snapshot.guests][:-GONE_KEPT]:
                del known[identity]
            # Written again with the next cycle if it cannot be now; mom says what is wrong with the file. No guest outlives the host.
            with suppress(StateError):
                self._file.write(known, durable=False)
                self._is_written = True

    def columns(self, guests: Sequence[Guest]) -> dict[str, Sequence[Value]]:
        """What these guests started with, where that was less than they could have; nothing where that is so of none."""
        below = [one.size if (one := self.of(guest)) is not None and one.is_below else None for guest in guests]
        return {STARTED: below} if any(below) else {}

    def of(self, guest: Guest) -> StartedSize | None:
        """What the guest started with; None: not known, or not yet."""
        one = self._notes.get(guest.id)
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

    def without_mom(self, guest: Guest, before: float) -> float:
        """What a guest of a snapshot that had `before` KiB when mom first changed its size would have now: where that was what it was
        started with, or all that it could have then, with what was plugged in since. While the most that it can have is unknown, the same.
        """
        one, maximum = self.of(guest), guest.number("balloon_max")
        if maximum is None:
            return before
        more = 0.0 if one is None or not one.maximum or not one.had(before) else max(0.0, maximum - one.maximum)
        return min(before + more, maximum)

    def plugged(self, guests: Mapping[str, Guest], sizes: Mapping[str, int], tolerance: float) -> Set[str]:
        """The ids of guests that had before mom what they were started with, or all of their memory, and have what mom left them with what
        was plugged in or out since: QEMU keeps what the balloon has taken, and the size moves with the maximum.

        :param sizes: KiB that they have now, by id
        :param tolerance: KiB by which these may be off
        """
        found: set[str] = set()
        for identity, entry in self.changes().items():
            size, guest = sizes.get(identity), guests.get(identity)
            if size is None or size == entry.applied or guest is None or guest.incarnation != entry.incarnation:
                continue
            before, applied, maximum = as_number(entry.before), as_number(entry.applied), guest.number("balloon_max")
            if before is None or applied is None or maximum is None:
                continue
            one, could = self.of(guest), before
            if one is not None and one.is_below:
                if not one.had(before):
                    continue
                could = one.maximum
            if abs(maximum - could) >= tolerance and abs(applied + maximum - could - size) <= tolerance:
                found.add(identity)
        return found

    def before_mom(self) -> dict[tuple[str, str], float]:
        """What guests had before mom touched their sizes, by the ledger: KiB by guest id and incarnation."""
        found: dict[tuple[str, str], float] = {}
        for identity, entry in self.changes().items():
            before = as_number(entry.before)
            if before is not None and before > 0:
                found[identity, entry.incarnation] = before
        return found

    def changes(self) -> dict[str, LedgerEntry]:
        """The ledger's entries of guests' sizes, by guest id."""
        return {entry.entity.id: entry for entry in self._context.engine_state().changes if entry.control == CONTROL}

    @cached_property
    def _notes(self) -> dict[str, StartedSize]:
        """What is known, by guest id. The file is read when it is first wanted."""
        return {identity: StartedSize(*one) for identity, one in (self._file.read() or {}).items()}
