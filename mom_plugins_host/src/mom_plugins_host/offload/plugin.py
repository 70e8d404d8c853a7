"""The plugin: follows guests, decides whose cold memory goes to swap, has the taker move it, and says what guests work on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from mom_core import (
    Change,
    Decision,
    Declaration,
    Finding,
    Guest,
    Hypervisor,
    HypervisorError,
    PluginContext,
    Problem,
    Refused,
    Revision,
    Scope,
    Severity,
    Snapshot,
    Source,
    Suggestion,
    Target,
    Value,
    as_whole,
    hookimpl,
    printable,
)
from mom_kvm import ColdMemoryControl, EvictionField, Hierarchies, StoreKind, SwapStore, late_hook
from mom_plugins_host.offload import law
from mom_plugins_host.offload.fields import (
    CONTROLS,
    FIELDS,
    MAY_OFFLOAD,
    NET,
    OFFLOAD,
    RATIO,
    RISES_IN,
    ROOM,
    WRITTEN,
    OffloadGuestSettings,
    OffloadSettings,
)
from mom_plugins_host.offload.findings import findings
from mom_plugins_host.offload.guests import (
    FollowedGuest,
    followed,
    look_in_turn,
    own_pressure,
    stall_of,
    swept_first,
    waited_for,
    why_no_swap,
)
from mom_plugins_host.offload.law import ColdOffer, HostNeed, ObservedGuest, chosen, need_of, next_offer
from mom_plugins_host.offload.requests import ReclaimRequest, ReclaimTaker
from mom_plugins_host.offload.stores import WriteBudget, net_share, ratio_of, room_of, stores_of

_CYCLES_IN_FORCE: Final = 1
"""A request lapses when it was not renewed in the cycle after it."""

_LONGEST_SWEEP_SECONDS: Final = 30.0
"""Of need, in which it is waited for a guest to be swept: the plugin that decides that may have other reasons not to. Waiting for two
minutes kept bursts from reading back what they write over, but by then the balloons of others had taken what hurt (benchmarks/squeeze, mix
`cold`)."""

_PATIENT_SWEEP_SECONDS: Final = 300.0
"""The same while the host is far from taking what hurts. Sweeping twelve guests with bursts in turn gave all that the host lacked for
100 s; what went to swap of those that waited for their turn was read back by their next bursts (mix `hot`)."""

_URGENT_SWEEP_SECONDS: Final = 10.0
"""The same when the balloon takes margins already: a sweep takes three. Waiting for sweeps of 50 MiB each, in ten of twelve
guests, cost all that the host had left (mix `hot`)."""

_MOST_OF_CYCLE: Final = 0.8
"""Of the time between two cycles. The taker answers before the next decision, which goes by what came of the one before."""

_SHORTEST_SECONDS: Final = 0.2
"""A rate over less says nothing."""

_RISES: Final = "by its days it will use more before long, maybe what is cold now"


@dataclass(frozen=True, slots=True)
class _Plan:
    """The plan of this cycle: the pace of each guest in KiB per second (negative: it comes back), and why.

    `spare_kib` is what the host has for what comes back.
    """

    paces: Mapping[str, int] = field(default_factory=dict)
    offers: Mapping[str, ColdOffer] = field(default_factory=dict)
    words: str = ""
    spare_kib: float = 0.0


def _rises(guest: Guest) -> bool:
    """True if the guest is expected to use more before long."""
    return guest.number(RISES_IN) is not None


class OffloadPlugin:
    """Cold memory of guests in the host's swap."""

    Settings = OffloadSettings
    GuestSettings = OffloadGuestSettings

    def __init__(self, settings: OffloadSettings, context: PluginContext) -> None:
        self._settings = settings
        self._context = context
        self._source = Source(context.name)
        self._hierarchies = Hierarchies(context.root)
        self._taker = ReclaimTaker()
        self._followed: dict[str, FollowedGuest] = {}
        self._unlisted: dict[str, FollowedGuest] = {}
        """Those that the last lists lacked, and that may be there again."""
        self._stores: Sequence[SwapStore] = ()
        self._budget = WriteBudget(settings.disk_writes >> 10, context.monotonic())
        self._plan = _Plan()
        self._working = False
        self._decided_at: float | None = None
        self._seconds = 0.0
        self._urgent = False
        self._moved_kib = 0
        self._own = False

    # --- declare -----------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_declare(self) -> Iterable[Declaration]:
        """Working sets, cold memory, where it goes, and how fast."""
        from mom_plugins_host.offload.fields import COLUMNS

        return (*FIELDS, *CONTROLS, *COLUMNS)

    # --- life --------------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_teardown(self) -> None:
        """End the taker: nothing is left of it but what is in swap, and that comes back when guests touch it."""
        self._taker.close()

    # --- collect -----------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_collect_host(self, hypervisor: Hypervisor) -> Mapping[str, Value]:
        """The swap of the host, and its room."""
        self._read_answers()
        self._stores = hypervisor.swap_stores() if isinstance(hypervisor, ColdMemoryControl) else stores_of(self._context.root)
        now = self._context.monotonic()
        came_back = self._seconds * sum(one.observed.refaults_kib or 0.0 for one in self._followed.values() if one.observed is not None)
        net_kib = max(0.0, self._moved_kib - came_back) * net_share(self._stores)
        self._moved_kib = 0
        ratio = ratio_of(self._stores)
        return {
            ROOM: room_of(self._stores, self._budget.left(now)).kib,
            RATIO: None if ratio is None else round(ratio, 2),
            NET: int(net_kib),
            WRITTEN: int(self._budget.written(now)),
        }

    @hookimpl
    def mom_collect_guests(self, hypervisor: Hypervisor, guests: Sequence[Guest]) -> Mapping[str, Mapping[str, Value]]:
        """The working set of each guest, and its refaults."""
        self._read_answers()
        self._own = isinstance(hypervisor, ColdMemoryControl)
        now = self._context.monotonic()
        before = {**self._unlisted, **self._followed}
        self._followed = followed(before, guests)
        self._unlisted = waited_for(before, self._followed)
        if not self._own:
            self._hierarchies.keep_fresh()
            look_in_turn(self._followed, guests, self._context.root, self._hierarchies, now)
        return {identity: one.seen(None if self._own else self._context.root, now) for identity, one in self._followed.items()}

    def _read_answers(self) -> None:
        for done in self._taker.answers():
            one = self._followed.get(done.guest) or self._unlisted.get(done.guest)
            if one is not None:
                one.at = done.at
                if done.way != "recall":
                    self._note_moved(one, done.went, done.why)

    def _note_moved(self, one: FollowedGuest, kib: int, why: str) -> None:
        now = self._context.monotonic()
        one.note_moved(kib, why, now)
        self._moved_kib += kib
        if room_of(self._stores, 1 << 60).disk:
            self._budget.spend(kib, now)

    # --- decide ------------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_problems(self) -> Iterable[Problem]:
        """Report a disk that no cold memory moves to."""
        if why := self._taker.why_stuck:
            yield Problem(self._source, f"no cold memory moves: {why}", severity=Severity.WARNING, hint="see what dmesg says of that disk")

    @hookimpl
    def mom_act(self, snapshot: Snapshot) -> Iterable[Decision]:
        """Decide whose cold memory goes to swap in this cycle, and whose comes back."""
        self._plan = self._planned(snapshot)
        for identity, pace in self._plan.paces.items():
            guest = snapshot.guests[identity]
            words = (
                f"it works on what was taken, and {self._plan.words}: it comes back"
                if pace < 0
                else f"{self._plan.words}: what it has not touched for long goes to swap, before anything is taken that hurts"
            )
            yield Decision(guest.entity, OFFLOAD, pace, words, self._source)

    def _planned(self, snapshot: Snapshot) -> _Plan:
        now = snapshot.monotonic
        seconds = self._context.interval if self._decided_at is None else max(_SHORTEST_SECONDS, now - self._decided_at)
        self._decided_at = now
        self._seconds = cycle = min(seconds, self._context.interval)  # a cycle that something woke mom for is a short one
        need = need_of(snapshot.host, working=self._working)
        self._urgent = need.urgency > 1
        offers: dict[str, ColdOffer] = {}
        has_classes = (Scope.GUEST, MAY_OFFLOAD) in self._context.declarations.fields
        silent = has_classes and EvictionField.ANSWERS not in snapshot.columns
        for guest in snapshot.guests.values():
            one = self._followed.get(guest.id)
            if one is None:
                continue
            one.hear_class(guest, silent=silent)
            one.observed = self._observed(guest, one, seconds, now, need)
            offer = next_offer(one.observed, one.state, one.moved_kib / seconds, self._settings.stall, now, need.urgency)
            one.state, one.reason, one.moved_kib = offer.state, offer.reason, 0
            if offer.pace_kib and (allowed := self._within_swap_limit(one, offer, cycle)) is not None:
                offers[guest.id] = allowed
        room = room_of(self._stores, self._budget.left(now))
        wanted, why = self._wanted(need, room.kib, room.why)
        spared = {identity for identity in offers if need.urgency <= 1 and _rises(snapshot.guests[identity])}
        paces = chosen(offers, wanted, cycle, spared) if wanted > 0 else {}
        self._working = bool(paces) and need.lack_kib > 0
        for identity in offers:
            others = f"{_RISES}, and that of others" if identity in spared else "other guests' cold memory costs less, and"
            self._followed[identity].reason = "" if identity in paces else why or f"{others} is enough"
        paces.update(self._coming_back(snapshot, need, cycle))
        return _Plan(paces, offers, need.words or "the host's cold memory goes ahead of need", need.beyond_kib)

    def _within_swap_limit(self, one: FollowedGuest, offer: ColdOffer, cycle: float) -> ColdOffer | None:
        """As much of an offer as the guest's control group may swap in this cycle; None: nothing."""
        limit = None if self._own else one.way.swap_limit
        if limit is None:
            return offer
        one.reason = why_no_swap(limit)
        pace = int(min(offer.pace_kib, limit.room / cycle))
        return replace(offer, pace_kib=pace) if pace > 0 and not one.reason else None

    def _wanted(self, need: HostNeed, room_kib: float, why_no_room: str) -> tuple[float, str]:
        """How much is to go in this cycle, in KiB of guests' memory, and why nothing."""
        net = net_share(self._stores)
        if room_kib < law.LEAST_KIB or not net:
            return 0.0, why_no_room or "the host's swap takes no more"
        if self._settings.ahead:
            return float(room_kib), ""
        if not need.words:
            return 0.0, "what the host has available, or is to have, is unknown"
        return (min(need.lack_kib / net, room_kib), "") if need.lack_kib > 0 else (0.0, f"{need.words}: nothing has to be taken")

    def _coming_back(self, snapshot: Snapshot, need: HostNeed, cycle: float) -> dict[str, int]:
        """The memory that guests that were harmed get back at once, as far as the host has it to spare."""
        found: dict[str, int] = {}
        spare = need.beyond_kib
        for identity, guest in snapshot.guests.items():
            one = self._followed.get(identity)
            if one is None or guest.why_blocked(OFFLOAD):
                continue
            away = one.observed.away_kib if one.observed is not None and one.state.wants_back else None
            back = min(away or 0.0, spare)
            if back >= law.LEAST_KIB * cycle:
                found[identity] = -int(back / cycle)
                spare -= back
        return found

    def _observed(self, guest: Guest, one: FollowedGuest, seconds: float, now: float, need: HostNeed) -> ObservedGuest:
        faults = guest.number("host_major_faults")
        rates = [value for value in (one.refaults, None if faults is None else faults * law.PAGE_KIB / seconds) if value is not None]
        refaults = max(rates) if rates else None
        away = guest.number("host_swap")
        sweep = self._waits_for_sweep(guest, one, away or 0.0, seconds, need)
        rises = f"{_RISES}, and the host lacks nothing" if need.lack_kib <= 0 and self._settings.ahead and _rises(guest) else ""
        no_way = "" if self._own else one.way.why_not or self._taker.why_stuck
        hold = self._forbidden(guest, one) or no_way or one.why_left_out(now) or sweep or rises
        return ObservedGuest(
            guest.number("rss"),
            away,
            refaults,
            stall_of(guest, refaults or 0.0, self._stores),
            guest.number("host_ksm_merged") or 0.0,
            hold,
            own_pressure(guest),
            max(0.001, guest.number("reclaim_cost") or 1.0),
            law.MADVISE_SHARE if one.way.name == "process" else law.MOST_SHARE,
        )

    def _forbidden(self, guest: Guest, one: FollowedGuest) -> str:
        if blocked := guest.why_blocked(OFFLOAD):
            return blocked
        if why := guest.text("give_back"):
            return f"{printable(why, 100)}: it is left as it is"
        settings = self._context.guest_settings(guest)
        own = settings.offload if isinstance(settings, OffloadGuestSettings) else None
        if own is False:
            return "its settings forbid it (offload: false)"
        if own is None and not one.class_heard:
            return "whether its class forbids it is not known yet"
        return "its class forbids it (offload: false)" if own is None and one.may_offload == 0 else ""

    def _longest_sweep(self, need: HostNeed) -> float:
        """For how many seconds of need it is waited for a guest to be swept."""
        if self._settings.ahead:
            return _LONGEST_SWEEP_SECONDS
        if need.urgency > 1:
            return _URGENT_SWEEP_SECONDS
        return _PATIENT_SWEEP_SECONDS if need.patient else _LONGEST_SWEEP_SECONDS

    def _waits_for_sweep(self, guest: Guest, one: FollowedGuest, away: float, seconds: float, need: HostNeed) -> str:
        """Why nothing goes before the guest's balloon has taken what it had used and freed: that costs the host nothing.

        What it waited is forgotten as slowly as it came together: one that holds a little more than is swept, and then a little less, would
        be waited for without an end.

        :param seconds: since the last cycle
        """
        sweeps = (Scope.GUEST, "balloon_target") in self._context.declarations.fields and not guest.why_blocked("balloon_target")
        words = swept_first(guest, away) if sweeps else ""
        waited = seconds if need.lack_kib > 0 or self._settings.ahead else 0.0  # without need nobody is swept
        one.unswept_seconds = min(_PATIENT_SWEEP_SECONDS, max(0.0, one.unswept_seconds + (waited if words else -seconds)))
        return words if one.unswept_seconds < self._longest_sweep(need) else ""

    @hookimpl
    def mom_review(self, snapshot: Snapshot, decisions: Sequence[Decision]) -> Iterable[Revision]:
        """No decision, whoever makes it, takes more of a guest than the law allows, or of one of which nothing may go; and all together
        take no more than swap does, nor bring back more than the host has to spare."""
        room = room_of(self._stores, self._budget.left(snapshot.monotonic))
        cycle = max(_SHORTEST_SECONDS, self._seconds)
        left, spare = int(room.kib / cycle), int(self._plan.spare_kib / cycle)
        for decision in decisions:
            if decision.control != OFFLOAD or decision.entity.id not in snapshot.guests:
                continue
            pace, offer = as_whole(decision.value), self._plan.offers.get(decision.entity.id)
            if pace is None:
                yield Revision(decision, None, "a pace is a whole number of KiB per second")
            elif pace > 0 and offer is None:
                one = self._followed.get(decision.entity.id)
                yield Revision(decision, None, (one.reason if one is not None else "") or "nothing of it may go now")
            elif pace > 0 and room.kib < law.LEAST_KIB:
                yield Revision(decision, None, room.why or "the host's swap takes no more")
            elif pace > 0 and offer is not None:
                allowed = min(pace, offer.pace_kib, left)
                left -= allowed
                if not allowed:
                    yield Revision(decision, None, "the host's swap takes no more than what goes of other guests")
                elif allowed < pace:
                    why = "that is its pace now" if allowed == offer.pace_kib else "that is what the host's swap still takes"
                    yield Revision(decision, replace(decision, value=allowed), why)
            elif pace < 0:
                allowed = min(-pace, spare)
                spare -= allowed
                if not allowed:
                    yield Revision(decision, None, "the host has no memory to spare for what comes back")
                elif allowed < -pace:
                    yield Revision(decision, replace(decision, value=-allowed), "that is what the host has to spare")

    # --- control -----------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_read(self, targets: Sequence[Target]) -> Mapping[Target, Value | HypervisorError]:
        """The paces in force: nothing else is left of a request."""
        return {target: one.pace if (one := self._followed.get(target.entity.id)) is not None else 0 for target in targets}

    @hookimpl
    def mom_write(self, hypervisor: Hypervisor, changes: Sequence[Change]) -> Mapping[Target, HypervisorError]:
        """Have taken what may be taken in this cycle, and brought back what is to come back."""
        errors: dict[Target, HypervisorError] = {}
        requests: list[ReclaimRequest] = []
        targets: dict[str, Target] = {}
        for change in changes:
            pace, one = as_whole(change.value), self._followed.get(change.entity.id)
            if pace is None or (one is None and pace):
                errors[change.target] = Refused("the guest is not known yet" if one is None else "a pace is a whole number")
                continue
            if one is None:
                continue
            one.pace, one.left = pace, _CYCLES_IN_FORCE
            kib = int(abs(pace) * self._seconds)
            if kib and not change.back:
                targets[change.entity.id] = change.target
                way = "recall" if pace < 0 else one.way.name
                requests.append(ReclaimRequest(change.entity.id, way, kib, one.way.pid, one.way.started, one.at))
        seconds, cpu = _MOST_OF_CYCLE * self._seconds, self._settings.cpu_share * self._seconds * (2 if self._urgent else 1)
        try:
            if isinstance(hypervisor, ColdMemoryControl):
                errors |= self._by_hypervisor(hypervisor, targets, requests, cpu)
            elif requests and not self._taker.busy:
                self._taker.send(requests, seconds, cpu)
        except HypervisorError as error:
            errors |= dict.fromkeys(targets.values(), error)
        return errors

    def _by_hypervisor(
        self, hypervisor: ColdMemoryControl, targets: Mapping[str, Target], requests: Sequence[ReclaimRequest], seconds: float
    ) -> dict[Target, HypervisorError]:
        errors: dict[Target, HypervisorError] = {}
        for request in requests:
            target = targets[request.guest]
            try:
                if request.way == "recall":
                    hypervisor.recall_memory(target.entity, request.left, seconds)
                else:
                    done = hypervisor.offload_memory(target.entity, request.left, seconds / len(requests))
                    self._note_moved(self._followed[request.guest], done.kib, done.why)
            except HypervisorError as error:
                errors[target] = error
        return errors

    # --- surface -----------------------------------------------------------------------------------------------------------------

    @staticmethod
    @hookimpl
    def mom_suggest(root: Path) -> Suggestion | None:
        """Fits a host with compressed swap: the operator wants memory to go there."""
        if not any(store.kind in {StoreKind.ZRAM, StoreKind.ZSWAP} for store in stores_of(root)):
            return None
        return Suggestion("this host has compressed swap, to which guests' cold memory can go", order=42)

    mom_explainer = late_hook("mom_plugins_host.explanations:ColdExplainer")

    @hookimpl
    def mom_doctor(self, hypervisor: Hypervisor | None) -> Iterable[Finding]:
        """The swap of the host, its speed, and guests of which nothing can go there."""
        self._hierarchies.refresh()
        return findings(self._context.root, self._hierarchies, hypervisor)
