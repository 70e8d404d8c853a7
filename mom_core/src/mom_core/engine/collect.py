"""Collects a snapshot, and drops values of wrong types."""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from operator import attrgetter
from typing import Any, Final, TypeAlias, TypeGuard

from mom_core.columns import Columns
from mom_core.engine.problems import SEE_DOCTOR, contained
from mom_core.errors import HypervisorError
from mom_core.model import FieldSpec, Guest, GuestTable, Host, Problem, Scope, Severity, Snapshot, Source
from mom_core.plugins.bounded import located
from mom_core.plugins.registry import Plugin, PluginSet, materialize
from mom_core.texts import printable
from mom_core.units import Unit
from mom_core.values import Value, are_within_bounds, why_unfit

LISTING = "guests"

GUESTS_UNKNOWN = "the guests are unknown"

_IN_ORDER = attrgetter("name", "id")

_HALF = re.compile("[\ud800-\udfff]")

Fields = dict[str, Value]
_Units: TypeAlias = "Mapping[str, Unit]"
_PluginColumns: TypeAlias = "tuple[Plugin, _Units, Columns]"


class Collector:
    """Collector of snapshots from one set of plugins."""

    def __init__(self, plugins: PluginSet, interval: float, on_progress: Callable[[], None] = lambda: None) -> None:
        self._plugins = plugins
        self._on_progress = on_progress
        self._host_properties: Fields = {"name": platform.node() or Host.ID, "interval": interval}
        collected = [(plugin.name, spec) for plugin in plugins.plugins for spec in plugin.declared_as(FieldSpec) if spec.collected]
        self._units: dict[tuple[str, Scope], dict[str, Unit]] = {}
        for name, spec in collected:
            self._units.setdefault((name, spec.scope), {})[spec.name] = spec.unit

    def snapshot(self, number: int, time: float, monotonic: float) -> tuple[Snapshot, list[Problem]]:
        """Collect a snapshot; return it with the problems."""
        problems: list[Problem] = []
        listed = self._list_guests(problems)
        self._on_progress()
        host = Host(str(self._host_properties["name"]), self._host_fields(problems), self._host_properties)
        self._on_progress()
        columns = self._guest_columns(listed, problems) if listed else []
        self._on_progress()
        guests = GuestTable(listed, _joined(columns, problems))
        return Snapshot(host, guests, time, monotonic, number), problems

    def derived(self, snapshot: Snapshot, history: Sequence[Snapshot], problems: list[Problem]) -> Snapshot:
        """Return the snapshot with derived fields. Append faults to `problems`."""
        hook = "mom_derive"
        if not self._plugins.having(hook):
            return snapshot
        fields: Fields = {}
        columns, listed = list[_PluginColumns](), snapshot.listed
        for plugin, value in self._ask(hook, problems, snapshot=snapshot, history=history):
            with contained(plugin.name, hook, problems):
                _join(fields, _accepted(value.host, self._units_of(plugin, Scope.HOST), plugin, problems))
                columns += self._columns_of(plugin, hook, value.guests, listed, snapshot.guests.keys(), problems)
        host = replace(snapshot.host, fields={**snapshot.host.fields, **fields})
        guests = GuestTable(listed, snapshot.columns.with_columns(_joined(columns, problems)))
        return replace(snapshot, host=host, guests=guests)

    def _units_of(self, plugin: Plugin, scope: Scope) -> _Units:
        return self._units.get((plugin.name, scope), {})

    def _ask(self, hook: str, problems: list[Problem], **arguments: object) -> list[tuple[Plugin, Any]]:
        return ask([(plugin, plugin.work(hook, **arguments)) for plugin in self._plugins.having(hook)], hook, problems)

    def _list_guests(self, problems: list[Problem]) -> Sequence[Guest]:
        owner = self._plugins.hypervisor_owner
        if owner is None:
            return []
        source = Source(owner.name)
        worker = owner.worker
        # Always try: nothing works without guests, and the hypervisor limits its own retries.
        call = worker.begin(LISTING, lambda: materialize(self._plugins.hypervisor.guests()), counts=False)
        if call is None:
            problems.append(_unlisted(source, worker.why_not(LISTING)))
            return []
        answer = worker.finish(call)
        if answer.error is not None:
            error = answer.error
            message, cure = (error.message, error.hint) if isinstance(error, HypervisorError) else (located(error), "")
            problems.append(_unlisted(source, printable(message, 300), printable(cure, 300)))
            return []
        try:
            return self._listed_guests([*answer.value] if isinstance(answer.value, Iterable) else [answer.value], source, problems)
        except Exception as error:  # noqa: BLE001  # containment, as in `contained`
            problems.append(_unlisted(source, f"the answer is invalid: {located(error)}"))
            return []

    def _listed_guests(self, answer: Sequence[object], source: Source, problems: list[Problem]) -> Sequence[Guest]:
        guests: dict[str, Guest] = {}
        for guest in answer:
            if not isinstance(guest, Guest):
                problems.append(Problem(source, f"the list of guests contains a {type(guest).__name__} instead of a Guest"))
            elif guest.id in guests:
                problems.append(Problem(source, f"the guest id {printable(guest.id)} is listed twice", guest.entity))
            else:
                guests[guest.id] = guest
        return sorted(guests.values(), key=_IN_ORDER)

    def _host_fields(self, problems: list[Problem]) -> Fields:
        joined: Fields = {}
        hook = "mom_collect_host"
        for plugin, value in self._ask(hook, problems, hypervisor=self._plugins.hypervisor):
            with contained(plugin.name, hook, problems):
                _join(joined, _accepted(value, self._units_of(plugin, Scope.HOST), plugin, problems))
        return joined

    def _guest_columns(self, guests: Sequence[Guest], problems: list[Problem]) -> list[_PluginColumns]:
        columns: list[_PluginColumns] = []
        arguments = {"hypervisor": self._plugins.hypervisor, "guests": tuple(guests)}
        hook = "mom_collect_guests"
        for plugin, value in self._ask(hook, problems, **arguments):
            with contained(plugin.name, hook, problems):
                columns += self._columns_of(plugin, hook, value, guests, {guest.id for guest in guests}, problems)
        return columns

    def _columns_of(
        self, plugin: Plugin, hook: str, value: Any, guests: Sequence[Guest], known_ids: AbstractSet[str], problems: list[Problem]
    ) -> Iterator[_PluginColumns]:
        units = self._units_of(plugin, Scope.GUEST)
        if isinstance(value, Columns):
            if all(len(column) == len(guests) for column in value.values()):
                yield plugin, units, value
            else:
                message = f"{hook} returned columns that do not have one value for each of the {len(guests)} guests"
                problems.append(Problem(Source(plugin.name), message))
            return
        for stranger in () if value.keys() <= known_ids else [identity for identity in value if identity not in known_ids]:
            message = f"{hook} names an unknown guest {printable(str(stranger))}"
            problems.append(Problem(Source(plugin.name), message))
        yield plugin, units, Columns.of_rows([value.get(guest.id, _NO_FIELDS) for guest in guests])


