"""A session of the language, input by input: what was defined stays, and what an input did beyond the ones before it is told.

The inputs are evaluated together, from the first on, whenever one is added: an evaluation always starts afresh, and so it is certain
that an input means here what it would mean in a policy.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from mom_core import Decision, Declarations, Snapshot
from mom_plugins_policy.language.errors import Fault, PolicyError
from mom_plugins_policy.language.limits import DEFAULT_LIMITS, PolicyLimits
from mom_plugins_policy.language.policy import Policy, Result
from mom_plugins_policy.language.tokens import tokens

_PREFIX = "~"  # sorts behind the names of policies, so that inputs come after those that were loaded


@dataclass(frozen=True, slots=True)
class InputResult:
    """What one input came to. Errors of earlier inputs, which another snapshot may bring, are among the errors."""

    values: tuple[Any, ...] = ()
    decisions: tuple[Decision, ...] = ()
    """Those that this input has made or changed."""
    errors: tuple[Fault, ...] = ()
    output: tuple[str, ...] = ()
    """What `debug` wrote."""
    kept: bool = True
    """Whether later inputs see what this one defined: not if it was no policy, or stopped the evaluation."""


@dataclass(slots=True)
class ReplSession:
    """Inputs so far, beside the policies that were loaded, on a snapshot."""

    taken: Snapshot
    declarations: Declarations
    policies: dict[str, str] = field(default_factory=dict)
    limits: PolicyLimits = DEFAULT_LIMITS
    inputs: list[str] = field(default_factory=list)
    _before: Result | None = None
    _output: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The name that the next input has as a policy."""
        return _name(len(self.inputs) + 1)

    def texts(self) -> dict[str, str]:
        """All policies and inputs by name."""
        return {**self.policies, **{_name(number): text for number, text in enumerate(self.inputs, 1)}}

    def titles(self) -> dict[str, str]:
        """What people call the inputs, the next one included, by the names that they have as policies."""
        return {_name(number): f"input {number}" for number in range(1, len(self.inputs) + 2)}

    def add(self, text: str) -> InputResult:
        """Evaluate one more input."""
        name = self.name
        try:
            policy = Policy.compile({**self.texts(), name: text}, self.declarations, self.limits)
        except PolicyError as error:
            return InputResult(errors=error.faults, kept=False)
        result, output = self._evaluated(policy)
        mine = [value for form, value in zip(policy.program.forms, result.values, strict=False) if form.text.name == name]
        decisions, errors = self._new(result)
        told = output[len(self._output) :]
        if not result.stopped:
            self.inputs.append(text)
            self._before = result
            self._output = output
        return InputResult(tuple(mine), decisions, errors, tuple(told), not result.stopped)

    def _new(self, result: Result) -> tuple[tuple[Decision, ...], tuple[Fault, ...]]:
        before = self._before
        known = set() if before is None else {(d.entity.id, d.control, repr(d.value), d.source) for d in before.decisions}
        faults = set() if before is None else {(f.kind, f.source, f.guest) for f in before.errors}
        decisions = tuple(d for d in result.decisions if (d.entity.id, d.control, repr(d.value), d.source) not in known)
        return decisions, tuple(f for f in result.errors if (f.kind, f.source, f.guest) not in faults)

    def again(self) -> InputResult:
        """Evaluate everything again, after the snapshot or the policies have changed."""
        self._before = None
        self._output = []
        try:
            policy = Policy.compile(self.texts(), self.declarations, self.limits)
        except PolicyError as error:
            return InputResult(errors=error.faults, kept=False)
        result, output = self._evaluated(policy)
        self._before = result if not result.stopped else None
        self._output = output
        return InputResult((), tuple(result.decisions), tuple(result.errors), tuple(output), not result.stopped)

    def forget(self) -> None:
        """Begin anew: no inputs and no policies."""
        self.inputs.clear()
        self.policies.clear()
        self._before = None
        self._output = []

    def _evaluated(self, policy: Policy) -> tuple[Result, list[str]]:
        with _debug_output() as output:
            result = policy.evaluate(self.taken)
        return result, output

    def names(self) -> tuple[set[str], set[str]]:
        """The functions and the variables that the session has defined so far."""
        try:
            program = Policy.compile(self.texts(), self.declarations, self.limits).program
        except PolicyError:
            return set(), set()
        return set(program.definitions), set(program.bound)


def _name(number: int) -> str:
    return f"{_PREFIX}{number:06}"


@contextmanager
def _debug_output() -> Iterator[list[str]]:
    """What `debug` writes meanwhile, instead of to the log."""
    written: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            written.append(record.getMessage())

    log = logging.getLogger("mom.policy")
    handler, level, propagate = Collect(), log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    log.propagate = False
    try:
        yield written
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        log.propagate = propagate


def is_complete(text: str) -> bool:
    """Whether nothing is open: no bracket, and no string. What is wrong in another way counts as complete, as more will not help."""
    opened = 0
    for token in tokens(text):
        if token.what == "open":
            opened += 1
        elif token.what == "close":
            opened -= 1
            if opened < 0:
                return True
        elif token.what == "illegal":
            return token.text[0] not in "\"'"
    return opened == 0
