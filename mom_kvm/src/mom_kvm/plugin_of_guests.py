"""Hooks and findings common to all hypervisors of QEMU guests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Final, Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from pydantic import Field

from mom_core import (
    Change,
    Condition,
    ControlSpec,
    Decision,
    Declaration,
    Duration,
    Entity,
    FieldSpec,
    Finding,
    Guest,
    Hypervisor,
    HypervisorError,
    NotSupported,
    PluginContext,
    PluginSettings,
    Problem,
    Refused,
    Report,
    Scope,
    Severity,
    Snapshot,
    Source,
    Target,
    Unit,
    Value,
    as_whole,
    count_of,
    first_names,
    format_duration,
    hookimpl,
)
from mom_kvm.fields import GuestField
from mom_kvm.hypervisors import set_each
from mom_kvm.threads import LookThread

if TYPE_CHECKING:
    from mom_kvm.seen_guests import SeenGuest
    from mom_kvm.watch import BalloonStatistics, GuestWatch

_LONGEST_PERIOD_SECONDS: Final = 3600

_SWITCHED_PER_CYCLE: Final = 50
"""Maximum number of guests whose statistics mom switches on in one cycle."""

_SHORTEST_WATCH_SECONDS: Final = 0.05
"""Minimum of the setting `watch`, except 0. Guests send statistics only once a second."""


class ReportingHypervisor(Hypervisor, Protocol):
    """Hypervisor that reads guests' statistics when listing guests."""

    def fields(self, guests: Sequence[Guest]) -> dict[str, dict[str, Value]]:
        """Return the guests' fields as of the last call of `Hypervisor.guests`, keyed by guest ID, then field name."""

    def remarks(self) -> Sequence[tuple[str, SeenGuest.Remark]]:
        """Return why mom cannot rely on guests, each with the guest's ID."""

    def stats_period(self, guest: Entity) -> int:
        """Return the guest's statistics period in seconds; 0 if off. Raise `HypervisorError` on failure."""

    def set_stats_period(self, guest: Entity, seconds: int) -> None:
        """Set the guest's statistics period in seconds; 0 switches statistics off. Raise `HypervisorError` on failure."""


H = TypeVar("H", bound=ReportingHypervisor)


