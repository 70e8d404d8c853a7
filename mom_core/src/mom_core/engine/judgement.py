"""What came of a change, and what becomes of what stands there when it is put back: one table for all controls.

A controller reads and writes; it is judged here, in the controller's own thread and within its deadline.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from mom_core.engine.review import why_impossible
from mom_core.errors import GuestGone, HypervisorError, NoChangeNeeded, NotSupported, Refused
from mom_core.hypervisor import Hypervisor, NoHypervisor
from mom_core.model import Change, ControlSpec, Decision, InTransition, LedgerEntry, Outcome, Scope, Source, Status, Target, printable
from mom_core.plugins.registry import Hooks
from mom_core.units import Unit, format_kib
from mom_core.values import Value, are_within_bounds

Found: TypeAlias = "Value | InTransition | HypervisorError"
Said: TypeAlias = "HypervisorError | str | None"
Items: TypeAlias = "dict[str, Mapping[str, Value]]"

GONE: Final = "the guest is not there any more"
STARTED_ANEW: Final = "the guest was started anew since"

STILL_STANDS: Final = "still stands"
"""How the text of a write ends that was taken without a word, and has changed nothing."""

SOURCE: Final = Source("restore")

WATCH_SECONDS: Final = 0.3
"""How long a gradual control is watched whose value the ledger does not explain. A virtio balloon moves 260 MiB in that time."""

ASKED_AGAIN: Final = 3
"""How often what is unknown is asked for again before it is given up: a second in all, in which a
hypervisor under load answers."""

POLL_SECONDS: Final = 0.1
POLLS: Final = 5
"""How often, and how often again, gradual controls are looked at before it is said what they stand at. A clean stop takes 2 s in all."""


class NotListed(GuestGone):
    """A list of the hypervisor's has no such guest; no plugin has said that it is gone."""


