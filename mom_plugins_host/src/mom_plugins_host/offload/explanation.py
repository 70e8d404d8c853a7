"""What `mom explain` says of a guest's cold memory."""

from __future__ import annotations

from collections.abc import Iterator

from mom_core import format_kib, lasting, printable
from mom_daemon import About, Explainer, ExplanationPart, Sentence, SentencePlace
from mom_plugins_host.offload.fields import COLD, CONTROLS, OFFLOAD, OFFLOADED, STATE, WORKING_SET, WORKING_SET_AGE


class ColdExplainer(Explainer):
    """Sentences on the guest's working set, its memory in swap, and why not more of it is there."""

    controls = CONTROLS
    nouns = {OFFLOAD: "cold memory to swap at"}  # noqa: RUF012  # declared as a mapping

    verbs = {OFFLOAD: ("swapped out faster", "swapped out more slowly")}  # noqa: RUF012  # declared as a mapping

    def part(self, about: About) -> ExplanationPart:
        """Nothing of a guest of which the plugin knows nothing."""
        return ExplanationPart([Sentence("cold memory", text, SentencePlace.PRESENT + 2) for text in _sentences(about)])


def _sentences(about: About) -> Iterator[str]:
    working_set, age, cold = (about.number(name) for name in (WORKING_SET, WORKING_SET_AGE, COLD))
    if working_set is not None and age is not None and cold is not None:
        yield f"It got along with {format_kib(working_set)} in the host's memory {lasting(age)} ago; {format_kib(cold)} more are cold."
    away, moved = about.number("host_swap"), about.number(OFFLOADED)
    if away or moved:
        by_mom = f"; {format_kib(moved)} went there by mom since it knows the guest" if moved else ""
        yield f"{format_kib(away or 0)} of it are in the host's swap{by_mom}."
    why = about.guest.fields.get(STATE)
    if isinstance(why, str) and why:
        yield f"Nothing of it goes to swap now: {printable(why, 200)}."
