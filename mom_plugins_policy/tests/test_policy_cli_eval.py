"""`mom policy eval`, `snapshot` and `defaults`: values, decisions, errors, and bad input."""

import json
from pathlib import Path
from typing import Any

import pytest
from policy_verbs import mom_policy

from mom_plugins_policy.snapshots import EXAMPLE, read_snapshot

SMALL = {"host": {"mem_free": 300}, "guests": {"vm1": {"balloon_cur": 100}, "vm2": {"balloon_cur": None}}}


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.json"
    path.write_text(json.dumps(SMALL))
    return path


def policy(folder: Path, text: str, name: str = "50_test.policy") -> Path:
    path = folder / name
    path.write_text(text)
    return path


# --- values, decisions, errors -----------------------------------------------------------------------------------------------------


def test_values_are_shown_as_a_policy_would_write_them() -> None:
    shown = {"(== 1 1)": "true", "nil": "nil", '"a"': '"a"', "2.5": "2.5", "Host": "<Host>", "abs": "<function abs>"}
    assert {text: mom_policy("eval", "-e", text).out.strip() for text in shown} == shown


def test_an_expression_can_use_what_files_define(tmp_path: Path) -> None:
    path = policy(tmp_path, "(def double (x) (* 2 x))", "zz.policy")
    assert mom_policy("eval", path, "-e", "(double 21)").out == "42\n"


def test_decisions_are_shown_with_their_places(tmp_path: Path, small: Path) -> None:
    path = policy(tmp_path, '(with Guests g\n  (if (valid g.balloon_cur) (g.Control "balloon_target" 90.7) nil))')
    done = mom_policy("eval", path, "--snapshot", small)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[-1].split() == ["vm1", "balloon_target", "90", "50_test:2:29"]


def test_errors_have_a_place_a_caret_a_guest_and_values_and_exit_code_1(tmp_path: Path, small: Path) -> None:
    path = policy(tmp_path, "# one\n(with Guests g\n\t(+ g.balloon_cur 1))")
    done = mom_policy("eval", path, "--snapshot", small)
    assert done.code == 1
    assert done.err.splitlines() == [
        f"{path}:3:2: type: incompatible operand types in (+ g.balloon_cur 1): g.balloon_cur is nil (guest vm2)",
        "    \t(+ g.balloon_cur 1))",
        "    \t^",
    ]


def test_an_error_outside_of_loops_says_what_is_lost(tmp_path: Path) -> None:
    done = mom_policy("eval", policy(tmp_path, '(Host.Control "ksm_run" 1) (/ 1 0)'))
    assert done.code == 1
    assert "no decisions for the host" in done.err
    assert "decisions" not in done.out


def test_json_has_all_of_it(tmp_path: Path, small: Path) -> None:
    path = policy(tmp_path, '(with Guests g { (g.Control "k" 1) (+ g.balloon_cur 1) }) (Host.Remember "n" 5)')
    done = mom_policy("eval", path, "--snapshot", small, "--json")
    assert done.code == 1
    told = json.loads(done.out)
    assert told["values"] == [[101, None], None]
    place = {"policy": "50_test", "file": str(path), "line": 1, "column": 18}
    reason = '(g.Control "k" 1) in 50_test:1:18'
    assert told["decisions"] == [{"scope": "guest", "entity": "vm1", "id": "vm1", "control": "k", "value": 1, "reason": reason, **place}]
    assert told["remembered"] == {"host": {"n": 5}}
    assert [(error["kind"], error["guest"], error["line"], error["column"]) for error in told["errors"]] == [("type", "vm2", 1, 36)]


def test_the_default_policies_are_evaluated_where_no_others_are_given_or_beside_files(tmp_path: Path) -> None:
    path = policy(tmp_path, '(with Guests g (g.Control "balloon_target" g.balloon_cur))', "60_mine.policy")
    alone, beside = mom_policy("eval"), mom_policy("eval", path, "--defaults").out
    assert alone.code == 0
    assert all(word in alone.out for word in ("ksm_run", "balloon_target", "50_balloon"))
    assert "60_mine" in beside
    assert "50_balloon" not in beside


def test_all_mistakes_in_the_policies_are_shown_at_once(tmp_path: Path) -> None:
    policy(tmp_path, "(defvar x 1", "10_a.policy")
    policy(tmp_path, "\n (f ]", "20_b.policy")
    done = mom_policy("eval", tmp_path)
    assert done.code == 2
    assert f"{tmp_path}/10_a.policy:1:1: syntax: ( is never closed" in done.err
    assert f"{tmp_path}/20_b.policy:2:5: syntax: ] does not close the ( of 2:2\n     (f ]\n        ^" in done.err


# --- bad input -----------------------------------------------------------------------------------------------------------------------


