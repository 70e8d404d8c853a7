"""Eviction in `mom explain`."""

from __future__ import annotations

from mom_core import printable
from mom_daemon import About, Explainer, ExplanationPart, Sentence, SentencePlace
from mom_plugins_sla.eviction.fields import CONTROLS, EVICTED, EVICTION_ERROR


class EvictionExplainer(Explainer):
    """Sentences on the guest's step and last error."""

    controls = CONTROLS

    def part(self, about: About) -> ExplanationPart:
        """Return the sentences; none for a guest that stays."""
        texts = []
        if step := about.guest.text(EVICTED):
            texts.append(f"The host stays full. Step in progress or announced: {printable(step, 200)}.")
        if error := about.guest.text(EVICTION_ERROR):
            texts.append(f"The last step failed: {printable(error, 300)}.")
        return ExplanationPart([Sentence("eviction", text, SentencePlace.NEXT) for text in texts])
