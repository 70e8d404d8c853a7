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
an error, and only needs a temporary variable when a statement with effects follows it (`Emitter.arguments`).
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


def _held(word: FunctionWord) -> Function:
    """Return the value of a predefined variable."""
    compute = write_to_log if word.name == "debug" else word.compute
    return Function(word.name, lambda arguments, site: compute(*arguments), word)


_FUNCTIONS: Mapping[str, object] = {
    **{called(word): word.compute for word in FUNCTIONS.values()}, **{word.name.upper(): _held(word) for word in CALLABLES.values()},
}  # fmt: skip

_numbers = count(1)


class Compiled:
    """Code of a program: what to run, and what its lines mean.

    :param undeclared: fields that no plugin declares: reading them is `undefined-symbol`
    """

    def __init__(self, program: Program, limits: PolicyLimits, undeclared: frozenset[tuple[Scope, str]]) -> None:
        generator = Generator(program, limits, undeclared)
        source, lines = generator.assemble()
        self.filename = f"<policy {next(_numbers)}>"
        """A name of its own, by which tracebacks tell this code from all other."""
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
        exec(code, self.namespace)  # noqa: S102  # generated code; nothing of the policy's text is in it
        self.run: Callable[..., None] = self.namespace["run"]
