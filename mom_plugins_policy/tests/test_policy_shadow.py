"""Policies on trial: evaluated beside those in force, and only reported."""

from pathlib import Path

import pytest
from policy_declared import declared

from mom_core import ConfigError, ControlSpec, Decision, PluginContext, Problem, Scope, Unit
from mom_core.testing import snapshot
from mom_kvm import PolicyTexts
from mom_plugins_policy import PolicyPlugin

DECLARED = declared(guest={"size": Unit.KIB}, controls=[ControlSpec("target", Unit.KIB, Scope.GUEST, "target", "size")])
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
    trials = [item for item in items if isinstance(item, Decision.Trial)]
    considered: list[object] | None = [decision.value for trial in trials for decision in trial.decisions] if trials else None
    return ([item.value for item in items if isinstance(item, Decision)], considered, [item for item in items if isinstance(item, Problem)])


NOTING = '(def wanted (g) { (g.Remember "n" (+ 1 (g.Recall "n" 0))) (g.Recall "n") })'


# Policies on trial, their decisions in the first and second cycle (None: no report), and the begin of a warning.
@pytest.mark.parametrize(
    ("shadow", "considered", "said"),
    [
        ({"10_rule": "(def wanted (g) (+ g.size 5))"}, [[15], [15]], ""),
        ({}, [[11], [11]], ""),
        ({"10_rule": NOTING}, [[1], [2]], ""),
        ({"10_rule": "(def wanted (g) g.siz)"}, [[], []], "undefined-symbol: "),
        ({"10_rule": "(def wanted (g) (/ 1 0))"}, [[], []], "zero-division: "),
        ({"10_rule": "(def wanted"}, [None, None], "the shadow policies cannot be used: 10_rule:"),
    ],
)
def test_what_is_on_trial_is_told_and_changes_nothing(tmp_path: Path, shadow: dict[str, str], considered: list[object], said: str) -> None:
    it = plugin(tmp_path, **shadow)
    for expected in considered:
        decided, found, problems = split(it)
        assert (decided, found) == ([11], expected)
        assert [problem.message[: len(said)] for problem in problems] == ([said] if said else [])
        assert all(problem.severity == "warning" for problem in problems)
        assert all(problem.source.name.startswith("shadow ") or expected is None for problem in problems)
    assert it.mom_services()[PolicyTexts].memory() == {}


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