@dataclass(frozen=True, slots=True)
class Controller:
    """How one plugin's controls are read and written. Its methods call the plugin, and raise what it raises."""

    specs: Mapping[str, ControlSpec]
    hooks: Hooks
    hypervisor: Hypervisor = field(default_factory=NoHypervisor)
    sleep: Callable[[float], None] = time.sleep

    def read(self, targets: Iterable[Target]) -> dict[Target, Found]:
        """The present values of these controls, or why one is not known. Raises `TypeError` for an answer that is none."""
        wanted = tuple(targets)
        return dict(zip(wanted, self._each(wanted), strict=True))

    def _each(self, wanted: Sequence[Target]) -> Sequence[Found]:
        """The same in the order of the targets: what is done for each guest that is resized looks none of them up again."""
        try:
            answer = self.hooks["mom_read"]({"hypervisor": self.hypervisor, "targets": wanted}) if wanted else {}
        except HypervisorError as error:
            return [error] * len(wanted)
        if not isinstance(answer, Mapping):
            raise TypeError(f"mom_read must return a mapping, not {type(answer).__name__}")
        found = self._of_their_units(wanted, list(map(answer.get, wanted)))
        if None not in found or all(
            target.entity.scope is Scope.HOST for target, value in zip(wanted, found, strict=True) if value is None
        ):
            return found
        try:
            there = {guest.id for guest in self.hypervisor.guests()}
        except HypervisorError:
            return found

        def gone(target: Target) -> bool:
            return target.entity.scope is Scope.GUEST and target.entity.id not in there

        return [NotListed(GONE) if value is None and gone(target) else value for target, value in zip(wanted, found, strict=True)]

    def _of_their_units(self, wanted: Sequence[Target], found: list[Found]) -> list[Found]:
        """What was found, with an error for what the control cannot stand at: that would become what is put back."""
        if all(spec.unit.is_number for spec in self.specs.values()):
            # Nearly always all are numbers, of thousands of guests: they are looked at together.
            values = [one.value if type(one) is InTransition else one for one in found]
            types = set(map(type, values))
            if types <= _PLAIN and are_within_bounds([value for value in values if value is not None] if _NONE in types else values):
                return found
        return [self._checked(target.control, value) for target, value in zip(wanted, found, strict=True)]

    def _checked(self, control: str, found: Found) -> Found:
        value = known(found)
        why = "" if value is None else why_impossible(value, self.specs[control])
        return HypervisorError(f"mom_read: {control} {why}") if why else found

    def apply(self, decisions: Sequence[Decision], found: Mapping[Target, Found]) -> list[Outcome]:
        """Write what was decided, and judge by what stands then.

        :param found: what stood there before
        """
        changes = [Change(target := target_of(one), one.value, known(found.get(target)), source=one.source) for one in decisions]
        errors, after = self._write(changes)
        specs, outcomes = self.specs, []
        for decision, change, now in zip(decisions, changes, after, strict=True):
            said = errors.get(change.target) if errors else None
            status, stands, error = came_of_it(specs[decision.control], change, now, said)
            outcomes.append(Outcome(decision, change.found, stands, status, error))
        return outcomes

    def put_back(self, entries: Sequence[LedgerEntry]) -> list[Outcome]:
        """Let what stood there before mom stand again, where it is still what mom made it; an outcome for each entry."""
        outcomes: list[Outcome] = []
        found = self.read(map(target_of, entries))
        there, waited = self._still_there(entries, found, outcomes)
        found |= self._asked_again(there, found, waited=waited)
        found |= self._watched(there, found)
        due: dict[Target, tuple[LedgerEntry, Judgement]] = {}
        for entry in there:
            target = target_of(entry)
            judgement = judged(self.specs[entry.control], entry, found[target])
            if judgement.status is None:
                due[target] = entry, judgement
            else:
                now = known(found[target])
                outcomes.append(Outcome(back(entry), now, now, judgement.status, judgement.reason))
        changes = [Change(target, judgement.value, known(found[target]), back=True) for target, (_, judgement) in due.items()]
        errors, each = self._write(changes)
        after = {change.target: now for change, now in zip(changes, each, strict=True)}
        after |= self._arrived([change for change in changes if not isinstance(errors.get(change.target), HypervisorError)], after)
        for change in changes:
            entry, judgement = due[change.target]
            status, stands, error = came_of_putting_back(self.specs[entry.control], change, after[change.target], errors.get(change.target))
            if status is Status.APPLIED and judgement.reason:
                status, error = Status.LEFT_ALONE, judgement.reason
            outcomes.append(Outcome(back(entry), change.found, stands, status, error))
        return outcomes

    def _still_there(
        self, entries: Sequence[LedgerEntry], found: Mapping[Target, Found], outcomes: list[Outcome]
    ) -> tuple[list[LedgerEntry], bool]:
        """The entries of the host and of guests that are what they were, and whether that has taken a moment. What becomes of the others is
        added to the outcomes.

        What a hypervisor does not support may be another one's guest: that this one does not list it says nothing. One list may be short,
        as when the hypervisor was just restarted: what it says of a guest's end, a second one must say, too.
        """

        def doubtful(among: Iterable[LedgerEntry]) -> list[LedgerEntry]:
            return [entry for entry in among if there.get(entry.entity.id) != entry.incarnation]

        asked = [one for one in entries if one.entity.scope is Scope.GUEST and not isinstance(found[target_of(one)], NotSupported)]
        there, lost = self._listed() if asked else ({}, "")
        ended = doubtful(asked)
        waited = bool(ended) and not lost
        if waited:
            self.sleep(WATCH_SECONDS)
            there, lost = self._listed()
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
                why = STARTED_ANEW if entry.entity.id in there else GONE
                outcomes.append(Outcome(back(entry), None, None, Status.GONE, why))
        return left, waited

    def _listed(self) -> tuple[Mapping[str, str], str]:
        """The incarnations of the guests that the hypervisor lists, and why they are unknown."""
        try:
            there = {guest.id: guest.incarnation for guest in self.hypervisor.guests()}
        except HypervisorError as error:
            return {}, str(error)
        return there, ""

    def _asked_again(self, entries: Sequence[LedgerEntry], found: Mapping[Target, Found], *, waited: bool) -> dict[Target, Found]:
        """The values that were unknown, a moment later: a busy hypervisor does not tell everything at once, and there is no next cycle.

        :param waited: whether a moment has passed already
        """
        later: dict[Target, Found] = {}
        unknown = [target for target in map(target_of, entries) if _is_unknown(found[target])]
        for look in range(ASKED_AGAIN):
            if not unknown:
                break
            if look or not waited:
                self.sleep(WATCH_SECONDS)
            later |= self.read(unknown)
            unknown = [target for target in unknown if _is_unknown(later[target])]
        return later

    def _watched(self, entries: Sequence[LedgerEntry], found: Mapping[Target, Found]) -> dict[Target, Found]:
        """The values of gradual controls a moment later, where the ledger does not explain it: one that moves is mom's doing."""
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
            asked = [value for value in (entry.applied, *entry.attempted) if isinstance(value, int | float)]
            if isinstance(now, int | float) and any(abs(first - value) - abs(now - value) >= least for value in asked):
                later[target] = InTransition(now)
        return later

    def _arrived(self, changes: Sequence[Change], found: Mapping[Target, Found]) -> dict[Target, Found]:
        """The values of gradual controls after they had a little time to follow: for as long as they move, and no longer."""
        after = dict(found)

        def on_the_way() -> list[Change]:
            moving = []
            for change in changes:
                spec, now, wanted = self.specs[change.control], known(after[change.target]), change.value
                if spec.gradual and isinstance(now, int | float) and isinstance(wanted, int | float) and abs(now - wanted) > spec.tolerance:
                    moving.append(change)
            return moving

        for poll in range(POLLS):
            waiting = on_the_way()
            if not waiting:
                break
            self.sleep(POLL_SECONDS)
            now = self.read(change.target for change in waiting)
            moved = any(_moved(self.specs[target.control], after[target], value) for target, value in now.items())
            after |= now
            if poll and not moved:
                break
        return after

    def _write(self, changes: Sequence[Change]) -> tuple[Mapping[Target, HypervisorError | str], Sequence[Found]]:
        """Why changes were not made, or what there is to say of them; and what stands after all of them, in their order."""
        if not changes:
            return {}, ()
        said: dict[Target, HypervisorError | str] = {}
        try:
            answer = self.hooks["mom_write"]({"hypervisor": self.hypervisor, "changes": changes})
        except HypervisorError as error:
            said = {change.target: error for change in changes}
        else:
            if not isinstance(answer, Mapping | None):
                raise TypeError(f"mom_write must return a mapping or None, not {type(answer).__name__}")
            said = {target: text for target, text in (answer or {}).items() if isinstance(text, HypervisorError | str)}
        if not any(isinstance(text, NoChangeNeeded) for text in said.values()):
            return said, self._each(tuple(change.target for change in changes))
        read = self.read(change.target for change in changes if not isinstance(said.get(change.target), NoChangeNeeded))
        return said, [read.get(change.target, change.found) for change in changes]


