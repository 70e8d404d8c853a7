"""Sentences of `mom explain`; imported late, as they need mom-daemon."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mom_core import format_kib
from mom_daemon import About, Explainer, ExplanationPart, Sentence, SentencePlace
from mom_plugins_host.cgroup import groups
from mom_plugins_host.credit import control

_LIMITS: Final = {
    groups.MEMORY_HIGH: "above {}, the kernel reclaims its memory and slows it down",
    groups.MEMORY_LOW: "below {}, the kernel reclaims its memory only as a last resort",
    groups.MEMORY_MIN: "below {}, the kernel never reclaims its memory",
    groups.SWAP_MAX: "at most {} of it may be in the host's swap",
}


class GroupExplainer(Explainer):
    """Memory that the host holds for the guest, and the limits of its control group."""

    controls = groups.CONTROLS

    def part(self, about: About) -> ExplanationPart:
        """Return nothing for a guest without a known group."""
        return ExplanationPart([Sentence("group", text, SentencePlace.PRESENT + 1) for text in _group_sentences(about)])


def _group_sentences(about: About) -> Iterator[str]:
    held, swapped = about.number(groups.CURRENT), about.number(groups.SWAP)
    if held is not None:
        swap = f", and {format_kib(swapped)} of it in its swap" if swapped else ""
        yield f"The host holds {format_kib(held)} for it, QEMU and caches included{swap}."
    limits = [words.format(format_kib(kib)) for name, words in _LIMITS.items() if (kib := about.number(name)) is not None and kib > 0]
    if limits:
        yield f"Limits of its control group: {'; '.join(limits)}."
    if about.number(control.CREDIT) and (high := about.number(groups.MEMORY_HIGH)) is not None and high > 0:
        yield f"The host is short of memory: for now, it may grow to {format_kib(high)}."
    if delay := about.number(control.DELAY):
        available = about.report.snapshot.host.number("mem_really_available")
        yield f"Its growth was delayed for {delay:.1f} s{'' if available is None else f': the host had {format_kib(available)} left'}."
