"""Policies on some guests first: two sets at the same time, one decisive for each guest, and an end by themselves."""

import dataclasses
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mom_core import HOST_ID, Clock, Engine, Guest, Host, MomError, Report, Scope, Snapshot, UnitError
from mom_devkit import HandClock, config_of
from mom_kvm import Canary, CanaryState, PolicyConflict, PolicyRefused, PolicyTexts
from mom_plugins_policy.language.policy import Policy
from mom_plugins_policy.rollout.canary import CanaryRun, ChosenGuests, InForce, rank

MINE = '(with Guests guest (guest.Control "balloon_target" (- guest.balloon_cur {kib})))'
"""Makes guests smaller, whatever they need."""
GREEDY = '(with Guests guest (guest.Control "balloon_target" (* 0.05 guest.balloon_max)))'


class Managed:
    """Simulated guests under mom, on a clock of their own."""

    def __init__(self, folder: Path, guests: int = 20, mode: str = "enforce", period: str = "5s", **policy: object) -> None:
        self.clock = HandClock(100.0)
        self.reports: list[Report] = []
        plugins = {"sim": {"guests": guests, "statistics_period": period}, "balloon": {}, "ksm": {}, "policy": policy}
        self.config = config_of(folder, plugins, interval=5.0, mode=mode)
        self.engine = self.new_engine()

    def new_engine(self) -> Engine:
        return Engine(self.config, Clock(self.clock, self.clock.wall))

    def cycles(self, count: int = 1) -> Report:
        for _ in range(count):
            self.clock.now += 5
            self.reports.append(self.engine.cycle())
        return self.reports[-1]

    @property
    def texts(self) -> PolicyTexts:
        texts = self.engine.service(PolicyTexts)
        assert texts is not None
        return texts

    @property
    def canary(self) -> Canary:
        found = self.texts.canary()
        assert found is not None
        return found

    def begin(self, text: str, name: str = "50_balloon", **more: Any) -> Canary:
        more.setdefault("seconds", 60)
        if "guests" not in more:
            more.setdefault("share", 0.1)
        return self.texts.begin_canary({name: text}, who="me", **more)


@pytest.fixture
def managed(tmp_path: Path) -> Any:
    made = Managed(tmp_path)
    with made.engine:
        made.cycles(3)
        yield made


def _tried(managed: Managed, counts: str, share: float) -> tuple[set[str], Any]:
    """Who was in a trial of a policy that counts by 100 instead of 1, promoted after two cycles, and what is remembered after one more."""
    managed.texts.change({"60_x": counts.format(step=1)}, who="me")
    managed.cycles(2)
    managed.begin(counts.format(step=100), name="60_x", share=share, seconds=600)
    managed.cycles(2)
    on = {entity.id for entity in managed.canary.on}
    managed.texts.end_canary(promote=True, who="me")
    managed.cycles()
    return on, managed.texts.memory()


def sources(report: Report, of: set[str]) -> Counter[str]:
    """Which policies decided on guests' sizes: for those in the trial, and for the others."""
    return Counter(
        ("in " if one.entity.id in of else "out ") + one.source.name for one in report.decisions if one.control == "balloon_target"
    )


FAILS = '(with Guests guest (+ 1 (guest.GetVar "never")))'
"""In each cycle, for each guest; but not in a way that the checks could tell."""