_NONE: Final = type(None)
_PLAIN: Final = frozenset({int, float, _NONE})


def target_of(about: Decision | LedgerEntry) -> Target:
    """Which control of which entity a decision or an entry is about."""
    return Target(about.entity, about.control)


def back(entry: LedgerEntry) -> Decision:
    """The decision that an outcome of putting back is about."""
    return Decision(entry.entity, entry.control, entry.before, "to stand as it did before mom", SOURCE)


def known(found: Found) -> Value:
    """The value that was found; None where it is unknown."""
    if isinstance(found, InTransition):
        return found.value
    return None if isinstance(found, HypervisorError) else found


def _is_unknown(found: Found) -> bool:
    """True if there is no answer, and at most a list in which the guest is missing."""
    return found is None or isinstance(found, NotListed)


def _moved(spec: ControlSpec, before: Found, now: Found) -> bool:
    """True if a gradual control has moved between two looks."""
    one, other = known(before), known(now)
    return not (isinstance(one, int | float) and isinstance(other, int | float)) or abs(one - other) >= spec.gradual


# --- setting ---------------------------------------------------------------------------------------------------------------------


def without_writing(spec: ControlSpec, decision: Decision, found: Found, entry: LedgerEntry | None) -> Outcome | None:
    """The outcome of a decision for which nothing is written; None when something must be.

    :param entry: what the ledger says of this control of the very same guest
    """
    if isinstance(found, HypervisorError):
        status = Status.GONE if isinstance(found, GuestGone) else Status.REFUSED if isinstance(found, Refused) else Status.FAILED
        return Outcome(decision, None, None, status, str(found))
    if found is None:
        if entry is not None:
            return None
        reason = f"its present value ({spec.field}) is unknown, so it could not be put back"
        return Outcome(decision, None, None, Status.REFUSED, reason)
    if isinstance(found, InTransition) or spec.gradual:
        return None
    if not spec.renewed and (same(spec, decision.value, found) or _rounded_to(spec, decision, found, entry)):
        return Outcome(decision, found, found, Status.UNCHANGED)
    return None


def _rounded_to(spec: ControlSpec, decision: Decision, found: Value, entry: LedgerEntry | None) -> bool:
    """True if `found` is what the kernel has made of this very value: another attempt would change nothing."""
    if entry is None or entry.found is None or entry.in_doubt or spec.gradual or entry.applied in entry.attempted:
        return False
    return entry.applied == decision.value and same(spec, entry.found, found)


