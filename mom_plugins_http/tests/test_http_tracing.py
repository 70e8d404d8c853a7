"""Spans of cycles: one for each, with a child for each hook of each plugin, and only where somebody takes them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_http_reading import busy_report

from mom_core import PluginReport, PluginState
from mom_plugins_http.spans import CycleSpans, timed

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider  # the extra may be missing
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

PLUGINS = [
    PluginReport("sim", PluginState.OK, {"guests": 0.01, "mom_collect_host": 0.02, "mom_report": 9.0}, 9, 0),
    PluginReport("host", PluginState.FAILING, {"mom_collect_host": 0.05}, 9, 3, "it broke"),
    PluginReport("policy", PluginState.OK, {"mom_evaluate": 0.1}, 9, 0),
    PluginReport("balloon", PluginState.OK, {"mom_review": 0.01, "mom_write": 0.2}, 9, 0),
    PluginReport("sla", PluginState.OK, {"mom_review": 0.02}, 9, 0),
]


def spans() -> tuple[ReadableSpan, dict[str, ReadableSpan]]:
    """The cycle's span, and those below it by name."""
    kept = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    CycleSpans(provider.get_tracer("test")).take(replace(busy_report(), plugins=PLUGINS, time=1000.0, duration=0.5))
    found = kept.get_finished_spans()
    (cycle,) = [span for span in found if span.parent is None]
    return cycle, {span.name: span for span in found if span is not cycle}


def test_a_cycle_is_a_span_with_its_figures() -> None:
    cycle, _ = spans()
    assert (cycle.name, cycle.start_time, cycle.end_time) == ("mom.cycle", 1000 * 10**9, 1000 * 10**9 + 5 * 10**8)
    assert cycle.attributes is not None
    assert (cycle.attributes["mom.cycle"], cycle.attributes["mom.guests"], cycle.attributes["mom.failed"]) == (7, 2, 1)
    assert cycle.status.status_code is StatusCode.ERROR
    assert [event.name for event in cycle.events] == ["problem"]


def test_each_hook_is_a_child_in_the_order_of_the_phases() -> None:
    cycle, children = spans()
    assert cycle.context is not None
    assert {span.parent.span_id for span in children.values() if span.parent} == {cycle.context.span_id}
    assert set(children) == {
        "guests sim", "mom_collect_host sim", "mom_collect_host host", "mom_evaluate policy", "mom_review balloon", "mom_review sla",
        "mom_write balloon",
    }  # fmt: skip
    assert children["mom_collect_host host"].status.status_code is StatusCode.ERROR


def test_hooks_of_a_phase_begin_together_and_reviewers_follow_each_other() -> None:
    found = {
        (plugin, hook): (round(start, 6), round(end, 6)) for plugin, hook, start, end in timed(replace(busy_report(), plugins=PLUGINS))
    }
    assert found["sim", "mom_collect_host"] == (0.01, 0.03)
    assert found["host", "mom_collect_host"] == (0.01, 0.06)
    assert found["policy", "mom_evaluate"] == (0.06, 0.16)
    assert found["balloon", "mom_review"] == (0.16, 0.17)
    assert found["sla", "mom_review"] == (0.17, 0.19)
    assert found["balloon", "mom_write"] == (0.19, 0.39)


def test_nobody_who_takes_spans_means_none_are_made() -> None:
    assert CycleSpans.if_wanted({}) is None
