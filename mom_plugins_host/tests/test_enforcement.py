"""Settings' values of controls are decided while settings want them, and undone afterwards."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mom_core import ControlSpec, Decision, EngineState, Guest, LedgerEntry, PluginContext, Scope, Snapshot, Source, Unit, Value
from mom_plugins_host.enforcement import Enforcement, SetValue

WEIGHT = ControlSpec("weight", Unit.COUNT, Scope.GUEST, "a weight", "weight_now")
PORTS = ControlSpec("ports", Unit.LIST, Scope.GUEST, "limits", "ports", key="name")


def noted(control: str, before: Value, applied: Value = 50) -> LedgerEntry:
    return LedgerEntry(Guest("1", "vm").entity, control, before, applied, "plugin", 0.0)


def enforcing(folder: Path, *changes: LedgerEntry) -> Enforcement:
    """Return the enforcement of a plugin with these ledger entries."""
    context = PluginContext("plugin", state_directory=folder, engine_state=lambda: EngineState(changes=changes))
    return Enforcement(context, [WEIGHT, PORTS])


@pytest.fixture
def enforcement(tmp_path: Path) -> Enforcement:
    return enforcing(tmp_path, noted("weight", 100))


def decided(
    enforcement: Enforcement,
    wanted: Mapping[str, Value] | None = None,
    blocked: Mapping[str, str] | None = None,
    anew: str = "",
    **fields: Value,
) -> list[tuple[str, Value] | str]:
    """Return the decisions for a guest with these fields, as values keyed by control, and messages of problems."""
    guest = Guest("1", "vm", fields, blocked=blocked or {}, incarnation=anew)
    values = {control: SetValue(value) for control, value in (wanted or {}).items()}
    decisions = enforcement.decide(Snapshot(guests={"1": guest}), {"1": values} if values else {})
    return [*((decision.control, decision.value) for decision in decisions), *(problem.message for problem in enforcement.problems)]


def test_a_guest_that_is_not_listed_is_undone_when_it_is_back_and_forgotten_with_its_entry(tmp_path: Path) -> None:
    ledger = [noted("weight", 100)]
    context = PluginContext("plugin", state_directory=tmp_path, engine_state=lambda: EngineState(changes=tuple(ledger)))
    enforcement = Enforcement(context, [WEIGHT])
    for forgotten in (False, True):
        assert decided(enforcement, {"weight": 50}, weight_now=100) == [("weight", 50)]
        if forgotten:
            ledger.clear()
        assert list(enforcement.decide(Snapshot(), {})) == []
        assert decided(enforcement, weight_now=50) == ([] if forgotten else [("weight", 100)])


def test_an_item_that_settings_name_no_more_is_undone_while_they_name_others(tmp_path: Path) -> None:
    set_to: Value = [{"name": "a", "limit": 9}, {"name": "b", "limit": 9}]
    enforcement = enforcing(tmp_path, noted("ports", [{"name": "a", "limit": 5}, {"name": "b", "limit": 6}], set_to))
    assert decided(enforcement, {"ports": set_to}, ports=set_to) == [("ports", set_to)]
    only: Value = [{"name": "b", "limit": 9}]
    assert decided(enforcement, {"ports": only}, ports=set_to) == [("ports", [{"name": "a", "limit": 5}, {"name": "b", "limit": 9}])]
    assert decided(enforcement, {"ports": only}, ports=[{"name": "a", "limit": 5}, {"name": "b", "limit": 9}]) == [("ports", only)]
    assert decided(enforcement, {"ports": only}, ports=[{"name": "a", "limit": 7}, {"name": "b", "limit": 9}]) == [("ports", only)]


@pytest.mark.parametrize(
    ("control", "before", "ours", "theirs"),
    [("weight", 100, 50, 30), ("ports", [{"name": "a", "limit": 0}], [{"name": "a", "limit": 9}], [{"name": "a", "limit": 7}])],
)
def test_nothing_is_said_against_another_evaluator_that_has_what_is_set_no_more(
    tmp_path: Path, control: str, before: Value, ours: Value, theirs: Value
) -> None:
    enforcement = enforcing(tmp_path, noted(control, before, ours)._replace(earlier=theirs))
    stands: dict[str, Any] = {"weight_now" if control == "weight" else control: theirs}
    assert decided(enforcement, {control: ours}, **stands) == [(control, ours)]
    other = Decision(Guest("1", "vm").entity, control, theirs, source=Source("60_mine", 3, 1))
    assert decided(enforcement, **stands) == [(control, before)]
    for _ in range(2):
        enforcement.hear([other])
        assert decided(enforcement, **stands) == []
    enforcement.hear([])
    assert decided(enforcement, **stands) == [(control, before)], "once nobody wants anything, what stood before does"


def test_what_another_process_has_set_meanwhile_is_left_alone_when_settings_ask_for_it_no_more(tmp_path: Path) -> None:
    before: Value = [{"name": "a", "limit": 5}, {"name": "b", "limit": 6}]
    set_to: Value = [{"name": "a", "limit": 9}, {"name": "b", "limit": 9}]
    enforcement = enforcing(tmp_path, noted("weight", 100), noted("ports", before, set_to))
    assert len(decided(enforcement, {"weight": 50, "ports": set_to}, weight_now=50, ports=set_to)) == 2
    theirs: Value = [{"name": "a", "limit": 7}, {"name": "b", "limit": 9}]
    assert decided(enforcement, weight_now=70, ports=theirs) == [("ports", [{"name": "b", "limit": 6}])]
    assert decided(enforcement, weight_now=50, ports=[{"name": "a", "limit": 7}, {"name": "b", "limit": 6}]) == [], "it was done with"


def test_what_stood_while_mom_only_observed_is_not_what_stood_before_its_change(tmp_path: Path) -> None:
    ledger: list[LedgerEntry] = []
    context = PluginContext("plugin", state_directory=tmp_path, engine_state=lambda: EngineState(changes=tuple(ledger)))
    enforcement = Enforcement(context, [WEIGHT])
    assert decided(enforcement, {"weight": 50}, weight_now=100) == [("weight", 50)], "and nothing is set"
    ledger.append(noted("weight", 200))  # as the operator set it before mom may act
    assert decided(enforcement, {"weight": 50}, weight_now=200) == [("weight", 50)]
    assert decided(enforcement, weight_now=50) == [("weight", 200)]


@pytest.mark.parametrize("stands", [True, False], ids=["mom's change stands", "it was put back when mom ended"])
def test_a_setting_that_is_removed_while_mom_does_not_run_is_undone(tmp_path: Path, stands: bool) -> None:
    first = enforcing(tmp_path)
    assert decided(first, {"weight": 50}, weight_now=100) == [("weight", 50)]
    changes = (noted("weight", 100),) if stands else ()
    second = enforcing(tmp_path, *changes)
    assert decided(second, weight_now=50) == ([("weight", 100)] if stands else []), "without mom's change, 50 is another process's"
    assert decided(second, weight_now=100) == []
    third = enforcing(tmp_path, *changes)
    assert decided(third, weight_now=50) == [], "it is undone, and what stands now is another process's"
