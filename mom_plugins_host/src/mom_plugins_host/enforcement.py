"""Enforcement of settings for single guests. When an operator removes a setting, mom restores the original value."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
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
_UNDONE: Final = "no longer set for this guest in the YAML file"


class _Key(NamedTuple):
    """Control of a guest that settings have set."""

    guest: str
    incarnation: str
    control: str


_FORM: Final = TypeAdapter(set[_Key])


class SetValue(NamedTuple):
    """Value that settings demand, and the reason. A value of None is unknown now: the control stays unchanged."""

    value: Value
    reason: str = "set for this guest in the YAML file"


class Enforcement:
    """Decisions for values from settings, and for restoring original values.

    In each cycle, mom sets every configured control whose present value is known. mom does not restore a control that another process or
    evaluator has set since. Until the ledger forgets a guest, a state file lists the controls to restore.

    :param controls: controls of guests. Of a control that is a list, mom restores the items that settings no longer name
    """

    def __init__(self, context: PluginContext, controls: Iterable[ControlSpec]) -> None:
        self._context, self._source = context, Source(context.name)
        self._specs = {spec.name: spec for spec in controls}
        loss = "if a setting is removed now, mom does not restore the original value"
        self._file = context.state_file("enforced.json", f"the file of values that settings of {context.name} have set", _FORM, loss=loss)
        self._saved: Collection[_Key] | None = None
        """Content of the state file; None if it is not read yet."""
        self._set: set[_Key] = set()
        """Controls that settings set, or that are not restored yet."""
        self._decided_by_others: Collection[tuple[str, str]] = ()
        self.problems: Sequence[Problem] = ()
        """Values that cannot be set: one problem for each control."""

    def decide(self, snapshot: Snapshot, wanted: Mapping[str, Mapping[str, SetValue]]) -> Sequence[Decision]:
        """Return the decisions for all guests.

        :param wanted: values from settings, keyed by guest id and control
        """
        entries = {
            _Key(entry.entity.id, entry.incarnation, entry.control): entry
            for entry in self._context.engine_state().changes
            if entry.before is not None
        }
        if self._saved is None:
            self._saved = self._file.read() or set()
            self._set = {key for key in self._saved if key in entries and key.control in self._specs}
        decisions: dict[tuple[str, str], Decision] = {}
        unknown: dict[str, list[Entity]] = {}
        keys: set[_Key] = set()
        for guest in filter(None, map(snapshot.guests.get, wanted)):
            for control, (value, reason) in wanted[guest.id].items():
                keys.add(_Key(guest.id, guest.incarnation, control))
                if value is None or value == [] or guest.why_blocked(control):
                    continue
                if guest.fields.get(self._specs[control].field) is None:
                    unknown.setdefault(control, []).append(guest.entity)
                else:
                    decisions[guest.id, control] = Decision(guest.entity, control, value, reason, self._source)
        self.problems = [self._problem(control, guests) for control, guests in unknown.items()]
        self._set |= {key for key in keys if (key.guest, key.control) in decisions}
        for key in sorted(self._set):
            self._restore(key, snapshot.guests.get(key.guest), entries.get(key), decisions, is_set=key in keys)
        self._save()
        return list(decisions.values())

    def _restore(
        self, key: _Key, guest: Guest | None, entry: LedgerEntry | None, decisions: dict[tuple[str, str], Decision], *, is_set: bool
    ) -> None:
        target, spec = (key.guest, key.control), self._specs[key.control]
        set_now = decisions.get(target)
        if (is_set and (set_now is None or not spec.key)) or (guest is None and entry is not None):  # the guest may return
            return
        original: Value = None
        if guest is not None and entry is not None and guest.incarnation == key.incarnation:
            kept = _items(spec, set_now.value) if set_now is not None else {}
            original = _to_restore(spec, entry, guest.fields.get(spec.field), kept)
        if original is None:
            if not is_set:
                self._set.remove(key)
        elif guest is not None and set_now is not None:
            decisions[target] = replace(set_now, value=[*(as_items(original) or ()), *(as_items(set_now.value) or ())])
        elif guest is not None and target not in self._decided_by_others:
            decisions[target] = Decision(guest.entity, key.control, original, _UNDONE, self._source)

    def _save(self) -> None:
        if self._context.serves and self._saved != self._set:
            with suppress(StateError):  # the ledger reports an unwritable folder
                self._file.write(sorted(self._set))
                self._saved = set(self._set)

    def _problem(self, control: str, guests: Sequence[Entity]) -> Problem:
        # With all names, each change of a guest would make a new problem and log line.
        whom = first_names([guest.name for guest in guests], _NAMED) if len(guests) <= _NAMED else f"{len(guests)} guests"
        message = f"{control} is set in the YAML file, but cannot be applied to {whom}: its present value is unknown"
        return Problem(self._source, message, guests[0] if len(guests) == 1 else None, Severity.WARNING, "see mom doctor")

    def hear(self, decisions: Iterable[Decision]) -> None:
        """Record the decisions under review, so that mom restores no control that another evaluator sets."""
        foreign = (decision for decision in decisions if decision.source.name != self._source.name)
        self._decided_by_others = {(decision.entity.id, decision.control) for decision in foreign}


def _to_restore(spec: ControlSpec, entry: LedgerEntry, now: Value, kept: Collection[str]) -> Value:
    """Return the original value, or the original items other than `kept`. None if it is in place, or if another process has set it."""
    if not spec.key:
        return None if now == entry.before or (now is not None and not entry.explains(now, spec.tolerance)) else entry.before
    present, ours = _items(spec, now), [_items(spec, value) for value in entry.ours]
    due: list[Value] = []
    for name, original in _items(spec, entry.before).items():
        item = present.get(name, {})
        is_ours = any(_agree(item, values[name]) for values in ours if name in values)
        if name not in kept and (now is None or (item and is_ours and not _agree(item, original))):
            due.append(original)
    return due or None


def _items(spec: ControlSpec, value: Value) -> dict[str, Mapping[str, Value]]:
    return {str(item[spec.key]): item for item in as_items(value) or () if spec.key in item} if spec.key else {}


def _agree(first: Mapping[str, Value], second: Mapping[str, Value]) -> bool:
    return all(first[key] == value for key, value in second.items() if key in first)
