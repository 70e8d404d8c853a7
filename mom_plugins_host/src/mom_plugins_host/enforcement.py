"""Enforcement of settings for single guests. When an operator removes a setting, mom restores the original value."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from pydantic import TypeAdapter

from mom_core import (
    ControlSpec,
    Decision,
    Entity,
    Guest,
    LedgerEntry,
    PluginContext,
    Problem,
    Severity,
    Snapshot,
    Source,
    StateError,
    Value,
    as_items,
    first_names,
)

_NAMED: Final = 5

_SET: Final = "set"
_AGREED: Final = "agreed"
_WHY_UNDONE: Final = {_SET: "no longer set for this guest in the YAML file", _AGREED: "no longer agreed for this guest"}


class _Key(NamedTuple):
    """A guest's control, set by settings (`_SET`) or by a policy (`_AGREED`).

    `item` is a list item (see `_by_item`); empty for the whole control.
    """

    guest: str
    incarnation: str
    control: str
    item: str
    by: str


_FORM: Final = TypeAdapter(set[_Key])


class SetValue(NamedTuple):
    """Value from settings, and the reason for it. If the value is unknown in this cycle (None), the control stays unchanged."""

    value: Value
    reason: str = "set for this guest in the YAML file"


@dataclass(slots=True)
class _Cycle:
    keys: set[_Key] = field(default_factory=set)
    unknown: set[_Key] = field(default_factory=set)
    """Keys, without an item, whose values are unknown."""
    decisions: dict[tuple[str, str], Decision] = field(default_factory=dict)
    """Keyed by guest id and control."""
    hindered: dict[tuple[str, str], list[Entity]] = field(default_factory=dict)
    """Guests, keyed by a control and the reason why mom cannot set it."""

    def lacks(self, key: _Key) -> bool:
        return key not in self.keys and key._replace(item="") not in self.unknown


def _blocked(guest: Guest, control: str) -> str:
    return guest.blocked.get(control, "")


class Enforcement:
    """Decisions for values from settings, and for restoring original values.

    In each cycle, mom decides every value whose control has a known present value. mom does not restore a control that another process has
    set since, or that another evaluator decides. A state file keeps the keys of values to restore, until the ledger forgets the guest.

    :param hindrance: function that returns why a guest's control cannot be set, or an empty string
    """

    def __init__(self, context: PluginContext, controls: Iterable[ControlSpec], hindrance: Callable[[Guest, str], str] = _blocked) -> None:
        self._context, self._source = context, Source(context.name)
        self._specs = {spec.name: spec for spec in controls}
        self._hindrance = hindrance
        loss = "mom does not restore values whose settings are removed now"
        self._file = context.state_file("enforced.json", f"the file of values that settings of {context.name} have set", _FORM, loss=loss)
        self._saved: Set[_Key] | None = None
        """Content of the state file; None if it is not read yet."""
        self._set: set[_Key] = set()
        """Keys of values that are not restored yet."""
        self._undoing: dict[_Key, Value] = {}
        """Values being restored."""
        self.problems: Sequence[Problem] = ()
        """One problem for each reason."""
        self._overruled: Set[_Key] = frozenset()
        """Keys in `_undoing` that another evaluator decides differently."""

    def decide(
        self, snapshot: Snapshot, wanted: Mapping[str, Mapping[str, SetValue]], agreed: Mapping[str, Mapping[str, Value]] | None = None
    ) -> Sequence[Decision]:
        """Return the decisions for all guests.

        :param wanted: values from settings, keyed by guest id and control
        :param agreed: agreed values that policies set, keyed likewise; this class only restores them
        """
        if self._saved is None:
            self._load()
        cycle = _Cycle()
        self._decide_settings(snapshot, wanted, cycle)
        self._note_agreed(snapshot, agreed or {}, cycle)
        self.problems = [self._problem(control, reason, guests) for (control, reason), guests in cycle.hindered.items()]
        self._undo(snapshot, cycle)
        self._save()
        return list(cycle.decisions.values())

    def _load(self) -> None:
        self._saved = self._file.read() or set()
        changed = self._original_entries()
        self._set = {key for key in self._saved if key[:3] in changed and key.control in self._specs}

    def _save(self) -> None:
        if self._context.serves and self._saved != self._set:
            with suppress(StateError):  # mom reports an unwritable folder because of its ledger
                self._file.write(sorted(self._set))
                self._saved = set(self._set)

    def _decide_settings(self, snapshot: Snapshot, wanted: Mapping[str, Mapping[str, SetValue]], cycle: _Cycle) -> None:
        for guest in filter(None, map(snapshot.guests.get, wanted)):
            for control, setting in wanted[guest.id].items():
                keys = self._keys(guest, control, setting.value, _SET, cycle)
                if not keys:
                    continue
                reason = self._hindrance(guest, control)
                if reason:
                    cycle.hindered.setdefault((control, reason), []).append(guest.entity)
                elif "*" not in guest.blocked and (keys <= self._set or guest.fields.get(self._specs[control].field) is not None):
                    self._set |= keys
                    cycle.decisions[guest.id, control] = Decision(guest.entity, control, setting.value, setting.reason, self._source)

    def _note_agreed(self, snapshot: Snapshot, agreed: Mapping[str, Mapping[str, Value]], cycle: _Cycle) -> None:
        for identity, values in agreed.items():
            for control, value in values.items():
                self._set |= self._keys(snapshot.guests[identity], control, value, _AGREED, cycle)

    def _keys(self, guest: Guest, control: str, value: Value, by: str, cycle: _Cycle) -> set[_Key]:
        spec, whole = self._specs[control], _Key(guest.id, guest.incarnation, control, "", by)
        if value is None:
            cycle.unknown.add(whole)
            return set()
        names = [str(item[spec.key]) for item in as_items(value) or () if spec.key in item] if _by_item(spec) else [""]
        keys = {whole._replace(item=name) for name in names}
        cycle.keys |= keys
        return keys

    def _problem(self, control: str, reason: str, guests: Sequence[Entity]) -> Problem:
        # Few names: a list that changes with each guest would make a new problem and log line each time.
        whom = first_names([guest.name for guest in guests], _NAMED) if len(guests) <= _NAMED else f"{len(guests)} guests"
        message = f"{control} is set in the YAML file, but cannot be applied to {whom}: {reason}"
        return Problem(self._source, message, guests[0] if len(guests) == 1 else None, Severity.WARNING, "see mom doctor")

    def hear(self, decisions: Iterable[Decision]) -> None:
        """Record a cycle's decisions, in `mom_review`. mom does not restore a control that another evaluator decides."""
        others = (decision for decision in decisions if decision.source.name != self._source.name)
        theirs = {(decision.entity.id, decision.control): decision.value for decision in others}
        self._overruled = {
            key
            for key, value in self._undoing.items()
            if (target := (key.guest, key.control)) in theirs and not _is_in_place(self._specs[key.control], value, theirs[target])
        }

    def _original_entries(self) -> Mapping[tuple[str, str, str], LedgerEntry]:
        changes = self._context.engine_state().changes
        return {(entry.entity.id, entry.incarnation, entry.control): entry for entry in changes if entry.before is not None}

    def _undo(self, snapshot: Snapshot, cycle: _Cycle) -> None:
        # A control that a policy has set, and that settings set now, keeps its value.
        self._set -= {key for key in self._set - cycle.keys if key._replace(by=_SET) in cycle.keys}
        removed = sorted(filter(cycle.lacks, self._set), reverse=True)
        self._undoing = {}
        entries = self._original_entries() if removed else {}
        for key in removed:
            value = self._value_to_restore(snapshot, key, entries.get(key[:3]))
            if value is None:
                continue
            self._undoing[key] = value
            if key in self._overruled:
                continue
            target = key.guest, key.control
            decision = cycle.decisions.get(target)
            if key.item and decision is not None:
                decided = as_items(decision.value) or ()
                value = [*(item for item in as_items(value) or () if item not in decided), *decided]
            if decision is None:
                decision = Decision(snapshot.guests[key.guest].entity, key.control, value, _WHY_UNDONE[key.by], self._source)
            cycle.decisions[target] = replace(decision, value=value)

    def _value_to_restore(self, snapshot: Snapshot, key: _Key, entry: LedgerEntry | None) -> Value:
        guest, spec = snapshot.guests.get(key.guest), self._specs[key.control]
        if guest is None and entry is not None:  # it may be listed again
            return None
        if guest is not None and guest.incarnation == key.incarnation and entry is not None:
            now = guest.fields.get(spec.field)
            value = _original_value(spec, entry, now, key.item)
            if value is not None and not _is_in_place(spec, value, now):
                return value
        self._set.remove(key)
        return None


