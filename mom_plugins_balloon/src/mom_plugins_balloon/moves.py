"""Guests that are about to be moved. mom sweeps them, so that QEMU does not send freed memory, and returns their memory.

A guest keeps its size when it moves. The new host might not know the original size, so mom restores it before the move. While a plugin
sets the field `give_back`, mom returns the guest's memory, and then keeps its size.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from mom_core import Decision, Entity, Guest, LedgerEntry, MomError, PluginContext, Snapshot, Source, as_number, format_kib, printable
from mom_kvm import GuestMoves
from mom_plugins_balloon.ballooned_guests import BalloonedGuests
from mom_plugins_balloon.gate import ShrinkLimits
from mom_plugins_balloon.law.need import headroom_returns
from mom_plugins_balloon.law.reasons import ReasonCode, sentence
from mom_plugins_balloon.law.share import sweep_of
from mom_plugins_balloon.memory import GuestMemory
from mom_plugins_balloon.names import CONTROL, GIVE_BACK
from mom_plugins_balloon.parameters import LawParameters
from mom_plugins_balloon.seen import host_memory
from mom_plugins_balloon.sizes import TOLERANCE_KIB
from mom_plugins_balloon.started_sizes import StartedSizes
from mom_plugins_balloon.states import HostWanted
from mom_plugins_balloon.sweep.sweeper import PlannedSweep

BACK_SECONDS: Final = 9.0
"""Time from the end of a sweep until the guest has its memory back. Headroom takes 6 s with repeated commands, memory 3 s more."""

SWEPT: Final = "it will be moved: a sweep reclaims memory that it has freed, and then returns its headroom"
GIVEN_BACK: Final = "it will be moved: mom returns the memory taken from it"
KEPT: Final = "it is being moved, or will be: it keeps its size"
NOTHING: Final = "it has too little freed memory for a sweep"
DROPPED: Final = "mom dropped the decision to sweep the guest: `mom explain` says why"


@dataclass(eq=False)
class _Preparation:
    # `until` is in seconds of `time.monotonic`.

    until: float
    returns: bool = False
    """Whether the guest gets memory back after its sweep."""
    size: int | None = None
    """Smallest size of the sweep; None until decided."""
    gain: float = 0.0
    swept: str = ""
    """Outcome of the sweep, or why mom did not sweep; empty while undecided."""
    returned: int | None = None
    problem: str = "the time was too short for the preparation"
    answer: str = ""
    over: threading.Event = field(default_factory=threading.Event)

    def end(self, answer: str = "") -> None:
        self.answer = "; ".join(filter(None, (self.swept, answer)))
        self.over.set()


@dataclass(eq=False)
class LeavingGuests:
    """Guests that are about to be moved. Implements `MovePreparation`."""

    context: PluginContext
    law: LawParameters
    host_wanted: HostWanted
    records: BalloonedGuests
    limits: Callable[[], ShrinkLimits]
    started: StartedSizes
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _requests: dict[str, _Preparation] = field(default_factory=dict)
    _decided: dict[str, _Preparation] = field(default_factory=dict)
    """Sweeps decided in this cycle, keyed by guest ID."""

    def prepare(self, guest: Entity, seconds: float) -> str:
        """Sweep a guest and give its memory back. Return the outcome in words."""
        if self.context.observes:
            raise MomError("mom only observes")
        request = _Preparation(time.monotonic() + seconds)
        with self._lock:
            if guest.id in self._requests:
                raise MomError("the guest's move is being prepared already")
            self._requests[guest.id] = request
        try:
            self.context.wake(f"guest {guest} will be moved")
            if not request.over.wait(seconds + BACK_SECONDS):
                request.end(request.problem)
        finally:
            with self._lock:
                del self._requests[guest.id]
        return request.answer

    def decisions(self, snapshot: Snapshot, source: Source) -> Iterator[Decision]:
        """Yield sizes for guests that are about to be moved, or must get their memory back."""
        with self._lock:
            requests = dict(self._requests)
        columns = zip(snapshot.listed, snapshot.column(GIVE_BACK), strict=True)
        changed = {guest.id: str(why) for guest, why in columns if why and guest.id not in requests and not guest.why_blocked(CONTROL)}
        reasons = {identity: f"{printable(why, 100)}: mom returns the memory taken from it" for identity, why in changed.items()}
        self._decided = {}
        for identity, request in requests.items():
            guest = snapshot.guests.get(identity)
            if guest is None:
                request.end("the guest no longer exists")
            elif not request.swept and self._is_swept_now(identity):
                continue
            elif why := guest.why_blocked(CONTROL):
                request.end(why)
            elif request.swept or self._decide_sweep(snapshot, guest, request):
                reasons |= {identity: GIVEN_BACK} if request.returns else {}
                if not request.returns:
                    request.end()
            else:
                self._decided[identity] = request
                yield Decision(guest.entity, CONTROL, request.size, SWEPT, source)
        if reasons:
            yield from self._given_back(snapshot, reasons, requests, source)

    def _is_swept_now(self, identity: str) -> bool:
        record = self.records.of(identity)
        return record is not None and record.request is not None and record.request.sweeps

    def _decide_sweep(self, snapshot: Snapshot, guest: Guest, request: _Preparation) -> str:
        # Returns why the guest is not swept; empty if it is.
        if request.size is not None:
            request.swept = DROPPED
            return DROPPED
        request.returns = self._size_before(guest.id) is not None
        if (host := host_memory(snapshot, self.host_wanted, max(0.0, request.until - time.monotonic()))) is None:
            request.swept = sentence(ReasonCode.HOST_UNKNOWN, guest, snapshot.host)
        else:
            memory = self.records.memory_of(guest.id) or GuestMemory()
            suggestion = sweep_of(host, memory._replace(pause=""), self.law, self.limits())
            code = suggestion.code
            if suggestion.target is None or suggestion.gain is None:
                request.swept = NOTHING if code is ReasonCode.NOTHING_TO_GIVE else sentence(code, guest, snapshot.host)
            else:
                request.size, request.gain = int(suggestion.target), suggestion.gain
        return request.swept

    def _given_back(
        self, snapshot: Snapshot, reasons: Mapping[str, str], requests: Mapping[str, _Preparation], source: Source
    ) -> Iterator[Decision]:
        entries, host = self.started.changes(), host_memory(snapshot, self.host_wanted, self.context.interval)
        has_room = host is not None and headroom_returns(host)
        for identity, reason in reasons.items():
            before, request = self._size_before(identity, entries), requests.get(identity)
            if before is not None and has_room:
                if request is not None:
                    request.returned = before
                yield Decision(snapshot.guests[identity].entity, CONTROL, before, reason, source)
            elif request is not None and before is not None:
                request.end(f"it keeps its size: the host may lack memory for its original size of {format_kib(before)}")
            elif request is not None:
                request.end("" if request.returned is None else f"it has {format_kib(request.returned)} again")

    def _size_before(self, identity: str, entries: Mapping[str, LedgerEntry] | None = None) -> int | None:
        entry = (self.started.changes() if entries is None else entries).get(identity)
        guest, record = self.records.snapshot.guests.get(identity), self.records.of(identity)
        size = None if guest is None else guest.number("balloon_cur")
        before = None if entry is None else as_number(entry.before)
        if guest is None or size is None or entry is None or before is None or entry.incarnation != guest.incarnation:
            return None
        pending = None if record is None else record.pending  # on its way to mom's target, the guest may have any size
        sizes = {guest.id: int(size)}
        if pending is None and not entry.explains(int(size), TOLERANCE_KIB) and not self.started.plugged({guest.id: guest}, sizes):
            return None
        before = self.started.without_mom(guest, before)
        return int(before) if before > (size if pending is None else pending) + TOLERANCE_KIB else None

    def moving(self, snapshot: Snapshot) -> Mapping[str, str]:
        """Return why moving guests must not shrink, keyed by guest ID."""
        reasons = dict[str, str]()
        if (moves := self.context.service(GuestMoves)) is not None:
            for guest in snapshot.guests.values():
                if moves.is_moving(guest):
                    reasons[guest.id] = KEPT
        for guest, why in zip(snapshot.listed, snapshot.column(GIVE_BACK), strict=True):
            if why and isinstance(why, str):
                reasons[guest.id] = f"{printable(why, 100)}: it keeps its size"
        return reasons

    def planned_sweep(self, identity: str) -> PlannedSweep | None:
        """Return the sweep before the guest's move; None unless decided in this cycle."""
        request = self._decided.get(identity)
        if request is None or request.size is None:
            return None
        within = max(0.0, request.until - time.monotonic())
        return PlannedSweep(request.size, request.gain, within, lambda outcome: self._swept(request, str(outcome)))

    def _swept(self, request: _Preparation, outcome: str) -> None:
        request.swept = outcome
        if request.returns:
            self.context.wake("a guest that will be moved was swept")
        else:
            request.end()

    def failed(self, identity: str, why: str, *, later: bool) -> None:
        """Record that a guest's resize failed.

        :param later: whether the sweep only waits for other sweeps
        """
        request = self._requests.get(identity)
        if request is not None:
            request.problem = why
            if identity in self._decided:
                request.size, request.swept = None, "" if later else why
