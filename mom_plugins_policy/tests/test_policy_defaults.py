"""Which default policies the plugin uses."""

from __future__ import annotations

from pathlib import Path

from mom_core import ControlSpec, Decision, Declarations, FieldSpec, InForce, PluginContext, Problem, Scope, Unit
from mom_core.testing import snapshot
from mom_plugins_policy import PolicyPlugin

FREE = FieldSpec("free", Unit.KIB, Scope.HOST, "free")
KNOB = ControlSpec("knob", Unit.KIB, Scope.HOST, "knob", "free")


def decided(tmp_path: Path, policies: dict[str, str], own: dict[str, str]) -> dict[str, object]:
    directory = tmp_path / "policy.d"
    directory.mkdir()
    for name, text in own.items():
        (directory / f"{name}.policy").write_text(text)
    declarations = Declarations({(Scope.HOST, "free"): FREE}, {"knob": KNOB}, {"knob": "p"}, policies)
    context = PluginContext(name="policy", state_directory=tmp_path, in_force=InForce(declarations=declarations))
    plugin = PolicyPlugin(PolicyPlugin.Settings(directory=directory), context)
    plugin.mom_setup()
    found = [item for item in plugin.mom_evaluate(snapshot(host={"free": 5}), ()) if isinstance(item, Decision | Problem)]
    return {item.source.name: getattr(item, "value", item) for item in found}


def test_defaults_are_used_where_the_operator_has_none_of_the_name(tmp_path: Path) -> None:
    policies = {"10_a": '(Host.Control "knob" 1)', "20_b": "(defvar unused 1)"}
    assert decided(tmp_path, policies, {}) == {"10_a": 1}


def test_the_operators_policy_takes_the_place_of_the_default_of_its_name(tmp_path: Path) -> None:
    policies = {"10_a": '(Host.Control "knob" 1)'}
    assert decided(tmp_path, policies, {"10_a": '(Host.Control "knob" 2)'}) == {"10_a": 2}


def test_a_default_that_reads_what_nobody_collects_is_left_out_and_said_in_each_cycle(tmp_path: Path) -> None:
    policies = {"10_a": "(if (valid Host.load) 1 2)", "20_b": '(Host.Control "knob" Host.free)'}
    found = decided(tmp_path, policies, {})
    assert found["20_b"] == 5
    problem = found["policy"]
    assert isinstance(problem, Problem)
    assert problem.message == "the default policy 10_a is left out, and nothing is decided by it: no plugin declares host.load"
    assert problem.hint == "enable what collects them: those of the host are collected by the plugin host"


def test_an_operators_policy_that_reads_what_nobody_collects_is_used_and_fails_with_its_place(tmp_path: Path) -> None:
    found = decided(tmp_path, {}, {"10_a": "(+ 1 Host.load)"})
    assert "undefined-symbol" in str(found["10_a"])
