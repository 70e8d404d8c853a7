"""The plugin: files, refusals, decisions and changes."""

import logging
import os
from pathlib import Path
from typing import Any

import pytest
from policy_declared import declared

from mom_core import (
    ConfigError,
    ControlSpec,
    Decision,
    Declarations,
    FieldSpec,
    Guest,
    PluginContext,
    Problem,
    Scope,
    Severity,
    Snapshot,
    Unit,
    Value,
)
from mom_core.testing import snapshot
from mom_plugins_policy import Policy, PolicyPlugin, checks
from mom_plugins_policy.language import limits

CONTROLS = (
    ControlSpec("balloon_target", Unit.KIB, Scope.GUEST, "balloon", "size"),
    ControlSpec("knob", Unit.COUNT, Scope.HOST, "knob", "free"),
    ControlSpec("share", Unit.RATIO, Scope.HOST, "share", "free"),
    ControlSpec("pins", Unit.TEXT, Scope.GUEST, "pins", "size"),
)


def plugin(tmp_path: Path, *, brought: Any = None, **settings: object) -> PolicyPlugin:
    declarations = declared({"free": Unit.KIB}, {"size": Unit.KIB}, CONTROLS, brought)
    context = PluginContext(name="policy", state_directory=tmp_path / "state", declarations=declarations)
    return PolicyPlugin(PolicyPlugin.Settings.model_validate(settings), context)


def folder(tmp_path: Path, files: dict[str, str | bytes]) -> Path:
    directory = tmp_path / "policy.d"
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return directory


def running(tmp_path: Path, files: dict[str, str | bytes] | None = None, **settings: Any) -> PolicyPlugin:
    """Set up the plugin with these files in its folder."""
    if files is not None:
        settings["directory"] = folder(tmp_path, files)
    it = plugin(tmp_path, **settings)
    it.mom_setup()
    return it


def snap() -> Snapshot:
    return snapshot(host={"free": 50}, guests={"a": {"size": 100}, "b": {"size": None}})


def found(what: PolicyPlugin, snapshot_: Snapshot | None = None) -> tuple[dict[tuple[str, str], Value], list[Problem]]:
    items = list(what.mom_evaluate(snapshot_ or snap(), ()))
    decisions = {(item.entity.name, item.control): item.value for item in items if isinstance(item, Decision)}
    return decisions, [item for item in items if isinstance(item, Problem)]


def refusal(what: PolicyPlugin) -> list[tuple[str, int, int, str]]:
    with pytest.raises(ConfigError) as caught:
        what.mom_setup()
    return [(Path(one.file).name, one.line, one.column, one.message) for one in caught.value.problems]


# --- files ------------------------------------------------------------------------------------------------------------------


def test_files_are_read_in_name_order_and_others_are_not(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "20_b.policy": '(Host.Control "knob" (+ n 1))',
        "10_a.policy": "\ufeff(defvar n 5)\r\n# comment only",
        ".30_hidden.policy": '(Host.Control "knob" 0)',
        "40_note.policy.bak": "((((",
        "README": "((((",
    }
    assert found(running(tmp_path, files)) == ({("host", "knob"): 6}, [])


@pytest.mark.parametrize("open_to_all", ["policy.d", "policy.d/20_b.policy"])
def test_policies_that_everybody_can_write_are_refused_with_their_path(tmp_path: Path, open_to_all: str) -> None:
    directory = folder(tmp_path, {"10_a.policy": "(+ 1 2)", "20_b.policy": '(Host.Control "knob" 3)'})
    plugin(tmp_path, directory=directory).mom_setup()
    (tmp_path / open_to_all).chmod(0o777)
    said = f"is not used: {tmp_path / open_to_all} can be written by everybody"
    assert refusal(plugin(tmp_path, directory=directory)) == [(Path(open_to_all).name, 0, 0, said)]


def test_a_file_is_the_policy_in_place_of_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "mine.policy"
    path.write_text('(Host.Control "knob" 7)')
    brought = {"10_default": '(Host.Control "share" 0.5)'}
    (decision,) = running(tmp_path, file=path, brought=brought).mom_evaluate(snap(), ())
    assert isinstance(decision, Decision)
    assert str(decision.source) == "50_main_:1:1"
    assert found(running(tmp_path, file=path, brought=brought, defaults=True))[0] == {("host", "knob"): 7, ("host", "share"): 0.5}