def came_of_it(spec: ControlSpec, change: Change, after: Found, said: Said) -> tuple[Status, Value, str]:
    """The result of a change: status, what stands now (None: unknown), and what there is to say."""
    stands = known(after)
    if isinstance(said, NoChangeNeeded):
        return Status.UNCHANGED, change.found, str(said)
    if isinstance(said, GuestGone) or isinstance(after, GuestGone):
        return Status.GONE, None, str(said or after)
    if isinstance(said, HypervisorError):
        if isinstance(said, Refused):
            untouched = stands is None or change.found is None or bool(spec.gradual) or same(spec, change.found, stands)
            return (Status.REFUSED, change.found, str(said)) if untouched else (Status.FAILED, stands, str(said))
        if spec.gradual:
            return Status.FAILED, None, str(said)  # it may be on its way there all the same
        if stands is not None and same(spec, change.value, stands):
            return Status.APPLIED, stands, ""  # only its answer was lost
        return Status.FAILED, stands, str(said)
    note = said or ""
    if stands is None:
        why = f": {after}" if isinstance(after, HypervisorError) else ""
        return Status.APPLIED, None, note or f"it was set, but what stands now is unknown{why}"
    if spec.renewed and change.value == change.found == stands:
        return Status.UNCHANGED, stands, ""
    if spec.gradual or same(spec, change.value, stands):
        return Status.APPLIED, stands, note
    shown = printable(str(stands), 200)
    if change.found is not None and same(spec, change.found, stands):
        return Status.FAILED, stands, f"it was set, and {shown} {STILL_STANDS}"
    if spec.choices or spec.key:
        return Status.FAILED, stands, f"it was set, and {shown} stands"
    return Status.APPLIED, stands, note  # the kernel has rounded it, or writes it in another way


# --- putting back ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Judgement:
    """The fate of an entry: a status, or None and the value that is to be written. `reason` is also what is left as it is, and why."""

    status: Status | None
    reason: str = ""
    value: Value = None


def judged(spec: ControlSpec, entry: LedgerEntry, found: Found) -> Judgement:
    """The fate of an entry where `found` stands now."""
    if isinstance(found, GuestGone) or (isinstance(found, NotSupported) and spec.scope is Scope.HOST):
        return Judgement(Status.GONE, str(found))  # a host without the control has nothing to be put back
    if isinstance(found, Refused) and not isinstance(found, NotSupported):
        return Judgement(Status.LEFT_ALONE, str(found))
    if isinstance(found, HypervisorError):
        return Judgement(Status.FAILED, str(found))
    if entry.before is None:
        return Judgement(Status.FAILED, "the ledger does not say what stood there before")
    if found is None:
        return Judgement(Status.FAILED, f"what {entry.control} stands at is unknown")
    if isinstance(found, InTransition):
        return Judgement(None, value=entry.before)
    if isinstance(found, int | float) and not isinstance(entry.before, int | float):
        return Judgement(Status.FAILED, f"{entry.before!r:.40} is nothing that {entry.control} can have stood at")
    if spec.key:
        return _judged_by_item(spec, entry, found)
    if entry.before == found if spec.gradual else same(spec, entry.before, found):
        # What was asked and never answered may yet take effect: then what stands is asked for again, as the last word.
        under_way = entry.attempted or (spec.gradual and entry.applied not in {None, entry.before})
        return Judgement(None, value=entry.before) if under_way else Judgement(Status.UNCHANGED)
    if not entry.explains(found, spec.tolerance) and not _late_and_rounded(spec, entry, found):
        asked = f", not to the {_shown(spec, entry.applied)} that mom had asked for" if spec.gradual and entry.applied is not None else ""
        return Judgement(Status.LEFT_ALONE, f"another process has set it to {_shown(spec, found)}{asked}")
    return Judgement(None, value=entry.before)


def _late_and_rounded(spec: ControlSpec, entry: LedgerEntry, found: Value) -> bool:
    """True if the kernel may have made `found` of a command that was never answered, so that nothing was read back after it.

    A kernel that rounds keeps multiples of something. All that was ever read there is one, so that it is no more than the greatest common
    divisor of them, and what it makes of a number is less than that away from it. 0 is a multiple of everything, and tells nothing of that.
    A switch does not round.
    """
    if spec.choices or spec.gradual or not isinstance(found, int):
        return False
    known_to_have_stood = (entry.before, entry.found, None if entry.applied in entry.attempted else entry.applied)
    read = [value for value in known_to_have_stood if isinstance(value, int) and value > 0]  # below 0 is no amount: -1 for no limit
    grain = math.gcd(found, *read) if read else found & -found  # without any: a power of two, as pages are
    return any(isinstance(asked, int | float) and abs(found - asked) < grain for asked in entry.attempted)


