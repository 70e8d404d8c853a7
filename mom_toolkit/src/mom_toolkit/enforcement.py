"""What the operator's settings ask of controls of single guests: decided in every cycle, and undone when they ask for it no more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from contextlib import suppress
from typing import Final, NamedTuple, TypeAlias

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

GONE_SECONDS: Final = 3600.0
"""So long what stood before is remembered of a guest that is not listed. A hypervisor that hangs or is started again lists none meanwhile,
and the guests that it lists then have what was set for them: taken for what stood before, that would never be undone."""

_NAMED: Final = 5
"""So many guests are named on which a control cannot be set."""

_Key: TypeAlias = tuple[str, str, str]
"""A guest's id, its incarnation, and a control."""

_FORM: Final = TypeAdapter(set[_Key])


class SetValue(NamedTuple):
    """The value that settings ask of a control, and why. None: they ask for one that is unknown now, and what stands is left as it is."""

    value: Value
    reason: str = "set for this guest in the YAML file"


def _blocked(guest: Guest, control: str) -> str:
    return guest.blocked.get(control, "")


class Enforcement:
    """Decides what settings ask for, and puts back what they no longer ask for. For `mom_act`.

    Each value is decided in every cycle, also when it stands: another evaluator that decides differently always finds it before its own, or
    always after it, as the order of the plugins says, and what another process has reset is set again. While it is unknown what stands,
    nothing is decided. Of a list, that holds for each item: settings may no longer name one, and go on to name others. What another process
    has set by the time that settings ask for it no more is left alone, as when mom ends. What stood before the first one is what the
    ledger says; where that has nothing, nothing was changed. The ledger
    forgets a guest that a few lists lack, so that it is remembered what it said of that one. What was set is noted on disk: settings may
    be removed while mom does not run, or with a reload that makes the plugin anew.

    :param context: the plugin's, which is the source of what is decided
    :param controls: those that settings set
    :param hindrance: why a control of a guest cannot be set, empty if it can; the guest's own word, unless this says otherwise
    """

    def __init__(self, context: PluginContext, controls: Iterable[ControlSpec], hindrance: Callable[[Guest, str], str] = _blocked) -> None:
        self._context, self._source = context, Source(context.name)
        self._specs = {spec.name: spec for spec in controls}
        self._hindrance = hindrance
        loss = "what settings had set stays set where they are removed now"
        self._file = context.state_file("enforced.json", f"the file of what settings of {context.name} have set", _FORM, loss=loss)
        self._kept: Set[_Key] | None = None
        """What stands in the file; None: it was not read yet."""
        self._set: set[_Key] = set()
        """What settings asked for and is not undone."""
        self._absent: dict[_Key, float] = {}
        """Since when guests of these are not listed: monotonic time of the snapshot."""
        self._stood_then: dict[_Key, LedgerEntry] = {}
        """What the ledger said of guests that a list has lacked."""

    def decide(self, snapshot: Snapshot, wanted: Mapping[str, Mapping[str, SetValue]]) -> Iterable[Decision | Problem]:
        """Decisions for all guests; and one problem for all guests on which a control cannot be set for the same reason.

        :param wanted: by guest id and control; a guest for which nothing is set may be absent
        """
        keys: set[_Key] = set()
        if self._kept is None:
            self._kept = self._file.read() or set()
            self._set = {key for key in self._kept & self._stood().keys() if key[2] in self._specs}
        hindered: dict[tuple[str, str], list[Entity]] = {}
        noted = self._stood() if any(self._specs[name].key for values in wanted.values() for name in values) else {}
        for identity, values in wanted.items():
            guest = snapshot.guests.get(identity)
            if guest is None:
                continue
            for control, one in values.items():
                key = guest.id, guest.incarnation, control
                keys.add(key)
                self._absent.pop(key, None)
                if one.value is None:
                    continue
                now = guest.fields.get(self._specs[control].field)
                reason = self._hindrance(guest, control)
                if reason:
                    hindered.setdefault((control, reason), []).append(guest.entity)
                elif "*" not in guest.blocked and (key in self._set or now is not None):
                    self._set.add(key)
                    value = _with_unnamed(self._specs[control], one.value, noted[key], now) if key in noted else one.value
                    yield Decision(guest.entity, control, value, one.reason, self._source)
        for (control, reason), guests in hindered.items():
            # Names of many change as guests come and go, and each time it would be another problem, and another line in the log.
            whom = first_names([guest.name for guest in guests], _NAMED) if len(guests) <= _NAMED else f"{len(guests)} guests"
            message = f"{control} is set in the YAML file, and cannot be applied to {whom}: {reason}"
            yield Problem(self._source, message, guests[0] if len(guests) == 1 else None, Severity.WARNING, "see mom doctor")
        if self._context.observes:
            self._stood_then.clear()  # all is put back, and what is set by hand from now on will have stood before
        removed = sorted(self._set - keys)
        stood = self._stood() if any(key[0] in snapshot.guests or key not in self._absent for key in removed) else {}
        for key in removed:
            yield from self._undone(snapshot, key, _joined(self._stood_then.get(key), stood.get(key)))
        if self._context.serves and self._kept != self._set:
            # Where it cannot be written mom says so, and its ledger could not be either.
            with suppress(StateError):
                self._file.write(sorted(self._set))
                self._kept = set(self._set)

    def _stood(self) -> Mapping[_Key, LedgerEntry]:
        """What stood before mom set anything, by the ledger."""
        changes = self._context.engine_state().changes
        return {(one.entity.id, one.incarnation, one.control): one for one in changes if one.before is not None}

    def _undone(self, snapshot: Snapshot, key: _Key, noted: LedgerEntry | None) -> Iterable[Decision]:
        """Decide what stood before until it stands, or what another process has set.

        :param noted: None: mom has changed nothing
        """
        identity, incarnation, control = key
        guest, spec = snapshot.guests.get(identity), self._specs[control]
        if guest is None and snapshot.monotonic - self._absent.setdefault(key, snapshot.monotonic) < GONE_SECONDS:
            if noted is not None:
                self._stood_then[key] = noted
            return
        self._absent.pop(key, None)
        now = None if guest is None else guest.fields.get(spec.field)
        if guest is not None and guest.incarnation == incarnation and noted is not None and not _is_anothers(spec, noted, now):
            value = _as_it_stood(spec, noted, now)
            if not _stands(spec, value, now):
                yield Decision(guest.entity, control, value, "no longer set for this guest in the YAML file", self._source)
                return
        self._set.remove(key)
        self._stood_then.pop(key, None)


