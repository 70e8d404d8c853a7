"""Errors of policies. Compiling a policy raises them; an evaluation returns them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from mom_core import Entity, MomError, Source
from mom_kvm import PolicyProblem
from mom_plugins_policy.language.syntax import Form

KINDS = frozenset({
    "syntax", "empty-policy", "undefined-symbol", "unknown-function", "not-callable", "arity", "malformed", "empty-form", "bad-literal",
    "recursion", "type", "zero-division", "range", "unknown-field", "missing-property", "limit", "internal",
})  # fmt: skip
"""Kinds of errors. `limit`: too many steps, too much time or too large a value; `internal`: a bug in this package."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Error of a policy. `source` is its position; without a line if unknown.

    :param values: operands with their values, such as `g.balloon_cur is nil`
    """

    kind: str
    source: Source
    message: str
    entity: Entity | None = None
    values: tuple[str, ...] = ()

    @property
    def guest(self) -> str | None:
        """Name of the guest at which a loop failed; None outside of loops."""
        return None if self.entity is None else self.entity.name

    @property
    def text(self) -> str:
        """Kind and message, with the values and the guest."""
        about = f" (guest {self.entity})" if self.entity else ""
        values = f": {', '.join(self.values)}" if self.values else ""
        return f"{self.kind}: {self.message}{values}{about}"

    def __str__(self) -> str:
        return f"{self.source}: {self.text}"


class PolicyError(MomError):
    """Error that makes policies unusable. `problems` contains all mistakes; the other attributes describe the first."""

    def __init__(self, problems: Sequence[PolicyProblem]) -> None:
        self.problems = tuple(problems)
        first = self.problems[0]
        self.kind, self.name, self.line, self.column = first.kind, first.name, first.line, first.column
        super().__init__(first.message)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


class Trouble(Exception):
    """Error in the evaluation of a form.

    :param form: form that failed; None until it is known
    :param fatal: whether the error ends the evaluation, even inside a loop over `Guests`
    """

    def __init__(self, kind: str, message: str, form: Form | None = None, *, fatal: bool = False) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.form = form
        self.fatal = fatal
        self.values: tuple[str, ...] = ()


def kind_of(error: Exception) -> str:
    """Return an error's kind; `internal` for an unexpected exception."""
    if isinstance(error, Trouble):
        return error.kind
    return next((kind for kind, types, _ in _PYTHON_ERRORS if isinstance(error, types)), "internal")


_PYTHON_ERRORS: tuple[tuple[str, tuple[type[Exception], ...], str], ...] = (
    ("type", (TypeError,), "incompatible operand types"),
    ("zero-division", (ZeroDivisionError,), "division by zero"),
    ("range", (OverflowError, ValueError), "a number is too large, or negative where it must not be"),
    ("recursion", (RecursionError,), "nested too deep"),
    ("limit", (MemoryError,), "a value is too large"),
)

PYTHON_MESSAGES: Final = {kind: message for kind, _, message in _PYTHON_ERRORS}

_COMPARED: Final = 400  # names
_LONGEST_NAME: Final = 40  # characters: longer comparisons are slow


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return a hint with the most similar of `names`, or an empty string."""
    # `names` contains this very name if it is bound elsewhere.
    similar = sorted(item for item in names if item != name and len(item) <= _LONGEST_NAME)[:_COMPARED]
    close = [item for item in similar if item.lower() == name.lower()] or get_close_matches(name[:_LONGEST_NAME], similar, 1)
    return f"did you mean {close[0]}?" if close else ""
