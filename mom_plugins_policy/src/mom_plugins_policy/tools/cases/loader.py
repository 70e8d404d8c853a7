"""Tests from YAML. Everything that is wrong with a file is told at once, with file, line and column."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
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
    printable,
)
from mom_plugins_policy.language.errors import Fault, PolicyError
from mom_plugins_policy.language.limits import DEFAULT_LIMITS, PolicyLimits
from mom_plugins_policy.language.policy import Policy
from mom_plugins_policy.language.syntax import written_string
from mom_plugins_policy.sources import read_paths, text_of
from mom_plugins_policy.tools.cases.expected import IN_BYTES, SIZE, Expected, expected_value
from mom_plugins_policy.tools.cases.form import DeclareForm, ErrorForm, ExpectForm, FileForm, GivenForm, TestForm, filled
from mom_plugins_policy.tools.cases.model import ExpectedError, PolicyTest
from mom_plugins_policy.tools.excerpts import excerpt
from mom_plugins_policy.tools.snapshots import Check, as_json, called, checked_snapshot, did_you_mean, read_snapshot

LONGEST: Final = 1 << 20
"""Bytes of a file of tests."""

PARAMETERS: Final = "00_parameters"
"""The policy that a test's parameters become. It stands before those of files and plugins, so that their defaults give way to it."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*", re.ASCII)


def read_cases(path: Path, declarations: Declarations, limits: PolicyLimits = DEFAULT_LIMITS) -> list[PolicyTest]:
    """The tests in a YAML file, their policies compiled.

    :param declarations: what the plugins declare: fields, controls and default policies
    :raises ConfigError: with all that is wrong, in the file or in the policies that it names
    """
    problems: list[ConfigProblem] = []
    text = text_of(path, problems, LONGEST, "tests are YAML files")
    if text is None:
        raise ConfigError(problems)
    return cases_of(text.removeprefix("\ufeff"), str(path), path.parent, declarations, limits)


def cases_of(text: str, file: str, folder: Path, declarations: Declarations, limits: PolicyLimits = DEFAULT_LIMITS) -> list[PolicyTest]:
    """The tests in a text. `folder` is where relative names of files begin; otherwise as `read_cases`."""
    document = parse_document(text, file)
    reader = _Reader(document, folder, declarations, limits)
    cases = reader.cases()
    problems = [*document.problems, *reader.problems]
    if problems:
        raise ConfigError(sorted(dict.fromkeys(problems)))
    return cases


class _Placed(Check):
    """Complains at the place in the document; what a test inherits, at the place that it inherits it from."""

    def __init__(self, document: Document, *roots: tuple[str | int, ...]) -> None:
        super().__init__(document.file, document.problems)
        self._document = document
        self._roots = roots

    def complain(self, way: Sequence[str | int], message: str, hint: str = "", *, at_key: bool = False) -> None:
        """Note a problem at the first root that has the value."""
        paths = [(*root, *way) for root in self._roots]
        known = [path for path in paths if path in self._document.values or path in self._document.keys]
        self._document.complain(tuple((known or paths)[0]), message, hint, at_key=at_key or not known)


