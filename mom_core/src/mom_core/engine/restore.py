"""Restores original values from the ledger."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from mom_core.engine.judgement import Controller, back, target_of
from mom_core.errors import StateError
from mom_core.ledger import Key, Ledger
from mom_core.model import LedgerEntry, Outcome, Scope, Snapshot, Status
from mom_core.plugins.bounded import Call, located
from mom_core.plugins.registry import Plugin, PluginSet
from mom_core.texts import printable

LOG = logging.getLogger("mom.restore")

ENDED = frozenset({Status.APPLIED, Status.UNCHANGED, Status.GONE, Status.LEFT_ALONE})


def restore(
    plugins: PluginSet, ledger: Ledger, seconds: float, only: Collection[Key] | None = None, sleep: Callable[[float], None] = time.sleep
) -> list[Outcome]:
    """Restore all plugins' values in parallel; remove finished entries.

    :param seconds: time limit; late entries stay in the ledger
    :param only: keys of the entries to restore; None for all
    """
    entries = [entry for key, entry in ledger.entries.items() if only is None or key in only]
    until = time.monotonic() + seconds
    outcomes: list[Outcome] = []
    shares: dict[Plugin, list[LedgerEntry]] = {}
    named = {plugin.name: plugin for plugin in plugins.plugins if "mom_write" in plugin.hooks}
    for entry in entries:
        owner = plugins.owner(entry.control) or named.get(entry.plugin)  # the control may have a new owner
        if owner is None:
            outcomes.extend(_failed([entry], f"the {entry.plugin} plugin is not enabled"))
        else:
            shares.setdefault(owner, []).append(entry)
    calls = _start_restores(plugins, shares, until, sleep)
    for plugin, share in shares.items():
        if plugin not in calls:
            outcomes.extend(_failed(share, f"the {plugin.name} plugin has hung"))
            continue
        answer = plugin.worker.finish(calls[plugin], until=until)
        if answer.error is not None:
            outcomes.extend(_failed(share, located(answer.error)))
        else:
            outcomes.extend(_outcomes_of(plugin, share, answer.value))
    forget(ledger, [(outcome.decision.entity.id, outcome.decision.control) for outcome in outcomes if outcome.status in ENDED])
    return outcomes


def _start_restores(
    plugins: PluginSet, shares: Mapping[Plugin, Sequence[LedgerEntry]], until: float, sleep: Callable[[float], None]
) -> dict[Plugin, Call[object]]:
    calls: dict[Plugin, Call[object]] = {}
    for plugin in sorted(shares, key=lambda plugin: plugin.worker.hung_in):  # wait for hung plugins last
        if plugin.worker.wait_until_free(until):
            controller = Controller(plugin.controls, plugin.hooks, plugins.hypervisor, sleep)
            # Entries for controls that the plugin no longer declares fail: omit them here.
            work = partial(controller.put_back, [entry for entry in shares[plugin] if entry.control in plugin.controls])
            call = plugin.worker.begin("mom_write", work, counts=False)
            if call is not None:
                calls[plugin] = call
    return calls


def forget(ledger: Ledger, keys: Sequence[Key]) -> None:
    """Remove entries. If the disk fails, log the error; the next call removes the entries."""
    try:
        ledger.forget(keys)
    except StateError as error:
        LOG.error("%s", error)


CYCLES_UNTIL_GONE = 3
"""A guest counts as gone if this many consecutive lists lack it. The reason: a restarted hypervisor may list only some guests."""


def forget_gone(ledger: Ledger, snapshot: Snapshot, missing: Mapping[str, int]) -> Mapping[str, int]:
    """Remove the entries of guests that are gone or have restarted.

    :param missing: result of the previous call
    :return: for each missing guest's id, the number of consecutive lists without it
    """
    of_guests = [entry for entry in ledger.entries.values() if entry.entity.scope is Scope.GUEST]  # a guest may have the host's id
    absent = {entry.entity.id for entry in of_guests if entry.entity.id not in snapshot.guests}
    lists = {identity: missing.get(identity, 0) + 1 for identity in absent}

    def has_ended(entry: LedgerEntry) -> bool:
        guest = snapshot.guests.get(entry.entity.id)
        return lists[entry.entity.id] >= CYCLES_UNTIL_GONE if guest is None else guest.incarnation != entry.incarnation

    if gone := [(entry.entity.id, entry.control) for entry in of_guests if has_ended(entry)]:
        forget(ledger, gone)
    return lists


def _failed(entries: Sequence[LedgerEntry], reason: str) -> list[Outcome]:
    return [Outcome(back(entry), None, None, Status.FAILED, reason) for entry in entries]


def _outcomes_of(plugin: Plugin, entries: Sequence[LedgerEntry], answer: object) -> Iterable[Outcome]:
    outcomes = {target_of(outcome.decision): outcome for outcome in answer} if isinstance(answer, list) else {}
    for entry in entries:
        outcome = outcomes.get(target_of(entry))
        if outcome is None:
            yield from _failed([entry], f"the {plugin.name} plugin no longer has the control {entry.control}")
        else:
            yield _with_advice(entry, outcome)


def _with_advice(entry: LedgerEntry, outcome: Outcome) -> Outcome:
    # After an interruption, "another process has changed it" is only a guess.
    if outcome.status is not Status.LEFT_ALONE or not entry.in_doubt:
        return outcome
    applied, before = (printable(str(value)) for value in (entry.applied, entry.before))
    doubt = f"mom was interrupted while it set {applied}: if no other process has changed the value since, set {before} by hand"
    return replace(outcome, error=f"{outcome.error}; {doubt}" if outcome.error else doubt)
