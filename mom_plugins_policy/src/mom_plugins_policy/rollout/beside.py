"""A second set of policies, evaluated beside those in force over the same snapshots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mom_core import Problem, Severity, Snapshot, Source
from mom_plugins_policy.language.policy import Policy, Result
from mom_plugins_policy.notes import NoteStore

SHARE_OF_TIME: Final = 0.5
"""Of the time that an evaluation may take, what a second one may take: the decisions of those in force wait for it."""

_SHOWN: Final = 5  # errors of one evaluation


def evaluated(policy: Policy, snapshot: Snapshot, history: Sequence[Snapshot], notes: NoteStore, name: str) -> tuple[Result, list[Problem]]:
    """One evaluation with notes of its own, and what went wrong in it, as warnings. `name` is how sources call the set."""
    notes.forget_gone(snapshot)
    result = policy.evaluate(snapshot, history, notes.now())
    notes.keep(result.notes, snapshot)
    return result, [
        Problem(Source(f"{name} {fault.name}", fault.line, fault.column), f"{fault.kind}: {fault.message}", fault.entity, Severity.WARNING)
        for fault in result.errors[:_SHOWN]
    ]
