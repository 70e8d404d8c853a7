"""Sentences of `mom explain`; imported late, as they need mom-daemon."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from mom_core import DiskTune, Value, printable
from mom_daemon import About, Explainer, ExplanationPart, Sentence, SentencePlace
from mom_plugins_host.qos.control import CONTROLS
from mom_plugins_host.qos.lists import DISKS_NOW, USER_LIMIT
from mom_plugins_host.qos.settings import PERIOD, QUOTA

_ALL_CPUS_PERCENT: Final = 100


class LimitsExplainer(Explainer):
    """Current and agreed limits of a guest."""

    controls = CONTROLS

    def part(self, about: About) -> ExplanationPart:
        """Return nothing for a guest without limits."""
        texts = (*_cpu_sentences(about), *_disk_sentences(about.guest.items(DISKS_NOW) or ()))
        return ExplanationPart([Sentence("limits", text, SentencePlace.PROMISED) for text in texts])


def _cpu_sentences(about: About) -> Iterator[str]:
    quota, period, agreed = about.number(QUOTA), about.number(PERIOD), about.number(USER_LIMIT)
    if quota is not None and period and quota > 0:
        yield f"Each of its vCPUs may use {100 * quota / period:.0f} % of a CPU."
    if agreed is not None and agreed < _ALL_CPUS_PERCENT:
        yield f"The agreed CPU time is {agreed:g} % of the host's CPUs."


def _disk_sentences(disks: Sequence[Mapping[str, Value]]) -> Iterator[str]:
    for disk in disks:
        limits = [f"{key} {value:,}" for key in DiskTune.LIMITS if isinstance(value := disk.get(key), int) and value > 0]
        if limits:
            yield f"Its disk {printable(str(disk.get('name')), 60)} is limited: {', '.join(limits)}."
