"""What is remembered of each guest, as long as this incarnation of it is there: the state of the plugin.

Sizes are KiB, moments monotonic seconds; None: unknown, or there was nothing of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NamedTuple

from mom_core import Guest, Snapshot, Value
from mom_plugins_balloon.cooperation import COOPERATIVE, Cooperation
from mom_plugins_balloon.learned import SAME_STATISTICS_SECONDS, Learned
from mom_plugins_balloon.memory import GuestMemory
from mom_plugins_balloon.names import OBSTACLE, RESTS, START_REST
from mom_plugins_balloon.remembered import CLOCK_SLACK_SECONDS, SAME_SIZE_KIB, SETTLES_SECONDS, BalloonSettling, SizeRequest
from mom_plugins_balloon.seen import guest_memories
from mom_plugins_balloon.sweep.history import SweepHistory

CONTROL = "balloon_target"

PINNED = "pinned"
"""The property of a guest that says why the host gains nothing from shrinking it, where it gains nothing."""

UNHEARD = "what its class promises is not known yet"
NEW = "it was started a moment ago, and its programs may not have begun yet"
GAVE = "the guest has given by these very statistics: what it can spare now is not known yet"
START_UNKNOWN = "what the guest was started with is promised to it, and not known yet"

ASKED_AGAIN_SECONDS = 30.0
"""s. After this time a guest that has not arrived is asked again. At 0.86 GiB/s, which a virtio balloon moves, 30 s are 26 GiB."""

BOOT_FACTOR = 3.0
"""Ratio. A guest that has come is new for so much longer than one that was there: it may boot for minutes before it tells anything, and one
that has run for longer is only listed again."""

SIZES_SECONDS = 120.0
"""s. For so long sizes are remembered. Statistics that are older are not believed anyway."""

LISTS_UNTIL_GONE = 3
"""A guest that is missing from fewer lists has not gone: one of several hypervisors may have been silent."""


@dataclass(slots=True)
class BalloonedGuest:
    """One incarnation of a guest: whether mom has seen it come, and when it was started then; from when on it is no longer new; whether its
    balloon still fills after its start, when its kernel was started again since, what was asked of it, whether its size is mom's, the sizes
    that it had (with since when), the maximum that was seen last, whether it gives, what it has taught, the history of its sweeps, and how
    many lists have lacked it since it was listed."""

    incarnation: str
    came: bool = False
    came_at: float = math.inf
    old_at: float = -math.inf
    settling: BalloonSettling | None = None
    rebooted_at: float = -math.inf
    request: SizeRequest | None = None
    resized: bool = False
    sizes: list[tuple[float, float]] = field(default_factory=list)
    maximum: float | None = None
    cooperation: Cooperation = COOPERATIVE
    learned: Learned | None = None
    sweeps: SweepHistory = field(default_factory=SweepHistory)
    lists_without: int = 0

    def start_rest(self, seconds: float, now: float) -> float:
        """For how long it gives nothing still, as it was just started; 0: it may give.

        :param seconds: for how long after its first statistics
        """
        told = now if self.learned is None else max(self.learned.first_report, self.rebooted_at)
        return max(0.0, min(self.old_at, told + seconds) - now)

    def see_reboot(self, at: float, now: float, seconds: float) -> None:
        """It was seen to reboot at that moment: it is new once more."""
        if self.rebooted_at + CLOCK_SLACK_SECONDS < at and at + seconds > now:
            self.rebooted_at, self.old_at, self.came = at, at + seconds, True

    # --- what was asked ------------------------------------------------------------------------------------------------------------

    @property
    def pending(self) -> int | None:
        """The size that the guest is still on its way to."""
        return None if self.request is None or self.request.arrived else self.request.target

    def gave_by(self, said: float) -> bool:
        """True if the guest was made smaller by the very statistics that were made at `said`: they promise too much by that."""
        one = self.request
        return one is not None and one.said is not None and one.target < one.began_at and abs(said - one.said) < SAME_STATISTICS_SECONDS

    def why_not_send(self, target: int, memory: GuestMemory, now: float, dead_band: float) -> str:
        """Why asking for `target` KiB is not worth a command; empty when it is.

        A guest that has arrived is compared by its size, one that is on its way by where it is going. The very maximum is always worth
        a command: a guest that gets back everything should have everything. So is every KiB below the guarantee.
        """
        request, size = self.request, memory.size
        if request is not None and not request.arrived:
            heading, why = float(request.target), "the guest is on its way there"
            worth = request.in_doubt or abs(target - request.target) >= dead_band or now - request.asked > ASKED_AGAIN_SECONDS
        else:
            heading, why = size or 0.0, "the guest has this size" if target == size else "the change is smaller than the dead band"
            worth = target != size and (target == memory.maximum or abs(target - (size or 0.0)) >= dead_band)
        return "" if worth or heading < memory.guarantee <= target else why

    # --- its sizes -----------------------------------------------------------------------------------------------------------------

    def why_unsettled(self, size: float | None, maximum: float | None, now: float) -> str:
        """Why it is not known yet what a guest had before mom touched its size; empty when it is.

        A mom that was stopped has asked guests for what they had, and large balloons take seconds to empty: what stands there meanwhile
        would be put back at the end.
        """
        if self.resized or size is None or (maximum is not None and size > maximum - SAME_SIZE_KIB):
            return ""
        rests = SETTLES_SECONDS - (now - self.sizes[-1][0]) if self.sizes else SETTLES_SECONDS
        return f"its balloon may be moving still: what the guest had before mom is known in {rests:.1f} s" if rests > 0 else ""

    def note_size(self, size: float, now: float) -> None:
        """Remember its size. One that stays the same is kept once."""
        sizes = self.sizes
        if not sizes or sizes[-1][1] != size:
            sizes.append((now, size))
            while len(sizes) > 2 and sizes[1][0] < now - SIZES_SECONDS:
                del sizes[0]

    def most_since(self, moment: float, now: float) -> float | None:
        """The most that the guest may have had since that moment: on its way to a larger size, it may be there before it is seen."""
        request, largest = self.request, self.largest_since(moment)
        if request is None or request.arrived or largest is None or now - request.asked > ASKED_AGAIN_SECONDS:
            return largest
        return max(largest, float(request.target))

    def largest_since(self, moment: float) -> float | None:
        """The largest size that was seen of the guest since that moment. It had each until just before the next was seen."""
        largest: float | None = None
        for since, size in reversed(self.sizes):
            largest = size if largest is None else max(largest, size)
            if since <= moment:
                break
        return largest

    def note_maximum(self, maximum: float) -> None:
        """Count memory that is plugged in as kernel's own until the kernel takes it into use, which some never do by themselves."""
        before, self.maximum = self.maximum, maximum
        if before is not None and maximum > before and self.learned is not None:
            self.learned = self.learned.after_plug(maximum - before)


