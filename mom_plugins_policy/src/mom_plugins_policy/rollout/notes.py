"""Notes that policies remember from one evaluation to the next."""

from __future__ import annotations

from collections.abc import Sequence

from mom_core import Snapshot
from mom_plugins_policy.language.policy import Policy, Result
from mom_plugins_policy.notes import NoteStore


class PolicyNotes(NoteStore):
    """Notes that evaluations read and write."""

    def evaluate(self, policy: Policy, snapshot: Snapshot, history: Sequence[Snapshot]) -> Result:
        """Evaluate with these notes, and keep the new ones. Nil removes a note, and so does a policy that no longer names it."""
        before = self.begin(snapshot)
        named = policy.code.notes
        if named is not None:  # a note that no policy names would take the room of others for ever
            unnamed = [identity for identity, values in before.items() if not values.keys() <= named]
            left = {identity: {name: value for name, value in before[identity].items() if name in named} for identity in unnamed}
            self.keep(left)
            before.update(left)
        result = policy.evaluate(snapshot, history, before, self.room)
        after = {identity: {**before.get(identity, {}), **values} for identity, values in result.notes.items()}
        self.keep({identity: {name: value for name, value in values.items() if value is not None} for identity, values in after.items()})
        return result
