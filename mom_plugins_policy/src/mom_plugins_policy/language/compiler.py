"""Compiler from forms to Python code: one function per program; policy variables become local variables.

- Each form that can fail starts a new line: a traceback's line number identifies it (`Site`).
- Policy text never becomes code: names are numbered, and values are constants, except small numbers and identifiers.
- Expressions have no effects, so an expression can be computed again to explain an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any

from mom_core import Scope
from mom_plugins_policy.language.analysis import Program
from mom_plugins_policy.language.compiling.forms import Generator
from mom_plugins_policy.language.compiling.operations import called
from mom_plugins_policy.language.limits import PolicyLimits
from mom_plugins_policy.language.runtime import Site, fail, write_to_log
from mom_plugins_policy.language.values import UNBOUND, Function, empty
from mom_plugins_policy.language.words.functions import CALLABLES, FUNCTIONS, FunctionWord


def _predefined(word: FunctionWord) -> Function:
    compute = write_to_log if word.name == "debug" else word.compute
    return Function(word.name, lambda arguments, site: compute(*arguments), word)


_FUNCTIONS: Mapping[str, object] = {
    **{called(word): word.compute for word in FUNCTIONS.values()}, **{word.name.upper(): _predefined(word) for word in CALLABLES.values()},
}  # fmt: skip

_numbers = count(1)


class Compiled:
    """Compiled program, with the forms of its lines.

    :param undeclared: fields that no plugin declares. Reading an undeclared field is an `undefined-symbol` error
    """

    def __init__(self, program: Program, limits: PolicyLimits, undeclared: frozenset[tuple[Scope, str]]) -> None:
        generator = Generator(program, limits, undeclared)
        source, lines = generator.assemble()
        self.filename = f"<policy {next(_numbers)}>"
        """Unique, so that tracebacks identify this code."""
        self.undeclared = generator.undeclared
        self.sites: Sequence[Site] = generator.sites
        self.fields = frozenset(generator.fields)
        self.namespace: dict[str, Any] = {
            "__builtins__": {}, "U": UNBOUND, "E": Exception, "FN": Function, "len": len, "zip": zip,
            "fail": fail, "empty": empty, "smallest": min, "largest": max,
            "float": float, "int": int, "list": list,
            "LINES": lines, **_FUNCTIONS, **generator.constants,
        }  # fmt: skip
        code = compile(source, self.filename, "exec", dont_inherit=True)
        exec(code, self.namespace)  # noqa: S102  # generated code; from the policy only quoted identifiers and small numbers
        self.run: Callable[..., None] = self.namespace["run"]
