"""OpenTelemetry spans for cycles, where the extra `otel` is installed: one for the cycle, and below it one for each hook of each plugin."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from mom_core import PluginState, Report, Scope, Status, __version__

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Tracer
    from opentelemetry.util.types import AnyValue

PHASES: Final[Sequence[frozenset[str]]] = (
    frozenset({"guests"}),
    frozenset({"mom_collect_host", "mom_collect_guests"}),
    frozenset({"mom_evaluate"}),
    frozenset({"mom_act"}),
    frozenset({"mom_review"}),
    frozenset({"mom_read"}),
    frozenset({"mom_write"}),
)
"""Hooks in the order in which the engine calls them; those of a phase run at the same time, reviewers after each other."""

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""OpenTelemetry's own variables: where spans are sent."""

_NANOSECONDS: Final = 1_000_000_000


class CycleSpans:
    """Makes spans of reports. A report says how long each hook took, not when it began: that is put together from the phases."""

    def __init__(self, tracer: Tracer, provider: TracerProvider | None = None) -> None:
        self._tracer = tracer
        self._provider = provider

    @classmethod
    def if_wanted(cls, environment: Mapping[str, str] = os.environ) -> CycleSpans | None:
        """For the tracer provider that the program has set, or for an exporter where the environment names an endpoint.

        None without the extra, or when no program takes spans.
        """
        try:
            from opentelemetry import trace
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError:
            return None
        present = trace.get_tracer_provider()
        if isinstance(present, TracerProvider):
            return cls(present.get_tracer("mom", __version__))
        if not any(environment.get(name) for name in _ENDPOINTS):
            return None
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        except ImportError:
            return None
        provider = TracerProvider(resource=Resource.create({"service.name": "mom", "service.version": __version__}), shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        return cls(provider.get_tracer("mom", __version__), provider)

    def take(self, report: Report) -> None:
        """The spans of one cycle."""
        from opentelemetry import trace
        from opentelemetry.trace import StatusCode

        began = round(report.time * _NANOSECONDS)
        attributes: dict[str, AnyValue] = {
            "mom.cycle": report.number,
            "mom.mode": report.mode,
            "mom.guests": len(report.snapshot.guests),
            "mom.decisions": len(report.decisions),
            "mom.revisions": len(report.revisions),
            "mom.applied": sum(outcome.status is Status.APPLIED for outcome in report.outcomes),
            "mom.failed": sum(outcome.status is Status.FAILED for outcome in report.outcomes),
            "mom.problems": len(report.problems),
            "mom.lag_seconds": report.lag,
            "mom.woken_by": report.woken_by,
        }
        cycle = self._tracer.start_span("mom.cycle", trace.set_span_in_context(trace.INVALID_SPAN), start_time=began, attributes=attributes)
        for problem in report.problems:
            about = "" if problem.entity is None or problem.entity.scope is Scope.HOST else problem.entity.name
            said = {"mom.source": str(problem.source), "mom.message": problem.message[:500], "mom.guest": about}
            cycle.add_event("problem", said, timestamp=began)
        if attributes["mom.failed"]:
            cycle.set_status(StatusCode.ERROR, f"{attributes['mom.failed']} decisions could not be applied")
        self._hooks(report, began, trace.set_span_in_context(cycle))
        cycle.end(began + round(report.duration * _NANOSECONDS))

    def _hooks(self, report: Report, began: int, inside: Context) -> None:
        from opentelemetry.trace import StatusCode

        states = {plugin.name: plugin for plugin in report.plugins}
        for plugin, hook, start, end in timed(report):
            attributes: dict[str, AnyValue] = {"mom.plugin": plugin, "mom.hook": hook, "mom.start_estimated": True}
            first, last = (began + round(offset * _NANOSECONDS) for offset in (start, end))
            span = self._tracer.start_span(f"{hook} {plugin}", inside, start_time=first, attributes=attributes)
            if states[plugin].state is not PluginState.OK:
                span.set_status(StatusCode.ERROR, states[plugin].last_error[:500])
            span.end(last)

    def close(self) -> None:
        """Let go of what was opened here; what could not be sent by now is lost."""
        if self._provider is not None:
            self._provider.shutdown()


def timed(report: Report) -> Iterable[tuple[str, str, float, float]]:
    """Each plugin's hooks in a cycle, with the seconds from its beginning to their beginning and end, as the phases make them.

    What follows the report, such as `mom_report`, belongs to the cycle before and is left out.
    """
    start = 0.0
    for phase in PHASES:
        longest = start
        for plugin in report.plugins:
            for hook, seconds in plugin.durations.items():
                if hook not in phase:
                    continue
                after = longest if hook == "mom_review" else start
                yield plugin.name, hook, after, after + seconds
                longest = max(longest, after + seconds)
        start = longest
