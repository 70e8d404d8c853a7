"""Policies in force, and atomic changes to them at run time. The changes override files and default policies, even after a reload."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Final, NamedTuple

from pydantic import TypeAdapter

from mom_core import ConfigError, Declarations, MomError, PluginContext, StateError, StateFile, printable
from mom_kvm import PolicyProblem, PolicyState
from mom_plugins_policy.language.errors import PolicyError
from mom_plugins_policy.language.policy import Policy, Result
from mom_plugins_policy.notes import NoteStore

REMEMBERED_CHANGES: Final = 50
"""Number of versions kept. They share unchanged texts, and together take up to 50 MiB."""

_DECIDE_AGAIN: Final = "read the policies in force, then repeat the change if you still want it"


@dataclass(frozen=True, slots=True)
class Overlay:
    """Policies set at run time, keyed by name; None for a removed policy. If `alone`, files and default policies are ignored."""

    texts: Mapping[str, PolicyState.Text | None] = field(default_factory=dict)
    alone: bool = False

    def over(self, base: Mapping[str, PolicyState.Text]) -> dict[str, PolicyState.Text]:
        """Apply the changes to `base`; return the texts in name order."""
        merged: dict[str, PolicyState.Text | None] = dict(self.texts) if self.alone else {**base, **self.texts}
        return {name: text for name, text in sorted(merged.items()) if text is not None}

    def changed(self, changes: Mapping[str, str | None], who: str, base: Mapping[str, PolicyState.Text], *, replace_all: bool) -> Overlay:
        """Return this overlay with these changes added. With `replace_all`, drop all other policies."""
        alone = self.alone or replace_all
        texts: dict[str, PolicyState.Text | None] = {} if replace_all else dict(self.texts)
        texts.update({name: None if text is None else PolicyState.Text(text, f"set by {who}") for name, text in changes.items()})
        noted = {name: text for name, text in texts.items() if text is not None or (name in base and not alone)}
        return Overlay(noted, alone)


OVERLAY: Final = TypeAdapter(Overlay)


@dataclass(frozen=True, slots=True)
class Version:
    """Earlier or current version of the policies, to which a rollback can return."""

    change: PolicyState.Change
    state: PolicyState
    overlay: Overlay


DIFFED_LINES: Final = 2000
"""Maximum number of lines, old plus new, for a policy's diff. Longer changes get a summary."""


