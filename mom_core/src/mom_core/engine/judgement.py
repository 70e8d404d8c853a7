"""Judges the results of changes and restores. Runs in the controlling plugin's thread, within the plugin's deadline."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from mom_core.errors import GuestGone, HypervisorError, NoChangeNeeded, NotSupported, Refused
from mom_core.hypervisor import Hypervisor, NoHypervisor
from mom_core.model import Change, ControlSpec, Decision, LedgerEntry, Outcome, Scope, Source, Status, Target
from mom_core.plugins.registry import Hooks
from mom_core.texts import printable
from mom_core.units import Unit, format_kib
from mom_core.values import Value, why_unfit

Found: TypeAlias = "Value | ControlSpec.InTransition | HypervisorError"
Answer: TypeAlias = "HypervisorError | str | None"
Items: TypeAlias = "dict[str, Mapping[str, Value]]"

GONE: Final = "the guest is not there any more"
RESTARTED: Final = "the guest was restarted meanwhile"

STILL_STANDS: Final = "did not change"

SOURCE: Final = Source("restore")

WATCH_SECONDS: Final = 0.3
"""Pause before mom rereads a value that is unknown or that mom's changes do not explain."""

READS_OF_UNKNOWN: Final = 3
"""Maximum number of repeated reads of an unknown value."""


class NotListed(GuestGone):
    """The hypervisor neither lists the guest nor reports it as gone."""


