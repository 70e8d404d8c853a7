"""Declarations and services that a running mom could not use."""

from typing import Any, Protocol

import pytest

from mom_core import ControlSpec, DefaultPolicy, FieldSpec, GuestColumn, Scope, Unit
from mom_devkit.conformance.statements import fault_of, missing_of


def control(**changes: Any) -> ControlSpec:
    usual = {"name": "size", "unit": Unit.COUNT, "scope": Scope.GUEST, "description": "How large.", "field": "size"}
    return ControlSpec(**{**usual, **changes})


def column(**changes: Any) -> GuestColumn:
    return GuestColumn(**{"name": "heat", "fields": ("heat",), "unit": Unit.PERCENT, "about": "how hot it is", **changes})


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (5, "is no FieldSpec"),
        (FieldSpec("no name", Unit.KIB, Scope.HOST, ""), "a name that policies cannot use"),
        (FieldSpec("class", Unit.KIB, Scope.HOST, ""), "a name that policies cannot use"),
        (FieldSpec("size", "furlongs", Scope.HOST, ""), "a Unit and a Scope"),  # type: ignore[arg-type]  # a mistake on purpose
        (FieldSpec("size", Unit.KIB, Scope.HOST, ""), "is not described"),
        (DefaultPolicy("size", "()"), "a name without a number"),
        (control(field=""), "field that holds"),
        (control(unit=Unit.TEXT, minimum=1), "is no number"),
        (control(minimum=2, maximum=1), "minimum above its maximum"),
        (column(name=""), "a name"),
        (column(fields=()), "fields"),
        (column(metric="mom_cycles_total"), "metric"),
    ],
    ids=str,
)
def test_a_declaration_that_mom_cannot_use_is_named(spec: object, message: str) -> None:
    fault, _ = fault_of(spec) or ("", "")
    assert message in fault
    assert fault_of(control(minimum=1, maximum=5)) is None


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
