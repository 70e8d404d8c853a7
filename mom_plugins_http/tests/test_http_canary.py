"""Policies on some guests first, through the API."""

import time
from collections.abc import Sequence
from typing import Any

import pytest
from click.testing import CliRunner, Result
from served_mom import Serve, Served

from mom_plugins_http.cli.client import Client
from mom_plugins_http.cli.policy_verbs import canary_command

Json = dict[str, Any]

PATH = "/v1/policy-canary"


def begin(served: Served, status: int = 201, seen: str | None = "*", **body: object) -> Any:
    return served.ask("POST", PATH, status, seen, json={"changes": {"60_mine": "(+ 1 2)"}, **body})


@pytest.fixture
def served(serve: Serve) -> Served:
    """The test does the cycles, an hour apart: a trial is as long as five of them are."""
    return serve(cycles=2)


def test_a_trial_begins_is_watched_and_promoted(served: Served) -> None:
    assert served.get(PATH) == {"canary": None}
    began = begin(served, share="10%", duration="6h")["canary"]
    assert (began["state"], began["share"], began["what"], began["duration_seconds"]) == ("running", 0.1, "set 60_mine", 21600)
    served.engine.cycle()
    metrics = served.client.get("/metrics").text
    assert 'mom_canary_state{state="running"} 1' in metrics
    assert 'mom_canary_guests{group="canary"} 3' in metrics
    now = served.get(PATH)["canary"]
    assert (now["cycles"], now["canary"]["guests"], len(now["on"])) == (1, 3, 3)
    assert {one["scope"] for one in now["on"]} == {"guest"}
    assert now["others"]["guests"] == 21
    assert "60_mine" not in [one["name"] for one in served.get("/v1/policies")["items"]]
    assert served.ask("POST", f"{PATH}/promotion", seen=served.version())["canary"]["state"] == "promoted"
    assert served.get("/v1/policies/60_mine")["text"] == "(+ 1 2)"
    assert served.get(PATH)["canary"]["state"] == "promoted"


def test_a_trial_is_given_up(served: Served) -> None:
    begin(served, guests="*", duration="6h")
    assert served.ask("DELETE", PATH)["canary"]["state"] == "aborted"
    served.ask("DELETE", PATH, 409)
    assert served.get("/v1/policy-history")["items"][0]["what"].startswith("ended the trial of: set 60_mine")


def test_other_changes_wait_until_it_ends(served: Served) -> None:
    begin(served, share=0.1, duration="6h")
    for method, path, body in (
        ("PUT", "/v1/policies/60_x", {"text": "(+ 1 2)"}),
        ("POST", "/v1/policy-reset", None),
        ("POST", PATH, {"changes": {"60_x": "(+ 1 2)"}, "share": 0.1, "duration": "6h"}),
    ):
        refused = served.ask(method, path, 409, json=body)
        assert "is being tried on some guests" in refused["detail"]
        assert "--abort" in refused["hint"]


def test_who_has_not_seen_the_newest_version_begins_and_ends_nothing(served: Served) -> None:
    begin(served, 428, seen=None, share=0.1, duration="6h")
    begin(served, 412, seen='"9-x"', share=0.1, duration="6h")
    seen = served.version()
    begin(served, seen=seen, share=0.1, duration="6h")
    served.ask("POST", f"{PATH}/promotion", 412, seen)
    served.ask("DELETE", PATH, 428, None)
    assert served.get(PATH)["canary"]["state"] == "running"


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({}, 400, "on a share of the guests or on those that match a pattern"),
        ({"share": "ten"}, 400, "`share`: "),
        ({"share": "110%"}, 400, "1.1 is no share of the guests"),
        ({"share": True}, 400, "`share`: "),
        ({"guests": 5}, 400, "`guests`: "),
        ({"share": 0.1, "duration": "soon"}, 400, "`duration`: 'soon' is no number with a unit"),
        ({"share": 0.1, "duration": 5}, 400, "a trial of 5s shows nothing"),
        ({"share": 0.1, "duration": []}, 400, "`duration`: "),
        ({"share": 0.1, "changes": {"60_mine": 5}}, 400, "`changes`: "),
        ({"share": 0.1, "changes": {"a/b": "x"}}, 400, "is no name of a policy"),
        ({"share": 0.1, "more": 1}, 400, "`more`: "),
        ({"share": 0.1, "duration": "6h", "changes": {"60_mine": "(+ 1"}}, 422, "the policies cannot be used"),
        ({"share": 0.1, "duration": "6h", "changes": {}}, 409, "there is nothing to try"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_would(shared: Served, body: dict[str, Any], status: int, message: str) -> None:
    problem = begin(shared, status, **body)
    assert message in problem["detail"]
    assert shared.get(PATH) == {"canary": None}


class Answers(Client):
    """A mom that says one after the other how its trial goes: None is that there was none."""

    def __init__(self, trials: Sequence[Json | None]) -> None:
        self.trials = iter(trials)

    def get(self, path: str) -> Json:
        return {"canary": next(self.trials)}


def wait_for(monkeypatch: pytest.MonkeyPatch, *trials: Json | None) -> Result:
    monkeypatch.setattr(Client, "configured", lambda *_, **__: Answers(trials))
    monkeypatch.setattr(time, "sleep", lambda _: None)
    return CliRunner().invoke(canary_command, ["--wait", "--json"])


def test_who_waits_for_a_trial_hears_that_it_is_gone(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    running = begin(served, share="10%", duration="6h")["canary"]
    promoted = served.ask("POST", f"{PATH}/promotion", seen=served.version())["canary"]
    assert wait_for(monkeypatch, running, running, promoted).exit_code == 0
    for then in (None, {**promoted, "began_at": promoted["began_at"] + 1}):
        lost = wait_for(monkeypatch, running, then)
        assert lost.exit_code == 1
        assert "the trial is gone" in str(lost.exception)
    assert wait_for(monkeypatch, None).exit_code == 1


def test_who_listens_is_told_of_its_beginning_and_end(served: Served) -> None:
    with served.client.stream("GET", "/v1/events") as stream:
        lines = stream.iter_lines()
        next(line for line in lines if line == "event: report")
        begin(served, share=0.1, duration="6h")
        served.engine.cycle()
        assert next(line for line in lines if line == "event: canary")
        assert '"state":"running"' in next(lines)
        served.ask("DELETE", PATH)
        served.engine.cycle()
        assert next(line for line in lines if line == "event: canary")
        assert '"state":"aborted"' in next(lines)
