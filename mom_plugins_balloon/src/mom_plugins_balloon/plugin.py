"""The plugin: collects guarantees, reviews every balloon decision for safety, applies what is left, and puts it back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

import mom_core
from mom_core import (
    BalloonControl,
    Change,
    Columns,
    Condition,
    ControlSpec,
    Decision,
    Derived,
    Duration,
    FieldSpec,
    Finding,
    Guest,
    GuestGone,
    Hypervisor,
    HypervisorError,
    InTransition,
    NoChangeNeeded,
    NotSupported,
    PluginContext,
    PluginSettings,
    Portion,
    Problem,
    Refused,
    Revision,
    Scope,
    Severity,
    Size,
    SizeOrShare,
    Snapshot,
    Source,
    Suggestion,
    Target,
    Unit,
    Value,
    as_number,
    format_kib,
    hookimpl,
    printable,
)
from mom_plugins_balloon.conditions import conditions
from mom_plugins_balloon.cooperation import Cooperation, has_arrived, is_blocked
from mom_plugins_balloon.guarantees import Guarantees, PromisesKept
from mom_plugins_balloon.host_reservations import RESERVED, CycleInputs, HostReservations, ReservePolicy, policies_reserve
from mom_plugins_balloon.learned_needs import Learning
from mom_plugins_balloon.limits import KnownMemory, SafeSize, ShrinkLimits, floor_kib, permitted, why_not_shrink
from mom_plugins_balloon.names import REASON, SUGGESTED
from mom_plugins_balloon.observed import suggestions
from mom_plugins_balloon.parameters import LawParameters
from mom_plugins_balloon.promises import HOLDS, PROMISED, HeldPromises
from mom_plugins_balloon.requests import Requests
from mom_plugins_balloon.sizes import RecentSizes
from mom_plugins_balloon.spare_memory import CLOCK_SLACK_SECONDS, CONTROL, OBSTACLE, RESTS, TARGET
from mom_plugins_balloon.states import HostWanted, MemoryState, Reserve, StateGoal
from mom_plugins_balloon.swept_guests import ENDED, GAVE, LASTED, REACTION, REST, SweptGuests
from mom_plugins_balloon.told import known_memory, memory_of, memory_of_all
from mom_toolkit import PolicyTexts, Promises, Reservations, stale_seconds

if TYPE_CHECKING:
    from mom_core import Report
    from mom_toolkit import Explainer, GuestColumn, StatusPart

MOM = "mom"
"""The source of what no other plugin knows."""

_NOTHING: Mapping[str, Value] = {}


PINNED = "pinned"
"""The property of a guest that says why the host gains nothing from shrinking it, where it gains nothing."""

SEEN_CYCLES = 6
"""Older snapshots that reservations look at, for the largest size of a guest since its statistics were taken."""

NEEDED = (
    (Scope.HOST, "mem_really_available"),
    *((Scope.GUEST, name) for name in ("balloon_cur", "balloon_max", "mem_usable", "stats_age")),
)
"""The fields without which the law suggests nothing."""

READ_OF_GUESTS = (
    *((name, Unit.KIB) for name in ("mem_unused", "mem_usable_soon", "rss", "host_swap")),
    *((name, Unit.KIB_PER_SECOND) for name in ("swap_in", "swap_out")),
    ("major_fault", Unit.PER_SECOND),
    ("reclaim_cost", Unit.RATIO),
)
"""Fields of guests that the law reads where they are known."""

_DECLARE = "enable plugins that collect them: host, and the hypervisor's, which is to declare and collect them of guests"

_UNCOOPERATIVE = "its memory is in use, or its balloon driver does not work"

_FULL = "the host is full: move guests away, start no more, or stop what else runs on it"

FINDINGS_SHOWN = 10
"""`mom doctor` names so many guests that cannot be resized, and counts the rest."""

SOCKETS = ("run/libvirt/libvirt-sock", "run/libvirt/virtqemud-sock", "var/run/libvirt/libvirt-sock")


class ReservationSettings(BaseModel):
    """How memory is reserved for launches."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    host_keeps: Size | None = None
    """What the host keeps available beside all that is reserved; the policy in force must aim at more. Unset: half of the least that a host
    of its size keeps (0.4 GiB of 24), below which the default policy has guests give what they may miss."""
    settle: Annotated[Duration, Field(ge=0, le=3600)] = 60.0
    """How long memory is kept still for a guest that has come for it, and has not touched all of it."""

    def keeping(self, law: LawParameters) -> ReservePolicy:
        """The same in KiB, with what guests keep."""
        return ReservePolicy(None if self.host_keeps is None else self.host_keeps / 1024, law, self.settle)


