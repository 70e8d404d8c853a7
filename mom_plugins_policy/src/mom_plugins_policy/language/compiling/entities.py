"""Fields, attributes and methods of the host and of guests."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mom_core import HOST_ID, Scope
from mom_plugins_policy.language.analysis import Program
from mom_plugins_policy.language.compiling.code import ENTITIES, NIL, SMALL, Expression
from mom_plugins_policy.language.compiling.scopes import Scoping
from mom_plugins_policy.language.limits import PolicyLimits
from mom_plugins_policy.language.syntax import Form
from mom_plugins_policy.language.words.methods import ENTITY_METHODS

_LARGE_FLOAT = "1e308"
_BY_ENTITY = {"Control": "control", "GetControl": "control", "SetVar": "variable", "GetVar": "variable", "Recall": "recalled"}


class EntityAccess(Scoping):
    """Compiler for reads of entities. Loops over `Guests` read fields by column."""

    def __init__(self, program: Program, limits: PolicyLimits, undeclared: frozenset[tuple[Scope, str]]) -> None:
        super().__init__(program, limits)
        self.undeclared = undeclared
        self.fields: set[tuple[Scope, str]] = set()
        self._read_of: dict[str, dict[str, tuple[str, str]]] = {}
        """Variables of field and column, per loop variable and field name."""

    def _arity(self, form: Form, name: str, takes: str, count: int) -> Expression:
        return self.fault(form, "arity", f"{name} takes {takes}, not {count}")

    def _name(self, form: Form) -> Expression:
        if form.name == "nil":
            return NIL
        first, *parts = form.name.split(".")
        value = self._variable(form, first)
        for part in parts:
            value = self._attribute(form, value, part)
        return value

    def _attribute(self, form: Form, value: Expression, name: str) -> Expression:
        if value.type in ENTITIES and name not in ENTITY_METHODS:
            field = self._field(value, name)
            if field is None:
                return self.fault(form, "undefined-symbol", f"there is no {value.type} field {name}")
            return field
        value = self.spilled(value) if not value.named else value
        return Expression(self.marked(form, self._helper("attribute", value.text, self.string(name))))

    def _field(self, entity: Expression, name: str) -> Expression | None:
        scope = Scope(entity.type)
        self.fields.add((scope, name))
        if (scope, name) in self.undeclared:
            return None
        if scope is Scope.HOST:
            self._use("hostfields")
            return Expression(self._initial("h", name, f"hostfields.get({self.string(name)})"), stable=True, safe=True)
        if name == "io_tune":
            return Expression(self._helper("disks", entity.text), safe=True)
        read = self._read_of.get(entity.text)
        if read is None:  # the variable may hold another guest at the next read
            return Expression(self._helper("field", entity.text, self.string(name)), safe=True)
        if name not in read:
            read[name] = self._new("t"), self._initial("l", name, f"rt.snapshot.column({self.string(name)})")
        return Expression(read[name][0], stable=True, safe=True)

    def _over_guests(self, guest: str, guests: str) -> str:
        """Call after generating the body."""
        read = self._read_of[guest].values()
        if not read:
            return f"for {guest} in {guests}:"
        fields, columns = zip(*read, strict=True)
        return f"for {', '.join([guest, *fields])} in zip({', '.join([guests, *columns])}):"

    def _method(self, form: Form, entity: Expression, method: str, arguments: Sequence[Form]) -> Expression:
        entity = self.spilled(entity)
        values = self.arguments(arguments)
        word = ENTITY_METHODS[method]
        if not word.takes(len(values)):
            self.drop(*values)
            return self._arity(form, f"{entity.type}.{method}", word.arguments, len(values))
        name = values[0].constant if values[0].const and isinstance(values[0].constant, str) else None
        if method in ("Stat", "StatAvg") and name is not None:
            scope = Scope(entity.type)
            self.fields.add((scope, name))
            if (scope, name) in self.undeclared:
                self.drop(*values[1:])
                return self.fault(form, "unknown-field", f"there is no {scope} field {name}")
            field = self._field(entity, name) if (method, len(values)) == ("Stat", 1) else None
            if field is not None:
                return field
        kind = _BY_ENTITY.get(method)
        if kind is not None and name is not None and (kind != "recalled" or entity.type == "guest"):
            result, key = self._by_entity(kind, name), self._key(entity)
            if result is not None and kind == "control":
                return self._control(form, entity, name, result, values)
            if result is not None and method == "SetVar":
                self.emit(f"{result}[{key}] = {self.guarded(values[1], form).text}")
                return NIL
            if result is not None:
                default = f", {values[1].text}" if len(values) > 1 else ""
                return Expression(f"{result}.get({key}{default})")
        if word.writes:
            values = self.all_guarded(values, form)
        texts = [entity.text, *(value.text for value in values)]
        if method == "Control":
            texts.append(str(self.site(form)))
        text = self.marked(form, f"{self._use(f'do_{method.lower()}')}({', '.join(texts)})", arguments, values)
        if method == "StatAvg":
            return Expression(text, "float", size=0)
        if word.writes:
            self.emit(text)
            return NIL
        return Expression(text)

    @staticmethod
    def _key(entity: Expression) -> str:
        return repr(HOST_ID) if entity.type == "host" else f"{entity.text}.id"

    def _by_entity(self, kind: str, name: str) -> str | None:
        # This is ten times as fast as a call per guest.
        names = self._outermost[kind]
        if name not in names and (len(name) > self.limits.name or len(names) >= self.limits.names // 2):
            return None
        return self._initial(kind, name, f"rt.{kind}({self.string(name)})")

    def _control(self, form: Form, entity: Expression, name: str, requests: str, values: Sequence[Expression]) -> Expression:
        key = self._key(entity)
        if len(values) == 1:
            request = self._new("t")
            return Expression(f"({request}[1] if ({request} := {requests}.get({key})) is not None else None)")
        value = values[1]
        site = self.site(form)
        if value.const and value.type in ("int", "float", "nil") and not (isinstance(value.constant, float) and math.isinf(value.constant)):
            text = value.text
        else:
            text = self._new("t")
            self.emit(f"{text} = {value.text}", pure=value.safe)
            fits_float = f"-{_LARGE_FLOAT} < {text} < {_LARGE_FLOAT}"
            if value.type == "float":
                test = fits_float
            else:
                test = f"{text}.__class__ is float and {fits_float} or {text}.__class__ is int and -{SMALL} < {text} < {SMALL}"
            check = self.marked(form, self._helper("request", self.string(name), self._helper("grown", text)))
            self.emit(f"if not ({test}): {text} = {check}")
        self.emit(f"{requests}[{key}] = ({entity.text}, {text}, {site})")
        return NIL
