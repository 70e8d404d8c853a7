"""Changes of policies that are tried on some guests first, and then put in force for all or for none."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from mom_core import MomError, PluginContext, Snapshot, UnitError, format_duration, printable
from mom_kvm import Canary, CanaryState, PolicyRefused, PolicyState
from mom_plugins_policy.language.errors import PolicyError
from mom_plugins_policy.language.limits import PolicyLimits
from mom_plugins_policy.language.policy import Policy, Result
from mom_plugins_policy.rollout.canary import CanaryRun, ChosenGuests
from mom_plugins_policy.rollout.in_force import STAY, ChangingPolicies, said_of, texts_of
from mom_plugins_policy.rollout.verdict import LEAST_CYCLES
from mom_plugins_policy.rollout.versions import Overlay

LONGEST_TRIAL_SECONDS: Final = 7 * 86400.0
"""A week has every day in it; what is tried for longer is forgotten."""


class TriedPolicies(ChangingPolicies):
    """Policies that change at run time, and can be tried on some guests first."""

    def __init__(self, context: PluginContext, limits: PolicyLimits, *given: Any, refuse_failing: bool) -> None:
        super().__init__(context, limits, *given, refuse_failing=refuse_failing)
        self.on_some: CanaryRun | None = None
        """The trial that runs. Replaced as a whole, as the policy is."""
        self.newest: tuple[Snapshot, Result] | None = None
        """The newest evaluation."""
        self._overlay_tried = Overlay()
        self._ended: Canary | None = None
        self._promoted: CanaryRun | None = None

    # --- files ----------------------------------------------------------------------------------------------------------------------

    def prepare(self) -> Callable[[], None]:
        """Read and compile the files again; a trial goes on with them, if what is tried goes with them."""
        put_in_force = super().prepare()

        def commit() -> None:
            put_in_force()
            with self._lock:
                trial = self.on_some
                if trial is None:
                    return
                try:
                    texts = texts_of(self._overlay_tried.over(self._base))
                    trial.policy = Policy.compile(texts, self._context.declarations, self._limits.beside())
                    trial.begun = replace(trial.begun, version=self._current().change.version)
                except PolicyError as error:
                    self._end(trial, CanaryState.ROLLED_BACK, "mom", f"it does not go with the files any more: {error.faults[0]}")

        return commit

    def failure(self) -> str:
        """Why the newest evaluation ended before its end."""
        newest = None if self.newest is None else self.newest[1]
        return printable(str(newest.errors[-1]), 400) if newest is not None and newest.stopped else ""

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
        who, now = printable(who, 200), self._context.monotonic()
        with self._lock:
            self._expect(expected_version)
            overlay = self._overlay.changed(changes, who, self._base, replace_all=False)
            texts = texts_of(overlay.over(self._base))
            if texts == texts_of(self._current().state.texts):
                raise MomError("there is nothing to try: this changes nothing", hint="`mom policy show` prints what is in force")
            tried = self._usable(texts, self._limits.beside(), f"{STAY} for all guests")
            self._expect_sense(seconds, share, guests)
            choice, on = self._chosen(share, guests)
            what = said_of(changes)
            state = self._put_again(who, f"tries {what} on {on} for {format_duration(seconds)}")
            begun = Canary(CanaryState.RUNNING, what, who, state.version, share, choice.pattern, seconds, time.time(), left_seconds=seconds)
            trial = CanaryRun(begun, now, choice, tried, self.memory)
            self.on_some, self._overlay_tried = trial, overlay
        self._log.info("%s is tried on %s for %s, by %s; version %s", what, on, format_duration(seconds), who, state.version)
        self._context.wake("policies are tried on some guests")
        return trial.told(now)

    def canary(self) -> Canary | None:
        """The trial that runs, or the last one."""
        trial = self.on_some
        return self._ended if trial is None else trial.told(self._context.monotonic())

    def end_canary(self, *, promote: bool, who: str, expected_version: str | None = None) -> Canary:
        """End the trial that runs, for all guests or for none."""
        who = printable(who, 200)
        with self._lock:
            super()._expect(expected_version)
            trial = self.on_some
            if trial is None:
                raise MomError("no policies are tried on some guests now", hint="`mom policy set NAME FILE --canary 10%` does")
            state = CanaryState.PROMOTED if promote else CanaryState.ABORTED
            ended, made = self._end(trial, state, who, f"by {who}")
        self._announced(made)
        return ended

    def settle(self, trial: CanaryRun) -> Canary | None:
        """End a trial if it has shown what it can; what came of it, None while it goes on."""
        state, reason = trial.verdict(self._context.monotonic())
        if self._context.observes:  # since it began: what is decided is not done any more, so that no guest shows anything
            state, reason = CanaryState.ROLLED_BACK, "mom only observes by now, so that nothing is tried"
        if state is CanaryState.RUNNING:
            return None
        with self._lock:
            if self.on_some is not trial:
                return None
            ended, made = self._end(trial, state, f"mom, for {trial.begun.who}", reason)
        self._announced(made)
        return ended

    def take_memory(self) -> None:
        """Remember what the policies remembered that were promoted. Called between two evaluations, by who evaluates."""
        if self._promoted is None:  # as nearly always: an evaluation does not wait for who compiles policies to change or check them
            return
        with self._lock:
            promoted, self._promoted = self._promoted, None
        if promoted is not None:
            self.set_memory(promoted.memory(self.memory()))

    # --- inside: the lock is held ---------------------------------------------------------------------------------------------------

    def _expect(self, version: str | None) -> None:
        super()._expect(version)
        trial = self.on_some
        if trial is not None:
            left = format_duration(max(1, round(trial.left(self._context.monotonic()))))
            message = f"{trial.begun.what} is being tried on some guests, for {left} still: nothing else changes meanwhile"
            raise MomError(message, hint="`mom policy canary --promote` or `--abort` ends it")

    def _expect_sense(self, seconds: float, share: float | None, guests: str) -> None:
        """Raise what is wrong with a trial of these guests for so long."""
        if self._context.observes:
            raise MomError("nothing can be tried: mom only observes", hint="`mom replay --policy` and `mom simulate` can do that")
        if (share is None) == (not guests):
            raise UnitError("a trial is on a share of the guests or on those that match a pattern", hint="give one of the two")
        if share is not None and not 0 < share <= 1:
            raise UnitError(f"{share:g} is no share of the guests", hint="write it like 10%, up to 100%")
        if not 0 < seconds <= LONGEST_TRIAL_SECONDS:
            raise UnitError(f"a trial does not last {format_duration(seconds)}", hint=f"at most {format_duration(LONGEST_TRIAL_SECONDS)}")
        interval = self._context.interval
        if seconds < LEAST_CYCLES * interval:
            takes = f"{LEAST_CYCLES} cycles, one every {format_duration(interval)}, take {format_duration(LEAST_CYCLES * interval)}"
            raise UnitError(f"a trial of {format_duration(seconds)} shows nothing: {takes}", hint="10m is usual")

    def _chosen(self, share: float | None, pattern: str) -> tuple[ChosenGuests, str]:
        """Who is in a trial, and how many of how many that is now, in words. Raises `MomError` if it is nobody."""
        if self.newest is None:
            raise MomError("mom has not looked at the guests yet", hint="ask again in a moment")
        guests = list(self.newest[0].guests.values())
        choice = ChosenGuests(pattern) if share is None else ChosenGuests.of_share(share, guests)
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

    def _end(self, trial: CanaryRun, state: CanaryState, who: str, reason: str) -> tuple[Canary, tuple[PolicyState, Policy | None]]:
        """End a trial. What cannot be put in force for all is put in force for none."""
        now, overlay = self._context.monotonic(), self._overlay_tried
        after = format_duration(max(1, round(now - trial.began_at)))
        made: tuple[PolicyState, Policy | None] | None = None
        if state is CanaryState.PROMOTED:
            try:
                made = self._change_to(overlay, who, f"{trial.begun.what} for all guests, after a trial of {after}: {reason}")
                self._promoted = trial
            except PolicyRefused as error:
                state, reason = CanaryState.ROLLED_BACK, f"it cannot be put in force: {error.problems[0]}"
        if made is None:
            ended = "rolled back" if state is CanaryState.ROLLED_BACK else "ended"
            made = (self._put_again(who, f"{ended} the trial of: {trial.begun.what}, after {after}: {reason}"), None)
            log = self._log.warning if state is CanaryState.ROLLED_BACK else self._log.info
            log("the trial of %s is %s after %s: %s", trial.begun.what, state, after, reason)
        self._ended = trial.told(now, state, reason)
        self.on_some, self._overlay_tried = None, Overlay()  # only now: who looks without the lock sees that it runs, or how it has ended
        return self._ended, made