@dataclass(frozen=True, slots=True)
class Controller:
    """Reader and writer of one plugin's controls. Raises the plugin's errors."""

    specs: Mapping[str, ControlSpec]
    hooks: Hooks
    hypervisor: Hypervisor = field(default_factory=NoHypervisor)
    sleep: Callable[[float], None] = time.sleep

    def read(self, targets: Iterable[Target]) -> dict[Target, Found]:
        """Return present values, or why they are unknown. Raise `TypeError` if `mom_read` does not return a mapping."""
        requested = tuple(targets)
        return dict(zip(requested, self._each(requested), strict=True))

    def _each(self, requested: Sequence[Target]) -> Sequence[Found]:
        # Avoid look-ups: this runs for each resized guest.
        try:
            answer = self.hooks["mom_read"]({"hypervisor": self.hypervisor, "targets": requested}) if requested else {}
        except HypervisorError as error:
            return [error] * len(requested)
        if not isinstance(answer, Mapping):
            raise TypeError(f"mom_read must return a mapping, not {type(answer).__name__}")
        values = [self._checked(target.control, answer.get(target)) for target in requested]  # mom must never restore an impossible value
        guests = {target.entity.id for target in requested if target.entity.scope is Scope.GUEST}
        if None not in values or not guests:
            return values
        try:
            gone = guests - {guest.id for guest in self.hypervisor.guests()}
        except HypervisorError:
            return values
        return [
            NotListed(GONE) if value is None and target.entity.id in gone else value
            for target, value in zip(requested, values, strict=True)
        ]

    def _checked(self, control: str, read_value: Found) -> Found:
        value = known(read_value)
        why = "" if value is None else why_unfit(value, self.specs[control].unit)
        return HypervisorError(f"mom_read: {control} {why}") if why else read_value

    def apply(self, decisions: Sequence[Decision], found: Mapping[Target, Found]) -> list[Outcome]:
        """Write the values, then read them back to learn the outcomes.

        :param found: values before the write
        """
        changes = [
            Change(target := target_of(decision), decision.value, known(found.get(target)), source=decision.source)
            for decision in decisions
        ]
        errors, after = self._write(changes)
        specs, outcomes = self.specs, []
        for decision, change, now in zip(decisions, changes, after, strict=True):
            remark = errors.get(change.target) if errors else None
            status, value, error = change_result(specs[decision.control], change, now, remark)
            outcomes.append(Outcome(decision, change.found, value, status, error))
        return outcomes

    def put_back(self, entries: Sequence[LedgerEntry]) -> list[Outcome]:
        """Restore original values, except of controls that another process has changed."""
        outcomes: list[Outcome] = []
        read_values = self.read(map(target_of, entries))
        present, waited = self._present_entries(entries, read_values, outcomes)
        read_values |= self._read_unknown_again(present, read_values, waited=waited)
        read_values |= self._watch_unexplained(present, read_values)
        due: dict[Target, tuple[LedgerEntry, Judgement]] = {}
        for entry in present:
            target = target_of(entry)
            judgement = judged(self.specs[entry.control], entry, read_values[target])
            if judgement.status is None:
                due[target] = entry, judgement
            else:
                now = known(read_values[target])
                outcomes.append(Outcome(back(entry), now, now, judgement.status, judgement.reason))
        changes = [Change(target, judgement.value, known(read_values[target]), back=True) for target, (_, judgement) in due.items()]
        errors, each = self._write(changes)
        after = {change.target: now for change, now in zip(changes, each, strict=True)}
        for change in changes:
            entry, judgement = due[change.target]
            status, stands, error = restore_result(self.specs[entry.control], change, after[change.target], errors.get(change.target))
            if status is Status.APPLIED and judgement.reason:
                status, error = Status.LEFT_ALONE, judgement.reason
            outcomes.append(Outcome(back(entry), change.found, stands, status, error))
        return outcomes

    def _present_entries(
        self, entries: Sequence[LedgerEntry], found: Mapping[Target, Found], outcomes: list[Outcome]
    ) -> tuple[list[LedgerEntry], bool]:
        # A second list confirms that a guest is gone: a restarted hypervisor may list only some guests. A guest that does not support a
        # control may belong to another hypervisor.

        def doubtful(among: Iterable[LedgerEntry]) -> list[LedgerEntry]:
            return [entry for entry in among if listed.get(entry.entity.id) != entry.incarnation]

        of_guests = [entry for entry in entries if entry.entity.scope is Scope.GUEST]
        listable = [entry for entry in of_guests if not isinstance(found[target_of(entry)], NotSupported)]
        listed, lost = self._listed() if listable else ({}, "")
        ended = doubtful(listable)
        waited = bool(ended) and not lost
        if waited:
            self.sleep(WATCH_SECONDS)
            listed, lost = self._listed()
            ended = doubtful(ended)
        questioned = {target_of(entry) for entry in ended}
        left = []
        for entry in entries:
            target = target_of(entry)
            if target not in questioned:
                left.append(entry)
            elif lost:
                outcomes.append(Outcome(back(entry), None, None, Status.FAILED, lost))
            else:
                why = RESTARTED if entry.entity.id in listed else GONE
                outcomes.append(Outcome(back(entry), None, None, Status.GONE, why))
        return left, waited

    def _listed(self) -> tuple[Mapping[str, str], str]:
        try:
            incarnations = {guest.id: guest.incarnation for guest in self.hypervisor.guests()}
        except HypervisorError as error:
            return {}, str(error)
        return incarnations, ""

    def _read_unknown_again(self, entries: Sequence[LedgerEntry], found: Mapping[Target, Found], *, waited: bool) -> dict[Target, Found]:
        # A restore has no next cycle: read again after a pause.
        later: dict[Target, Found] = {}
        unknown = [target for target in map(target_of, entries) if _is_unknown(found[target])]
        for look in range(READS_OF_UNKNOWN):
            if not unknown:
                break
            if look or not waited:
                self.sleep(WATCH_SECONDS)
            later |= self.read(unknown)
            unknown = [target for target in unknown if _is_unknown(later[target])]
        return later

    def _watch_unexplained(self, entries: Sequence[LedgerEntry], found: Mapping[Target, Found]) -> dict[Target, Found]:
        # Read unexplained values again. If one moves towards mom's setting, mom has changed it.
        doubtful: dict[Target, tuple[LedgerEntry, float]] = {}
        for entry in entries:
            spec, first = self.specs[entry.control], found[target_of(entry)]
            if spec.gradual and isinstance(first, int | float) and not entry.explains(first, spec.tolerance):
                doubtful[target_of(entry)] = entry, first
        if not doubtful:
            return {}
        self.sleep(WATCH_SECONDS)
        later = self.read(doubtful)
        for target, (entry, first) in doubtful.items():
            now, least = later[target], self.specs[target.control].gradual
            requested = [value for value in (entry.applied, *entry.attempted) if isinstance(value, int | float)]
            if isinstance(now, int | float) and any(abs(first - value) - abs(now - value) >= least for value in requested):
                later[target] = ControlSpec.InTransition(now)
        return later

    def _write(self, changes: Sequence[Change]) -> tuple[Mapping[Target, HypervisorError | str], Sequence[Found]]:
        if not changes:
            return {}, ()
        remarks: dict[Target, HypervisorError | str] = {}
        try:
            answer = self.hooks["mom_write"]({"hypervisor": self.hypervisor, "changes": changes})
        except HypervisorError as error:
            remarks = {change.target: error for change in changes}
        else:
            if not isinstance(answer, Mapping | None):
                raise TypeError(f"mom_write must return a mapping or None, not {type(answer).__name__}")
            remarks = {target: text for target, text in (answer or {}).items() if isinstance(text, HypervisorError | str)}
        if not any(isinstance(text, NoChangeNeeded) for text in remarks.values()):
            return remarks, self._each(tuple(change.target for change in changes))
        read = self.read(change.target for change in changes if not isinstance(remarks.get(change.target), NoChangeNeeded))
        return remarks, [read.get(change.target, change.found) for change in changes]


