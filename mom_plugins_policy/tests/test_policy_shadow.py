"""Policies on trial: evaluated beside those in force, reported, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from mom_core import ConfigError, ControlSpec, Decision, Declarations, FieldSpec, PluginContext, Problem, Scope, ShadowDecisions, Unit
from mom_core.testing import snapshot
from mom_plugins_policy import PolicyPlugin
from mom_toolkit import PolicyTexts

DECLARED = Declarations(
    {(Scope.GUEST, "size"): FieldSpec("size", Unit.KIB, Scope.GUEST, "size")},
    {"target": ControlSpec("target", Unit.KIB, Scope.GUEST, "target", "size")},
)
SNAPSHOT = snapshot(guests={"a": {"size": 10}})


def plugin(tmp_path: Path, **shadow: str) -> PolicyPlugin:
    for folder, texts in (
        ("real", {"10_rule": "(def wanted (g) (+ g.size 1))", "50_act": '(with Guests g (g.Control "target" (wanted g)))'}),
        ("trial", shadow),
    ):
        (tmp_path / folder).mkdir(exist_ok=True)
        for name, text in texts.items():
            (tmp_path / folder / f"{name}.policy").write_text(text)
    context = PluginContext(name="policy", state_directory=tmp_path / "state", declarations=DECLARED)
    it = PolicyPlugin(PolicyPlugin.Settings(directory=tmp_path / "real", shadow=tmp_path / "trial"), context)
    it.mom_setup()
    return it


def split(it: PolicyPlugin) -> tuple[list[object], list[object] | None, list[Problem]]:
    items = list(it.mom_evaluate(SNAPSHOT, ()))
    trials = [item for item in items if isinstance(item, ShadowDecisions)]
    considered: list[object] | None = [decision.value for trial in trials for decision in trial.decisions] if trials else None
    return ([item.value for item in items if isinstance(item, Decision)], considered, [item for item in items if isinstance(item, Problem)])


def test_a_policy_on_trial_replaces_the_one_of_its_name_and_keeps_the_others(tmp_path: Path) -> None:
    assert split(plugin(tmp_path, **{"10_rule": "(def wanted (g) (+ g.size 5))"})) == ([11], [15], [])


def test_an_empty_folder_decides_the_same(tmp_path: Path) -> None:
    assert split(plugin(tmp_path)) == ([11], [11], [])


def test_what_is_on_trial_remembers_by_itself_and_touches_no_notes_of_the_others(tmp_path: Path) -> None:
    it = plugin(tmp_path, **{"10_rule": '(def wanted (g) { (g.Remember "n" (+ 1 (g.Recall "n" 0))) (g.Recall "n") })'})
    assert [split(it)[1] for _ in range(3)] == [[1], [2], [3]]
    texts = it.mom_services()[PolicyTexts]
    assert texts.memory() == {}


@pytest.mark.parametrize("text", ["(def wanted (g) g.siz)", "(def wanted (g) (/ 1 0))"])
def test_errors_on_trial_are_warnings_and_the_decisions_stand(tmp_path: Path, text: str) -> None:
    decided, considered, problems = split(plugin(tmp_path, **{"10_rule": text}))
    assert decided == [11]
    assert considered == []
    assert problems
    assert all(problem.severity == "warning" and problem.source.name.startswith("shadow ") for problem in problems)


def test_a_trial_that_does_not_compile_is_said_and_the_decisions_stand(tmp_path: Path) -> None:
    decided, considered, problems = split(plugin(tmp_path, **{"10_rule": "(def wanted"}))
    assert (decided, considered) == ([11], None)
    assert "the shadow policies cannot be used: " in problems[0].message
    assert "10_rule" in problems[0].message


def test_a_trial_goes_on_beside_policies_that_change(tmp_path: Path) -> None:
    it = plugin(tmp_path, **{"60_more": '(with Guests g (g.Control "target" (* 2 (wanted g))))'})
    assert split(it) == ([11], [22], [])
    it.mom_services()[PolicyTexts].change({"10_rule": "(def wanted (g) 3)"}, who="a test")
    assert split(it) == ([3], [6], [])
    (tmp_path / "trial" / "60_more.policy").write_text('(with Guests g (g.Control "target" 1))')
    it.mom_reload()()
    assert split(it) == ([3], [1], [])


def test_a_file_on_trial_that_cannot_be_read_refuses_the_start(tmp_path: Path) -> None:
    (tmp_path / "trial").mkdir()
    (tmp_path / "trial" / "x.policy").mkdir()
    with pytest.raises(ConfigError):
        plugin(tmp_path)
