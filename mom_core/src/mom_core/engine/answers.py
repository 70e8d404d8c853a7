"""Validation of plugins' answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import NoneType
from typing import Final

from mom_core.model import Condition, Decision, Entity, Guest, Problem, Revision, Scope, Severity, ShadowDecisions, Source, shown
from mom_core.plugins.invoker import describe

_PARTS: Final[Mapping[type, Mapping[str, tuple[type, ...]]]] = {
    Decision: {"entity": (Entity,), "control": (str,), "reason": (str,), "source": (Source,)},
    Entity: {"scope": (Scope,), "id": (str,), "name": (str,)},
    Source: {"name": (str,)},
    Problem: {"source": (Source,), "message": (str,), "entity": (Entity, NoneType), "hint": (str,), "severity": (Severity,)},
    Condition: {"name": (str,), "message": (str,), "why": (str,), "cure": (str,), "severity": (Severity,), "after": (int, float)},
    Revision: {"before": (Decision,), "after": (Decision, NoneType), "reason": (str,)},
    Guest: {"id": (str,), "name": (str,), "incarnation": (str,), "fields": (Mapping,), "properties": (Mapping,), "blocked": (Mapping,)},
}


@contextmanager
def contained(plugin: str, what: str, problems: list[Problem]) -> Iterator[None]:
    """Turn exceptions into problems while mom reads an answer."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  # containment is the purpose
        problems.append(invalid(plugin, what, describe(error)))


def invalid(plugin: str, what: str, why: str) -> Problem:
    """Return the problem of an invalid answer."""
    return Problem(Source(plugin), f"{what}: the answer is invalid: {why}")


def wrong_part(item: object) -> str:
    """Describe the first attribute of a wrong type; empty if there is none."""
    try:
        return _wrong_part(item)
    except Exception as error:  # noqa: BLE001  # attributes may run the plugin's code, which may raise anything
        return describe(error)


def _wrong_part(item: object) -> str:
    if isinstance(item, ShadowDecisions):
        return next(filter(None, map(_wrong_decision, item.decisions)), "")
    for name, types in _PARTS.get(type(item), {}).items():
        part = getattr(item, name)
        if not isinstance(part, types):
            names = " or ".join("None" if kind is NoneType else kind.__name__ for kind in types)
            return f"the {name} of a {type(item).__name__} should be {names} and is {type(part).__name__} {shown(part)}"
        if wrong := _wrong_part(part):
            return wrong
    return ""


def _wrong_decision(item: object) -> str:
    return _wrong_part(item) if isinstance(item, Decision) else f"the shadow decision {shown(item)} is not a Decision"