def target_of(about: Decision | LedgerEntry) -> Target:
    """Return the control and entity of a decision or entry."""
    return Target(about.entity, about.control)


def back(entry: LedgerEntry) -> Decision:
    """Return the decision to restore the original value."""
    return Decision(entry.entity, entry.control, entry.before, "to restore the value from before mom's change", SOURCE)


def known(found: Found) -> Value:
    """Return the value that was read; None if unknown."""
    if isinstance(found, ControlSpec.InTransition):
        return found.value
    return None if isinstance(found, HypervisorError) else found


def _is_unknown(found: Found) -> bool:
    return found is None or isinstance(found, NotListed)


# --- setting ---------------------------------------------------------------------------------------------------------------------


def without_writing(spec: ControlSpec, decision: Decision, found: Found, entry: LedgerEntry | None) -> Outcome | None:
    """Return a decision's outcome if a write is impossible or unnecessary; None if mom must write the value."""
    if isinstance(found, HypervisorError):
        status = Status.GONE if isinstance(found, GuestGone) else Status.REFUSED if isinstance(found, Refused) else Status.FAILED
        return Outcome(decision, None, None, status, str(found))
    if found is None:
        if entry is not None:
            return None
        reason = f"its present value ({spec.field}) is unknown, so mom could not restore it"
        return Outcome(decision, None, None, Status.REFUSED, reason)
    if isinstance(found, ControlSpec.InTransition) or spec.gradual:
        return None
    if not spec.renewed and (same(spec, decision.value, found) or _rounded_to(spec, decision, found, entry)):
        return Outcome(decision, found, found, Status.UNCHANGED)
    return None


def _rounded_to(spec: ControlSpec, decision: Decision, found: Value, entry: LedgerEntry | None) -> bool:
    if entry is None or entry.found is None or entry.in_doubt or spec.gradual or entry.applied in entry.attempted:
        return False
    return entry.applied == decision.value and same(spec, entry.found, found)


