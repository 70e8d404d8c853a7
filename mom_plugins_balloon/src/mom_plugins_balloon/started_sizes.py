"""Sizes of guests at their start, for `guarantee: start`, kept across restarts of mom.

No interface reports this size. A guest boots with its maximum, until its driver has inflated the balloon. So before mom requests another
size, it waits for the first statistics and a resting balloon.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Final

from mom_core import Guest, LedgerEntry, PluginContext, Value, as_number
from mom_plugins_balloon.balloon_state import BalloonFile, StartedSize
from mom_plugins_balloon.ballooned_guests import BalloonedGuests
from mom_plugins_balloon.names import CONTROL, STARTED
from mom_plugins_balloon.sizes import TOLERANCE_KIB, BalloonSettling

GONE_KEPT: Final = 1000
"""Number of gone guests whose sizes mom keeps, because the hypervisor may answer again."""


class StartedSizes:
    """Sizes of guests at their start. If a size was not recorded, the ledger's original size counts."""

    def __init__(self, context: PluginContext, file: BalloonFile) -> None:
        self._context, self._file = context, file

    def see(self, records: BalloonedGuests) -> None:
        """Record sizes from the last snapshot, before mom requests others."""
        snapshot, guests, now = records.snapshot, records.snapshot.listed, records.snapshot.monotonic
        columns = map(snapshot.numbers, ("balloon_cur", "balloon_max", "stats_age"))
        undecided = [
            (guest, record, size, maximum, age)
            for guest, record, size, maximum, age in zip(guests, records.of_all(guests), *columns, strict=True)
            if (started := self.of(guest)) is None or (maximum != started.maximum and started.must_follow(size, maximum, age))
        ]
        if not undecided:
            return
        before = self.before_mom() if any(age is not None for *_, age in undecided) else {}  # mom never resizes a guest without statistics
        starts = dict(self._file.state.starts)
        for guest, record, size, maximum, age in undecided:
            of_ledger, started = before.get((guest.id, guest.incarnation)), self.of(guest)
            if started is None and of_ledger is None:
                settling = (record.settling or BalloonSettling(now)).after(now, maximum, age)
                records.put(guest.id, record._replace(settling=settling))
                if size is not None and size >= 1 and settling.is_over(now, record.sizes.rested_for(now)):
                    starts[guest.id] = StartedSize(guest.incarnation, int(size), int(maximum or 0))
            elif started is None:
                # mom has resized the guest before its balloon rested: memory may have been plugged in since.
                first_maximum = maximum if record.settling is None else record.settling.maximum or maximum
                starts[guest.id] = StartedSize(guest.incarnation, int(of_ledger or 0), int(first_maximum or 0))
            elif not started.maximum or of_ledger is None:  # otherwise the ledger's size belongs to the old maximum
                size_then = maximum if started.maximum else started.size
                starts[guest.id] = StartedSize(guest.incarnation, int(size_then or 0), int(maximum or 0))
        if starts != self._file.state.starts:
            for identity in [identity for identity in starts if identity not in snapshot.guests][:-GONE_KEPT]:
                del starts[identity]
            self._file.change(starts=starts)

    def columns(self, guests: Sequence[Guest]) -> dict[str, Sequence[Value]]:
        """Return guests' sizes at their start; None if unknown, or equal to the maximum."""
        return {STARTED: [started.size if (started := self.of(guest)) is not None and started.is_below else None for guest in guests]}

    def of(self, guest: Guest) -> StartedSize | None:
        """Return the guest's size at its start; None if unknown."""
        started = self._file.state.starts.get(guest.id)
        return started if started is not None and started.incarnation == guest.incarnation else None

    def kib_of(self, guest: Guest, maximum: float | None) -> float | None:
        """Return the promise `start` in KiB; None if unknown. After memory was plugged in, it is the same share of the new maximum."""
        started = self.of(guest)
        if started is None:
            return None
        if maximum is None or not started.maximum or maximum == started.maximum:
            return float(started.size)
        return min(maximum, max(float(started.size), started.size * (maximum / started.maximum)))

    def without_mom(self, guest: Guest, before: float) -> float:
        """Return the size that the guest would have without mom: its original size, plus memory plugged in since."""
        started, maximum = self.of(guest), guest.number("balloon_max")
        if maximum is None:
            return before
        plugged = 0.0
        if started is not None and started.maximum and started.had(before):
            plugged = max(0.0, maximum - started.maximum)
        return min(before + plugged, maximum)

    def plugged(self, guests: Mapping[str, Guest], sizes: Mapping[str, int]) -> Set[str]:
        """Return the IDs of guests whose size changed only because memory was plugged in or out."""
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
            if abs(maximum - old_maximum) >= TOLERANCE_KIB and abs(applied + maximum - old_maximum - size) <= TOLERANCE_KIB:
                moved.add(identity)
        return moved

    def before_mom(self) -> dict[tuple[str, str], float]:
        """Return the ledger's original sizes: KiB keyed by guest ID and incarnation."""
        sizes = {(identity, entry.incarnation): as_number(entry.before) for identity, entry in self.changes().items()}
        return {key: size for key, size in sizes.items() if size is not None and size > 0}

    def changes(self) -> dict[str, LedgerEntry]:
        """Return the ledger's entries keyed by guest ID."""
        return {entry.entity.id: entry for entry in self._context.engine_state().changes if entry.control == CONTROL}