class CycleFacts(NamedTuple):
    """Facts of one cycle that other parts of the plugin know of guests, by guest id."""

    holds: Mapping[str, float] | None = None
    """KiB that hold of all promises; None: the fields of the snapshot tell."""
    start_unknown: Set[str] = frozenset()
    """Guests that are promised their size at the start, which is not known yet."""
    moving: Mapping[str, str] = MappingProxyType({})
    """Why guests keep their size that are moved, or are about to be."""
    restores: bool = False
    """mom restores sizes later: it has to know what guests had before."""


class DescribedGuests(NamedTuple):
    """One snapshot with the record of each guest."""

    snapshot: Snapshot
    memories: Sequence[GuestMemory]
    places: Mapping[str, int]
    """Where each guest is among them, by id."""


class BalloonedGuests:
    """The records of all guests, and the snapshot that was seen last.

    :param dead_band: KiB; a guest that has come so near to what was asked has arrived
    :param start_rest: seconds for which a guest that was just started gives nothing
    :param age_of: gives for how many seconds a guest has run; None: that is not known
    """

    def __init__(self, dead_band: float, start_rest: float = 0.0, age_of: Callable[[Guest], float | None] = lambda guest: None) -> None:
        self.dead_band, self._start_rest, self._age_of = dead_band, start_rest, age_of
        self.tolerance = 2 * dead_band
        """KiB by which a size may be off and still be mom's: changes within the dead band were decided but never sent."""
        self.snapshot = Snapshot()
        self.changed_before: Container[tuple[str, str]] = ()
        """Guests whose sizes were changed by a mom before, or by this one before its configuration was read again: ids and incarnations."""
        self.asked_before: dict[str, tuple[str, int, int]] = {}
        """Guests that a mom before had asked for memory, and that had not given it yet: incarnation, former size, and target, by id."""
        self.earlier: Mapping[str, str] | None = None
        """The incarnations of guests, by id, that were there before mom; None: all that it sees first were."""
        self.unheard: Set[str] = frozenset()
        """The ids of guests of which it is not known yet what they are promised: they may grow, and are not shrunk."""
        self._had_guests = False
        """A snapshot had some: a guest that comes after that has been started, and not only its hypervisor."""
        self._below_hard = False
        """The host has less than its hard watermark: guests that are new give, too."""
        self._records: dict[str, BalloonedGuest] = {}
        self._missing: dict[str, BalloonedGuest] = {}
        """Those of guests that were listed lately; of none without an incarnation, which tells that it is the same."""
        self._in_order: tuple[Sequence[Guest], list[BalloonedGuest]] = ((), [])
        self._described: DescribedGuests | None = None

    def __iter__(self) -> Iterator[BalloonedGuest]:
        return iter(self._records.values())

    def incarnations(self) -> dict[str, str]:
        """Those of all guests, by id; also of those that the last list lacked."""
        return {identity: memory.incarnation for identity, memory in (self._missing | self._records).items()}

    def of(self, identity: str) -> BalloonedGuest | None:
        """That of one guest, also where the last list lacked it."""
        return self._records.get(identity) or self._missing.get(identity)

    def expect(self, identity: str, incarnation: str) -> None:
        """A guest that was there before this mom has not gone because its first lists lack it."""
        if incarnation:
            self._missing[identity] = BalloonedGuest(incarnation)

    def of_all(self, guests: Sequence[Guest]) -> Sequence[BalloonedGuest]:
        """Those of all guests that there are, in their order: those that were started anew, or are missing from `LISTS_UNTIL_GONE` lists,
        are forgotten. Without any guest the hypervisor is away, and they are waited for."""
        if not guests:
            return []
        if self._in_order[0] is not guests:
            before, kept = self._records, []
            for guest in guests:
                memory = self.of(guest.id)
                kept.append(memory if memory and memory.incarnation == guest.incarnation else BalloonedGuest(guest.incarnation))
            self._records = {guest.id: memory for guest, memory in zip(guests, kept, strict=True)}
            if self._missing or before.keys() - self._records.keys():
                for identity in self._missing.keys() & self._records.keys():
                    self._missing[identity].lists_without = 0
                lately = self._missing | {identity: memory for identity, memory in before.items() if memory.incarnation}
                self._missing = {identity: memory for identity, memory in lately.items() if identity not in self._records}
            self._in_order = guests, kept
        return self._in_order[1]

    def see(self, snapshot: Snapshot) -> None:
        """Take in a snapshot: the guests' sizes, and who has arrived. Seeing it again changes nothing."""
        if snapshot is self.snapshot:
            return
        self.snapshot, self._described, now = snapshot, None, snapshot.monotonic
        available, hard = (snapshot.host.number(name) for name in ("mem_really_available", "mem_watermark_hard"))
        self._below_hard = available is not None and hard is not None and available < hard
        guests = snapshot.listed
        if guests:
            self.of_all(guests)
            for memory in self._missing.values():
                memory.lists_without += 1
            self._missing = {identity: memory for identity, memory in self._missing.items() if memory.lists_without < LISTS_UNTIL_GONE}
        told = map(snapshot.numbers, ("balloon_cur", "balloon_max", "reboot_age"))
        for memory, size, maximum, reboot_age in zip(self._met(guests, now), *told, strict=True):
            if maximum is not None:
                memory.note_maximum(maximum)
            if reboot_age is not None:
                memory.see_reboot(now - reboot_age, now, self._start_rest)
            if size is not None:
                memory.note_size(size, now)
            request = memory.request
            if request is not None and not request.arrived and size is not None and abs(size - request.target) < self.dead_band:
                memory.request = replace(request, arrived=True)
        self.earlier = {} if guests or self.earlier is None else self.earlier
        self._had_guests = self._had_guests or bool(guests)

    def see_derived(self, snapshot: Snapshot) -> None:
        """Take the snapshot of the same cycle with derived fields: nothing has changed."""
        self.snapshot = snapshot
        self._described = None if self._described is None else self._described._replace(snapshot=snapshot)

    def lists(self, guests: Sequence[Guest]) -> bool:
        """Return whether these are the guests that were listed last, and not those of a snapshot that was made by hand."""
        return bool(guests) and self._in_order[0] is guests

    def _met(self, guests: Sequence[Guest], now: float) -> Sequence[BalloonedGuest]:
        """As `of_all`, with those that are seen for the first time met now."""
        records = self.of_all(guests)
        for guest, memory in zip(guests, records, strict=True):
            if memory.came_at == math.inf:
                came, age = self.earlier is not None and self.earlier.get(guest.id) != guest.incarnation, self._age_of(guest)
                memory.came = came and self._had_guests
                memory.came_at = now - (age or 0.0) if came else -math.inf  # the hypervisor may have been away when it was started
                memory.old_at = self._old_at(age, now, came=came)
                memory.resized = (guest.id, guest.incarnation) in self.changed_before
                incarnation, size, target = self.asked_before.pop(guest.id, ("", 0, 0))
                if size and incarnation == guest.incarnation and memory.request is None:
                    memory.request = SizeRequest(target, size, now)
        return records

    def _old_at(self, age: float | None, now: float, *, came: bool) -> float:
        """From when on a guest that is seen for the first time is no longer new, whatever it has told until then.

        :param age: for how many seconds it has run
        :param came: mom has seen it come; else it was there before
        """
        if age is None:
            return math.inf if came else -math.inf
        return now - age + (BOOT_FACTOR if came else 1.0) * self._start_rest

    def judge_cooperation(self) -> None:
        """Judge all guests of the last snapshot by what was asked of them, once in each cycle."""
        snapshot, guests = self.snapshot, self.snapshot.listed
        for guest, memory, size in zip(guests, self.of_all(guests), snapshot.numbers("balloon_cur"), strict=True):
            if memory.request is not None or memory.cooperation is not COOPERATIVE:
                excused, before = bool(guest.why_blocked(CONTROL)), memory.cooperation
                memory.cooperation, memory.request = before.after(memory.request, size, snapshot.monotonic, self.dead_band, excused=excused)

    def asked(self, guest: Guest, request: SizeRequest) -> None:
        """Remember a request. One in doubt replaces no request under way for less: that goes on if the command did not take effect."""
        memory = self._records.get(guest.id)
        if memory is not None and memory.incarnation == guest.incarnation:
            memory.resized = True
            if not request.in_doubt or memory.pending is None or request.target < memory.pending:
                memory.request = request

    def columns(self, guests: Sequence[Guest], now: float) -> dict[str, Sequence[Value]]:
        """What was asked of these guests, and what keeps them from giving; nothing where that is so of none."""
        # A guest that has just come may tell its statistics at once, which are acted upon in this very cycle.
        records, columns = self._met(guests, now), dict[str, Sequence[Value]]()
        asked = [memory.request for memory in records]
        if any(asked):
            columns[CONTROL] = [None if one is None else one.target for one in asked]
            ages = [None if one is None else max(0.0, now - one.asked) for one in asked]
            columns["balloon_target_age"] = [None if age is None else round(age * 1000) / 1000 for age in ages]  # faster than round(…, 3)
        rests = [round(one.start_rest(self._start_rest, now), 1) if one.old_at > now else 0.0 for one in records]
        if any(rests):
            columns[START_REST] = [rest or None for rest in rests]
        obstacles = [guest.why_blocked(CONTROL) or self._obstacle(guest, one) or None for guest, one in zip(guests, records, strict=True)]
        if any(obstacles):
            columns[OBSTACLE] = obstacles
            states = [memory.cooperation for memory in records]
            columns[RESTS] = [round(max(0.0, state.until - now), 1) if state.why_aside else None for state in states]
        return columns

    def forget_request(self, identity: str) -> None:
        """The guest is gone, or its size is no longer ours."""
        memory = self._records.get(identity)
        if memory is not None:
            memory.request, memory.resized = None, False

    @property
    def described(self) -> DescribedGuests:
        """The last snapshot with the record of each guest. Any thread may ask."""
        return self._described or self.describe(CycleFacts())

    def memory_of(self, identity: str) -> GuestMemory | None:
        """Return the record of one guest; None when not even its size is known."""
        described = self.described
        place = described.places.get(identity)
        memory = None if place is None else described.memories[place]
        return None if memory is None or memory.size is None else memory

    def describe(self, facts: CycleFacts) -> DescribedGuests:
        """Build the records of all guests of the last snapshot, once in each cycle."""
        snapshot = self.snapshot
        guests, records, now = snapshot.listed, self.of_all(snapshot.listed), snapshot.monotonic
        requests = [memory.request for memory in records]
        kernels = [None if memory.learned is None else memory.learned.usage.kernel for memory in records]
        made = [now - (age or 0.0) for age in snapshot.numbers("stats_age")]
        sizes, maxima = snapshot.numbers("balloon_cur"), snapshot.numbers("balloon_max")
        columns: dict[str, Sequence[object]] = {
            "on_its_way": [request is not None and not request.arrived for request in requests],
            "largest": [memory.most_since(at - CLOCK_SLACK_SECONDS, now) for memory, at in zip(records, made, strict=True)],
            "obstacle": [self._why_held(guest, memory) for guest, memory in zip(guests, records, strict=True)],
            "pause": [
                facts.moving.get(guest.id) or (GAVE if memory.gave_by(at) else "")
                for guest, memory, at in zip(guests, records, made, strict=True)
            ],
            "unsettled": [
                START_UNKNOWN if guest.id in facts.start_unknown else memory.why_unsettled(size, maximum, now) if facts.restores else ""
                for guest, memory, size, maximum in zip(guests, records, sizes, maxima, strict=True)
            ],
        }
        if any(requests):
            told = snapshot.numbers(CONTROL)
            columns["target"] = [kib if request is None else request.target for request, kib in zip(requests, told, strict=True)]
        if any(kernel is not None for kernel in kernels):
            told = snapshot.numbers("kernel_reserved")
            columns["kernel_reserved"] = [
                kib if kernel is None or kernel.reserved is None else int(kernel.reserved)
                for kernel, kib in zip(kernels, told, strict=True)
            ]
            columns["counts_balloon"] = [kernel is not None and kernel.counts_balloon for kernel in kernels]
        if facts.holds is not None:
            columns["guarantee"] = [facts.holds.get(guest.id, 0.0) for guest in guests]
        places = {guest.id: place for place, guest in enumerate(guests)}
        self._described = described = DescribedGuests(snapshot, guest_memories(snapshot, columns), places)
        return described

    def _why_held(self, guest: Guest, memory: BalloonedGuest) -> str:
        """Return why a guest must not shrink now, as `GuestMemory.obstacle`."""
        blocked = guest.why_blocked(CONTROL) or self._obstacle(guest, memory)
        return blocked or (NEW if memory.came and self._rests(memory) else "")

    def _obstacle(self, guest: Guest, memory: BalloonedGuest) -> str:
        """Why a guest is not to be shrunk, though it may be resized; empty when it is."""
        pinned = guest.properties.get(PINNED)
        if isinstance(pinned, str) and pinned:
            return pinned
        return UNHEARD if guest.id in self.unheard else memory.cooperation.why_aside

    def boots_again(self, memory: BalloonedGuest) -> bool:
        """True if a guest has rebooted and is new by that, and the host does not need what it would get back."""
        return memory.rebooted_at > -math.inf and self._rests(memory)

    def _rests(self, memory: BalloonedGuest) -> bool:
        """True if a guest was just started, and is not to be shrunk yet: what its kernel tells says nothing of its programs."""
        return not self._below_hard and memory.start_rest(self._start_rest, self.snapshot.monotonic) > 0
