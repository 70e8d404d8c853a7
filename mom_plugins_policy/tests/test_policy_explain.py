"""Reasons of decisions: the conditions around the request, with the values of their fields; and `mom policy explain`."""

import json
from pathlib import Path

import pytest
from policy_verbs import mom_policy

from mom_core.testing import snapshot
from mom_plugins_policy import Policy

SNAPSHOT = snapshot(
    host={"mem_free": 300, "mem_available": 1000},
    guests={"vm1": {"balloon_cur": 100, "balloon_max": 200}, "vm2": {"balloon_cur": 50, "balloon_max": 400}, "vm3": {"balloon_max": 10}},
)


def why(text: str, name: str = "vm1") -> str:
    decisions = Policy.compile({"p": text}).evaluate(SNAPSHOT).decisions
    return next(decision.reason for decision in decisions if decision.entity.name == name)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('(with Guests g (if (> g.balloon_max 150) (g.Control "t" 5) 0))', "(> g.balloon_max 150) is true (g.balloon_max is 200)"),
        ('(with Guests g (if (< g.balloon_max 150) 0 (g.Control "t" 5)))', "(< g.balloon_max 150) is false (g.balloon_max is 200)"),
        ('(with Guests g (if (valid Host.mem_free) (g.Control "t" 5) 0))', "(valid Host.mem_free) is true (Host.mem_free is 300)"),
        ('(with Guests g (if (== (g.Prop "name") "vm1") (g.Control "t" 5) 0))', '(== (g.Prop "name") "vm1") is true'),
        ('(with Guests g (g.Control "t" 5))', '(g.Control "t" 5) in p:1:16'),
        ('(defvar part 2) (with Guests g (if (< part 3) (g.Control "t" 5) 0))', "(< part 3) is true"),
    ],
)
def test_the_reason_is_the_condition_around_the_request_with_the_values_of_its_fields(text: str, reason: str) -> None:
    assert why(text) == reason


def test_conditions_stand_from_the_outside_in_also_those_around_the_only_call_of_a_function() -> None:
    text = """
    (def ask (who) (if (> who.balloon_max 150) (who.Control "t" 1) nil))
    (if (valid Host.mem_free) (with Guests g (if (< g.balloon_cur 60) nil (ask g))) nil)"""
    assert why(text) == (
        "(valid Host.mem_free) is true (Host.mem_free is 300); (< g.balloon_cur 60) is false; "
        "(> who.balloon_max 150) is true (who.balloon_max is 200)"
    )


def test_a_function_that_is_called_twice_gives_only_its_own_conditions() -> None:
    text = '(def ask (g) (if (> g.balloon_max 1) (g.Control "t" 1) 0)) (with Guests g (if (> g.balloon_max 150) (ask g) (ask g)))'
    assert why(text) == "(> g.balloon_max 1) is true (g.balloon_max is 200)"


# --- the verb ------------------------------------------------------------------------------------------------------------------------

POLICY = """(defvar spare 0.9)
(with Guests guest
    (if (valid guest.balloon_cur)
        (guest.Control "balloon_target" (* spare guest.balloon_cur))
        nil))
"""
TAKEN = {"guests": {"vm1": {"balloon_cur": 1000}, "vm3": {"balloon_cur": None}}, "properties": {"vm1": {"uuid": "u-1"}}}


@pytest.fixture
def files(tmp_path: Path) -> list[Path | str]:
    path, taken = tmp_path / "50_test.policy", tmp_path / "taken.json"
    path.write_text(POLICY)
    taken.write_text(json.dumps(TAKEN))
    return [path, "--snapshot", taken]


def test_an_explanation_shows_each_decision_with_its_reason(files: list[Path | str]) -> None:
    done = mom_policy("explain", *files, "--guest", "vm1")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        f"vm1: balloon_target = 900  {files[0]}:4:9",
        "  because (valid guest.balloon_cur) is true (guest.balloon_cur is 1000)",
    ]
    assert mom_policy("explain", *files, "--guest", "u-1").out == done.out


def test_that_nothing_is_decided_is_shown_with_the_unknown_fields(files: list[Path | str]) -> None:
    done = mom_policy("explain", *files, "--guest", "vm3")
    assert (done.code, done.out.splitlines()) == (0, ["vm3: nothing is decided", "unknown: balloon_cur"])
    assert json.loads(mom_policy("explain", *files, "--guest", "vm3", "--json").out)["unknown"] == ["balloon_cur"]


def test_errors_about_it_are_shown_and_exit_code_is_1(tmp_path: Path, files: list[Path | str]) -> None:
    (tmp_path / "50_test.policy").write_text("(with Guests g (+ 1 g.balloon_cur))")
    done = mom_policy("explain", *files, "--guest", "vm3")
    assert done.code == 1
    assert "1:16: type: incompatible operand types" in done.out
    assert "no decision for vm3 is applied in this cycle" in done.out
    assert mom_policy("explain", *files, "--guest", "vm1").code == 0


def test_it_must_be_said_whom_it_is_about(files: list[Path | str]) -> None:
    assert "use --guest NAME or --host" in mom_policy("explain", *files).err
    assert mom_policy("explain", *files, "--host", "--guest", "vm1").code == 2
    done = mom_policy("explain", *files, "--guest", "vm4")
    assert done.code == 1
    assert "there is no guest vm4 in the snapshot /" in done.err
    assert "taken.json (did you mean vm3 or vm1?" in done.err


def test_default_policies_are_not_told_of_where_the_configuration_uses_none(tmp_path: Path) -> None:
    config = tmp_path / "mom.yaml"
    config.write_text("plugins: {sim: {}, balloon: {}}\n")
    for verb in (("explain", "--guest", "web"), ("eval",), ("check",)):
        done = mom_policy(*verb, "-c", config)
        assert (done.code, done.out) == (1, "")
        assert f"{config} does not enable the policy plugin, so mom uses no policies (give the path of a policy" in done.err
    assert "50_balloon" in mom_policy("explain", "--guest", "web", "--defaults", "-c", config).out
