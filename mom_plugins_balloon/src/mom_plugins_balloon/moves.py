"""Guests that are to be moved: swept before, so that what they have freed is not sent, and given back what mom took from them.

A sweep leaves nothing where it took: QEMU sends such a page as nine bytes, also when the guest has the room again. And a guest goes to its
new host with the size that its balloon leaves it, where nobody may know what it had before mom: it gets that back here, as headroom that is
not touched costs neither host anything.

A plugin that knows that a guest is about to leave, or is being changed by its platform, says so in a field (`give_back`): such a guest gets
back what was taken, and keeps that, until the field says nothing any more.

The call that prepares a guest comes in a thread of its own, and waits. What is done to the guest is decided in the next cycles, as all that
is done to guests: it is reviewed, noted in the ledger, and stands in the report.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from mom_core import Decision, Entity, Guest, LedgerEntry, MomError, PluginContext, Snapshot, Source, as_number, format_kib, printable
from mom_kvm import GuestMoves
from mom_plugins_balloon.ballooned_guests import CONTROL, BalloonedGuests
from mom_plugins_balloon.gate import ShrinkLimits
from mom_plugins_balloon.law import headroom_returns, sweep_of
from mom_plugins_balloon.law.reasons import ReasonCode, sentence
from mom_plugins_balloon.names import GIVE_BACK
from mom_plugins_balloon.parameters import LawParameters
from mom_plugins_balloon.seen import guest_memories, host_memory
from mom_plugins_balloon.started_sizes import StartedSizes
from mom_plugins_balloon.states import HostWanted
from mom_plugins_balloon.sweep.swept_guests import LeavingSweep

END_SECONDS: Final = 6.0
"""s. From when a sweep's time is over until the guest has its headroom back: its last slice, and commands that fail and are tried again."""

BACK_SECONDS: Final = 3.0
"""s. For so long the cycle is waited for at least in which a guest gets back what was taken from it."""

AGAIN_SECONDS: Final = 0.5
"""s. After which a sweep is asked for again that has to wait for others."""

SWEPT: Final = "it is to be moved: what it has used and freed is taken, and it gets its headroom back in a moment"
GIVEN_BACK: Final = "it is to be moved: it gets back what was taken from it"
KEPT: Final = "it is to be moved, or is: it keeps its size"
DROPPED: Final = "that was not followed: `mom explain` says why"


@dataclass(eq=False)
class _Wish:
    """What is wanted of one guest by then (seconds of `time.monotonic`): a sweep, or the size that it had before mom.

    `size` is the one that was decided (None: none yet), and `gain` what the host is to get by a sweep to that.
    """

    until: float
    sweep: bool
    size: int | None = None
    gain: float = 0.0
    begun: bool = False
    said: str = ""
    later: bool = False
    """It has to wait for other sweeps, and may be asked for again."""
    _over: threading.Event = field(default_factory=threading.Event)

    def answer(self, said: str, *, later: bool = False) -> None:
        """Say what came of it. The first answer counts."""
        if not self._over.is_set():
            self.said, self.later = said, later
            self._over.set()

    def wait(self) -> bool:
        """True if it is answered in time."""
        return self._over.wait(max(0.0, self.until + (END_SECONDS if self.sweep else 0.0) - time.monotonic()))


