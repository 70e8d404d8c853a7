"""Conditions under which a program requests values of controls. They become the reasons of decisions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Final, NamedTuple

from mom_core import Host, Snapshot, printable
from mom_plugins_policy.language.analysis import Definition, Program
from mom_plugins_policy.language.syntax import Form, FormKind, abridged, all_in
from mom_plugins_policy.language.values import show
from mom_plugins_policy.language.words.forms import Clause
from mom_plugins_policy.language.words.methods import ENTITY_METHODS

CONTROL: Final = ".Control"

_CONDITIONS: Final = 4  # nearest to the request; farther conditions rarely concern its guest
_FIELDS: Final = 12  # per condition
_FARTHEST: Final = 400  # enclosing forms that are searched for conditions
_LONGEST: Final = 600  # characters of a reason
_SHOWN: Final = 70  # characters of a condition


class RequestCondition(NamedTuple):
    """Condition of a request: its text, and the truth value that leads to the request.

    `fields` are those that it reads from the host, or from the entity whose control is requested, such as `Host.mem_free`.
    """

    text: str
    truth: bool
    fields: Sequence[str]


def reason_of(conditions: Sequence[RequestCondition], identity: str, snapshot: Snapshot) -> str:
    """Return a request's conditions as text with their fields' values, the outermost first. Without conditions, return an empty string."""
    entity = snapshot.host if identity == Host.ID else snapshot.guests[identity]
    texts = []
    for text, truth, fields in conditions:
        owners = [(field, *field.rpartition(".")[::2]) for field in fields]
        values = [f"{field} is {show((snapshot.host if of == 'Host' else entity).fields.get(name))}" for field, of, name in owners]
        texts.append(f"{text} is {'true' if truth else 'false'}" + (f" ({', '.join(values)})" if values else ""))
    return printable("; ".join(texts), _LONGEST)


def conditions_in(program: Program) -> Mapping[int, Sequence[RequestCondition]]:
    """Return requests' conditions (outermost first), keyed by the index of the request's form."""
    return _Outline(program).conditions


class _Outline:
    def __init__(self, program: Program) -> None:
        self._program = program
        self._around: dict[int, Form] = {}
        self._calls: dict[str, list[Form]] = {}
        self._bodies: dict[int, Definition] = {definition.body.index: definition for definition in program.functions()}
        requests: list[Form] = []
        for form in all_in(program.forms):
            parts = program.parts.get(form.index)
            for item in form.items if parts is None else parts.evaluated:
                self._around.setdefault(item.index, form)  # a clause of `cond` is no form
            head = form.items[0].name if form.items else ""
            if head.endswith(CONTROL):
                requests.append(form)
            elif head in program.definitions:
                self._calls.setdefault(head, []).append(form)
        self.conditions = {form.index: [*islice(self._conditions(form), _CONDITIONS)][::-1] for form in requests}

    def _conditions(self, request: Form) -> Iterator[RequestCondition]:
        owner, form = request.items[0].name.removesuffix(CONTROL), request
        for _ in range(_FARTHEST):
            outer = self._outer(form)
            if outer is None:
                return
            parts = self._program.parts.get(outer.index)
            for condition, truth in _leading_to(form, () if parts is None else parts.clauses):
                yield RequestCondition(abridged(condition, _SHOWN), truth, _fields(condition, owner))
            if form.index in self._bodies:
                owner = ""  # the caller may use another name for the entity
            form = outer

    def _outer(self, form: Form) -> Form | None:
        definition = self._bodies.get(form.index)
        if definition is None:
            return self._around.get(form.index)
        calls = self._calls.get(definition.name, [])
        alone = len(calls) == len(self._program.definitions[definition.name]) == 1
        return calls[0] if alone else None


def _leading_to(form: Form, clauses: Sequence[Clause]) -> Iterator[tuple[Form, bool]]:
    reached: list[tuple[Form, bool]] = []
    for condition, body in clauses:
        if form is condition:
            break
        if condition is not None:
            reached.append((condition, form in body))
        if form in body:
            break
    yield from reversed(reached)


def _fields(condition: Form, owner: str) -> Sequence[str]:
    names = dict.fromkeys(form.name for form in all_in((condition,)) if form.kind is FormKind.NAME)
    parts = [(text, *text.rpartition(".")[::2]) for text in names]
    return [text for text, of, name in parts if of and of in ("Host", owner) and name not in ENTITY_METHODS][:_FIELDS]