def change_result(spec: ControlSpec, change: Change, after: Found, answer: Answer) -> tuple[Status, Value, str]:
    """Return a change's status, the value afterwards (None if unknown), and a message."""
    stands = known(after)
    if isinstance(answer, NoChangeNeeded):
        return Status.UNCHANGED, change.found, str(answer)
    if isinstance(answer, GuestGone) or isinstance(after, GuestGone):
        return Status.GONE, None, str(answer or after)
    if isinstance(answer, HypervisorError):
        if isinstance(answer, Refused):
            untouched = stands is None or change.found is None or bool(spec.gradual) or same(spec, change.found, stands)
            return (Status.REFUSED, change.found, str(answer)) if untouched else (Status.FAILED, stands, str(answer))
        if spec.gradual:
            return Status.FAILED, None, str(answer)  # the value may still change
        if stands is not None and same(spec, change.value, stands):
            return Status.APPLIED, stands, ""  # only the answer was lost
        return Status.FAILED, stands, str(answer)
    note = answer or ""
    if stands is None:
        why = f": {after}" if isinstance(after, HypervisorError) else ""
        return Status.APPLIED, None, note or f"mom set the control, but its present value is unknown{why}"
    if spec.renewed and change.value == change.found == stands:
        return Status.UNCHANGED, stands, ""
    if spec.gradual or same(spec, change.value, stands):
        return Status.APPLIED, stands, note
    shown = printable(str(stands), 200)
    if change.found is not None and same(spec, change.found, stands):
        return Status.FAILED, stands, f"mom set the control, but its value {shown} {STILL_STANDS}"
    if spec.choices or spec.key:
        return Status.FAILED, stands, f"mom set the control, but its value is {shown}"
    return Status.APPLIED, stands, note  # the kernel has rounded or reformatted it


# --- restoring ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Judgement:
    """Result of judging a ledger entry for a restore: a final status, or the value to write."""

    status: Status | None
    reason: str = ""
    value: Value = None


def judged(spec: ControlSpec, entry: LedgerEntry, found: Found) -> Judgement:
    """Decide whether to restore an entry, given the present value."""
    if isinstance(found, GuestGone) or (isinstance(found, NotSupported) and spec.scope is Scope.HOST):
        return Judgement(Status.GONE, str(found))  # a host without the control has nothing to restore
    if isinstance(found, Refused) and not isinstance(found, NotSupported):
        return Judgement(Status.LEFT_ALONE, str(found))
    if isinstance(found, HypervisorError):
        return Judgement(Status.FAILED, str(found))
    if entry.before is None:
        return Judgement(Status.FAILED, "the ledger does not contain the original value")
    if found is None:
        return Judgement(Status.FAILED, f"the present value of {entry.control} is unknown")
    if isinstance(found, ControlSpec.InTransition):
        return Judgement(None, value=entry.before)
    if isinstance(found, int | float) and not isinstance(entry.before, int | float):
        return Judgement(Status.FAILED, f"{entry.before!r:.40} cannot be the original value of {entry.control}")
    if spec.key:
        return _judged_by_item(spec, entry, found)
    if entry.before == found if spec.gradual else same(spec, entry.before, found):
        # An unanswered command may still take effect: send the present value again, so that it comes last.
        under_way = entry.attempted or (spec.gradual and entry.applied not in {None, entry.before})
        return Judgement(None, value=entry.before) if under_way else Judgement(Status.UNCHANGED)
    if not entry.explains(found, spec.tolerance) and not _late_and_rounded(spec, entry, found):
        request = f", not to the {_shown(spec, entry.applied)} that mom had asked for" if spec.gradual and entry.applied is not None else ""
        return Judgement(Status.LEFT_ALONE, f"another process has set it to {_shown(spec, found)}{request}")
    return Judgement(None, value=entry.before)


def _late_and_rounded(spec: ControlSpec, entry: LedgerEntry, found: Value) -> bool:
    # An unanswered command may have set `found`. The kernel rounds to multiples of a grain, such as the page size. The grain is at most
    # the greatest common divisor of all values read. The value 0 proves nothing.
    if spec.choices or spec.gradual or not isinstance(found, int):
        return False
    known_to_have_stood = (entry.before, entry.found, None if entry.applied in entry.attempted else entry.applied)
    read = [value for value in known_to_have_stood if isinstance(value, int) and value > 0]  # -1 means no limit
    grain = math.gcd(found, *read) if read else found & -found  # else the largest power of two that divides `found`
    return any(isinstance(request, int | float) and abs(found - request) < grain for request in entry.attempted)