def difference(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """Return a unified diff of all policies, in name order."""
    lines: list[str] = []
    for name in sorted(name for name in {*before, *after} if before.get(name) != after.get(name)):
        old, new = before.get(name, "").splitlines(), after.get(name, "").splitlines()
        if len(old) + len(new) > DIFFED_LINES:
            lines.append(f"{name}: {len(old)} lines became {len(new)}")
        else:
            old_name, new_name = (name if name in texts else "/dev/null" for texts in (before, after))
            lines += difflib.unified_diff(old, new, old_name, new_name, lineterm="")
    return "".join(f"{line}\n" for line in lines)


class Read(NamedTuple):
    """Texts keyed by policy name, the plugins' declarations, and problems found while reading."""

    texts: Mapping[str, PolicyState.Text]
    declared: Declarations
    problems: Sequence[ConfigError.Problem] = ()


class ChangingPolicies:
    """Policies in force. Implements `PolicyTexts` for the evaluator.

    :param kept: file that keeps run-time changes across restarts; None to lose them
    :param changed: function to call after a run-time change, under the lock
    """

    def __init__(
        self,
        context: PluginContext,
        read: Callable[[], Read],
        kept: StateFile[Overlay] | None,
        changed: Callable[[], None],
        notes: NoteStore,
    ) -> None:
        self.policy: Policy | None = None
        """Compiled policies for the next evaluation."""
        self.newest: Result | None = None
        self.memory = notes.memory
        self.set_memory = notes.set_memory
        self._context = context
        self._read = read
        self._kept = kept
        self._changed = changed
        self._log = context.log
        self._lock = threading.Lock()
        self._base: Mapping[str, PolicyState.Text] = {}
        self._declared = context.declarations
        self._versions: deque[Version] = deque(maxlen=REMEMBERED_CHANGES)
        self._count = 0
        self._at_load = Overlay()
        self._closed = False

    def _judged(
        self, texts: Mapping[str, str], declared: Declarations, *, to_work: bool = True
    ) -> tuple[Policy | None, Sequence[PolicyProblem]]:
        try:
            policy = Policy.compile(texts, declared)
        except PolicyError as error:
            return None, error.problems
        return policy, self._failing(policy) if to_work else ()

    # --- files ----------------------------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Compile all policies. Skip saved changes that no longer fit. Raise `ConfigError` if a file or default policy is invalid."""
        with self._lock:
            read = self._read()
            self._base, self._declared = read.texts, read.declared
            at_start = "read at the start"
            self._put(self._compiled(read, Overlay(), to_work=False), Overlay(), "mom", at_start)
            kept = None if self._kept is None else self._kept.read()
            if kept is not None and (kept.texts or kept.alone):
                self._at_load = kept
                self._take_up(read, kept, at_start)

    def check_files(self) -> Policy:
        """Compile files and default policies. Raise `ConfigError` if a policy is invalid."""
        return self._compiled(self._read(), Overlay(), to_work=False)

    def prepare(self) -> Callable[[], None]:
        """Compile the files; return a function that activates them. Compiling and activating raise `ConfigError` if a policy is invalid."""
        with self._lock:
            read = self._read()
            overlay = self._overlay
            policy = self._compiled(read, overlay)

        def commit() -> None:
            with self._lock:
                self._declared = read.declared
                fitting = policy
                if self._overlay is not overlay:  # a client changed a policy meanwhile
                    fitting = self._compiled(read, self._overlay)
                self._base = read.texts
                self._put(fitting, self._overlay, "mom", "files read again")

        return commit

    # --- PolicyTexts ----------------------------------------------------------------------------------------------------------------

    def failure(self) -> str:
        """Return the error that stopped the newest evaluation, or an empty string."""
        return printable(str(self.newest.errors[-1]), 400) if self.newest is not None and self.newest.stopped else ""

    def state(self) -> PolicyState:
        """Return the policies in force."""
        return self._current().state

    def remarks(self, changes: Mapping[str, str | None], *, replace_all: bool = False) -> Sequence[PolicyProblem]:
        """Check changes without making them. Return the remarks that they would add."""
        with self._lock:
            texts = texts_of(self._overlay.changed(changes, "", self._base, replace_all=replace_all).over(self._base))
        policy, problems = self._judged(texts, self._declared, to_work=False)
        return problems if policy is None else self._news(self.checked(policy))

    def checked(self, policy: Policy) -> Sequence[PolicyProblem]:
        """Return the checks' remarks on compiled policies."""
        from mom_plugins_policy.checks import check_policy  # not needed by a mom whose policies never change

        try:
            return check_policy(policy)
        except Exception:  # noqa: BLE001  # a bug in the checks must not reject valid policies
            self._log.exception("the policies could not be checked")
            return []

    def _news(self, remarks: Sequence[PolicyProblem]) -> Sequence[PolicyProblem]:
        before = set(self.checked(self.policy)) if remarks and self.policy is not None else ()
        return tuple(item for item in remarks if item not in before)

    def _failing(self, policy: Policy) -> Sequence[PolicyProblem]:
        if not self._context.serves:  # commands, for example on a recording, also evaluate failing policies
            return ()
        return self._news([item for item in self.checked(policy) if item.severity == "error"])

    def change(
        self, changes: Mapping[str, str | None], *, who: str, replace_all: bool = False, expected_version: str | None = None
    ) -> PolicyState:
        """Set and remove policies atomically."""
        who = printable(who, 200)
        with self._lock:
            self._expect(expected_version)
            overlay = self._overlay.changed(changes, who, self._base, replace_all=replace_all)
            return self._change_to(overlay, who, description_of(changes, replace_all=replace_all))

    def reset(self, *, who: str, expected_version: str | None = None) -> PolicyState:
        """Drop all run-time changes, and read the files again."""
        with self._lock:
            self._expect(expected_version)
            read = self._read()
            if read.declared is not self._declared:
                raise MomError("mom is reloading its configuration: the policies stay unchanged", hint="ask again in a moment")
            if read.problems:
                raise PolicyState.Refused(
                    [PolicyProblem(problem.file, problem.line, problem.column, "file", problem.message) for problem in read.problems]
                )
            return self._change_to(Overlay(), printable(who, 200), "reset", read.texts)

    def history(self) -> Sequence[PolicyState.Change]:
        """Return the last changes, oldest first."""
        with self._lock:
            return tuple(version.change for version in self._versions)

    def roll_back(self, version: str, *, who: str, expected_version: str | None = None) -> PolicyState:
        """Restore all policies to the exact texts of an earlier version."""
        who = printable(who, 200)
        with self._lock:
            self._expect(expected_version)
            target = next((each for each in self._versions if each.change.version == version), None)
            if target is None:
                versions = ", ".join(each.change.version for each in self._versions)
                raise MomError(f"there is no version {printable(version)} of the policies", hint=f"existing versions: {versions}")
            then = target.state.texts
            texts: dict[str, PolicyState.Text | None] = {name: None for name in self._base if name not in then}
            # The files and defaults may have changed since then.
            texts.update(
                {name: PolicyState.Text(text.text, f"set by {who}") for name, text in then.items() if self._base.get(name) != text}
            )
            overlay = target.overlay if target.overlay.alone else Overlay(texts)
            return self._change_to(overlay, who, f"rolled back to {version}")

    def keep_first(self) -> None:
        """Take up changes made during a reload, and save all run-time changes. Called before the first evaluation."""
        if self._kept is None:
            return
        with self._lock:
            on_disk = None
            with contextlib.suppress(StateError):
                on_disk = self._kept.look() or Overlay()
            # The plugin that this reload replaces was running until after `load`, and may have changed the file.
            if on_disk is not None and on_disk != self._at_load and len(self._versions) == 1:
                self._take_up(Read(self._base, self._declared), on_disk, "changed during a reload")
            self._keep(self._overlay)

    def close(self) -> None:
        """Refuse further changes."""
        self._closed = True

    def keep_again(self) -> None:
        """Save the run-time changes again if the last attempt failed."""
        if self._kept is None or not self._kept.write_error:  # common case: an evaluation must not wait for the lock
            return
        with self._lock:
            self._keep(self._overlay)

    # --- internal, under the lock ---------------------------------------------------------------------------------------------------

    def _take_up(self, read: Read, kept: Overlay, event: str) -> None:
        try:
            policy = self._compiled(read, kept, to_work=bool(kept.texts or kept.alone))
        except ConfigError as error:
            self._log.error("the saved policies are dropped, because they no longer fit the files: %s", error.problems[0])
            return
        self._versions.clear()  # a rollback to an earlier version would delete all stored changes
        self._put(policy, kept, "mom", f"{event}, with the saved changes")

    @property
    def _overlay(self) -> Overlay:
        return self._current().overlay

    def _current(self) -> Version:
        if not self._versions:
            raise MomError("the policies are not loaded yet", hint="ask again in a moment")
        return self._versions[-1]

    def _expect(self, version: str | None) -> None:
        now = self._current().change.version
        if version is not None and version != now:
            message = f"the policies have changed: they are at version {now}, not {printable(version)}"
            raise PolicyState.Conflict(message, version=now, hint=_DECIDE_AGAIN)

    def _compiled(self, read: Read, overlay: Overlay, *, to_work: bool = True) -> Policy:
        effective = overlay.over(read.texts)
        policy, problems = self._judged(texts_of(effective), read.declared, to_work=to_work)
        if policy is None or problems or read.problems:
            faults = [
                ConfigError.Problem(
                    where_from(item.name, effective.get(item.name)), item.line, item.column, f"{item.kind}: {item.message}", item.hint
                )
                for item in problems
            ]
            raise ConfigError(sorted([*read.problems, *faults]))
        return policy

    def _change_to(self, overlay: Overlay, who: str, event: str, base: Mapping[str, PolicyState.Text] | None = None) -> PolicyState:
        # `PolicyState.Refused` is raised before any change.
        current = self._current()
        based_on = self._base if base is None else base
        effective = overlay.over(based_on)
        if texts_of(effective) == texts_of(current.state.texts) and _same(overlay, current.overlay):
            self._base = based_on
            return current.state
        policy, problems = self._judged(texts_of(effective), self._declared)
        if policy is None or problems:
            raise PolicyState.Refused(problems, hint="the previous policies stay in force")
        if self._closed:
            raise MomError("these policies are no longer in force: the change was not made", hint=_DECIDE_AGAIN)
        self._base = based_on
        self._keep(overlay)
        state = self._put(policy, overlay, who, event)
        self._log.info("policies changed by %s: %s; version %s", who, event, state.version)
        self._changed()
        return state

    def _put(self, policy: Policy, overlay: Overlay, who: str, event: str) -> PolicyState:
        effective = overlay.over(self._base)
        self._count += 1
        digest = hashlib.sha256(json.dumps(texts_of(effective)).encode()).hexdigest()
        state = PolicyState(f"{self._count}-{digest[:12]}", effective)
        diff = difference(texts_of(self._versions[-1].state.texts), texts_of(effective)) if self._versions else ""
        self._versions.append(Version(PolicyState.Change(state.version, time.time(), who, event, diff), state, overlay))
        self.policy = policy
        return state

    # --- on disk --------------------------------------------------------------------------------------------------------------------

    def _keep(self, overlay: Overlay) -> None:
        # The changes are in force even if the write fails.
        if self._kept is None:
            return
        with contextlib.suppress(StateError):  # mom reports the error
            if overlay.texts or overlay.alone:
                self._kept.write(asdict(overlay))
            else:
                self._kept.remove()


def description_of(changes: Mapping[str, str | None], *, replace_all: bool = False) -> str:
    """Describe a change, such as `set a, removed b`."""
    parts = [("removed " if text is None else "set ") + printable(name, 128) for name, text in changes.items()]
    return ", ".join((["removed all others"] if replace_all else []) + parts) or "nothing"


def texts_of(policies: Mapping[str, PolicyState.Text]) -> dict[str, str]:
    """Return the policies' texts, keyed by name."""
    return {name: policy.text for name, policy in policies.items()}


def _same(first: Overlay, second: Overlay) -> bool:
    texts, other_texts = ({name: text and text.text for name, text in overlay.texts.items()} for overlay in (first, second))
    return first.alone == second.alone and texts == other_texts


DEFAULT: Final = "default"


def where_from(name: str, policy: PolicyState.Text | None) -> str:
    """Return a policy's file for messages, or the policy's name if it has no file."""
    if policy is None or policy.origin == DEFAULT:
        return f"default policy {name}"
    return printable(policy.origin if policy.origin.startswith("/") else f"policy {name} ({policy.origin})", 400)