class _Reader:
    """Reads one document, noting everything that is wrong with it."""

    def __init__(self, document: Document, folder: Path, declarations: Declarations, limits: PolicyLimits) -> None:
        self.document = document
        self.folder = folder
        self.declarations = declarations
        self.limits = limits
        self.problems: list[ConfigProblem] = []
        self._compiled: dict[tuple[tuple[str, str], ...], Policy | None] = {}
        self._texts: dict[tuple[str | int, ...], tuple[dict[str, str], dict[str, str]]] = {}
        self._snapshots: dict[Path, dict[str, Any]] = {}

    def cases(self) -> list[PolicyTest]:
        """All tests."""
        top = self.document.value
        if top is None or (isinstance(top, Mapping) and not top.get("tests")):
            self.document.complain((), "has no tests", "write them below `tests:`, as a list")
            return []
        whole = filled(FileForm, top, _Placed(self.document, ()))
        if whole.declare is not None:
            self._declare(filled(DeclareForm, whole.declare, _Placed(self.document, ("declare",))))
        tests = [filled(TestForm, test, _Placed(self.document, ("tests", number))) for number, test in enumerate(whole.tests)]
        self._names(tests)
        cases = [self._case(whole, test, number) for number, test in enumerate(tests)]
        return [case for case in cases if case is not None]

    def _declare(self, declared: DeclareForm) -> None:
        fields, controls = dict(self.declarations.fields), dict(self.declarations.controls)
        for name in declared.controls:
            controls.setdefault(name, ControlSpec(name, Unit.RATIO, Scope.GUEST, "declared by tests", name))
        for scope, names in ((Scope.HOST, declared.host), (Scope.GUEST, declared.guests)):
            for name in names:
                fields.setdefault((scope, name), FieldSpec(name, Unit.RATIO, scope, "declared by tests"))
        self.declarations = dataclasses.replace(self.declarations, fields=fields, controls=controls)

    def _names(self, tests: Sequence[TestForm]) -> None:
        earlier: set[str] = set()
        for number, test in enumerate(tests):
            check = _Placed(self.document, ("tests", number))
            if not isinstance(test.name, str) or not test.name.strip():
                check.complain(("name",), "a test needs a name that says what is so")
            elif test.name in earlier:
                check.complain(("name",), "an earlier test has this name, too")
            else:
                earlier.add(test.name)

    def _case(self, whole: FileForm, test: TestForm, number: int) -> PolicyTest | None:
        way: tuple[str | int, ...] = ("tests", number)
        policy = self._policy(whole, test, way)
        taken, remembered = self._given(whole.given, test.given, way)
        expect = _Placed(self.document, (*way, "expect"))
        wanted = ExpectForm()
        if "expect" in test.model_fields_set:
            wanted = filled(ExpectForm, test.expect, expect)
        else:
            self.document.complain(way, "expects nothing", "write `expect:` with `decisions:`, an empty mapping if there are to be none")
        if taken is None or policy is None:
            return None
        place = self.document.place(way)
        return PolicyTest(
            test.name,
            self.document.file,
            place.line,
            place.column,
            policy,
            taken,
            remembered,
            self._decisions(wanted.decisions, taken, expect),
            wanted.others == "any",
            self._errors(wanted.errors, taken, expect),
            self._notes(wanted.remembered, taken, expect) if "remembered" in wanted.model_fields_set else None,
        )

    # --- policies ---

    def _policy(self, whole: FileForm, test: TestForm, way: tuple[str | int, ...]) -> Policy | None:
        own = "policies" in test.model_fields_set
        listed = test.policies if own else whole.policies
        root = (*way, "policies") if own else ("policies",)
        texts, files = self._read_policies(listed, root)
        parameters = self._parameters(whole.parameters, ("parameters",)) | self._parameters(test.parameters, (*way, "parameters"))
        if parameters:
            texts = {**texts, PARAMETERS: "".join(f"(defvar {name} {value})\n" for name, value in parameters.items())}
        key = tuple(sorted(texts.items()))
        if key not in self._compiled:
            try:
                self._compiled[key] = Policy.compile(texts, self.declarations, self.limits)
            except PolicyError as error:
                self._compiled[key] = None
                for fault in error.faults:
                    self._policy_problem(fault, texts, files, root)
        return self._compiled[key]

    def _policy_problem(self, fault: Fault, texts: Mapping[str, str], files: Mapping[str, str], root: tuple[str | int, ...]) -> None:
        message = f"{fault.kind}: {fault.message}"
        if fault.name in files:
            self.problems.append(ConfigProblem(files[fault.name], fault.line, fault.column, message))
            return
        shown = excerpt(texts.get(fault.name, ""), fault.line, fault.column)
        place = f"{printable(fault.name)}:{fault.line}:{fault.column}"
        self.problems.append(
            ConfigProblem(self.document.file, *self.document.place(root), f"policy {place}: {message}" + (f"\n{shown}" if shown else ""))
        )

    def _read_policies(self, listed: object, root: tuple[str | int, ...]) -> tuple[dict[str, str], dict[str, str]]:
        if root in self._texts:
            return self._texts[root]
        check = _Placed(self.document, root)
        texts: dict[str, str] = {}
        files: dict[str, str] = {}
        several = listed if isinstance(listed, list) else [listed]
        for number, item in enumerate(several):
            way = (number,) if isinstance(listed, list) else ()
            if isinstance(item, Mapping):
                for name, text in item.items():
                    if isinstance(text, str):
                        self._add(texts, name, text, check, (*way, name))
                    else:
                        check.complain((*way, name), f"must be the text of a policy, not {called(text)}")
            elif isinstance(item, str) and (item == "default" or item.startswith("default:")):
                self._add_defaults(texts, item.partition(":")[2], check, way)
            elif isinstance(item, str) and item:
                found = read_paths([self.folder / item], 4 * self.limits.text)
                for problem in found.problems:
                    place = self.document.place((*root, *way))
                    self.problems.append(ConfigProblem(self.document.file, *place, str(problem)))
                for name, text in found.texts.items():
                    self._add(texts, name, text, check, way)
                files.update(found.files)
            else:
                check.complain(way, f"must be `default`, a file, a folder, or a mapping of a name to a text, not {called(item)}")
        self._texts[root] = texts, files
        return texts, files

    def _add_defaults(self, texts: dict[str, str], name: str, check: Check, way: tuple[str | int, ...]) -> None:
        defaults = self.declarations.policies
        if name and name not in defaults:
            check.complain(
                way, f"no plugin brings a policy named {name}", did_you_mean(name, defaults) or f"there are {', '.join(defaults)}"
            )
            return
        for each in [name] if name else defaults:
            texts.setdefault(each, defaults[each])

    @staticmethod
    def _add(texts: dict[str, str], name: str, text: str, check: Check, way: tuple[str | int, ...]) -> None:
        if name in texts:
            check.complain(way, f"there is a policy named {name} already", "")
        else:
            texts[name] = text

    def _parameters(self, value: object, root: tuple[str | int, ...]) -> dict[str, str]:
        if value is None:
            return {}
        check = _Placed(self.document, root)
        found: dict[str, str] = {}
        for name, given in check.mapping(value, (), "variables to values").items():
            if not _NAME.fullmatch(name) or name == "nil":
                check.complain((name,), "is no name of a variable", at_key=True)
            elif given is None:
                found[name] = "nil"
            elif isinstance(given, bool):
                found[name] = str(int(given))
            elif isinstance(given, int):
                found[name] = str(given) if given.bit_length() <= self.limits.integer_bits else "0"
            elif isinstance(given, float) and math.isfinite(given):
                found[name] = repr(given)
            elif isinstance(given, str) and written_string(given)[1:-1] == given:
                found[name] = written_string(given)
            else:
                check.complain((name,), f"must be a number, true, false, null or a text without both kinds of quotes, not {called(given)}")
        return found

    # --- what is given ---

    def _given(self, base: object, own: object, way: tuple[str | int, ...]) -> tuple[Snapshot | None, dict[str, dict[str, Any]]]:
        check = _Placed(self.document, (*way, "given"), ("given",))
        merged: dict[str, Any] = {}
        remembered: dict[str, Any] = {}
        for value, root in ((base, ("given",)), (own, (*way, "given"))):
            if value is None:
                continue
            part = _Placed(self.document, root)
            form = filled(GivenForm, value, part)
            if form.snapshot is not None:
                merged = self._snapshot_file(form.snapshot, part)
            merged = _merged(merged, {key: getattr(form, key) for key in form.model_fields_set - {"snapshot", "remembered"}})
            remembered = _merged(remembered, form.remembered)
        guests = merged.get("guests")
        if isinstance(guests, Mapping):
            merged["guests"] = {name: fields for name, fields in guests.items() if fields is not None}
            properties = merged.get("properties")
            if isinstance(properties, Mapping):
                gone = {name for name, fields in guests.items() if fields is None}
                merged["properties"] = {name: inner for name, inner in properties.items() if name not in gone}
        self._known_fields(merged, check)
        taken = checked_snapshot(_without_sizes(merged, self.declarations), check)
        if taken is None:
            return None, {}
        taken = self.declarations.derived(taken)
        return taken, self._notes(remembered, taken, check, ("remembered",))

    def _snapshot_file(self, name: str, check: Check) -> dict[str, Any]:
        path = self.folder / name
        if path not in self._snapshots:
            try:
                self._snapshots[path] = read = as_json(read_snapshot(path))
                # It was made of the interval, and gives way to another one.
                read["interval"] = read["properties"][HOST_ID].pop("interval")
            except ConfigError as error:
                self._snapshots[path] = {}
                for problem in error.problems:
                    check.complain(("snapshot",), str(problem))
        return self._snapshots[path]

    def _known_fields(self, given: Mapping[str, Any], check: Check) -> None:
        """Complain about fields that no plugin declares: a typing mistake would make a test that tests nothing."""
        parts: list[tuple[tuple[str | int, ...], Mapping[str, Any]]] = [((), given)]
        history = given.get("history")
        if isinstance(history, list):
            parts += [(("history", number), sample) for number, sample in enumerate(history) if isinstance(sample, Mapping)]
        for way, part in parts:
            self._known(part.get("host"), Scope.HOST, (*way, "host"), check)
            guests = part.get("guests")
            for name, fields in guests.items() if isinstance(guests, Mapping) else ():
                self._known(fields, Scope.GUEST, (*way, "guests", name), check)

    def _known(self, fields: object, scope: Scope, way: tuple[str | int, ...], check: Check) -> None:
        for name in fields if isinstance(fields, Mapping) else ():
            if (scope, name) not in self.declarations.fields:
                known = [each for of, each in self.declarations.fields if of is scope]
                hint = did_you_mean(name, known) or "name it below `declare:` if it is a field of a plugin that is not installed"
                check.complain(
                    (*way, name), f"no plugin declares this field of {'the host' if scope is Scope.HOST else 'guests'}", hint, at_key=True
                )

    # --- what is expected ---

    def _whose(self, name: str, taken: Snapshot, check: Check, way: tuple[str | int, ...]) -> bool:
        names = [HOST_ID, *(guest.name for guest in taken.guests.values())]
        if name in names:
            return True
        check.complain((*way, name), "no such guest is given", did_you_mean(name, names), at_key=True)
        return False

    def _decisions(self, value: object, taken: Snapshot, check: Check) -> dict[str, dict[str, Expected]]:
        found: dict[str, dict[str, Expected]] = {}
        for name, controls in check.mapping({} if value is None else value, ("decisions",), "`host` or guest names to controls").items():
            if not self._whose(name, taken, check, ("decisions",)):
                continue
            found[name] = {}
            for control, written in check.mapping({} if controls is None else controls, ("decisions", name), "controls to values").items():
                spec = self.declarations.controls.get(control)
                way = ("decisions", name, control)
                if spec is None:
                    hint = did_you_mean(control, self.declarations.controls)
                    check.complain(way, "no plugin declares this control", hint or "name it below `declare: {controls: […]}`", at_key=True)
                    continue
                try:
                    found[name][control] = expected_value(written, spec.unit)
                except ValueError as error:
                    check.complain(way, str(error))
        return found

    def _errors(self, value: Sequence[object] | str | None, taken: Snapshot, check: Check) -> list[ExpectedError] | None:
        if value is None or isinstance(value, str):
            return None if value == "any" else []
        found = []
        for number, item in enumerate(value):
            way = ("errors", number)
            before = len(check.problems)
            form = filled(ErrorForm, {"kind": item} if isinstance(item, str) else item, check, way)
            if form.guest is not None:
                self._whose_guest(form.guest, taken, check, (*way, "guest"))
            if len(check.problems) == before:
                found.append(ExpectedError(form.kind, form.guest, form.policy, form.line, form.message or ""))
        return found

    @staticmethod
    def _whose_guest(name: str, taken: Snapshot, check: Check, way: tuple[str | int, ...]) -> None:
        names = [guest.name for guest in taken.guests.values()]
        if name not in names:
            check.complain(way, "no such guest is given", did_you_mean(name, names))

    def _notes(
        self, value: object, taken: Snapshot, check: Check, root: tuple[str | int, ...] = ("remembered",)
    ) -> dict[str, dict[str, Any]]:  # fmt: skip
        found: dict[str, dict[str, Any]] = {}
        identities = {guest.name: guest.id for guest in taken.guests.values()} | {HOST_ID: HOST_ID}
        for name, notes in check.mapping({} if value is None else value, root, "`host` or guest names to notes").items():
            if self._whose(name, taken, check, root):
                given = check.mapping(notes, (*root, name), "names to values")
                found[identities[name]] = {note: inner for note, inner in given.items() if check.plain(inner, (*root, name, note))}
        return found