class TestWhoIsInIt:
    def test_a_share_is_exact_stable_and_by_the_uuid_alone(self) -> None:
        guests = [Guest(f"uuid-{number}", f"name-{number}") for number in range(50)]
        choice = ChosenGuests.of_share(0.1, guests)
        chosen = {guest.id for guest in guests if choice.has(guest)}
        assert len(chosen) == 5
        assert sum(map(ChosenGuests.of_share(0.001, guests).has, guests)) == 1
        assert {g.id for g in guests if ChosenGuests.of_share(0.1, reversed(guests)).has(g)} == chosen
        assert choice.has(Guest(min(chosen), "renamed"))
        assert rank("uuid-1") == rank("uuid-1") != rank("uuid-2")

    def test_who_comes_and_goes_moves_nobody_in_or_out(self) -> None:
        guests = [Guest(f"uuid-{number}", "a") for number in range(50)]
        choice = ChosenGuests.of_share(0.2, guests)
        before = {guest.id for guest in guests if choice.has(guest)}
        later = [*guests[10:], *(Guest(f"later-{number}", "a") for number in range(100))]
        assert {guest.id for guest in later if choice.has(guest)} >= before & {guest.id for guest in later}
        assert 5 <= sum(choice.has(guest) for guest in later[40:]) <= 40, "of those that come, about as many"

    def test_a_pattern_is_for_names_and_ids(self) -> None:
        assert ChosenGuests("db-*").has(Guest("1", "db-1"))
        assert ChosenGuests("uuid-*").has(Guest("uuid-1", "x"))
        assert not ChosenGuests("db-*").has(Guest("1", "web"))


def test_a_host_is_compared_with_how_it_was_when_the_trial_began_where_nothing_older_is_known() -> None:
    begun = Canary(CanaryState.RUNNING, "set a", "me", "1", 1.0, "", 600.0, 0.0, left_seconds=600.0)
    trial = CanaryRun(begun, 0.0, ChosenGuests(cut=1.0), Policy.compile({"a": "1"}), dict)
    reasons = []
    for number, rate in enumerate([300, 300, 300, 300, 900, 900, 900]):
        seen = Snapshot(Host(fields={"swap_out_rate": rate, "mem_available": 100, "mem_really_available": 50}), number=number)
        trial.evaluate(seen, (), InForce((), (), ()))
        reasons.append(trial.verdict(number * 5.0).reason)
    assert reasons == [""] * 6 + ["the host writes 900 pages a second to its swap, before at most 300"]


