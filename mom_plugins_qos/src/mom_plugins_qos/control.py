"""Setting limits and putting them back, on whatever hypervisor can, with every result read back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from mom_core import (
    ControlSpec,
    CpuTuneControl,
    Decision,
    Entity,
    GuestGone,
    Hypervisor,
    HypervisorError,
    IoTuneControl,
    LedgerEntry,
    NetTuneControl,
    NotSupported,
    Outcome,
    Scope,
    Source,
    Status,
    Unit,
    Value,
)
from mom_plugins_qos.bounds import CPU_SHARES, DIRECTIONS, DISK_LIMITS, NO_QUOTA, PERIOD, PERIOD_US, QUOTA, QUOTA_US, cpu_complaint, whole
from mom_plugins_qos.fields import DISKS, DISKS_NOW, INTERFACES
from mom_plugins_qos.lists import (
    ImpossibleError,
    Item,
    completed_disks,
    completed_interfaces,
    named,
    present_disks,
    present_interfaces,
)

CPU_CONTROLS = (QUOTA, PERIOD, CPU_SHARES)

# No bounds here: a quota or period that is moved to a bound by itself would be another limit than was meant. Such values are refused.
CONTROLS = (
    ControlSpec(
        QUOTA,
        Unit.MICROSECONDS,
        Scope.GUEST,
        f"CPU time that each vCPU may use in every period: {QUOTA_US[0]} to {QUOTA_US[1]}, or -1 for no limit",
        QUOTA,
    ),
    ControlSpec(PERIOD, Unit.MICROSECONDS, Scope.GUEST, f"the period that the quota is for: {PERIOD_US[0]} to {PERIOD_US[1]}", PERIOD),
    ControlSpec(
        CPU_SHARES,
        Unit.COUNT,
        Scope.GUEST,
        "the guest's weight when CPUs are short: 2 to 262144 with cgroups v1, 1 to 10000 with v2",
        CPU_SHARES,
    ),
    ControlSpec(
        DISKS,
        Unit.LIST,
        Scope.GUEST,
        "limits of disks: for each `name`, and any of " + ", ".join(f"`{key}`" for key in DISK_LIMITS) + "; 0: no limit",
        DISKS_NOW,
    ),
    ControlSpec(
        INTERFACES,
        Unit.LIST,
        Scope.GUEST,
        "limits of network interfaces: for each `name`, and `inbound` and `outbound` with `average`, `peak` (KiB/s) and `burst` (KiB)",
        INTERFACES,
    ),
)


class Setter(Protocol):
    """Sets one item of a list."""

    def __call__(self, guest: Entity, name: str, item: Mapping[str, Value]) -> None:
        """Raises `HypervisorError`."""
        ...


@dataclass(frozen=True, slots=True)
class Lists:
    """What is the same for disks and interfaces: how their limits are read, completed and set."""

    read: Callable[[Entity], list[Item] | None]
    complete: Callable[[Value, Sequence[Item]], list[Item]]
    set: Setter


def lists_of(hypervisor: Hypervisor, control: str) -> Lists | None:
    """How that control's lists are handled on this hypervisor; None where it cannot."""
    if control == DISKS and isinstance(hypervisor, IoTuneControl):
        io = hypervisor

        def disks(guest: Entity) -> list[Item] | None:
            tunes = io.io_tunes([guest]).get(guest.id)
            return None if tunes is None else present_disks(tunes)

        def set_disk(guest: Entity, name: str, item: Mapping[str, Value]) -> None:
            io.set_io_tune(guest, name, {key: number for key in DISK_LIMITS if (number := whole(item.get(key))) is not None})

        return Lists(disks, completed_disks, set_disk)
    if control == INTERFACES and isinstance(hypervisor, NetTuneControl):
        net = hypervisor

        def interfaces(guest: Entity) -> list[Item] | None:
            tunes = net.net_tunes([guest]).get(guest.id)
            return None if tunes is None else present_interfaces(tunes)

        def set_interface(guest: Entity, name: str, item: Mapping[str, Value]) -> None:
            inbound, outbound = (_numbers(item.get(direction)) for direction in DIRECTIONS)
            net.set_net_tune(guest, name, inbound, outbound)

        return Lists(interfaces, completed_interfaces, set_interface)
    return None