@dataclass(eq=False)
class LeavingGuests:
    """The balloon plugin's `MovePreparation`."""

    context: PluginContext
    law: LawParameters
    wanted: HostWanted
    records: BalloonedGuests
    limits: Callable[[], ShrinkLimits]
    """Gives what the operator allows."""
    started: StartedSizes
    """Knows what guests would have without mom."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _wishes: dict[str, _Wish] = field(default_factory=dict)
    _decided: dict[str, _Wish] = field(default_factory=dict)
    """Those of which was decided in this cycle, by guest id."""

    # --- MovePreparation -----------------------------------------------------------------------------------------------------------------

    def prepare(self, guest: Entity, seconds: float) -> str:
        """Sweep it, and give back what was taken from it."""
        if self.context.observes:
            raise MomError("mom only observes")
        until, smaller = time.monotonic() + seconds, self._before(guest.id, self.started.changes())
        wish = self._asked(guest, _Wish(until, sweep=True))
        while wish.later and time.monotonic() + AGAIN_SECONDS < until:
            time.sleep(AGAIN_SECONDS)
            wish = self._asked(guest, _Wish(until, sweep=True))
        if smaller is None and (wish.begun or self._before(guest.id, self.started.changes()) is None):
            return wish.said
        back = self._asked(guest, _Wish(max(until, time.monotonic() + BACK_SECONDS), sweep=False))
        return f"{wish.said}; {back.said}"

    def _asked(self, guest: Entity, wish: _Wish) -> _Wish:
        """Have that decided in the next cycle, and wait for what comes of it."""
        with self._lock:
            if guest.id in self._wishes:
                raise MomError("it is being prepared already")
            self._wishes[guest.id] = wish
        try:
            self.context.wake(f"guest {guest} is to be moved")
            if not wish.wait():
                wish.answer("there was no time for it")
        finally:
            with self._lock:
                del self._wishes[guest.id]
        return wish

    # --- in each cycle -------------------------------------------------------------------------------------------------------------------

    def decisions(self, snapshot: Snapshot, source: Source) -> Iterator[Decision]:
        """What is to be done to guests that are to be moved."""
        with self._lock:
            wishes = dict(self._wishes)
        self._decided = {}
        changed = [(one, why) for one, why in zip(snapshot.listed, snapshot.column(GIVE_BACK), strict=True) if isinstance(why, str) and why]
        entries = self.started.changes() if changed and self._has_room(snapshot) else {}
        for one, why in changed:
            before = None if one.id in wishes or one.why_blocked(CONTROL) else self._before(one.id, entries)
            if before is not None:
                yield Decision(one.entity, CONTROL, before, f"{printable(why, 100)}: it gets back what was taken from it", source)
        for identity, wish in wishes.items():
            guest = snapshot.guests.get(identity)
            if guest is None:
                wish.answer("it is not there any more")
            elif wish.size is not None:
                if not wish.begun:
                    wish.answer(DROPPED)
            elif why := guest.why_blocked(CONTROL):
                wish.answer(why)
            else:
                wish.size = self._swept_size(snapshot, guest, wish) if wish.sweep else self._size_before(snapshot, guest, wish)
                if wish.size is not None:
                    self._decided[identity] = wish
                    yield Decision(guest.entity, CONTROL, wish.size, SWEPT if wish.sweep else GIVEN_BACK, source)

    def _swept_size(self, snapshot: Snapshot, guest: Guest, wish: _Wish) -> int | None:
        """The size down to which it is swept; None: it is not, and it was said why."""
        host = host_memory(snapshot, self.wanted, max(0.0, wish.until - time.monotonic()))
        if host is None:
            wish.answer(sentence(ReasonCode.HOST_UNKNOWN, guest, snapshot.host))
            return None
        one = guest_memories(snapshot)[next(place for place, there in enumerate(snapshot.listed) if there.id == guest.id)]
        found = sweep_of(host, one, self.law, self.limits())
        if found.target is None or found.gain is None:
            nothing = "it has nothing now that is worth a sweep"
            wish.answer(nothing if found.code is ReasonCode.NOTHING_TO_GIVE else sentence(found.code, guest, snapshot.host))
            return None
        wish.gain = found.gain
        return int(found.target)

    def _size_before(self, snapshot: Snapshot, guest: Guest, wish: _Wish) -> int | None:
        """The size that it had before mom, where the host lets it have that; None: it keeps the one that it has, and it was said why."""
        before = self._before(guest.id, self.started.changes())
        if before is None:
            wish.answer("nothing is taken from it")
        elif not self._has_room(snapshot):
            wish.answer(f"it keeps its size, as the host is not known to have enough for the {format_kib(before)} that it had before mom")
        else:
            return before
        return None

    def _has_room(self, snapshot: Snapshot) -> bool:
        """Whether the host has enough for guests to get back what was taken from them."""
        host = host_memory(snapshot, self.wanted, self.context.interval)
        return host is not None and headroom_returns(host, self.law)

    def _before(self, identity: str, entries: Mapping[str, LedgerEntry]) -> int | None:
        """The size that a guest had before mom, where mom has made it smaller; None: it has that, or more, or what it has is not mom's.

        :param entries: what the ledger has of guests' sizes, by guest id
        """
        guest, record, entry = self.records.snapshot.guests.get(identity), self.records.of(identity), entries.get(identity)
        size = None if guest is None else guest.number("balloon_cur")
        before = None if entry is None else as_number(entry.before)
        if guest is None or size is None or entry is None or before is None:
            return None
        pending = None if record is None else record.pending  # on its way to what mom asked for, it may have any size
        tolerance, sizes = self.records.tolerance, {guest.id: int(size)}
        moms = pending is not None or entry.explains(int(size), tolerance) or self.started.plugged({guest.id: guest}, sizes, tolerance)
        if entry.incarnation != guest.incarnation or not moms:
            return None
        before = self.started.without_mom(guest, before)
        return int(before) if before > (size if pending is None else pending) + tolerance else None

    # --- what is done --------------------------------------------------------------------------------------------------------------------

    def why_kept(self, guest: Guest, target: int) -> str:
        """Why a guest is not to be shrunk to that size, as it is being moved; empty: it may be."""
        if self._sweep_to(guest.id, target) is not None:
            return ""
        if why := guest.text(GIVE_BACK):
            return f"{printable(why, 100)}: it keeps its size"
        moves = self.context.service(GuestMoves)
        progress = None if moves is None else moves.progress(guest)
        return KEPT if progress is not None and progress.moving else ""

    def _sweep_to(self, identity: str, target: int) -> _Wish | None:
        """The wish for a sweep that goes as far as that size at least. A reviewer may have made it end sooner."""
        wish = self._decided.get(identity)
        return wish if wish is not None and wish.sweep and target >= (wish.size or 0) else None

    def sweeps(self, identity: str, target: int) -> bool:
        """True if a guest that is to go down to that size is swept because it is to be moved."""
        return self._sweep_to(identity, target) is not None

    def sweep(self, identity: str, target: int) -> LeavingSweep | None:
        """How a guest is swept that is to go down to that size; None where it is not swept because it is to be moved."""
        wish = self._sweep_to(identity, target)
        if wish is None:
            return None
        wish.begun = True
        gain, within = max(0.0, wish.gain - (target - (wish.size or 0))), max(0.0, wish.until - time.monotonic())
        return LeavingSweep(gain, within, lambda outcome: wish.answer(str(outcome)))

    def asked(self, identity: str, target: int) -> None:
        """A guest was asked for a size."""
        wish = self._decided.get(identity)
        if wish is not None and not wish.sweep and target >= (wish.size or 0):
            wish.answer(f"it has {format_kib(target)} again")

    def failed(self, identity: str, why: str, *, later: bool) -> None:
        """A guest could not be asked for a size, or has to wait for that."""
        wish = self._decided.get(identity)
        if wish is not None:
            wish.answer(why, later=wish.sweep and later)
