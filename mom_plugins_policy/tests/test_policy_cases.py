"""`mom policy test`: what is expected, how differences read, and what is wrong with files of tests."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_declared import declared
from policy_verbs import Done, mom_policy

from mom_core import ConfigError, ControlSpec, Decision, Entity, Scope, Unit
from mom_plugins_policy.tools.cases import PolicyTest, cases_of, run_case
from mom_plugins_policy.tools.cases.expected import expected_value
from mom_plugins_policy.tools.snapshots import as_json, checked_form

CONTROLS = (
    ControlSpec("target", Unit.KIB, Scope.GUEST, "", "size"),
    ControlSpec("run", Unit.FLAG, Scope.HOST, "", "mem_free"),
    ControlSpec("ratio", Unit.RATIO, Scope.GUEST, "", "size"),
)
DECLARED = declared(
    {"mem_free": Unit.KIB, "ksm_profit": Unit.BYTES},
    {"size": Unit.KIB, "swap_in": Unit.KIB_PER_SECOND},
    CONTROLS,
    {"50_default": '(with Guests g (if (valid g.size) (g.Control "target" (* 2 g.size)) nil))'},
)


def cases(text: str, folder: Path = Path()) -> list[PolicyTest]:
    return cases_of(text, "t.yaml", folder, DECLARED)


def problems(text: str, folder: Path = Path()) -> list[str]:
    with pytest.raises(ConfigError) as refusal:
        cases(text, folder)
    return [str(problem) for problem in refusal.value.problems]


def differences(text: str, folder: Path = Path()) -> list[list[tuple[str, str, str]]]:
    return [[(one.about, one.expected, one.got) for one in run_case(case)] for case in cases(text, folder)]


def decided(value: float) -> Decision:
    return Decision(Entity(Scope.GUEST, "vm1", "vm1"), "target", value)


# --- expected values -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "fits", "does_not"),
    [
        (5, [5, 5.0], [4, 6, 5.1]),
        (2.5, [2.5], [2]),
        (True, [1], [0]),
        ("1_000", [1000], [1]),
        ("1,000", [1000], [1]),
        ("1GiB", [1 << 20], [(1 << 20) + 1]),
        ("1.5GiB", [3 << 19], []),
        ("100 ~5%", [95, 105, 100], [94, 106]),
        ("100~5", [95, 105], [94]),
        ("100 ± 5 %", [95, 105], [94]),
        ("-100 ~5%", [-95, -105], [-94]),
        ("1GiB ~1MiB", [(1 << 20) - 1024], [(1 << 20) - 1025]),
        ("1..3", [1, 2, 3], [0, 4]),
        ("1MiB..", [1024, 10**9], [1023]),
        ("..1MiB", [1024, -5], [1025]),
        ("< 5", [4], [5, 6]),
        ("<= 5", [5], [6]),
        ("> 5", [6], [5]),
        (">=5", [5], [4]),
        ("any", [0, -7], []),
    ],
)
def test_what_fits_what_is_expected(written: object, fits: list[float], does_not: list[float]) -> None:
    expected = expected_value(written, Unit.KIB)
    assert [value for value in fits if not expected.holds(decided(value))] == []
    assert [value for value in does_not if expected.holds(decided(value))] == []
    assert not expected.holds(None)


def test_none_is_that_there_is_no_decision() -> None:
    assert expected_value("none", Unit.KIB).holds(None)
    assert not expected_value("none", Unit.KIB).holds(decided(0))


@pytest.mark.parametrize(
    "written", [None, "", "x", "5%", "~5%", "1..x", "3..1", "..", "1 GiB B", math.nan, "nan", "inf", "1e999", "> inf", "5 ~"]
)
def test_what_cannot_be_expected_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        expected_value(written, Unit.KIB)


def test_sizes_are_for_amounts_of_memory() -> None:
    assert expected_value("1KiB", Unit.BYTES).low == 1024
    with pytest.raises(ValueError, match="no amount of memory"):
        expected_value("1KiB", Unit.FLAG)


@given(st.text(max_size=12), st.sampled_from([*Unit, None]))
def test_any_text_is_understood_or_refused(text: str, unit: Unit | None) -> None:
    try:
        expected = expected_value(text, unit)
    except ValueError:
        return
    assert expected.low <= expected.high


# --- given and expected --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted((Path(__file__).parent / "cases").glob("*.yaml")), ids=lambda path: path.stem)
def test_what_is_given_comes_to_what_is_expected(path: Path) -> None:
    found = differences(path.read_text(), path.parent)
    assert found == [[]] * len(found) != []


def test_what_is_not_expected_is_a_difference() -> None:
    text = """
