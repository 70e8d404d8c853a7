"""The trial of its group's policies on one host: begun, judged by the host's own evaluator, and told of."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final

from mom_core import MomError, printable
from mom_kvm import Canary, CanaryState, PolicyTexts
from mom_plugins_fleet.records import CLASSES, FLEET_POLICY, MOST_REMARKS, Group, Trial, TrialState, shown
from mom_plugins_fleet.signatures import Opened, opened
from mom_plugins_fleet.subjects import GROUPS
from mom_plugins_fleet.trials import VERDICT_SECONDS

WHO: Final = "the fleet, "
"""So begins who changes policies here for the fleet."""


def fleet_texts(policies: PolicyTexts) -> Mapping[str, str]:
    """The fleet's policies that are in force here."""
    return {name: text.text for name, text in policies.state().texts.items() if FLEET_POLICY.match(name)}


def changes_to(record: Group, now: Mapping[str, str]) -> Mapping[str, str | None]:
    """What makes a record's policies of those, as `PolicyTexts.change` takes it."""
    wanted = {name: text for name, text in record.policies.items() if name != CLASSES}
    changed = {name: text for name, text in wanted.items() if now.get(name) != text}
    return {**changed, **dict.fromkeys(now.keys() - wanted.keys() - {CLASSES})}


@dataclass(frozen=True, slots=True)
class _Tried:
    """One trial: in whose name it runs here, what changes, and what there is to say of it besides how it goes."""

    who: str
    changes: Mapping[str, str | None]
    state: TrialState

    def running(self, policies: PolicyTexts) -> Canary | None:
        """How it goes; None: it has not begun since mom did."""
        found = policies.canary()
        return found if found is not None and found.who == self.who else None


class HostTrial:
    """The newest one that this host has heard of. For one thread but for `told`.

    :param operators: the public keys of those who direct this host
    """

    def __init__(self, host: str, operators: Collection[str]) -> None:
        self._host, self._operators = host, operators
        self._tried: _Tried | None = None

    def in_force(self, policies: PolicyTexts, group: str, found: Opened[Group], who: str, *, again: bool = False) -> Group:
        """The record whose policies are to stand here: what is tried, where it went well, until it is known what follows. A trial that is
        over is ended. Raises `MomError`.

        :param again: it was in force here before, so that a clock that is behind now takes it from nobody
        """
        record, now, running = found.record, time.time(), policies.canary()
        if record.not_before > now and not again:
            raise MomError("it is what is being tried, and the time for that is not over", hint="if it is, see to the clock here")
        if running is not None and running.state is CanaryState.RUNNING and running.who.startswith(WHO) and running.who != who:
            policies.end_canary(promote=False, who=who)
        trial = record.trial
        if trial is None:
            return record
        promoted = opened(Group, GROUPS, group, trial.promoted.encode(), self._operators).record
        if self._tried is None or self._tried.who != who:
            # Against what is in force here, and not against the record: what of that is refused here would not be looked at.
            wrong = policies.remarks(changes_to(promoted, fleet_texts(policies)))
            remarks = tuple(printable(f"{one.severity}: {one}", 300) for one in wrong[:MOST_REMARKS])
            self._tried = _Tried(who, changes_to(promoted, record.policies), TrialState(revision=found.revision, remarks=remarks))
        mine = self._tried.running(policies)
        good = mine is not None and mine.state is CanaryState.PROMOTED and now < trial.ends + VERDICT_SECONDS
        return promoted if good else record

    def begin(self, policies: PolicyTexts, trial: Trial | None) -> None:
        """Begin what is to be tried here, if that has not been done since mom began: what a trial has shown is forgotten with its mom."""
        tried = self._tried
        if trial is None or tried is None or self._host not in trial.on or tried.running(policies) is not None:
            return
        try:
            policies.begin_canary(tried.changes, who=tried.who, seconds=trial.ends - time.time(), share=1.0)
            refused = ""
        except MomError as error:  # it is tried again with each look
            refused = shown(error)
        self._tried = replace(tried, state=tried.state.model_copy(update={"refused": refused}))

    def told(self, policies: PolicyTexts | None) -> TrialState | None:
        """How it goes here, for the fleet."""
        tried = self._tried
        mine = None if tried is None or policies is None else tried.running(policies)
        if tried is None or mine is None:
            return None if tried is None else tried.state
        seen = {"state": mine.state, "reason": printable(mine.reason, 400), "canary": mine.canary, "before": mine.before}
        return tried.state.model_copy(update=seen)