class BalloonPlugin:
    """Resizes guests with their memory balloons, never below what they need."""

    class Settings(PluginSettings):
        """How careful to be with guests, whatever a policy decides."""

        law: LawParameters = LawParameters()
        """The balloon law's parameters: what guests keep, when they suffer, how memory moves."""

        host_free: Size | None = None
        """What the host is to have available: with less, guests give memory. Unset: worked out from the host's size, and from what guests
        were seen to take at once."""

        host_hard: Size | None = None
        """The hard watermark: with less available, guests give what they may miss, too, and get no room for bursts back. Unset: half of the
        least that a host of its size keeps."""

        goal: StateGoal = StateGoal.BALANCED
        """What matters most: `density` (the host keeps what guests were seen to take at once), `safe` (it keeps all that they could), or
        `balanced`."""

        remember_bursts: Annotated[Duration, Field(gt=0)] = 900.0
        """For how long a guest's largest use of memory is remembered in full; after as long again, a third of it above the present use."""

        reserve: Size = 32 << 20
        """What a guest keeps at least above its need when it is shrunk: a guest without any spare memory cannot even start a process."""

        reserve_percent: Annotated[float, Field(ge=0, le=100)] = 5.0
        """The same as a percentage of the guest's need; the larger of the two counts. A large guest also grows by larger amounts."""

        dead_band: Annotated[Size, Field(ge=0)] = 8 << 20
        """A smaller change is not worth a command: guests use and free as much all the time."""

        host_reserve: SizeOrShare = Portion(share=0.05)
        """What the host keeps for itself and cannot promise to guests: its own programs, and what guests' processes hold besides."""

        stale_after: Duration | None = None
        """A guest whose statistics are older is not shrunk. Three cycles, and at least 10 s, if it is not given."""

        reservations: ReservationSettings = ReservationSettings()
        """How memory is reserved for launches."""

    class GuestSettings(mom_core.GuestSettings):
        """What a guest is promised."""

        guarantee: SizeOrShare | None = None
        """The guest is never shrunk below this: `6GiB`, or `75%` of the most that it can have."""

    def __init__(self, settings: Settings, context: PluginContext) -> None:
        self._settings = settings
        self._context = context
        self._dead_band = settings.dead_band / 1024
        self._sizes = RecentSizes()
        self._requests = Requests(self._dead_band)
        self._sweeps = SweptGuests(context, settings.law)
        self._cooperation = Cooperation(self._dead_band)
        self._learning = Learning(settings.remember_bursts, settings.law.growth_rate / 1024)
        self._wanted = HostWanted(settings.goal, _kib(settings.host_free), _kib(settings.host_hard))
        self._reserve: Reserve | None = None
        self._state = MemoryState.HIGH
        self._snapshot = Snapshot()
        self._told: Mapping[str, Sequence[float | None]] = {}
        """What that tells, as `memory_of_all` gives it; nothing where it was not needed yet."""
        self._guarantees = Guarantees(self._guarantee_of, settings.host_reserve)
        self._reservations = HostReservations(settings.reservations.keeping(settings.law), context, self._why_none_gives)
        self._observes: tuple[object, bool] = (None, False)
        self._held_back: tuple[Sequence[Guest], bool] = ((), False)

    @staticmethod
    @hookimpl
    def mom_suggest(root: Path) -> Suggestion | None:
        """Fits where guests can run: KVM, or a libvirt daemon."""
        if (root / "dev/kvm").exists():
            return Suggestion("this host runs KVM guests (/dev/kvm)", order=40)
        if any((root / socket).exists() for socket in SOCKETS):
            return Suggestion("libvirt runs on this host", order=40)
        return None

    # --- declare ---------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_fields(self) -> Iterable[FieldSpec]:
        """Guarantees and the last request; sizes and statistics are the hypervisor plugin's."""
        own, all_promises = "guests: guarantee in the YAML file, or the guest's metadata", "all promises to the guest"
        return (
            FieldSpec(RESERVED, Unit.KIB, Scope.HOST, "what is reserved for guests that are to be launched, and not touched yet", "mom"),
            FieldSpec("balloon_min", Unit.KIB, Scope.GUEST, "what the guest is promised by itself; MOM's name for it", own),
            FieldSpec(
                HOLDS,
                Unit.KIB,
                Scope.GUEST,
                "what mom never shrinks the guest below: the largest promise, as far as the host can keep it; by the last cycle",
                all_promises,
            ),
            FieldSpec(PROMISED, Unit.KIB, Scope.GUEST, "the largest promise to the guest; by the last cycle", all_promises),
            FieldSpec(PROMISED, Unit.KIB, Scope.HOST, "all that guests are promised; by the last cycle", all_promises),
            FieldSpec("mem_promisable", Unit.KIB, Scope.HOST, "what the host can promise to guests", "its memory less host_reserve"),
            *(FieldSpec.reads(name, unit, Scope.GUEST) for name, unit in READ_OF_GUESTS),
            FieldSpec.reads("offload_net", Unit.KIB, Scope.HOST),
            FieldSpec("mem_used_peak", Unit.KIB, Scope.GUEST, "the most that the guest's kernel and programs have used lately", MOM),
            FieldSpec("mem_used_before", Unit.KIB, Scope.GUEST, "what they used by the statistics before", MOM),
            FieldSpec("kernel_reserved", Unit.KIB, Scope.GUEST, "what the guest's kernel does not count as memory that it has", MOM),
            FieldSpec("mem_stall_floor", Unit.KIB, Scope.GUEST, "what is to be usable: with less the guest was seen to wait", MOM),
            FieldSpec("mem_cache_share", Unit.RATIO, Scope.GUEST, "how much of what is usable in the guest was page cache lately", MOM),
            FieldSpec("rss_before", Unit.KIB, Scope.GUEST, "memory of the host that the guest's process held in the cycle before", MOM),
            FieldSpec("qemu_overhead", Unit.KIB, Scope.GUEST, "what the guest's process holds besides what the guest uses", MOM),
            FieldSpec("balloon_target_age", Unit.SECONDS, Scope.GUEST, "how long ago mom asked the guest for a size", MOM),
            FieldSpec("mem_watermark_high", Unit.KIB, Scope.HOST, "what should be available: with less, guests give memory", MOM),
            FieldSpec("mem_watermark_hard", Unit.KIB, Scope.HOST, "with less available than this, guests give what they may miss", MOM),
            FieldSpec("mem_watermark_low", Unit.KIB, Scope.HOST, "with less available than this, no guest grows", MOM),
            FieldSpec(
                "host_memory_state", Unit.TEXT, Scope.HOST, "high, soft, hard or low, by what was available in the cycle before", MOM
            ),
            FieldSpec("balloon_goal", Unit.TEXT, Scope.HOST, "density, balanced or safe: the plugin's setting goal", MOM),
            FieldSpec("mem_growth_peak", Unit.KIB, Scope.HOST, "the most that guests together took from the host within 3 s lately", MOM),
            FieldSpec(SUGGESTED, Unit.KIB, Scope.GUEST, "what the balloon law suggests; unknown where the guest keeps its size", MOM),
            FieldSpec(REASON, Unit.TEXT, Scope.GUEST, "the code of the law's reason, such as sweep or runs-out", MOM),
            FieldSpec(
                "mem_growth_rate",
                Unit.KIB_PER_SECOND,
                Scope.GUEST,
                "what the guest may take from the host in a second, as far as is known",
                MOM,
            ),
            FieldSpec(
                "mem_freed_age", Unit.SECONDS, Scope.GUEST, "how long ago the guest was last seen to free memory; unknown: not lately", MOM
            ),
            FieldSpec("mem_burst", Unit.KIB, Scope.GUEST, "what its use rose by to near its peak, more than once lately", MOM),
            FieldSpec(GAVE, Unit.KIB, Scope.GUEST, "what the host got by the guest's last sweep, for a minute", MOM),
            FieldSpec(LASTED, Unit.SECONDS, Scope.GUEST, "for how long that left the guest without its room", MOM),
            FieldSpec(ENDED, Unit.TEXT, Scope.GUEST, "why that ended: arrived, grew, nothing-more, at-work, late or another", MOM),
            FieldSpec(REST, Unit.SECONDS, Scope.GUEST, "in how long the guest may be swept again; unknown if it may", MOM),
            FieldSpec(REACTION, Unit.SECONDS, Scope.HOST, "until a guest that grows while it is swept has its room again", MOM),
            FieldSpec(CONTROL, Unit.KIB, Scope.GUEST, "what mom asked the guest for last; unknown if it did not", MOM),
            FieldSpec(OBSTACLE, Unit.TEXT, Scope.GUEST, "why the guest cannot be counted on to give memory; unknown if it can", MOM),
            FieldSpec(
                RESTS, Unit.SECONDS, Scope.GUEST, "in how long a guest that gave nothing is asked again; unknown if it is asked", MOM
            ),
        )

    @hookimpl
    def mom_controls(self) -> Iterable[ControlSpec]:
        """The size of each guest."""
        return (replace(TARGET, tolerance=self._tolerance()),)

    @hookimpl
    def mom_policies(self) -> Mapping[str, str]:
        """Guests have the sizes that the law suggests."""
        folder = files("mom_plugins_balloon")
        return {"50_balloon": folder.joinpath("balloon.policy").read_text(encoding="utf-8")}

    @hookimpl
    def mom_services(self) -> Mapping[type, Any]:
        """Guests make room for launches, and are held to what they are promised."""
        return {Reservations: self._reservations, Promises: HeldPromises()}

    @hookimpl
    def mom_setup(self) -> None:
        """Take up what was reserved before a restart."""
        if self._context.serves:
            self._reservations.load()

    def _why_none_gives(self) -> str:
        """Why no guest makes room for a launch, whatever is asked; empty when they do."""
        configuration = self._context.configuration
        if self._observes[0] is not configuration:  # all settings are put together for this one: once for each configuration
            self._observes = (configuration, configuration().get("mode") == "observe")
        if self._observes[1]:
            return "mom only observes"
        policies = self._context.service(PolicyTexts)
        if policies is None:
            return "no enabled plugin has policies"
        if not policies_reserve({name: policy.text for name, policy in policies.state().texts.items()}):
            return f"no policy in force reads Host.{RESERVED}"
        return ""

    @hookimpl
    def mom_check(self) -> Iterable[Finding]:
        """Whether all is declared that the law cannot do without."""
        lacks = self._lacks()
        return [Finding(Severity.WARNING, "balloon law", lacks, _DECLARE)] if lacks else []

    def _lacks(self) -> str:
        """Why the law suggests nothing, whatever is collected; empty when it may."""
        missing = [f"{scope}.{name}" for scope, name in NEEDED if (scope, name) not in self._context.declarations.fields]
        return f"the law suggests no sizes: no plugin declares {', '.join(missing)}" if missing else ""

    # --- suggest ---------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_derive(self, snapshot: Snapshot) -> Derived:
        """The sizes that the law suggests."""
        found = suggestions(snapshot, self._settings.law, self._wanted, self._limits(), interval=self._context.interval)
        sizes = [None if one.target is None else int(one.target) for one in found]
        return Derived(guests=Columns({SUGGESTED: sizes, REASON: [one.code.value for one in found]}))

    # --- collect and review ----------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_collect_host(self) -> Mapping[str, Value]:
        """What is reserved for launches; what is promised, what can be, and how the host is off, as the last cycle saw it."""
        standing = self._guarantees.standing
        known: dict[str, Value] = {
            RESERVED: self._reservations.reserved_kib(),
            "balloon_goal": str(self._settings.goal),
            REACTION: round(self._sweeps.reaction, 2),
        }
        if standing.room is not None:
            known |= {PROMISED: math.ceil(standing.total), "mem_promisable": int(standing.room)}
        if self._reserve is not None:
            known |= {f"mem_watermark_{name}": int(kib) for name, kib in self._reserve._asdict().items()}
            known |= {"host_memory_state": str(self._state), "mem_growth_peak": int(self._learning.growth_kib)}
        return known

    @hookimpl
    def mom_collect_guests(self, guests: Sequence[Guest]) -> Columns:
        """What is guaranteed to each guest, what was learnt of it, and what was asked of it."""
        for outcome in self._sweeps.follow(self._requests):
            self._learning.swept(outcome)
        promises = self._guarantees.own(guests, self._context.guest_settings)
        requests, aside, now = self._requests.all(), self._cooperation.aside(), self._context.monotonic()
        few = {*promises, *self._guarantees.standing.holds, *aside}
        columns = self._learning.columns(guests)
        columns.update(self._sweeps.columns(guests, now))
        if requests:
            asked = [None if (one := requests.get(guest.id)) is None or one.incarnation != guest.incarnation else one for guest in guests]
            columns[CONTROL] = [None if one is None else one.target for one in asked]
            ages = [None if one is None else max(0.0, now - one.asked) for one in asked]
            columns["balloon_target_age"] = [None if age is None else round(age * 1000) / 1000 for age in ages]  # faster than round(…, 3)
            if len(asked) - asked.count(None) < len(requests):
                self._requests.keep_only(guests)
        if few or self._any_held_back(guests):
            promised = [
                self._promised(guest, promises.get(guest.id), aside.get(guest.id, ""), now)
                if guest.id in few or guest.blocked or PINNED in guest.properties
                else _NOTHING
                for guest in guests
            ]
            columns.update(Columns.of_rows(promised))
        return Columns(columns)

    def _any_held_back(self, guests: Sequence[Guest]) -> bool:
        """Whether one of these guests is not to be resized, or not to be shrunk. They are looked at when they are not the very same as
        before."""
        if self._held_back[0] is not guests:
            self._held_back = guests, any(guest.blocked or PINNED in guest.properties for guest in guests)
        return self._held_back[1]

    def _promised(self, guest: Guest, own: float | None, aside: str, now: float) -> dict[str, Value]:
        """The fields of a guest that was promised something, or that may not be able to give.

        :param own: what the YAML file and the metadata promise, in KiB
        :param aside: why it was set aside; empty when it was not
        """
        identity, blocked, standing = guest.id, guest.blocked, self._guarantees.standing
        holds = standing.holds.get(identity)
        known: dict[str, Value] = {}
        if own is not None:
            known["balloon_min"] = math.ceil(own if holds is None or not standing.shrunk else min(own, holds))
        if holds is not None:
            known[HOLDS] = holds
            known[PROMISED] = math.ceil(standing.promised[identity])
        obstacle = (blocked.get(CONTROL, "") or blocked.get("*", "") if blocked else "") or _obstacle(guest, aside)
        if obstacle:
            known[OBSTACLE] = obstacle
            rests = self._cooperation.rest_left(identity, now)
            if rests is not None:
                known[RESTS] = round(rests, 1)
        return known

    def _guarantee_of(self, settings: mom_core.GuestSettings) -> Portion | None:
        """What the YAML file promises by these settings of a guest."""
        return settings.guarantee if isinstance(settings, self.GuestSettings) else None

    def _standing(self, snapshot: Snapshot) -> PromisesKept:
        return self._guarantees.look(snapshot, self._context.guest_settings)

    @hookimpl
    def mom_act(self, snapshot: Snapshot, history: Sequence[Snapshot]) -> Iterable[Decision | Problem | Condition]:
        """See who gives what was asked; end shrinking where it must not go on, and undo it where it is of no use or broke a promise.

        A guest goes on shrinking towards what it was asked for until it is asked for something else, however long ago that was. What is
        decided follows from the snapshots alone.
        """
        self._requests.follow(snapshot)
        if self._context.declarations.fields and (lacks := self._lacks()):
            yield Problem(Source(self._context.name), lacks, severity=Severity.WARNING, hint=_DECLARE)
        yield from self._learn(snapshot)
        self._cooperation.watch(snapshot, self._requests.all(), CONTROL)
        limits = self._limits()
        source = Source(self._context.name)
        for reservation, trouble in self._reservations.follow(CycleInputs(snapshot, history[-SEEN_CYCLES:], limits)):
            yield Problem(source, f"reservation {reservation.id}: {trouble}", severity=Severity.WARNING, hint="`mom reserve list`")
        standing = self._standing(snapshot)
        yield from _problems_of(standing, source)
        yield from conditions(snapshot, self._state, standing)
        yield from self._sweeps.ends_of_cut_off(snapshot, source)
        aside, holds = self._cooperation.aside(), standing.holds
        for guest in self._not_where_asked(snapshot, holds):
            end = self._end_of_shrinking(guest, history, limits, holds.get(guest.id, 0))
            if end is not None:
                yield Decision(guest.entity, CONTROL, end.target, end.reason, source)
        for identity, why in aside.items():
            if identity in snapshot.guests:
                entity = snapshot.guests[identity].entity
                yield Problem(source, f"the guest does not give memory: {why}", entity, Severity.WARNING, _UNCOOPERATIVE)

    def _learn(self, snapshot: Snapshot) -> Iterable[Problem]:
        """Learn from what guests did, and see how the host is off: the operator hears of it when guests have to give what they may miss."""
        self._learning.see(snapshot, self._requests.all())
        total, available = (snapshot.host.number(name) for name in ("mem_available", "mem_really_available"))
        if total is None or available is None:
            return
        self._reserve = self._wanted.reserve(total, self._learning.growth_kib, self._learning.room_kib)
        self._state = self._reserve.state(available, self._state)
        if self._state in {MemoryState.HARD, MemoryState.LOW}:
            low = self._state is MemoryState.LOW
            # The bound, and not what is available now: a text that changes with every cycle would be news in every cycle.
            least = format_kib(self._reserve.low if low else self._reserve.hard)
            message = f"the host has less than {least} available, its {'low' if low else 'hard'} watermark"
            yield Problem(Source(self._context.name), message, severity=Severity.WARNING, hint=_FULL)

    def _not_where_asked(self, snapshot: Snapshot, holds: Mapping[str, int]) -> Iterator[Guest]:
        """Guests that were asked for a size and may have to be set to another one: nearly none of those that were asked."""
        for guest, target, size in zip(snapshot.listed, snapshot.column(CONTROL), snapshot.column("balloon_cur"), strict=True):
            if target is None or (guest.blocked and is_blocked(guest, CONTROL)) or self._sweeps.is_under_way(guest.id):
                continue
            least = holds.get(guest.id, 0) if holds else 0
            follows = isinstance(target, int) and isinstance(size, int) and size - target < self._dead_band and target >= least
            if not follows or PINNED in guest.properties:
                yield snapshot.guests[guest.id]

    def _end_of_shrinking(self, guest: Guest, history: Sequence[Snapshot], limits: ShrinkLimits, guarantee: int) -> SafeSize | None:
        """The size that a guest is to be set to though no evaluator decides anything, and why; None for nearly all.

        :param guarantee: KiB below which the guest must not be
        """
        target, size = as_number(guest.fields.get(CONTROL)), as_number(guest.fields.get("balloon_cur"))
        if target is None or size is None:
            return None
        pinned, maximum = guest.properties.get(PINNED), guest.number("balloon_max")
        if pinned and maximum is not None and target < maximum:
            return SafeSize(int(maximum), f"{pinned}; it gets back what was taken")
        if target < guarantee:
            # It was promised more since mom has asked this of it: a promise was made, the guest's maximum has grown, or others have left.
            return SafeSize(guarantee, f"its guarantee is {format_kib(guarantee)} now; it gets back what was taken of that")
        if size - target < self._dead_band:
            return None
        memory = memory_of(guest, guest.text(OBSTACLE) or "")
        reason = "" if memory is None else why_not_shrink(memory, limits)
        if not reason or has_arrived(guest.id, target, history, self._dead_band):
            return None
        return SafeSize(math.ceil(size), f"{reason}; the shrink under way is stopped")

    @hookimpl
    def mom_review(self, snapshot: Snapshot, decisions: Sequence[Decision]) -> Iterable[Revision]:
        """Keep every guest within what is safe for it, whatever plugin decided."""
        self._snapshot, self._told = snapshot, {}
        self._sizes.note(snapshot)
        self._requests.follow(snapshot)
        wanted = [decision for decision in decisions if decision.control == CONTROL]
        if not wanted:
            return ()
        limits, holds = self._limits(), self._standing(snapshot).holds
        self._told = told = memory_of_all(snapshot)
        revisions = []
        for decision in wanted:
            guest = snapshot.listed_as(decision.entity.id)
            memory = None if guest is None else self._memory(snapshot, guest, told[guest.id], holds)
            revision = None if guest is None else self._reviewed(snapshot, guest, decision, limits, memory)
            if revision is not None:
                revisions.append(revision)
        return revisions

    def _reviewed(
        self, snapshot: Snapshot, guest: Guest, decision: Decision, limits: ShrinkLimits, memory: KnownMemory | None
    ) -> Revision | None:
        if memory is None:
            return Revision(decision, None, "the guest's present size is unknown")
        verdict = permitted(decision.value, memory, limits)
        age, target = memory.statistics_age, verdict.target
        shrinks = target is not None and target < memory.current
        if shrinks and age is not None and self._requests.gave(guest.id, snapshot.monotonic - age):
            return Revision(decision, None, "the guest has given by these very statistics: what it can spare now is not known yet")
        if not verdict.reason:
            return None
        after = None if target is None else replace(decision, value=target)
        return Revision(decision, after, verdict.reason)

    def _limits(self) -> ShrinkLimits:
        settings = self._settings
        return ShrinkLimits(
            settings.reserve / 1024, settings.reserve_percent / 100, stale_seconds(self._context.interval, settings.stale_after)
        )

    def _memory(self, snapshot: Snapshot, guest: Guest, told: Sequence[float | None], holds: Mapping[str, int]) -> KnownMemory | None:
        """What the snapshot and the past tell about the guest; None when not even its size is known.

        :param told: what the snapshot tells, as `memory_of_all` gives it
        :param holds: what holds of all promises in this snapshot
        """
        identity = guest.id
        memory = known_memory(told, _obstacle(guest, self._cooperation.why_aside(identity)), holds.get(identity))
        if memory is None:
            return None
        moment = snapshot.monotonic - (memory.statistics_age or 0.0) - CLOCK_SLACK_SECONDS
        return memory._replace(
            overhead=self._sizes.overhead(identity, memory.total, moment),
            largest=self._sizes.largest_since(identity, moment),
            pending=self._requests.pending(identity),
        )

    # --- control ---------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_read(self, hypervisor: Hypervisor, targets: Sequence[Target]) -> Mapping[Target, Value | InTransition | HypervisorError]:
        """What the guests have. Every size on the way to what this process has asked for is its own doing, until the guest arrives."""
        sizes = _resizing(hypervisor).balloon_sizes([target.entity for target in targets])
        return {target: self._as_asked(target.entity.id, size) for target in targets if (size := sizes.get(target.entity.id)) is not None}

    def _as_asked(self, identity: str, size: int) -> int | InTransition:
        request = self._requests.get(identity)
        if request is None or request.arrived:
            return InTransition(size) if request is None and self._sweeps.was_swept_at(identity, size) else size
        began, target, tolerance = request.began_at, request.target, self._tolerance()
        low, high = (began, target) if began < target else (target, began)
        return InTransition(size) if low - tolerance <= size <= high + tolerance else size

    @hookimpl
    def mom_write(self, hypervisor: Hypervisor, changes: Sequence[Change]) -> Mapping[Target, HypervisorError | str]:
        """Ask each guest whose size should change."""
        balloons = _resizing(hypervisor)
        floors = self._floors() if any(change.back for change in changes) else {}
        holds = self._standing(self._snapshot).holds
        told = self._told or memory_of_all(self._snapshot)
        said: dict[Target, HypervisorError | str] = {}
        for change in changes:
            try:
                note = self._give_back(balloons, change, floors) if change.back else self._ask(balloons, change, holds, told)
            except GuestGone as error:
                self._requests.forget(change.entity.id)
                said[change.target] = error
            except HypervisorError as error:
                said[change.target] = error
            except Exception as error:  # noqa: BLE001  # containment: whatever one guest provokes, the others still get their memory
                said[change.target] = HypervisorError(f"{type(error).__name__}: {error}")
            else:
                if note:
                    said[change.target] = note
        return said

    def _ask(self, hypervisor: BalloonControl, change: Change, holds: Mapping[str, int], told: Mapping[str, Sequence[float | None]]) -> str:
        """Ask for what was decided, if it passes the gate: another plugin may have revised it after this one. Raises `HypervisorError`.

        :param holds: what holds of all promises in the last snapshot
        :param told: what that snapshot tells, as `memory_of_all` gives it
        """
        entity, target = change.entity, change.value
        guest = self._snapshot.listed_as(entity.id)
        memory = None if guest is None else self._memory(self._snapshot, guest, told[guest.id], holds)
        if guest is None or memory is None:
            raise Refused("the guest's present size is unknown")
        if not isinstance(target, int):
            raise Refused(f"{target!r:.40} is no size for a guest")
        verdict = permitted(target, memory, self._limits())
        if verdict.target != target:
            raise Refused(verdict.reason)
        now, size, age = self._snapshot.monotonic, memory.current, memory.statistics_age
        reason = self._requests.why_not_send(entity.id, target, size, memory.maximum, now, holds.get(entity.id, 0))
        if reason:
            raise NoChangeNeeded(reason)
        if target < size and self._sweeps.is_sweep(guest, target):
            waited = max(0.0, self._context.monotonic() - now)
            self._sweeps.begin(hypervisor, guest, target, int(size), None if age is None else age + waited)
        else:
            self._sweeps.take_over(entity.id)
            hypervisor.set_balloon(entity, target)
        self._requests.sent(entity.id, target, size, now, guest.incarnation, None if age is None else now - age)
        return ""

    def _give_back(self, hypervisor: BalloonControl, change: Change, floors: Mapping[str, float]) -> str:
        """Ask for the size before mom, as far as the guest can have it and uses no more; what there is to say of it.

        Raises `HypervisorError`.
        """
        identity, size, before = change.entity.id, as_number(change.found), as_number(change.value)
        if before is None or before <= 0:
            raise Refused(f"{change.value!r:.40} is no size that a guest could have had")
        guest = self._snapshot.guests.get(identity)
        maximum = None if guest is None else guest.number("balloon_max")
        target, note = int(before if maximum is None else min(before, maximum)), ""
        floor = math.ceil(floors.get(identity, 0.0))
        if target < floor:
            uses = f"the guest uses more now than the {format_kib(target)} that it had before mom"
            if size is not None and size <= floor:
                self._requests.forget(identity)
                raise NoChangeNeeded(f"{uses}, and keeps what it has")
            target, note = floor, f"{uses}: asked for {format_kib(floor)}"
        self._sweeps.take_over(identity)
        hypervisor.set_balloon(change.entity, target)
        self._requests.forget(identity)
        return note

    def _floors(self) -> dict[str, float]:
        """The smallest sizes in KiB that the guests may be given, by the last snapshot; without those of which nothing is known."""
        limits, holds, told = self._limits(), self._standing(self._snapshot).holds, memory_of_all(self._snapshot)
        floors = {}
        for guest in self._snapshot.guests.values():
            memory = self._memory(self._snapshot, guest, told[guest.id], holds)
            if memory is None:
                continue
            floor = max(floor_kib(memory, limits) or 0.0, memory.guarantee or 0.0)
            if floor:
                floors[guest.id] = floor
        return floors

    def _tolerance(self) -> float:
        """KiB by which a size may be off and still be mom's: changes within the dead band were decided but never sent."""
        return 2 * self._dead_band

    # --- judge -----------------------------------------------------------------------------------------------------------------

    # --- surface ---------------------------------------------------------------------------------------------------------------

    @staticmethod
    @hookimpl
    def mom_status(report: Report) -> Iterable[StatusPart]:
        """What the host should have."""
        from mom_plugins_balloon.overview import host_parts

        return host_parts(report)

    @staticmethod
    @hookimpl
    def mom_guest_columns() -> Iterable[GuestColumn]:
        """What guests are promised."""
        from mom_plugins_balloon.overview import COLUMNS

        return COLUMNS

    @staticmethod
    @hookimpl
    def mom_explainer() -> Explainer:
        """The guest's size."""
        from mom_plugins_balloon.explanation import BalloonExplainer

        return BalloonExplainer()

    @hookimpl
    def mom_doctor(self, hypervisor: Hypervisor | None) -> Iterable[Finding]:
        """Whether guests can be resized, and which cannot."""
        subject = "memory balloons"
        if hypervisor is None:
            return [Finding(Severity.WARNING, subject, "not looked at: no hypervisor was reached")]
        if not isinstance(hypervisor, BalloonControl):
            cure = "enable a hypervisor plugin that can, such as libvirt, before this one, or take balloon out of the configuration"
            return [Finding(Severity.ERROR, subject, f"{hypervisor.uri} cannot resize guests", cure)]
        try:
            guests = hypervisor.guests()
        except HypervisorError as error:
            return [Finding(Severity.ERROR, subject, f"the guests cannot be listed: {error}", "see what the hypervisor plugin says above")]
        return self._findings(subject, guests)

    def _findings(self, subject: str, guests: Sequence[Guest]) -> list[Finding]:
        blocked = [(guest, reason) for guest in guests if (reason := guest.blocked.get(CONTROL, "") or guest.blocked.get("*", ""))]
        findings = [
            Finding(
                Severity.WARNING,
                f"guest {printable(guest.name)}",
                f"it cannot be resized: {reason}",
                _cure(reason),
            )
            for guest, reason in blocked[:FINDINGS_SHOWN]
        ]
        if len(blocked) > FINDINGS_SHOWN:
            findings.append(Finding(Severity.WARNING, subject, f"{len(blocked) - FINDINGS_SHOWN} more guests cannot be resized"))
        able = len(guests) - len(blocked)
        findings.append(Finding(Severity.OK, subject, f"{able} of {len(guests)} guests can be resized"))
        return findings