tests:
  - name: others
    given: {guests: {vm1: {size: 1}, vm2: {size: 5}, vm3: {}}}
    expect: {decisions: {vm1: {target: 3 ~10%}, vm3: {target: any}}}
"""
    assert differences(text) == [
        [("vm1: target", "3 ~10% (2.7 … 3.3)", "2"), ("vm3: target", "any", "none"), ("vm2: target", "none", "10")]
    ]
    assert differences(text.replace("expect: {", "expect: {others: any, ")) == [
        [("vm1: target", "3 ~10% (2.7 … 3.3)", "2"), ("vm3: target", "any", "none")]
    ]


def test_integers_that_no_float_can_hold_are_compared_and_told() -> None:
    text = """
        policies: {50_p: '(with Guests g (g.Control "target" (<< 1 2000)))'}
        tests: [{name: a, given: {guests: {vm1: {}}}, expect: {decisions: {vm1: {target: EXPECTED}}}}]"""
    (((about, expected, got),),) = differences(text.replace("EXPECTED", "5..6"))
    assert (about, expected, got) == ("vm1: target", "5..6 (5 … 6)", f"{1 << 2000:,}")
    (told,) = problems(text.replace("EXPECTED", "9" * 400))
    assert "inf is no number to expect" in told


def test_errors_are_expected_by_what_is_known_of_them() -> None:
    text = """
policies: {50_p: '(with Guests g (+ g.size 1))'}
given: {guests: {vm1: {size: null}, vm2: {size: 1}}}
tests:
  - {name: kind, expect: {errors: [type]}}
  - {name: all of it, expect: {errors: [{kind: type, guest: vm1, policy: 50_p, line: 1, message: do not fit}]}}
  - {name: anything, expect: {errors: any}}
  - {name: none, expect: {decisions: {}}}
  - {name: another, expect: {errors: [{kind: range, guest: vm2}]}}
"""
    error = "50_p:1:16: type: operands of these types do not fit in (+ g.size 1): g.size is nil (guest vm1)"
    assert differences(text) == [[], [], [], [("error", "none", error)], [("error", "range guest vm2", "none"), ("error", "none", error)]]


def test_notes_are_given_and_expected() -> None:
    text = """
policies: {50_p: '(with Guests g (g.Remember "n" (+ 1 (g.Recall "n" 0))))'}
given: {guests: {vm1: {size: 1}}, remembered: {vm1: {n: 4}}}
tests:
  - {name: counted, expect: {remembered: {vm1: {n: 5}}}}
  - {name: from the start, given: {remembered: {vm1: {n: null}}}, expect: {remembered: {vm1: {n: 2}}}}
"""
    assert differences(text) == [[], [("vm1: remembered n", "2", "1")]]


# --- what is wrong with files --------------------------------------------------------------------------------------------------------


REFUSED = [block.partition("\n=> ") for block in (Path(__file__).parent / "cases/refused.txt").read_text().split("\n\n")]


@pytest.mark.parametrize(("text", "told"), [(text, told.strip().split("\n=> ")) for text, _, told in REFUSED])
def test_all_that_is_wrong_with_a_file_is_told_at_once_with_its_place(text: str, told: list[str]) -> None:
    found = problems(text)
    assert len(found) == len(told), found
    assert [said for said in told if not any(said in problem for problem in found)] == [], found


def test_mistakes_in_policies_are_told_with_their_own_places(tmp_path: Path) -> None:
    (tmp_path / "50_bad.policy").write_text("\n (f ]")
    found = problems("policies: 50_bad.policy\ntests: [{name: a, expect: {}}]", tmp_path)
    assert found == [f"{tmp_path}/50_bad.policy:2:5: syntax: ] does not close the ( of 2:2"]
    found = problems("policies: [{50_p: '(+ 1'}]\ntests: [{name: a, expect: {}}]")
    assert found == ["t.yaml:1:11: policy 50_p:1:1: syntax: ( is never closed: a ) is missing\n    (+ 1\n    ^"]


# --- the verb ------------------------------------------------------------------------------------------------------------------------

TESTS = """
policies: {50_p: '(with Guests g (g.Control "balloon_target" 90))'}
given: {guests: {vm1: {balloon_cur: 100}}}
tests:
  - {name: right, expect: {decisions: {vm1: {balloon_target: 90}}}}
  - {name: wrong <&>, expect: {decisions: {vm1: {balloon_target: 80 ~5%}}}}