def _joined(then: LedgerEntry | None, noted: LedgerEntry | None) -> LedgerEntry | None:
    """What the ledger says now, with what stood before by what it said then: what it has found since was mom's own."""
    if then is None or noted is None:
        return noted or then
    return noted._replace(before=then.before, attempted=(*noted.attempted, noted.before))


def _with_unnamed(spec: ControlSpec, value: Value, noted: LedgerEntry, now: Value) -> Value:
    """A list with those items, too, that settings have named before and name no more: as they stood before mom, until they stand so."""
    if not spec.key or spec.absent is not None:
        return value
    wanted = as_items(value) or ()
    named = {item.get(spec.key) for item in wanted}
    return [*(item for item in _ours(spec, noted, now) if item.get(spec.key) not in named and not _stands(spec, [item], now)), *wanted]


def _is_anothers(spec: ControlSpec, noted: LedgerEntry, now: Value) -> bool:
    """True if another process has set what stands. The items of a list are looked at one by one."""
    return not spec.key and now is not None and not noted.explains(now, spec.tolerance)


def _ours(spec: ControlSpec, noted: LedgerEntry, now: Value) -> list[Mapping[str, Value]]:
    """The items of a list as they stood before mom, without those that are gone, and those that another process has set since."""
    there = {item.get(spec.key): item for item in as_items(now) or ()}
    ours = [item for value in noted.ours for item in as_items(value) or ()]
    found = []
    for stood in as_items(noted.before) or ():
        name = stood.get(spec.key)
        mine = [{key: item[key] for key in stood if key in item} for item in ours if item.get(spec.key) == name]
        if name in there and any(_stands(spec, [item], now) for item in mine):
            found.append(stood)
    return found


def _as_it_stood(spec: ControlSpec, noted: LedgerEntry, now: Value) -> Value:
    """The value to decide so that what stood before stands again.

    Of a list, items that are gone, or that another process has set since, are left out; or, where absence has a meaning, items that were
    not listed then are named, too.
    """
    listed = as_items(now)
    if not spec.key or listed is None:
        return noted.before
    if spec.absent is None:
        return _ours(spec, noted, now)
    stood = as_items(noted.before) or ()
    named = {item.get(spec.key) for item in stood}
    new = [item[spec.key] for item in listed if spec.key in item and item[spec.key] not in named]
    return [*({spec.key: name, **spec.absent} for name in new), *stood]


def _stands(spec: ControlSpec, value: Value, now: Value) -> bool:
    """True if this value stands; of a list, if each of its items says the same as the one that stands, as far as both say anything: a
    field may tell more of an item than what can be set."""
    listed = as_items(now)
    if not spec.key or listed is None:
        return now == value
    there = {item.get(spec.key): item for item in listed}
    pairs = [(item, there.get(item.get(spec.key), spec.absent or {})) for item in as_items(value) or ()]
    return all(other[name] == one for item, other in pairs for name, one in item.items() if name in other)