def _merged(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings inside of each other put together; where both have something else, the second one's counts. Lists are not joined."""
    made = dict(base)
    for key, value in own.items():
        there = made.get(key)
        made[key] = _merged(there, value) if isinstance(there, Mapping) and isinstance(value, Mapping) else value
    return made


def _without_sizes(given: Mapping[str, Any], declarations: Declarations) -> dict[str, Any]:
    """What is given, with sizes such as 4GiB as numbers, in the unit of their field."""

    def fields(values: object, scope: Scope) -> object:
        if not isinstance(values, Mapping):
            return values
        return {name: _sized(value, declarations.fields.get((scope, name))) for name, value in values.items()}

    def sample(values: object) -> object:
        if not isinstance(values, Mapping):
            return values
        made = dict(values)
        if "host" in made:
            made["host"] = fields(made["host"], Scope.HOST)
        if isinstance(made.get("guests"), Mapping):
            made["guests"] = {name: fields(inner, Scope.GUEST) for name, inner in made["guests"].items()}
        return made

    made = sample(given)
    assert isinstance(made, dict)  # noqa: S101  # as what was given is a mapping
    if isinstance(made.get("history"), list):
        made["history"] = [sample(one) for one in made["history"]]
    return made


def _sized(value: object, spec: FieldSpec | None) -> object:
    if spec is None or spec.unit not in IN_BYTES or not isinstance(value, str) or not SIZE.fullmatch(value.strip()):
        return value
    try:
        size = parse_size(value)
    except UnitError:
        return value
    unit = IN_BYTES[spec.unit]
    return size // unit if size % unit == 0 else size / unit