def _by_item(spec: ControlSpec) -> bool:
    return bool(spec.key) and spec.absent is None


def _original_value(spec: ControlSpec, entry: LedgerEntry, now: Value, item: str) -> Value:
    # Return None if another process has set the present value, or if the item is gone. If an absent item has a meaning for this control,
    # return the whole list.
    listed = as_items(now)
    if _by_item(spec):
        original, present = _items_named(spec, entry.before, item), _items_named(spec, now, item)
        ours = [
            {key: applied[key] for key in before if key in applied}
            for before in original
            for value in entry.ours
            for applied in _items_named(spec, value, item)
        ]
        is_ours = listed is None or (present and any(_is_in_place(spec, [applied], now) for applied in ours))
        return original if original and is_ours else None
    if not spec.key or listed is None:
        return entry.before if spec.key or now is None or entry.explains(now, spec.tolerance) else None
    originals = as_items(entry.before) or ()
    names = {original.get(spec.key) for original in originals}
    added = [present[spec.key] for present in listed if spec.key in present and present[spec.key] not in names]
    return [*({spec.key: name, **(spec.absent or {})} for name in added), *originals]


def _items_named(spec: ControlSpec, value: Value, name: str) -> list[Mapping[str, Value]]:
    return [item for item in as_items(value) or () if str(item.get(spec.key)) == name]


def _is_in_place(spec: ControlSpec, value: Value, now: Value) -> bool:
    # For lists, compare only entries that both lists contain.
    listed = as_items(now)
    if not spec.key or listed is None:
        return now == value
    present = {item.get(spec.key): item for item in listed}
    pairs = [(item, present.get(item.get(spec.key), spec.absent or {})) for item in as_items(value) or ()]
    return all(other[name] == wanted for item, other in pairs for name, wanted in item.items() if name in other)
