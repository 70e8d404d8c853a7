"""Checks that a running mom omits."""

from __future__ import annotations

import math
import re
from typing import Final

from mom_core import ControlSpec, DefaultPolicy, FieldSpec, GuestColumn, Scope, Unit

METRIC: Final = re.compile(r"(?!mom_(?!guest_))[a-zA-Z_:][a-zA-Z0-9_:]*")
"""Prometheus name that none of mom's own metrics has."""


def why_useless(spec: object) -> str:
    """Return why mom cannot use a declaration."""
    if isinstance(spec, DefaultPolicy):
        return ""
    if isinstance(spec, GuestColumn):
        return _why_useless_column(spec)
    if not isinstance(spec, FieldSpec | ControlSpec):
        return "is no FieldSpec, ControlSpec, DefaultPolicy or GuestColumn"
    if not isinstance(spec.unit, Unit) or not isinstance(spec.scope, Scope) or not str(spec.name).isidentifier():
        return "needs a name that is an identifier, a Unit and a Scope"
    return _why_useless_control(spec) if isinstance(spec, ControlSpec) else ""


def _why_useless_control(spec: ControlSpec) -> str:
    if not str(spec.field).isidentifier():
        return "needs the name of the field that holds its present value"
    choices = tuple(spec.choices)
    fits = choices == (0, 1) if spec.unit is Unit.FLAG else not choices or spec.unit.is_number
    if not fits or len(set(choices)) < len(choices) or not all(type(choice) is int for choice in choices):
        return "has invalid choices: use different integers, for a control with a number only; a flag has 0 and 1"
    bounds = [bound for bound in (spec.minimum, spec.maximum) if bound is not None]
    if not all(isinstance(bound, int | float) and math.isfinite(bound) for bound in bounds):
        return "needs finite numbers as bounds"
    return f"has a minimum of {bounds[0]:g} above its maximum of {bounds[1]:g}" if bounds != sorted(bounds) else ""


def _why_useless_column(spec: GuestColumn) -> str:
    if not spec.name or not spec.fields:
        return "needs a name and the names of fields"
    if spec.metric and not METRIC.fullmatch(spec.metric):
        return "needs a valid Prometheus metric name that mom does not use; if it begins with mom_, then with mom_guest_"
    return "" if spec.mark_from is None or math.isfinite(spec.mark_from) else "needs a finite number as mark_from"


def missing_of(kind: object, offer: object) -> str:
    """Return why a service does not implement its protocol."""
    if not isinstance(kind, type) or not getattr(kind, "_is_protocol", False):
        return f"{kind!r:.80} is no protocol"
    missing = [name for name in dir(kind) if not name.startswith("_") and not hasattr(offer, name)]
    return f"the {type(offer).__name__} that it offers is not a {kind.__name__}: it lacks {', '.join(missing)}" if missing else ""