def apply(hypervisor: Hypervisor, decisions: Sequence[Decision]) -> list[Outcome]:
    """Set what was decided; an outcome for each decision."""
    outcomes: list[Outcome] = []
    cpu: dict[str, dict[str, Decision]] = {}
    lists = {control: lists_of(hypervisor, control) for control in (DISKS, INTERFACES)}
    for decision in decisions:
        if decision.control in CPU_CONTROLS:
            cpu.setdefault(decision.entity.id, {})[decision.control] = decision
        else:
            outcomes.append(_apply_list(hypervisor.uri, lists[decision.control], decision))
    return outcomes + _apply_cpu(hypervisor, cpu)


# --- CPU time --------------------------------------------------------------------------------------------------------------------


def _present_cpu(hypervisor: CpuTuneControl, guests: Sequence[Entity]) -> dict[str, dict[str, int | None]]:
    return {
        identity: {QUOTA: tune.quota_us, PERIOD: tune.period_us, CPU_SHARES: tune.shares}
        for identity, tune in hypervisor.cpu_tunes(guests).items()
    }


def _apply_cpu(hypervisor: Hypervisor, wanted: Mapping[str, Mapping[str, Decision]]) -> list[Outcome]:
    """Set CPU limits: each guest's in one call, and all of them read back in one."""
    every = [decision for decisions in wanted.values() for decision in decisions.values()]
    if not every:
        return []
    if not isinstance(hypervisor, CpuTuneControl):
        return _all(every, Status.REFUSED, f"{hypervisor.uri} cannot limit CPU time")
    guests = [next(iter(decisions.values())).entity for decisions in wanted.values()]
    try:
        before = _present_cpu(hypervisor, guests)
    except HypervisorError as error:
        return _all(every, Status.FAILED, str(error))
    outcomes: list[Outcome] = []
    sent: list[Decision] = []
    for identity, decisions in wanted.items():
        done = _set_cpu(hypervisor, decisions, before.get(identity, {}))
        outcomes += done
        sent += () if done else decisions.values()
    if not sent:
        return outcomes
    try:
        after = _present_cpu(hypervisor, list({decision.entity.id: decision.entity for decision in sent}.values()))
        lost = ""
    except HypervisorError as error:
        after, lost = {}, f"set, but what stands now is unknown: {error}"
    for decision in sent:
        was, now = before.get(decision.entity.id, {}), after.get(decision.entity.id, {})
        outcomes.append(_read_back(decision, was.get(decision.control), now.get(decision.control), lost))
    return outcomes


def _set_cpu(hypervisor: CpuTuneControl, decisions: Mapping[str, Decision], now: Mapping[str, int | None]) -> list[Outcome]:
    """Send one guest's values; what there is to say already, nothing when they were sent and are to be read back."""
    every = list(decisions.values())
    complaint = next((text for decision in every if (text := cpu_complaint(decision.control, decision.value))), "")
    if complaint:
        return [Outcome(decision, now.get(decision.control), now.get(decision.control), Status.REFUSED, complaint) for decision in every]
    values = {control: whole(decision.value) for control, decision in decisions.items()}
    if (values.get(QUOTA) or 0) < 0:
        values[QUOTA] = NO_QUOTA
    differing = {control for control, value in values.items() if value != now.get(control)}
    if not differing:
        return [Outcome(decision, decision.value, decision.value, Status.UNCHANGED) for decision in every]
    # Quota and period are one limit: where one of them changes, both are sent, one that nobody decided on as it stands.
    pair = {control: values.get(control, now.get(control)) for control in (QUOTA, PERIOD)} if differing & {QUOTA, PERIOD} else {}
    shares = values.get(CPU_SHARES) if CPU_SHARES in differing else None
    try:
        hypervisor.set_cpu_tune(every[0].entity, pair.get(QUOTA), pair.get(PERIOD), shares)
    except HypervisorError as error:
        return [_not_applied(decision, now.get(decision.control), error) for decision in every]
    return []


