"""Changes of policies while mom runs: as a whole, over files, with versions, reset, and storage on disk."""

from pathlib import Path

import pytest
from policy_declared import declared

from mom_core import ConfigError, ControlSpec, Decision, MomError, PluginContext, Problem, Scope, Unit, Value
from mom_core.testing import snapshot
from mom_kvm import PolicyState, PolicyTexts
from mom_plugins_policy import PolicyPlugin

KNOB = ControlSpec("knob", Unit.COUNT, Scope.HOST, "knob", "free")
DECLARED = declared({"free": Unit.KIB}, controls=[KNOB], policies={"10_default": "(defvar level 1)"})
USE = '(Host.Control "knob" level)'


class Running:
    """Running plugin on a folder of files."""

    def __init__(self, path: Path, **settings: object) -> None:
        self.folder = path / "policy.d"
        self.folder.mkdir(exist_ok=True)
        self.woken: list[str] = []
        context = PluginContext(name="policy", state_directory=path / "state", wake=self.woken.append, declarations=DECLARED)
        self.plugin = PolicyPlugin(PolicyPlugin.Settings.model_validate({"directory": self.folder, **settings}), context)
        self.plugin.mom_setup()
        self.policies: PolicyTexts = self.plugin.mom_services()[PolicyTexts]

    def decided(self) -> list[Value]:
        items = self.plugin.mom_evaluate(snapshot(host={"free": 1}), ())
        return [item.value for item in items if isinstance(item, Decision)]

    def names(self) -> list[str]:
        return list(self.policies.state().texts)


@pytest.fixture
def running(tmp_path: Path) -> Running:
    folder = tmp_path / "policy.d"
    folder.mkdir()
    (folder / "50_use.policy").write_text(USE)
    return Running(tmp_path)


def test_what_is_set_is_in_force_at_the_next_evaluation_and_wakes_the_engine(running: Running) -> None:
    assert running.decided() == [1]
    state = running.policies.change({"20_more": "(set level 2)"}, who="a test")
    assert running.decided() == [2]
    assert list(state.texts) == ["10_default", "20_more", "50_use"]
    assert [text.origin for text in state.texts.values()] == ["default", "set by a test", str(running.folder / "50_use.policy")]
    assert running.woken == ["the policies have changed"]


def test_a_change_that_is_wrong_anywhere_changes_nothing_and_says_where(running: Running) -> None:
    before = running.policies.state()
    with pytest.raises(PolicyState.Refused) as refused:
        running.policies.change({"20_a": "(set level 2)", "30_b": "1\n(if 1 2"}, who="a test")
    problem = refused.value.problems[0]
    assert (problem.name, problem.line, problem.column, problem.kind) == ("30_b", 2, 1, "syntax")
    assert running.policies.state() is before
    assert running.decided() == [1]


def test_remarks_are_of_what_changes_and_of_what_that_causes_elsewhere(running: Running) -> None:
    (running.folder / "20_old.policy").write_text("(nosuch 1)")  # a file from the start
    running = Running(running.folder.parent)
    running.policies.change({"10_words": "(def twice (x) (* 2 x))", "30_uses": "(twice 3)"}, who="a test")
    assert running.policies.remarks({"60_new": "(+ 1 2)"}) == ()  # 20_old had the same errors before
    found = running.policies.remarks({"60_new": "(other 1)", "10_words": None})
    assert [(one.name, one.kind, one.severity) for one in found] == [
        ("30_uses", "unknown-function", "error"),
        ("60_new", "unknown-function", "error"),
    ]
    assert [(one.name, one.kind) for one in running.policies.remarks({"60_new": "(+ 1"})] == [("60_new", "syntax")]


def test_a_removed_policy_is_gone_whether_it_came_from_a_file_or_a_default(running: Running) -> None:
    running.policies.change({"50_use": None, "never_there": None}, who="a test")
    assert running.names() == ["10_default"]
    running.policies.change({"10_default": None}, who="a test")
    assert running.names() == []
    running.policies.reset(who="a test")
    assert running.names() == ["10_default", "50_use"]


def test_replacing_all_leaves_that_alone_even_when_files_are_read_again(running: Running) -> None:
    running.policies.change({"50_main_": '(Host.Control "knob" 9)'}, who="a test", replace_all=True)
    assert running.names() == ["50_main_"]
    running.plugin.mom_reload()()
    assert running.names() == ["50_main_"]
    running.policies.change({"60": '(Host.Control "knob" 8)'}, who="a test")
    assert running.names() == ["50_main_", "60"]
    running.policies.reset(who="a test")
    assert running.decided() == [1]


def test_files_that_are_read_again_stay_below_what_was_set(running: Running) -> None:
    running.policies.change({"20_more": "(set level 2)"}, who="a test")
    (running.folder / "20_more.policy").write_text("(set level 3)")
    (running.folder / "30_more.policy").write_text("(set level (* level 10))")
    running.plugin.mom_reload()()
    assert running.decided() == [20]
    running.policies.reset(who="a test")
    assert running.decided() == [30]


