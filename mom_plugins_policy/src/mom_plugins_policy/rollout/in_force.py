"""The policies in force, and how they change while mom runs: all or nothing, between two evaluations, with a way back.

What was set at run time lies over what files and defaults say, and stays there when these are read again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import asdict
from typing import Final, NamedTuple

from mom_core import ConfigError, ConfigProblem, Declarations, MomError, PluginContext, StateError, StateFile, printable
from mom_kvm import PolicyChange, PolicyConflict, PolicyProblem, PolicyRefused, PolicyState, PolicyText
from mom_plugins_policy.language.errors import PolicyError
from mom_plugins_policy.language.limits import PolicyLimits
from mom_plugins_policy.language.policy import Policy, Result
from mom_plugins_policy.notes import NoteStore
from mom_plugins_policy.rollout.versions import Overlay, Version, difference

REMEMBERED_CHANGES: Final = 50
"""Versions that can be gone back to: with the largest policies some 50 MiB, as texts that did not change are shared."""

STAY: Final = "the policies from before stay in force"

_NOT_READY: Final = "the policies are not loaded yet"


class Read(NamedTuple):
    """Texts of files and defaults now, the declarations that they go with, and what is wrong with the files."""

    texts: Mapping[str, PolicyText]
    declared: Declarations
    problems: Sequence[ConfigProblem] = ()


class ChangingPolicies:
    """Evaluator's `PolicyTexts`.

    :param context: of the plugin
    :param read: reads the operator's files and the defaults
    :param kept: the file in which run-time changes outlive a restart; None: they do not
    :param notes: what the policies remember
    :param changed: called after a change made at run time, with the policy and where its texts come from
    :param refuse_failing: whether texts that can be loaded and fail for certain are refused while others are in force
    """

    def __init__(
        self,
        context: PluginContext,
        limits: PolicyLimits,
        read: Callable[[], Read],
        kept: StateFile[Overlay] | None,
        changed: Callable[[Policy, PolicyState], None],
        notes: NoteStore,
        *,
        refuse_failing: bool,
    ) -> None:
        self.policy: Policy | None = None
        """The policy that an evaluation uses. Replaced as a whole, so one that is under way ends with the policies with which it began."""
        self.newest: Result | None = None
        """The newest evaluation."""
        self.memory = notes.memory
        self.set_memory = notes.set_memory
        self._context = context
        self._limits = limits
        self._read = read
        self._kept = kept
        self._changed = changed
        self._log = context.log
        self._refuse_failing = refuse_failing
        self._lock = threading.Lock()
        self._base: Mapping[str, PolicyText] = {}
        self._declared = context.declarations
        """Those that the policies in force go with. While a reload is under way, the context has others, which may be refused yet."""
        self._versions: deque[Version] = deque(maxlen=REMEMBERED_CHANGES)
        self._count = 0
        self._found = Overlay()
        """What was kept when these were loaded."""
        self._unfit = ""
        self._closed = False

    def _judged(
        self, texts: Mapping[str, str], declared: Declarations, limits: PolicyLimits | None = None, *, to_work: bool = True
    ) -> tuple[Policy | None, Sequence[PolicyProblem]]:
        """Texts compiled, and all that keeps them from being put in force: that they cannot be loaded, or are certain to fail.

        :param to_work: False: what is certain to fail is fine
        """
        try:
            policy = Policy.compile(texts, declared, limits or self._limits)
        except PolicyError as error:
            return None, error.problems
        return policy, self._failing(policy, texts) if to_work else ()

    def _usable(self, texts: Mapping[str, str], limits: PolicyLimits, hint: str) -> Policy:
        """Compiled; raises `PolicyRefused` for what cannot be put in force."""
        policy, problems = self._judged(texts, self._declared, limits)
        if policy is None or problems:
            raise PolicyRefused(problems, hint=hint)
        return policy

    # --- files ----------------------------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Read and compile everything. Raises `ConfigError` for what is wrong with files; kept changes that do not fit are not used."""
        with self._lock:
            read = self._read()
            self._base, self._declared = read.texts, read.declared
            at_start = "read at the start"
            self._put(self._compiled(read, Overlay(), to_work=False), Overlay(), "mom", at_start)
            kept = None if self._kept is None else self._kept.read()
            if kept is not None and (kept.texts or kept.alone):
                self._found = kept
                self._take_up(read, kept, at_start)

    def check_files(self) -> Policy:
        """Read and compile what mom would start with, and put nothing in force. Raises `ConfigError` for what is wrong with files."""
        return self._compiled(self._read(), Overlay(), to_work=False)

    def prepare(self) -> Callable[[], None]:
        """Read and compile the files again; the function that is returned puts them in force. Both raise `ConfigError`."""
        with self._lock:
            read = self._read()
            overlay = self._overlay
            policy = self._compiled(read, overlay)

        def commit() -> None:
            with self._lock:
                self._declared = read.declared
                fitting = policy
                if self._overlay is not overlay:  # a client has set a policy since
                    fitting = self._compiled(read, self._overlay)
                self._base = read.texts
                self._put(fitting, self._overlay, "mom", "files read again")

        return commit

    # --- PolicyTexts ----------------------------------------------------------------------------------------------------------------

    def failure(self) -> str:
        """Return why the newest evaluation ended before its end."""
        return printable(str(self.newest.errors[-1]), 400) if self.newest is not None and self.newest.stopped else ""

    def state(self) -> PolicyState:
        """Return the policies in force now."""
        return self._current().state

    def check(self, changes: Mapping[str, str | None], *, replace_all: bool = False) -> Sequence[PolicyProblem]:
        """Everything for which `change` would refuse the same."""
        return self._judged(self._texts_after(changes, replace_all=replace_all), self._declared)[1]

    def remarks(self, changes: Mapping[str, str | None], *, replace_all: bool = False) -> Sequence[PolicyProblem]:
        """Remarks of the checks on changes: all of it in the policies that are changed, of the others what they did not say before."""
        now = self.policy
        policy, problems = self._judged(self._texts_after(changes, replace_all=replace_all), self._declared, to_work=False)
        return problems if policy is None else (*self._news(self.checked(policy), now, changes), *self._not_kept())

    def _texts_after(self, changes: Mapping[str, str | None], *, replace_all: bool) -> dict[str, str]:
        """Return all texts as they would be. The lock is held for that only: whoever changes policies waits for nobody's check."""
        with self._lock:
            return texts_of(self._overlay.changed(changes, "", self._base, replace_all=replace_all).over(self._base))

    def checked(self, policy: Policy) -> Sequence[PolicyProblem]:
        """Return all remarks of the checks on policies that are compiled."""
        from mom_plugins_policy.checks import check_policy  # of no use to a mom whose policies never change

        try:
            return check_policy(policy)
        except Exception:  # noqa: BLE001  # a mistake of the checks is no reason not to use policies that can be loaded
            self._log.exception("the policies could not be checked")
            return []

    def _news(self, found: Sequence[PolicyProblem], now: Policy | None, changed: Container[str]) -> tuple[PolicyProblem, ...]:
        """Of what was found, all of it in texts that are changed, and of the others what the policy of now did not have."""
        if now is None or all(item.name in changed for item in found):
            return tuple(found)
        known = set(self.checked(now))
        return tuple(item for item in found if item.name in changed or item not in known)

    def _failing(self, policy: Policy, texts: Mapping[str, str]) -> tuple[PolicyProblem, ...]:
        """For what these policies are not to be put in force: they can be loaded, and fail for certain where those in force do not."""
        if not self._refuse_failing:
            return ()
        errors = [item for item in self.checked(policy) if item.severity == "error"]
        if not errors:
            return ()
        now = texts_of(self._versions[-1].state.texts) if self._versions else {}
        return self._news(errors, self.policy, {name for name, text in texts.items() if now.get(name) != text})

    def change(
        self, changes: Mapping[str, str | None], *, who: str, replace_all: bool = False, expected_version: str | None = None
    ) -> PolicyState:
        """Set and remove policies, all or none."""
        who = printable(who, 200)
        with self._lock:
            self._expect(expected_version)
            overlay = self._overlay.changed(changes, who, self._base, replace_all=replace_all)
            made = self._change_to(overlay, who, said_of(changes, replace_all=replace_all))
        return self._announced(made)

    def reset(self, *, who: str, expected_version: str | None = None) -> PolicyState:
        """Back to what the files, read again, and the defaults say."""
        with self._lock:
            self._expect(expected_version)
            read = self._read()
            if read.declared is not self._declared:
                raise MomError("mom is about to take another configuration: nothing has changed", hint="ask again in a moment")
            if read.problems:
                raise PolicyRefused(
                    [PolicyProblem(problem.file, problem.line, problem.column, "file", problem.message) for problem in read.problems]
                )
            made = self._change_to(Overlay(), printable(who, 200), "reset", read.texts)
        return self._announced(made)

    def history(self) -> Sequence[PolicyChange]:
        """Return the last changes, oldest first."""
        with self._lock:
            return tuple(version.change for version in self._versions)

    def roll_back(self, version: str, *, who: str, expected_version: str | None = None) -> PolicyState:
        """Return the very texts of that version, whatever the files say by now."""
        with self._lock:
            self._expect(expected_version)
            wanted = next((each for each in self._versions if each.change.version == version), None)
            if wanted is None:
                known = ", ".join(each.change.version for each in self._versions)
                raise MomError(f"there is no version {printable(version)} of the policies to go back to", hint=f"there are {known}")
            if wanted.overlay.alone:
                overlay = wanted.overlay
            else:
                then = wanted.state.texts
                texts: dict[str, PolicyText | None] = {name: None for name in self._base if name not in then}
                # No file and no default holds that text any more, so none of them is told as its origin.
                origin = f"rolled back to {version} by {printable(who, 200)}"
                again = {name: text if text.origin.startswith("set by ") else PolicyText(text.text, origin) for name, text in then.items()}
                texts.update({name: text for name, text in again.items() if self._base.get(name) != then[name]})
                overlay = Overlay(texts)
            made = self._change_to(overlay, printable(who, 200), f"rolled back to {version}")
        return self._announced(made)

    def keep_first(self) -> None:
        """Have on disk what is in force, and nothing else. Called before the first evaluation: until then, a reload may still be refused,
        and what is kept is that of the policies of before."""
        if self._kept is None:
            return
        with self._lock:
            found = None
            with contextlib.suppress(StateError):
                found = self._kept.look() or Overlay()
            # Those whom a reload has replaced were in force until after `load`, and may have been changed.
            if found is not None and found != self._found and len(self._versions) == 1:
                self._take_up(Read(self._base, self._declared), found, "changed before a reload was over")
            self._keep(self._overlay)

    def close(self) -> None:
        """Change nothing from now on: mom ends, or others are in force, and what is on disk is theirs."""
        self._closed = True

    def keep_again(self) -> None:
        """Write changes down that could not be written when they were made. Called in each cycle, and at the end."""
        if self._kept is None or not self._kept.write_error:  # as nearly always: an evaluation does not wait for who compiles policies
            return
        with self._lock:
            self._keep(self._overlay)

    def _not_kept(self) -> Sequence[PolicyProblem]:
        """That changes would not outlive a restart, though they are to."""
        if self._kept is None or not self._kept.write_error:
            return ()
        message = f"what is changed would not outlive a restart now: {self._kept.write_error}"
        return (PolicyProblem("", 0, 0, "not-kept", message, "warning", "free space, or repair the disk; mom tries again in each cycle"),)

    def _announced(self, made: tuple[PolicyState, Policy | None]) -> PolicyState:
        """Tell of a change, without keeping others waiting while that is done."""
        state, policy = made
        if policy is not None:
            self._changed(policy, state)
        return state

    # --- inside: the lock is held ---------------------------------------------------------------------------------------------------

    def _take_up(self, read: Read, kept: Overlay, what: str) -> None:
        """Put what was kept in force, if it goes with the files."""
        try:
            policy = self._compiled(read, kept, to_work=bool(kept.texts or kept.alone))
        except ConfigError as error:
            self._unfit = f"they do not go with the files any more: {error.problems[0]}"
            return
        self._versions.clear()  # no change was made here: to go back from it would take away all that was ever kept
        self._put(policy, kept, "mom", f"{what}, with the changes that were kept")

    @property
    def _overlay(self) -> Overlay:
        return self._current().overlay

    def _current(self) -> Version:
        if not self._versions:
            raise MomError(_NOT_READY, hint="ask again in a moment")
        return self._versions[-1]

    def _expect(self, version: str | None) -> None:
        now = self._current().change.version
        if version is not None and version != now:
            message = f"the policies have changed: they are at version {now}, not {printable(version)}"
            raise PolicyConflict(message, version=now, hint="look at what they are now, and decide again")

    def _compiled(self, read: Read, overlay: Overlay, *, to_work: bool = True) -> Policy:
        """Compiled for use, or everything that is wrong with files and texts as a `ConfigError` with their places."""
        effective = overlay.over(read.texts)
        policy, problems = self._judged(texts_of(effective), read.declared, to_work=to_work)
        if policy is None or problems or read.problems:
            origins = ((problem, where_from(problem.name, effective.get(problem.name))) for problem in problems)
            wrong = [ConfigProblem(file, one.line, one.column, f"{one.kind}: {one.message}", one.hint) for one, file in origins]
            raise ConfigError(sorted([*read.problems, *wrong]))
        return policy

    def _change_to(
        self, overlay: Overlay, who: str, what: str, base: Mapping[str, PolicyText] | None = None
    ) -> tuple[PolicyState, Policy | None]:
        """Compile, keep and put in force; or raise `PolicyRefused`, and nothing has changed."""
        current = self._current()
        based_on = self._base if base is None else base
        effective = overlay.over(based_on)
        if texts_of(effective) == texts_of(current.state.texts) and _same(overlay, current.overlay):
            self._base = based_on
            return current.state, None
        policy = self._usable(texts_of(effective), self._limits, STAY)
        if self._closed:
            raise MomError("these policies are in force no more: nothing has changed", hint="look at what they are now, and decide again")
        self._base = based_on
        self._keep(overlay)
        state = self._put(policy, overlay, who, what)
        self._log.info("policies changed by %s: %s; version %s", who, what, state.version)
        return state, policy

    def _put(self, policy: Policy, overlay: Overlay, who: str, what: str) -> PolicyState:
        effective = overlay.over(self._base)
        self._count += 1
        digest = hashlib.sha256(json.dumps(texts_of(effective)).encode()).hexdigest()
        state = PolicyState(f"{self._count}-{digest[:12]}", effective)
        diff = difference(texts_of(self._versions[-1].state.texts), texts_of(effective)) if self._versions else ""
        self._versions.append(Version(PolicyChange(state.version, time.time(), who, what, diff), state, overlay))
        self.policy = policy
        return state

    # --- on disk --------------------------------------------------------------------------------------------------------------------

    def _keep(self, overlay: Overlay) -> None:
        """Write changes down. Those that cannot be written are in force all the same, and `keep_again` tries again."""
        if self._kept is None:
            return
        if self._unfit:
            self._kept.refuse(self._unfit)
            self._unfit = ""
        failed_before = self._kept.write_error
        try:
            if overlay.texts or overlay.alone:
                self._kept.write(asdict(overlay))
            else:
                self._kept.remove()
        except StateError as error:
            if not failed_before:
                self._log.error("what was changed would not outlive a restart now: %s", error.message)
            return
        if failed_before:
            self._log.info("what was changed outlives a restart again")


def said_of(changes: Mapping[str, str | None], *, replace_all: bool = False) -> str:
    """Return a change in words."""
    done = [("removed " if text is None else "set ") + printable(name, 128) for name, text in changes.items()]
    return ", ".join((["removed all others"] if replace_all else []) + done) or "nothing"


def texts_of(policies: Mapping[str, PolicyText]) -> dict[str, str]:
    """Return the texts alone."""
    return {name: policy.text for name, policy in policies.items()}


def _same(one: Overlay, other: Overlay) -> bool:
    """Return True if both change the same, whatever client did it."""
    return one.alone == other.alone and {n: t and t.text for n, t in one.texts.items()} == {n: t and t.text for n, t in other.texts.items()}


DEFAULT: Final = "default"
"""The origin of a policy that a plugin brings."""


def where_from(name: str, policy: PolicyText | None) -> str:
    """Return how a message names a policy: by its file where it has one."""
    if policy is None or policy.origin == DEFAULT:
        return f"default policy {name}"
    return printable(policy.origin if policy.origin.startswith("/") else f"policy {name} ({policy.origin})", 400)
