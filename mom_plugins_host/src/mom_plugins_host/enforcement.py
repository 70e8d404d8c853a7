"""Enforcement of settings for single guests. When an operator removes a setting, mom restores the original value."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import replace
from types import MappingProxyType
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
_WHY_UNDONE: Final = {_SET: "no longer set for this guest in the YAML file", _AGREED: "the limit is no longer agreed for this guest"}

_NOTHING: Final[Mapping[str, Mapping[str, Value]]] = MappingProxyType({})


class _Key(NamedTuple):
    """Control of a guest, and who set it: settings (`_SET`) or a policy (`_AGREED`).

    `item` names one item of a list; empty if the control is no list.
    """

    guest: str
    incarnation: str
    control: str
    item: str
    by: str


_FORM: Final = TypeAdapter(set[_Key])


class SetValue(NamedTuple):
    """Value that settings demand, and the reason. A value of None is unknown now: the control stays unchanged."""

    value: Value
    reason: str = "set for this guest in the YAML file"


def _blocked(guest: Guest, control: str) -> str:
    return guest.blocked.get(control, "")


class Enforcement:
    """Decisions for values from settings, and for restoring original values.

    In each cycle, mom sets every configured control whose present value is known. mom does not restore a control that another process or
    evaluator has set since. Until the ledger forgets a guest, a state file lists the values to restore.

    :param controls: controls of guests. A control that is a list has a `key`, and mom sets and restores each item separately
    :param hindrance: returns why a guest's control cannot be set, or an empty string
    """

    def __init__(self, context: PluginContext, controls: Iterable[ControlSpec], hindrance: Callable[[Guest, str], str] = _blocked) -> None:
        self._context, self._source = context, Source(context.name)
        self._specs = {spec.name: spec for spec in controls}
        self._hindrance = hindrance
        loss = "if a setting is removed now, mom does not restore the original value"
        self._file = context.state_file("enforced.json", f"the file of values that settings of {context.name} have set", _FORM, loss=loss)
        self._saved: Set[_Key] | None = None
        """Content of the state file; None if it is not read yet."""
        self._set: set[_Key] = set()
        """Keys of values that are not restored yet."""
        self._undoing: dict[_Key, Value] = {}
        self._overruled: Set[_Key] = frozenset()
        """Keys in `_undoing` that another evaluator sets to other values."""
        self.problems: Sequence[Problem] = ()
        """Values that cannot be set: one problem for each control and reason."""

    def decide(
        self, snapshot: Snapshot, wanted: Mapping[str, Mapping[str, SetValue]], agreed: Mapping[str, Mapping[str, Value]] = _NOTHING
    ) -> Sequence[Decision]:
        """Return the decisions for all guests.

        :param wanted: values from settings, keyed by guest id and control
        :param agreed: agreed limits that policies set, keyed likewise; this class only restores the original values
        """
        if self._saved is None:
            self._load()
        decisions, keys = self._decide_settings(snapshot, wanted)
        for identity, values in agreed.items():
            for control, value in values.items():
                own = self._keys(snapshot.guests[identity], control, value, _AGREED)
                self._set |= own
                keys |= own
        # If settings now set a control that a policy had set, mom does not restore it.
        self._set -= {key for key in self._set - keys if key._replace(by=_SET) in keys}
        self._restore(snapshot, self._set - keys, decisions)
        self._save()
        return list(decisions.values())

    def _load(self) -> None:
        self._saved = self._file.read() or set()
        changed = self._original_entries()
        self._set = {key for key in self._saved if key[:3] in changed and key.control in self._specs}

    def _save(self) -> None:
        if self._context.serves and self._saved != self._set:
            with suppress(StateError):  # the ledger reports an unwritable folder
                self._file.write(sorted(self._set))
                self._saved = set(self._set)

    def _decide_settings(
        self, snapshot: Snapshot, wanted: Mapping[str, Mapping[str, SetValue]]
    ) -> tuple[dict[tuple[str, str], Decision], set[_Key]]:
        decisions: dict[tuple[str, str], Decision] = {}
        keys: set[_Key] = set()
        hindered: dict[tuple[str, str], list[Entity]] = {}
        for guest in filter(None, map(snapshot.guests.get, wanted)):
            for control, (value, reason) in wanted[guest.id].items():
                own = self._keys(guest, control, value, _SET)
                keys |= own
                if value is None or not own:
                    continue
                if why_not := self._hindrance(guest, control):
                    hindered.setdefault((control, why_not), []).append(guest.entity)
                elif "*" not in guest.blocked and (own <= self._set or guest.fields.get(self._specs[control].field) is not None):
                    self._set |= own
                    decisions[guest.id, control] = Decision(guest.entity, control, value, reason, self._source)
        self.problems = [self._problem(control, why_not, guests) for (control, why_not), guests in hindered.items()]
        return decisions, keys

    def _keys(self, guest: Guest, control: str, value: Value, by: str) -> set[_Key]:
        key = self._specs[control].key
        whole = _Key(guest.id, guest.incarnation, control, "", by)
        if value is None:  # unknown in this cycle: keep its keys
            return {other for other in self._set if other._replace(item="") == whole}
        return {whole._replace(item=str(item[key])) for item in as_items(value) or () if key in item} if key else {whole}

    def _problem(self, control: str, reason: str, guests: Sequence[Entity]) -> Problem:
        # With all names, each change of a guest would make a new problem and log line.
        whom = first_names([guest.name for guest in guests], _NAMED) if len(guests) <= _NAMED else f"{len(guests)} guests"
        message = f"{control} is set in the YAML file, but cannot be applied to {whom}: {reason}"
        return Problem(self._source, message, guests[0] if len(guests) == 1 else None, Severity.WARNING, "see mom doctor")

    def hear(self, decisions: Iterable[Decision]) -> None:
        """Record the decisions under review, so that mom restores no control that another evaluator sets."""
        foreign = (decision for decision in decisions if decision.source.name != self._source.name)
        theirs = {(decision.entity.id, decision.control): decision.value for decision in foreign}
        self._overruled = {
            key
            for key, original in self._undoing.items()
            if (value := theirs.get((key.guest, key.control))) is not None
            and not _agrees(_item(self._specs[key.control], value, key.item), original)
        }

    def _original_entries(self) -> Mapping[tuple[str, str, str], LedgerEntry]:
        changes = self._context.engine_state().changes
        return {(entry.entity.id, entry.incarnation, entry.control): entry for entry in changes if entry.before is not None}

    def _restore(self, snapshot: Snapshot, removed: Set[_Key], decisions: dict[tuple[str, str], Decision]) -> None:
        self._undoing = {}
        entries = self._original_entries() if removed else {}
        for key in sorted(removed, reverse=True):
            guest, entry = snapshot.guests.get(key.guest), entries.get(key[:3])
            if guest is None and entry is not None:  # the guest may return
                continue
            original = None
            if guest is not None and entry is not None and guest.incarnation == key.incarnation:
                spec = self._specs[key.control]
                original = _value_to_restore(spec, entry, guest.fields.get(spec.field), key.item)
            if guest is None or original is None:
                self._set.remove(key)
                continue
            self._undoing[key] = original
            if key not in self._overruled:
                target = guest.id, key.control
                first = decisions.get(target) or Decision(guest.entity, key.control, [], _WHY_UNDONE[key.by], self._source)
                items = as_items(first.value) or ()
                decisions[target] = replace(first, value=[original, *items] if key.item else original)


def _value_to_restore(spec: ControlSpec, entry: LedgerEntry, now: Value, name: str) -> Value:
    # Return None if the original value is in place, if another process has set the present value, or if the item is gone.
    original, present = _item(spec, entry.before, name), _item(spec, now, name)
    if now is None:
        return original
    if present is None or _agrees(present, original):
        return None
    ours = [_common(_item(spec, value, name), original) for value in entry.ours]
    is_ours = any(_agrees(present, value) for value in ours if value is not None) if name else entry.explains(now, spec.tolerance)
    return original if is_ours else None


def _item(spec: ControlSpec, value: Value, name: str) -> Value:
    if not name:
        return value
    return next((dict(item) for item in as_items(value) or () if str(item.get(spec.key)) == name), None)


def _common(value: Value, other: Value) -> Value:
    return {key: value[key] for key in other if key in value} if isinstance(value, Mapping) and isinstance(other, Mapping) else value


def _agrees(present: Value, wanted: Value) -> bool:
    """Return whether `present` equals `wanted`. Of two mappings, compare only common limits. If only `wanted` is a mapping, return True."""
    if isinstance(wanted, Mapping):
        return not isinstance(present, Mapping) or all(present[name] == limit for name, limit in wanted.items() if name in present)
    return present == wanted