BAD_SNAPSHOTS = {
    "": "not JSON: expecting value",
    f'{{"host": {{"x": {"9" * 5000}}}}}': "holds a number that is too long",
    '{"host": ' + "[" * 100_000: "is nested too deep",
    **dict(line.split("  =>  ") for line in (Path(__file__).parent / "bad_snapshots.txt").read_text().splitlines()),
}


@pytest.mark.parametrize("text", BAD_SNAPSHOTS, ids=lambda text: text[:40])
def test_snapshots_that_cannot_be_meant_are_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    done = mom_policy("eval", "-e", "1", "--snapshot", path)
    assert (done.code, done.out) == (2, "")
    assert BAD_SNAPSHOTS[text] in done.err
    assert mom_policy("eval", "-e", "1", "--snapshot", "-", given=text).err.count(BAD_SNAPSHOTS[text]) == 1


def test_a_snapshot_with_an_unknown_field_is_used_with_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    path.write_text('{"host": {"mem_fre": 5}}')
    done = mom_policy("eval", "-e", "Host.mem_fre", "--snapshot", path)
    assert (done.code, done.out) == (0, "5\n")
    assert "no plugin declares the field mem_fre of host (did you mean mem_free?)" in done.err


# --- snapshots out and in ------------------------------------------------------------------------------------------------------------


def test_the_example_can_be_printed_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "example.json"
    path.write_text(mom_policy("snapshot", "--example").out)
    assert read_snapshot(path) == read_snapshot(EXAMPLE)


def test_this_host_can_be_looked_at_through_the_configured_plugins(tmp_path: Path) -> None:
    config = tmp_path / "mom.yaml"
    folders = f"state_directory: {tmp_path}/state\nrun_directory: {tmp_path}/run\n"
    config.write_text(f"interval: 1s\n{folders}plugins: {{sim: {{}}, policy: {{}}, balloon: {{}}}}\n")
    done = mom_policy("snapshot", "-c", config)
    taken = json.loads(done.out)
    assert done.code == 0
    assert taken["host"]["mem_available"] > 0
    assert len(taken["guests"]) > 3
    assert len(taken["history"]) == 1
    assert not (tmp_path / "state").exists(), "a mom that runs is not disturbed"
    assert not (tmp_path / "run").exists()
    path = tmp_path / "taken.json"
    path.write_text(done.out)
    assert mom_policy("eval", "-c", config, "--snapshot", path).code == 0


# --- defaults ------------------------------------------------------------------------------------------------------------------------


def test_default_policies_are_printed_and_listed_with_the_sentence_that_says_what_they_are_for() -> None:
    assert json.loads(mom_policy("defaults", "--json").out)["40_ksm"] == mom_policy("defaults", "40_ksm").out
    listed = dict(line.split(maxsplit=1) for line in mom_policy("defaults").out.splitlines())
    assert listed["50_balloon"] == "The sizes of guests, as the balloon law suggests them: docs/balloon-law.md"
    assert listed["70_io_limits"].startswith("Holds disks to the limits that were agreed for them")  # after a remark


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [(("eval", "--live", "--snapshot", "x.json"), 2, "exclude each other"), (("defaults", "50_baloon"), 2, "did you mean 50_balloon?")],
)
def test_what_cannot_be_meant_is_told(arguments: tuple[str, ...], code: int, said: str) -> None:
    done = mom_policy(*arguments)
    assert (done.code, said in done.err) == (code, True)


AWAY = """
uri = "away:///"

@hookimpl
def mom_hypervisor(self):
    return self

def guests(self):
    from mom_core import HypervisorError
    raise HypervisorError("libvirtd is away", hint="start it")
"""


def test_a_look_at_a_host_whose_guests_are_unknown_says_so_with_the_cure(shelf: Any, tmp_path: Path) -> None:
    shelf.add_plugin("away", AWAY)
    config = tmp_path / "mom.yaml"
    config.write_text("plugins: {away: {}}\n")
    done = mom_policy("eval", "--live", "-c", config, "-e", "(+ 1 1)")
    assert done.out == "2\n"
    assert "the guests are unknown: libvirtd is away (start it; `mom doctor" in done.err


@pytest.mark.parametrize("verb", [("eval",), ("explain", "--host")], ids=lambda verb: verb[0])
def test_a_file_that_is_no_text_is_misuse_and_nothing_else_happens(tmp_path: Path, verb: tuple[str, ...]) -> None:
    path = tmp_path / "50_bad.policy"
    path.write_bytes(b"1\n caf\xe9")
    done = mom_policy(*verb, path)
    assert (done.code, done.out) == (2, "")
    assert f"{path}:2:5: byte 0xe9 is not UTF-8" in done.err


def test_two_files_of_one_name_are_told(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    one, two = policy(tmp_path, "1"), policy(tmp_path / "other", "2")
    done = mom_policy("eval", one, two)
    assert done.code == 2
    assert f"{two}: has the same policy name as {one}: 50_test" in done.err
    assert mom_policy("eval", one, one).code == 0, "the same file twice is the same file"