def test_without_policies_of_the_operator_the_defaults_decide_unless_they_are_switched_off(tmp_path: Path) -> None:
    brought = {"10_default": '(Host.Control "knob" 3)'}
    own: dict[str, str | bytes] = {"10_default.policy": '(Host.Control "knob" 2)'}
    assert found(running(tmp_path / "own", own, brought=brought))[0] == {("host", "knob"): 2}
    for it in (running(tmp_path, {}, brought=brought), running(tmp_path, brought=brought, directory=tmp_path / "nope")):
        assert found(it)[0] == {("host", "knob"): 3}
    assert found(running(tmp_path, brought=brought)) == ({("host", "knob"): 3}, [])
    assert found(running(tmp_path, brought=brought, defaults=False)) == ({}, [])


def test_a_control_that_is_to_be_ignored_is_set_without_effect(tmp_path: Path) -> None:
    it = running(tmp_path, {"10.policy": '(Host.Control "knob" 3) (Host.Control "share" 0.5)'}, ignore=["knob"])
    assert found(it) == ({("host", "share"): 0.5}, [])


def test_a_default_that_reads_what_nobody_collects_is_left_out_and_said_in_each_cycle(tmp_path: Path) -> None:
    it = running(tmp_path, brought={"10_a": "(if (valid Host.load) 1 2)", "20_b": '(Host.Control "knob" Host.free)'})
    decided, (problem,) = found(it)
    assert decided == {("host", "knob"): 50}
    assert problem.message == "the default policy 10_a is not used: no plugin declares host.load"
    assert problem.hint == "enable the plugins that collect them"


# --- the log -------------------------------------------------------------------------------------------------------------


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.getMessage()) for record in caplog.records if record.levelno >= logging.WARNING]


