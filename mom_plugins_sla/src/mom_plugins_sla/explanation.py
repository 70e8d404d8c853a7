"""The part of `mom explain` on a guest's class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mom_core import lasting, printable
from mom_daemon import About, Explainer, ExplanationPart, Sentence, SentencePlace
from mom_plugins_sla.classes import ALLOWED


class ClassExplainer(Explainer):
    """Which class the guest is of, who says so, and what that allows."""

    def part(self, about: About) -> ExplanationPart:
        """Nothing where no guest has a class."""
        return ExplanationPart([Sentence("class", text, SentencePlace.KIND) for text in _of_class(about)])


def _of_class(about: About) -> Iterator[str]:
    name, by = about.guest.text("sla_class"), about.guest.text("sla_class_by")
    if not name:
        if any(guest.fields.get("sla_class") for guest in about.report.snapshot.guests.values()):
            yield "It is of no service class: nothing says one for it."
        return
    why = f", by {printable(by, 200)}" if by else ""
    yield f"It is of the service class {printable(name, 60)}{why}."
    may = [what for field, what in ALLOWED.items() if about.guest.fields.get(field) == 1]
    if may:
        warning = about.number("leave_warning")
        when = "" if warning is None else f", {lasting(warning)} after that is announced"
        yield f"When the host stays full, its class allows that it is {_either(may)}{when}."


def _either(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