def test_a_change_between_preparing_and_committing_a_reload_is_kept(running: Running) -> None:
    (running.folder / "30_more.policy").write_text("(set level (* level 10))")
    commit = running.plugin.mom_reload()
    running.policies.change({"20_more": "(set level 2)"}, who="a test")
    commit()
    assert running.decided() == [20]


def test_a_version_is_another_one_after_each_change_and_guards_against_overwriting(running: Running) -> None:
    first = running.policies.state().version
    second = running.policies.change({"20": "(set level 2)"}, who="one", expected_version=first).version
    assert second != first
    with pytest.raises(PolicyState.Conflict) as conflict:
        running.policies.change({"20": "(set level 3)"}, who="another", expected_version=first)
    assert conflict.value.version == second
    assert running.decided() == [2]
    assert running.policies.change({"20": "(set level 2)"}, who="one").version == second, "the same again is no change"
    assert len(running.woken) == 1


def test_the_history_leads_back_to_the_very_texts(running: Running) -> None:
    running.policies.change({"20": "(set level 2)"}, who="one")
    second = running.policies.state()
    running.policies.change({"50_main_": "(+ 1 1)"}, who="two", replace_all=True)
    third = running.policies.state()
    (running.folder / "30_more.policy").write_text("(set level 7)")
    running.plugin.mom_reload()()
    running.policies.roll_back(second.version, who="three")
    assert running.decided() == [2]
    assert running.names() == ["10_default", "20", "50_use"]
    running.policies.roll_back(third.version, who="three")
    assert running.names() == ["50_main_"]
    told = [(change.who, change.what) for change in running.policies.history()]
    assert told == [
        ("mom", "read at the start"),
        ("one", "set 20"),
        ("two", "removed all others, set 50_main_"),
        ("mom", "files read again"),
        ("three", f"rolled back to {second.version}"),
        ("three", f"rolled back to {third.version}"),
    ]
    with pytest.raises(MomError, match="no version nonsense"):
        running.policies.roll_back("nonsense", who="three")


def test_changes_outlive_a_restart_only_when_they_are_to_be_kept(tmp_path: Path) -> None:
    first = Running(tmp_path, keep_changes=True)
    first.policies.change({"20": "(defvar x 1)", "10_default": None}, who="vdsm")
    again = Running(tmp_path, keep_changes=True)
    assert {name: text.origin for name, text in again.policies.state().texts.items()} == {"20": "set by vdsm"}
    again.policies.change({"50_main_": "1"}, who="vdsm", replace_all=True)
    assert Running(tmp_path, keep_changes=True).names() == ["50_main_"]
    off = Running(tmp_path)
    off.decided()
    assert off.names() == ["10_default"]
    forgotten = Running(tmp_path, keep_changes=True)
    assert forgotten.names() == ["10_default"], "it was forgotten when it was switched off"
    forgotten.policies.change({"20": "(defvar x 1)"}, who="vdsm")
    forgotten.policies.reset(who="vdsm")
    assert Running(tmp_path, keep_changes=True).names() == ["10_default"], "a reset forgets it, too"


@pytest.mark.parametrize("keep", [False, True])
def test_a_reload_that_is_refused_leaves_what_is_kept_as_it_is(tmp_path: Path, keep: bool) -> None:
    """The plugin was set up with new settings, and then another plugin refused the reload."""
    it = Running(tmp_path, keep_changes=True)
    it.policies.change({"20": "(defvar x 1)", "10_default": None}, who="vdsm")
    it.decided()
    Running(tmp_path, keep_changes=keep, defaults=False).plugin.mom_teardown()
    assert Running(tmp_path, keep_changes=True).names() == ["20"]


@pytest.mark.parametrize("resets", [False, True])
def test_what_is_changed_in_policies_while_a_reload_replaces_them_is_taken_over_and_refused_later(tmp_path: Path, resets: bool) -> None:
    before = Running(tmp_path, keep_changes=True)
    before.policies.change({"20": "(defvar x 1)"}, who="vdsm")
    before.decided()
    after = Running(tmp_path, keep_changes=True, ignore=["other"])
    if resets:
        before.policies.reset(who="vdsm")
    else:
        before.policies.change({"30": "(defvar x 1)"}, who="vdsm")
    before.plugin.mom_teardown()
    with pytest.raises(MomError, match="no longer in force: the change was not made"):
        before.policies.change({"40": "(defvar x 1)"}, who="vdsm")
    after.decided()
    told = ["10_default"] if resets else ["10_default", "20", "30"]
    assert after.names() == Running(tmp_path, keep_changes=True).names() == told, "what clients were told is in force, and comes back"


