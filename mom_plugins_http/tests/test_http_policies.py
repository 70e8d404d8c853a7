"""Policies through the API: nobody overwrites what they have not seen, and a change is made as a whole or not at all."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from conftest import Serve, Served

TEXT = {"content-type": "text/plain"}


def put(served: Served, name: str, text: str, seen: str = "*") -> httpx.Response:
    return served.client.put(f"/v1/policies/{name}", content=text, headers={**TEXT, "if-match": seen})


def test_a_policy_is_set_shown_and_removed(serve: Serve) -> None:
    served = serve()
    made = put(served, "60_mine", "(+ 1 2)", served.version())
    assert made.status_code == 200
    assert served.client.get("/v1/policies", headers={"if-none-match": made.headers["etag"]}).status_code == 304
    assert made.headers["etag"] == served.version() == f'"{made.json()["version"]}"'
    shown = served.get("/v1/policies/60_mine")
    assert (shown["text"], re.sub(r"\d+", "N", shown["origin"])) == ("(+ 1 2)", "set by user root, process N")
    assert served.client.delete("/v1/policies/60_mine", headers={"if-match": served.version()}).status_code == 200
    assert served.client.put("/v1/policies/60_json", json={"text": "(+ 1 2)"}, headers={"if-match": "*"}).status_code == 200
    assert "there is no policy 60_mine" in served.get("/v1/policies/60_mine", 404)["detail"]


def test_who_does_not_say_what_they_have_seen_changes_nothing(serve: Serve) -> None:
    served = serve()
    before = served.version()
    for method, path in (("PUT", "/v1/policies/60_mine"), ("DELETE", "/v1/policies/50_balloon"), ("PATCH", "/v1/policies"),
                         ("POST", "/v1/policy-reset"), ("POST", "/v1/policy-rollback")):  # fmt: skip
        answer = served.client.request(method, path, content="(+ 1 2)", headers=TEXT)
        assert answer.status_code == 428
        assert "If-Match" in answer.json()["hint"]
    assert served.version() == before


def test_who_has_seen_an_older_version_is_refused_and_told_the_newest(serve: Serve) -> None:
    served = serve()
    seen = served.version()
    put(served, "60_mine", "(+ 1 2)", seen)
    refused = put(served, "60_mine", "(+ 1 3)", seen)
    assert refused.status_code == 412
    assert f'"{refused.json()["version"]}"' == refused.headers["etag"] == served.version()
    assert served.get("/v1/policies/60_mine")["text"] == "(+ 1 2)"
    assert put(served, "60_mine", "(+ 1 3)", f"W/{served.version()}").status_code == 412


def test_what_cannot_be_used_is_refused_with_all_its_mistakes(serve: Serve) -> None:
    served = serve()
    before = served.version()
    refused = put(served, "60_mine", "(+ 1")
    assert refused.status_code == 422
    (problem,) = refused.json()["problems"]
    assert {**problem, "message": ""} == {
        "name": "60_mine", "line": 1, "column": 1, "kind": "syntax", "message": "", "severity": "error", "hint": "",
    }  # fmt: skip
    assert served.version() == before
    checked = served.client.post("/v1/policy-check", json={"changes": {"60_mine": "(+ 1"}}).json()
    assert not checked["good"]
    checked = served.client.post("/v1/policy-check", json={"changes": {"60_mine": "(+ 1 2)"}}).json()
    assert checked == {"good": True, "problems": [], "warnings": []}


UNKNOWN = '(def f (guest) (nosuch guest))\n(with Guests guest (guest.Control "ballon_target" 1))\n(f 1)'


def test_what_would_fail_for_certain_is_found_by_the_check_and_refused(serve: Serve) -> None:
    served = serve()
    before = served.version()
    checked = served.client.post("/v1/policy-check", json={"changes": {"60_mine": UNKNOWN}}).json()
    assert not checked["good"]
    assert [(one["kind"], one["line"], one["column"]) for one in checked["problems"]] == [("unknown-function", 1, 17)]
    warning = checked["warnings"][0]
    assert (warning["kind"], warning["severity"], warning["line"]) == ("unknown-control", "warning", 2)
    assert "balloon_target" in warning["hint"]
    canary = {"changes": {"60_mine": UNKNOWN}, "share": "10%", "duration": "20s"}
    for refused in (
        put(served, "60_mine", UNKNOWN),
        served.client.patch("/v1/policies", json={"changes": {"60_mine": UNKNOWN}}, headers={"if-match": before}),
        served.client.post("/v1/policy-canary", json=canary, headers={"if-match": "*"}),
    ):
        assert refused.status_code == 422
        assert refused.json()["problems"] == checked["problems"]
    assert put(served, "60_mine", UNKNOWN, '"1-other"').status_code == 412
    assert served.version() == before
    warned = '(with Guests guest (guest.Control "ballon_target" 1))'
    assert put(served, "60_mine", warned).status_code == 200


def test_a_policy_cannot_be_removed_while_another_calls_its_functions(serve: Serve) -> None:
    served = serve()
    changes = {"10_words": "(def twice (x) (* 2 x))", "60_mine": "(twice 3)"}
    assert served.client.patch("/v1/policies", json={"changes": changes}, headers={"if-match": "*"}).status_code == 200
    refused = served.client.delete("/v1/policies/10_words", headers={"if-match": "*"})
    assert refused.status_code == 422
    assert [(one["name"], one["kind"]) for one in refused.json()["problems"]] == [("60_mine", "unknown-function")]
    both = served.client.patch("/v1/policies", json={"changes": dict.fromkeys(changes)}, headers={"if-match": "*"})
    assert both.status_code == 200


def test_several_change_together_or_not_at_all(serve: Serve) -> None:
    served = serve()
    before = served.version()
    bad = served.client.patch("/v1/policies", json={"changes": {"60_a": "(+ 1 2)", "60_b": "("}}, headers={"if-match": "*"})
    assert bad.status_code == 422
    assert served.version() == before
    changes = {"60_a": "(+ 1 2)", "60_b": "(+ 1 3)"}
    good = served.client.patch("/v1/policies", json={"changes": changes, "replace_all": True}, headers={"if-match": before})
    assert good.json()["names"] == ["60_a", "60_b"]
    assert served.client.post("/v1/policy-reset", headers={"if-match": "*"}).json()["names"] == ["40_ksm", "50_balloon"]


def test_the_history_says_who_when_and_what_and_leads_back(serve: Serve) -> None:
    served = serve()
    first = served.version().strip('"')
    put(served, "60_mine", "(+ 1 2)\n")
    put(served, "60_mine", "(+ 1 3)\n")
    newest = served.get("/v1/policy-history")["items"][0]
    assert newest["what"] == "set 60_mine"
    assert newest["who"].startswith("user root, process ")
    assert "-(+ 1 2)\n+(+ 1 3)\n" in newest["diff"]
    back = served.client.post("/v1/policy-rollback", json={"version": first}, headers={"if-match": served.version()})
    assert "60_mine" not in back.json()["names"]
    nowhere = served.client.post("/v1/policy-rollback", json={"version": "99-x"}, headers={"if-match": "*"})
    assert nowhere.status_code == 409
    assert first in nowhere.json()["hint"]


@pytest.mark.long
def test_fifty_changes_are_remembered(serve: Serve) -> None:
    served = serve()
    for number in range(52):
        put(served, "60_mine", f"(+ 1 {number})")
    assert len(served.get("/v1/policy-history")["items"]) == 50


def test_without_an_evaluator_there_are_no_policies(serve: Serve, tmp_path) -> None:
    from mom_core import PluginContext
    from mom_plugins_http import HttpPlugin

    plugin = HttpPlugin(HttpPlugin.Settings(), PluginContext(run_directory=tmp_path))
    plugin.mom_setup()
    try:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(tmp_path / "mom.sock"), verify=False), base_url="http://mom") as client:
            answer = client.get("/v1/policies")
        assert (answer.status_code, answer.json()["hint"]) == (409, "enable the plugin policy in the configuration")
    finally:
        plugin.mom_teardown()


@pytest.mark.parametrize(
    ("body", "media_type", "status"),
    [
        (b"\xff\xfe", "text/plain", 400),
        (b"(+ 1 2)", "text/html", 415),
        (b"(+ 1 2)", "", 415),
        (b"{", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"[]", "application/json", 400),
        (b'{"text": 1}', "application/json", 400),
        (b'{"text": "# \\ud800"}', "application/json", 400),  # half a character
        (b'{"text": "", "more": NaN}', "application/json", 400),
        (b'{"text": "", "more": 1}', "application/json", 400),
        (b"(" * 100_000, "text/plain", 422),
        (b"x" * (5 << 20), "text/plain", 413),
    ],
)
def test_a_body_that_makes_no_sense_is_refused(serve: Serve, body: bytes, media_type: str, status: int) -> None:
    served = serve()
    before = served.version()
    answer = served.client.put("/v1/policies/60_mine", content=body, headers={"content-type": media_type, "if-match": "*"})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert served.version() == before


@pytest.mark.parametrize("name", ["%20", "a%0ab", "x" * 129])
def test_a_name_that_makes_trouble_is_refused(serve: Serve, name: str) -> None:
    assert put(serve(), name, "(+ 1 2)").status_code == 400


@pytest.mark.long
def test_of_twenty_clients_that_change_at_once_none_is_lost_and_nothing_is_half_applied(serve: Serve) -> None:
    """Each adds its line to two policies that must always be the same, by looking, changing, and trying again when refused."""
    served = serve()
    both = {"60_one": "(+ 1 2)\n", "60_two": "(+ 1 2)\n"}
    served.client.patch("/v1/policies", json={"changes": both}, headers={"if-match": "*"})
    torn: list[str] = []

    def add(number: int) -> None:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(served.path), verify=False), base_url="http://mom", timeout=60) as client:
            while True:
                seen = client.get("/v1/policies")
                texts = {one["name"]: one["text"] for one in seen.json()["items"]}
                if texts["60_one"] != texts["60_two"]:
                    torn.append(f"{number}")
                changed = {name: f"{texts[name]}(+ 1 {number})\n" for name in both}
                answer = client.patch("/v1/policies", json={"changes": changed}, headers={"if-match": seen.headers["etag"]})
                if answer.status_code == 200:
                    return
                assert answer.status_code == 412

    threads = [threading.Thread(target=add, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not torn
    text = served.get("/v1/policies/60_one")["text"]
    assert sorted(text.splitlines()[1:]) == sorted(f"(+ 1 {number})" for number in range(20))


def test_a_change_does_not_wait_for_the_checks_of_those_who_read(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """And both may be under way in the evaluator at once."""
    served = serve()
    begun, go_on = threading.Event(), threading.Event()

    def slow(policy: object) -> list[object]:
        begun.set()
        assert go_on.wait(60)
        return []

    monkeypatch.setattr("mom_plugins_policy.checks.check_policy", slow)
    answers: list[httpx.Response] = []
    transport = httpx.HTTPTransport(uds=str(served.path), verify=False)
    with httpx.Client(transport=transport, base_url="http://mom", timeout=60) as reader:
        asked = {"changes": {"60_theirs": "(+ 1 2)"}}
        checking = threading.Thread(target=lambda: answers.append(reader.post("/v1/policy-check", json=asked)))
        checking.start()
        try:
            assert begun.wait(60)
            monkeypatch.undo()
            assert put(served, "60_mine", "(+ 1 2)").status_code == 200
            assert answers == []
        finally:
            go_on.set()
            checking.join()
    assert answers[0].json()["good"] is True