"""


@pytest.fixture
def tests(tmp_path: Path) -> Path:
    path = tmp_path / "t.yaml"
    path.write_text(TESTS)
    return path


def test_differences_read_as_expected_and_got(tests: Path) -> None:
    done = mom_policy("test", "-v", tests)
    assert done.code == 1
    assert done.out.splitlines() == [
        "ok    right",
        f"FAIL  wrong <&>  {tests}:6:5",
        "      vm1: balloon_target",
        "        expected  80 ~5% (76 … 84)",
        "        got       90   by 50_p:1:16",
        "2 tests, 1 failed",
    ]
    for written, shown in (("< 80", "< 80"), ("..20KiB", "..20KiB"), ("1MiB..", "1MiB.. (1,024)")):
        tests.write_text(TESTS.replace("80 ~5%", written))
        assert f"        expected  {shown}" in mom_policy("test", tests).out.splitlines()
    tests.write_text(TESTS.replace("80", "90"))
    assert mom_policy("test", tests) == Done(0, "2 passed\n", "")


def test_results_are_printed_as_json(tests: Path) -> None:
    told = json.loads(mom_policy("test", tests, "--json").out)
    assert [(one["name"], one["passed"], one["line"]) for one in told] == [("right", True, 5), ("wrong <&>", False, 6)]
    assert told[1]["differences"] == [{"about": "vm1: balloon_target", "expected": "80 ~5% (76 … 84)", "got": "90", "where": "50_p:1:16"}]


def test_a_folder_stands_for_its_tests(tests: Path, tmp_path: Path) -> None:
    assert mom_policy("test", tmp_path).out.endswith("2 tests, 1 failed\n")
    tests.unlink()
    done = mom_policy("test", tmp_path)
    assert done.code == 2
    assert "holds no file of which the name ends with .yaml or .yml" in done.err


@pytest.mark.parametrize("content", [b"\xff", None, b"tests: [", b"", b"x" * (2 << 20), bytes(256)])
def test_files_that_cannot_be_read_are_told(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "t.yaml"
    if content is not None:
        path.write_bytes(content)
    done = mom_policy("test", path)
    assert (done.code, done.out) == (2, "")
    assert str(path) in done.err


def test_marks_and_line_ends_of_other_systems_are_fine(tests: Path) -> None:
    tests.write_bytes(b"\xef\xbb\xbf" + TESTS.replace("80", "90").replace("\n", "\r\n").encode())
    assert mom_policy("test", tests).code == 0


WORDS = [
    "policies", "parameters", "declare", "given", "tests", "name", "expect", "decisions", "others", "errors", "remembered", "host",
    "guests", "vm1", "size", "target", "snapshot", "properties", "history", "interval", "uuid", "kind", "type", "any", "none",
    "default", "50_p", "1GiB",
]  # fmt: skip
leaves = st.one_of(st.none(), st.booleans(), st.integers(-5, 10**30), st.floats(), st.sampled_from(WORDS), st.text(max_size=5))
values = st.recursive(
    leaves, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(WORDS), inner, max_size=4)), max_leaves=30
)


@pytest.mark.long
@settings(deadline=None, max_examples=200)
@given(
    st.dictionaries(st.sampled_from(WORDS[:12]), values, max_size=5), st.lists(st.dictionaries(st.sampled_from(WORDS), values), max_size=2)
)
def test_any_yaml_is_read_and_run_or_refused(top: dict[str, object], tests: list[dict[str, object]]) -> None:
    text = json.dumps({**top, "tests": [{"name": str(number), "expect": {}, **test} for number, test in enumerate(tests)]})
    try:
        found = cases(text)
    except ConfigError:
        return
    for case in found:
        run_case(case)


@settings(max_examples=2 * settings().max_examples)
@given(st.dictionaries(st.sampled_from(["host", "guests", "properties", "history", "interval"]), values))
def test_any_json_is_a_snapshot_or_refused(value: dict[str, object]) -> None:
    try:
        taken = checked_form(value, "s.json").made()
    except ConfigError:
        return
    assert checked_form(as_json(taken), "again").made().guests == taken.guests
