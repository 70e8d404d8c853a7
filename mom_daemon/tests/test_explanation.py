"""The core's explanation of a guest, joined with those of plugins."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC
from typing import Any

import pytest

from mom_core import ControlSpec, Decision, Guest, MomError, Outcome, Problem, Report, Revision, Scope, Source, Status, Unit, Value
from mom_core.testing import snapshot
from mom_daemon import About, Explainer, Explainers, ExplanationPart, Sentence, find_guest

KNOB = ControlSpec("knob", Unit.KIB, Scope.GUEST, "a knob", field="knob_now")


class Knobs(Explainer):
    """Explainer of the control `knob`."""

    controls = (KNOB,)
    nouns: Mapping[str, str] = {"knob": "the knob at"}
    main_controls = ("knob",)

    def part(self, about: About) -> ExplanationPart:
        return ExplanationPart([Sentence("now", "it has a knob.")], {"knobs": 1}, ["its knob"])


class Late(Explainer):
    """Explainer with a sentence before and one after all others."""

    def part(self, about: About) -> ExplanationPart:
        return ExplanationPart([Sentence("next", "the end.", Sentence.LAST), Sentence("kind", "a kind.", Sentence.KIND)])


class Broken(Explainer):
    """Explainer that raises."""

    def part(self, about: About) -> ExplanationPart:
        raise SystemError("lame")


def report(value: int | None = None, **more: object) -> Report:
    taken = snapshot(guests={"web": {"knob_now": 2048}}, properties={"host": {"interval": 5.0}})
    outcomes: tuple[Outcome, ...] = ()
    if value is not None:
        outcomes = (Outcome(Decision(taken.guests["web"].entity, "knob", value, "", Source("50_knob", 1, 1)), 2048, value, Status.APPLIED),)
    made = Report(1, taken.time, "enforce", taken, tuple(one.decision for one in outcomes), (), outcomes, (), (), 0.01)
    return replace(made, **more)  # type: ignore[arg-type]  # as the test says


def explained(one: Report, **plugins: Callable[[], object]) -> dict[str, Any]:
    return Explainers(plugins).explain(one, one.snapshot.guests["web"], zone=UTC)


def told(explanation: dict[str, Any]) -> list[str]:
    return [f"{one['topic']}: {one['text']}" for one in explanation["sentences"]]


def test_sentences_of_all_plugins_stand_in_the_order_of_their_places() -> None:
    found = explained(report(1024), late=Late, knobs=Knobs)
    assert told(found) == [
        "now: it has a knob.",
        "kind: a kind.",
        "wanted: The policy 50_knob (line 1, column 1) wants the knob at 1,024 KiB, 1,024 KiB less than the guest has.",
        "done: The hypervisor accepted the change (knob 1,024 KiB): the guest had 2,048 KiB, and 1,024 KiB right after.",
        "next: mom looks at the guest again every 5s, and sooner when something happens.",
        "unknown: Not known: its knob.",
        "next: the end.",
    ]
    assert found["knobs"] == 1


def test_without_plugins_there_is_what_the_core_knows() -> None:
    found = told(explained(report(1024)))
    assert found[0] == "wanted: The policy 50_knob (line 1, column 1) wants knob 1024."
    assert told(explained(report()))[0] == "wanted: No policy wants to change the guest in this cycle."
    observed = told(explained(report(mode="observe")))
    assert observed[-1] == "next: mom only observes: its decisions change nothing."


def test_what_its_platform_says_of_the_guest_is_told() -> None:
    properties: Mapping[str, Mapping[str, Value]] = {
        "web": {"uuid": "web", "flavor": "m1.small", "display_name": "a\x1b[2Jb", "tags": ("db", "prod"), "pid": 7, "state": "running"}
    }
    found = explained(replace(report(), snapshot=snapshot(guests={"web": {"knob_now": 1}}, properties=properties)))
    assert told(found)[0] == "platform: Its platform says: flavor m1.small; display_name a\\x1b[2Jb; tags db, prod."
    assert found["properties"] == {"flavor": "m1.small", "display_name": "a\x1b[2Jb", "tags": ["db", "prod"]}
    assert explained(report())["properties"] == {}


def test_what_a_plugin_fails_to_say_is_unknown_and_the_others_are_heard(caplog: pytest.LogCaptureFixture) -> None:
    found = explained(report(), broken=Broken, knobs=Knobs)
    assert told(found)[0] == "now: it has a knob."
    assert found["unknown"] == ["its knob", "what the broken plugin knows (SystemError: lame)"]
    assert caplog.text.count("the broken plugin failed to explain a guest") == 1


class Suggests(Explainer):
    """Explainer with reasons for some controls."""

    def __init__(self, **why: str) -> None:
        self.why = why

    def reason(self, report: Report, guest: Guest, control: str) -> str:
        return self.why.get(control, "")


def test_the_law_of_the_first_plugin_that_has_one_says_why() -> None:
    found = explained(
        report(1024), none=Suggests, other=lambda: Suggests(other="x"), a=lambda: Suggests(knob="a"), b=lambda: Suggests(knob="b")
    )
    assert [one["why"] for one in found["decisions"]] == ["a"]


def test_the_reason_of_a_policy_is_told_with_its_decision_unless_it_is_the_form() -> None:
    one = report(1024)
    for reason, because in (
        ("(< x 3) is true (x is 2)", ", because (< x 3) is true (x is 2)."),
        ("(g.Control …) in 50_knob:1:1", "than the guest has."),
    ):
        decision = replace(one.decisions[0], reason=reason)
        found = explained(replace(one, decisions=(decision,)), knobs=Knobs)
        assert next(text for text in told(found) if text.startswith("wanted: ")).endswith(because)


def test_why_nothing_is_decided_is_asked_for_controls_that_matter() -> None:
    law = {"knobs": Knobs, "law": lambda: Suggests(knob="the knob is fine")}
    found = explained(report(), **law)
    assert found["why_unchanged"] == "the knob is fine"
    assert "why: The knob is fine." in told(found)
    found = explained(report(1024), **law)
    assert found["why_unchanged"] == ""
    assert [one["why"] for one in found["decisions"]] == ["the knob is fine"]


def test_review_problems_and_trials_are_told_with_the_units_of_the_plugin() -> None:
    one = report(1024)
    wanted = one.decisions[0]
    revision = Revision(wanted, None, "it would hurt", "knobs")
    problem = Problem(Source("knobs"), "it squeaks", wanted.entity, hint="oil it")
    considered = (replace(wanted, value=4096),)
    found = told(explained(replace(one, revisions=(revision,), outcomes=(), problems=(problem,), considered=considered), knobs=Knobs))
    assert "review: The review of knobs dropped it: it would hurt." in found
    assert "problems: error from knobs: it squeaks (oil it)." in found
    assert "trial: Policies on trial would set knob to 4,096 KiB, instead of 1,024 KiB." in found


def test_a_guest_that_is_not_there_gets_near_names() -> None:
    guests = snapshot(guests={"web-1": {}, "web-2": {}, "db": {}}).guests
    assert find_guest(guests, "db").name == "db"
    twins = {one: Guest(one, "web") for one in ("u1", "u2")}
    assert find_guest(twins, "u2").id == "u2"
    with pytest.raises(MomError, match=r"2 guests are called web \(specify the guest by its ID: u1, u2\)"):
        find_guest(twins, "web")
    for wrong in ("web-3", "WEB"):
        with pytest.raises(MomError) as caught:
            find_guest(guests, wrong)
        assert "web-1" in caught.value.hint
    with pytest.raises(MomError, match="no guest"):
        find_guest({}, "x")
