"""`mom policy repl`: inputs, commands, completion, and what stays defined."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_fixture import fixture
from policy_verbs import mom_policy

from mom_core import ControlSpec, Declarations, FieldSpec, Scope, Unit
from mom_plugins_policy import Policy
from mom_plugins_policy.cli.inputs import Given
from mom_plugins_policy.cli.repl import Repl
from mom_plugins_policy.tools.example import EXAMPLE
from mom_plugins_policy.tools.session import ReplSession, is_complete
from mom_plugins_policy.tools.snapshots import made_snapshot

DECLARED = Declarations(
    fields={
        (scope, name): FieldSpec(name, Unit.KIB, scope, f"what {name} is")
        for scope, name in (
            (Scope.HOST, "mem_free"),
            (Scope.HOST, "mem_available"),
            (Scope.GUEST, "balloon_cur"),
            (Scope.GUEST, "balloon_max"),
        )
    },
    controls={"balloon_target": ControlSpec("balloon_target", Unit.KIB, Scope.GUEST, "the size", "balloon_cur")},
)


def session() -> ReplSession:
    return ReplSession(made_snapshot(EXAMPLE, "example"), DECLARED)


def repl(*inputs: str) -> tuple[list[str], list[str]]:
    done = mom_policy("repl", given="\n".join(inputs))
    assert done.code == 0
    return done.out.splitlines(), done.err.splitlines()


def test_values_are_printed_and_definitions_stay() -> None:
    assert repl("(def f (x) (* 2 x))", "(defvar y 4)", "(f y) 7", "y") == (['"f"', "4", "8", "7", "4"], [])


def test_an_input_goes_on_until_its_brackets_are_closed() -> None:
    assert repl("(+ 1 # not )", "  2", ")", '"a', 'b"') == (["3", '"a\\nb"'], [])


@pytest.mark.parametrize(
    ("text", "complete"),
    [
        ("", True),
        ("(", False),
        ("(f {", False),
        ("(f {}", False),
        ("(f)", True),
        (")", True),
        ("(]", True),
        ('"a', False),
        ("@ (", True),
        ("# (", True),
    ],
)
def test_what_is_open_is_not_complete(text: str, complete: bool) -> None:
    assert is_complete(text) is complete


def test_an_error_has_a_caret_and_its_input_is_not_kept() -> None:
    out, err = repl("(defvar x 1)", "(set x 2) (+ x nil)", "x", "(f")
    assert out == ["1", "2", "1"]
    assert err[0].startswith("input 2:1:11: type: operands of these types do not fit in (+ x nil)")
    assert err[1:3] == ["    (set x 2) (+ x nil)", "              ^"]
    assert err[3] == "input 3:1:1: syntax: ( is never closed"


def test_an_error_in_a_definition_is_shown_where_it_stands() -> None:
    _, err = repl("(def half (x)", " (/ x 2))", "(half nil)")
    assert err == ["input 1:2:2: type: operands of these types do not fit in (/ x 2)", "     (/ x 2))", "     ^"]


def test_new_decisions_are_shown_once() -> None:
    out, _ = repl('(Host.Control "ksm_run" 1)', "5", '(Host.Control "ksm_run" 0)', ":decisions")
    assert out == ["nil", "  example  ksm_run  1", "5", "nil", "  example  ksm_run  0", "  example  ksm_run  0  input 3:1:1"]


def test_debug_output_is_shown_once() -> None:
    assert repl('(debug "hello" 1)', "2", '(debug "again")')[0] == ["hello 1", "1", "2", "again", '"again"']


def test_another_snapshot_is_used_from_then_on(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    path.write_text(json.dumps({"host": {"mem_free": 5}, "guests": {"vm1": {}}}))
    out, err = repl("(defvar x Host.mem_free)", f":snapshot {path}", "x", ":guests", ":snapshot /nope", ":snapshot")
    assert out[1:] == ["Host and 1 guests: vm1", "5", "  vm1  vm1"]
    assert "/nope: cannot be read" in err[0]
    assert err[1] == ":snapshot needs the name of a JSON file"


def test_policies_can_be_loaded_and_forgotten(tmp_path: Path) -> None:
    good, bad = tmp_path / "50_good.policy", tmp_path / "60_bad.policy"
    good.write_text("(defvar y 5)")
    bad.write_text("(/ 1 0)")
    out, err = repl(f":load {good}", "y", f":load {bad}", "y", ":reset", "y")
    assert out == ["5", "5"]
    assert err[0].startswith(f"{bad}:1:1: zero-division: division by zero in (/ 1 0)")
    assert "not loaded" in err
    assert "undefined-symbol" in err[-3]
    assert mom_policy("repl", good, given="y").out == "5\n"


def test_commands_help() -> None:
    out, err = repl(
        ":help", ":help if", ":help +", ":help g.Control", ":help balloon_target", ":help nonsense", ":fields mem_rea", ":controls", ":halp"
    )
    text = "\n".join(out)
    assert ":snapshot FILE" in text
    assert "if: evaluates the condition, then one branch only; 3 arguments" in text
    assert "+: sum of numbers" in text
    assert "Control: asks for a control to be set; 2 arguments" in text
    assert "nonsense: there is no such word, field or control" in text
    assert "mem_really_available  2097152  KiB" in text
    assert err == ["there is no command :halp (did you mean :help?)"]


def test_quit_leaves_and_so_does_the_end_of_the_input() -> None:
    assert repl("1", ":quit", "2") == (["1"], [])
    assert repl("") == ([], [])


def test_input_that_is_no_text_ends_it_without_a_traceback() -> None:
    done = mom_policy("repl", given=b"1\n\xff\n")
    assert done.code == 2
    assert "byte 0xff is not UTF-8" in done.err


def test_words_fields_controls_and_definitions_are_completed(tmp_path: Path) -> None:
    told = Repl(session(), Given(declarations=DECLARED), interactive=False)
    told.session.add("(def half (x) (/ x 2))")
    told.session.add("(defvar halfway 5)")
    assert told.completions("hal", "(+ hal") == ["half", "halfway"]
    assert told.completions("de", "(de") == ["debug", "def", "defun", "defvar"]
    assert told.completions("Host.mem_", "Host.mem_") == ["Host.mem_available", "Host.mem_free"]
    assert told.completions("g.ba", "(with Guests g g.ba") == ["g.balloon_cur", "g.balloon_max"]
    assert told.completions("g.Con", "(g.Con") == ["g.Control"]
    assert told.completions("", '(g.Control "') == ["balloon_target"]
    assert told.completions("mem_a", '(Host.Stat "mem_a') == ["mem_available"]
    assert told.completions("balloon", '(with Guests g (g.StatAvg "balloon') == ["balloon_cur", "balloon_max"]
    assert told.completions(":s", ":s") == [":snapshot"]
    (tmp_path / "some.json").touch()
    assert told.completions(f"{tmp_path}/so", f":snapshot {tmp_path}/so") == [f"{tmp_path}/some.json"]
    assert told.completions("/nope/x", ":load /nope/x") == []


forms = st.sampled_from(
    [
        "(defvar a 1)",
        "(set a (+ a 1))",
        "(def f (x) (+ x a))",
        "(f 2)",
        "a",
        '(with Guests g (g.Control "k" a))',
        "(with Guests g (+ 1 g.balloon_cur))",
    ]
)


@settings(deadline=None, max_examples=30)
@given(st.lists(forms, max_size=6))
def test_inputs_mean_what_they_would_mean_in_one_policy(inputs: list[str]) -> None:
    talk = ReplSession(fixture(), Declarations())
    told = [talk.add(text) for text in inputs]
    kept = [text for text, answer in zip(inputs, told, strict=True) if answer.kept]
    whole = Policy.compile({"p": "\n".join(kept)}, Declarations()).evaluate(fixture())
    assert [value for answer in told if answer.kept for value in answer.values] == whole.values


@pytest.mark.processes
def test_on_a_terminal_lines_are_edited_completed_and_remembered(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path), "TERM": "dumb", "COLUMNS": "200"}
    command = [sys.executable, "-c", "from mom_core.cli import main; raise SystemExit(main())", "policy", "repl"]

    def at_the_terminal() -> None:
        os.login_tty(slave)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # whatever runs the tests may ignore it

    process = subprocess.Popen(command, env=environment, preexec_fn=at_the_terminal)  # noqa: PLW1509  # no other thread runs
    os.close(slave)
    try:
        seen = ""

        def until(text: str, again: bytes = b"") -> None:
            nonlocal seen
            now = time.monotonic()
            end, repeat = now + 60, now + 2
            while text not in seen and (now := time.monotonic()) < end:
                if again and now > repeat:
                    repeat = now + 2
                    os.write(master, again)
                if select.select([master], [], [], 0.2)[0]:
                    seen += os.read(master, 4096).decode()
            assert text in seen
            seen = seen.partition(text)[2]

        until("policy 1> ")
        os.write(master, b"Host.mem_rea\t\n")
        until("2097152")
        until("policy 2> ")
        os.write(master, b"(+ 1\n")
        until("..> ")
        time.sleep(0.5)  # Python's readline loses an interrupt that comes between its prompt and its waiting
        os.write(master, b"\x03")
        until("policy 2> ", again=b"\x03")
        os.write(master, b"\x04")
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        os.close(master)
    assert (tmp_path / "mom/policy_history").read_text().splitlines()[0].rstrip() == "Host.mem_really_available"
