"""Puts back what stands in the ledger, through the plugins that know how, and says what came of each entry."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from mom_core.engine.judgement import Controller, back, target_of
from mom_core.errors import StateError
from mom_core.ledger import Key, Ledger
from mom_core.model import LedgerEntry, Outcome, Scope, Snapshot, Status, printable
from mom_core.plugins.invoker import Call, describe
from mom_core.plugins.registry import Plugin, PluginSet

LOG = logging.getLogger("mom.restore")

ENDED = frozenset({Status.APPLIED, Status.UNCHANGED, Status.GONE, Status.LEFT_ALONE})
"""Outcomes after which an entry has nothing left to say."""


LOOK_AGAIN_SECONDS = 0.05
"""How often it is looked which of the plugins that hang have come back: of the seconds that a stop has, that costs no share."""


def restore(
    plugins: PluginSet,
    ledger: Ledger,
    seconds: float,
    only: Collection[Key] | None = None,
    sleep: Callable[[float], None] = time.sleep,
    left_behind: Sequence[Plugin] = (),
) -> list[Outcome]:
    """Put back what the ledger holds, all plugins at the same time; what has ended leaves the ledger.

    :param seconds: how long to wait at most; what is not put back by then stays in the ledger, for the next attempt
    :param only: the entries that are meant, by entity id and control; all of them when it is left out
    :param sleep: lets so many seconds pass for what takes its time to follow
    :param left_behind: plugins of before a reload, whose calls may not have come back yet
    :return: an outcome for each entry; a decision's value there is what should stand again
    """
    entries = [entry for key, entry in ledger.entries.items() if only is None or key in only]
    until = time.monotonic() + seconds
    outcomes: list[Outcome] = []
    shares: dict[Plugin, list[LedgerEntry]] = {}
    named = {plugin.name: plugin for plugin in plugins.plugins if "mom_write" in plugin.hooks}
    for entry in entries:
        owner = plugins.owner(entry.control) or named.get(entry.plugin)  # another plugin may have the control by now
        if owner is None:
            outcomes.extend(_failed([entry], f"the plugin {entry.plugin} is not enabled"))
        else:
            shares.setdefault(owner, []).append(entry)
    for plugin, share, call in _begun(plugins, shares, until, sleep, left_behind):
        if call is None:
            outcomes.extend(_failed(share, f"the plugin {plugin.name} hangs"))
            continue
        answer = plugin.worker.finish(call, until=until)
        if answer.error is not None:
            plugin.worker.log_failure("mom_write", answer.error)
            outcomes.extend(_failed(share, describe(answer.error)))
        else:
            outcomes.extend(_matched(plugin, share, answer.value))
    forget(ledger, [(outcome.decision.entity.id, outcome.decision.control) for outcome in outcomes if outcome.status in ENDED])
    return outcomes


def _begun(
    plugins: PluginSet,
    shares: Mapping[Plugin, Sequence[LedgerEntry]],
    until: float,
    sleep: Callable[[float], None],
    left_behind: Sequence[Plugin],
) -> Iterable[tuple[Plugin, Sequence[LedgerEntry], Call | None]]:
    """The calls that put these entries back; None of a plugin that hangs until the end.

    A call that mom gave up on may still be changing things; only when it is over can they be put back. No plugin waits for another one's.
    """
    calls: dict[Plugin, Call | None] = {}
    writers = {plugin: [plugin, *(one for one in left_behind if one.controls.keys() & plugin.controls.keys())] for plugin in shares}
    hung = [*shares]
    while hung:
        for plugin in hung:
            if all(one.worker.wait_until_free(0.0) for one in writers[plugin]):
                plugin.worker.reset_failures()
                controller = Controller(plugin.controls, plugin.hooks, plugins.hypervisor, sleep)
                # One whose control the plugin has not any more is left out, and so has failed.
                work = partial(controller.put_back, [entry for entry in shares[plugin] if entry.control in plugin.controls])
                calls[plugin] = plugin.worker.begin("mom_write", work)
        hung = [plugin for plugin in hung if plugin not in calls]
        if (now := time.monotonic()) >= until:
            break
        if hung:
            for one in writers[hung[0]]:
                one.worker.wait_until_free(min(until, now + LOOK_AGAIN_SECONDS))
    return [(plugin, share, calls.get(plugin)) for plugin, share in shares.items()]


def forget(ledger: Ledger, keys: Sequence[Key]) -> None:
    """End entries, and only log it when the disk does not take that: they would be found ended at the next attempt too."""
    try:
        ledger.forget(keys)
    except StateError as error:
        LOG.error("%s", error)


CYCLES_UNTIL_GONE = 3
"""A guest that is missing from so many lists in a row is gone. One list may be short when a hypervisor has just restarted."""


def forget_gone(ledger: Ledger, snapshot: Snapshot, missing: Mapping[str, int]) -> Mapping[str, int]:
    """End the entries of guests that are gone or were started anew since. Only when the list of guests is known.

    :param missing: what the last call has given
    :return: for how many lists in a row guests with entries have been missing, by their ids
    """
    of_guests = [entry for entry in ledger.entries.values() if entry.entity.scope is Scope.GUEST]  # one may have the host's id
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


def _matched(plugin: Plugin, entries: Sequence[LedgerEntry], answer: object) -> Iterable[Outcome]:
    """An outcome for each entry; of a control that the plugin has not any more, that it has failed."""
    given = {target_of(one.decision): one for one in answer} if isinstance(answer, list) else {}
    for entry in entries:
        outcome = given.get(target_of(entry))
        if outcome is None:
            yield from _failed([entry], f"the plugin {plugin.name} has no control {entry.control} any more")
        else:
            yield _told(entry, outcome)


def _told(entry: LedgerEntry, outcome: Outcome) -> Outcome:
    """That a value is another process's is only a guess, where mom was cut off before it could note what came of its own change."""
    if outcome.status is not Status.LEFT_ALONE or not entry.in_doubt:
        return outcome
    applied, before = (printable(str(value)) for value in (entry.applied, entry.before))
    doubt = f"mom was cut off while it set {applied}: if no other process has changed it since, set it to {before} by hand"
    return replace(outcome, error=f"{outcome.error}; {doubt}" if outcome.error else doubt)