def _kib(size: int | None) -> float | None:
    return None if size is None else size / 1024


def _resizing(hypervisor: Hypervisor) -> BalloonControl:
    """The hypervisor, if it resizes guests. Raises `NotSupported`."""
    if not isinstance(hypervisor, BalloonControl):
        raise NotSupported(f"{hypervisor.uri} cannot resize guests")
    return hypervisor


def _problems_of(standing: PromisesKept, source: Source) -> Iterable[Problem]:
    """What an operator has to know about promises: those that the host or the guest cannot keep, and those that make no sense."""
    oversold = standing.oversold()
    if oversold:
        hint = "move guests away, lower their guarantees, or give the host more memory; host_reserve of the plugin balloon is left out"
        yield Problem(source, oversold, None, Severity.ERROR, hint)
    for excess in standing.excessive:
        message = f"it is promised {format_kib(excess.promised)} and cannot have more than {format_kib(excess.maximum)}: it keeps all"
        hint = "lower its guarantee, or raise its maximum memory"
        yield Problem(source, message, excess.guest.entity, Severity.WARNING, hint)
    for unclear in standing.unclear:
        message = f"the guarantee in its metadata cannot be understood, so it keeps all its memory: {unclear.error.message}"
        yield Problem(source, message, unclear.guest.entity, Severity.ERROR, f"in the guest's metadata, {unclear.error.hint}")


def _obstacle(guest: Guest, aside: str) -> str:
    """Why this guest is not to be shrunk, though it may be resized; empty when it is.

    :param aside: why it was set aside; empty when it was not
    """
    pinned = guest.properties.get(PINNED)
    return pinned if isinstance(pinned, str) and pinned else aside


def _cure(reason: str) -> str:
    if "balloon" in reason:
        return "give it <memballoon model='virtio'/> and the virtio_balloon driver, or live with its size"
    return "docs/guests.md says what mom does with each kind of guest"
