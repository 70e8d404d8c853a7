"""What the operator's settings ask of controls of single guests: decided in every cycle, and undone when they ask for it no more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
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

GONE_SECONDS: Final = 3600.0
"""So long what stood before is remembered of a guest that is not listed. A hypervisor that hangs or is started again lists none meanwhile,
and the guests that it lists then have what was set for them: taken for what stood before, that would never be undone."""

_NAMED: Final = 5
"""So many guests are named on which a control cannot be set."""

_SET: Final = "set"
_AGREED: Final = "agreed"
_WHY_UNDONE: Final = {_SET: "no longer set for this guest in the YAML file", _AGREED: "no longer agreed for this guest"}


class _Key(NamedTuple):
    """What is asked of a control of a guest, by settings (`by` is `_SET`) or by what was agreed. `item` is the name of an item of a list
    whose items stand for themselves; empty: it is the whole control."""

    guest: str
    incarnation: str
    control: str
    item: str
    by: str


_FORM: Final = TypeAdapter(set[_Key])


class SetValue(NamedTuple):
    """The value that settings ask of a control, and why. None: they ask for one that is unknown now, and what stands is left as it is."""

    value: Value
    reason: str = "set for this guest in the YAML file"


def _blocked(guest: Guest, control: str) -> str:
    return guest.blocked.get(control, "")


class Enforcement:
    """Decides what settings ask for, and puts back what they no longer ask for. For `mom_act`, and for
    `mom_problems` by `problems`.

    Each value is decided in every cycle, also when it stands: another evaluator that decides differently always finds it before its own, or
    always after it, as the order of the plugins says, and what another process has reset is set again. While it is unknown what stands,
    nothing is decided. Of a list, that holds for each item: settings may no longer name one, and go on to name others; one that they have
    never named is a matter of who sets it. What another process has set by the time that settings ask for it no more is left alone, as when
    mom ends, and so is what another evaluator wants then, for as long as it does. What stood before the first one is what the ledger says;
    where that has nothing, nothing was changed. The ledger forgets a guest that a few lists lack, so that it is remembered what it said of
    that one. What was set is noted on disk: settings may be removed while mom does not run, or with a reload that makes the plugin anew.

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
        """What was asked for and is not undone."""
        self._absent: dict[_Key, float] = {}
        """Since when guests of these are not listed: monotonic time of the snapshot."""
        self._stood_then: dict[_Key, LedgerEntry] = {}
        """What the ledger said of guests that a list has lacked."""
        self._undoing: dict[_Key, Value] = {}
        """What is to stand again of what is not asked for any more."""
        self.problems: Sequence[Problem] = ()
        """Controls that could not be set in the last cycle: a problem for all guests with the same reason."""
        self._overruled: Set[_Key] = frozenset()
        """Those of them of which another evaluator wants something else."""

    def decide(
        self, snapshot: Snapshot, wanted: Mapping[str, Mapping[str, SetValue]], agreed: Mapping[str, Mapping[str, Value]] | None = None
    ) -> Sequence[Decision]:
        """Return the decisions for all guests.

        :param wanted: by guest id and control; a guest for which nothing is set may be absent
        :param agreed: the same of what policies set as it was agreed for guests: that is not decided here, but undone when it is agreed no
            more, and no policy can know what stood before
        """
        if self._kept is None:
            self._kept = self._file.read() or set()
            noted = self._stood()
            self._set = {key for key in self._kept if key[:3] in noted and key.control in self._specs}
        keys: set[_Key] = set()
        unknown: set[tuple[str, str, str, str]] = set()
        decided: dict[tuple[str, str], Decision] = {}
        hindered: dict[tuple[str, str], list[Entity]] = {}
        for identity, values in wanted.items():
            guest = snapshot.guests.get(identity)
            if guest is None:
                continue
            for control, one in values.items():
                if one.value is None:
                    unknown.add((guest.id, guest.incarnation, control, _SET))
                    continue
                if not (mine := self._keys(guest, control, one.value, _SET)):
                    continue
                keys |= mine
                reason = self._hindrance(guest, control)
                if reason:
                    hindered.setdefault((control, reason), []).append(guest.entity)
                elif "*" not in guest.blocked and (mine <= self._set or guest.fields.get(self._specs[control].field) is not None):
                    self._set |= mine
                    decided[guest.id, control] = Decision(guest.entity, control, one.value, one.reason, self._source)
        for identity, lists in (agreed or {}).items():
            guest = snapshot.guests[identity]
            for control, value in lists.items():
                if value is None:
                    unknown.add((guest.id, guest.incarnation, control, _AGREED))
                else:
                    keys |= self._keys(guest, control, value, _AGREED)
        self._set |= {key for key in keys if key.by == _AGREED}
        self._absent = {key: since for key, since in self._absent.items() if key.guest not in snapshot.guests}
        self.problems = [self._problem(control, reason, guests) for (control, reason), guests in hindered.items()]
        if self._context.observes:
            self._stood_then.clear()  # all is put back, and what is set by hand from now on will have stood before
        self._set -= {key for key in self._set - keys if key._replace(by=_SET) in keys}  # agreed no more, and set all the same
        removed = [key for key in self._set - keys if (*key[:3], key.by) not in unknown]
        self._undo(snapshot, sorted(removed, reverse=True), decided)
        if self._context.serves and self._kept != self._set:
            # Where it cannot be written mom says so, and its ledger could not be either.
            with suppress(StateError):
                self._file.write(sorted(self._set))
                self._kept = set(self._set)
        return list(decided.values())

    def _problem(self, control: str, reason: str, guests: Sequence[Entity]) -> Problem:
        # Many names change as guests come and go: each change would be a new problem, and a new line in the log.
        whom = first_names([guest.name for guest in guests], _NAMED) if len(guests) <= _NAMED else f"{len(guests)} guests"
        message = f"{control} is set in the YAML file, and cannot be applied to {whom}: {reason}"
        return Problem(self._source, message, guests[0] if len(guests) == 1 else None, Severity.WARNING, "see mom doctor")

    def hear(self, decisions: Iterable[Decision]) -> None:
        """Take in the decisions of a cycle, for `mom_review`: what is to be undone is not decided while another evaluator wants something
        else there, as that would be said in each cycle to be a contest."""
        theirs = {(one.entity.id, one.control): one.value for one in decisions if one.source.name != self._source.name}
        self._overruled = {
            key
            for key, value in self._undoing.items()
            if (where := (key.guest, key.control)) in theirs and not _stands(self._specs[key.control], value, theirs[where])
        }

    def _keys(self, guest: Guest, control: str, value: Value, by: str) -> set[_Key]:
        """Return the ledger's keys: one, or one for each item of a list whose items stand for themselves."""
        spec = self._specs[control]
        names = [str(item[spec.key]) for item in as_items(value) or () if spec.key in item] if _by_item(spec) else [""]
        return {_Key(guest.id, guest.incarnation, control, name, by) for name in names}

    def _stood(self) -> Mapping[tuple[str, str, str], LedgerEntry]:
        """Return the value before mom's first change, by the ledger."""
        changes = self._context.engine_state().changes
        return {(one.entity.id, one.incarnation, one.control): one for one in changes if one.before is not None}

    def _undo(self, snapshot: Snapshot, removed: Sequence[_Key], decided: dict[tuple[str, str], Decision]) -> None:
        """Decide that what stood before these stands again; of a list, their items, before those that are decided already."""
        self._undoing = {}
        stood = self._stood() if any(key.guest in snapshot.guests or key not in self._absent for key in removed) else {}
        for key in removed:
            value = self._undone(snapshot, key, _joined(self._stood_then.get(key), stood.get(key[:3])))
            if value is None:
                continue
            self._undoing[key] = value
            if key in self._overruled:
                continue
            where = key.guest, key.control
            there = as_items(decided[where].value) or () if where in decided else ()
            more = [one for one in as_items(value) or () if one not in there]
            entity = snapshot.guests[key.guest].entity
            undone = Decision(entity, key.control, [*more, *there] if key.item else value, _WHY_UNDONE[key.by], self._source)
            decided[where] = replace(decided[where], value=undone.value) if where in decided else undone

    def _undone(self, snapshot: Snapshot, key: _Key, noted: LedgerEntry | None) -> Value:
        """Return the value to restore, until the control has it or another process has set one. None: there is nothing to restore.

        :param noted: None: mom has changed nothing
        """
        guest, spec = snapshot.guests.get(key.guest), self._specs[key.control]
        if guest is None and snapshot.monotonic - self._absent.setdefault(key, snapshot.monotonic) < GONE_SECONDS:
            if noted is not None:
                self._stood_then[key] = noted
            return None
        self._absent.pop(key, None)
        if guest is not None and guest.incarnation == key.incarnation and noted is not None:
            now = guest.fields.get(spec.field)
            value = _as_it_stood(spec, noted, now, key.item)
            if value is not None and not _stands(spec, value, now):
                return value
        self._set.remove(key)
        self._stood_then.pop(key, None)
        return None


