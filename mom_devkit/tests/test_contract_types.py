"""Declarations and offers that a running mom could not use."""

import math
from typing import Any, Protocol

import pytest

from mom_core import ControlSpec, FieldSpec, GuestColumn, Scope, Unit
from mom_devkit.conformance.contract_types import missing_of, why_useless


def control(**changes: Any) -> ControlSpec:
    return ControlSpec(**{"name": "size", "unit": Unit.COUNT, "scope": Scope.GUEST, "description": "", "field": "size", **changes})


def column(**changes: Any) -> GuestColumn:
    return GuestColumn(**{"name": "heat", "fields": ("heat",), "unit": Unit.PERCENT, "about": "how hot it is", **changes})


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (5, "is no FieldSpec"),
        (FieldSpec("no name", Unit.KIB, Scope.HOST, ""), "identifier"),
        (control(field=""), "field that holds"),
        (control(choices=(1, 1)), "choices"),
        (control(unit=Unit.FLAG, choices=(0, 1, 2)), "choices"),
        (control(minimum=2, maximum=1), "minimum"),
        (column(name=""), "a name"),
        (column(fields=()), "fields"),
        (column(metric="mom_cycles_total"), "metric"),
        (column(mark_from=math.nan), "finite"),
    ],
    ids=str,
)
def test_a_declaration_that_mom_cannot_use_is_named(spec: object, message: str) -> None:
    assert message in why_useless(spec)


class Notes(Protocol):
    def read(self) -> str: ...

    def write(self, text: str) -> None: ...


@pytest.mark.parametrize(
    ("kind", "offer", "message"),
    [(int, 5, "is no protocol"), (Notes, 5, "it lacks read, write"), (Notes, type("N", (), {"read": 1, "write": 1}), "")],
)
def test_an_offer_must_have_all_of_its_protocol(kind: object, offer: object, message: str) -> None:
    missing = missing_of(kind, offer)
    assert message in missing if message else not missing