def _shown(spec: ControlSpec, value: Value) -> str:
    if spec.unit is Unit.KIB and isinstance(value, int | float) and value >= 0:
        return format_kib(value)
    return printable(str(value), 200)


def _judged_by_item(spec: ControlSpec, entry: LedgerEntry, found: Value) -> Judgement:
    """Each item for itself: another process may have changed one of them since."""
    before, now, ours = items(spec, entry.before), items(spec, found), [items(spec, value) for value in entry.ours]
    under_way = {name for value in entry.attempted for name in items(spec, value)}  # asked, never answered: it may yet take effect
    due: list[str] = []
    foreign: list[str] = []
    for name in dict.fromkeys((*now, *before)):
        stood, stands = before.get(name, spec.absent), now.get(name, spec.absent)
        if stood is None or stands is None or (_agree(stood, stands) and name not in under_way):
            continue
        mine = _agree(stood, stands) or any((value := one.get(name, spec.absent)) is not None and _agree(value, stands) for one in ours)
        (due if mine else foreign).append(name)
    reason = f"another process has changed {', '.join(map(printable, foreign))}" if foreign else ""
    if not due:
        return Judgement(Status.LEFT_ALONE if foreign else Status.UNCHANGED, reason)
    wanted = {name: {**(before.get(name) or spec.absent or {}), spec.key: name} for name in due}
    if spec.absent is not None:
        wanted = {**{name: dict(item) for name, item in now.items()}, **wanted}
    return Judgement(None, reason, list(wanted.values()))


def came_of_putting_back(spec: ControlSpec, change: Change, after: Found, said: Said) -> tuple[Status, Value, str]:
    """As `came_of_it`; what was not put back has failed, whatever the reason, and stays in the ledger."""
    stands = known(after)
    if isinstance(said, NoChangeNeeded):
        return Status.LEFT_ALONE, stands, str(said)
    stood = not spec.gradual and change.found is not None and same(spec, change.value, change.found)
    if stood and stands is not None and same(spec, change.value, stands):
        return Status.UNCHANGED, stands, ""
    status, stands, text = came_of_it(spec, change, after, said)
    if status is Status.REFUSED:
        return Status.FAILED, stands, text
    if status is Status.APPLIED and not spec.gradual and not _nearer(stands, change):
        return Status.FAILED, stands, f"it was set, and {stands} stands"
    return status, stands, text


def _nearer(stands: Value, change: Change) -> bool:
    """True if a number has come nearer to what it was to be; anything else counts as nearer."""
    wanted, found = change.value, change.found
    if not (isinstance(stands, int | float) and isinstance(wanted, int | float) and isinstance(found, int | float)):
        return True
    return stands == wanted or abs(stands - wanted) < abs(found - wanted)


# --- what is the same ------------------------------------------------------------------------------------------------------------


def same(spec: ControlSpec, wanted: Value, found: Value) -> bool:
    """True if what stands is what was wanted. A list speaks of its own items; with `absent`, of all."""
    if spec.key:
        ours, now = items(spec, wanted), items(spec, found)
        pairs = [(ours.get(name, spec.absent), now.get(name, spec.absent)) for name in (ours if spec.absent is None else {**ours, **now})]
        return all(item is not None and there is not None and _agree(item, there) for item, there in pairs)
    if isinstance(wanted, int | float) and isinstance(found, int | float):
        return abs(wanted - found) <= spec.tolerance
    return wanted == found


def items(spec: ControlSpec, value: Value) -> Items:
    """The items of a list by their key; what is none is left out."""
    listed = value if isinstance(value, Sequence) and not isinstance(value, str) else ()
    return {str(item[spec.key]): item for item in listed if isinstance(item, Mapping) and spec.key in item}


def spoken_of(spec: ControlSpec, value: Value, found: Value) -> Value:
    """The value that stands, without the items that the wanted one does not speak of: those are not what came of it."""
    if not spec.key or spec.absent is not None or found is None:
        return found
    now = items(spec, found)
    return [now[name] for name in items(spec, value) if name in now]


def joined(spec: ControlSpec, older: Value, newer: Value) -> Value:
    """Two lists as one: where both speak of an item, what the newer says."""
    return list({**items(spec, older), **items(spec, newer)}.values())


def _agree(one: Mapping[str, Value], other: Mapping[str, Value]) -> bool:
    """True if two items say the same, as far as both say anything."""
    return all(other[key] == value for key, value in one.items() if key in other)
