"""The plugin: reads the operator's policies and the defaults, and evaluates them each cycle."""

from __future__ import annotations

import contextlib
import logging
import re
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
    ShadowDecisions,
    Snapshot,
    Source,
    Suggestion,
    hookimpl,
    printable,
)
from mom_kvm import PolicyProblem, PolicyState, PolicyText, PolicyTexts, files_refused
from mom_plugins_policy.language.errors import Fault, PolicyError
from mom_plugins_policy.language.limits import PolicyLimits
from mom_plugins_policy.language.policy import Policy, Result
from mom_plugins_policy.rollout.in_force import DEFAULT, ChangingPolicies, Read, where_from
from mom_plugins_policy.rollout.notes import PolicyNotes
from mom_plugins_policy.rollout.shadow import Shadow
from mom_plugins_policy.rollout.versions import OVERLAY
from mom_plugins_policy.sources import read_policies

_NIL_FIELD = re.compile(r"[A-Za-z_][\w-]*\.([A-Za-z_]\w*) is nil")
"""Words of a fault about an operand that is an attribute, such as a guest's field."""

USUAL_FOLDER: Final = Path("/etc/mom/policy.d")
"""The folder that `mom config init` writes, also where there is no policy yet."""

_ERRORS = 30  # of the checks, that are logged when policies are loaded


_CHANGES: Final = "changes.json"


