"""Access to guests' sizes through the hypervisor: read, set, stop, restore."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from mom_core import (
    Change,
    ControlSpec,
    Decision,
    Guest,
    GuestGone,
    Hypervisor,
    HypervisorError,
    NoChangeNeeded,
    PermissionDenied,
    PluginContext,
    Refused,
    Snapshot,
    Source,
    Target,
    Value,
    as_number,
    format_kib,
)
from mom_kvm import capable
from mom_plugins_balloon import cloudstack
from mom_plugins_balloon.balloon_state import BalloonFile, UnfinishedRequest
from mom_plugins_balloon.ballooned_guests import BalloonedGuests
from mom_plugins_balloon.gate import Limit, ShrinkLimits, gate, never_shrunk, permitted
from mom_plugins_balloon.memory import GuestMemory
from mom_plugins_balloon.moves import LeavingGuests
from mom_plugins_balloon.names import CONTROL, PINNED
from mom_plugins_balloon.remembered import Remembered
from mom_plugins_balloon.sizes import DEAD_BAND_KIB, TOLERANCE_KIB, BalloonControl, SizeRequest
from mom_plugins_balloon.started_sizes import StartedSizes
from mom_plugins_balloon.sweep.sweeper import PlannedSweep, SweptGuests

_REBOOTED: Final = "it has rebooted: it gets its original size until its programs have started"


def restored_size(had: int, size: float | None, memory: GuestMemory | None, limits: ShrinkLimits) -> tuple[int, str]:
    """Return the size for a restore, and a note for the operator.

    The size is the original, or more if the gate permits no less. Raises `Refused` or `NoChangeNeeded` if the guest keeps its size.

    :param had: original size
    :param size: present size; None if unknown, or during a sweep
    :param memory: guest's memory without temporary obstacles; None if unknown
    """
    kept = "" if size is None else f"it keeps its {format_kib(size)}, more than its original size"
    if memory is None:
        if size is not None and had < size:
            raise NoChangeNeeded(f"{kept}: its use is unknown")
        return had, ""
    passed = gate(had, memory._replace(size=size), limits)
    why = "" if passed.limit is None else passed.limit.words(memory, limits)
    if passed.size is None:
        # A guest without statistics will not report later.
        later = passed.limit is not Limit.NOTHING_TO_SPARE and None not in {memory.statistics.usable, memory.statistics.age}
        raise Refused(f"{kept}: {why}") if later else NoChangeNeeded(f"{kept}: {why}")
    return passed.size, f"mom requested {format_kib(passed.size)}, not the original {format_kib(had)}: {why}" if why else ""


@dataclass(eq=False)
class Resizer:
    """Reader and writer of the control `balloon_target`."""

    context: PluginContext
    guests: BalloonedGuests
    file: BalloonFile
    sweeps: SweptGuests
    leaving: LeavingGuests
    started: StartedSizes
    limits: Callable[[], ShrinkLimits]
    see: Callable[[Snapshot], None]

    def read(self, hypervisor: Hypervisor, targets: Sequence[Target]) -> Mapping[Target, Value | ControlSpec.InTransition]:
        """Return guests' sizes. Sizes on the way to mom's target count as set by mom."""
        sizes = capable(hypervisor, BalloonControl, "resize guests").balloon_sizes([target.entity for target in targets])
        self.see_at_restore(hypervisor)
        plugged = self.started.plugged(self.guests.snapshot.guests, sizes)
        read: dict[Target, Value | ControlSpec.InTransition] = {}
        for target in targets:
            identity = target.entity.id
            if (size := sizes.get(identity)) is not None:
                read[target] = ControlSpec.InTransition(size) if identity in plugged else self._as_asked(identity, size)
        return read

    def _as_asked(self, identity: str, size: int) -> int | ControlSpec.InTransition:
        past, note = self.guests.of(identity), self.file.state.requests.get(identity)
        before = None if note is None else SizeRequest(note.target, note.before, 0.0)
        request = before if past is None else past.request
        if request is None or request.arrived:
            return size
        low, high = sorted((request.began_at, request.target))
        return ControlSpec.InTransition(size) if low - TOLERANCE_KIB <= size <= high + TOLERANCE_KIB else size

    def see_at_restore(self, hypervisor: Hypervisor) -> None:
        """Record the hypervisor's fields for `mom restore`. Without them, mom shrinks no guest."""
        if self.guests.snapshot.guests or not isinstance(hypervisor, cloudstack.GuestFields):
            return
        try:
            guests = hypervisor.guests()
            fields, now = hypervisor.fields(guests), self.context.monotonic()
            self.see(Snapshot(guests={guest.id: replace(guest, fields=fields.get(guest.id, {})) for guest in guests}, monotonic=now))
        except Exception as error:  # noqa: BLE001  # without these fields, mom still restores all guests
            self.context.log.warning("the memory that guests use is unknown, so mom shrinks no guest: %s", error)

    def write(self, hypervisor: Hypervisor, changes: Sequence[Change]) -> Mapping[Target, HypervisorError | str]:
        """Request each guest's size. Return errors and notes."""
        balloons = capable(hypervisor, BalloonControl, "resize guests")
        if all(change.back for change in changes):
            self.see_at_restore(hypervisor)
        else:
            self.note_requests({change.entity.id: note for change in changes if (note := self._shrink_of(change)) is not None})
        results = {change.target: result for change in changes if (result := self._result_of(balloons, change))}
        if results:  # some requests failed
            self.note_requests()
        return results

    def _result_of(self, hypervisor: BalloonControl, change: Change) -> HypervisorError | str:
        identity = change.entity.id
        try:
            return self._restore(hypervisor, change) if change.back else self._ask(hypervisor, change)
        except HypervisorError as failure:
            error = failure
        except Exception as failure:  # noqa: BLE001  # any error for one guest: mom still resizes the others
            error = HypervisorError(f"{type(failure).__name__}: {failure}")
        if isinstance(error, GuestGone):
            self.guests.forget_request(identity)
        self.leaving.failed(identity, str(error), later=isinstance(error, NoChangeNeeded))
        return error

    def _shrink_of(self, change: Change) -> UnfinishedRequest | None:
        guest, size, target = self.guests.snapshot.guests.get(change.entity.id), as_number(change.found), change.value
        if guest is None or size is None or not isinstance(target, int) or not 0 < target < size:
            return None
        return UnfinishedRequest(guest.incarnation, int(size), target, not change.back and self._sweep_to(guest, target) is not None)

    def _sweep_to(self, guest: Guest, target: int) -> PlannedSweep | None:
        plans = self.leaving.planned_sweep(guest.id), PlannedSweep.of_law(guest)
        return next((planned for planned in plans if planned is not None and target >= planned.bottom), None)

    def permitting(self, identity: str, target: Value) -> GuestMemory | None:
        """Return the guest's memory for the gate; None if unknown. For a sweep before the guest's move, `pause` is empty."""
        memory = self.guests.memory_of(identity)
        if memory is None or not memory.pause or (planned := self.leaving.planned_sweep(identity)) is None:
            return memory
        return memory._replace(pause="") if isinstance(target, int) and target >= planned.bottom else memory

    def _ask(self, hypervisor: BalloonControl, change: Change) -> str:
        # Another plugin may have revised the size since the review, so the gate checks it again.
        guest, now = self.guests.snapshot.guests.get(change.entity.id), self.guests.snapshot.monotonic
        memory, past = self.permitting(change.entity.id, change.value), self.guests.of(change.entity.id)
        if guest is None or memory is None or past is None:
            raise Refused("the guest's present size is unknown")
        passed = permitted(change.value, memory, self.limits())
        target = passed.size
        if target is None or target != change.value:
            raise Refused(passed.reason)
        if why := past.why_not_send(target, memory, now):
            raise NoChangeNeeded(why)
        size = memory.size or 0.0
        request = SizeRequest(target, size, now, source=str(change.source))
        if target < size and (planned := self._sweep_to(guest, target)) is not None:
            if not self.file.is_written:
                raise Refused("mom cannot record the sweep for recovery after a crash")
            swept = self.sweeps.begin(hypervisor, guest, past, memory, target, planned)
            ended = None if swept is None else replace(request, target=swept.plan.size, began_at=swept.lowest)
            self.guests.asked(guest, ended or replace(request, sweeps=True))
        else:
            self._resize(hypervisor, guest, request)
        return ""

    def _resize(self, hypervisor: BalloonControl, guest: Guest, request: SizeRequest) -> None:
        self.sweeps.take_over(guest.id)
        try:
            hypervisor.set_balloon(guest.entity, request.target)
        except Exception as error:
            # After a timeout or a lost connection, the guest may shrink all the same.
            if request.target < request.began_at and not isinstance(error, Refused | PermissionDenied | GuestGone | NoChangeNeeded):
                self.guests.asked(guest, replace(request, answered=False))
            raise
        self.guests.asked(guest, request)

    def _restore(self, hypervisor: BalloonControl, change: Change) -> str:
        identity, before = change.entity.id, as_number(change.value)
        if before is None or before <= 0:
            raise Refused(f"{change.value!r:.40} is not a possible original size of a guest")
        guest, memory = self.guests.snapshot.guests.get(identity), self.guests.memory_of(identity)
        had = int(before if guest is None else self.started.without_mom(guest, before))
        was_swept = self.sweeps.take_over(identity)
        size = None if was_swept else as_number(change.found)
        if memory is not None and guest is not None:
            # The statistics are older now. Temporary obstacles do not prevent a restore, nor does a limit of the guest's control group: the
            # group held the original size.
            age, passed = memory.statistics.age, self.context.monotonic() - self.guests.snapshot.monotonic
            statistics = memory.statistics._replace(age=None if age is None else age + passed)
            maximum = guest.number("balloon_max")
            memory = memory._replace(
                statistics=statistics,
                maximum=math.inf if maximum is None else maximum,
                target_age=None,
                on_its_way=False,
                obstacle="",
                pause="",
                origin_unknown="",
            )
        try:
            restored, note = restored_size(had, size, memory, self.limits())
        except NoChangeNeeded:
            self.guests.forget_request(identity)
            raise
        hypervisor.set_balloon(change.entity, restored)
        self.guests.forget_request(identity)
        plugged = had > before and not note
        return f"memory was plugged into the guest after mom resized it: mom requested {format_kib(had)}" if plugged else note

    def note_requests(self, asked: Mapping[str, UnfinishedRequest] = MappingProxyType({})) -> None:
        """Write the running shrinks and sweeps for the next run of mom, if changed.

        :param asked: requests about to be sent, keyed by guest ID
        """
        guests, before = self.guests.snapshot.listed, self.file.state.requests
        if not self.context.serves or not guests:
            return
        notes = {identity: note for identity, note in before.items() if self._is_missing(identity, note.incarnation)}
        for guest, past in zip(guests, self.guests.of_all(guests), strict=True):
            request = past.request
            if request is not None and not request.arrived and 0 < request.target < request.began_at:
                notes[guest.id] = UnfinishedRequest(guest.incarnation, int(request.began_at), request.target, request.sweeps)
        for identity, note in asked.items():
            earlier = notes.get(identity, note)  # if the new request fails, the earlier one holds
            notes[identity] = note._replace(before=max(earlier.before, note.before), sweeps=earlier.sweeps or note.sweeps)
        if notes != before or not self.file.is_written:
            self.file.change(requests=notes)
            self.file.save()

    def _is_missing(self, identity: str, incarnation: str) -> bool:
        past = self.guests.of(identity)
        expected = identity in self.guests.asked_before if past is None else past.incarnation == incarnation
        return expected and identity not in self.guests.snapshot.guests

    def stopped_shrinks(self, holds: Mapping[str, int], source: Source) -> Iterator[Decision]:
        """Yield a new size for each guest whose shrink must stop, whose sweep was interrupted, or whose target is too low now.

        :param holds: guarantees in KiB keyed by guest ID
        """
        snapshot, limits, before_mom = self.guests.snapshot, self.limits(), functools.cache(self.started.before_mom)  # few cycles need it
        guests, numbers = snapshot.listed, map(snapshot.numbers, (CONTROL, "balloon_cur", "balloon_max"))
        unreported = self.sweeps.unreported()
        for guest, past, target, size, maximum in zip(guests, self.guests.of_all(guests), *numbers, strict=True):
            if size is None or guest.why_blocked(CONTROL):
                continue
            request, guarantee = past.request, holds.get(guest.id, 0)
            if maximum is not None and self.guests.boots_again(past) and (before := before_mom().get((guest.id, guest.incarnation))):
                had = int(self.started.without_mom(snapshot.guests[guest.id], before))
                if had > (target or size):
                    yield Decision(guest.entity, CONTROL, had, _REBOOTED, source)
                    continue
            if request is not None and request.sweeps:
                if guest.id not in unreported:
                    yield from self._after_cut_off(guest, past, request, size, source)
                elif request.target < guarantee:  # the guarantee has grown since
                    self.sweeps.stop(guest.id)
                continue
            if target is None:
                continue
            pinned = guest.properties.get(PINNED)
            if pinned and maximum is not None and target < maximum:
                yield Decision(guest.entity, CONTROL, int(maximum), f"{pinned}; mom returns the memory taken from it", source)
            elif target < guarantee and (size < guarantee or past.pending is not None):
                # The guarantee has grown: by a new promise, a larger maximum, or because other guests have left. If an arrived guest has
                # more than its guarantee, another process resized it.
                reason = f"its guarantee is {format_kib(guarantee)} now; mom returns memory up to this size"
                yield Decision(guest.entity, CONTROL, guarantee, reason, source)
            elif size - target >= DEAD_BAND_KIB and (request is None or not request.arrived):  # else another process did it
                memory = self.guests.memory_of(guest.id)
                limit = None if memory is None else never_shrunk(memory, limits)
                if memory is not None and limit is not None:
                    reason = f"{limit.words(memory, limits)}; the shrink in progress is stopped"
                    yield Decision(guest.entity, CONTROL, math.ceil(size), reason, source)

    def _after_cut_off(self, guest: Guest, past: Remembered, request: SizeRequest, size: float, source: Source) -> Iterator[Decision]:
        # Libvirt and QEMU round sizes.
        if request.target - TOLERANCE_KIB <= size <= request.began_at - DEAD_BAND_KIB:
            why = "mom was interrupted while it swept the guest: the guest gets its headroom back"
            yield Decision(guest.entity, CONTROL, int(request.began_at), why, source)
        else:  # the request must not explain later sizes of the guest
            self.guests.put(guest.id, past._replace(request=None))