def test_remarks_are_logged_when_policies_are_loaded_and_not_in_each_cycle(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    it = running(
        tmp_path, {"60_own.policy": "(Host.Control 'knub' 1)\n(if (> Host.free 5) (nope) 0)\n" + "(Host.Control 'knubs' 1)\n" * 20}
    )
    error, warning, *_, more = logged(caplog)
    assert more[1].startswith("the policies have 12 more mistakes")
    unknown = "no plugin has the control knub [unknown-control] (did you mean knob?)"
    assert warning == ("WARNING", f"60_own:1:15: {unknown}")
    assert error[0] == "ERROR"
    assert error[1].startswith("60_own:2:22: there is no function nope ")
    caplog.clear()
    found(it)
    assert logged(caplog) == []
    it.mom_reload()()
    assert len(logged(caplog)) == 11


def test_a_mistake_of_the_checks_stops_no_policy(tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(policy: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(checks, "check_policy", broken)
    it = running(tmp_path, {"60.policy": "(Host.Control 'knob' 1)"})
    assert [message for _, message in logged(caplog)] == ["the policies could not be checked"]
    assert found(it)[0] == {("host", "knob"): 1}


# --- refusals ---------------------------------------------------------------------------------------------------------------


def test_all_that_is_wrong_in_all_files_is_told_at_once(tmp_path: Path) -> None:
    directory = folder(
        tmp_path,
        {
            "10_a.policy": "(defvar x 1)\n(def f y 1)",
            "20_b.policy": "((",
            "30_c.policy": b"ok \xff",
            "40_d.policy": b"\x00\x01\x02",
            "50_e.policy": "(+ 1 2)",
        },
    )
    (directory / "60_f.policy").mkdir()
    os.mkfifo(directory / "70_g.policy")
    (directory / "80_h.policy").symlink_to(directory / "nowhere")
    problems = refusal(plugin(tmp_path, directory=directory))
    assert [(file, line, column) for file, line, column, _ in problems] == [
        ("10_a.policy", 2, 8), ("20_b.policy", 1, 2), ("30_c.policy", 1, 4), ("40_d.policy", 1, 1), ("60_f.policy", 0, 0),
        ("70_g.policy", 0, 0), ("80_h.policy", 0, 0),
    ]  # fmt: skip
    told = {file: message for file, _, _, message in problems}
    assert "Is a directory" in told["60_f.policy"]
    assert "not a regular file" in told["70_g.policy"]
    assert "No such file" in told["80_h.policy"]
    assert "0xff is not UTF-8" in told["30_c.policy"]


def test_a_file_that_cannot_be_had_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (tmp_path / "huge.policy").open("wb") as file:
        file.truncate(100_000_000)
    (tmp_path / "open.policy").touch(0o666)
    (tmp_path / "open.policy").chmod(0o666)
    for setting, name, said in (
        ({"file": tmp_path / "huge.policy"}, "huge.policy", "has more than 4,194,304 bytes"),
        ({"file": tmp_path / "nope.policy"}, "nope.policy", "cannot be read: No such file or directory"),
        ({"directory": tmp_path / "file"}, "file", "cannot be listed: Not a directory"),
        ({"file": tmp_path / "open.policy"}, "open.policy", "can be written by everybody"),
    ):
        ((found, *_, message),) = refusal(plugin(tmp_path, **setting))
        assert found == name
        assert said in message


# --- decisions ---------------------------------------------------------------------------------------------------------------


def test_decisions_are_for_controls_of_the_entity_cut_where_these_count_things_and_by_the_history_that_is_given(tmp_path: Path) -> None:
    text = """(Host.Control "knob" (Host.StatAvg "free")) (Host.Control "share" 0.25) (Host.Control "balloon_target" 1)
        (with Guests g (g.Control "knob" 1))"""
    it = running(tmp_path, {"a.policy": text})
    decided = it.mom_evaluate(snap(), (snapshot(host={"free": 100}), snapshot(host={"free": 152})))
    assert [(one.control, one.value) for one in decided if isinstance(one, Decision)] == [("knob", 100), ("share", 0.25)]


def test_the_mean_of_a_field_is_that_of_the_guest_since_it_was_started() -> None:
    def sample(incarnation: str, size: int) -> Snapshot:
        return Snapshot(guests={"a": Guest("a", "a", {"size": size}, incarnation=incarnation)})

    policy = Policy.compile({"a": '(with Guests g (g.StatAvg "size"))'})
    assert policy.evaluate(sample("2", 300), [sample("1", 8000), sample("2", 100)]).values == [[200.0]]


@pytest.mark.parametrize("name", ['"{}"', '(asked "{}")'])
def test_text_is_asked_for_of_a_control_that_takes_text_and_of_no_other(tmp_path: Path, name: str) -> None:
    text = '(def asked (name) name) (with Guests g (g.Control NAME (g.Prop "cpus" "0-1;2-3")))'
    decisions, problems = found(running(tmp_path / "pins", {"a.policy": text.replace("NAME", name.format("pins"))}))
    assert (decisions, problems) == ({("a", "pins"): "0-1;2-3", ("b", "pins"): "0-1;2-3"}, [])
    decisions, problems = found(running(tmp_path / "size", {"a.policy": text.replace("NAME", name.format("balloon_target"))}))
    assert decisions == {}
    assert [problem.entity and problem.entity.id for problem in problems] == ["a", "b"]
    assert all('a number is required, not "0-1;2-3"' in problem.message for problem in problems)


def test_a_guests_trouble_is_a_problem_of_that_guest(tmp_path: Path) -> None:
    text = '(with Guests g { (if (== g.size 100) (- 1 (g.Prop "name")) 0) })'
    _, (error,) = found(running(tmp_path, {"a.policy": text}))
    assert (error.severity, error.message) == ("error", 'type: incompatible operand types in (- 1 (g.Prop "name"))')
    it = running(tmp_path, {"a.policy": '(with Guests g (g.Control "balloon_target" (- g.size 1)))'})
    decisions, (problem,) = found(it)
    assert decisions == {("a", "balloon_target"): 99}
    assert problem.entity is not None
    assert problem.entity.name == "b"
    assert str(problem.source) == "a:1:44"
    assert (problem.severity, problem.message) == ("warning", "left out by a, because g.size is unknown")
    assert problem.hint.startswith("test the field with (valid")


# --- changes -----------------------------------------------------------------------------------------------------------------------


def test_policies_with_which_mom_would_not_start_are_found_by_the_check_of_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "TEXT", 35)
    bad, many = tmp_path / "policy.d/60_a.policy", tmp_path / "policy.d/80_c.policy"
    directory = folder(tmp_path, {bad.name: "(+ 1 2)\n(+ 1 (", "70_b.policy": "(+ 1 2)", many.name: "(+ 1 2)"})
    it = plugin(tmp_path, directory=directory, shadow=folder(tmp_path / "shadow", {}))
    *_, finding = it.mom_check()
    assert (finding.severity, "the policies have more than 35 characters" in finding.message) == (Severity.ERROR, True)
    many.unlink()
    (finding,) = it.mom_check()
    assert finding.message.startswith(f"{bad}:2:6: ")
    bad.unlink()
    assert list(it.mom_check()) == []


def test_that_no_policy_decides_is_a_problem_until_one_does(tmp_path: Path) -> None:
    it = running(tmp_path, {})
    assert [problem.message for problem in it.mom_problems()] == ["no policy decides"]
    folder(tmp_path, {"60_a.policy": "(+ 1 2)"})
    it.mom_reload()()
    assert list(it.mom_problems()) == []


def test_a_folder_that_is_not_there_or_vanishes_is_a_problem_in_each_cycle(tmp_path: Path) -> None:
    it = running(tmp_path, {"10.policy": "(+ 1 2)"}, shadow=tmp_path / "tryal")
    said = f"no policies are read from {tmp_path}/tryal: it is no folder"
    assert [one.message for one in it.mom_check()] == [said]
    assert [(one.message, one.severity) for one in found(it)[1]] == [(said, Severity.WARNING)]
    (tmp_path / "tryal").mkdir()
    (tmp_path / "policy.d").rename(tmp_path / "x")
    it.mom_reload()()
    assert [one.message for one in found(it)[1]] == [f"no policies are read from {tmp_path}/policy.d: it is no folder"]
    (tmp_path / "x").rename(tmp_path / "policy.d")
    it.mom_reload()()
    assert found(it)[1] == []


def test_files_that_a_reload_refuses_are_a_problem_until_one_takes_them(tmp_path: Path) -> None:
    it = running(tmp_path, {"10.policy": '(Host.Control "knob" 3)'})
    folder(tmp_path, {"10.policy": '(Host.Control "knob" 4)', "70_b.policy": "(foo"})
    with pytest.raises(ConfigError):
        it.mom_reload()
    for _ in range(2):
        decided, (problem,) = found(it)
        assert decided == {("host", "knob"): 3}
        assert problem.message.startswith(f"the policy files were refused at the reload: {tmp_path}/policy.d/70_b.policy:1:1: syntax: ")
    folder(tmp_path, {"70_b.policy": "(+ 1 2)"})
    commit = it.mom_reload()
    assert found(it)[0] == {("host", "knob"): 3}, "not before the reload of all plugins has succeeded"
    commit()
    assert found(it) == ({("host", "knob"): 4}, [])


def test_decisions_that_take_a_suggestion_up_say_why_it_was_made() -> None:
    declared = Declarations({
        (Scope.GUEST, "wanted"): FieldSpec("wanted", Unit.KIB, Scope.GUEST, "what a law suggests", reason="why"),
        (Scope.GUEST, "why"): FieldSpec("why", Unit.TEXT, Scope.GUEST, "why it does"),
    }, {"size": ControlSpec("size", Unit.KIB, Scope.GUEST, "its size", "wanted")})  # fmt: skip
    text = '(with Guests g (g.Control "size" (if (> g.wanted 10) (min g.wanted 20) 5)))'
    guests: dict[str, dict[str, Value]] = {"a": {"wanted": 30, "why": "sweep"}, "b": {"wanted": 1}}
    decisions = Policy.compile({"x": text}, declared).evaluate(snapshot(guests=guests)).decisions
    assert (decisions[0].value, decisions[0].reason.split(": ")[0]) == (20, "sweep")
    assert decisions[1].reason.startswith("(g.Control")


def test_a_name_that_is_there_already_or_has_control_characters_is_refused(tmp_path: Path) -> None:
    directory = folder(tmp_path, {"10_a.policy": "1", "10_a.policy.policy": "2", "20_a\n\x1b[31m.policy": "1"})
    (name, *_, message), (unprintable, *_, why) = refusal(plugin(tmp_path, directory=directory))
    assert name == "10_a.policy.policy"
    assert "has the same policy name" in message
    assert unprintable.isprintable()
    assert "control characters" in why