def ask(works: Sequence[tuple[Plugin, Callable[[], object]]], hook: str, problems: list[Problem]) -> list[tuple[Plugin, Any]]:
    """Call a hook of several plugins in parallel. Return answers; failures become problems."""
    answers = []
    begun = [(plugin, plugin.worker.begin(hook, work)) for plugin, work in works]
    for plugin, call in begun:
        worker = plugin.worker
        if call is None:
            problems.append(not_called(plugin, hook))
            continue
        answer = worker.finish(call)
        if answer.error is None:
            answers.append((plugin, answer.value))
        else:
            problems.append(Problem(Source(plugin.name), f"{hook}: {describe_error(answer.error)}"))
    return answers


def _unlisted(source: Source, why: str, cure: str = "") -> Problem:
    return Problem(source, f"{GUESTS_UNKNOWN}: {why}", hint=f"{cure or 'check that the hypervisor is running'}; {SEE_DOCTOR}")


def not_called(plugin: Plugin, hook: str) -> Problem:
    """Return a problem that says why the hook cannot be called now."""
    message = "mom calls no hook of this plugin for now" if plugin.worker.hung_in else f"{hook} is paused"
    return Problem(Source(plugin.name), f"{message}: {plugin.worker.why_not(hook) or 'it is busy'}", severity=Severity.WARNING)


def describe_error(error: BaseException) -> str:
    """Describe a hypervisor's error with its hint, and any other error with its type and place."""
    return printable(str(error), 300) if isinstance(error, HypervisorError) else located(error)


_NO_VALUE = frozenset({type(None)})

_NO_FIELDS: Final[Mapping[str, Value]] = {}


def _joined(answers: Sequence[_PluginColumns], problems: list[Problem]) -> Columns:
    # The first plugin with a value wins.
    joined: dict[str, Sequence[Value]] = {}
    unknown: dict[str, AbstractSet[int]] = {}
    for plugin, units, columns in answers:
        for name in columns:
            with contained(plugin.name, "its fields of guests", problems):
                accepted = _accepted_column(name, columns, units.get(name), plugin, problems)
                places = {*columns.unknown(name)} if name in units else set()
                if name in joined:
                    accepted = [other if value is None else value for value, other in zip(joined[name], accepted, strict=True)]
                    places = {place for place in places | unknown[name] if accepted[place] is None}
                elif not places and _NO_VALUE.issuperset(map(type, accepted)):
                    continue
                joined[name], unknown[name] = accepted, places
    return Columns(joined, unknown)


def _accepted_column(name: str, columns: Columns, unit: Unit | None, plugin: Plugin, problems: list[Problem]) -> Sequence[Value]:
    values, unknown = columns[name], columns.unknown(name)
    if unit is not None and unit.is_number and _PLAIN_OR_NONE.issuperset(columns.types(name)):
        numbers = values if _NO_VALUE.isdisjoint(columns.types(name)) else [value for value in values if value is not None]
        if are_within_bounds(numbers):
            return values
    return [
        value if (value is None and place not in unknown) or _fits(value, name, unit, plugin, Scope.GUEST, problems) else None
        for place, value in enumerate(values)
    ]


def _accepted(fields: Mapping[str, object], units: _Units, plugin: Plugin, problems: list[Problem]) -> Fields:
    return {name: value for name, value in fields.items() if _fits(value, name, units.get(name), plugin, Scope.HOST, problems)}


_PLAIN_OR_NONE = frozenset({int, float}) | _NO_VALUE


def _fits(value: object, name: str, unit: Unit | None, plugin: Plugin, scope: Scope, problems: list[Problem]) -> TypeGuard[Value]:
    if unit is None:
        message = f"the plugin collects a {scope} field {printable(str(name))!r} that it did not declare"
        problems.append(Problem(Source(plugin.name), message))
        return False
    if value is None:
        return True
    why = why_unfit(value, unit)
    if isinstance(value, str) and not value.isascii() and _HALF.search(value):  # files cannot store a lone surrogate
        why = "contains an incomplete UTF-16 character"
    if why:
        problems.append(Problem(Source(plugin.name), f"its {scope} field {name} {why}"))
    return not why


def _join(joined: Fields, more: Fields) -> None:
    joined.update({name: value for name, value in more.items() if joined.get(name) is None})
