"""Expected decisions of policies on given fields, from YAML. Amounts of memory may have units."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from mom_core import Declarations, Snapshot, Unit, parse_size
from mom_core.testing import snapshot
from mom_daemon import declarations_of
from mom_plugins_policy import Policy

FOLDER = Path(__file__).with_name("cases")
EXAMPLES = Path(__file__).parents[2] / "examples/policies"
DECLARED = declarations_of()
SIZE = re.compile(r"[0-9.]+[KMGT]i?B")


@dataclasses.dataclass(frozen=True)
class Case:
    """Policies, a snapshot, and the expected decisions, errors and notes."""

    name: str
    texts: Mapping[str, str]
    taken: Snapshot
    remembered: Mapping[str, Mapping[str, Any]]
    expect: Mapping[str, Any]

    @property
    def policy(self) -> Policy:
        return Policy.compile(self.texts, DECLARED)

    def check(self) -> None:
        result = self.policy.evaluate(self.taken, notes=self.remembered)
        got = {(decision.entity.name, decision.control): decision.value for decision in result.decisions}
        names = {self.taken.host.name: "host"}
        got = {(names.get(name, name), control): value for (name, control), value in got.items()}
        for name, controls in self.expect.get("decisions", {}).items():
            for control, expected in controls.items():
                assert fits(got.pop((name, control), None), expected, control), (name, control, expected)
        assert self.expect.get("others") == "any" or not got
        errors = [(fault.kind, fault.guest, fault.source.name) for fault in result.errors]
        wanted = [(error["kind"], error["guest"], error["policy"]) for error in self.expect.get("errors", ())]
        assert all(error in errors for error in wanted)
        assert len(errors) == len(wanted)
        for name, notes in self.expect.get("remembered", {}).items():
            kept = {**self.remembered.get(name, {}), **result.notes.get(name, {})}
            assert {note: kept.get(note) for note in notes} == notes


def fits(value: Any, expected: Any, control: str) -> bool:
    """Return whether a decision is as expected: `none`, `any`, a value, `1GiB ~5%`, `1GiB..2GiB`, `< 1GiB` or `>= 1GiB`."""
    if expected in ("none", "any"):
        return (value is None) is (expected == "none")
    if not isinstance(expected, str):
        return bool(value == expected)
    number = lambda text: sized(text.strip(), DECLARED.controls[control].unit)  # noqa: E731  # short for the lines below
    if value is None:
        return False
    if expected.startswith("< "):
        return bool(value < number(expected[2:]))
    if expected.startswith(">= "):
        return bool(value >= number(expected[3:]))
    if ".." in expected:
        low, high = expected.split("..")
        return bool(number(low) <= value <= number(high))
    middle, _, spread = expected.partition("~")
    span = number(middle) * float(spread[:-1]) / 100 if spread.endswith("%") else number(spread) if spread else 0
    return bool(abs(value - number(middle)) <= span)


def sized(value: Any, unit: Unit) -> Any:
    if isinstance(value, str) and SIZE.fullmatch(value):
        return parse_size(value) / (1024 if unit is Unit.KIB else 1)
    return value


def cases_in(name: str) -> Iterator[Case]:
    """Yield the cases of a file. Fields of a case override those of the file."""
    document = yaml.safe_load((FOLDER / name).read_text())
    for test in document["tests"]:
        given = merged(document.get("given", {}), test.get("given", {}))
        guests = {guest: fields for guest, fields in given.get("guests", {}).items() if fields is not None}
        host = measured(given.get("host", {}), "host", DECLARED)
        taken = snapshot(host=host, guests={guest: measured(fields, "guest", DECLARED) for guest, fields in guests.items()})
        texts = dict(texts_of(test.get("policies", document.get("policies", []))))
        yield Case(test["name"], texts, DECLARED.derived(taken), given.get("remembered", {}), test["expect"])


def texts_of(policies: Any) -> Iterator[tuple[str, str]]:
    for policy in policies if isinstance(policies, list) else [policies]:
        if isinstance(policy, dict):
            yield from policy.items()
        elif policy.startswith("default:"):
            yield policy[8:], DECLARED.policies[policy[8:]]
        else:
            path = FOLDER / policy if (FOLDER / policy).exists() else EXAMPLES / policy
            for file in sorted(path.glob("*.policy")) if path.is_dir() else [path]:
                yield file.name.removesuffix(".policy"), file.read_text()


def measured(fields: Mapping[str, Any], scope: str, declared: Declarations) -> dict[str, Any]:
    specs = {name: spec for (of, name), spec in declared.fields.items() if of == scope}
    return {name: int(size) if (size := sized(value, specs[name].unit)) != value else value for name, value in fields.items()}


def merged(base: Any, more: Any) -> Any:
    """Merge nested mappings. Other values of the second mapping replace those of the first."""
    if not (isinstance(base, dict) and isinstance(more, dict)):
        return more
    return {**base, **{key: merged(base[key], value) if key in base else value for key, value in more.items()}}
