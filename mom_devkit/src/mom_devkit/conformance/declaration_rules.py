"""Rules for declarations and services that a running mom does not check."""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from mom_core import ControlSpec, DefaultPolicy, FieldSpec, GuestColumn, Scope, Unit

FIELD_NAME: Final = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*")

POLICY_NAME: Final = re.compile(r"[1-9]0_[a-z0-9_]+")

METRIC: Final = re.compile(r"(?!mom_(?!guest_))[a-zA-Z_:][a-zA-Z0-9_:]*")
"""Matches a Prometheus metric name that cannot collide with mom's own metrics."""

Rule: TypeAlias = "tuple[Callable[[Any], object], str, str]"
"""Test for a fault of a declaration, text of the fault, and fix."""


def _bounds(control: ControlSpec) -> list[float]:
    return [bound for bound in (control.minimum, control.maximum) if bound is not None]


def _is_bad_name(spec: FieldSpec | ControlSpec) -> bool:
    return not FIELD_NAME.fullmatch(str(spec.name)) or keyword.iskeyword(spec.name)


_NAMED: Final[Sequence[Rule]] = (
    (_is_bad_name, "has a name that policies cannot use", "use lower case words joined by _"),
    (lambda spec: not (isinstance(spec.unit, Unit) and isinstance(spec.scope, Scope)), "needs a Unit and a Scope", ""),
    (lambda spec: not spec.description.strip(), "is not described", "add a description: `mom fields` shows it"),
)

RULES: Final[Mapping[type, Sequence[Rule]]] = {
    FieldSpec: _NAMED,
    ControlSpec: (
        *_NAMED,
        (lambda spec: not str(spec.field).isidentifier(), "needs the name of the field that holds its present value", ""),
        (lambda spec: not spec.unit.is_number and _bounds(spec), "has bounds or choices, but is no number", "remove them"),
        (lambda spec: _bounds(spec) != sorted(_bounds(spec)), "has a minimum above its maximum", "exchange them"),
    ),
    DefaultPolicy: (
        (lambda spec: not POLICY_NAME.fullmatch(spec.name), "has a name without a number", "name it 10_… to 90_…, to define the order"),
    ),
    GuestColumn: (
        (lambda spec: not spec.name or not spec.fields, "needs a name and the names of fields", ""),
        (
            lambda spec: spec.metric and not METRIC.fullmatch(spec.metric),
            "needs a valid Prometheus metric name that mom does not use",
            "a name with mom_ must begin with mom_guest_",
        ),
    ),
}


def fault_of(spec: object) -> tuple[str, str] | None:
    """Return the first fault of a declaration and its fix; None without fault."""
    if type(spec) not in RULES:
        return f"{spec!r:.80} is no FieldSpec, ControlSpec, DefaultPolicy or GuestColumn", ""
    faults = ((fault, cure) for is_broken, fault, cure in RULES[type(spec)] if is_broken(spec))
    return next(((f"{type(spec).__name__} {getattr(spec, 'name', '')!r:.60} {fault}", cure) for fault, cure in faults), None)


def missing_of(kind: object, offer: object) -> str:
    """Return why a service does not implement its protocol; empty if it does."""
    if not isinstance(kind, type) or not getattr(kind, "_is_protocol", False):
        return f"{kind!r:.80} is no protocol"
    missing = [name for name in dir(kind) if not name.startswith("_") and not hasattr(offer, name)]
    return f"the {type(offer).__name__} that it offers is not a {kind.__name__}: it lacks {', '.join(missing)}" if missing else ""