def _by_item(spec: ControlSpec) -> bool:
    """Tell whether a list's items stand for themselves: an item that the list does not name keeps its value."""
    return bool(spec.key) and spec.absent is None


def _joined(then: LedgerEntry | None, noted: LedgerEntry | None) -> LedgerEntry | None:
    """Return the ledger's entry now, with the original value of its entry then."""
    if then is None or noted is None:
        return noted or then
    return noted._replace(before=then.before, attempted=(*noted.attempted, noted.before))


def _as_it_stood(spec: ControlSpec, noted: LedgerEntry, now: Value, item: str) -> Value:
    """Return the value to decide so that what stood before stands again; None: another process has set what stands, or it is gone.

    Of a list, that is this item; or, where absence has a meaning, all of it, and items that were not listed then are named, too.
    """
    listed = as_items(now)
    if _by_item(spec):
        stood, there = _named(spec, noted.before, item), _named(spec, now, item)
        ours = [
            {key: one[key] for key in then if key in one} for then in stood for set_to in noted.ours for one in _named(spec, set_to, item)
        ]
        is_ours = listed is None or (there and any(_stands(spec, [one], now) for one in ours))
        return stood if stood and is_ours else None
    if not spec.key or listed is None:
        return noted.before if spec.key or now is None or noted.explains(now, spec.tolerance) else None
    listed_then = as_items(noted.before) or ()
    named = {one.get(spec.key) for one in listed_then}
    new = [one[spec.key] for one in listed if spec.key in one and one[spec.key] not in named]
    return [*({spec.key: name, **(spec.absent or {})} for name in new), *listed_then]


def _named(spec: ControlSpec, value: Value, item: str) -> list[Mapping[str, Value]]:
    """Return the items of a list with this name."""
    return [one for one in as_items(value) or () if str(one.get(spec.key)) == item]


def _stands(spec: ControlSpec, value: Value, now: Value) -> bool:
    """Tell whether this value stands; of a list, if each of its items says the same as the one that stands, as far as both say anything: a
    field may tell more of an item than what can be set."""
    listed = as_items(now)
    if not spec.key or listed is None:
        return now == value
    there = {item.get(spec.key): item for item in listed}
    pairs = [(item, there.get(item.get(spec.key), spec.absent or {})) for item in as_items(value) or ()]
    return all(other[name] == one for item, other in pairs for name, one in item.items() if name in other)
