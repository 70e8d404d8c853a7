"""From forms to Python code: one function per program, in which almost every variable of the policy is a local variable.

How it is faithful and fast at once:

- Scopes are resolved here. A function is compiled into its caller where it can be (see `analysis`), so that its callers' names are plain
  local variables, as dynamic scoping wants it. Where it is not certain whether a name is bound, the code asks.
- Numbers meet Python's own operators. What they raise is turned into the language's errors afterwards: every form that can fail begins
  a line of its own in the generated text, so that the line number of a traceback says which form it was (`Site`). Until it happens, that
  costs nothing.
- Steps are counted per loop and call, with the number of forms in the body as weight.
- Nothing of a policy becomes code: names are replaced by numbered ones, and values other than small numbers and identifiers are constants
  that the code is given.

Generated expressions never have effects (they may fail); effects are statements. So an expression may be computed again to explain
an error, and only needs a temporary variable when a statement with effects follows it (`_Generator.arguments`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from types import CodeType
from typing import Any, Final, TypeAlias

from mom_core import HOST_ID, Scope
from mom_plugins_policy.analysis import Definition, Program, pairs_of
from mom_plugins_policy.builtins import BUILTINS, CALLABLES, ENTITY_METHODS, OPERATORS, PREDEFINED, SPECIAL_FORMS
from mom_plugins_policy.limits import Limits
from mom_plugins_policy.runtime import ABS, DEBUG, UNBOUND, Function, Site, absolute, empty, fail, requested
from mom_plugins_policy.syntax import Form, Kind

_DEEP = 36  # forms inside each other in one Python function; what is deeper becomes a function of its own
_BLOCKS = 5  # loops inside each other in one Python function; Python itself allows 20 blocks
_SMALL = 1 << 63
_LARGE_FLOAT = "1e308"
_GUARDED_SIZE = 64  # how many inputs' sizes a value may add up to before it is checked
_COPIES = 8  # how much larger than the program its code may be
_MANY = 4  # arguments of min and max that are compared one by one
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}", re.ASCII)

_NUMBERS = frozenset({"num", "int", "float", "bool"})
_ENTITIES = frozenset({"host", "guest"})
_SCALARS = _NUMBERS | _ENTITIES | {"nil", "str", "guests", "fn"}

# A line of a function's body; what is only known at the end is asked for then.
_Line: TypeAlias = "str | Callable[[], list[str]]"


class _Value:
    """The value of a form, as an expression of the generated code.

    `stable`: it stays the same whatever is executed after it; `safe`: computing it cannot fail; `size`: how many inputs' sizes (digits of
    an integer, length of a string) it may add up to; `const`: it is known now, and is `constant`.
    """

    __slots__ = ("const", "constant", "safe", "size", "stable", "text", "type")

    def __init__(self, text: str, type_: str = "any", *, size: int = 1, stable: bool = False, safe: bool = False) -> None:
        self.text = text
        self.type = type_
        self.size = size
        self.stable = stable
        self.safe = safe
        self.const = False
        self.constant: Any = None

    @property
    def named(self) -> bool:
        """Whether repeating the text costs nothing."""
        return self.text.isidentifier() or self.const


def _constant(text: str, type_: str, value: object) -> _Value:
    made = _Value(text, type_, stable=True, safe=True, size=0 if type_ == "float" else 1)
    made.const = True
    made.constant = value
    return made


class _PyFunction:
    """One function of the generated code, and those inside it."""

    __slots__ = ("header", "inits", "inner", "lines", "nonlocals")

    def __init__(self, header: str) -> None:
        self.header = header
        self.lines: list[_Line] = []
        self.nonlocals: set[str] = set()
        self.inits: dict[str, str] = {}
        self.inner: list[_PyFunction] = []


class _Slot:
    """A variable of one scope.

    `py` is the Python variable that holds it, `shared` whether that is a cell with other bindings. One that is never assigned again
    needs none of its own: it is an `alias` of a value.
    """

    __slots__ = ("alias", "flag", "name", "owner", "py", "reset", "saved", "shared", "stable")

    def __init__(
        self, name: str, py: str, owner: _PyFunction, *, stable: bool = False, shared: bool = False, alias: _Value | None = None
    ) -> None:
        self.name = name
        self.py = py
        self.owner = owner
        self.stable = stable
        self.shared = shared
        self.flag = ""
        self.saved = ""
        self.reset = False
        self.alias = alias


class _Scope:
    """A scope of the policy, while the code inside it is generated."""

    __slots__ = ("owner", "slots")

    def __init__(self, owner: _PyFunction) -> None:
        self.owner = owner
        self.slots: dict[str, _Slot] = {}


# What is known about a slot: whether it is certainly bound, the type and the size of its value. No entry: certainly not bound.
_Fact: TypeAlias = tuple[bool, str, int]
_Key: TypeAlias = "_Slot | tuple[str, str]"
_MISSING: Final = object()


class TooComplicatedError(Exception):
    """So many parts of the program would be compiled so many times that the code would be too large."""


class Compiled:
    """The code of a program: what to run, and what its lines mean."""

    __slots__ = ("code", "controls", "fields", "filename", "namespace", "run", "sites", "source")

    def __init__(self, generator: _Generator, filename: str) -> None:
        self.source, lines = generator.assemble()
        self.filename = filename
        self.sites: Sequence[Site] = generator.sites
        self.fields = frozenset(generator.fields)
        self.controls = dict(generator.control_sites)
        self.namespace: dict[str, Any] = {
            "__builtins__": {}, "U": UNBOUND, "E": Exception, "FN": Function, "ABS": ABS, "DEBUG": DEBUG, "len": len,
            "fail": fail, "empty": empty, "requested": requested, "absolute": absolute, "smallest": min, "largest": max,
            "float": float, "int": int, "list": list,
            "LINES": lines, **generator.constants,
        }  # fmt: skip
        self.code: CodeType = compile(self.source, filename, "exec", dont_inherit=True)
        exec(self.code, self.namespace)  # noqa: S102  # generated code; nothing of the policy's text is in it
        self.run: Callable[..., None] = self.namespace["run"]


def compile_program(
    program: Program, limits: Limits, undeclared: frozenset[tuple[Scope, str]], filename: str, *, traced: bool = False
) -> Compiled:
    """The code of a program.

    :param undeclared: fields that nobody declares: reading them is `undefined-symbol`
    :param filename: a name of its own, by which tracebacks tell this code from all other
    :param traced: report every value to `Run.trace`, for explanations
    """
    return Compiled(_Generator(program, limits, undeclared, traced=traced), filename)


class _Generator:
    def __init__(self, program: Program, limits: Limits, undeclared: frozenset[tuple[Scope, str]], *, traced: bool) -> None:
        self.program = program
        self.limits = limits
        self.undeclared = undeclared
        self.traced = traced
        self.fields: set[tuple[Scope, str]] = set()
        self.control_sites: dict[int, str] = {}
        self.sites: list[Site] = []
        self.constants: dict[str, Any] = {}
        self._strings: dict[str, str] = {}
        self._numbers = count(1)
        self._uses: dict[str, str] = {}
        self._host_fields: dict[str, str] = {}
        self._control_dicts: dict[str, str] = {}
        self._note_dicts: dict[str, str] = {}
        self._definition_of = {definition.form.index: definition for definition in program.functions()}
        self._units: dict[int, _PyFunction] = {}
        self._waiting: list[Callable[[], None]] = []
        self._function_cells: dict[str, str] = {}
        self._cells: dict[str, str] = {}
        self._fields_of: dict[str, list[str]] = {}

        self.run = _PyFunction("def run(rt, out):")
        self.func = self.run
        self.lines: list[_Line] = self.run.lines
        self.indent = 1
        self.effects = 0
        self.facts: dict[_Key, Any] = {}
        self.frames: list[dict[_Key, Any]] = []
        self.level = 0
        self.blocks = 0
        self.weight = 0
        self.generated = 0
        self.most = _COPIES * program.size + 50_000
        self.counting = False
        self.guest_loops = 0
        self.depth = "1"
        self.table: dict[str, Definition] | None = {}
        self.predefined = _Scope(self.run)
        self.chain = [self.predefined]
        self._predefine()
        self._main()

    # --- the whole -------------------------------------------------------------------------------------------------------------

    def _predefine(self) -> None:
        texts = {"Host": ("host", "host"), "Guests": ("guests", "guests"), "abs": ("ABS", "fn"), "debug": ("DEBUG", "fn")}
        for name in PREDEFINED:
            text, type_ = texts[name]
            if name in self.program.shared:
                slot = _Slot(name, self._cell(name), self.run, shared=True)
                self.run.inits[slot.py] = self._use_text(text)
                type_ = "any"
            elif name in self.program.assigned:
                slot = _Slot(name, self._new("v"), self.run)
                self.run.inits[slot.py] = self._use_text(text)
            else:
                slot = _Slot(name, text, self.run, stable=True)
                self._use_text(text)
            self.predefined.slots[name] = slot
            self.facts[slot] = (True, type_, 1)

    def _use_text(self, text: str) -> str:
        if text in ("host", "guests"):
            self._use(text)
        return text

    def _main(self) -> None:
        constant_facts: dict[_Key, Any] = {}
        for name in PREDEFINED:
            slot = self.predefined.slots[name]
            if name not in self.program.bound and name not in self.program.assigned:
                constant_facts[slot] = self.facts[slot]
        self._late_resets(self.predefined)
        for form in self.program.forms:
            value = self.guarded(self.generate(form), form)
            self.emit(f"out.append({value.text})")
        while self._waiting:
            self.facts = dict(constant_facts)
            self.frames = []
            self.level = self.blocks = 0
            self._waiting.pop()()

    def assemble(self) -> tuple[str, dict[int, int]]:
        """The text of the code, and for its lines the site that begins there."""
        self.run.inits = {
            **({"left": "rt.first_slice()"} if "left" in self._uses else {}),
            **{name: text for name, text in self._uses.items() if name != "left"},
            **{py: f"hostfields.get({self.string(name)})" for name, py in self._host_fields.items()},
            **{py: f"rt.control({self.string(name)})" for name, py in self._control_dicts.items()},
            **{py: f"rt.variable({self.string(name)})" for name, py in self._note_dicts.items()},
            **dict.fromkeys(self._cells.values(), "U"),
            **dict.fromkeys(self._function_cells.values(), "U"),
            **self.run.inits,
        }
        out: list[str] = []
        self._assemble(self.run, 0, out)
        source = "\n".join(out) + "\n"
        lines: dict[int, int] = {}
        for number, line in enumerate(source.split("\n"), 1):
            mark = line.rfind("#")
            if mark >= 0:
                lines[number + 1] = int(line[mark + 1 :])
        return source, lines

    def _assemble(self, function: _PyFunction, depth: int, out: list[str]) -> None:
        pad = " " * depth
        body: list[str] = []
        for line in function.lines:
            if isinstance(line, str):
                body.append(pad + line)
            else:
                body.extend(pad + late for late in line())
        out.append(pad + function.header)
        if function.nonlocals:
            out.append(f"{pad} nonlocal {', '.join(sorted(function.nonlocals))}")
        out.extend(f"{pad} {name} = {text}" for name, text in function.inits.items())
        for inner in function.inner:
            self._assemble(inner, depth + 1, out)
        out.extend(body or [f"{pad} pass"])

    # --- names, constants, lines -----------------------------------------------------------------------------------------------

    def _new(self, prefix: str) -> str:
        return f"{prefix}{next(self._numbers)}"

    def _use(self, name: str) -> str:
        """A helper or value of the run that the code needs, as a local variable of the outermost function."""
        if name not in self._uses:
            self._uses[name] = {
                "members": "rt.guests.members", "guests": "rt.guests", "host": "rt.host", "hostfields": "rt.host.fields", "left": "",
            }.get(name, f"rt.{name}")  # fmt: skip
        return name

    def _helper(self, name: str, *arguments: str) -> str:
        """A call of a helper of the run."""
        return f"{self._use(name)}({', '.join(arguments)})"

    def _cell(self, name: str) -> str:
        if name not in self._cells:
            self._cells[name] = self._new("s")
        return self._cells[name]

    def constant(self, value: object) -> str:
        """The name under which the code finds a value."""
        name = self._new("K")
        self.constants[name] = value
        return name

    def string(self, text: str) -> str:
        """A string in the code: itself where it is an identifier, else a constant."""
        if _PLAIN.fullmatch(text):
            return repr(text)
        if text not in self._strings:
            self._strings[text] = self.constant(text)
        return self._strings[text]

    def literal(self, value: object) -> _Value:
        """A literal of the policy."""
        if isinstance(value, str):
            return _constant(self.string(value), "str", value)
        if isinstance(value, float):
            text = repr(value) if math.isfinite(value) else self.constant(value)
            return _constant(f"({text})" if text.startswith("-") else text, "float", value)
        assert isinstance(value, int)  # noqa: S101  # for the type checker: literals are strings, floats or integers
        text = str(value) if -_SMALL < value < _SMALL else self.constant(value)
        return _constant(f"({text})" if text.startswith("-") else text, "int", value)

    def emit(self, text: str, *, pure: bool = False) -> None:
        """A statement. `pure`: it has no effect but on a temporary variable, and cannot fail."""
        if not pure:
            self.effects += 1
        self.lines.append(" " * self.indent + text)

    def late(self, lines: Callable[[], list[str]]) -> None:
        """Statements that are known at the end."""
        pad = " " * self.indent
        self.lines.append(lambda: [pad + line for line in lines()])

    def site(self, form: Form, operands: Sequence[tuple[Form, str]] = (), verb: str = "") -> int:
        """A place that can fail."""
        self.sites.append(Site(form, operands, verb))
        return len(self.sites) - 1

    def marked(self, form: Form, text: str, operands: Sequence[tuple[Form, _Value]] = ()) -> str:
        """An expression that can fail, on a line of its own."""
        kept = [(operand, value.text) for operand, value in operands if not value.const]
        return f"(#{self.site(form, kept)}\n{text})"

    def fault(self, form: Form, kind: str, message: str) -> _Value:
        """An expression that always fails."""
        return _Value(self.marked(form, f"fail({self.constant(kind)}, {self.constant(message)})"), "any")

    @contextmanager
    def _block(self) -> Iterator[list[_Line]]:
        """Generate into a block of its own, indented once more; what is learnt inside stays inside (see `_branch`)."""
        outer = self.lines
        inner: list[_Line] = []
        self.lines = inner
        self.indent += 1
        try:
            yield inner
        finally:
            self.lines = outer
            self.indent -= 1

    def _put(self, block: list[_Line]) -> None:
        self.lines.extend(block)
        if not any(isinstance(line, str) for line in block):
            self.lines.append(" " * (self.indent + 1) + "pass")

    def spilled(self, value: _Value, *, pure: bool | None = None) -> _Value:
        """The value in a variable of its own, unless it is stable anyway."""
        if value.stable:
            return value
        name = self._new("t")
        self.emit(f"{name} = {value.text}", pure=value.safe if pure is None else pure)
        return _Value(name, value.type, size=value.size, stable=True, safe=True)

    def drop(self, value: _Value) -> None:
        """Compute a value for its errors only."""
        if not value.safe:
            self.emit(value.text)

    def guarded(self, value: _Value, form: Form) -> _Value:
        """The value, checked for its size if it may have grown."""
        if value.size <= 1:
            return value
        value = self.spilled(value)
        text = value.text
        if value.type in ("int", "num"):
            test = f"not -{_SMALL} < {text} < {_SMALL}"
        elif value.type == "any":
            test = f"{text}.__class__ is not float and not ({text}.__class__ is int and -{_SMALL} < {text} < {_SMALL})"
        else:
            test = ""
        check = self.marked(form, self._helper("grown", text))
        self.emit(f"if {test}: {check}" if test else check)
        return _Value(text, value.type, stable=True, safe=True)

    def all_guarded(self, values: Sequence[_Value], form: Form) -> list[_Value]:
        """Several values, each checked for its size if it may have grown; in their order."""
        if all(value.size <= 1 for value in values):
            return list(values)
        return [self.guarded(value, form) for value in [self.spilled(value) for value in values]]

    def arguments(self, forms: Sequence[Form]) -> list[_Value]:
        """The values of several forms, evaluated from left to right."""
        values: list[_Value] = []
        for form in forms:
            place, effects = len(self.lines), self.effects
            value = self.generate(form)
            if self.effects > effects:
                for number, earlier in enumerate(values):
                    if not earlier.stable:
                        name = self._new("t")
                        self.lines.insert(place, f"{' ' * self.indent}{name} = {earlier.text}")
                        place += 1
                        values[number] = _Value(name, earlier.type, size=earlier.size, stable=True, safe=True)
            values.append(value)
        return values

    # --- what is known where ---------------------------------------------------------------------------------------------------

    def _learn(self, key: _Key, fact: object) -> None:
        if self.frames and key not in self.frames[-1]:
            self.frames[-1][key] = self.facts.get(key, _MISSING)
        if fact is _MISSING:
            self.facts.pop(key, None)
        else:
            self.facts[key] = fact

    def _begin(self) -> None:
        self.frames.append({})

    def _end(self) -> dict[_Key, Any]:
        """Forget what was learnt since `_begin`; what it was."""
        learnt: dict[_Key, Any] = {}
        for key, before in self.frames.pop().items():
            learnt[key] = self.facts.get(key, _MISSING)
            if before is _MISSING:
                self.facts.pop(key, None)
            else:
                self.facts[key] = before
        return learnt

    def _join(self, first: dict[_Key, Any], second: dict[_Key, Any]) -> None:
        """Know what holds after either of two branches."""
        for key in {**first, **second}:
            now = self.facts.get(key, _MISSING)
            one, other = first.get(key, now), second.get(key, now)
            if isinstance(key, tuple):
                self._learn(key, one if one == other else _MISSING)
            elif one is _MISSING and other is _MISSING:
                continue
            elif one is _MISSING or other is _MISSING:
                known = other if one is _MISSING else one
                self._learn(key, (False, known[1], known[2]))
            else:
                self._learn(key, (one[0] and other[0], _joined(one[1], other[1]), max(one[2], other[2])))

    def _assigned_in(self, form: Form) -> set[str]:
        """Names that evaluating a form may assign with `set`."""
        if not self.program.assigned:
            return set()
        found: set[str] = set()
        called: list[str] = []
        todo = [form]
        while todo:
            item = todo.pop()
            if item.items:
                head = item.items[0].name
                if head in ("set", "setq") and len(item.items) > 1:
                    found.add(item.items[1].name)
                elif head in self.program.definitions:
                    called.append(head)
                todo.extend(item.items)
        return found | self.program.assigned_by_calling(called)

    def _forget_assigned(self, form: Form) -> None:
        names = self._assigned_in(form)
        if names:
            for key in list(self.facts):
                if isinstance(key, _Slot) and key.name in names:
                    self._learn(key, (self.facts[key][0], "any", 1))

    def _assign(self, py: str, owner: _PyFunction) -> str:
        """The name of a variable that is about to be assigned in the function that is being generated."""
        if owner is not self.func:
            self.func.nonlocals.add(py)
            if owner is not self.run or (
                py not in self._uses and py not in self._cells.values() and py not in self._function_cells.values()
            ):
                owner.inits.setdefault(py, "U")
        return py

    def _late_resets(self, scope: _Scope) -> None:
        self.late(lambda: [f"{slot.py} = U" for slot in scope.slots.values() if slot.reset and not slot.shared])

    @contextmanager
    def _scoped(self, forms: Sequence[Form], names: Sequence[str] = ()) -> Iterator[_Scope]:
        """A new scope around the code of these forms. Bindings that functions standing by themselves may see are undone at its end."""
        scope = _Scope(self.func)
        shared = self._shared_bindings(forms, names)
        if not shared:
            self._late_resets(scope)
            self.chain = [*self.chain, scope]
            try:
                yield scope
            finally:
                self.chain = self.chain[:-1]
            return
        slots: list[_Slot] = []
        for name in shared:
            slot = _Slot(name, self._cell(name), self.func, shared=True)
            slot.flag, slot.saved = self._new("b"), self._new("t")
            scope.slots[name] = slot
            slots.append(slot)
            self.emit(f"{slot.flag} = False")
        self.emit("try:")
        self.blocks += 1
        self.chain = [*self.chain, scope]
        with self._block() as block:
            self._late_resets(scope)
            yield scope
        self.chain = self.chain[:-1]
        self.blocks -= 1
        self._put(block)
        self.emit("finally:")
        for slot in slots:
            self.emit(f" if {slot.flag}: {self._assign(slot.py, self.run)} = {slot.saved}")

    def _shared_bindings(self, forms: Sequence[Form], names: Sequence[str]) -> list[str]:
        shared = self.program.shared
        if not shared:
            return []
        found = {name for name in names if name in shared}
        todo = list(forms)
        while todo:
            item = todo.pop()
            if item.items:
                if item.items[0].name == "defvar" and len(item.items) > 1 and item.items[1].name in shared:
                    found.add(item.items[1].name)
                todo.extend(item.items)
        return sorted(found)

    # --- variables -------------------------------------------------------------------------------------------------------------

    def _candidates(self, name: str) -> tuple[list[_Slot], bool]:
        """The slots that may hold a name here, innermost first, and whether the last of them certainly does."""
        found: list[_Slot] = []
        for scope in reversed(self.chain):
            slot = scope.slots.get(name)
            if slot is not None:
                fact = self.facts.get(slot)
                if fact is not None:
                    found.append(slot)
                    if fact[0]:
                        return found, True
        return found, False

    def _lookup(self, name: str) -> _Value | None:
        """A variable's value, `U` where it may be unbound (then `safe` is false); None if it certainly is."""
        if name == "nil":
            return None
        found, certain = self._candidates(name)
        if name in self.program.shared:
            return _Value(self._cell(name), "any", safe=certain)
        if not found:
            return None
        last = self.facts[found[-1]]
        if len(found) == 1 and certain:
            if found[0].alias is not None:
                return found[0].alias
            return _Value(found[0].py, last[1], size=last[2], stable=found[0].stable, safe=True)
        text = found[-1].py
        if not certain:
            found[-1].reset = True
        type_, size = last[1], last[2]
        for slot in reversed(found[:-1]):
            slot.reset = True
            text = f"({slot.py} if {slot.py} is not U else {text})"
            type_, size = _joined(type_, self.facts[slot][1]), max(size, self.facts[slot][2])
        return _Value(text, type_, size=size, safe=certain)

    def _variable(self, form: Form, name: str) -> _Value:
        value = self._lookup(name)
        if value is None:
            return self.fault(form, "undefined-symbol", f"there is no variable {name}")
        if value.safe:
            return value
        text = value.text
        if not text.isidentifier():
            text = self.spilled(value, pure=True).text
        failing = self.marked(form, f"fail({self.constant('undefined-symbol')}, {self.constant(f'there is no variable {name} here')})")
        return _Value(f"({text} if {text} is not U else {failing})", value.type, size=value.size)

    def _name(self, form: Form) -> _Value:
        name = form.name
        if name == "nil":
            return _constant("None", "nil", None)
        parts = name.split(".")
        if len(parts) == 1:
            return self._variable(form, name)
        value = self._variable(form, parts[0])
        for part in parts[1:]:
            value = self._attribute(form, value, part)
        return value

    def _attribute(self, form: Form, value: _Value, name: str) -> _Value:
        if value.type in _ENTITIES and name not in ENTITY_METHODS:
            field = self._field(value, name)
            if field is None:
                whose = "host" if value.type == "host" else "guest"
                return self.fault(form, "undefined-symbol", f"there is no {whose} field {name}")
            return field
        value = self.spilled(value) if not value.named else value
        return _Value(self.marked(form, self._helper("attribute", value.text, self.string(name))))

    def _field(self, entity: _Value, name: str) -> _Value | None:
        """A field of an entity, None if nobody declares it."""
        scope = Scope.HOST if entity.type == "host" else Scope.GUEST
        self.fields.add((scope, name))
        if (scope, name) in self.undeclared:
            return None
        if scope is Scope.HOST:
            self._use("hostfields")
            if name not in self._host_fields:
                self._host_fields[name] = self._new("h")
            return _Value(self._host_fields[name], stable=True, safe=True)
        if entity.text not in self._fields_of:
            # A variable that holds a guest: it may hold another one when it is read again.
            if name == "io_tune":
                return _Value(self._helper("disks", entity.text), safe=True)
            return _Value(f"{entity.text}.fields.get({self.string(name)})", safe=True)
        key = (entity.text, name)
        known = self.facts.get(key)
        if known is None:
            known = self._new("t")
            if name == "io_tune":
                self.emit(f"{known} = {self._use('disks')}({entity.text})", pure=True)
            else:
                self.emit(f"{known} = {self._fields_variable(entity.text)}.get({self.string(name)})", pure=True)
            self._learn(key, known)
        return _Value(known, stable=True, safe=True)

    def _fields_variable(self, entity: str) -> str:
        used = self._fields_of.get(entity)
        if used is None:
            return f"{entity}.fields"
        if not used:
            used.append(self._new("f"))
        return used[0]

    # --- forms -----------------------------------------------------------------------------------------------------------------

    def generate(self, form: Form, *, dropped: bool = False) -> _Value:
        """The value of a form; statements that compute parts of it are emitted. `dropped`: nobody looks at the value."""
        self.weight += 1
        self.generated += 1
        if self.generated > self.most:
            raise TooComplicatedError
        if form.kind is Kind.LITERAL:
            value = self.literal(form.value)
        elif form.kind is Kind.NAME:
            value = self._name(form)
        elif form.kind is Kind.OPERATOR:
            value = self.fault(form, "malformed", f"the operator {form.name} is no value")
        elif self.level >= _DEEP or self.blocks >= _BLOCKS:
            value = self._apart(form)
        else:
            self.level += 1
            value = self._sequence(form, form.items, dropped) if form.kind is Kind.BLOCK else self._list(form, dropped)
            self.level -= 1
        if self.traced:
            value = self._trace(form, value)
        return value

    def _trace(self, form: Form, value: _Value) -> _Value:
        traced = self.spilled(value)
        self.emit(self._helper("trace", str(self.site(form)), traced.text))
        return traced

    def _apart(self, form: Form) -> _Value:
        """A form as a function of its own, because it is nested too deep for Python."""
        name = self._new("P")
        function = _PyFunction(f"def {name}():")
        self.func.inner.append(function)
        chain, facts, table = self.chain, dict(self.facts), None if self.table is None else dict(self.table)
        depth = self.depth

        def later() -> None:
            self.chain, self.facts, self.table, self.depth = chain, facts, table, depth
            self.func, self.lines, self.indent, self.guest_loops = function, function.lines, 1, 1
            weight = self._counted(form)
            self.weight = 0
            value = self.guarded(self.generate(form), form)
            weight.append(self.weight)
            self.emit(f"return {value.text}")

        self._waiting.append(later)
        self._forget_assigned(form)
        self._expect_bindings(form)
        self.counting = True
        result = self._new("t")
        self.emit(f"{result} = {name}()")
        return _Value(result, stable=True, safe=True)

    def _counted(self, form: Form, factor: str = "") -> list[int]:
        """Count down the steps of what follows; how many it takes is put into the list that is returned."""
        weight: list[int] = []
        self._use("left")
        self._assign("left", self.run)
        refill = self.marked(form, self._helper("refill", "left"))
        self.late(lambda: [f"left -= {weight[0]}{factor}", f"if left < 0: left = {refill}"])
        return weight

    def _expect_bindings(self, form: Form) -> None:
        """After a form whose code comes later: what it may have bound in the current scope."""
        todo = [form]
        scope = self.chain[-1]
        while todo:
            item = todo.pop()
            if item.items:
                if item.items[0].name == "defvar" and len(item.items) > 1 and item.items[1].kind is Kind.NAME:
                    slot = self._slot(scope, item.items[1].name)
                    if slot not in self.facts:
                        self._learn(slot, (False, "any", 1))
                        slot.reset = True
                todo.extend(item.items)

    # --- lists -----------------------------------------------------------------------------------------------------------------

    def _sequence(self, form: Form, items: Sequence[Form], dropped: bool) -> _Value:
        if not items:
            return self.fault(form, "empty-form", "nothing to evaluate")
        for item in items[:-1]:
            self.drop(self.generate(item, dropped=True))
        return self.generate(items[-1], dropped=dropped)

    def _list(self, form: Form, dropped: bool) -> _Value:
        if not form.items:
            return self.fault(form, "empty-form", "nothing to evaluate")
        head, arguments = form.items[0], form.items[1:]
        if head.kind is Kind.OPERATOR:
            return self._builtin(form, OPERATORS[head.name], arguments)
        if head.kind is not Kind.NAME:
            return self.fault(form, "not-callable", "a list begins with a name or an operator; this")
        name = head.name
        if "." in name:
            return self._dotted_call(form, name, arguments)
        if name in PREDEFINED or name in self.program.bound:
            value = self._lookup(name)
            if value is not None:
                return self._variable_call(form, value, arguments, dropped)
        return self._word(form, arguments, dropped)

    def _word(self, form: Form, arguments: Sequence[Form], dropped: bool) -> _Value:
        """A list whose head is no variable: special form, builtin, `eval` or a function."""
        name = form.items[0].name
        special = _SPECIAL.get(name)
        if special is not None:
            if not SPECIAL_FORMS[name].takes(len(arguments)):
                return self._arity(form, name, SPECIAL_FORMS[name].arguments, len(arguments))
            return special(self, form, arguments, dropped)
        if name in BUILTINS:
            return self._builtin(form, name, arguments)
        if name == "eval":
            return self._sequence(form, arguments, dropped)
        if name in self.program.definitions:
            return self._call(form, name, arguments)
        return self.fault(form, "unknown-function", f"there is no function {name}")

    def _arity(self, form: Form, name: str, wanted: str, given: int) -> _Value:
        return self.fault(form, "arity", f"{name} takes {wanted}, not {given}")

    def _branches(self, test: _Value, first: Callable[[], _Value], second: Callable[[], _Value], dropped: bool) -> _Value:
        """One of two values, by a test."""
        self._begin()
        with self._block() as one:
            value = first()
        learnt = self._end()
        self._begin()
        with self._block() as other:
            otherwise = second()
        learnt_otherwise = self._end()
        self._join(learnt, learnt_otherwise)
        type_, size = _joined(value.type, otherwise.type), max(value.size, otherwise.size)
        safe = test.safe and value.safe and otherwise.safe
        if not one and not other:
            return _Value(f"({value.text} if {test.text} else {otherwise.text})", type_, size=size, safe=safe)
        pad = " " * (self.indent + 1)
        result = "" if dropped else self._new("t")
        for block, each in ((one, value), (other, otherwise)):
            if not dropped:
                block.append(f"{pad}{result} = {each.text}")
            elif not each.safe:
                block.append(f"{pad}{each.text}")
        self.emit(f"if {test.text}:", pure=safe)
        self._put(one)
        if other:
            self.emit("else:", pure=True)
            self._put(other)
        return _NIL if dropped else _Value(result, type_, size=size, stable=True, safe=True)

    def _if(self, form: Form, arguments: Sequence[Form], dropped: bool) -> _Value:
        condition, first, second = arguments
        test = self.generate(condition)
        if test.const:
            return self.generate(first if test.constant else second, dropped=dropped)
        return self._branches(
            test, lambda: self.generate(first, dropped=dropped), lambda: self.generate(second, dropped=dropped), dropped
        )  # fmt: skip

    def _let(self, form: Form, arguments: Sequence[Form], dropped: bool) -> _Value:
        pairs = pairs_of(arguments[0])
        if pairs is None:
            return self.fault(form, "malformed", "`let` takes a list of pairs of a name and a value")
        inside = [value for _, value in pairs] + list(arguments[1:])
        with self._scoped(inside, [name.name for name, _ in pairs]) as scope:
            for name, value in pairs:
                self._bind(scope, name.name, self.generate(value))
            result = self._sequence(form, arguments[1:], dropped)
            if self._has_shared(scope):
                result = self.spilled(result)
        return result

    @staticmethod
    def _has_shared(scope: _Scope) -> bool:
        return any(slot.shared for slot in scope.slots.values())

    def _slot(self, scope: _Scope, name: str) -> _Slot:
        slot = scope.slots.get(name)
        if slot is None:
            shared = name in self.program.shared
            py = self._cell(name) if shared else self._new("v")
            slot = scope.slots[name] = _Slot(name, py, scope.owner, stable=not shared and name not in self.program.assigned, shared=shared)
        return slot

    def _bind(self, scope: _Scope, name: str, value: _Value) -> _Value:
        """Bind a name in a scope unless it is bound there already; the value that it has then."""
        slot = scope.slots.get(name)
        if slot is None and name not in self.program.shared and name not in self.program.assigned and scope.owner is self.func:
            value = self.spilled(value)
            slot = scope.slots[name] = _Slot(name, value.text, scope.owner, stable=True, alias=value)
            self._learn(slot, (True, value.type, value.size))
            return value
        return self._bind_variable(self._slot(scope, name), value)

    def _bind_variable(self, slot: _Slot, value: _Value) -> _Value:
        fact = self.facts.get(slot)
        if fact is not None and fact[0]:
            self.drop(value)
            return _Value(slot.py, "any" if slot.shared else fact[1], size=fact[2], stable=slot.stable, safe=True)
        owner = self.run if slot.shared else slot.owner
        if fact is None:
            for line in self._saving(slot):
                self.emit(line)
            self.emit(f"{self._assign(slot.py, owner)} = {value.text}")
            self._learn(slot, (True, "any" if slot.shared else value.type, value.size))
        else:
            value = self.spilled(value)
            if slot.shared and slot.flag:
                test = f"not {slot.flag}"
            else:
                slot.reset = True
                test = f"{slot.py} is U"
            self.emit(f"if {test}:")
            for line in self._saving(slot):
                self.emit(f" {line}")
            self.emit(f" {self._assign(slot.py, owner)} = {value.text}")
            self._learn(slot, (True, "any" if slot.shared else _joined(fact[1], value.type), max(fact[2], value.size)))
        known = self.facts[slot]
        return _Value(slot.py, known[1], size=known[2], stable=slot.stable, safe=True)

    def _saving(self, slot: _Slot) -> list[str]:
        """Before a cell is bound: what it held is put back at the end of the scope."""
        if not slot.flag:
            return []
        return [f"{self._assign(slot.saved, slot.owner)} = {slot.py}", f"{self._assign(slot.flag, slot.owner)} = True"]

    def _defvar(self, form: Form, arguments: Sequence[Form], dropped: bool) -> _Value:
        name, given = arguments
        if name.kind is not Kind.NAME or name.name == "nil" or "." in name.name:
            return self.fault(form, "malformed", "`defvar` takes a name and a value")
        value = self.generate(given)
        scope = self.chain[-1]
        if name.name in self.program.shared:
            value = self.guarded(value, form)
        return self._bind_variable(self._slot(scope, name.name), value)

    def _set(self, form: Form, arguments: Sequence[Form], dropped: bool) -> _Value:
        target, given = arguments
        if target.kind is not Kind.NAME:
            return self.fault(form, "malformed", "`set` takes a name and a value")
        name = target.name
        value = self.guarded(self.generate(given), form)
        missing = self.marked(form, f"fail({self.constant('undefined-symbol')}, {self.constant(f'there is no variable {name} to set')})")
        if name in self.program.shared:
            _, certain = self._candidates(name)
            cell = self._cell(name)
            value = self.spilled(value)
            if not certain:
                self.emit(f"if {cell} is U: {missing}")
            self.emit(f"{self._assign(cell, self.run)} = {value.text}")
            return value
        found, certain = self._candidates(name) if name != "nil" else ([], False)
        if not found:
            self.drop(value)
            return _Value(missing)
        if len(found) == 1 and certain:
            slot = found[0]
            self.emit(f"{self._assign(slot.py, slot.owner)} = {value.text}")
            self._learn(slot, (True, value.type, value.size))
            return _Value(slot.py, value.type, size=value.size, safe=True)
        value = self.spilled(value)
        word = "if"
        for number, slot in enumerate(found):
            slot.reset = slot.reset or not certain or number < len(found) - 1
            last = certain and number == len(found) - 1
            self.emit("else:" if last else f"{word} {slot.py} is not U:")
            self.emit(f" {self._assign(slot.py, slot.owner)} = {value.text}")
            fact = self.facts[slot]
            self._learn(slot, (fact[0], _joined(fact[1], value.type), max(fact[2], value.size)))
            word = "elif"
        if not certain:
            self.emit("else:")
            self.emit(f" {missing}")
        return value

    def _with(self, form: Form, arguments: Sequence[Form], dropped: bool) -> _Value:
        items, name, body = arguments
        if items.kind is not Kind.NAME or name.kind is not Kind.NAME:
            return self.fault(form, "malformed", "`with` takes the name of what to go over, a name, and a body")
        source = self._name(items)
        guests = source.type == "guests"
        if guests:
            over = self._use("members")
        else:
            over = self._new("i")
            self.emit(f"{over} = {self.marked(form, self._helper('iterate', source.text))}")
        contained = guests or source.type == "any"
        outermost = guests and self.guest_loops == 0 and self.table is not None
        if self.traced:
            self.emit(self._helper("trace", str(self.site(items)), over))
        weight = self._counted(form, f" * len({over})")
        result = "" if dropped else self._new("r")
        if result:
            self.emit(f"{result} = []")
        self._forget_assigned(body)
        element = _Value(self._new("g"), "guest" if guests else "any", stable=True, safe=True)
        outer_weight, self.weight = self.weight, 0
        outer_counting, self.counting = self.counting, False
        counting: list[bool] = []
        self.blocks += 1
        self.guest_loops += contained
        self._begin()
        type_ = "any"
        with self._block() as loop:
            if contained:
                self.emit("try:")
                with self._block() as step:
                    if outermost:
                        enter = self.marked(form, self._helper("enter_step", "left"))
                        self.late(lambda: [f"left = {enter}"] if counting[0] else [])
                    type_ = self._step(form, name.name, element, body, result)
                self._put(step)
                error = self._new("e")
                self.emit(f"except E as {error}:")
                if not guests:
                    self.emit(f" if {over} is not {self._use('members')}: raise")
                self.emit(f" {self._use('contain')}({error}, {element.text})")
                if result:
                    self.emit(f" {result}.append(None)")
            else:
                type_ = self._step(form, name.name, element, body, result)
        self._end()
        self.guest_loops -= contained
        self.blocks -= 1
        weight.append(1 if outermost else self.weight + 1)  # a step of an outermost loop has a budget of its own
        self.weight = outer_weight
        counting.append(self.counting)
        self.counting = True
        del outer_counting
        self.emit(f"for {element.text} in {over}:")
        self._put(loop)
        if outermost and counting[0]:
            self.emit(f"left = {self._use('leave_steps')}(left)")
        if result and self.program.lists and type_ not in _SCALARS:
            self.emit(self.marked(form, self._helper("collected", result)))
        return _Value(result, "list", stable=True, safe=True) if result else _NIL

    def _step(self, form: Form, name: str, element: _Value, body: Form, result: str) -> str:
        """One turn of a `with`; the type of its value."""
        used: list[str] = []
        self._fields_of[element.text] = used
        self.late(lambda: [f"{used[0]} = {element.text}.fields"] if used else [])
        with self._scoped([body], [name]) as scope:
            self._bind(scope, name, element)
            if self.traced:
                self._trace(form.items[2], element)
            value = self.generate(body, dropped=not result)
            if result:
                value = self.guarded(value, form)
                self.emit(f"{result}.append({value.text})")
            else:
                self.drop(value)
        return value.type

    # --- functions -------------------------------------------------------------------------------------------------------------

    def _def(self, form: Form, arguments: Sequence[Form], dropped: bool) -> _Value:
        name = arguments[0]
        if name.kind is not Kind.NAME:
            return self.fault(form, "malformed", "`def` takes a name, a list of parameters and a body")
        value = _constant(self.string(name.name), "str", name.name)
        definition = self._definition_of.get(form.index)
        if definition is None:
            if name.name in SPECIAL_FORMS or name.name in BUILTINS or name.name == "eval":
                return value
            return self.fault(form, "malformed", f"the parameters of {name.name} must be a list of different names")
        if self.table is not None and definition.unconditional:
            self.table[name.name] = definition
        function = "" if definition.inline else self._standing(definition)
        func = self.func

        def late() -> list[str]:
            cell = self._function_cells.get(definition.name)
            if cell is None:
                return []
            if func is not self.run:
                func.nonlocals.add(cell)
            return [f"{cell} = ({function or None}, {len(definition.parameters)})"]

        self.late(late)
        self.effects += 1
        return value

    def _standing(self, definition: Definition) -> str:
        """The name of the Python function for a function that stands by itself."""
        unit = self._units.get(definition.number)
        name = f"F{definition.number}"
        if unit is not None:
            return name
        parameters = [self._new("p") for _ in definition.parameters]
        unit = self._units[definition.number] = _PyFunction(f"def {name}({', '.join(['d', *parameters])}):")
        self.run.inner.append(unit)

        def later() -> None:
            self.chain, self.table, self.depth = [self.predefined], None, "d + 1"
            self.func, self.lines, self.indent, self.guest_loops = unit, unit.lines, 1, 1
            form = definition.form
            self.emit(f"if d > {self.limits.depth}: {self.marked(form, self._use('too_deep') + '()')}")
            weight = self._counted(form)
            self.weight = 1
            with self._scoped([definition.body], definition.parameters) as scope:
                for parameter, py in zip(definition.parameters, parameters, strict=True):
                    self._bind(scope, parameter, _Value(py, stable=True, safe=True))
                value = self.guarded(self.generate(definition.body), form)
                self.emit(f"return {value.text}")
            weight.append(self.weight)

        self._waiting.append(later)
        return name

    def _call(self, form: Form, name: str, arguments: Sequence[Form]) -> _Value:
        several = self.program.definitions[name]
        unknown = f"there is no function {name} here; it is defined later, or not always"
        if self.table is not None and all(definition.unconditional for definition in several):
            definition = self.table.get(name)
            if definition is None:
                return self.fault(form, "unknown-function", unknown)
            function = "" if definition.inline else self._standing(definition)
        else:
            cell = self._function_cells.get(name)
            if cell is None:
                cell = self._function_cells[name] = self._new("n")
            definition = several[0]
            called = self._new("t")
            self.emit(f"{called} = {cell}")
            self.emit(f"if {called} is U: {self.fault(form, 'unknown-function', unknown).text}")
            if len({len(one.parameters) for one in several}) > 1:
                wrong = self._arity(form, name, "another number of arguments", len(arguments)).text
                self.emit(f"if {called}[1] != {len(arguments)}: {wrong}")
                definition = next((one for one in several if len(one.parameters) == len(arguments)), definition)
            function = f"{called}[0]" if len(several) > 1 else "" if definition.inline else self._standing(definition)
        if len(definition.parameters) != len(arguments):
            number = len(definition.parameters)
            return self._arity(form, name, f"{number} argument{'s' if number != 1 else ''}", len(arguments))
        values = self.arguments(arguments)
        if not function:
            return self._inlined(definition, values)
        texts = [value.text for value in self.all_guarded(values, form)]
        self.counting = True
        result = self._new("t")
        called_with = ", ".join([self.depth, *texts])
        self.emit(f"{result} = {self.marked(form, f'{function}({called_with})')}")
        return _Value(result, stable=True, safe=True)

    def _inlined(self, definition: Definition, values: Sequence[_Value]) -> _Value:
        if not self.program.shared.isdisjoint(definition.parameters):
            values = [self.spilled(value) for value in values]
        with self._scoped([definition.body], definition.parameters) as scope:
            for parameter, value in zip(definition.parameters, values, strict=True):
                self._bind(scope, parameter, value)
            result = self.generate(definition.body)
            if self._has_shared(scope):
                result = self.spilled(result)
        return result

    def _variable_call(self, form: Form, value: _Value, arguments: Sequence[Form], dropped: bool) -> _Value:
        """A list whose head may be a variable."""
        name = form.items[0].name
        if value.safe and value.text in ("ABS", "DEBUG"):
            return self._callable(form, "abs" if value.text == "ABS" else "debug", arguments)
        word = name in SPECIAL_FORMS or name in BUILTINS or name == "eval"
        never = not self.program.callables and value.type != "fn"
        if (word and never) or value.type == "nil":
            return self._word(form, arguments, dropped)
        if value.const:
            return self._word(form, arguments, dropped) if word else self._called(form, value.text, arguments)
        # The arguments may assign the variable; what is called is what it holds now.
        head = self.spilled(value, pure=True)
        if value.safe and (value.type == "fn" or (not word and value.type in _SCALARS)):
            return self._called(form, head.text, arguments)
        test = f"{head.text}.__class__ is FN" if word else f"{head.text} is not U and {head.text} is not None"
        return self._branches(
            _Value(test, safe=True),
            lambda: self._called(form, head.text, arguments),
            lambda: self._word(form, arguments, dropped),
            dropped,
        )

    def _called(self, form: Form, function: str, arguments: Sequence[Form]) -> _Value:
        """Call what a variable or attribute holds."""
        values = self.arguments(arguments)
        texts = [value.text for value in self.all_guarded(values, form)]
        site = self.site(form)
        result = self._new("t")
        listed = "".join(f"{text}, " for text in texts)
        self.control_sites[site] = ""
        self.emit(f"{result} = {self.marked(form, self._helper('call', function, f'({listed})', str(site)))}")
        return _Value(result, stable=True, safe=True)

    def _callable(self, form: Form, name: str, arguments: Sequence[Form]) -> _Value:
        values = self.arguments(arguments)
        if not CALLABLES[name].takes(len(values)):
            for value in values:
                self.drop(value)
            return self._arity(form, name, CALLABLES[name].arguments, len(values))
        if name == "abs":
            value = values[0]
            text = self.marked(form, f"absolute({value.text})", [(arguments[0], value)])
            return _Value(text, value.type if value.type in ("int", "float") else "num", size=value.size)
        result = self._new("t")
        self.emit(f"{result} = {self.marked(form, self._helper('debug', *(value.text for value in values)))}")
        return _Value(result, values[-1].type, size=values[-1].size, stable=True, safe=True)

    def _dotted_call(self, form: Form, name: str, arguments: Sequence[Form]) -> _Value:
        parts = name.split(".")
        base = self._lookup(parts[0])
        if base is None:
            return self._word(form, arguments, False)
        if base.safe and base.type in _ENTITIES and len(parts) == 2 and parts[1] in ENTITY_METHODS:
            return self._method(form, base, parts[1], arguments)
        if not base.named:
            base = self.spilled(base, pure=True)
        head = self._new("t")
        rest = self.constant(tuple(parts[1:]))
        self.emit(f"{head} = {self._use('head')}({base.text}, {rest})", pure=True)
        if name in self.program.definitions:
            return self._branches(
                _Value(f"{head} is not U and {head} is not None", safe=True),
                lambda: self._called(form, head, arguments),
                lambda: self._call(form, name, arguments),
                False,
            )
        self.emit(f"if {head} is U: {self.fault(form, 'unknown-function', f'there is no function {name}').text}")
        self.emit(f"if {head} is None: {self.fault(form, 'undefined-symbol', f'{name} is nil, and cannot be called').text}")
        return self._called(form, head, arguments)

    # --- methods of entities ---------------------------------------------------------------------------------------------------

    def _method(self, form: Form, entity: _Value, method: str, arguments: Sequence[Form]) -> _Value:
        entity = self.spilled(entity)
        values = self.arguments(arguments)
        word = ENTITY_METHODS[method]
        if not word.takes(len(values)):
            for value in values:
                self.drop(value)
            return self._arity(form, f"{entity.type}.{method}", word.arguments, len(values))
        name = values[0].constant if values[0].const and isinstance(values[0].constant, str) else None
        if method in ("Stat", "StatAvg") and name is not None:
            return self._stat(form, entity, method, name, arguments, values)
        if method == "Prop" and name is not None:
            return _Value(self.marked(form, f"{entity.text}.properties[{self.string(name)}]"))
        if method in ("Control", "GetControl") and name is not None:
            requests = self._requests(name)
            if requests is not None:
                return self._control(form, entity, requests, name, values)
        if method in ("SetVar", "GetVar") and name is not None:
            notes = self._notes(name)
            if notes is not None:
                key = self._key(entity)
                if method == "GetVar":
                    return _Value(f"{notes}.get({key})")
                self.emit(f"{notes}[{key}] = {self.guarded(values[1], form).text}")
                return _NIL
        if method in ("Control", "SetVar", "Remember"):
            values = self.all_guarded(values, form)
        texts = [entity.text, *(value.text for value in values)]
        if method == "Control":
            site = self.site(form)
            self.control_sites[site] = name or ""
            texts.append(str(site))
        operands = list(zip(arguments, values, strict=True))
        text = self.marked(form, f"{self._use(f'do_{method.lower()}')}({', '.join(texts)})", operands)
        if method == "StatAvg":
            return _Value(text, "float", size=0)
        if method in ("Control", "SetVar", "Remember"):
            self.emit(text)
            return _NIL
        return _Value(text)

    def _stat(
        self, form: Form, entity: _Value, method: str, name: str, arguments: Sequence[Form], values: Sequence[_Value]
    ) -> _Value:  # fmt: skip
        scope = Scope.HOST if entity.type == "host" else Scope.GUEST
        self.fields.add((scope, name))
        if (scope, name) in self.undeclared:
            for value in values[1:]:
                self.drop(value)
            return self.fault(form, "unknown-field", f"there is no {scope} field {name}")
        if method == "StatAvg":
            text = self.marked(form, self._helper("mean", entity.text, self.string(name)))
            return _Value(text, "float", size=0)
        if len(values) == 1:
            field = self._field(entity, name)
            assert field is not None  # noqa: S101  # for the type checker: an undeclared field was answered above
            return field
        if name == "io_tune" and scope is Scope.GUEST:
            return _Value(self.marked(form, self._helper("do_stat", entity.text, "'io_tune'", values[1].text)))
        fields = self._use("hostfields") if scope is Scope.HOST else self._fields_variable(entity.text)
        return _Value(f"{fields}.get({self.string(name)}, {values[1].text})", size=values[1].size, safe=values[1].safe)

    @staticmethod
    def _key(entity: _Value) -> str:
        return repr(HOST_ID) if entity.type == "host" else f"{entity.text}.id"

    def _notes(self, name: str) -> str | None:
        """The dictionary of the notes of a name, as `_requests`."""
        if name not in self._note_dicts:
            if len(self._note_dicts) >= self.limits.names // 2:
                return None
            self._note_dicts[name] = self._new("w")
        return self._note_dicts[name]

    def _requests(self, name: str) -> str | None:
        """The dictionary of requests for a control; None if there are so many that they are looked up when asked for."""
        if name not in self._control_dicts:
            if len(self._control_dicts) >= self.limits.names // 2:
                return None
            self._control_dicts[name] = self._new("c")
        return self._control_dicts[name]

    def _control(self, form: Form, entity: _Value, requests: str, name: str, values: Sequence[_Value]) -> _Value:
        key = self._key(entity)
        if len(values) == 1:
            found = self._new("t")
            return _Value(f"({found}[1] if ({found} := {requests}.get({key})) is not None else None)")
        value = values[1]
        site = self.site(form)
        self.control_sites[site] = name
        if value.const and value.type in ("int", "float", "nil") and not (isinstance(value.constant, float) and math.isinf(value.constant)):
            text = value.text
        else:
            text = self._new("t")
            self.emit(f"{text} = {value.text}", pure=value.safe)
            fits_float = f"-{_LARGE_FLOAT} < {text} < {_LARGE_FLOAT}"
            if value.type == "float":
                test = fits_float
            else:
                test = f"{text}.__class__ is float and {fits_float} or {text}.__class__ is int and -{_SMALL} < {text} < {_SMALL}"
            check = self.marked(form, f"requested({self._use('grown')}({text}))")
            self.emit(f"if not ({test}): {text} = {check}")
        self.emit(f"{requests}[{key}] = ({entity.text}, {text}, {site})")
        return _NIL

    # --- builtins --------------------------------------------------------------------------------------------------------------

    def _builtin(self, form: Form, name: str, arguments: Sequence[Form]) -> _Value:
        word = BUILTINS[name]
        if not word.takes(len(arguments)):
            return self._arity(form, name, word.arguments, len(arguments))
        return _BUILTIN[name](self, form, arguments, self.arguments(arguments))

    def _native(self, form: Form, operator: str, arguments: Sequence[Form], values: Sequence[_Value], type_: str, size: int) -> _Value:
        text = self.marked(form, f"{values[0].text} {operator} {values[1].text}", list(zip(arguments, values, strict=True)))
        value = _Value(text, type_, size=size)
        return self.guarded(value, form) if size > _GUARDED_SIZE else value

    def _add(self, form: Form, arguments: Sequence[Form], values: Sequence[_Value]) -> _Value:
        left, right = values
        types = {left.type, right.type}
        size = left.size + right.size
        if types & _NUMBERS:
            type_ = _number(types)
            return self._native(form, "+", arguments, values, type_, 0 if type_ == "float" else size)
        if "str" in types:
            return self._native(form, "+", arguments, values, "str", max(2, size))
        if not self.program.lists and "list" not in types:
            return self._native(form, "+", arguments, values, "any", max(2, size))
        left, right = self.spilled(left), self.spilled(right)
        operands = list(zip(arguments, (left, right), strict=True))
        adding = self.marked(form, self._helper("add", left.text, right.text), operands)
        native = self.marked(form, f"{left.text} + {right.text}", operands)
        text = f"({adding} if {left.text}.__class__ is list else {native})"
        return self.guarded(_Value(text, "list" if "list" in types else "any", size=max(2, size)), form)

    def _sub(self, form: Form, arguments: Sequence[Form], values: Sequence[_Value]) -> _Value:
        type_ = _number({value.type for value in values})
        return self._native(form, "-", arguments, values, type_, 0 if type_ == "float" else values[0].size + values[1].size)

    def _mul(self, form: Form, arguments: Sequence[Form], values: Sequence[_Value]) -> _Value:
        left, right = values
        types = {left.type, right.type}
        if "float" in types:
            return self._native(form, "*", arguments, values, "float", 0)
        if types <= _NUMBERS:
            return self._native(form, "*", arguments, values, _number(types), max(2, left.size + right.size))
        left, right = self.spilled(left), self.spilled(right)
        operands = list(zip(arguments, (left, right), strict=True))
        multiplied = self.marked(form, self._helper("mul", left.text, right.text), operands)
        tests = [f"{value.text}.__class__ is float" for value in (left, right) if value.type in ("any", "num")]
        if not tests:
            return _Value(multiplied)
        native = self.marked(form, f"{left.text} * {right.text}", operands)
        return _Value(f"({native} if {' or '.join(tests)} else {multiplied})")

    def _div(self, form: Form, arguments: Sequence[Form], values: Sequence[_Value]) -> _Value:
        return self._native(form, "/", arguments, values, "float", 0)

    def _shift(self, form: Form, arguments: Sequence[Form], values: Sequence[_Value]) -> _Value:
        helper = "shl" if _word_of(form) == "shl" else "shr"
        text = f"{self._use(helper)}({values[0].text}, {values[1].text})"
        return _Value(self.marked(form, text, list(zip(arguments, values, strict=True))), "int")

    def _compared(self, form: Form, values: Sequence[_Value]) -> list[_Value]:
        """Count comparisons of lists, where there may be any."""
        if not self.program.lists or any(value.type in _SCALARS or value.type == "str" for value in values):
            return list(values)
        named = [self.spilled(value) for value in values]
        left, right = named
        self.emit(f"if {left.text}.__class__ is list: {self.marked(form, self._helper('compared', left.text, right.text))}")
        return named

    def _order(self, form: Form, arguments: Sequence[Form], values: Sequence[_Value]) -> _Value:
        operator = _PYTHON[_word_of(form)]
        values = self._compared(form, values)
        value = self._native(form, operator, arguments, values, "bool", 1)
        value.safe = all(one.safe and one.type in _NUMBERS for one in values)
        return value

    def _equal(self, form: Form, arguments: Sequence[Form], values: Sequence[_Value]) -> _Value:
        operator = _PYTHON[_word_of(form)]
        left, right = values
        if right.type == "nil" and right.const and left.type not in _SCALARS:
            return _Value(f"({left.text} is{' not' if operator == '!=' else ''} None)", "bool", safe=left.safe)
        values = self._compared(form, values)
        value = self._native(form, operator, arguments, values, "bool", 1)
        value.safe = left.safe and right.safe and not self.program.lists
        return value

    def _and_or(self, form: Form, arguments: Sequence[Form], values: Sequence[_Value]) -> _Value:
        if not all(value.safe for value in values[1:]):
            values = [value if value.safe and value.stable else self.spilled(value) for value in values]
        type_, size = values[0].type, values[0].size
        for value in values[1:]:
            type_, size = _joined(type_, value.type), max(size, value.size)
        word = f" {_word_of(form)} "
        text = f"({word.join(value.text for value in values)})"
        return _Value(text, type_, size=size, safe=values[0].safe)

    def _not(self, form: Form, arguments: Sequence[Form], values: Sequence[_Value]) -> _Value:
        return _Value(f"(not {values[0].text})", "bool", safe=values[0].safe)

    def _extreme(self, form: Form, arguments: Sequence[Form], values: Sequence[_Value]) -> _Value:
        if len(values) == 1:
            return values[0]
        sign = "<" if _word_of(form) == "max" else ">"
        if len(values) > 2 or self.program.lists:
            values = [self.spilled(value) for value in values]
        if len(values) > _MANY and not self.program.lists:
            helper = "largest" if sign == "<" else "smallest"
            text = self.marked(form, f"{helper}({', '.join(value.text for value in values)})", list(zip(arguments, values, strict=True)))
            return _Value(text, "any" if any(value.type not in _NUMBERS for value in values) else "num", size=max(v.size for v in values))
        best, which = values[0], arguments[0]
        for argument, value in zip(arguments[1:], values[1:], strict=True):
            pair = self._compared(form, (best, value))
            texts: list[str] = []
            names: list[str] = []
            for each in pair:
                names.append(each.text if each.named else self._new("t"))
                texts.append(each.text if each.named else f"({names[-1]} := {each.text})")
            operands = [(argument, value)] if which is form else [(which, best), (argument, value)]
            test = self.marked(form, f"{texts[0]} {sign} {texts[1]}", operands)
            text = f"({names[1]} if {test} else {names[0]})"
            best = _Value(text, _joined(pair[0].type, pair[1].type), size=max(pair[0].size, pair[1].size))
            best.safe = all(one.safe and one.type in _NUMBERS for one in pair)
            which = form
            if len(values) > 2:
                best = self.spilled(best)
        return best

    def _null(self, form: Form, arguments: Sequence[Form], values: Sequence[_Value]) -> _Value:
        return self._all_of(values, _null_test)

    def _valid(self, form: Form, arguments: Sequence[Form], values: Sequence[_Value]) -> _Value:
        return self._all_of(values, _valid_test)

    def _all_of(self, values: Sequence[_Value], test: Callable[[_Value], str]) -> _Value:
        if not all(value.safe for value in values):
            values = [self.spilled(value) for value in values]
        named = [value if value.named else self.spilled(value) for value in values]
        tests = [text for text in map(test, named) if text != "True"]
        if not tests or "False" in tests:
            return _constant(str(not tests), "bool", not tests)
        return _Value(f"({' and '.join(tests)})", "bool", safe=True)


