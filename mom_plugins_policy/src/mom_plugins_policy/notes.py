"""Notes of policies on entities, kept across cycles and restarts (`Remember`, `Recall`)."""

from __future__ import annotations

from collections.abc import Sequence

from mom_core import Snapshot
from mom_plugins_policy.language.policy import Policy, Result
from mom_toolkit import NoteStore


class PolicyNotes(NoteStore):
    """The notes that evaluations find, and leave."""

    def evaluate(self, policy: Policy, snapshot: Snapshot, history: Sequence[Snapshot]) -> Result:
        """One evaluation that finds these notes, and leaves its own: nil forgets."""
        before = self.begin(snapshot)
        result = policy.evaluate(snapshot, history, before)
        after = {identity: {**before.get(identity, {}), **values} for identity, values in result.notes.items()}
        self.keep({identity: {name: one for name, one in values.items() if one is not None} for identity, values in after.items()})
        return result
