"""Section 14 of the language reference, row by row: where mom follows MOM, and where it differs."""

import logging
from typing import Any

import pytest
from policy_fixture import fixture

from mom_core import Declarations, Value
from mom_core.testing import snapshot
from mom_plugins_policy import Policy, PolicyError, Result


def run(text: str) -> Result:
    return Policy.compile({"50_main_": text}).evaluate(fixture())


# --- rows 1 to 7: loading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "# nothing\n# at all\n", "\ufeff# a comment"])
def test_row_03_a_policy_without_forms_does_nothing(text: str) -> None:
    assert run(text).values == []
    assert Policy.compile({"10_empty": text, "20_other": "7"}).evaluate(fixture()).values == [7]


@pytest.mark.parametrize("text", [5, None])
def test_row_04_a_text_that_is_no_string_is_refused(text: Any) -> None:
    with pytest.raises(PolicyError) as caught:
        Policy.compile({"50_main_": text})
    assert caught.value.name == "50_main_"


def test_row_05_each_policy_is_complete_by_itself() -> None:
    with pytest.raises(PolicyError) as caught:
        Policy.compile({"10_first": '(defvar a "', "20_second": '")'})
    assert [(fault.kind, fault.name) for fault in caught.value.problems] == [("syntax", "10_first"), ("syntax", "20_second")]


def test_row_07_positions_count_lines_of_comments_and_strings_in_their_own_policy() -> None:
    texts = {"10_long": "1\n" * 50, "20_short": '# one\n"two\nthree"\n   (set never 1)'}
    (error,) = Policy.compile(texts).evaluate(fixture()).errors
    assert (error.kind, error.source) == ("undefined-symbol", ("20_short", 4, 4))


# --- rows 17 to 21: reach ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "Host.__class__", "Host.fields", "Host.entity", "Host.properties", "Host.Prop.__self__", "Host.Prop.__globals__", "Host.Prop._call",
        "Guests.members", "Guests.__len__", "s.upper", "s.format", "abs.__call__", "abs.name", "nil.__class__", "n.bit_length", "l.append",
        "Host.Control.__init__", "Guests.count",
    ],
)  # fmt: skip
@pytest.mark.parametrize("use", ["{}", "({})", "(with {} x x)", "(debug {})", "(let ((v {})) v)"])
def test_row_17_nothing_but_the_language_can_be_reached(name: str, use: str) -> None:
    result = run(f'(defvar s "text") (defvar n 5) (defvar l (with Guests g 1)) {use.format(name)}')
    assert [error.kind for error in result.errors] in (["undefined-symbol"], ["unknown-function"])


# --- section 15: requirements of the shipped policies ---------------------------------------------------------------------------------


def test_fields_are_declared_by_the_snapshot_or_by_plugins() -> None:
    snap = snapshot(host={"mem_free": 1})
    assert Policy.compile({"p": "Host.mem_free"}).evaluate(snap).values == [1]
    assert [error.kind for error in Policy.compile({"p": "Host.mem_free"}, Declarations()).evaluate(snap).errors] == ["undefined-symbol"]


def test_debug_writes_one_line_whatever_it_is_given_and_gives_the_last(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "mom.policy"):
        assert run('(debug "x\n2026-01-01 ERROR mom.engine: all is lost" "\x1b[2J") (debug "host:" Host nil 5)').values[-1] == 5
    assert caplog.messages == [r"x\n2026-01-01 ERROR mom.engine: all is lost \x1b[2J", "host: <Host> nil 5"]


def test_a_disk_that_a_policy_changes_is_a_decision_with_its_limits() -> None:
    disk: dict[str, Value] = {"name": "vda", "path": "/p", "current": {"total_bytes_sec": 1, "read_iops_sec": 2}}
    policy = Policy.compile({"p": "(with Guests g (with g.io_tune t (t.setTotalBytesSec 9.8)))"})
    (decision,) = policy.evaluate(snapshot(guests={"vm1": {"io_tune": [disk]}})).decisions
    assert (decision.control, decision.entity.name) == ("io_tune", "vm1")
    assert decision.value == [{"name": "vda", "path": "/p", "total_bytes_sec": 9, "read_iops_sec": 2}]
