"""Sizes that guests started with, kept as long as they run and across restarts of mom, for `guarantee: start`.

No interface reports this size. libvirt's description of a running guest follows its balloon. A guest that starts with less than its maximum
boots with all of it, until its driver has filled the balloon at half a GiB per second. So mom waits until the driver has answered and the
size has come to rest, and takes that size before it first asks for another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from functools import cached_property
from typing import Annotated, Final, NamedTuple

from pydantic import Field, TypeAdapter

from mom_core import Guest, LedgerEntry, PluginContext, StateError, Value, as_number
from mom_plugins_balloon.ballooned_guests import BalloonedGuests
from mom_plugins_balloon.names import CONTROL, STARTED
from mom_plugins_balloon.sizes import SAME_SIZE_KIB, BalloonSettling

GONE_KEPT: Final = 1000
"""Guests that are kept though they are not listed, the last so many: a hypervisor that does not answer may come back."""

_Size = Annotated[int, Field(gt=0, lt=1 << 53)]
_Maximum = Annotated[int, Field(ge=0, lt=1 << 53)]
_FORM: Final = TypeAdapter(dict[str, tuple[str, _Size, _Maximum]])


class StartedSize(NamedTuple):
    """Size and maximum of one guest at its start, in KiB.

    Both follow memory that is plugged in or out while a guest has all its memory.
    """

    incarnation: str
    size: int
    maximum: int
    """0: unknown so far."""

    @property
    def is_below(self) -> bool:
        """Whether it started with less than its maximum."""
        return self.size < self.maximum - SAME_SIZE_KIB

    def had(self, kib: float) -> bool:
        """Return whether this is its size or its maximum at the start."""
        return abs(kib - self.size) < SAME_SIZE_KIB or abs(kib - self.maximum) < SAME_SIZE_KIB

    def must_follow(self, size: float | None, maximum: float | None, age: float | None) -> bool:
        """Return whether the maximum has become known, or has changed while the guest has all its memory.

        :param age: age of its statistics; None: it reports none
        """
        if not maximum or not self.maximum:
            return bool(maximum)
        has_all = size is not None and size > maximum - SAME_SIZE_KIB and not self.is_below
        return has_all and age is not None and abs(maximum - self.maximum) >= SAME_SIZE_KIB


class StartedSizes:
    """Sizes that the guests of this host started with.

    A guest that mom has resized may have no note: the file was damaged, or it had not come to rest. Its size before is in the ledger.
    """

    def __init__(self, context: PluginContext) -> None:
        self._context = context
        loss = "`guarantee: start` of a guest that mom has resized goes by the ledger, or by its present size"
        self._file = context.state_file("starts.json", "the file of the sizes that guests started with", _FORM, loss=loss)
        self._is_written = True

    def see(self, records: BalloonedGuests) -> None:
        """Take in the last snapshot, before anything is asked of its guests."""
        snapshot, guests = records.snapshot, records.snapshot.listed
        columns = map(snapshot.numbers, ("balloon_cur", "balloon_max", "stats_age"))
        unsettled = [
            row
            for row in zip(guests, records.of_all(guests), *columns, strict=True)
            if (started := self.of(row[0])) is None or started.must_follow(*row[2:])
        ]
        before = self.before_mom() if any(age is not None for *_, age in unsettled) else {}  # mom never resizes a guest without statistics
        for guest, record, size, maximum, age in unsettled:
            of_ledger = before.get((guest.id, guest.incarnation))
            if (started := self.of(guest)) is None:
                if of_ledger is None:
                    settling = (record.settling or BalloonSettling(snapshot.monotonic)).after(snapshot.monotonic, size, maximum, age)
                    records.put(guest.id, record._replace(settling=settling))
                    rests = size is not None and size >= 1 and settling.is_over(snapshot.monotonic)
                    made = StartedSize(guest.incarnation, int(size or 0), int(maximum or 0)) if rests else None
                else:
                    # mom has resized it before it came to rest: memory may have been plugged in since.
                    first_maximum = maximum if record.settling is None else record.settling.maximum or maximum
                    made = StartedSize(guest.incarnation, int(of_ledger), int(first_maximum or 0))
            elif started.maximum and of_ledger is not None:
                made = None  # the size before mom belongs to the maximum at that time
            else:
                made = StartedSize(guest.incarnation, int((maximum if started.maximum else started.size) or 0), int(maximum or 0))
            if made is not None:
                self._notes[guest.id] = made
                self._is_written = False
        if guests and self._context.serves and not self._is_written:
            self._write(snapshot.guests.keys())

    def _write(self, listed: Set[str]) -> None:
        """Write the notes. If that fails, mom reports the file, and the next cycle tries again."""
        for identity in [identity for identity in self._notes if identity not in listed][:-GONE_KEPT]:
            del self._notes[identity]
        with suppress(StateError):
            self._file.write(self._notes, durable=False)  # no guest outlives the host
            self._is_written = True

    def columns(self, guests: Sequence[Guest]) -> dict[str, Sequence[Value]]:
        """Return the column of sizes at the start, of guests that started with less than their maximum."""
        below = [started.size if (started := self.of(guest)) is not None and started.is_below else None for guest in guests]
        return {STARTED: below} if any(below) else {}

    def of(self, guest: Guest) -> StartedSize | None:
        """Return the size that the guest started with; None: unknown."""
        started = self._notes.get(guest.id)
        return started if started is not None and started.incarnation == guest.incarnation else None

    def kib_of(self, guest: Guest, maximum: float | None) -> float | None:
        """Return the promise `start` in KiB; None: unknown. Where memory was plugged in since, it is the same share of the new maximum.

        :param maximum: the guest's maximum now; None: unknown
        """
        started = self.of(guest)
        if started is None:
            return None
        if maximum is None or not started.maximum or maximum == started.maximum:
            return float(started.size)
        return min(maximum, max(float(started.size), started.size * (maximum / started.maximum)))

    def without_mom(self, guest: Guest, before: float) -> float:
        """Return the size that a guest would have now without mom: the size before, and memory that was plugged in since."""
        started, maximum = self.of(guest), guest.number("balloon_max")
        if maximum is None:
            return before
        plugged = 0.0
        if started is not None and started.maximum and started.had(before):
            plugged = max(0.0, maximum - started.maximum)
        return min(before + plugged, maximum)

    def plugged(self, guests: Mapping[str, Guest], sizes: Mapping[str, int], tolerance: float) -> Set[str]:
        """Return the ids of guests whose size has only moved with their maximum since mom set it: memory was plugged in or out.

        QEMU keeps the memory in the balloon then. These guests had all their memory before mom, or the size that they started with.

        :param sizes: present sizes in KiB by guest id
        :param tolerance: KiB by which sizes may be off
        """
        moved: set[str] = set()
        for identity, entry in self.changes().items():
            size, guest = sizes.get(identity), guests.get(identity)
            if size is None or size == entry.applied or guest is None or guest.incarnation != entry.incarnation:
                continue
            before, applied, maximum = as_number(entry.before), as_number(entry.applied), guest.number("balloon_max")
            if before is None or applied is None or maximum is None:
                continue
            started, old_maximum = self.of(guest), before
            if started is not None and started.is_below:
                if not started.had(before):
                    continue
                old_maximum = started.maximum
            if abs(maximum - old_maximum) >= tolerance and abs(applied + maximum - old_maximum - size) <= tolerance:
                moved.add(identity)
        return moved

    def before_mom(self) -> dict[tuple[str, str], float]:
        """Return the sizes before mom by the ledger: KiB by guest id and incarnation."""
        sizes = {(identity, entry.incarnation): as_number(entry.before) for identity, entry in self.changes().items()}
        return {key: size for key, size in sizes.items() if size is not None and size > 0}

    def changes(self) -> dict[str, LedgerEntry]:
        """Return the ledger's entries of guests' sizes by guest id."""
        return {entry.entity.id: entry for entry in self._context.engine_state().changes if entry.control == CONTROL}

    @cached_property
    def _notes(self) -> dict[str, StartedSize]:
        return {identity: StartedSize(*note) for identity, note in (self._file.read() or {}).items()}