def test_files_that_do_not_go_with_what_was_set_while_they_were_read_are_a_problem(running: Running) -> None:
    used = running.folder / "20_used.policy"
    used.write_text("(def double (x) (* 2 x))")
    running.plugin.mom_reload()()
    used.unlink()
    commit = running.plugin.mom_reload()
    running.policies.change({"60": "(double 1)"}, who="me")
    with pytest.raises(ConfigError):
        commit()
    (told,) = [item for item in running.plugin.mom_evaluate(snapshot(host={"free": 1}), ()) if isinstance(item, Problem)]
    assert told.message.startswith("the policy files were refused at the reload: policy 60 (set by me):1:2: ")
    assert running.names() == ["10_default", "20_used", "50_use", "60"]
    running.policies.change({"60": None}, who="me")
    running.plugin.mom_reload()()
    assert running.decided() == [1]
    assert not [item for item in running.plugin.mom_evaluate(snapshot(host={"free": 1}), ()) if isinstance(item, Problem)]


def test_a_change_that_could_not_be_kept_is_reported_and_kept_in_the_next_cycle(tmp_path: Path) -> None:
    it = Running(tmp_path, keep_changes=True)
    (tmp_path / "state").write_text("a file where the folder belongs")
    it.policies.change({"20": "(defvar x 1)"}, who="vdsm")
    it.decided()
    (file,) = (each for each in it.plugin._context.state_files if each.path.name == "changes.json")
    assert "cannot be written" in file.write_error
    (tmp_path / "state").unlink()
    it.decided()
    assert not file.write_error
    assert "20" in Running(tmp_path, keep_changes=True).names()


def test_the_start_is_one_version_so_that_going_back_takes_away_no_kept_change(tmp_path: Path) -> None:
    first = Running(tmp_path, keep_changes=True)
    first.policies.change({"20": "(defvar x 1)"}, who="vdsm")
    first.policies.change({"30": "(defvar y 1)"}, who="vdsm")
    again = Running(tmp_path, keep_changes=True)
    (start,) = again.policies.history()
    assert (start.who, start.what, start.diff) == ("mom", "read at the start, with the saved changes", "")
    again.policies.change({"40": "(defvar z 1)"}, who="vdsm")
    again.policies.roll_back(start.version, who="a test")
    assert again.names() == ["10_default", "20", "30"]


def test_before_the_plugin_is_set_up_nothing_can_be_asked(tmp_path: Path) -> None:
    policies = PolicyPlugin(PolicyPlugin.Settings(), PluginContext(state_directory=tmp_path)).mom_services()[PolicyTexts]
    for call in (policies.state, lambda: policies.change({"a": "1"}, who="x"), lambda: policies.reset(who="x")):
        with pytest.raises(MomError, match="not loaded yet"):
            call()


FAILING = ("(defvar x)", "(/ 1 0)", "Host.typo", "(with Guests guest (nosuch guest))", "(if (> Host.free 5) (nosuch) 1)")


@pytest.mark.parametrize("text", FAILING)
def test_what_is_certain_to_fail_is_refused_and_the_old_ones_decide_on(running: Running, text: str) -> None:
    before = running.policies.state()
    for change in (
        lambda: running.policies.change({"20": text}, who="a test"),
        lambda: running.policies.change({"50_main_": text}, who="a test", replace_all=True),
    ):
        with pytest.raises(PolicyState.Refused) as refused:
            change()
        problem = refused.value.problems[0]
        assert (problem.name in {"20", "50_main_"}, problem.line, problem.severity) == (True, 1, "error")
    assert running.policies.state() is before
    assert running.decided() == [1]


def test_policies_cannot_be_rolled_back_reset_or_reloaded_into_what_is_certain_to_fail(running: Running) -> None:
    version = running.policies.change({"20": "(set level 2)"}, who="a test").version
    (running.folder / "20.policy").write_text("(set unknown 2)")
    with pytest.raises(PolicyState.Refused, match="there is no variable unknown to set"):
        running.policies.reset(who="a test")
    (running.folder / "20.policy").write_bytes(b"\xff")
    with pytest.raises(PolicyState.Refused, match="is not UTF-8"):
        running.policies.reset(who="a test")
    (running.folder / "20.policy").write_text("(set unknown 2)")
    running.policies.change({"20": "(set level 3)"}, who="a test")
    (running.folder / "60_mine.policy").write_text("(nosuch 1)")
    with pytest.raises(ConfigError, match=r"60_mine\.policy:1:2: unknown-function: there is no function nosuch"):
        running.plugin.mom_reload()
    assert running.decided() == [3]
    assert running.policies.roll_back(version, who="a test")
    assert running.decided() == [2]


def test_kept_changes_that_are_certain_to_fail_by_now_are_dropped_and_the_files_decide(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = Running(tmp_path, keep_changes=True)
    (before.folder / "50_use.policy").write_text(USE)
    (before.folder / "10_default.policy").write_text("(defvar level 1) (defvar unknown 1)")
    before.policies.reset(who="a test")
    before.policies.change({"20": "(set unknown 1)"}, who="vdsm")
    (before.folder / "10_default.policy").unlink()
    after = Running(tmp_path, keep_changes=True)
    assert after.names() == ["10_default", "50_use"]
    assert after.decided() == [1]
    assert "20 (set by vdsm):1:6: unknown-variable: there is no variable unknown to set" in caplog.text
