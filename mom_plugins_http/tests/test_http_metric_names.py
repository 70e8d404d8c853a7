"""Names of metrics follow Prometheus' conventions for any field names, also in documents, dashboard and rules."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from test_http_reading import busy_report

from mom_core import Condition, FieldSpec, Report, Scope, Unit, Value, Verdict
from mom_core.testing import snapshot
from mom_daemon import declarations_of
from mom_plugins_http.routes.metrics import SCALES, exposition, host_metrics
from mom_plugins_http.routes.published import ReportView, Totals

ROOT = Path(__file__).parents[2]


def host(name: str, unit: Unit, metric: FieldSpec.Metric = FieldSpec.Metric.GAUGE) -> str:
    """Return the metric's name of a host's field; empty if it has none."""
    found = host_metrics([FieldSpec(name, unit, Scope.HOST, "a field", metric=metric)])
    return found[0].name if found else ""


@pytest.mark.parametrize(
    ("field", "unit", "metric", "name"),
    [
        ("mem_available", Unit.KIB, FieldSpec.Metric.GAUGE, "mom_host_memory_total_bytes"),
        ("swap_total", Unit.KIB, FieldSpec.Metric.GAUGE, "mom_host_swap_total_bytes"),
        ("ksm_sleep_millisecs", Unit.MILLISECONDS, FieldSpec.Metric.GAUGE, "mom_host_ksm_sleep_seconds"),
        ("ksm_full_scans", Unit.COUNT, FieldSpec.Metric.COUNTER, "mom_host_ksm_full_scans_total"),
        ("psi_io_full_total", Unit.MICROSECONDS, FieldSpec.Metric.COUNTER, "mom_host_psi_io_full_seconds_total"),
        ("psi_io_full_avg10", Unit.PERCENT, FieldSpec.Metric.GAUGE, "mom_host_psi_io_full_avg10_ratio"),
        ("swap_in_rate", Unit.PAGES_PER_SECOND, FieldSpec.Metric.GAUGE, "mom_host_swap_in_bytes_per_second"),
        ("hugepages_total", Unit.COUNT, FieldSpec.Metric.GAUGE, "mom_host_hugepages"),
        ("widgets_count", Unit.COUNT, FieldSpec.Metric.GAUGE, "mom_host_widgets"),
        ("größe", Unit.COUNT, FieldSpec.Metric.GAUGE, "mom_host_gr__e"),
        ("swap_in", Unit.PAGES, FieldSpec.Metric.NONE, ""),
        ("advisor", Unit.TEXT, FieldSpec.Metric.GAUGE, ""),
    ],
)
def test_a_field_of_the_host_has_a_name_in_base_units_that_says_what_it_is(
    field: str, unit: Unit, metric: FieldSpec.Metric, name: str
) -> None:
    assert host(field, unit, metric) == name


@pytest.mark.parametrize(
    ("unit", "value", "expected"),
    [(Unit.PERCENT, 29, 0.29), (Unit.MILLISECONDS, 20, 0.02), (Unit.MICROSECONDS, 7, 7e-6), (Unit.KIB, 3, 3072), (Unit.PAGES, 5, 5)],
)
def test_values_are_in_base_units(unit: Unit, value: float, expected: float) -> None:
    (metric,) = host_metrics([FieldSpec("x", unit, Scope.HOST, "a field")])
    assert value * metric.factor == pytest.approx(expected)


def test_two_fields_never_have_one_name() -> None:
    fields = ("widgets", "widgets_count", "mem_unused", "memory_free")
    found = host_metrics(FieldSpec(name, Unit.KIB if "mem" in name else Unit.COUNT, Scope.HOST, "a field") for name in fields)
    assert [(one.field, one.name) for one in found] == [("widgets", "mom_host_widgets"), ("mem_unused", "mom_host_memory_free_bytes")]


def everything() -> str:
    """Return the metrics of a mom with all plugins, all fields known, and a trial."""
    declared = declarations_of(None)
    numbers: dict[Scope, dict[str, Value]] = {scope: {} for scope in Scope}
    for scope, name in declared.fields:
        if declared.fields[scope, name].unit in SCALES:
            numbers[scope][name] = 1
    busy = busy_report()
    taken = snapshot(host=numbers[Scope.HOST], guests={"vm": numbers[Scope.GUEST]}, properties={"host": {"interval": 5.0}})
    report = Report(
        1, 0.0, "enforce", taken, busy.decisions, busy.revisions, busy.outcomes, busy.problems, busy.plugins, 0.1,
        considered=busy.considered, verdict=Verdict((Condition("memory", "the host is full", lasted=12.0),)),
    )  # fmt: skip
    totals = Totals()
    totals.add(report, declared.controls)
    return exposition(ReportView(report, declared, totals)).decode()


def families() -> dict[str, str]:
    """Return all metrics with their types."""
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", everything(), re.M))


def test_the_verdict_and_its_conditions_have_labels() -> None:
    text = everything()
    assert 'mom_verdict{severity="error"} 1\n' in text
    assert 'mom_verdict{severity="ok"} 0\n' in text
    assert 'mom_condition_seconds{condition="memory",severity="error"} 12.0\n' in text
    assert "\nmom_interval_seconds 5.0\n" in text


def test_counters_end_in_total_and_nothing_else_does() -> None:
    for name, kind in families().items():
        assert (kind == "counter") == name.endswith("_total"), name
        assert kind in {"counter", "gauge"}, name


def test_names_are_moms_own_and_say_no_unit_twice() -> None:
    for name in families():
        assert name.startswith("mom_"), f"{name} may be another exporter's"
        words = name.split("_")
        assert len({"kib", "millisecs", "millis", "percent", "kb", "ms", "us"} & set(words)) == 0, name
        assert max(words.count(unit) for unit in ("bytes", "seconds", "pages", "ratio", "total")) <= 1, name


@pytest.mark.processes
def test_both_parsers_take_all_of_them(tmp_path: Path) -> None:
    text = everything()
    parsed = list(text_string_to_metric_families(text))
    assert len(parsed) == len(families())
    assert len(parsed) > 120
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (apt-get install prometheus)")
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, text=True, capture_output=True, timeout=60, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_the_dashboard_and_the_rules_ask_for_what_there_is() -> None:
    known = set(families())
    asked = set()
    for path in (ROOT / "packaging/grafana/mom.json", ROOT / "packaging/prometheus/mom-alerts.yml"):
        asked |= set(re.findall(r"\b(?:mom|libvirt)_[a-z0-9_]+", path.read_text()))
    assert len(asked) > 30
    assert asked <= known


def test_the_document_has_each_metric_with_its_type() -> None:
    assert dict(re.findall(r"^\| `(mom_\w+)` \| (gauge|counter) \|", (ROOT / "docs/metrics.md").read_text(), re.M)) == families()
