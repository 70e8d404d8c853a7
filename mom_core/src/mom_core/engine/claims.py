"""Which evaluator a control belongs to, so that two that want different things do not take turns when one of them is silent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from mom_core.model import Decision, Problem, Severity, Snapshot, Source

_ROOM: Final = 1000
"""Claims on guests that are gone are forgotten when there are so many more of all claims than twice what the guests here can have."""


class Claims:
    """A control of an entity belongs to the first evaluator, in the YAML order, that has decided it since the configuration was read.

    What others decide about it is dropped, also in cycles in which its owner is silent. An act (`mom_act`) claims nothing, and is kept
    away by no claim, only by what others decide in the same cycle.

    :param order: the evaluators' names in the YAML order
    """

    def __init__(self, order: Sequence[str] = ()) -> None:
        self._rank = {name: rank for rank, name in enumerate(order)}
        self._may_clash = len(self._rank) > 1
        """One evaluator alone has all controls: nothing is noted then."""
        self._owners: dict[tuple[str, str], str] = {}
        self._contested: set[tuple[str, str, str]] = set()

    def owner_before(self, plugin: str, decision: Decision) -> str:
        """The evaluator that comes before this one and has the control; empty when there is none, and this one may decide."""
        if not self._may_clash:
            return ""
        owner = self._owners.get((decision.entity.id, decision.control), "")
        return owner if owner and self._rank.get(owner, 0) < self._rank.get(plugin, 0) else ""

    def claim(self, plugin: str, decision: Decision) -> None:
        """This evaluator decides."""
        if self._may_clash:
            self._owners[decision.entity.id, decision.control] = plugin

    def contest(self, winner: str, loser: str, decision: Decision) -> None:
        """Note that this evaluator's decision was dropped in favour of the other one's."""
        self._contested.add((decision.control, winner, loser))

    def problems(self, snapshot: Snapshot) -> Iterable[Problem]:
        """The contested controls of this cycle, a line for each control and pair of evaluators; called once at its end."""
        contested, self._contested = sorted(self._contested), set()
        self._forget_gone(snapshot)
        for control, winner, loser in contested:
            both = f"{winner} and {loser} both decide {control}"
            text = f"{both}: {winner} has it, as it comes first below `plugins`; take it out of one of them"
            yield Problem(Source("core"), text, severity=Severity.WARNING)

    def _forget_gone(self, snapshot: Snapshot) -> None:
        controls = len({control for _, control in self._owners})
        if len(self._owners) > 2 * controls * (len(snapshot.guests) + 1) + _ROOM:
            there = {*snapshot.guests, snapshot.host.entity.id}
            self._owners = {key: owner for key, owner in self._owners.items() if key[0] in there}