class PluginOfGuests(Generic[H]):
    """Base class of plugins for hypervisors. The subclass sets `_hypervisor` and `_watch` in `mom_setup`."""

    class Settings(PluginSettings):
        """Settings for guests' statistics."""

        stats_period: Annotated[Duration, Field(ge=0, le=_LONGEST_PERIOD_SECONDS, multiple_of=1)] = 1.0
        """Period of balloon statistics that mom sets for guests whose statistics are off. When mom exits, it switches the statistics off
        again. `0s`: mom sets no period."""
        watch: Annotated[Duration, Field(ge=0, le=10), LookThread.interval(_SHORTEST_WATCH_SECONDS)] = 0.25
        """Interval at which mom checks shrunk guests between cycles. If a guest runs low on memory, a cycle starts immediately. `0s`: mom
        does not check guests between cycles."""

    def __init__(self, settings: Settings, context: PluginContext) -> None:
        self._reporting = settings
        self._context = context
        self._hypervisor: H | None = None
        self._watch: GuestWatch | None = None

    @hookimpl
    def mom_declare(self) -> Iterable[Declaration]:
        description = f"period of the guest's balloon statistics, up to {_LONGEST_PERIOD_SECONDS} s; 0: off"
        # With bounds, mom would raise a negative period to 0, which means off. `mom_write` refuses it.
        return (
            ControlSpec(GuestField.PERIOD, Unit.SECONDS, Scope.GUEST, description, GuestField.PERIOD),
            FieldSpec("guests_silent", Unit.COUNT, Scope.HOST, "guests whose balloon driver does not answer", "guests' statistics"),
            FieldSpec("guests_distrusted", Unit.COUNT, Scope.HOST, "guests that report impossible statistics", "guests' statistics"),
        )

    @hookimpl
    def mom_hypervisor(self) -> Hypervisor | None:
        return self._hypervisor

    def _watch_by(self, balloons: BalloonStatistics) -> None:
        from mom_kvm.watch import GuestWatch

        self._watch = GuestWatch(balloons, self._reporting.watch, self._context.wake, self._context.log.getChild("watch"))
        self._watch.start()

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.stop()

    @hookimpl
    def mom_collect_guests(self, hypervisor: Hypervisor, guests: Sequence[Guest]) -> Mapping[str, Mapping[str, Value]]:
        own = self._own(hypervisor)
        if own is None:
            return {}
        fields = own.fields(guests)
        for uuid, soon in (self._watch.forecasts(guests) if self._watch is not None else {}).items():
            usable = fields.get(uuid, {}).get("mem_usable")
            if isinstance(usable, int):
                fields[uuid]["mem_usable_soon"] = min(soon, usable)  # the cycle's statistics may be newer
        return fields

    @hookimpl
    def mom_collect_host(self, hypervisor: Hypervisor) -> Mapping[str, Value]:
        own = self._own(hypervisor)
        if own is None:
            return {}
        kinds = [remark.kind for _, remark in own.remarks()]
        return {"guests_silent": kinds.count("silent"), "guests_distrusted": kinds.count("distrusted")}

    @hookimpl
    def mom_problems(self, snapshot: Snapshot) -> Iterable[Problem | Condition]:
        for uuid, remark in () if self._hypervisor is None else self._hypervisor.remarks():
            if uuid in snapshot.guests:
                entity = snapshot.guests[uuid].entity
                yield Problem(Source(self._context.name), remark.message, entity, Severity.WARNING, remark.hint)

    @hookimpl
    def mom_act(self, snapshot: Snapshot) -> Iterable[Decision]:
        period = int(self._reporting.stats_period)
        if not period:
            return
        off = (
            guest
            for guest in snapshot.guests.values()
            if guest.fields.get(GuestField.PERIOD) == 0 and not {"*", GuestField.PERIOD} & guest.blocked.keys()
        )
        for guest in islice(off, _SWITCHED_PER_CYCLE):
            yield Decision(guest.entity, GuestField.PERIOD, period, "the guest's balloon statistics are off", Source(self._context.name))

    @hookimpl
    def mom_read(self, hypervisor: Hypervisor, targets: Sequence[Target]) -> Mapping[Target, Value | HypervisorError]:
        own = self._ours(hypervisor)
        periods: dict[Target, Value | HypervisorError] = {}
        for target in targets:
            try:
                periods[target] = own.stats_period(target.entity)
            except HypervisorError as error:
                periods[target] = error
        return periods

    @hookimpl
    def mom_write(self, hypervisor: Hypervisor, changes: Sequence[Change]) -> Mapping[Target, HypervisorError]:
        own = self._ours(hypervisor)

        def set_one(change: Change) -> None:
            period = as_whole(change.value)
            if period is None or not 0 <= period <= _LONGEST_PERIOD_SECONDS:
                raise Refused(f"the period must be a whole number of seconds from 0 to {_LONGEST_PERIOD_SECONDS}")
            own.set_stats_period(change.entity, period)

        return set_each(changes, set_one)

    @hookimpl
    def mom_doctor(self) -> Iterable[Finding]:
        if self._hypervisor is None:
            return []
        try:
            return list(self._examined(self._hypervisor))
        except HypervisorError as error:
            return [Finding(Severity.ERROR, self._context.name, error.message, error.hint)]

    def _examined(self, hypervisor: H) -> Iterable[Finding]:
        raise NotImplementedError

    @hookimpl
    def mom_report(self, report: Report) -> None:
        if self._watch is not None:
            self._watch.follow(report)

    def _own(self, hypervisor: Hypervisor) -> H | None:
        return self._hypervisor if hypervisor is self._hypervisor else None

    def _ours(self, hypervisor: Hypervisor) -> H:
        own = self._own(hypervisor)
        if own is None:
            raise NotSupported("another plugin's hypervisor is in use")
        return own


# --- findings of `mom doctor` -------------------------------------------------------------------------------------------------


NamedFields: TypeAlias = tuple[str, Mapping[str, Value]]


