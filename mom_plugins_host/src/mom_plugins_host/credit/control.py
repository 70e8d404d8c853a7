"""Growth on credit in the plugin `cgroup`: fields, control, problems and decisions."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import Final

from mom_core import (
    Change,
    ControlSpec,
    Decision,
    FieldSpec,
    Guest,
    GuestColumn,
    Hypervisor,
    HypervisorError,
    NotSupported,
    PluginContext,
    Problem,
    Revision,
    Scope,
    Severity,
    Snapshot,
    Source,
    Target,
    Unit,
    Value,
    first_names,
    format_kib,
)
from mom_plugins_host.capabilities import GrowthControl
from mom_plugins_host.cgroup.groups import CURRENT, MEMORY_HIGH, NO_LIMIT, GuestGroup
from mom_plugins_host.credit.groups import KernelGroups
from mom_plugins_host.credit.law import ORDINARY_PRIORITY, Borrower
from mom_plugins_host.credit.limiter import GrowthLimiter

CREDIT: Final = "memory_credit"
DELAY: Final = "memory_credit_delay"

DECLARED: Final = (
    FieldSpec(CREDIT, Unit.FLAG, Scope.GUEST, "1: mom limits how fast the guest grows while guests could exhaust the host", "memory.high"),
    FieldSpec(DELAY, Unit.SECONDS, Scope.GUEST, "time in the last cycle for which the limit delayed the guest's growth", "memory.events"),
    FieldSpec.reads("mem_watermark_low", Unit.KIB, Scope.HOST),
    FieldSpec.reads("mem_watermark_high", Unit.KIB, Scope.HOST),
    FieldSpec.reads("priority", Unit.COUNT, Scope.GUEST),
    ControlSpec(CREDIT, Unit.FLAG, Scope.GUEST, "1: limit how fast the guest grows while guests could exhaust the host", CREDIT),
    GuestColumn(
        "held back", (DELAY,), Unit.SECONDS,
        "time in the last cycle for which the guest could not grow, because the host had no memory left", 29, 2,
        "mom_guest_held_back_seconds", mark_from=0.1,
    ),
)  # fmt: skip

_HIGH_SHARE: Final = 0.1
_RESERVE_SHARE: Final = 0.02
"""Without the balloon plugin, the low watermark is this share of the host's memory, and the high watermark is `_HIGH_SHARE` of it."""

_PODS: Final = "/kubepods"
"""Part of the path of a pod's control group. The kubelet, not mom, limits pods."""

_TOLD_SECONDS: Final = 0.5
"""mom reports a guest that was delayed for at least this long in a cycle. Shorter delays are usual while limits follow growth."""


def can_limit(group: GuestGroup | None, fields: Mapping[str, Value]) -> bool:
    """Return whether mom may limit the growth of a guest.

    :param group: None for a simulated guest
    """
    return MEMORY_HIGH in fields and (group is None or _PODS not in group.folder)