# --- disks and network -----------------------------------------------------------------------------------------------------------


def _apply_list(uri: str, lists: Lists | None, decision: Decision) -> Outcome:
    if lists is None:
        return Outcome(decision, None, None, Status.REFUSED, f"{uri} cannot limit {_THINGS[decision.control]}")
    guest = decision.entity
    before: list[Item] | None = None
    try:
        before = lists.read(guest)
        if before is None:
            return Outcome(decision, None, None, Status.GONE, "the guest is not there any more")
        if decision.value == before:
            return Outcome(decision, before, before, Status.UNCHANGED)
        wanted = lists.complete(decision.value, before)
        errors = _set_differing(lists, guest, before, wanted)
        if errors is None:
            return Outcome(decision, before, before, Status.UNCHANGED)
        after = lists.read(guest)
    except ImpossibleError as error:
        return Outcome(decision, before, before, Status.REFUSED, str(error))
    except HypervisorError as error:
        return _not_applied(decision, before, error)
    if errors:
        nothing_happened = after == before and all(isinstance(error, NotSupported) for error in errors)
        return Outcome(decision, before, after, Status.REFUSED if nothing_happened else Status.FAILED, "; ".join(map(str, errors)))
    return _read_back(replace(decision, value=wanted), before, after, "", decision)


def _set_differing(lists: Lists, guest: Entity, before: Sequence[Item], wanted: Sequence[Item]) -> list[HypervisorError] | None:
    """Set what differs: one disk that cannot be limited does not keep the others from it. None when nothing differs."""
    now = named(before)
    differing = {name: item for name, item in named(wanted).items() if item != now.get(name)}
    if not differing:
        return None
    errors: list[HypervisorError] = []
    for name, item in differing.items():
        try:
            lists.set(guest, name, item)
        except GuestGone:
            raise
        except HypervisorError as error:
            errors.append(error)
    return errors


# --- back ------------------------------------------------------------------------------------------------------------------------


def restore(hypervisor: Hypervisor, entries: Sequence[LedgerEntry], source: Source) -> list[Outcome]:
    """Put back what stood there before mom, unless somebody else has changed it since."""
    decisions = [Decision(entry.entity, entry.control, entry.before, "to stand as it did before mom", source) for entry in entries]
    try:
        there = {guest.id: guest.incarnation for guest in hypervisor.guests()}
    except HypervisorError as error:
        return _all(decisions, Status.FAILED, str(error))
    outcomes: list[Outcome] = []
    cpu: list[tuple[LedgerEntry, Decision]] = []
    for entry, decision in zip(entries, decisions, strict=True):
        if entry.entity.id not in there:
            outcomes.append(Outcome(decision, None, None, Status.GONE, "the guest is not there any more"))
        elif there[entry.entity.id] != entry.incarnation:
            outcomes.append(Outcome(decision, None, None, Status.GONE, "the guest was started anew since"))
        elif entry.control in CPU_CONTROLS:
            cpu.append((entry, decision))
        else:
            outcomes.append(_restore_list(hypervisor, entry, decision))
    return outcomes + _restore_cpu(hypervisor, cpu)


