"""The policies in force, and how they change while mom runs: all or nothing, between two evaluations, with a way back.

What was set at run time lies over what files and defaults say, and stays there when these are read again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

from mom_core import (
    Canary,
    CanaryState,
    ConfigError,
    ConfigProblem,
    MomError,
    PolicyChange,
    PolicyConflict,
    PolicyProblem,
    PolicyRefused,
    PolicyState,
    PolicyText,
    Snapshot,
    UnitError,
    Value,
    format_duration,
    printable,
)
from mom_plugins_policy.canary import Choice, Plan, Trial
from mom_plugins_policy.differing import difference
from mom_plugins_policy.errors import Fault, PolicyError
from mom_plugins_policy.notes import NoteStore, replace_file
from mom_plugins_policy.policy import Policy
from mom_plugins_policy.verdict import Outlook, too_short
from mom_plugins_policy.versions import NO_VERSIONS, Overlay, Version, decoded, encoded

REMEMBERED_CHANGES: Final = 50
"""Versions that can be gone back to: with the largest policies some 50 MiB, as texts that did not change are shared."""

_FORMAT: Final = 1
_NOT_READY: Final = "the policies are not loaded yet"


class Read(NamedTuple):
    """What files and defaults say now, and what is wrong with the files."""

    texts: Mapping[str, PolicyText]
    problems: Sequence[ConfigProblem] = ()


LONGEST_TRIAL_SECONDS: Final = 7 * 86400.0
"""A week has every day in it; what is tried for longer is forgotten."""


@dataclass(frozen=True, slots=True)
class Trying:
    """What trials of policies on some guests need.

    :param compile_texts: compiles what is tried
    :param why_not: why nothing can be tried now, such as that mom only observes; empty: it can
    :param noted_in: the file that tells the next run of mom of a trial that its end cut off; None: none is written
    """

    compile_texts: Callable[[Mapping[str, str]], Policy]
    why_not: Callable[[], str] = str
    monotonic: Callable[[], float] = time.monotonic
    interval: Callable[[], float] = float
    wake: Callable[[str], object] = str
    noted_in: Path | None = None


class ChangingPolicies:
    """The evaluator's `PolicyTexts`, which can be tried on some guests first (`CanaryPolicies`).

    :param read: reads the operator's files and the defaults
    :param compile_texts: compiles texts by name; raises `PolicyError`
    :param kept_in: the file in which run-time changes outlive a restart; None: they do not
    :param notes: what the policies remember
    :param changed: called after a change made at run time, with the policy and where its texts come from
    """

    def __init__(
        self,
        read: Callable[[], Read],
        compile_texts: Callable[[Mapping[str, str]], Policy],
        kept_in: Path | None,
        changed: Callable[[Policy, PolicyState], None],
        log: logging.Logger,
        notes: NoteStore | None = None,
        trying: Trying | None = None,
    ) -> None:
        self.policy: Policy | None = None
        """What an evaluation uses. Replaced as a whole, so one that is under way ends with the policies with which it began."""
        self.damage = ""
        """What was wrong with the changes that an earlier run had kept, until the next start."""
        self.write_error = ""
        """Why changes are not kept on disk, empty if they are."""
        self._read = read
        self._compile = compile_texts
        self._kept_in = kept_in
        self._changed = changed
        self._log = log
        self._notes = notes
        self._lock = threading.Lock()
        self._base: Mapping[str, PolicyText] = {}
        self._versions: deque[Version] = deque(maxlen=REMEMBERED_CHANGES)
        self._diffs: Mapping[str, str] = {}
        self._count = 0
        self.trial: Trial | None = None
        """What is tried on some guests now. Replaced as a whole, as the policy is."""
        self.seen: Snapshot | None = None
        """The newest snapshot, of which the guests for a trial are chosen."""
        self._trying = trying or Trying(compile_texts)
        self._overlay_tried = Overlay()
        self._ended: Canary | None = None
        self._promoted: Trial | None = None

    # --- what policies remember -----------------------------------------------------------------------------------------------------

    def memory(self) -> Value:
        """Their notes."""
        return {} if self._notes is None else self._notes.memory()

    def set_memory(self, memory: Value) -> None:
        """Have these notes and no others."""
        if self._notes is not None:
            self._notes.set_memory(memory)

    # --- files ----------------------------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Read and compile everything. Raises `ConfigError` for what is wrong with files; kept changes that do not fit are set aside."""
        with self._lock:
            read = self._read()
            overlay = self._kept()
            try:
                policy = self._compiled(read, overlay)
            except ConfigError as error:
                if not overlay.texts and not overlay.alone:
                    raise
                policy, overlay = self._compiled(read, Overlay()), Overlay()
                self._set_aside(f"they do not go with the files any more: {error.problems[0]}")
            self._base = read.texts
            self._take_up_history()
            if not self._goes_on_with(policy, overlay):
                self._put(policy, overlay, "mom", "read at the start")
            self._tell_of_cut_off(policy, overlay)

    def prepare(self) -> Callable[[], None]:
        """Read and compile the files again; the function that is returned puts them in force. Raises `ConfigError`."""
        with self._lock:
            read = self._read()
            overlay = self._overlay
            policy = self._compiled(read, overlay)
            trial, tried, trouble = self.trial, None, ""
            if trial is not None:
                try:
                    tried = self._trying.compile_texts(_texts(self._overlay_tried.over(read.texts)))
                except PolicyError as error:
                    trouble = f"it does not go with the files any more: {error.faults[0]}"

        def commit() -> None:
            with self._lock:
                if trial is not None and self.trial is trial:
                    if tried is None:
                        self._end(trial, CanaryState.ROLLED_BACK, "mom", trouble)
                    else:
                        trial.policy = tried
                fitting = policy
                if self._overlay is not overlay:  # somebody has set a policy since
                    try:
                        fitting = self._compiled(read, self._overlay)
                    except ConfigError as error:
                        self._log.error("the files do not go with what was set meanwhile, and are not used: %s", error)
                        return
                self._base = read.texts
                self._put(fitting, self._overlay, "mom", "files read again")

        return commit

    # --- PolicyTexts ----------------------------------------------------------------------------------------------------------------

    def state(self) -> PolicyState:
        """What is in force now."""
        return self._current().state

    def check(self, changes: Mapping[str, str | None], *, replace_all: bool = False) -> Sequence[PolicyProblem]:
        """Everything for which `change` would refuse the same."""
        with self._lock:
            self._current()
            wanted = self._overlay.changed(changes, "", self._base, replace_all=replace_all)
            try:
                self._compile(_texts(wanted.over(self._base)))
            except PolicyError as error:
                return _problems(error)
            return ()

    def change(
        self, changes: Mapping[str, str | None], *, who: str, replace_all: bool = False, expected_version: str | None = None
    ) -> PolicyState:
        """Set and remove policies, all or none."""
        who = printable(who, 200)
        with self._lock:
            self._expect(expected_version)
            self._expect_no_trial()
            overlay = self._overlay.changed(changes, who, self._base, replace_all=replace_all)
            made = self._change_to(overlay, who, _said(changes, replace_all=replace_all))
        return self._announced(made)

    def reset(self, *, who: str, expected_version: str | None = None) -> PolicyState:
        """Back to what the files, read again, and the defaults say."""
        with self._lock:
            self._expect(expected_version)
            self._expect_no_trial()
            read = self._read()
            if read.problems:
                raise PolicyRefused([PolicyProblem(one.file, one.line, one.column, "file", one.message) for one in read.problems])
            made = self._change_to(Overlay(), printable(who, 200), "reset", read.texts)
        return self._announced(made)

    def history(self) -> Sequence[PolicyChange]:
        """The last changes, oldest first."""
        with self._lock:
            versions = tuple(self._versions)
        # Diffs are made when somebody looks, and without keeping others waiting.
        self._diffs = {
            later.change.version: self._diffs.get(later.change.version)
            or difference(_texts(earlier.state.texts), _texts(later.state.texts))
            for earlier, later in pairwise(versions)
        }
        return tuple(replace(version.change, diff=self._diffs.get(version.change.version, "")) for version in versions)

    def roll_back(self, version: str, *, who: str, expected_version: str | None = None) -> PolicyState:
        """The very texts of that version, whatever the files say by now."""
        with self._lock:
            self._expect(expected_version)
            self._expect_no_trial()
            wanted = next((each for each in self._versions if each.change.version == version), None)
            if wanted is None:
                known = ", ".join(each.change.version for each in self._versions)
                raise MomError(f"there is no version {printable(version)} of the policies to go back to", hint=f"there are {known}")
            if wanted.overlay.alone:
                overlay = wanted.overlay
            else:
                then = wanted.state.texts
                texts: dict[str, PolicyText | None] = {name: None for name in self._base if name not in then}
                texts.update({name: text for name, text in then.items() if self._base.get(name) != text})
                overlay = Overlay(texts)
            made = self._change_to(overlay, printable(who, 200), f"rolled back to {version}")
        return self._announced(made)

    # --- CanaryPolicies -------------------------------------------------------------------------------------------------------------

    def begin_canary(
        self,
        changes: Mapping[str, str | None],
        *,
        who: str,
        seconds: float,
        share: float | None = None,
        guests: str = "",
        expected_version: str | None = None,
    ) -> Canary:
        """Try changes on some guests."""
        who, now = printable(who, 200), self._trying.monotonic()
        with self._lock:
            self._expect(expected_version)
            self._expect_no_trial()
            self._expect_sense(seconds, share, guests)
            choice, on = self._chosen(share, guests)
            overlay = self._overlay.changed(changes, who, self._base, replace_all=False)
            texts = _texts(overlay.over(self._base))
            if texts == _texts(self._current().state.texts):
                raise MomError("there is nothing to try: this changes nothing", hint="`mom policy show` prints what is in force")
            try:
                tried = self._trying.compile_texts(texts)
            except PolicyError as error:
                raise PolicyRefused(_problems(error), hint="the policies from before stay in force for all guests") from None
            what = _said(changes)
            state = self._put_again(who, f"tries {what} on {on} for {format_duration(seconds)}")
            plan = Plan(what, who, share, choice, seconds, time.time(), now)
            trial = Trial(plan, tried, state.version, self.memory, self._log)
            self._note_trial(plan)
            self.trial, self._overlay_tried = trial, overlay
        self._log.info("%s is tried on %s for %s, by %s; version %s", what, on, format_duration(seconds), who, state.version)
        self._trying.wake("policies are tried on some guests")
        return trial.told(now)

    def canary(self) -> Canary | None:
        """The trial that runs, or the last one."""
        trial = self.trial
        return self._ended if trial is None else trial.told(self._trying.monotonic())

    def end_canary(self, *, promote: bool, who: str, expected_version: str | None = None) -> Canary:
        """End the trial that runs, for all guests or for none."""
        who = printable(who, 200)
        with self._lock:
            self._expect(expected_version)
            trial = self.trial
            if trial is None:
                raise MomError("no policies are tried on some guests now", hint="`mom policy set NAME FILE --canary 10%` does")
            state = CanaryState.PROMOTED if promote else CanaryState.ABORTED
            ended, made = self._end(trial, state, who, f"by {who}")
        self._announced(made)
        return ended

    def settle(self, trial: Trial) -> Canary | None:
        """End a trial if it has shown what it can; what came of it, None while it goes on."""
        verdict = trial.verdict(self._trying.monotonic())
        if verdict.outlook is Outlook.GO_ON:
            return None
        with self._lock:
            if self.trial is not trial:
                return None
            state = CanaryState.PROMOTED if verdict.outlook is Outlook.PROMOTE else CanaryState.ROLLED_BACK
            ended, made = self._end(trial, state, f"mom, for {trial.plan.who}", verdict.reason)
        self._announced(made)
        return ended

    def take_memory(self) -> None:
        """Remember what the policies remembered that were promoted. Called between two evaluations, by who evaluates."""
        with self._lock:
            promoted, self._promoted = self._promoted, None
        if promoted is not None:
            self.set_memory(promoted.memory(self.memory()))

    def _announced(self, made: tuple[PolicyState, Policy | None]) -> PolicyState:
        """Tell of a change, without keeping others waiting while that is done."""
        state, policy = made
        if policy is not None:
            self._changed(policy, state)
        return state

    # --- inside: the lock is held ---------------------------------------------------------------------------------------------------

    def _expect_no_trial(self) -> None:
        trial = self.trial
        if trial is not None:
            left = format_duration(max(1, round(trial.left(self._trying.monotonic()))))
            message = f"{trial.plan.what} is being tried on some guests, for {left} still: nothing else changes meanwhile"
            raise MomError(message, hint="`mom policy canary --promote` or `--abort` ends it")

    def _expect_sense(self, seconds: float, share: float | None, guests: str) -> None:
        """Raise what is wrong with a trial of these guests for so long."""
        why_not = self._trying.why_not()
        if why_not:
            raise MomError(f"nothing can be tried: {why_not}", hint="policies on trial (`shadow`) and `mom simulate` can do that")
        if (share is None) == (not guests):
            raise UnitError("a trial is on a share of the guests or on those that match a pattern", hint="give one of the two")
        if share is not None and not 0 < share <= 1:
            raise UnitError(f"{share:g} is no share of the guests", hint="write it like 10%, up to 100%")
        if not 0 < seconds <= LONGEST_TRIAL_SECONDS:
            raise UnitError(f"a trial does not last {seconds:g} s", hint=f"at most {format_duration(LONGEST_TRIAL_SECONDS)}")
        short = too_short(seconds, self._trying.interval())
        if short:
            raise UnitError(f"a trial of {format_duration(seconds)} shows nothing: {short}", hint="10m is usual")

    def _chosen(self, share: float | None, pattern: str) -> tuple[Choice, str]:
        """Who is in a trial, and how many of how many that is now, in words. Raises `MomError` if it is nobody."""
        if self.seen is None:
            raise MomError("mom has not looked at the guests yet", hint="ask again in a moment")
        guests = list(self.seen.guests.values())
        choice = Choice(pattern) if share is None else Choice.of_share(share, guests)
        count = sum(map(choice.has, guests))
        if not count:
            found = f"no guest matches {printable(pattern)}" if pattern else "there is no guest"
            raise MomError(f"there is nobody to try it on: {found}", hint="`mom guests` lists them")
        return choice, f"{count} of {len(guests)} guests"

    def _put_again(self, who: str, what: str) -> PolicyState:
        """A new version of the same texts: who has seen an older one has not seen what is tried, or that it is over."""
        current = self._current()
        assert self.policy is not None  # noqa: S101  # there is a version
        return self._put(self.policy, current.overlay, who, what)

    def _end(self, trial: Trial, state: CanaryState, who: str, reason: str) -> tuple[Canary, tuple[PolicyState, Policy | None]]:
        """End a trial. What cannot be put in force for all is put in force for none."""
        now, overlay = self._trying.monotonic(), self._overlay_tried
        self.trial, self._overlay_tried = None, Overlay()
        after = format_duration(max(1, round(now - trial.plan.began_at)))
        made: tuple[PolicyState, Policy | None] | None = None
        if state is CanaryState.PROMOTED:
            try:
                made = self._change_to(overlay, who, f"{trial.plan.what} for all guests, after a trial of {after}: {reason}")
                self._promoted = trial
            except PolicyRefused as error:
                state, reason = CanaryState.ROLLED_BACK, f"it cannot be put in force: {error.problems[0]}"
        if made is None:
            ended = "rolled back" if state is CanaryState.ROLLED_BACK else "ended"
            made = (self._put_again(who, f"{ended} the trial of: {trial.plan.what}, after {after}: {reason}"), None)
            log = self._log.warning if state is CanaryState.ROLLED_BACK else self._log.info
            log("the trial of %s is %s after %s: %s", trial.plan.what, state, after, reason)
        self._ended = trial.told(now, state, reason)
        self._forget_trial()
        return self._ended, made

    def _note_trial(self, plan: Plan) -> None:
        path = self._trying.noted_in
        if path is None:
            return
        noted = {"what": plan.what, "who": plan.who, "share": plan.share, "guests": plan.choice.pattern, "seconds": plan.seconds}
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
            replace_file(path, json.dumps({"format": _FORMAT, "began": plan.began, **noted}) + "\n")
        except OSError as error:
            self._log.warning("a restart of mom will not tell that it ended this trial: %s: %s", path, error.strerror)

    def _forget_trial(self) -> None:
        if self._trying.noted_in is not None:
            with contextlib.suppress(OSError):
                self._trying.noted_in.unlink(missing_ok=True)

    def _tell_of_cut_off(self, policy: Policy, overlay: Overlay) -> None:
        """A trial ends with the run of mom in which it began: what it had shown is lost, and guests have got their memory back."""
        path = self._trying.noted_in
        if path is None:
            return
        try:
            noted = json.loads(path.read_bytes())
            what, who, guests = str(noted["what"]), str(noted["who"]), str(noted["guests"])
            share = None if noted["share"] is None else float(noted["share"])
            seconds, began = float(noted["seconds"]), float(noted["began"])
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            self._forget_trial()
            return
        reason = "mom was restarted or reconfigured meanwhile"
        state = self._put(policy, overlay, "mom", f"rolled back the trial of: {what}: {reason}")
        self._ended = Canary(CanaryState.ROLLED_BACK, what, who, state.version, share, guests, seconds, began, 0.0, reason=reason)
        self._log.warning("the trial of %s, begun by %s, is rolled back: %s", what, who, reason)
        self._forget_trial()

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

    def _compiled(self, read: Read, overlay: Overlay) -> Policy:
        """Compiled for use, or everything that is wrong with files and texts as a `ConfigError` with their places."""
        effective = overlay.over(read.texts)
        try:
            policy = self._compile(_texts(effective))
        except PolicyError as error:
            raise ConfigError(sorted([*read.problems, *(_config_problem(fault, effective) for fault in error.faults)])) from None
        if read.problems:
            raise ConfigError(sorted(read.problems))
        return policy

    def _change_to(
        self, overlay: Overlay, who: str, what: str, base: Mapping[str, PolicyText] | None = None
    ) -> tuple[PolicyState, Policy | None]:
        """Compile, keep and put in force; or raise `PolicyRefused`, and nothing has changed."""
        current = self._current()
        based_on = self._base if base is None else base
        effective = overlay.over(based_on)
        if _texts(effective) == _texts(current.state.texts) and _same(overlay, current.overlay):
            self._base = based_on
            return current.state, None
        try:
            policy = self._compile(_texts(effective))
        except PolicyError as error:
            raise PolicyRefused(_problems(error), hint="the policies from before stay in force") from None
        self._base = based_on
        self._keep(overlay)
        state = self._put(policy, overlay, who, what)
        self._log.info("policies changed by %s: %s; version %s", who, what, state.version)
        return state, policy

    def _put(self, policy: Policy, overlay: Overlay, who: str, what: str) -> PolicyState:
        effective = overlay.over(self._base)
        self._count += 1
        digest = hashlib.sha256(json.dumps(_texts(effective)).encode()).hexdigest()
        state = PolicyState(f"{self._count}-{digest[:12]}", effective)
        self._versions.append(Version(PolicyChange(state.version, time.time(), who, what), state, overlay))
        self.policy = policy
        self._keep_history()
        return state

    def _goes_on_with(self, policy: Policy, overlay: Overlay) -> bool:
        """Whether what was read at the start is the very version that was in force at the end: then that one still is."""
        if not self._versions:
            return False
        last = self._versions[-1]
        if overlay.over(self._base) != last.state.texts or overlay != last.overlay:
            return False
        self.policy = policy
        return True

    # --- on disk --------------------------------------------------------------------------------------------------------------------

    def _keep(self, overlay: Overlay) -> None:
        path = self._kept_in
        if path is None:
            return
        changes = {name: None if text is None else {"text": text.text, "origin": text.origin} for name, text in overlay.texts.items()}
        try:
            if not overlay.texts and not overlay.alone:
                path.unlink(missing_ok=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
                replace_file(path, json.dumps({"format": _FORMAT, "alone": overlay.alone, "changes": changes}) + "\n")
        except OSError as error:
            self.write_error = f"changed policies cannot be kept in {path}: {error.strerror}; they last until mom ends"
            self._log.error("%s", self.write_error)
            return
        self.write_error = ""

    @property
    def _history_in(self) -> Path | None:
        return None if self._kept_in is None else self._kept_in.with_name("history.json")

    def _keep_history(self) -> None:
        """Only for who looks or goes back later, so a disk that does not take it is said, and changes nothing else."""
        path = self._history_in
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
            replace_file(path, encoded(self._versions, self._count))
        except OSError as error:
            self._log.error("the history of the policies cannot be kept in %s: %s; it lasts until mom ends", path, error.strerror)

    def _take_up_history(self) -> None:
        path = self._history_in
        if path is None:
            return
        try:
            versions, self._count = decoded(path.read_bytes())
            self._versions.extend(versions)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            self._log.error("the history of the policies in %s cannot be read: %s", path, error.strerror)
        except NO_VERSIONS as error:
            self._log.error("the history of the policies in %s is damaged, and begins anew (%s)", path, type(error).__name__)

    def _kept(self) -> Overlay:
        if self._kept_in is None:
            return Overlay()
        try:
            content = json.loads(self._kept_in.read_bytes())
            if content["format"] != _FORMAT:
                raise ValueError("another format")
            texts = {
                str(name): None if change is None else PolicyText(str(change["text"]), str(change["origin"]))
                for name, change in content["changes"].items()
            }
            return Overlay(texts, bool(content["alone"]))
        except (FileNotFoundError, NotADirectoryError):
            return Overlay()
        except OSError as error:
            self.damage = f"the policies that an earlier run kept in {self._kept_in} cannot be read: {error.strerror}"
            self._log.error("%s", self.damage)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            self._set_aside(f"the file is damaged ({type(error).__name__})")
        return Overlay()

    def _set_aside(self, reason: str) -> None:
        assert self._kept_in is not None  # noqa: S101  # it was read
        aside = self._kept_in.with_name(f"{self._kept_in.name}.unused-{time.time_ns()}")
        self.damage = f"the policies that an earlier run kept are not used, and set aside as {aside}: {reason}"
        with contextlib.suppress(OSError):
            self._kept_in.rename(aside)
        self._log.error("%s", self.damage)


def _said(changes: Mapping[str, str | None], *, replace_all: bool = False) -> str:
    """What is done, in words."""
    done = [("removed " if text is None else "set ") + printable(name, 128) for name, text in changes.items()]
    return ", ".join((["removed all others"] if replace_all else []) + done) or "nothing"


def _texts(policies: Mapping[str, PolicyText]) -> dict[str, str]:
    return {name: policy.text for name, policy in policies.items()}


def _same(one: Overlay, other: Overlay) -> bool:
    """Whether both change the same, whoever did it."""
    return one.alone == other.alone and {n: t and t.text for n, t in one.texts.items()} == {n: t and t.text for n, t in other.texts.items()}


def _problems(error: PolicyError) -> tuple[PolicyProblem, ...]:
    return tuple(PolicyProblem(fault.name, fault.line, fault.column, fault.kind, fault.message) for fault in error.faults)


def _config_problem(fault: Fault, policies: Mapping[str, PolicyText]) -> ConfigProblem:
    known = policies.get(fault.name)
    return ConfigProblem(where_from(fault.name, known), fault.line, fault.column, f"{fault.kind}: {fault.message}")


DEFAULT: Final = "default"
"""The origin of a policy that a plugin brings."""


def where_from(name: str, policy: PolicyText | None) -> str:
    """How a message names a policy: by its file where it has one."""
    if policy is None or policy.origin == DEFAULT:
        return f"default policy {name}"
    return printable(policy.origin if policy.origin.startswith("/") else f"policy {name} ({policy.origin})", 400)
