"""The part of `mom explain` on a guest's days."""

from __future__ import annotations

from collections.abc import Iterator

from mom_core import format_kib
from mom_daemon import About, Explainer, ExplanationPart, Sentence, SentencePlace
from mom_plugins_record.forecast.curve import LEAST_WEIGHT


class ForecastExplainer(Explainer):
    """What the guest usually uses now, and what it will soon."""

    def part(self, about: About) -> ExplanationPart:
        """Nothing where no days are learned."""
        if about.report.snapshot.host.number("guests_forecast") is None:
            return ExplanationPart()
        names = ("mem_used_expected", "mem_used_expected_soon", "mem_rises_in", "mem_expected_weight", "mem_expected_error")
        figures = {name: value for name in names if (value := about.number(name)) is not None}
        return ExplanationPart([Sentence("days", text, SentencePlace.PAST) for text in _of_days(about)], figures)


def _of_days(about: About) -> Iterator[str]:
    expected, soon, weight = (about.number(name) for name in ("mem_used_expected", "mem_used_expected_soon", "mem_expected_weight"))
    if weight is None:
        yield "No pattern of its days is known: nothing is forecast of it."
        return
    if expected is None or soon is None:
        if weight < LEAST_WEIGHT:
            yield f"This day differs from those before: its forecast counts {weight:.0%}, and is not used."
        return
    error = about.number("mem_expected_error")
    how_wrong = "" if error is None else f"; its forecasts of an hour were wrong by {format_kib(error)} lately"
    yield f"By its days, it usually uses {format_kib(expected)} at this time{how_wrong}."
    total, usable, rises_in = (about.number(name) for name in ("mem_available", "mem_usable", "mem_rises_in"))
    if total is None or usable is None:
        return
    size = about.number("balloon_cur")
    more = soon - (min(total, size or total) - usable)
    if rises_in is not None and more > 0:
        yield f"At {about.at(about.report.time + rises_in)} it usually takes up to {format_kib(more)} more."
