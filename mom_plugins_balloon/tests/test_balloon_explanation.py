"""Explanations of a guest's size: from a report, in numbers and sentences, with unknown figures named."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC
from typing import Any

import pytest
from guest_facts import GIB, MIB

from mom_core import Decision, Outcome, Report, Source, Status, Value
from mom_core.testing import snapshot
from mom_daemon import Explainers
from mom_plugins_balloon.explanation import BalloonExplainer, host_parts
from mom_plugins_balloon.fields import COLUMNS

FULL = {
    "balloon_cur": 1000 * MIB, "balloon_max": 1000 * MIB, "mem_usable": 600 * MIB, "mem_unused": 500 * MIB, "stats_age": 2.0,
    "swap_in": 0.0, "swap_out": 0.0, "balloon_min": 256 * MIB,
}  # fmt: skip
HOST = {"mem_available": 16000 * MIB, "mem_really_available": 2000 * MIB}


def report(number: int, size: float | None, outcome: Outcome | None = None, mode: str = "enforce", **fields: Value) -> Report:
    """Return the report of a cycle; cycles are five seconds apart."""
    guest = {**FULL, "balloon_cur": size, **fields}
    taken = snapshot(host=HOST, guests={"web": guest}, properties={"host": {"interval": 5.0}})
    taken = replace(taken, time=5.0 * number, number=number)
    decisions = () if outcome is None else (outcome.decision,)
    return Report(number, taken.time, mode, taken, decisions, (), () if outcome is None else (outcome,), (), (), 0.01)


def outcome_of(target: int, before: int, after: int | None = None, status: Status = Status.APPLIED, error: str = "") -> Outcome:
    decision = Decision(snapshot(guests={"web": {}}).guests["web"].entity, "balloon_target", target, "", Source("50_balloon", 2, 5))
    return Outcome(decision, before, before if after is None else after, status, error)


def explained(cycle: Report, texts: Mapping[str, str] | None = None) -> dict[str, Any]:
    return balloon().explain(cycle, cycle.snapshot.guests["web"], texts=texts, zone=UTC)


def balloon() -> Explainers:
    return Explainers({"balloon": BalloonExplainer})


def sentences(explanation: dict[str, Any], topic: str) -> str:
    return " ".join(sentence["text"] for sentence in explanation["sentences"] if sentence["topic"] == topic)


def test_untouched_guest_has_its_maximum() -> None:
    explanation = explained(report(2, 1000 * MIB))
    assert sentences(explanation, "now") == "It has 1,000 MiB, its maximum: mom takes nothing from it."
    assert sentences(explanation, "needs").startswith("It needs 400 MiB, and can use 600 MiB more (500 MiB of it free, the rest cache).")
    assert "guaranteed 256 MiB" in sentences(explanation, "guaranteed")
    assert sentences(explanation, "since") == "mom has set no size for it since mom started."
    assert "1.95 GiB of 15.62 GiB available" in sentences(explanation, "host")
    assert sentences(explanation, "unknown") == ""


def of_state(cycle: Report, state: str) -> Report:
    host = replace(cycle.snapshot.host, fields={**cycle.snapshot.host.fields, "host_memory_state": state})
    return replace(cycle, snapshot=replace(cycle.snapshot, host=host))


@pytest.mark.parametrize(
    ("size", "state", "cure"),
    [(800, "low", "so free memory there"), (800, "high", "set a guarantee"), (1000, "low", "It has its maximum memory")],
)
def test_harm_comes_first_with_its_cure(size: int, state: str, cure: str) -> None:
    last = report(4, size * MIB, guest_oom_kills=10, killed_lately=8, unhealthy="short of memory")
    explanation = explained(of_state(last, state))
    assert [sentence["topic"] for sentence in explanation["sentences"]][:3] == ["harm", "harm", "cure"]
    assert cure in sentences(explanation, "cure")
    harm = "8 of its programs were killed for lack of memory in the last 10 min."
    assert sentences(explanation, "harm") == f"{harm} It is short of memory."


OF_CLASS: dict[str, Any] = {"balloon_min": None, "mem_guarantee": 750 * MIB}
ASKED: dict[str, Any] = {"balloon_target": 800 * MIB, "balloon_target_age": 2.0, "balloon_set_by": "50_balloon:2:5"}


@pytest.mark.parametrize(
    ("cycle", "topic", "text"),
    [
        (report(1, 1000 * MIB, **OF_CLASS), "guaranteed", "It is guaranteed 750 MiB."),
        (
            report(1, 1000 * MIB, **OF_CLASS, mem_promised=750 * MIB, guest_guarantee=500 * MIB),
            "guaranteed",
            "It is guaranteed 500 MiB of the 750 MiB that it is promised, as the host cannot keep all promises",
        ),
        (report(1, 1000 * MIB, **OF_CLASS, mem_promised=750 * MIB, guest_guarantee=0), "guaranteed", "Nothing of the 750 MiB"),
        (report(1, 1000 * MIB, balloon_min=None, guest_guarantee=0), "guaranteed", "no guarantee"),
        (report(1, 700 * MIB), "now", "It has 700 MiB of 1,000 MiB: 300 MiB are in its balloon."),
        (
            report(1, 400 * MIB, balloon_start=500 * MIB),
            "now",
            "It has 400 MiB of 1,000 MiB: it had 500 MiB when mom first saw it, and 100 MiB are taken from it for the host.",
        ),
        (report(2, 800 * MIB, **ASKED), "since", "at 00:00:08 UTC, 2 s before this cycle, to 800 MiB, according to 50_balloon:2:5."),
        (report(2, 900 * MIB, **ASKED), "next", "Its size is not 800 MiB, the target that mom set: its balloon is still moving."),
        (report(9, 900 * MIB, **ASKED | {"balloon_target_age": 40.0}), "next", "another process resized it"),
        (report(2, 1000 * MIB, outcome_of(800 * MIB, 1000 * MIB, status=Status.UNCHANGED)), "next", "it keeps this size"),
        (
            report(2, 1000 * MIB, balloon_obstacle="set aside", balloon_rest=42.0),
            "next",
            "set aside; mom tries again in 42 s, at 00:00:52 UTC.",
        ),
        (report(1, 1000 * MIB, mode="observe"), "next", "mom only observes"),
    ],
)
def test_each_fact_has_a_sentence(cycle: Report, topic: str, text: str) -> None:
    assert text in sentences(explained(cycle), topic)


def test_policy_and_its_outcome_are_quoted() -> None:
    texts = {"50_balloon": '(with Guests guest\n    (guest.Control "balloon_target" 800))\n'}
    explanation = explained(report(2, 1000 * MIB, outcome_of(800 * MIB, 1000 * MIB, 900 * MIB)), texts)
    wanted = sentences(explanation, "wanted")
    assert "The policy 50_balloon (line 2, column 5) wants a size of 800 MiB, 200 MiB less than the guest has." in wanted
    assert 'This line says: (guest.Control "balloon_target" 800))' in wanted
    assert "The hypervisor accepted the change" in sentences(explanation, "done")
    assert "900 MiB right after" in sentences(explanation, "done")
    assert sentences(explanation, "now").startswith("It has 900 MiB of 1,000 MiB: 100 MiB are taken")
    assert explanation["memory"]["used_kib"] == 400 * MIB, "the need belongs to the size of the statistics, not to the one after"


def test_need_of_guest_whose_kernel_counts_its_balloon_follows_from_its_size() -> None:
    then: dict[str, Any] = {"mem_usable": 100 * MIB, "mem_available": 950 * MIB, "kernel_reserved": 50 * MIB}
    assert explained(report(1, 500 * MIB, **then))["memory"]["used_kib"] == 900 * MIB
    assert explained(report(1, 500 * MIB, **then, kernel_counts_balloon=1))["memory"]["used_kib"] == 400 * MIB


def test_law_gives_the_reason_of_a_followed_suggestion() -> None:
    derived: Any = {"balloon_suggested": 800 * MIB, "balloon_reason": "runs-out"}
    cycle = report(2, 1000 * MIB, outcome_of(800 * MIB, 1000 * MIB), **derived)
    explanation = balloon().explain(cycle, cycle.snapshot.guests["web"])
    assert sentences(explanation, "why").startswith("It runs out of memory, with only 600 MiB usable")
    other = report(2, 1000 * MIB, outcome_of(900 * MIB, 1000 * MIB), **derived)
    assert sentences(balloon().explain(other, other.snapshot.guests["web"]), "why") == ""
    kept = report(2, 1000 * MIB, balloon_reason="others-give")
    assert "mom shrinks other guests first" in sentences(balloon().explain(kept, kept.snapshot.guests["web"]), "why")


def test_unknown_facts_are_named_and_never_zero() -> None:
    explanation = explained(report(1, None, mem_usable=None, stats_age=None, swap_in=None))
    assert sentences(explanation, "now") == "Its present size is unknown, so mom does not touch it."
    assert "Its need is unknown" in sentences(explanation, "needs")
    assert sentences(explanation, "unknown") == ("Not known: its size, its usable memory, the age of its statistics and whether it swaps.")
    assert explanation["memory"]["size_kib"] is None


def test_reserved_memory_is_mentioned() -> None:
    cycle = report(1, 1000 * MIB)
    host = replace(cycle.snapshot.host, fields={**HOST, "mem_reserved": 512 * MIB})
    explanation = explained(replace(cycle, snapshot=replace(cycle.snapshot, host=host)))
    assert "512 MiB are reserved for launches" in sentences(explanation, "host")
    assert "reserved" not in sentences(explained(cycle), "host")


@pytest.mark.parametrize(
    ("known", "texts"),
    [
        ({}, []),
        ({"mem_watermark_high": 5 * GIB, "host_memory_state": "soft"}, ["wanted 5.00 GiB (short of memory: soft)"]),
        ({"mem_reserved": GIB}, ["reserved for launches 1.00 GiB"]),
    ],
)
def test_status_shows_watermark_and_state(known: dict[str, Value], texts: list[str]) -> None:
    taken = snapshot(host=known)
    assert [part.text for part in host_parts(Report(1, taken.time, "enforce", taken, (), (), (), (), (), 0.01))] == texts


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({}, [None, None, None]),
        ({"guest_guarantee": GIB, "mem_promised": 2 * GIB}, [GIB, 2 * GIB, None]),
        ({"balloon_obstacle": "it is set aside"}, [None, None, "it is set aside"]),
    ],
)
def test_columns_show_guarantee_promise_and_obstacle(fields: dict[str, Value], shown: list[Value]) -> None:
    assert [column.value(fields) for column in COLUMNS] == shown
