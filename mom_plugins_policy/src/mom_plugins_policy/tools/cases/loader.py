"""Tests from YAML. Everything that is wrong with the shape of a file is told at once, with file, line and column; then all else."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mom_core import (
    HOST_ID,
    ConfigError,
    ConfigProblem,
    ControlSpec,
    Declarations,
    Document,
    FieldSpec,
    Scope,
    Snapshot,
    Unit,
    UnitError,
    parse_document,
    parse_size,
    settings_in,
)
from mom_plugins_policy.language.errors import PolicyError
from mom_plugins_policy.language.limits import DEFAULT_LIMITS, PolicyLimits
from mom_plugins_policy.language.policy import Policy
from mom_plugins_policy.sources import Texts, read_paths, text_of
from mom_plugins_policy.tools.cases.expected import IN_BYTES, SIZE, Expected, expected_value
from mom_plugins_policy.tools.cases.forms import CaseForm, CasesForm, ExpectForm, GivenForm
from mom_plugins_policy.tools.excerpts import told
from mom_plugins_policy.tools.snapshots import SnapshotForm, did_you_mean, read_form

LONGEST: Final = 1 << 20
"""Bytes of a file of tests."""

PARAMETERS: Final = "00_parameters"
"""The policy that a test's parameters become. It stands before those of files and plugins, so that their defaults give way to it."""

Way = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class PolicyTest:
    """One test: what is given, notes by the entity's id; and what is expected, decisions by `host` or guest name, then by control."""

    name: str
    file: str
    line: int
    column: int
    policy: Policy
    taken: Snapshot
    remembered: Mapping[str, Mapping[str, Any]]
    decisions: Mapping[str, Mapping[str, Expected]]
    expect: ExpectForm


def read_cases(path: Path, declarations: Declarations, limits: PolicyLimits = DEFAULT_LIMITS) -> list[PolicyTest]:
    """The tests in a YAML file, their policies compiled.

    :param declarations: what the plugins declare: fields, controls and default policies
    :raises ConfigError: with all that is wrong, in the file or in the policies that it names
    """
    text = text_of(path, LONGEST, "tests are YAML files")
    return cases_of(text.removeprefix("\ufeff"), str(path), path.parent, declarations, limits)


def cases_of(text: str, file: str, folder: Path, declarations: Declarations, limits: PolicyLimits = DEFAULT_LIMITS) -> list[PolicyTest]:
    """The tests in a text. `folder` is where relative names of files begin; otherwise as `read_cases`."""
    document = parse_document(text, file)
    form = settings_in(document, CasesForm, file)
    cases = _Reader(document, form, folder, declarations, limits).cases()
    if document.problems:
        raise ConfigError(sorted(dict.fromkeys(document.problems)))
    return cases


