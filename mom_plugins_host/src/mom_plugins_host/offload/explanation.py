"""Sentences of `mom explain`; imported late, as they need mom-daemon."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from mom_core import format_kib, lasting, printable
from mom_daemon import About, Explainer, ExplanationPart, Sentence, SentencePlace
from mom_plugins_host.offload import fields


class ColdExplainer(Explainer):
    """Working set, memory in swap, and why no more is swapped."""

    controls = fields.CONTROLS
    nouns: Mapping[str, str] = MappingProxyType({fields.OFFLOAD: "cold memory to swap at"})
    verbs: Mapping[str, tuple[str, str]] = MappingProxyType({fields.OFFLOAD: ("swapped out faster", "swapped out more slowly")})

    def part(self, about: About) -> ExplanationPart:
        """Return nothing for a guest unknown to the plugin."""
        return ExplanationPart([Sentence("cold memory", text, SentencePlace.PRESENT + 2) for text in _cold_sentences(about)])


def _cold_sentences(about: About) -> Iterator[str]:
    working_set, age, cold = (about.number(name) for name in (fields.WORKING_SET, fields.WORKING_SET_AGE, fields.COLD))
    if working_set is not None and age is not None and cold is not None:
        yield f"It used {format_kib(working_set)} of its memory {lasting(age)} ago; a further {format_kib(cold)} are cold."
    swapped, moved = about.number("host_swap"), about.number(fields.OFFLOADED)
    if swapped or moved:
        by_mom = f"; mom has moved {format_kib(moved)} there since it first saw the guest" if moved else ""
        yield f"{format_kib(swapped or 0)} of it are in the host's swap{by_mom}."
    why = about.guest.fields.get(fields.STATE)
    if isinstance(why, str) and why:
        yield f"mom moves none of it to swap now: {printable(why, 200)}."
