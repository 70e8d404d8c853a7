"""Forecasts in `mom status` and `mom explain`."""

from __future__ import annotations

from collections.abc import Iterator

from mom_core import Report, format_kib
from mom_daemon import About, Explainer, ExplanationPart, Sentence, StatusPart
from mom_plugins_record.forecast.curve import LEAST_WEIGHT
from mom_plugins_record.forecast.host_days import GUEST_FIELDS


def forecast_parts(report: Report) -> Iterator[StatusPart]:
    """Yield the number of guests with a known daily pattern, and the expected growth of these guests together."""
    host = report.snapshot.host
    count, rise = host.number("guests_forecast"), host.number("host_rise_expected")
    if count:
        soon = f"; {format_kib(rise)} more expected soon" if rise else ""
        yield StatusPart("forecast", f"{count:.0f} of {len(report.snapshot.guests)} guests have a pattern{soon}")


class ForecastExplainer(Explainer):
    """Explanation of a guest's usual use now and soon."""

    def part(self, about: About) -> ExplanationPart:
        """Return the explanation; nothing if mom does not learn on this host."""
        if about.report.snapshot.host.number("guests_forecast") is None:
            return ExplanationPart()
        figures = {name: value for name in GUEST_FIELDS if (value := about.number(name)) is not None}
        return ExplanationPart([Sentence("days", text, Sentence.PAST) for text in _sentences(about)], figures)


def _sentences(about: About) -> Iterator[str]:
    expected, soon, rises_in, weight, error = map(about.number, GUEST_FIELDS)
    if weight is None:
        yield "It has no known daily pattern, so mom has no forecast for it."
        return
    if expected is None or soon is None:
        if weight < LEAST_WEIGHT:
            yield f"This day differs from earlier days: mom does not use the forecast, which has a weight of {weight:.0%}."
        return
    errors = "" if error is None else f"; the recent error of its one-hour forecasts is {format_kib(error)}"
    yield f"According to earlier days, it usually uses {format_kib(expected)} at this time{errors}."
    total, usable, size = map(about.number, ("mem_available", "mem_usable", "balloon_cur"))
    if total is None or usable is None:
        return
    more = soon - (min(total, size or total) - usable)
    if rises_in is not None and more > 0:
        yield f"At {about.at(about.report.time + rises_in)} it usually uses up to {format_kib(more)} more."
