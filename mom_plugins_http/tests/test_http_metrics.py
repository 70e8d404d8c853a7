"""Metrics for Prometheus: names for dashboards, and limits."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families
from served_mom import Serve
from test_http_reading import busy_report

from mom_core import Condition, Declarations, FieldSpec, Report, Scope, Unit, Value, Verdict
from mom_core.testing import snapshot
from mom_plugins_http.routes.metrics import exposition
from mom_plugins_http.routes.published import ReportView, Totals

FIELDS = (
    FieldSpec("mem_available", Unit.KIB, Scope.HOST, "all"),
    FieldSpec("psi_some", Unit.PERCENT, Scope.HOST, "pressure"),
    *(FieldSpec(name, Unit.KIB, Scope.GUEST, "") for name in ("balloon_cur", "balloon_max", "mem_usable")),
    FieldSpec("vcpu_count", Unit.COUNT, Scope.GUEST, ""),
)


def view(report: Report) -> ReportView:
    totals = Totals()
    totals.add(report, {"balloon_target"})
    return ReportView(report, Declarations(fields={(spec.scope, spec.name): spec for spec in FIELDS}), totals)


def samples(text: bytes) -> dict[tuple[str, ...], float]:
    found = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            key = (sample.name, *(value for _, value in sorted(sample.labels.items())))
            assert key not in found
            found[key] = sample.value
    return found


def cycle(guests: Mapping[str, Mapping[str, Value]], host: Mapping[str, Value] | None = None) -> Report:
    return Report(1, 0.0, "enforce", snapshot(host=host or {}, guests=guests), (), (), (), (), (), 0.1)


def test_guests_have_names_of_moms_own_in_bytes() -> None:
    found = samples(exposition(view(cycle({"vm1": {"balloon_cur": 1024, "balloon_max": 4096, "mem_usable": None}}))))
    assert found["mom_guest_memory_bytes", "vm1"] == 1 << 20
    assert found["mom_guest_memory_maximum_bytes", "vm1"] == 4 << 20
    assert ("mom_guest_memory_available_bytes", "vm1") not in found
    assert found["mom_reclaimed_bytes",] == 3 << 20


def test_the_hosts_numbers_are_in_base_units_and_texts_are_left_out() -> None:
    found = samples(exposition(view(cycle({}, {"mem_available": 2, "psi_some": 1.5, "unknown": 1}))))
    assert found["mom_host_memory_total_bytes",] == 2048
    assert found["mom_host_psi_some_ratio",] == 0.015
    assert not any(name[0].startswith("mom_host_unknown") for name in found)


def test_controls_that_a_policy_makes_up_are_not_counted() -> None:
    totals, report = Totals(), busy_report()
    made_up = replace(report.decisions[0], control="made_up")
    totals.add(replace(report, decisions=[*report.decisions, made_up]), {"balloon_target"})
    assert totals.decisions == {"balloon_target": 1}


def test_what_happened_is_counted() -> None:
    found = samples(exposition(view(busy_report())))
    assert found["mom_decisions_total", "balloon_target"] == 1
    assert found["mom_outcomes_total", "balloon_target", "failed"] == 1
    assert found["mom_plugin_state", "sim", "set-aside"] == 1
    assert found["mom_plugin_state", "sim", "ok"] == 0
    assert found["mom_plugin_duration_seconds", "mom_collect_host", "sim"] == 0.25
    assert found["mom_trial_differences",] == 1


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "\udc80"])
def test_a_guests_name_cannot_break_the_text(name: str) -> None:
    found = samples(exposition(view(cycle({name: {"vcpu_count": 2}}))))
    assert [value for key, value in found.items() if key[0] == "mom_guest_vcpus"] == [2]


def test_no_guests_name_can_be_the_label_of_another() -> None:
    report = cycle({identity: {"balloon_cur": 1} for identity in ("1", "2", "3")})
    names = {"1": "db", "2": "db", "3": "db (2)"}
    guests = {one.id: replace(one, name=names[one.id]) for one in report.snapshot.guests.values()}
    found = samples(exposition(view(replace(report, snapshot=replace(report.snapshot, guests=guests)))))
    assert sorted(name for metric, *name in found if metric == "mom_guest_memory_bytes") == [["db"], ["db (2)"], ["db (2) (3)"]]


def test_they_are_served_as_prometheus_wants_them(serve: Serve) -> None:
    answer = serve(cycles=3).client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert samples(answer.content)["mom_cycles_total",] == 3


def test_guests_that_the_hypervisor_does_not_list_are_not_counted_as_none() -> None:
    unlisted = Verdict([Condition("guests", "the guests are unknown: no answer", plugins=("core",))])
    found = samples(exposition(view(replace(cycle({}), verdict=unlisted))))
    assert not any(name[0].startswith(("mom_guests", "mom_guest_")) for name in found)
    assert found["mom_outcomes_failed",] == 0
    assert samples(exposition(view(cycle({}))))["mom_guests",] == 0