class TestWhileItRuns:
    def test_the_new_policies_decide_for_the_guests_in_it_and_the_old_ones_for_all_others(self, managed: Managed) -> None:
        began = managed.begin(MINE.format(kib=20000), share=0.2, seconds=600)
        report = managed.cycles()
        on = {entity.id for entity in managed.canary.on}
        assert len(on) == 4
        assert began.state is CanaryState.RUNNING
        found = sources(report, on)
        assert found["in canary 50_balloon"] == 4
        assert found["in 50_balloon"] == found["out canary 50_balloon"] == 0
        decision = next(one for one in report.decisions if one.entity.id in on)
        assert decision.reason.endswith(", on trial")
        assert {entity.id for entity, *_ in report.differences()}.isdisjoint(on), "what it would decide for the others is told"
        assert report.differences()
        assert managed.texts.state().texts["50_balloon"].origin == "default"

    def test_the_host_stays_with_the_old_policies_and_that_is_said(self, managed: Managed) -> None:
        managed.begin('(Host.Control "ksm_run" 1)', name="60_ksm", share=0.5, seconds=600)
        report = managed.cycles()
        assert not any(one.source.name.startswith("canary") for one in report.decisions if one.entity.scope is Scope.HOST)
        assert managed.canary.note == "what it decides for the host (ksm_run) is not tried"

    def test_on_all_guests_what_is_decided_for_the_host_is_tried_too(self, managed: Managed) -> None:
        managed.begin('(Host.Control "ksm_run" 1)', name="60_ksm", share=1, seconds=600)
        report = managed.cycles()
        decided = [one for one in report.decisions if one.entity.scope is Scope.HOST and one.control == "ksm_run"]
        assert [one.source.name for one in decided][-1:] == ["canary 60_ksm"]
        assert not any(one.source.name in ("40_ksm", "60_ksm") for one in report.decisions if one.entity.scope is Scope.HOST)
        assert (managed.canary.note, len(managed.canary.on)) == ("", 20)

    def test_nothing_else_changes_the_policies_and_who_has_not_seen_it_begin_is_told(self, managed: Managed) -> None:
        seen = managed.texts.state().version
        began = managed.begin(MINE.format(kib=1), seconds=600, expected_version=seen)
        assert began.version == managed.texts.state().version != seen
        for change in (
            lambda: managed.texts.change({"60_x": "(+ 1 2)"}, who="you"),
            lambda: managed.texts.reset(who="you"),
            lambda: managed.texts.roll_back("1-x", who="you"),
            lambda: managed.begin(MINE.format(kib=2)),
        ):
            with pytest.raises(MomError, match="set 50_balloon is being tried on some guests, for 10m still"):
                change()
        with pytest.raises(PolicyConflict):
            managed.texts.end_canary(promote=True, who="you", expected_version=seen)
        with pytest.raises(PolicyConflict):
            managed.texts.change({"60_x": "(+ 1 2)"}, who="you", expected_version=seen)

    def test_reasons_are_those_of_the_policies_that_decided_about_the_guest(self, managed: Managed) -> None:
        words = '(with Guests g (if (> g.balloon_max 1) (g.Control "balloon_target" 20000) 0))'
        managed.begin(words, share=0.2, seconds=600)
        report = managed.cycles()
        on = {entity.id for entity in managed.canary.on}
        assert on
        for decision in report.decisions:
            assert ("g.balloon_max is" in decision.reason) is (decision.entity.id in on)

    def test_a_reload_keeps_it_with_the_files_as_they_are_now(self, managed: Managed) -> None:
        managed.begin(MINE.format(kib=20000), seconds=600)
        managed.engine.reload(managed.engine.config)
        report = managed.cycles()
        assert managed.canary.state is CanaryState.RUNNING
        assert any(one.source.name == "canary 50_balloon" for one in report.decisions)
        ended = managed.texts.end_canary(promote=False, who="you", expected_version=managed.canary.version)
        assert ended.state is CanaryState.ABORTED

    def test_files_that_it_does_not_go_with_end_it(self, tmp_path: Path) -> None:
        folder = tmp_path / "policy.d"
        folder.mkdir()
        (folder / "10_base.policy").write_text("(+ 1 2)")
        made = Managed(tmp_path, directory=str(folder), defaults=False, limits={"text": 100})
        with made.engine:
            made.cycles()
            made.begin(f"(+ 1 2) # {'x' * 50}", name="60_x", share=0.5, seconds=600)
            (folder / "10_base.policy").write_text(f"(+ 1 2) # {'x' * 60}")
            made.engine.reload(made.engine.config)
            assert made.canary.state is CanaryState.ROLLED_BACK
            assert "it does not go with the files any more: " in made.canary.reason
            assert made.texts.state().texts["10_base"].text.endswith("x")