class Cures(NamedTuple):
    """Hints for features that guests lack; empty without a hint. `{}` in `statistics` stands for the period in seconds."""

    plugin: str
    balloon: str
    statistics: str = ""
    reporting: str = ""
    autodeflate: str = ""

    def examine(
        self, hypervisor: ReportingHypervisor, listed: Sequence[Guest], guests: Sequence[SeenGuest], *, acts: bool, stats_period: float
    ) -> Iterable[Finding]:
        """Yield findings about missing features and unreadable descriptions.

        :param acts: whether mom may change the guests' settings
        """
        fields = hypervisor.fields(listed)
        for reason in dict.fromkeys(guest.garbled for guest in guests if guest.garbled):
            garbled = [guest.name for guest in guests if guest.garbled == reason]
            text = f"{Cures.named(garbled, ' with an invalid description')}: {reason}; mom does not change their balloons"
            yield Finding(Severity.WARNING, "description", text, "check the description: virsh dumpxml GUEST")
        guests = [guest for guest in guests if guest.description is not None]
        without = [guest.name for guest in guests if not guest.balloon]
        if without:
            yield Finding(Severity.WARNING, "balloon device", Cures.named(without, " without"), self.balloon)
        for reason in dict.fromkeys(guest.pinned for guest in guests if guest.pinned):
            pinned = [guest.name for guest in guests if guest.pinned == reason]
            yield Finding(Severity.OK, "pinned memory", f"{Cures.named(pinned, ' with a fixed size')}: {reason}")
        off = [guest.name for guest in guests if guest.balloon and not guest.period]
        if off and stats_period and acts:
            text = f"off for {Cures.named(off)}; mom switches statistics on when it acts, with a period of {format_duration(stats_period)}"
            cure = self.statistics.format(max(1, round(stats_period)))
            yield Finding(Severity.OK, "guest statistics", text, cure and f"to have statistics while mom only observes: {cure}")
        elif off:
            cure = f"set stats_period of the {self.plugin} plugin" + (f", or {self.statistics.format(2)}" if self.statistics else "")
            yield Finding(Severity.WARNING, "guest statistics", f"off for {Cures.named(off)}", cure)
        workable = [
            (guest.name, fields.get(guest.id, {})) for guest in guests if guest.balloon and not (guest.pinned or guest.without_balloon)
        ]
        yield from _could_have(workable, self.reporting, self.autodeflate)
        waiting = [guest.name for guest in guests if guest.reports and not guest.fresh]
        if waiting:
            cure = "in these guests, unless booting or paused, load virtio_balloon (Windows: the balloon driver and service of virtio-win)"
            yield Finding(Severity.WARNING, "guest statistics", Cures.named(waiting, " without an answer"), cure)

    @staticmethod
    def named(names: Sequence[str], how: str = "") -> str:
        """Return text such as `2 guests without a balloon: web, db`."""
        return f"{count_of(len(names), 'guest')}{how}: {first_names(names)}"


def _could_have(guests: Sequence[NamedFields], reporting_by: str, autodeflate_by: str) -> Iterable[Finding]:
    # docs/reporting.md measures the effects of these features.
    silent = [guest for guest in guests if guest[1].get(GuestField.REPORTING) == 0]
    if silent and reporting_by:
        gain = "with it, memory that a guest frees returns to the host (measured: 420 of 450 MiB in 10 s)"
        cure = f"to enable it: {reporting_by}; takes effect at the guest's next start; needs QEMU 5.1, and Linux 5.7 in the guest"
        yield Finding(Severity.OK, "free page reporting", f"off for {Cures.named([name for name, _ in silent])}; {gain}", cure)
    stiff = [guest for guest in guests if guest[1].get(GuestField.AUTODEFLATE) == 0]
    if stiff and autodeflate_by:
        gain = "with it, the balloon deflates within a second when the guest runs out of memory, and no program is killed"
        cure = f"to enable it: {autodeflate_by}; takes effect at the next start; unsuitable for guests that must never exceed their size"
        yield Finding(Severity.OK, "autodeflate", f"off for {Cures.named([name for name, _ in stiff])}; {gain}", cure)