def _shown(spec: ControlSpec, value: Value) -> str:
    if spec.unit is Unit.KIB and isinstance(value, int | float) and value >= 0:
        return format_kib(value)
    return printable(str(value), 200)


def _judged_by_item(spec: ControlSpec, entry: LedgerEntry, found: Value) -> Judgement:
    before, now, ours = items(spec, entry.before), items(spec, found), [items(spec, value) for value in entry.ours]
    under_way = {name for value in entry.attempted for name in items(spec, value)}  # unanswered commands may still take effect
    due: list[str] = []
    foreign: list[str] = []
    for name in [name for name in now if name in before]:
        if not _agree(before[name], now[name]) or name in under_way:
            mine = any(_agree(values[name], now[name]) for values in ours if name in values)  # `ours` includes `before`
            (due if mine else foreign).append(name)
    reason = f"another process has changed {', '.join(map(printable, foreign))}" if foreign else ""
    if not due:
        return Judgement(Status.LEFT_ALONE if foreign else Status.UNCHANGED, reason)
    return Judgement(None, reason, [{**before[name], spec.key: name} for name in due])


def restore_result(spec: ControlSpec, change: Change, after: Found, answer: Answer) -> tuple[Status, Value, str]:
    """Return the result of a restore in the form of `change_result`."""
    stands = known(after)
    if isinstance(answer, NoChangeNeeded):
        return Status.LEFT_ALONE, stands, str(answer)
    unchanged = not spec.gradual and change.found is not None and same(spec, change.value, change.found)
    if unchanged and stands is not None and same(spec, change.value, stands):
        return Status.UNCHANGED, stands, ""
    status, stands, text = change_result(spec, change, after, answer)
    if status is Status.REFUSED:
        return Status.FAILED, stands, text
    if status is Status.APPLIED and not spec.gradual and not _nearer(stands, change):
        return Status.FAILED, stands, f"mom set the control, but its value is {stands}"
    return status, stands, text


def _nearer(stands: Value, change: Change) -> bool:
    # Values other than numbers count as nearer.
    goal, before = change.value, change.found
    if not (isinstance(stands, int | float) and isinstance(goal, int | float) and isinstance(before, int | float)):
        return True
    return stands == goal or abs(stands - goal) < abs(before - goal)


# --- comparison ------------------------------------------------------------------------------------------------------------------


def same(spec: ControlSpec, wanted: Value, found: Value) -> bool:
    """Return whether `found` matches `wanted`. In a list, compare only the wanted items."""
    if spec.key:
        now = items(spec, found)
        return all(name in now and _agree(item, now[name]) for name, item in items(spec, wanted).items())
    if isinstance(wanted, int | float) and isinstance(found, int | float):
        return abs(wanted - found) <= spec.tolerance
    return wanted == found


def items(spec: ControlSpec, value: Value) -> Items:
    """Return the valid items of a list, keyed by their `spec.key`."""
    listed = value if isinstance(value, Sequence) and not isinstance(value, str) else ()
    return {str(item[spec.key]): item for item in listed if isinstance(item, Mapping) and spec.key in item}


def named_items(spec: ControlSpec, value: Value, found: Value) -> Value:
    """Return the items of `found` whose keys occur in `value`."""
    if not spec.key or found is None:
        return found
    now = items(spec, found)
    return [now[name] for name in items(spec, value) if name in now]


def joined(spec: ControlSpec, older: Value, newer: Value) -> Value:
    """Join two lists; items of `newer` replace those with equal keys."""
    return list({**items(spec, older), **items(spec, newer)}.values())


def _agree(first: Mapping[str, Value], second: Mapping[str, Value]) -> bool:
    return all(second[key] == value for key, value in first.items() if key in second)