class PolicyPlugin:
    """Evaluates policies written in the MOM policy language."""

    class Settings(PluginSettings):
        """Where the policies are, and what they may use up."""

        directory: Path | None = None
        """A folder of which every *.policy is used, in the order of the file names. It may be empty."""
        file: ExistingFile | None = None
        """One policy, in place of the defaults. It gets the name 50_main_."""
        defaults: bool | None = None
        """Use the plugins' default policies where none of yours has the name: yes, unless `file` is given."""
        keep_changes: bool = False
        """Keep policies that were set while mom ran, as by vdsm, in force after a restart or a change of these settings."""
        refuse_failing: bool = True
        """Refuse policies that are certain to fail, as they call a function or set a variable that there is not, while mom
        runs, so that the ones from before stay in force. MOM takes them, and then decides nothing any more."""
        ignore: list[str] = Field(default_factory=list)
        """Controls that policies may set without effect, by name: how to switch a part of policies off that should not be edited."""
        shadow: Path | None = None
        """A folder of policies on trial. They are evaluated beside those in force, replacing the same names, and only reported."""
        limits: PolicyLimits = PolicyLimits()
        """Limits of the policies."""

        @property
        def wants_defaults(self) -> bool:
            """True if the defaults are used beside the operator's policies."""
            return self.file is None if self.defaults is None else self.defaults

    def __init__(self, settings: Settings, context: PluginContext) -> None:
        self._settings = settings
        self._context = context
        # Who only takes a look beside a running mom neither uses nor touches what that one keeps.
        keeps = settings.keep_changes and context.serves
        self._is_in_force = False
        self._not_read: tuple[Problem, ...] = ()
        self._refused: tuple[Problem, ...] = ()
        self._remarked: frozenset[PolicyProblem] = frozenset()
        self._notes = PolicyNotes(context)
        lost = "the policies are those of the files and defaults"
        kept = context.state_file(_CHANGES, "the file of policies that were set while mom ran", OVERLAY, mode=0o600, loss=lost)
        self._policies = ChangingPolicies(
            context,
            settings.limits,
            self._read,
            kept if keeps else None,
            self._changed,
            self._notes,
            # Who only takes a look, as at a recording, wants to see what came of policies that were in force.
            refuse_failing=settings.refuse_failing and context.serves,
        )
        self._shadow = None if settings.shadow is None else Shadow(settings.shadow, context, settings.limits)

    @staticmethod
    @hookimpl
    def mom_suggest(root: Path) -> Suggestion | None:
        """Fits every host: without an evaluator nothing is decided."""
        return Suggestion("it decides, by the plugins' default policies and your own", {"directory": str(USUAL_FOLDER)}, order=60)

    @hookimpl
    def mom_setup(self) -> None:
        """Read and compile all policies; with any that is bad the daemon does not start."""
        self._policies.load()
        self._say_loaded()
        self._notes.load()
        if self._shadow is not None:
            self._shadow.read()()
            self._shadow.notes.load()

    @hookimpl
    def mom_teardown(self) -> None:
        """Write changes down that could not be written before."""
        self._policies.close()
        if self._is_in_force:  # those of a reload that was refused leave what is kept as it is
            self._policies.keep_again()

    @hookimpl
    def mom_services(self) -> Mapping[type, Any]:
        """Return the policies in force, to be read, changed and checked by other plugins."""
        return {PolicyTexts: self._policies}

    @hookimpl
    def mom_reload(self) -> Callable[[], None]:
        """Read and compile all policies again; they are in force, together, once the reload of all plugins has succeeded."""
        try:
            put_in_force = self._policies.prepare()
            use_shadow = None if self._shadow is None else self._shadow.read()
        except ConfigError as error:
            self._refused = (files_refused(self._context.name, error),)
            raise

        def commit() -> None:
            try:
                put_in_force()
            except ConfigError as error:  # a client has set a policy since, with which the files do not go
                self._refused = (files_refused(self._context.name, error),)
                raise
            if use_shadow is not None:
                use_shadow()
            self._refused = ()
            self._say_loaded()

        return commit

    @hookimpl
    def mom_evaluate(self, snapshot: Snapshot, history: Sequence[Snapshot]) -> Iterable[Decision | ShadowDecisions | Problem]:
        """Return the decisions of the policies, and their problems."""
        self._keep()
        policy = self._policies.policy
        if policy is None:
            return self._not_read
        result = self._notes.evaluate(policy, snapshot, history)
        ignored = self._settings.ignore
        decisions = [decision for decision in result.decisions if decision.control not in ignored] if ignored else result.decisions
        found: list[Decision | ShadowDecisions | Problem] = [*_problems(result, snapshot), *self._not_read, *self._refused]
        if self._shadow is not None:
            found.extend(self._shadow.evaluate(snapshot, history, self._policies.state()))
        self._policies.newest = result
        found.extend(decisions)
        return found

    @hookimpl
    def mom_problems(self) -> Iterable[Condition]:
        """Report that no policy decides."""
        policy = self._policies.policy
        if policy is not None and policy.program.forms:
            return []
        return [Condition("policies", "no policy decides", self._none(), _WRITE_SOME, Severity.WARNING)]

    def _keep(self) -> None:
        """Have kept on disk what is to outlive a restart."""
        if self._is_in_force:
            self._policies.keep_again()
            return
        self._is_in_force = True
        self._policies.keep_first()
        if not self._settings.keep_changes and self._context.serves:
            with contextlib.suppress(OSError):  # what was kept before this was switched off must not come back much later
                (self._context.state_directory / self._context.name / _CHANGES).unlink()

    @hookimpl
    def mom_check(self) -> Iterable[Finding]:
        """Policies with which mom would not start, what the checks find in those with which it would, folders that are not there, and the
        default policies that are left out."""
        try:
            policy = self._policies.check_files()
            if self._shadow is not None:
                self._shadow.read()
            remarks = self._policies.checked(policy) if self._context.declarations.fields else ()
            texts = {remark: f"{printable(str(remark.source), 400)}: {remark.message} [{remark.kind}]" for remark in remarks}
            wrong = [Finding(Severity(remark.severity), "policies", text, remark.hint) for remark, text in texts.items()]
            if not (policy.program.forms or self._not_read):
                wrong.append(Finding(Severity.WARNING, "policies", f"no policy decides: {self._none()}", _WRITE_SOME))
        except ConfigError as error:
            wrong = [Finding(Severity.ERROR, "policies", str(replace(problem, hint="")), problem.hint) for problem in error.problems]
        return [*wrong, *(Finding(Severity.WARNING, "policies", item.message, item.hint) for item in self._not_read)]

    def _read(self) -> Read:
        """Return the texts of the operator's files and the defaults now."""
        settings = self._settings
        found = read_policies(settings.directory, settings.file, settings.limits)
        declared = self._context.declarations
        texts, left_out = self._usable_defaults(found.texts, declared) if settings.wants_defaults else ({}, [])
        self._not_read = (*self._absent_folders(), *left_out)
        texts.update({name: PolicyText(text, found.files[name]) for name, text in found.texts.items()})
        return Read(texts, declared, found.problems)

    def _absent_folders(self) -> Iterator[Problem]:
        """Yield a problem for each folder of the settings that does not exist, such as for a mistyped name."""
        settings = self._settings
        for folder, setting, lost in (
            (settings.directory, "directory", "no policy of yours is read"),
            (settings.shadow, "shadow", "nothing is on trial"),
        ):
            if folder is not None and folder != USUAL_FOLDER and not folder.is_dir():
                message = f"{folder} is {'no folder' if folder.exists() else 'not there'}: {lost}"
                hint = f"make it, or write another `{setting}`"
                yield Problem(Source(self._context.name), printable(message, 400), severity=Severity.WARNING, hint=hint)

    def _usable_defaults(self, own: Mapping[str, str], declared: Declarations) -> tuple[dict[str, PolicyText], list[Problem]]:
        """Return the default policies that the operator did not replace, but for those whose fields no plugin declares, as one would stop
        all; and those, as problems.
        """
        usable: dict[str, PolicyText] = {}
        left_out: list[Problem] = []
        for name, text in declared.policies.items():
            if name in own:
                continue
            undeclared: Collection[tuple[Scope, str]] = ()
            with contextlib.suppress(PolicyError):  # compiling all of them together says what is wrong
                undeclared = Policy.compile({name: text}, declared, self._settings.limits).undeclared
            if undeclared:
                names = ", ".join(f"{scope}.{field}" for scope, field in sorted(undeclared))
                message = f"the default policy {name} is left out, and nothing is decided by it: no plugin declares {names}"
                advice = f"enable what collects them: {', '.join(_COLLECTORS[scope] for scope in sorted({of for of, _ in undeclared}))}"
                left_out.append(Problem(Source(self._context.name), message, severity=Severity.WARNING, hint=advice))
            else:
                usable[name] = PolicyText(text, DEFAULT)
        return usable, left_out

    def _say(self, policy: Policy, state: PolicyState) -> None:
        """Say which policies are in force, and what the checks find in them."""
        if state.texts:
            self._context.log.info("policies: %s", ", ".join(f"{name} ({text.origin})" for name, text in state.texts.items()))
        else:
            self._context.log.warning("no policy decides: %s", self._none())
        if self._context.serves:  # others, such as mom doctor, say it themselves
            self._log_remarks(policy, state)

    def _none(self) -> str:
        folder = self._settings.directory
        if folder is None:
            return "no file or folder of policies is named, and no default policy is used"
        return f"{folder} {'holds no file *.policy' if folder.is_dir() else 'is not there'}"

    def _say_loaded(self) -> None:
        policy = self._policies.policy
        if policy is not None:
            self._remarked = frozenset()
            self._say(policy, self._policies.state())

    def _changed(self, policy: Policy, state: PolicyState) -> None:
        self._say(policy, state)
        self._context.wake("the policies have changed")

    def _log_remarks(self, policy: Policy, state: PolicyState) -> None:
        """Log each error that the checks find in the policies, and the first warning with the number of the others.

        After a change at run time, only what they did not find before is logged.
        """
        remarks = self._policies.checked(policy)
        known, self._remarked = self._remarked, frozenset(remarks)
        new = [remark for remark in remarks if remark not in known]
        errors, warnings = ([item for item in new if (item.severity == Severity.ERROR) is wanted] for wanted in (True, False))
        for level, shown, more in ((logging.ERROR, errors[:_ERRORS], errors[_ERRORS:]), (logging.WARNING, warnings[:1], warnings[1:])):
            for remark in shown:
                where = f"{where_from(remark.name, state.texts.get(remark.name))}:{remark.line}:{remark.column}"
                advice = f" ({remark.hint})" if remark.hint else ""
                others = f"; and {len(more)} more: `mom policy check`" if more and remark is shown[-1] else ""
                text = printable(where, 400), printable(remark.message, 400), printable(advice, 400), remark.kind, others
                self._context.log.log(level, "%s: %s%s [%s]%s", *text)