class _Reader:
    """Makes tests of one document, noting everything that is wrong with it."""

    def __init__(self, document: Document, form: CasesForm, folder: Path, declarations: Declarations, limits: PolicyLimits) -> None:
        self._document = document
        self._complain = document.complain
        self._form = form
        self._folder = folder
        self._limits = limits
        fields, controls, declared = dict(declarations.fields), dict(declarations.controls), form.declare
        for name in declared.controls:
            controls.setdefault(name, ControlSpec(name, Unit.RATIO, Scope.GUEST, "declared by tests", name))
        for scope, names in ((Scope.HOST, declared.host), (Scope.GUEST, declared.guests)):
            for name in names:
                fields.setdefault((scope, name), FieldSpec(name, Unit.RATIO, scope, "declared by tests"))
        self._declarations = dataclasses.replace(declarations, fields=fields, controls=controls)

    def cases(self) -> list[PolicyTest]:
        """All tests; fewer where anything is wrong."""
        form, earlier = self._form, set[str]()
        if not form.tests:
            self._complain(("tests",), "there are no tests")
        found = self._policies(form.policies, ("policies",))
        given = self._part(form.given, ("given",))
        cases: list[PolicyTest] = []
        for number, test in enumerate(form.tests):
            if test.name in earlier:
                self._complain(("tests", number, "name"), "an earlier test has this name, too")
            earlier.add(test.name)
            cases += self._case(test, ("tests", number), found, given)
        return cases

    def _case(self, test: CaseForm, way: Way, found: Texts, given: Mapping[str, Any]) -> Iterator[PolicyTest]:
        root: Way = ("policies",)
        if test.policies is not None:
            root = (*way, "policies")
            found = self._policies(test.policies, root)
        policy = self._compiled(found, {**self._form.parameters, **test.parameters}, root)
        if test.given.snapshot is not None:
            given = {"remembered": given.get("remembered", {})}
        merged = _merged(given, self._part(test.given, (*way, "given")))
        taken = self._snapshot(merged, (*way, "given"))
        if taken is None or policy is None:
            return
        expect, at = test.expect, (*way, "expect")
        ids = {HOST_ID: HOST_ID, **{guest.name: guest.id for guest in taken.guests.values()}}
        for number, error in enumerate(expect.errors or ()):
            if error.guest is not None and error.guest not in ids:
                self._complain((*at, "errors", number, "guest"), "no such guest is given", did_you_mean(error.guest, ids))
        list(self._known(expect.remembered or {}, ids, (*at, "remembered")))
        remembered = {ids[who]: notes for who, notes in self._known(merged.get("remembered", {}), ids, (*way, "given", "remembered"))}
        decided: Way = (*at, "decisions")
        decisions = {who: self._expected(one, (*decided, who)) for who, one in self._known(expect.decisions, ids, decided)}
        yield PolicyTest(test.name, self._document.file, *self._document.place(way), policy, taken, remembered, decisions, expect)

    # --- policies ---

    def _policies(self, listed: Sequence[str | dict[str, str]], way: Way) -> Texts:
        found = Texts()
        for item in listed:
            some = Texts()
            if isinstance(item, dict):
                some.texts = item
            elif item == "default" or item.startswith("default:"):
                some.texts = self._defaults(item.partition(":")[2], way)
            else:
                some = read_paths([self._folder / item], 4 * self._limits.text)
                for one in some.problems:
                    self._document.note(self._document.place(way), str(one))
            for name in found.texts.keys() & some.texts.keys():
                if found.texts[name] != self._declarations.policies.get(name):
                    self._complain(way, f"there is a policy named {name} already")
            found.texts.update(some.texts)
            found.files.update(some.files)
        return found

    def _defaults(self, name: str, way: Way) -> dict[str, str]:
        defaults = self._declarations.policies
        if name and name not in defaults:
            hint = did_you_mean(name, defaults) or f"there are {', '.join(defaults)}"
            self._complain(way, f"no plugin brings a policy named {name}", hint)
        return {each: text for each, text in defaults.items() if each == (name or each)}

    def _compiled(self, found: Texts, parameters: Mapping[str, str], way: Way) -> Policy | None:
        texts = dict(found.texts)
        if parameters:
            texts[PARAMETERS] = "".join(f"(defvar {name} {value})\n" for name, value in parameters.items())
        try:
            return Policy.compile(texts, self._declarations, self._limits)
        except PolicyError as error:
            for fault in error.faults:
                message = f"{fault.kind}: {fault.message}"
                if fault.name in found.files:
                    self._document.problems.append(ConfigProblem(found.files[fault.name], fault.line, fault.column, message))
                else:
                    self._document.note(self._document.place(way), f"policy {told(fault.source, message, texts, {})}")
            return None

    # --- what is given ---

    def _part(self, form: GivenForm, way: Way) -> dict[str, Any]:
        """The given of the file or a test, sizes as numbers in the unit of their field."""
        given = form.model_dump(exclude_unset=True, exclude={"snapshot"})
        for sample, at in ((given, way), *((one, (*way, "history", number)) for number, one in enumerate(given.get("history", ())))):
            self._measure(sample.get("host", {}), Scope.HOST, (*at, "host"))
            for name, fields in sample.get("guests", {}).items():
                self._measure(fields or {}, Scope.GUEST, (*at, "guests", name))
        if form.snapshot is None:
            return given
        try:
            return _merged(read_form(self._folder / form.snapshot).model_dump(exclude_unset=True), given)
        except ConfigError as error:
            for problem in error.problems:
                self._complain((*way, "snapshot"), str(problem))
            return given

    def _measure(self, fields: dict[str, Any], scope: Scope, way: Way) -> None:
        for name, value in fields.items():
            spec = self._declarations.fields.get((scope, name))
            if spec is None:  # a typing mistake would make a test that tests nothing
                known = [each for of, each in self._declarations.fields if of is scope]
                hint = did_you_mean(name, known) or "name it below `declare:` if it is a field of a plugin that is not installed"
                whose = "the host" if scope is Scope.HOST else "guests"
                self._complain((*way, name), f"no plugin declares this field of {whose}", hint, at_key=True)
            else:
                fields[name] = _sized(value, spec)

    def _snapshot(self, merged: dict[str, Any], way: Way) -> Snapshot | None:
        gone = {name for name, fields in merged.get("guests", {}).items() if fields is None}
        properties = {name: given for name, given in merged.get("properties", {}).items() if name not in gone}
        form = SnapshotForm.model_validate({**{key: part for key, part in merged.items() if key != "remembered"}, "properties": properties})
        wrong = list(form.misplaced())
        for at, message in wrong:
            self._complain((*way, *at), message)
        return None if wrong else self._declarations.derived(form.made())

    # --- what is expected ---

    def _known(self, by_name: Mapping[str, Any], ids: Mapping[str, str], way: Way) -> Iterator[tuple[str, Any]]:
        """The items of which the name is `host` or a guest's."""
        for name, item in by_name.items():
            if name in ids:
                yield name, item
            else:
                self._complain((*way, name), "no such guest is given", did_you_mean(name, ids), at_key=True)

    def _expected(self, controls: Mapping[str, object], way: Way) -> dict[str, Expected]:
        found: dict[str, Expected] = {}
        for control, written in controls.items():
            spec = self._declarations.controls.get(control)
            if spec is None:
                hint = did_you_mean(control, self._declarations.controls) or "name it below `declare: {controls: […]}`"
                self._complain((*way, control), "no plugin declares this control", hint, at_key=True)
                continue
            try:
                found[control] = expected_value(written, spec.unit)
            except ValueError as error:
                self._complain((*way, control), str(error))
        return found


def _merged(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings inside of each other put together; where both have something else, the second one's counts. Lists are not joined."""
    made = dict(base)
    for key, value in own.items():
        there = made.get(key)
        made[key] = _merged(there, value) if isinstance(there, Mapping) and isinstance(value, Mapping) else value
    return made


def _sized(value: object, spec: FieldSpec) -> object:
    if spec.unit not in IN_BYTES or not isinstance(value, str) or not SIZE.fullmatch(value.strip()):
        return value
    try:
        size = parse_size(value)
    except UnitError:
        return value
    unit = IN_BYTES[spec.unit]
    return size // unit if size % unit == 0 else size / unit