class TestHowItEnds:
    def test_one_that_asks_too_much_of_guests_is_rolled_back_within_a_few_cycles(self, managed: Managed) -> None:
        managed.begin(GREEDY, share=0.2, seconds=600)
        managed.cycles(4)
        ended = managed.canary
        assert ended.state is CanaryState.ROLLED_BACK
        assert ended.cycles <= 3
        assert "guests are to be made smaller than they need" in ended.reason
        newest = managed.texts.history()[-1]
        assert newest.who == "mom, for me"
        assert newest.what.startswith("rolled back the trial of: set 50_balloon, after ")
        assert ended.reason in newest.what
        assert managed.texts.state().texts["50_balloon"].origin == "default"
        assert any("is rolled-back" in problem.message for report in managed.reports for problem in report.problems)

    def test_one_that_hurts_guests_is_rolled_back_by_how_they_fare(self, tmp_path: Path) -> None:
        made = Managed(tmp_path, guests=40)
        # Asks for no more than there is to spare, and never gives anything back: bursts find guests without memory.
        text = """(with Guests guest
            (if (valid guest.mem_usable guest.balloon_cur)
                (guest.Control "balloon_target" (+ 1 (- guest.balloon_cur guest.mem_usable))) 0))"""
        with made.engine:
            made.cycles(60)
            made.begin(text, share=0.5, seconds=3600)
            for _ in range(200):
                made.cycles()
                if made.canary.state is not CanaryState.RUNNING:
                    break
            ended = made.canary
            assert ended.state is CanaryState.ROLLED_BACK
            assert ended.canary.unhealthy > 0
            assert ended.cycles < 150

    def test_a_good_one_is_promoted_at_its_end(self, managed: Managed) -> None:
        text = managed.texts.state().texts["50_balloon"].text
        better = text.replace("(defvar guest_comfort 2.0)", "(defvar guest_comfort 2.1)") + "\n# another one\n"
        managed.begin(better, share=0.2, seconds=60)
        managed.cycles(11)
        assert managed.canary.state is CanaryState.RUNNING
        managed.cycles(2)
        ended = managed.canary
        assert ended.state is CanaryState.PROMOTED, ended.reason
        assert managed.texts.state().texts["50_balloon"].text == better
        newest = managed.texts.history()[-1]
        assert newest.what.startswith("set 50_balloon for all guests, after a trial of 1m: guests fared as well as before")
        assert "+# another one" in newest.diff
        report = managed.cycles()
        assert not any(one.source.name.startswith("canary") for one in report.decisions)

    def test_a_mom_that_only_observes_by_now_ends_it_and_promotes_nothing(self, managed: Managed) -> None:
        managed.begin("(+ 1 2)", name="60_x", share=0.5, seconds=60)
        managed.cycles(6)
        managed.engine.reload(dataclasses.replace(managed.engine.config, mode="observe"))
        managed.cycles()
        assert managed.canary.state is CanaryState.ROLLED_BACK
        assert managed.canary.reason == "mom only observes by now, so that nothing is tried"
        assert "60_x" not in managed.texts.state().texts

    def test_guests_that_tell_nothing_promote_nothing(self, tmp_path: Path) -> None:
        made = Managed(tmp_path, period="10h")
        with made.engine:
            made.cycles(3)
            made.begin("(+ 1 2)", name="60_x", share=0.5, seconds=60)
            made.cycles(13)
            assert made.canary.state is CanaryState.ROLLED_BACK
            assert "too little is known to promote it: how guests are is known in only 0 of" in made.canary.reason

    def test_one_that_fails_is_rolled_back_and_what_fails_without_it_too_is_not_its_fault(self, managed: Managed) -> None:
        managed.begin(FAILS, name="60_x", seconds=600)
        managed.cycles(4)
        assert (managed.canary.state, managed.canary.reason[:10]) == (CanaryState.ROLLED_BACK, "it fails: ")
        managed.texts.change({"60_x": FAILS}, who="me")
        managed.begin("(+ 1 2)", name="70_y", seconds=600)
        managed.cycles(8)
        assert managed.canary.state is CanaryState.RUNNING

    def test_somebody_ends_it(self, managed: Managed) -> None:
        managed.begin("(+ 1 2)", name="60_x", seconds=600)
        managed.cycles()
        ended = managed.texts.end_canary(promote=False, who="you")
        assert (ended.state, ended.reason) == (CanaryState.ABORTED, "by you")
        assert "60_x" not in managed.texts.state().texts
        with pytest.raises(MomError, match="no policies are tried on some guests now"):
            managed.texts.end_canary(promote=False, who="you")
        managed.texts.change({"60_x": "(+ 1 2)"}, who="you")

    def test_what_the_policies_remembered_of_guests_in_it_is_remembered_after_it(self, managed: Managed) -> None:
        counts = '(with Guests guest (guest.Remember "seen" (+ {step} (if (null (guest.Recall "seen")) 0 (guest.Recall "seen")))))'
        on, memory = _tried(managed, counts, share=0.5)
        assert {entry["values"]["seen"] for identity, entry in memory.items() if identity in on} == {302}
        assert {entry["values"]["seen"] for identity, entry in memory.items() if identity not in {*on, HOST_ID}} == {104}

    def test_what_they_remembered_of_the_host_is_remembered_if_it_was_in_it(self, managed: Managed) -> None:
        _, memory = _tried(managed, '(Host.Remember "seen" (+ {step} (Host.Recall "seen" 0)))', share=1.0)
        assert memory[HOST_ID]["values"] == {"seen": 302}

    def test_somebody_promotes_it_for_good_and_a_restart_ends_the_one_that_runs(self, tmp_path: Path) -> None:
        made = Managed(tmp_path, keep_changes=True)
        with made.engine:
            made.cycles()
            made.begin("(+ 1 2)", name="60_x", seconds=600)
            assert made.texts.end_canary(promote=True, who="you").state is CanaryState.PROMOTED
            assert made.texts.history()[-1].who == "you"
            made.begin("(+ 1 2)", name="70_y", guests="web-*", seconds=600)
        made.engine = made.new_engine()
        with made.engine:
            assert made.texts.state().texts["60_x"].text == "(+ 1 2)"
            assert "70_y" not in made.texts.state().texts
            assert made.texts.canary() is None