_NIL = _constant("None", "nil", None)

_SPECIAL: dict[str, Callable[[_Generator, Form, Sequence[Form], bool], _Value]] = {
    "if": _Generator._if,
    "let": _Generator._let,
    "def": _Generator._def,
    "defun": _Generator._def,
    "defvar": _Generator._defvar,
    "set": _Generator._set,
    "setq": _Generator._set,
    "with": _Generator._with,
}

_BUILTIN: dict[str, Callable[[_Generator, Form, Sequence[Form], Sequence[_Value]], _Value]] = {
    "add": _Generator._add,
    "sub": _Generator._sub,
    "mul": _Generator._mul,
    "div": _Generator._div,
    "lt": _Generator._order,
    "gt": _Generator._order,
    "lte": _Generator._order,
    "gte": _Generator._order,
    "eq": _Generator._equal,
    "neq": _Generator._equal,
    "shl": _Generator._shift,
    "shr": _Generator._shift,
    "and": _Generator._and_or,
    "or": _Generator._and_or,
    "not": _Generator._not,
    "min": _Generator._extreme,
    "max": _Generator._extreme,
    "null": _Generator._null,
    "valid": _Generator._valid,
}

_PYTHON = {"lt": "<", "gt": ">", "lte": "<=", "gte": ">=", "eq": "==", "neq": "!="}


def _word_of(form: Form) -> str:
    name = form.items[0].name
    return OPERATORS.get(name, name)


def _joined(one: str, other: str) -> str:
    if one == other:
        return one
    return "num" if one in _NUMBERS and other in _NUMBERS else "any"


def _number(types: set[str]) -> str:
    if "float" in types:
        return "float"
    return "int" if types <= {"int", "bool"} else "num"


def _null_test(value: _Value) -> str:
    text = value.text
    if value.const:
        return str(value.constant is None or value.constant == "")
    if value.type in _NUMBERS or value.type in _ENTITIES or value.type == "fn":
        return "False"
    if value.type in ("str", "list", "guests"):
        return f"not {text}"
    return f"({text} is None or {text}.__class__ is not int and {text}.__class__ is not float and empty({text}))"


def _valid_test(value: _Value) -> str:
    if value.const:
        return str(value.constant is not None)
    return "True" if value.type in _SCALARS and value.type != "nil" else f"{value.text} is not None"
