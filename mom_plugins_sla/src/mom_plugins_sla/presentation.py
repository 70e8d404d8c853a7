"""Classes and eviction in `mom status` and `mom explain`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from mom_core import Report, lasting, printable
from mom_daemon import About, Explainer, Sentence, StatusPart
from mom_plugins_sla.classes import ALLOWED
from mom_plugins_sla.eviction.settings import CONTROLS, EVICTED, EVICTION_ERROR


def class_parts(report: Report) -> Iterator[StatusPart]:
    """Yield guest counts per class, the most frequent first."""
    counts = Counter(guest.fields.get("sla_class") for guest in report.snapshot.guests.values())
    without = counts.pop(None, 0)
    if counts:
        parts = [f"{count} {printable(str(name), 60)}" for name, count in counts.most_common()]
        yield StatusPart("classes", ", ".join([*parts, *([f"{without} without class"] if without else [])]))


class ClassExplainer(Explainer):
    """Sentences on the guest's class and permitted steps."""

    topic, place = "class", Sentence.KIND

    def sentences(self, about: About) -> Iterator[str]:
        """Yield the sentences."""
        name, source = about.guest.text("sla_class"), about.guest.text("sla_class_by")
        if not name:
            if any(guest.fields.get("sla_class") for guest in about.report.snapshot.guests.values()):
                yield "It has no service class: neither the configuration nor its metadata names one."
            return
        yield f"Its service class is {printable(name, 60)}" + (f", according to {printable(source, 200)}." if source else ".")
        steps = [step for field, step in ALLOWED.items() if about.guest.fields.get(field) == 1]
        if steps:
            warning = about.number("leave_warning")
            when = "" if warning is None else f", {lasting(warning)} after the announcement"
            yield f"Its class allows it to be {_either(steps)} when the host stays full{when}."


def _either(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


class EvictionExplainer(Explainer):
    """Sentences on the guest's step and last error."""

    controls = CONTROLS
    topic, place = "eviction", Sentence.NEXT

    def sentences(self, about: About) -> Iterator[str]:
        """Yield the sentences."""
        if step := about.guest.text(EVICTED):
            yield f"Step in progress or announced: {printable(step, 200)}."
        if error := about.guest.text(EVICTION_ERROR):
            yield f"The last step failed: {printable(error, 300)}."