class GrowthCredit:
    """Growth on credit: limits on how fast guests grow.

    :param is_wanted: the setting `credit`
    """

    def __init__(self, context: PluginContext, groups: KernelGroups, *, is_wanted: bool) -> None:
        self._context, self._source, self._is_wanted = context, Source(context.name), is_wanted
        self.limiter = GrowthLimiter(groups, context.monotonic)
        self._incarnations: Mapping[str, str] | None = None
        """Incarnations of the guests in the last cycle, keyed by guest id; None before the first cycle."""
        self._on_credit: set[str] = set()
        """Ids of guests on credit (`memory_credit` is 1)."""

    def stop(self) -> None:
        """Lift all limits: without mom, nobody would raise them."""
        self.limiter.control.watch_growth(None)
        self.limiter.lift()

    # --- each cycle ---------------------------------------------------------------------------------------------------------------

    def add_fields(self, hypervisor: Hypervisor, guests: Iterable[Guest], fields: Mapping[str, dict[str, Value]]) -> None:
        """Add the fields of growth on credit to `fields`, for guests whose limit is known."""
        if isinstance(hypervisor, GrowthControl):
            self.limiter.control = hypervisor
        if self._is_wanted and self._context.serves and self._incarnations is None:
            self.limiter.control.watch_growth(self.limiter.look)
        before, self._incarnations = self._incarnations or {}, {guest.id: guest.incarnation for guest in guests}
        # A guest that has restarted has a new group.
        self._on_credit = {name for name in self._on_credit if name in before and before[name] == self._incarnations.get(name)}
        if not self._is_wanted and not self._on_credit:
            return
        # If an earlier mom process set a limit, mom lifts it first.
        ours = {(entry.entity.id, entry.incarnation) for entry in self._context.engine_state().changes if entry.control == CREDIT}
        delays = self.limiter.delays()
        for name, own in fields.items():
            if name in self._on_credit:
                own |= {CREDIT: 1, DELAY: delays.get(name, 0.0)}
            elif own[MEMORY_HIGH] == NO_LIMIT or (name, self._incarnations[name]) in ours:
                own[CREDIT] = 0

    def decisions(self, snapshot: Snapshot, limited: Container[str]) -> Iterator[Decision]:
        """Yield a decision for each guest that is not on credit yet. `limited`: ids of guests whose settings contain a limit."""
        for guest in snapshot.guests.values() if self._is_wanted else ():
            if guest.fields.get(CREDIT) == 0 and guest.id not in limited:
                yield Decision(guest.entity, CREDIT, 1, "the setting `credit`", self._source)

    def update(self, snapshot: Snapshot, promised: Callable[[Guest], int], overhead_kib: int) -> None:
        """Pass this cycle's figures to the limiter.

        :param promised: returns the memory promised to a guest in KiB, including QEMU's own memory
        """
        host = snapshot.host
        total, high, low = (host.number(name) for name in ("mem_available", "mem_watermark_high", "mem_watermark_low"))
        if total is not None:
            high, low = _HIGH_SHARE * total if high is None else high, _RESERVE_SHARE * total if low is None else low
        guests = [guest for guest in snapshot.guests.values() if guest.id in self._on_credit]
        borrowers: dict[str, Borrower] = {}
        for guest in guests:
            held, maximum, priority = (guest.number(name) for name in (CURRENT, "balloon_max", "priority"))
            if held is not None:
                most = math.inf if maximum is None else maximum + overhead_kib
                priority = ORDINARY_PRIORITY if priority is None else priority
                borrowers[guest.id] = Borrower(int(held), promised(guest), most, priority)
        unlimited = {guest.id for guest in guests if guest.number(MEMORY_HIGH) == NO_LIMIT}
        self.limiter.update(borrowers, high, low or 0.0, unlimited)

    def refused(self, decisions: Iterable[Decision]) -> Iterator[Revision]:
        """Refuse decisions on `memory.high` of guests on credit."""
        for decision in decisions:
            if decision.control == MEMORY_HIGH and decision.entity.id in self._on_credit:
                yield Revision(decision, None, f"mom itself limits the guest's growth with memory.high: set {CREDIT} to 0 first")

    def problems(self, snapshot: Snapshot) -> Iterator[Problem]:
        """Yield problems: guests whose growth was delayed, and guests that mom cannot limit."""
        available = snapshot.host.number("mem_really_available")
        left = "" if available is None else f": the host has {format_kib(available)} available"
        for guest in snapshot.guests.values():
            if (delay := guest.number(DELAY)) is not None and delay >= _TOLD_SECONDS:
                hint = "move guests away, or add memory to the host"
                yield Problem(self._source, f"its growth was delayed by {delay:.1f} s{left}", guest.entity, Severity.WARNING, hint)
        without = [guest.name for guest in snapshot.guests.values() if self._is_wanted and guest.fields.get(CREDIT) is None]
        if without:
            message = f"mom cannot limit the growth of {first_names(without)}"
            hint = "each guest needs its own control group (v2) with the memory controller and memory.high=max; pods cannot be limited"
            yield Problem(self._source, message, None, Severity.WARNING, hint)

    # --- control -------------------------------------------------------------------------------------------------------------------

    def read(self, name: str, high: int | None) -> int | NotSupported:
        """Return 1 if a guest is on credit, else 0. `high` is the limit of the guest's group."""
        # Before the first cycle, a limit means that an earlier mom process put the guest on credit.
        if high is None and isinstance(self.limiter.control, KernelGroups):
            return NotSupported("its control group has no memory.high")
        return int(name in self._on_credit or (self._incarnations is None and high not in {None, NO_LIMIT}))

    def write(self, changes: Iterable[Change]) -> Mapping[Target, HypervisorError]:
        """Put guests on credit or end their credit. Return the failures."""
        # In both cases, first lift the limit.
        targets = {change.entity.id: change.target for change in changes}
        failures = self.limiter.lift(targets)
        self._on_credit -= targets.keys() - failures.keys()
        self._on_credit |= {change.entity.id for change in changes if change.value and change.entity.id not in failures}
        return {targets[name]: error for name, error in failures.items()}
