"""Texts that were compiled and checked a moment ago are not compiled and checked again, and what plugins declare still counts."""

import dataclasses
from pathlib import Path

import pytest
from policy_declared import DECLARED

from mom_core import Declarations, PluginContext
from mom_core.testing import snapshot
from mom_plugins_policy import PolicyPlugin
from mom_plugins_policy.checks import check_policy, walk
from mom_plugins_policy.language import policy as compiled_policies
from mom_plugins_policy.language.policy import Policy

TEXTS = {"50_mine": "(Host.Control 'ksm_run' (if (> Host.mem_free 5) 1 0))"}
NOTHING_DECLARED = Declarations(controls=DECLARED.controls)


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that are compiled from now on, joined."""
    found: list[str] = []
    real = compiled_policies.Compiled

    def noted(program: object, *more: object, **options: object) -> object:
        found.append(" ".join(form.text.name for form in program.forms))  # type: ignore[attr-defined]  # a Program
        return real(program, *more, **options)  # type: ignore[arg-type]  # as it is given

    compiled_policies._code.cache_clear()
    monkeypatch.setattr(compiled_policies, "Compiled", noted)
    return found


def test_the_same_texts_are_compiled_once(compiled: list[str]) -> None:
    first = Policy.compile(TEXTS, DECLARED)
    second = Policy.compile(dict(TEXTS), DECLARED)
    assert compiled == ["50_mine"]
    assert [one.value for one in second.evaluate(snapshot(host={"mem_free": 9})).decisions] == [1]
    assert first.evaluate(snapshot(host={"mem_free": 9})).decisions == second.evaluate(snapshot(host={"mem_free": 9})).decisions


def test_what_is_declared_counts_for_texts_that_were_compiled_by_other_declarations() -> None:
    assert not Policy.compile(TEXTS, DECLARED).evaluate(snapshot(host={"mem_free": 9})).errors
    without = Policy.compile(TEXTS, NOTHING_DECLARED)
    assert {name for _, name in without.undeclared} == {"mem_free"}
    assert [fault.kind for fault in without.evaluate(snapshot(host={"mem_free": 9})).errors] == ["undefined-symbol"]
    assert not Policy.compile(TEXTS, DECLARED).evaluate(snapshot(host={"mem_free": 9})).errors


def test_remarks_are_by_what_is_declared_and_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[object] = []
    real = walk.Walk.walk

    def walked(one: walk.Walk) -> None:
        runs.append(one)
        real(one)

    monkeypatch.setattr(walk.Walk, "walk", walked)
    texts = {"51_mine": TEXTS["50_mine"]}
    assert check_policy(Policy.compile(texts, DECLARED)) == []
    assert check_policy(Policy.compile(texts, DECLARED)) == []
    assert len(runs) == 1
    assert [one.kind for one in check_policy(Policy.compile(texts, NOTHING_DECLARED))] == ["unknown-field"]


def test_a_start_and_a_reload_compile_each_default_and_all_of_them_once(tmp_path: Path, compiled: list[str]) -> None:
    defaults = {"10_one": "(defvar a Host.mem_free)", "20_two": "(defvar b Host.swap_total)"}
    context = PluginContext("policy", state_directory=tmp_path, declarations=dataclasses.replace(DECLARED, policies=defaults))
    made = PolicyPlugin(PolicyPlugin.Settings(), context)
    made.mom_setup()
    made.mom_reload()()
    assert compiled == ["10_one", "20_two", "10_one 20_two"]
