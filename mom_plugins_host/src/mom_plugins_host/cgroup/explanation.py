"""Sentences of `mom explain` on a guest's control group."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mom_core import format_kib
from mom_daemon import About, Explainer, ExplanationPart, Sentence, SentencePlace
from mom_plugins_host.cgroup.fields import CONTROLS, CURRENT, MEMORY_HIGH, MEMORY_LOW, MEMORY_MIN, SWAP, SWAP_MAX

_LIMITS: Final = {
    MEMORY_HIGH: "above {} memory is taken from it, and it is slowed down",
    MEMORY_LOW: "below {} memory is taken from it as a last resort only",
    MEMORY_MIN: "below {} no memory is taken from it",
    SWAP_MAX: "at most {} of it may be in the host's swap",
}


class GroupExplainer(Explainer):
    """The memory that the host holds for the guest, and its limits."""

    controls = CONTROLS

    def part(self, about: About) -> ExplanationPart:
        """Nothing of a guest whose group is not known."""
        return ExplanationPart([Sentence("group", text, SentencePlace.PRESENT + 1) for text in _sentences(about)])


def _sentences(about: About) -> Iterator[str]:
    held, swapped = about.number(CURRENT), about.number(SWAP)
    if held is not None:
        swap = f", and {format_kib(swapped)} of it in its swap" if swapped else ""
        yield f"The host holds {format_kib(held)} for it, QEMU and caches included{swap}."
    limits = [words.format(format_kib(kib)) for name, words in _LIMITS.items() if (kib := about.number(name)) is not None and kib > 0]
    if limits:
        yield f"Of its control group: {'; '.join(limits)}."