def _restore_cpu(hypervisor: Hypervisor, entries: Sequence[tuple[LedgerEntry, Decision]]) -> list[Outcome]:
    if not isinstance(hypervisor, CpuTuneControl):
        return _all([decision for _, decision in entries], Status.FAILED, f"{hypervisor.uri} cannot limit CPU time")
    try:
        present = _present_cpu(hypervisor, [entry.entity for entry, _ in entries]) if entries else {}
    except HypervisorError as error:
        return _all([decision for _, decision in entries], Status.FAILED, str(error))
    outcomes: list[Outcome] = []
    due: dict[str, dict[str, Decision]] = {}
    for entry, decision in entries:
        now = present.get(entry.entity.id, {}).get(entry.control)
        if now == entry.before:
            outcomes.append(Outcome(decision, now, now, Status.UNCHANGED))
        elif now is None:
            outcomes.append(Outcome(decision, None, None, Status.FAILED, f"what {entry.control} stands at is unknown"))
        elif not entry.explains(now):
            outcomes.append(Outcome(decision, now, now, Status.LEFT_ALONE, f"somebody else has set it to {now}"))
        else:
            due.setdefault(entry.entity.id, {})[entry.control] = decision
    return outcomes + [_failed_if_refused(outcome) for outcome in _apply_cpu(hypervisor, due)]


def _restore_list(hypervisor: Hypervisor, entry: LedgerEntry, decision: Decision) -> Outcome:
    """Put each disk or interface back for itself: somebody may have changed one of them since."""
    lists = lists_of(hypervisor, entry.control)
    if lists is None:
        return Outcome(decision, None, None, Status.FAILED, f"{hypervisor.uri} cannot limit {_THINGS[entry.control]}")
    try:
        now = lists.read(entry.entity)
        if now is None:
            return Outcome(decision, None, None, Status.FAILED, "what stands is unknown")
        ours = [named(value) for value in entry.ours]
        before = named(entry.before)
        due: list[str] = []
        strange: list[str] = []
        for name, item in named(now).items():
            if name not in before or item == before[name]:  # one that was plugged in since was never mom's to limit
                continue
            (due if any(item == one.get(name) for one in ours) else strange).append(name)
        if not due and not strange:
            return Outcome(decision, now, now, Status.UNCHANGED)
        errors = _set_differing(lists, entry.entity, now, [dict(before[name]) for name in due]) or []
        after = lists.read(entry.entity)
    except HypervisorError as error:
        return _failed_if_refused(_not_applied(decision, None, error))
    if errors:
        return Outcome(decision, now, after, Status.FAILED, "; ".join(map(str, errors)))
    if strange:
        return Outcome(decision, now, after, Status.LEFT_ALONE, f"somebody else has changed {', '.join(strange)}")
    return Outcome(decision, now, after, Status.APPLIED)


# --- outcomes --------------------------------------------------------------------------------------------------------------------

_THINGS = {DISKS: "disks", INTERFACES: "network interfaces"}


def _all(decisions: Sequence[Decision], status: Status, why: str) -> list[Outcome]:
    return [Outcome(decision, None, None, status, why) for decision in decisions]


def _read_back(decision: Decision, before: Value, after: Value, lost: str, original: Decision | None = None) -> Outcome:
    shown = original or decision
    if lost or after is None or after == decision.value:
        return Outcome(shown, before, after, Status.APPLIED, lost)
    if decision.control == QUOTA and (whole(decision.value) or 0) < 0 and after == NO_QUOTA:  # as is any other negative one
        return Outcome(shown, before, after, Status.APPLIED)
    return Outcome(shown, before, after, Status.FAILED, f"it was set, and {after!r:.200} stands")


def _not_applied(decision: Decision, before: Value, error: HypervisorError) -> Outcome:
    if isinstance(error, GuestGone):
        return Outcome(decision, before, None, Status.GONE, str(error))
    if isinstance(error, NotSupported):
        return Outcome(decision, before, before, Status.REFUSED, str(error))
    return Outcome(decision, before, None, Status.FAILED, str(error))  # it may still take effect


def _failed_if_refused(outcome: Outcome) -> Outcome:
    """What was not put back stays in the ledger, whatever the reason."""
    return replace(outcome, status=Status.FAILED) if outcome.status is Status.REFUSED else outcome


def _numbers(limits: Value) -> dict[str, int]:
    if not isinstance(limits, Mapping):
        return {}
    return {key: number for key, value in limits.items() if (number := whole(value)) is not None}
