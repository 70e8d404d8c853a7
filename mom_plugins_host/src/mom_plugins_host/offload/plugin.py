"""Plugin `offload`: decides whose cold memory goes to swap, and reports working sets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
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
from mom_kvm import PAGE_KIB, Hierarchies, SwapStore, late_hook, read_kernel_file
from mom_plugins_host.capabilities import ColdMemoryControl
from mom_plugins_host.offload import fields, law
from mom_plugins_host.offload.fields import OFFLOAD
from mom_plugins_host.offload.guests import FollowedGuest, keep_listed, look_in_turn, own_pressure, stall_of, swept_first, why_no_swap
from mom_plugins_host.offload.requests import ReclaimRequest, ReclaimWorker
from mom_plugins_host.offload.stores import WriteBudget, findings, net_share, ratio_of, room_of, stores_of

_CYCLES_IN_FORCE: Final = 1
"""Number of cycles after which a pace of reclaim expires, unless renewed."""

_LONGEST_SWEEP_SECONDS: Final = 30.0
"""Longest wait for a sweep of a guest, because the sweep may never come. If mom waited two minutes, balloons would hurt other guests first
(benchmarks/squeeze, mix `cold`)."""

_MOST_OF_CYCLE: Final = 0.8
"""Share of a cycle that the worker may use, so that it answers before the next decision."""

_SHORTEST_SECONDS: Final = 0.2


class OffloadPlugin:
    """Controller of guests' cold memory in the host's swap."""

    Settings = fields.OffloadSettings
    GuestSettings = fields.OffloadGuestSettings

    def __init__(self, settings: fields.OffloadSettings, context: PluginContext) -> None:
        self._settings = settings
        self._context = context
        self._source = Source(context.name)
        self._hierarchies = Hierarchies(context.root)
        self._worker = ReclaimWorker()
        self._followed: dict[str, FollowedGuest] = {}
        self._stores: Sequence[SwapStore] = ()
        self._budget = WriteBudget(settings.disk_writes >> 10, context.monotonic())
        self._offers: Mapping[str, law.ColdOffer] = {}
        self._working = False
        self._decided_at: float | None = None
        self._seconds = 0.0
        self._urgent = False
        self._moved_kib = 0
        self._moves_itself = False
        self._has_merged = False

    # --- declare -----------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_declare(self) -> Iterable[Declaration]:
        return (*fields.FIELDS, *fields.CONTROLS, *fields.COLUMNS)

    # --- life --------------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_teardown(self) -> None:
        self._worker.close()

    # --- collect -----------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_collect_host(self, hypervisor: Hypervisor) -> Mapping[str, Value]:
        self._read_answers()
        self._stores = hypervisor.swap_stores() if isinstance(hypervisor, ColdMemoryControl) else stores_of(self._context.root)
        now = self._context.monotonic()
        observed = (entry.observed for entry in self._followed.values())
        returned = self._seconds * sum(guest.refaults_kib or 0.0 for guest in observed if guest is not None)
        net_kib = max(0.0, self._moved_kib - returned) * net_share(self._stores)
        self._moved_kib = 0
        ratio = ratio_of(self._stores)
        return {
            fields.ROOM: room_of(self._stores, self._budget.left(now)).kib,
            fields.RATIO: None if ratio is None else round(ratio, 2),
            fields.NET: int(net_kib),
        }

    @hookimpl
    def mom_collect_guests(self, hypervisor: Hypervisor, guests: Sequence[Guest]) -> Mapping[str, Mapping[str, Value]]:
        self._read_answers()
        self._moves_itself = isinstance(hypervisor, ColdMemoryControl)
        now = self._context.monotonic()
        self._followed = keep_listed(self._followed, guests)
        if not self._moves_itself:
            self._hierarchies.keep_fresh()
            self._has_merged = read_kernel_file(f"{self._context.root}/sys/kernel/mm/ksm/pages_sharing").strip() not in (b"", b"0")
            look_in_turn(self._followed, guests, self._context.root, self._hierarchies, now)
        root = None if self._moves_itself else self._context.root
        return {identity: entry.collect(root, now) for identity, entry in self._followed.items()}

    def _read_answers(self) -> None:
        for request in self._worker.answers():
            entry = self._followed.get(request.guest)
            if entry is not None:
                entry.at = request.at
                self._note_moved(entry, request.went, request.why)

    def _note_moved(self, entry: FollowedGuest, kib: int, why: str) -> None:
        now = self._context.monotonic()
        entry.note_moved(kib, why, now)
        self._moved_kib += kib
        if room_of(self._stores, 1 << 60).disk:
            self._budget.spend(kib, now)

    # --- decide ------------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_problems(self) -> Iterable[Problem]:
        if why := self._worker.why_stuck:
            text = f"mom cannot move cold memory: {why}"
            yield Problem(self._source, text, severity=Severity.WARNING, hint="check dmesg for errors of that disk")

    @hookimpl
    def mom_act(self, snapshot: Snapshot) -> Iterable[Decision]:
        paces, why = self._planned(snapshot)
        for identity, pace in paces.items():
            guest = snapshot.guests[identity]
            words = f"{why}: mom swaps out memory that the guest has not touched for long, before it reclaims memory in use"
            yield Decision(guest.entity, OFFLOAD, pace, words, self._source)

    def _planned(self, snapshot: Snapshot) -> tuple[Mapping[str, int], str]:
        """Return paces in KiB/s, keyed by guest id, and the reason."""
        now = snapshot.monotonic
        seconds = self._context.interval if self._decided_at is None else max(_SHORTEST_SECONDS, now - self._decided_at)
        self._decided_at = now
        self._seconds = cycle = min(seconds, self._context.interval)  # a wake-up shortens a cycle
        need = law.need_of(snapshot.host, working=self._working)
        self._urgent = need.urgency > 1
        offers: dict[str, law.ColdOffer] = {}
        for guest in snapshot.guests.values():
            entry = self._followed.get(guest.id)
            if entry is None:
                continue
            entry.observed = self._observed(guest, entry, seconds, now, need)
            offer = law.next_offer(entry.observed, entry.state, entry.moved_kib / seconds, self._settings.stall, now, need.urgency)
            entry.state, entry.reason, entry.moved_kib = offer.state, offer.reason, 0
            if offer.pace_kib and (allowed := self._within_swap_limit(entry, offer, cycle)) is not None:
                offers[guest.id] = allowed
        room = room_of(self._stores, self._budget.left(now))
        amount, why = self._amount_to_move(need, room.kib, room.why)
        paces = law.chosen(offers, amount, cycle) if amount > 0 else {}
        self._working = bool(paces) and need.lack_kib > 0
        for identity in offers:
            self._followed[identity].reason = "" if identity in paces else why or "other guests' cold memory costs less, and is enough"
        self._offers = offers
        return paces, need.words or "mom moves cold memory ahead of need"

    def _within_swap_limit(self, entry: FollowedGuest, offer: law.ColdOffer, cycle: float) -> law.ColdOffer | None:
        limit = None if self._moves_itself else entry.way.swap_limit
        if limit is None:
            return offer
        entry.reason = why_no_swap(limit)
        pace = int(min(offer.pace_kib, limit.room / cycle))
        return replace(offer, pace_kib=pace) if pace > 0 and not entry.reason else None

    def _amount_to_move(self, need: law.HostNeed, room_kib: float, why_no_room: str) -> tuple[float, str]:
        net = net_share(self._stores)
        if room_kib < law.LEAST_KIB or not net:
            return 0.0, why_no_room or "the host's swap has no more room"
        if self._settings.ahead:
            return float(room_kib), ""
        if not need.words:
            return 0.0, "the host's available memory, or its target, is unknown"
        return (min(need.lack_kib / net, room_kib), "") if need.lack_kib > 0 else (0.0, f"{need.words}: there is no need to reclaim memory")

    def _observed(self, guest: Guest, entry: FollowedGuest, seconds: float, now: float, need: law.HostNeed) -> law.ObservedGuest:
        faults = guest.number("host_major_faults")
        rates = [value for value in (entry.refaults, None if faults is None else faults * PAGE_KIB / seconds) if value is not None]
        refaults = max(rates) if rates else None
        away = guest.number("host_swap")
        sweep = self._waits_for_sweep(guest, entry, away or 0.0, seconds, need)
        no_way = "" if self._moves_itself else entry.way.why_not or self._worker.why_stuck
        merged = guest.number("host_ksm_merged") if self._has_merged else 0.0
        entry.by_process = entry.way.name == "process" or merged is None or merged > law.MERGED_SHARE * (guest.number("rss") or 0.0)
        hold = self._forbidden(guest) or no_way or entry.why_left_out(now) or sweep
        return law.ObservedGuest(
            guest.number("rss"),
            away,
            refaults,
            stall_of(guest, refaults or 0.0, self._stores),
            merged or 0.0,
            hold,
            own_pressure(guest),
            max(0.001, guest.number("reclaim_cost") or 1.0),
            law.MADVISE_SHARE if entry.by_process else law.MOST_SHARE,
        )

    def _forbidden(self, guest: Guest) -> str:
        if blocked := guest.why_blocked(OFFLOAD):
            return blocked
        if why := guest.text("give_back"):
            return f"{printable(why, 100)}: mom does not move its memory"
        settings = self._context.guest_settings(guest)
        own = settings.offload if isinstance(settings, fields.OffloadGuestSettings) else None
        if own is False:
            return "its settings forbid it (offload: false)"
        if own is None and (Scope.GUEST, fields.MAY_OFFLOAD) in self._context.declarations.fields:
            if fields.CLASSES_ANSWER not in guest.fields:
                return "its class is unknown now"
            return "its class forbids it (offload: false)" if guest.number(fields.MAY_OFFLOAD) == 0 else ""
        return ""

    def _waits_for_sweep(self, guest: Guest, entry: FollowedGuest, away: float, seconds: float, need: law.HostNeed) -> str:
        # The balloon takes freed memory at no cost. The waited time decays as slowly as it grows. Otherwise mom could wait forever near the
        # threshold of sweeps.
        sweeps = (Scope.GUEST, "balloon_target") in self._context.declarations.fields and not guest.why_blocked("balloon_target")
        words = swept_first(guest, away) if sweeps else ""
        waited = seconds if need.lack_kib > 0 or self._settings.ahead else 0.0  # no sweeps unless the host needs memory
        entry.unswept_seconds = min(_LONGEST_SWEEP_SECONDS, max(0.0, entry.unswept_seconds + (waited if words else -seconds)))
        return words if entry.unswept_seconds < _LONGEST_SWEEP_SECONDS else ""

    @hookimpl
    def mom_review(self, snapshot: Snapshot, decisions: Sequence[Decision]) -> Iterable[Revision]:
        """Limit decisions to the guests' offers, and to the room in swap."""
        room = room_of(self._stores, self._budget.left(snapshot.monotonic))
        left = int(room.kib / max(_SHORTEST_SECONDS, self._seconds)) if room.kib >= law.LEAST_KIB else 0
        for decision in decisions:
            if decision.control != OFFLOAD or decision.entity.id not in snapshot.guests:
                continue
            pace, offer = as_whole(decision.value), self._offers.get(decision.entity.id)
            if pace is None or pace < 0:
                yield Revision(decision, None, "invalid pace: use a whole number of KiB per second")
            elif pace > 0 and offer is None:
                entry = self._followed.get(decision.entity.id)
                yield Revision(decision, None, (entry.reason if entry is not None else "") or "none of its memory may be moved now")
            elif pace > 0 and offer is not None:
                allowed = min(pace, offer.pace_kib, left)
                left -= allowed
                if not allowed:
                    yield Revision(decision, None, room.why or "the host's swap has no more room")
                elif allowed < pace:
                    why = "limited to the pace at which the guest can release memory now, and to the room in the host's swap"
                    yield Revision(decision, replace(decision, value=allowed), why)

    # --- control -----------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_read(self, targets: Sequence[Target]) -> Mapping[Target, Value | HypervisorError]:
        return {target: 0 if (entry := self._followed.get(target.entity.id)) is None else entry.pace for target in targets}

    @hookimpl
    def mom_write(self, hypervisor: Hypervisor, changes: Sequence[Change]) -> Mapping[Target, HypervisorError]:
        """Send requests to the worker, or to the hypervisor if it moves memory itself."""
        errors: dict[Target, HypervisorError] = {}
        requests: list[ReclaimRequest] = []
        targets: dict[str, Target] = {}
        for change in changes:
            pace, entry = as_whole(change.value), self._followed.get(change.entity.id)
            if pace is None or (entry is None and pace):
                errors[change.target] = Refused("the guest is still unknown to mom" if entry is None else "the pace is not a whole number")
                continue
            if entry is None:
                continue
            entry.pace, entry.left = pace, _CYCLES_IN_FORCE
            kib = int(pace * self._seconds)
            if kib and not change.back:
                targets[change.entity.id] = change.target
                way = "process" if entry.by_process else entry.way.name
                requests.append(ReclaimRequest(change.entity.id, way, kib, entry.way.pid, entry.way.started, entry.at))
        seconds, cpu = _MOST_OF_CYCLE * self._seconds, self._settings.cpu_share * self._seconds * (2 if self._urgent else 1)
        try:
            if isinstance(hypervisor, ColdMemoryControl):
                errors |= self._by_hypervisor(hypervisor, targets, requests, cpu)
            elif requests and not self._worker.busy:
                self._worker.send(requests, seconds, cpu)
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
                result = hypervisor.offload_memory(target.entity, request.left, seconds / len(requests))
                self._note_moved(self._followed[request.guest], result.kib, result.why)
            except HypervisorError as error:
                errors[target] = error
        return errors

    # --- surface -----------------------------------------------------------------------------------------------------------------

    @staticmethod
    @hookimpl
    def mom_suggest(root: Path) -> Suggestion | None:
        if not any(store.kind in {SwapStore.Kind.ZRAM, SwapStore.Kind.ZSWAP} for store in stores_of(root)):
            return None
        return Suggestion("this host has compressed swap, to which mom can move guests' cold memory", order=42)

    mom_explainer = late_hook("mom_plugins_host.explanations:ColdExplainer")

    @hookimpl
    def mom_doctor(self, hypervisor: Hypervisor | None) -> Iterable[Finding]:
        self._hierarchies.refresh()
        return findings(self._context.root, self._hierarchies, hypervisor)
