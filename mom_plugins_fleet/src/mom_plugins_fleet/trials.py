"""Policies that are tried on some hosts of a group before all have them: which hosts, how it goes, and what follows.

The operator signs three records at once: the one that says what is tried where, and the two that may follow. Each host judges by itself how
its guests fare, as in a trial on some guests (`PolicyTexts.begin_canary`), and takes back at once what does harm. A coordinator has one of
the two follow; where none works, hosts go back to what they had soon after the end.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from mom_core import MomError
from mom_kvm import CanaryState
from mom_plugins_fleet.link import ConflictError, Store
from mom_plugins_fleet.records import NEVER, Group, Trial, TrialState
from mom_plugins_fleet.signatures import Signer
from mom_plugins_fleet.subjects import GROUPS
from mom_plugins_fleet.view import FleetView

VERDICT_SECONDS: Final = 300.0
"""For so long after its end a host on which a trial went well stays with it: until then a coordinator has said what follows."""

LATE_SECONDS: Final = VERDICT_SECONDS / 2
"""For so long it waits for hosts that have not told how it went: their clocks differ, and moms are started anew."""


def chosen(view: FleetView, group: str, share: float) -> tuple[str, ...]:
    """So large a share of a group's hosts, at least one, of those that can try something: the same ones each time. Raises `MomError`."""
    hosts = view.hosts_of(group)
    able = [name for name in hosts if _can_try(view, name)]
    if not able:
        raise MomError(
            f"no host of the group {group} can try anything now",
            hint="it takes one that has guests, acts, is not drained, and has taken its policies",
        )
    able.sort(key=lambda name: hashlib.sha256(name.encode()).digest())
    return tuple(sorted(able[: max(1, math.ceil(share * len(hosts)))]))


def _can_try(view: FleetView, host: str) -> bool:
    state, member = view.states.get(host), view.members.get(host)
    if state is None or member is None or not view.is_fresh(host):
        return False
    if state.refused:  # what is tried comes on top of what is refused
        return False
    return state.mode == "enforce" and not member.draining and bool(state.guests or state.others)


def with_followers(signer: Signer, group: str, record: Group, policies: Mapping[str, str], revision: int) -> Group:
    """A group's record with a trial, and beside it, signed, what can follow it: it with these policies, and it without the trial."""
    trial = record.trial
    if trial is None:
        return record
    tried = f"{record.by}, after a trial on {', '.join(trial.on)}"[:400]
    # Where hosts are only asked, nothing has shown that it does no harm: it follows that on no host, whoever gives it.
    promoted = Group(policies=policies, not_before=trial.ends if trial.on else NEVER, by=tried)
    before = record.model_copy(update={"trial": None, "by": f"{record.by}, as before {trial.what} was tried"})
    texts = [signer.signed(GROUPS, group, one, revision + n).decode() for n, one in ((1, promoted), (2, before))]
    return record.model_copy(update={"trial": trial.model_copy(update={"promoted": texts[0], "rolled_back": texts[1]})})


def told(view: FleetView, group: str) -> Mapping[str, TrialState]:
    """What hosts say of the trial of that group, or of its last one."""
    found = {name: state.trial for name in view.hosts_of(group) if (state := view.states.get(name)) is not None and state.trial is not None}
    revision, record = view.groups.records[group]
    newest = max((one.revision for one in found.values()), default=0) if record.trial is None else revision
    return {name: one for name, one in found.items() if one.revision == newest}


def verdict(trial: Trial, states: Mapping[str, TrialState], now: float) -> tuple[CanaryState, str]:
    """What becomes of a trial by what its hosts say, and why.

    :param now: seconds since the epoch
    """
    mine = {host: states[host] for host in trial.on if host in states}
    for host, one in mine.items():
        if one.state in (CanaryState.ROLLED_BACK, CanaryState.ABORTED):
            return CanaryState.ROLLED_BACK, f"{host}: {one.reason}"
    good, of = sum(one.state is CanaryState.PROMOTED for one in mine.values()), len(trial.on)
    if now < trial.ends or (good < of and now < trial.ends + LATE_SECONDS):
        return CanaryState.RUNNING, ""
    if 2 * good > of:
        return CanaryState.PROMOTED, f"guests of {good} of {of} hosts fared as well as before"
    return CanaryState.ROLLED_BACK, f"too little is known to promote it: only {good} of {of} hosts say that it went well"


async def settle(store: Store, view: FleetView, group: str, now: float) -> tuple[CanaryState, str]:
    """The verdict on the trial of a group; one that is over has its record followed by the one that is due. Raises `LinkError`."""
    record = view.groups.get(group)
    trial = None if record is None else record.trial
    if trial is None:
        return CanaryState.RUNNING, ""
    state, why = verdict(trial, told(view, group), now)
    if state is not CanaryState.RUNNING:
        after = trial.promoted if state is CanaryState.PROMOTED else trial.rolled_back
        with suppress(ConflictError):  # another one was faster
            await store.put(GROUPS, group, after.encode(), view.groups.stands(group))
    return state, why
