"""Running a test: evaluate, and compare with what was expected."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mom_core import HOST_ID, Decision
from mom_plugins_policy.language.policy import Result
from mom_plugins_policy.tools.cases.expected import Expected
from mom_plugins_policy.tools.cases.loader import PolicyTest


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One thing that is not as expected: about what, what was expected, what came, and from where in which policy."""

    about: str
    expected: str
    got: str
    where: str = ""


def run_case(case: PolicyTest) -> tuple[Mismatch, ...]:
    """Evaluate, and compare with what is expected."""
    result = case.policy.evaluate(case.taken, notes=case.remembered)
    names = {guest.id: guest.name for guest in case.taken.guests.values()} | {HOST_ID: HOST_ID}
    return (*_compared(case, result, names), *_compared_errors(case, result), *_compared_notes(case, result, names))


def _compared(case: PolicyTest, result: Result, names: Mapping[str, str]) -> Iterator[Mismatch]:
    got = {(names[decision.entity.id], decision.control): decision for decision in result.decisions}
    for name, controls in case.decisions.items():
        for control, expected in controls.items():
            decision = got.pop((name, control), None)
            if not expected.holds(decision):
                yield Mismatch(f"{name}: {control}", _shown(expected), _decided(decision), str(decision.source) if decision else "")
    if case.expect.others == "none":
        for (name, control), decision in got.items():
            yield Mismatch(f"{name}: {control}", "none", _decided(decision), str(decision.source))


def _shown(expected: Expected) -> str:
    low, high = ("" if math.isinf(bound) else _number(bound) for bound in (expected.low, expected.high))
    if expected.low == expected.high:
        return expected.text if low.replace(",", "") == expected.text else f"{expected.text} ({low})"
    if low and high:
        return f"{expected.text} ({low} … {high})"
    bound = low or high
    return expected.text if bound.replace(",", "") in expected.text else f"{expected.text} ({bound})"


def _number(value: float) -> str:
    if isinstance(value, int):  # which may be too large for a float
        return f"{value:,}"
    return f"{value:,.0f}" if value == round(value) or abs(value) >= 1000 else f"{value:,.4g}"


def _decided(decision: Decision | None) -> str:
    if decision is None:
        return "none"
    value = decision.value
    return _number(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _compared_errors(case: PolicyTest, result: Result) -> Iterator[Mismatch]:
    if case.expect.errors is None:
        return
    left = list(result.errors)
    for expected in case.expect.errors:
        found = next((fault for fault in left if expected.fits(fault)), None)
        if found is None:
            yield Mismatch("error", str(expected), "none")
        else:
            left.remove(found)
    for fault in left:
        yield Mismatch("error", "none", str(fault))


def _compared_notes(case: PolicyTest, result: Result, names: Mapping[str, str]) -> Iterator[Mismatch]:
    for identity, name in names.items():
        for note, expected in (case.expect.remembered or {}).get(name, {}).items():
            got = result.notes.get(identity, {}).get(note, case.remembered.get(identity, {}).get(note))
            if got != expected:
                yield Mismatch(f"{name}: remembered {note}", str(expected), str(got))
