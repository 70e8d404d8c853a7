from pathlib import Path

import pytest

from mom_core import ControlSpec, Decision, Entity, LedgerEntry, Outcome, PluginContext, Scope, Status
from mom_core.testing import snapshot
from mom_devkit import apply_decisions, declared, host_of, put_back
from mom_devkit.without_root import MomPower
from mom_example_swappiness import HIGHEST, SwappinessPlugin
from mom_kvm import Helper

HOST = Entity(Scope.HOST, "host", "h1")


@pytest.fixture
def knob(tmp_path: Path) -> Path:
    path = tmp_path / "proc/sys/vm/swappiness"
    path.parent.mkdir(parents=True)
    path.write_text("60\n")
    return path


@pytest.fixture
def plugin(knob: Path, tmp_path: Path) -> SwappinessPlugin:
    return SwappinessPlugin(SwappinessPlugin.Settings(), PluginContext(root=tmp_path))


def restore(plugin: SwappinessPlugin, *, applied: int | None) -> Outcome:
    (outcome,) = put_back(plugin, [LedgerEntry(HOST, "vm_swappiness", 60, applied, "swappiness", 0.0)])
    return outcome


def test_reads_the_knob(plugin: SwappinessPlugin) -> None:
    assert plugin.mom_collect_host() == {"vm_swappiness": 60}


def test_decides_only_if_the_settings_have_a_value(plugin: SwappinessPlugin, tmp_path: Path) -> None:
    assert list(plugin.mom_evaluate(snapshot())) == []
    eager = SwappinessPlugin(SwappinessPlugin.Settings(wanted=10), PluginContext(root=tmp_path))
    (decision,) = eager.mom_evaluate(snapshot())
    assert (decision.entity.id, decision.control, decision.value) == ("host", "vm_swappiness", 10)


def test_applies_a_decision_and_reports_the_original_value(plugin: SwappinessPlugin, knob: Path) -> None:
    (outcome,) = apply_decisions(plugin, [Decision(HOST, "vm_swappiness", 10)])
    assert (outcome.before, outcome.after, outcome.status) == (60, 10, Status.APPLIED)
    assert knob.read_text() == "10\n"


def test_does_not_write_a_value_that_is_already_set(plugin: SwappinessPlugin, knob: Path) -> None:
    before = knob.stat().st_mtime_ns
    (outcome,) = apply_decisions(plugin, [Decision(HOST, "vm_swappiness", 60)])
    assert outcome.status is Status.UNCHANGED
    assert knob.stat().st_mtime_ns == before


def test_an_unusable_knob_is_a_failed_outcome(plugin: SwappinessPlugin, knob: Path) -> None:
    knob.unlink()
    knob.mkdir()
    (outcome,) = apply_decisions(plugin, [Decision(HOST, "vm_swappiness", 10)])
    assert (outcome.before, outcome.status) == (None, Status.FAILED)
    assert "Is a directory" in outcome.error


def test_restores_the_original_value(plugin: SwappinessPlugin, knob: Path) -> None:
    knob.write_text("10\n")
    assert restore(plugin, applied=10).status is Status.APPLIED
    assert knob.read_text() == "60\n"


def test_keeps_a_value_that_another_process_has_set(plugin: SwappinessPlugin, knob: Path) -> None:
    knob.write_text("1\n")
    outcome = restore(plugin, applied=10)
    assert (outcome.status, outcome.after) == (Status.LEFT_ALONE, 1)
    assert knob.read_text() == "1\n"


def test_the_settings_bound_the_control(knob: Path, tmp_path: Path) -> None:
    plugin = SwappinessPlugin(SwappinessPlugin.Settings(highest=70), PluginContext(root=tmp_path))
    (spec,) = declared(plugin, ControlSpec)
    assert (spec.minimum, spec.maximum, spec.field) == (0, 70, "vm_swappiness")


def test_mom_helper_may_write_the_range_of_the_kernel() -> None:
    settings = SwappinessPlugin.Settings(highest=HIGHEST)
    (spec,) = declared(SwappinessPlugin(settings, PluginContext()), ControlSpec)
    assert Helper.declaration(spec) in (Path(__file__).parents[1] / "helper.d/swappiness.conf").read_text()


def test_mom_need_not_be_root(mom_open_folder: Path, mom_power: MomPower) -> None:
    knob = host_of(mom_open_folder, {"proc/sys/vm/swappiness": "60\n"}) / "proc/sys/vm/swappiness"
    plugin = SwappinessPlugin(SwappinessPlugin.Settings(), PluginContext(root=mom_open_folder))
    (spec,) = declared(plugin, ControlSpec)
    with mom_power(Helper.declaration(spec)):
        (outcome,) = apply_decisions(plugin, [Decision(HOST, "vm_swappiness", 10)])
    assert (outcome.after, outcome.status) == (10, Status.APPLIED)
    assert knob.read_text().strip() == "10"
