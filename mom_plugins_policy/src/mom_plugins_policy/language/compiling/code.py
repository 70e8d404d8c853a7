"""Text of the generated code: functions, lines, constants, and sites that can fail."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any, TypeAlias

from mom_plugins_policy.language.limits import PolicyLimits
from mom_plugins_policy.language.runtime import Site
from mom_plugins_policy.language.syntax import Form

SMALL = 1 << 63
"""Smaller integers need no size check."""

_LONGEST = 28
"""Maximum characters of generated code per form. The default policies need 15. Python needs 170 bytes per character."""

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}", re.ASCII)

NUMBERS = frozenset({"num", "int", "float", "bool"})
ENTITIES = frozenset({"host", "guest"})
SCALARS = NUMBERS | ENTITIES | {"nil", "str", "guests", "fn"}
"""Types of expressions, besides `list` and `any` (unknown)."""

# Line of a function body, or a callback for the final lines.
Line: TypeAlias = "str | Callable[[], list[str]]"


@dataclass(slots=True, eq=False)
class Expression:
    """Expression of the generated code for a form.

    :param stable: later code does not change it
    :param safe: computing it cannot fail
    :param size: number of inputs whose sizes (digits, string lengths) may add up in it
    """

    text: str
    type: str = "any"
    size: int = field(default=1, kw_only=True)
    stable: bool = field(default=False, kw_only=True)
    safe: bool = field(default=False, kw_only=True)
    const: bool = field(default=False, kw_only=True)
    constant: Any = field(default=None, kw_only=True)

    @property
    def named(self) -> bool:
        """Whether repeating the text costs nothing."""
        return self.text.isidentifier() or self.const


def constant_expression(text: str, type_: str, value: object) -> Expression:
    """Return a constant expression."""
    return Expression(text, type_, stable=True, safe=True, size=0 if type_ == "float" else 1, const=True, constant=value)


NIL = constant_expression("None", "nil", None)


def joined(left: str, right: str) -> str:
    """Return the common type of two types."""
    if left == right:
        return left
    return "num" if left in NUMBERS and right in NUMBERS else "any"


@dataclass(slots=True, eq=False)
class PyFunction:
    """Generated function, with inner functions."""

    header: str
    lines: list[Line] = field(default_factory=list)
    nonlocals: set[str] = field(default_factory=set)
    inits: dict[str, str] = field(default_factory=dict)
    inner: list[PyFunction] = field(default_factory=list)


class TooComplicatedError(Exception):
    """Program whose generated code would be too large."""


class Emitter(ABC):
    """Writer of one program's code."""

    def __init__(self, limits: PolicyLimits) -> None:
        self.limits = limits
        self.sites: list[Site] = []
        self.constants: dict[str, Any] = {}
        self.run = PyFunction("def run(rt, out):")
        self.func = self.run
        self.lines: list[Line] = self.run.lines
        self.indent = 1
        self.effects = 0
        self.loose = 0
        """Total size of unchecked sums that may be strings."""
        self._strings: dict[str, str] = {}
        self._numbers = count(1)
        self._outermost = defaultdict[str, dict[str, str]](dict)
        """Initial variables of the outermost function, by kind and name. Kinds: `h` host fields, `l` columns of guest fields, `s` shared
        names, `n` functions, or a helper's name."""

    @abstractmethod
    def generate(self, form: Form, *, dropped: bool = False) -> Expression:
        """Emit a form's statements, and return its value. `dropped`: nothing uses the value."""

    def _new(self, prefix: str) -> str:
        return f"{prefix}{next(self._numbers)}"

    def _use(self, name: str) -> str:
        texts = {"members": "rt.guests.members", "hostfields": "rt.host.fields", "left": "rt.slice"}
        self.run.inits.setdefault(name, texts.get(name, f"rt.{name}"))
        return name

    def _initial(self, kind: str, name: str, text: str = "U") -> str:
        variables = self._outermost[kind]
        if name not in variables:
            variables[name] = self._new(kind)
            self.run.inits[variables[name]] = text
        return variables[name]

    def _helper(self, name: str, *arguments: str) -> str:
        return f"{self._use(name)}({', '.join(arguments)})"

    def constant(self, value: object) -> str:
        """Return a constant's name."""
        name = self._new("K")
        self.constants[name] = value
        return name

    def string(self, text: str) -> str:
        """Quote an identifier; make a constant of other strings."""
        if _PLAIN.fullmatch(text):
            return repr(text)
        if text not in self._strings:
            self._strings[text] = self.constant(text)
        return self._strings[text]

    def literal(self, value: object) -> Expression:
        """Return a literal."""
        if isinstance(value, str):
            return constant_expression(self.string(value), "str", value)
        if isinstance(value, float):
            text = repr(value) if math.isfinite(value) else self.constant(value)
            return constant_expression(f"({text})" if text.startswith("-") else text, "float", value)
        assert isinstance(value, int)  # noqa: S101  # for the type checker: literals are strings, floats or integers
        text = str(value) if -SMALL < value < SMALL else self.constant(value)
        return constant_expression(f"({text})" if text.startswith("-") else text, "int", value)

    def emit(self, text: str, *, pure: bool = False) -> None:
        """Add a statement. `pure`: it only sets a temporary variable and cannot fail."""
        if not pure:
            self.effects += 1
        self.lines.append(" " * self.indent + text)

    def late(self, lines: Callable[[], list[str]]) -> None:
        """Add statements generated at the end."""
        pad = " " * self.indent
        self.lines.append(lambda: [pad + line for line in lines()])

    def site(self, form: Form, operands: Sequence[tuple[Form, str]] = ()) -> int:
        """Add a site that can fail."""
        self.sites.append(Site(form, operands))
        return len(self.sites) - 1

    def marked(self, form: Form, text: str, operands: Sequence[Form] = (), values: Sequence[Expression] = ()) -> str:
        """Move an expression that can fail to its own line."""
        kept = [(operand, value.text) for operand, value in zip(operands, values, strict=True) if not value.const]
        return f"(#{self.site(form, kept)}\n{text})"

    def fault(self, form: Form, kind: str, message: str) -> Expression:
        """Return an expression that always fails."""
        return Expression(self.marked(form, f"fail({self.constant(kind)}, {self.constant(message)})"), "any")

    @contextmanager
    def _block(self) -> Iterator[list[Line]]:
        """Keep the block's facts inside (see `_branch`)."""
        outer = self.lines
        inner: list[Line] = []
        self.lines = inner
        self.indent += 1
        try:
            yield inner
        finally:
            self.lines = outer
            self.indent -= 1

    def _put(self, block: list[Line]) -> None:
        self.lines.extend(block)
        if not any(isinstance(line, str) for line in block):
            self.lines.append(" " * (self.indent + 1) + "pass")

    def spilled(self, value: Expression, *, pure: bool | None = None) -> Expression:
        """Put the value in a variable, unless stable."""
        if value.stable:
            return value
        name = self._new("t")
        self.emit(f"{name} = {value.text}", pure=value.safe if pure is None else pure)
        return Expression(name, value.type, size=value.size, stable=True, safe=True)

    def drop(self, *values: Expression) -> None:
        """Compute values only for their errors."""
        for value in values:
            if not value.safe:
                self.emit(value.text)

    def guarded(self, value: Expression, form: Form) -> Expression:
        """Add a size check if necessary."""
        if value.size <= 1:
            return value
        value = self.spilled(value)
        text = value.text
        if value.type in ("int", "num"):
            test = f"not -{SMALL} < {text} < {SMALL}"
        elif value.type == "any":
            test = f"{text}.__class__ is not float and not ({text}.__class__ is int and -{SMALL} < {text} < {SMALL})"
        else:
            test = ""
        check = self.marked(form, self._helper("grown", text))
        self.emit(f"if {test}: {check}" if test else check)
        return Expression(text, value.type, stable=True, safe=True)

    def all_guarded(self, values: Sequence[Expression], form: Form) -> list[Expression]:
        """Add size checks if necessary, in order."""
        if all(value.size <= 1 for value in values):
            return list(values)
        return [self.guarded(value, form) for value in [self.spilled(value) for value in values]]

    def arguments(self, forms: Sequence[Form]) -> list[Expression]:
        """Evaluate forms from left to right."""
        values: list[Expression] = []
        stable = 0  # leading stable values; may be thousands
        for form in forms:
            place, effects = len(self.lines), self.effects
            value = self.generate(form)
            if self.effects > effects:
                for number, earlier in enumerate(values[stable:], stable):
                    if not earlier.stable:
                        name = self._new("t")
                        self.lines.insert(place, f"{' ' * self.indent}{name} = {earlier.text}")
                        place += 1
                        values[number] = Expression(name, earlier.type, size=earlier.size, stable=True, safe=True)
                stable = len(values)
            values.append(value)
        return values

    def assemble(self) -> tuple[str, dict[int, int]]:
        """Return the code, and its sites by line."""
        out: list[str] = []
        self._assemble(self.run, 0, out)
        source = "\n".join(out) + "\n"
        if len(source) > _LONGEST * self.limits.forms:
            raise TooComplicatedError
        lines: dict[int, int] = {}
        for number, line in enumerate(source.split("\n"), 1):
            mark = line.rfind("#")
            if mark >= 0:
                lines[number + 1] = int(line[mark + 1 :])
        return source, lines

    def _assemble(self, function: PyFunction, depth: int, out: list[str]) -> None:
        pad = " " * depth
        body: list[str] = []
        for line in function.lines:
            body.extend(pad + item for item in ([line] if isinstance(line, str) else line()))
        out.append(pad + function.header)
        if function.nonlocals:
            out.append(f"{pad} nonlocal {', '.join(sorted(function.nonlocals))}")
        out.extend(f"{pad} {name} = {text}" for name, text in function.inits.items())
        for inner in function.inner:
            self._assemble(inner, depth + 1, out)
        out.extend(body or [f"{pad} pass"])