def _problems(result: Result, snapshot: Snapshot) -> Iterator[Problem]:
    """Yield the problems of an evaluation. Of a guest of which a policy needs what is unknown (it is paused, has no balloon device, or was
    not sampled yet), one remark for all of that: nothing is wrong with the policy or the host.
    """
    left_out: dict[str, list[Fault]] = {}
    for fault in result.errors:
        if fault.entity is not None and _unknown_fields(fault, snapshot):
            left_out.setdefault(fault.entity.id, []).append(fault)
        else:
            yield _problem(fault, result)
    for faults in left_out.values():
        names = ", ".join(dict.fromkeys(fault.name for fault in faults))
        fields = list(dict.fromkeys(field for fault in faults for field in _unknown_fields(fault, snapshot)))
        verb = "is" if len(fields) == 1 else "are"
        message = f"left out by {names}, as {', '.join(fields)} {verb} unknown"
        hint = "a policy that tests it with (valid …) before decides on the rest"
        yield Problem(faults[0].source, message, faults[0].entity, Severity.WARNING, hint)


def _unknown_fields(fault: Fault, snapshot: Snapshot) -> list[str]:
    """Return the guest's fields that are unknown, and because of which its step failed; none if it failed for anything else."""
    guest = None if fault.entity is None else snapshot.guests.get(fault.entity.id)
    if guest is None or fault.kind != "type":
        return []
    found = [match[1] for value in fault.values if (match := _NIL_FIELD.fullmatch(value))]
    return found if all(guest.fields.get(field) is None for field in found) else []


_WRITE_SOME: Final = "enable plugins that bring some, such as balloon and ksm, without `defaults: false`; or write policies of your own"

_COLLECTORS: Final = {
    Scope.HOST: "those of the host are collected by the plugin host",
    Scope.GUEST: "those of guests by the hypervisor's plugin, which is to declare and collect them, or by one like guestagent",
}


def _problem(fault: Fault, result: Result) -> Problem:
    # Values change from cycle to cycle: they stand in the hint, so that the problem is recognized as the same one.
    hints = [", ".join(fault.values)] if fault.values else []
    if fault.entity is None:
        hints.append(f"the evaluation ends here; {len(result.decisions)} decisions for guests stand, those for the host are lost")
    return Problem(fault.source, f"{fault.kind}: {fault.message}", fault.entity, hint="; ".join(hints))
