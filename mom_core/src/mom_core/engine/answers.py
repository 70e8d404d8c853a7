"""Takes in what plugins answer. What is not what it claims to be is a problem of its plugin, and gets no further in the engine's thread."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import NoneType
from typing import Final

from mom_core.model import Decision, Entity, Guest, Problem, Revision, Scope, Severity, ShadowDecisions, Source, shown
from mom_core.plugins.invoker import describe
from mom_core.values import is_usual_number

_NO_DECISION = "what is on trial holds something that is no Decision"


def no_sense(plugin: str, what: str, why: str) -> Problem:
    """The problem that an answer is.

    :param what: the hook that gave it
    """
    return Problem(Source(plugin), f"{what}: its answer makes no sense: {why}")


@contextmanager
def contained(plugin: str, what: str, problems: list[Problem]) -> Iterator[None]:
    """Whatever goes wrong while an answer is taken in becomes a problem of its plugin: to look at an object may run the plugin's code."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  # containment is the purpose
        problems.append(no_sense(plugin, what, describe(error)))


def why_nonsense(item: object) -> str:
    """Why a part of an answer cannot be worked with; empty if it can, or is of none of the types that are known here."""
    try:
        return _why_nonsense(item)
    except Exception as error:  # noqa: BLE001  # as above
        return describe(error)


def _why_nonsense(item: object) -> str:
    if isinstance(item, ShadowDecisions):
        return next(filter(None, (_why_nonsense(one) if isinstance(one, Decision) else _NO_DECISION for one in item.decisions)), "")
    wrong = _wrong_part(item)
    if not wrong and isinstance(item, Decision) and not is_usual_number(item.value):
        repr(item.value)  # what cannot be written, such as 10**5000, reaches no report
    return wrong


_PARTS: Final[Mapping[type, Mapping[str, tuple[type, ...]]]] = {
    Decision: {"entity": (Entity,), "control": (str,), "reason": (str,), "source": (Source,)},
    Entity: {"scope": (Scope,), "id": (str,), "name": (str,)},
    Source: {"name": (str,)},
    Problem: {"source": (Source,), "message": (str,), "entity": (Entity, NoneType), "hint": (str,), "severity": (Severity,)},
    Revision: {"before": (Decision,), "after": (Decision, NoneType), "reason": (str,)},
    Guest: {"id": (str,), "name": (str,), "incarnation": (str,), "fields": (Mapping,), "properties": (Mapping,), "blocked": (Mapping,)},
}
"""Of which types the parts of an answer are."""


def _wrong_part(item: object) -> str:
    """The words about the first part that is not of its type; empty if there is none."""
    if isinstance(item, Decision) and _is_sound(item):
        return ""
    kind = next((kind for kind in _PARTS if isinstance(item, kind)), None)
    if kind is None:
        return ""
    for name, wanted in _PARTS[kind].items():
        part = getattr(item, name)
        if not isinstance(part, wanted):
            types = " or ".join("None" if one is NoneType else _with_article(one) for one in wanted)
            return f"the {name} of {_with_article(kind)} should be {types} and is {type(part).__name__} {shown(part)}"
        if wrong := _wrong_part(part):
            return wrong
    if isinstance(item, Guest) and not all(isinstance(reason, str) for reason in item.blocked.values()):
        return "the blocked of a Guest should give texts as reasons"
    return ""


def _with_article(kind: type) -> str:
    return f"{'an' if kind is Entity else 'a'} {kind.__name__}"


def _is_sound(one: Decision) -> bool:
    """True if its parts are of their types: written out, as each guest may have some in each cycle."""
    entity: object = one.entity
    source: object = one.source
    if not isinstance(entity, Entity) or not isinstance(source, Source):
        return False
    named = isinstance(entity.scope, Scope) and isinstance(entity.id, str) and isinstance(entity.name, str)
    return named and isinstance(one.control, str) and isinstance(one.reason, str) and isinstance(source.name, str)
