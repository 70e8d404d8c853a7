"""Plugin `policy`: reads policies and defaults, and evaluates them in each cycle, also policies on trial."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from pydantic import Field

from mom_core import (
    Condition,
    ConfigError,
    Decision,
    Declarations,
    ExistingFile,
    Finding,
    PluginContext,
    PluginSettings,
    Problem,
    Scope,
    Severity,
    Snapshot,
    Source,
    Suggestion,
    hookimpl,
    printable,
)
from mom_kvm import PolicyProblem, PolicyState, PolicyTexts
from mom_plugins_policy.changes import DEFAULT, OVERLAY, ChangingPolicies, Read
from mom_plugins_policy.language.errors import Fault, PolicyError
from mom_plugins_policy.language.policy import Policy, Result
from mom_plugins_policy.notes import NoteStore
from mom_plugins_policy.sources import files_refused, read_policies

USUAL_FOLDER: Final = Path("/etc/mom/policy.d")
"""Folder that `mom config init` configures; it may be absent."""

_LOGGED: Final = 10  # most remarks of the checks to log at load
_CHANGES: Final = "changes.json"
_EVALUATION, _TRIAL = 0.4, 0.2  # time limits as parts of the deadline, so that mom can report the slow policy


_SHOWN: Final = 5  # errors of one evaluation


class Shadow:
    """Trial of a folder's policies. In the trial, each replaces the policy in force with the same name.

    :param seconds: time limit of an evaluation
    """

    def __init__(self, folder: Path, context: PluginContext, seconds: float) -> None:
        self.notes = NoteStore(context, "shadow-notes.json", "policies on trial")
        self._folder = folder
        self._context = context
        self._seconds = seconds
        self._texts: Mapping[str, str] = {}
        self._policy: Policy | None = None
        self._beside = ""
        self._trouble: Sequence[Problem] = ()

    def read(self) -> Callable[[], None]:
        """Read the folder; return a function that activates its policies. Raise `ConfigError` if a policy is invalid."""
        policies = read_policies(self._folder, None).usable()

        def commit() -> None:
            self._texts, self._beside = policies.texts, ""

        return commit

    def evaluate(self, snapshot: Snapshot, history: Sequence[Snapshot], in_force: PolicyState) -> list[Decision.Trial | Problem]:
        """Evaluate the policies on trial; return their decisions and errors."""
        if self._beside != in_force.version:
            self._compile(in_force)
        if self._policy is None:
            return [*self._trouble]
        result = self._policy.evaluate_with(self.notes, snapshot, history, self._seconds)
        report: list[Decision.Trial | Problem] = [Decision.Trial(result.decisions)]
        for fault in result.errors[:_SHOWN]:
            source = fault.source._replace(name=f"shadow {fault.source.name}")
            report.append(Problem(source, f"{fault.kind}: {fault.message}", fault.entity, Severity.WARNING))
        return report

    def _compile(self, in_force: PolicyState) -> None:
        self._beside, self._trouble = in_force.version, ()
        texts = {**{name: policy.text for name, policy in in_force.texts.items()}, **self._texts}
        try:
            self._policy = Policy.compile(texts, self._context.declarations)
        except PolicyError as error:
            self._policy = None
            message = f"the shadow policies cannot be used: {printable(str(error.problems[0]), 300)}"
            hint = f"`mom policy check {self._folder}`"
            self._trouble = [Problem(Source(self._context.name), message, severity=Severity.WARNING, hint=hint)]
            self._context.log.error("%s", message)


class PolicyPlugin:
    """Evaluator of policies in the MOM policy language."""

    class Settings(PluginSettings):
        """Location of the policies, and what clients may do with them."""

        directory: Path | None = None
        """Folder of policies. mom uses its *.policy files in name order. The folder may be empty."""
        file: ExistingFile | None = None
        """File with a single policy, which replaces all default policies. The policy's name is 50_main_."""
        defaults: bool | None = None
        """Use the plugins' default policies. Your policy replaces the default policy of the same name. Unset: yes, unless `file` is set."""
        keep_changes: bool = False
        """Save the policies that a client, for example vdsm, sets while mom is running. They then survive a restart of mom and a change of
        these settings."""
        ignore: list[str] = Field(default_factory=list)
        """Controls for which mom ignores the policies' decisions. Use this to disable parts of policies that you cannot edit."""
        shadow: Path | None = None
        """Folder of policies on trial, which replace policies of the same name in a second evaluation. mom only reports the result of this
        evaluation."""

        @property
        def wants_defaults(self) -> bool:
            """Whether to use default policies."""
            return self.file is None if self.defaults is None else self.defaults

    def __init__(self, settings: Settings, context: PluginContext) -> None:
        self._settings = settings
        self._context = context
        # A command may run beside mom, and must not touch mom's file.
        keeps = settings.keep_changes and context.serves
        self._is_in_force = False
        self._not_read: tuple[Problem, ...] = ()
        self._refused: tuple[Problem, ...] = ()
        self._notes = NoteStore(context)
        lost = "only the policies of files and defaults are in force"
        kept = context.state_file(_CHANGES, "the file of policies that were set while mom was running", OVERLAY, mode=0o600, loss=lost)
        self._policies = ChangingPolicies(context, self._read, kept if keeps else None, self._changed, self._notes)
        self._shadow = None if settings.shadow is None else Shadow(settings.shadow, context, _TRIAL * settings.deadline)

    @staticmethod
    @hookimpl
    def mom_suggest(root: Path) -> Suggestion | None:
        return Suggestion("it decides with the plugins' default policies and your own", {"directory": str(USUAL_FOLDER)}, order=60)

    @hookimpl
    def mom_setup(self) -> None:
        """Compile all policies. Invalid policies prevent a start."""
        self._policies.load()
        self._say()
        self._notes.load()
        if self._shadow is not None:
            self._shadow.read()()
            self._shadow.notes.load()

    @hookimpl
    def mom_teardown(self) -> None:
        self._policies.close()
        if self._is_in_force:  # after a rejected reload, the file belongs to another plugin
            self._policies.keep_again()

    @hookimpl
    def mom_services(self) -> Mapping[type, Any]:
        return {PolicyTexts: self._policies}

    @hookimpl
    def mom_reload(self) -> Callable[[], None]:
        with self._refusing():
            put_in_force = self._policies.prepare()
            use_shadow = None if self._shadow is None else self._shadow.read()

        def commit() -> None:
            with self._refusing():  # a client may have set a policy that does not fit the files
                put_in_force()
            if use_shadow is not None:
                use_shadow()
            self._refused = ()
            self._say()

        return commit

    @contextlib.contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            yield
        except ConfigError as error:
            self._refused = (files_refused(self._context.name, error),)
            raise

    @hookimpl
    def mom_evaluate(self, snapshot: Snapshot, history: Sequence[Snapshot]) -> Iterable[Decision | Decision.Trial | Problem]:
        self._keep()
        policy = self._policies.policy
        if policy is None:
            return self._not_read
        result = policy.evaluate_with(self._notes, snapshot, history, _EVALUATION * self._settings.deadline)
        self._policies.newest = result
        decisions = [decision for decision in result.decisions if decision.control not in self._settings.ignore]
        trial = [] if self._shadow is None else self._shadow.evaluate(snapshot, history, self._policies.state())
        return [*(_problem(fault, result) for fault in result.errors), *self._not_read, *self._refused, *trial, *decisions]

    @hookimpl
    def mom_problems(self) -> Iterable[Condition]:
        policy = self._policies.policy
        if policy is not None and policy.program.forms:
            return []
        return [Condition("policies", "no policy decides", self._none(), _WRITE_SOME, Severity.WARNING)]

    def _keep(self) -> None:
        if self._is_in_force:
            self._policies.keep_again()
            return
        self._is_in_force = True
        self._policies.keep_first()
        if not self._settings.keep_changes and self._context.serves:
            with contextlib.suppress(OSError):  # changes stored before the setting was disabled must not return later
                (self._context.state_directory / self._context.name / _CHANGES).unlink()

    @hookimpl
    def mom_check(self) -> Iterable[Finding]:
        try:
            policy = self._policies.check_files()
            if self._shadow is not None:
                self._shadow.read()
            remarks = self._policies.checked(policy) if self._context.declarations.fields else ()
            wrong = [Finding(Severity(remark.severity), "policies", _text_of(remark), remark.hint) for remark in remarks]
            if not (policy.program.forms or self._not_read):
                wrong.append(Finding(Severity.WARNING, "policies", f"no policy decides: {self._none()}", _WRITE_SOME))
        except ConfigError as error:
            wrong = [Finding(Severity.ERROR, "policies", str(replace(problem, hint="")), problem.hint) for problem in error.problems]
        return [*wrong, *(Finding(Severity.WARNING, "policies", item.message, item.hint) for item in self._not_read)]

    def _read(self) -> Read:
        settings = self._settings
        own = read_policies(settings.directory, settings.file)
        declared = self._context.declarations
        texts, left_out = self._usable_defaults(own.texts, declared) if settings.wants_defaults else ({}, [])
        self._not_read = (*self._absent_folders(), *left_out)
        texts.update({name: PolicyState.Text(text, own.files[name]) for name, text in own.texts.items()})
        return Read(texts, declared, own.problems)

    def _absent_folders(self) -> Iterator[Problem]:
        for folder, setting in ((self._settings.directory, "directory"), (self._settings.shadow, "shadow")):
            if folder is not None and folder != USUAL_FOLDER and not folder.is_dir():
                message, hint = f"no policies are read from {folder}: it is no folder", f"create the folder, or change `{setting}`"
                yield Problem(Source(self._context.name), printable(message, 400), severity=Severity.WARNING, hint=hint)

    def _usable_defaults(self, own: Mapping[str, str], declared: Declarations) -> tuple[dict[str, PolicyState.Text], list[Problem]]:
        # A default policy that reads undeclared fields would stop all policies.
        usable: dict[str, PolicyState.Text] = {}
        left_out: list[Problem] = []
        for name, text in declared.policies.items():
            if name in own:
                continue
            undeclared: Collection[tuple[Scope, str]] = ()
            with contextlib.suppress(PolicyError):  # compiling all policies together reports the error
                undeclared = Policy.compile({name: text}, declared).undeclared
            if undeclared:
                names = ", ".join(f"{scope}.{field}" for scope, field in sorted(undeclared))
                message = f"the default policy {name} is not used: no plugin declares {names}"
                advice = "enable the plugins that collect them"
                left_out.append(Problem(Source(self._context.name), message, severity=Severity.WARNING, hint=advice))
            else:
                usable[name] = PolicyState.Text(text, DEFAULT)
        return usable, left_out

    def _none(self) -> str:
        folder = self._settings.directory
        if folder is None:
            return "no file or folder of policies is configured, and no default policy is used"
        return f"{folder} {'contains no file *.policy' if folder.is_dir() else 'is missing'}"

    def _changed(self) -> None:
        self._say()
        self._context.wake("the policies have changed")

    def _say(self) -> None:
        policy, texts, log = self._policies.policy, self._policies.state().texts, self._context.log
        if texts:
            log.info("policies: %s", ", ".join(f"{name} ({text.origin})" for name, text in texts.items()))
        else:
            log.warning("no policy decides: %s", self._none())
        if policy is None or not self._context.serves:  # commands such as mom doctor report remarks themselves
            return
        remarks = sorted(self._policies.checked(policy), key=lambda remark: remark.severity)  # errors first
        for remark in remarks[:_LOGGED]:
            level = logging.ERROR if remark.severity == Severity.ERROR else logging.WARNING
            log.log(level, "%s", printable(f"{_text_of(remark)} ({remark.hint})" if remark.hint else _text_of(remark), 1200))
        if len(remarks) > _LOGGED:
            log.warning("the policies have %d more mistakes: `mom policy check` shows those in files", len(remarks) - _LOGGED)


def _text_of(remark: PolicyProblem) -> str:
    return f"{printable(str(remark.source), 400)}: {remark.message} [{remark.kind}]"


_WRITE_SOME: Final = "enable plugins with default policies, such as balloon and ksm, without `defaults: false`; or write your own policies"


def _problem(fault: Fault, result: Result) -> Problem:
    unknown = [value.removesuffix(" is nil") for value in fault.values if value.endswith(" is nil")]
    if fault.entity is not None and unknown and fault.kind == "type":
        verb = "is" if len(unknown) == 1 else "are"
        hint = "test the field with (valid …) first; then the policy can decide the rest"
        message = f"left out by {fault.source.name}, because {', '.join(unknown)} {verb} unknown"
        return Problem(fault.source, message, fault.entity, Severity.WARNING, hint)
    # Values change in each cycle. In the hint, unlike in the message, a change does not count as a new problem.
    hints = [", ".join(fault.values)] if fault.values else []
    if fault.entity is None:
        hints.append(f"the evaluation ends here; {len(result.decisions)} decisions for guests remain, decisions for the host are lost")
    return Problem(fault.source, f"{fault.kind}: {fault.message}", fault.entity, hint="; ".join(hints))