class TestWhatIsNotTried:
    @pytest.mark.parametrize(
        ("more", "error", "message"),
        [
            ({"share": 0.0}, UnitError, "0 is no share of the guests"),
            ({"share": 1.5}, UnitError, "1.5 is no share of the guests"),
            ({"share": float("nan")}, UnitError, "nan is no share of the guests"),
            ({"share": 0.5, "guests": "a"}, UnitError, "on a share of the guests or on those that match"),
            ({"share": None, "guests": ""}, UnitError, "on a share of the guests or on those that match"),
            ({"seconds": 24}, UnitError, "a trial of 24s shows nothing: 5 cycles, one every 5s, take 25s"),
            ({"seconds": 1e9}, UnitError, "a trial does not last"),
            ({"seconds": float("nan")}, UnitError, "a trial does not last"),
            ({"guests": "nobody-*"}, MomError, "there is nobody to try it on: no guest matches nobody-*"),
            ({"text": "(+ 1"}, PolicyRefused, "60_x:1:1: syntax: "),
            ({"text": None}, MomError, "there is nothing to try"),
        ],
    )
    def test_what_makes_no_sense(self, managed: Managed, more: dict[str, Any], error: type[MomError], message: str) -> None:
        before = managed.texts.state().version
        with pytest.raises(error) as refused:
            managed.begin(**{"text": "(+ 1 2)", "name": "60_x", **more})
        assert message in str(refused.value)
        assert managed.texts.state().version == before
        assert managed.texts.canary() is None

    @pytest.mark.parametrize(
        ("mode", "cycles", "why"),
        [("observe", 1, "nothing can be tried: mom only observes"), ("enforce", 0, "has not looked at the guests yet")],
    )
    def test_anything_where_nothing_could_be_seen_of_it(self, tmp_path: Path, mode: str, cycles: int, why: str) -> None:
        made = Managed(tmp_path, mode=mode)
        with made.engine:
            for _ in range(cycles):
                made.cycles()
            with pytest.raises(MomError, match=why):
                made.begin("(+ 1 2)", name="60_x")


def test_who_looks_while_it_ends_sees_that_it_runs_and_then_how_it_has_ended(managed: Managed, monkeypatch: pytest.MonkeyPatch) -> None:
    managed.begin(MINE.format(kib=1), seconds=600)
    managed.cycles()
    seen: list[Canary] = []
    compile_ = Policy.compile

    def looked_at(*given: Any, **more: Any) -> Policy:
        seen.append(managed.canary)
        return compile_(*given, **more)

    monkeypatch.setattr(Policy, "compile", looked_at)
    managed.texts.end_canary(promote=True, who="you")
    assert [one.state for one in seen] == [CanaryState.RUNNING]
    assert managed.canary.state is CanaryState.PROMOTED


def test_a_cycle_does_not_wait_for_who_checks_large_policies(managed: Managed, monkeypatch: pytest.MonkeyPatch) -> None:
    compiling, cycle_is_over = threading.Event(), threading.Event()
    compile_ = Policy.compile

    def slow(*given: Any, **more: Any) -> Policy:
        compiling.set()
        assert cycle_is_over.wait(60), "the cycle waited"
        return compile_(*given, **more)

    monkeypatch.setattr(Policy, "compile", slow)
    with ThreadPoolExecutor(1) as pool:
        checked = pool.submit(managed.texts.check, {"60_x": "(+ 1 2)"})
        assert compiling.wait(60)
        report = managed.cycles()
        cycle_is_over.set()
        assert checked.result(60) == ()
    assert report.decisions
