"""The part of `mom explain` on a guest that has to go."""

from __future__ import annotations

from mom_core import printable
from mom_daemon import About, Explainer, ExplanationPart, Sentence, SentencePlace
from mom_plugins_sla.eviction.fields import CONTROLS, EVICTED, EVICTION_ERROR


class EvictionExplainer(Explainer):
    """Sentences on the step that is being done to the guest, and why one that was tried did not work."""

    controls = CONTROLS

    def part(self, about: About) -> ExplanationPart:
        """Nothing of a guest that stays."""
        said = []
        if doing := about.guest.text(EVICTED):
            said.append(f"The host stays full, and this is done to it, or announced: {printable(doing, 200)}.")
        if error := about.guest.text(EVICTION_ERROR):
            said.append(f"What was tried last to have it leave did not work: {printable(error, 300)}.")
        return ExplanationPart([Sentence("eviction", text, SentencePlace.NEXT) for text in said])
