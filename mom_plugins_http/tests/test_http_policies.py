"""Policies through the API: no client overwrites unseen changes, and changes are made as a whole."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from served_mom import Served
from unix_clients import client_of


def test_a_policy_is_set_shown_and_removed(served: Served) -> None:
    made = served.put("60_mine", seen=served.version())
    assert made.status_code == 200
    assert made.headers["etag"] == served.version() == f'"{made.json()["version"]}"'
    shown = served.get("/v1/policies/60_mine")
    assert (shown["text"], re.sub(r"\d+", "N", shown["origin"])) == ("(+ 1 2)", "set by user root, process N")
    served.ask("PATCH", "/v1/policies", seen=served.version(), json={"changes": {"60_mine": None}})
    assert "there is no policy 60_mine" in served.get("/v1/policies/60_mine", 404)["detail"]


def test_who_does_not_say_what_they_have_seen_changes_nothing(served: Served) -> None:
    before = served.version()
    for method, path in (("PATCH", "/v1/policies"), ("POST", "/v1/policy-reset"), ("POST", "/v1/policy-rollback")):
        assert "If-Match" in served.ask(method, path, 428, None, content="(+ 1 2)")["hint"]
    assert served.version() == before


def test_who_has_seen_an_older_version_is_refused_and_told_the_newest(served: Served) -> None:
    seen = served.version()
    served.put("60_mine", seen=seen)
    refused = served.put("60_mine", "(+ 1 3)", seen)
    assert refused.status_code == 412
    assert f'"{refused.json()["version"]}"' == refused.headers["etag"] == served.version()
    assert served.get("/v1/policies/60_mine")["text"] == "(+ 1 2)"
    assert served.put("60_mine", "(+ 1 3)", f"W/{served.version()}").status_code == 412


def test_what_cannot_be_used_is_refused_with_all_its_mistakes(served: Served) -> None:
    before = served.version()
    refused = served.put("60_mine", "(+ 1")
    assert refused.status_code == 422
    (problem,) = refused.json()["problems"]
    assert {**problem, "message": ""} == {
        "name": "60_mine", "line": 1, "column": 1, "kind": "syntax", "message": "", "severity": "error", "hint": "",
    }  # fmt: skip
    assert served.version() == before
    assert not served.ask("POST", "/v1/policy-check", json={"changes": {"60_mine": "(+ 1"}})["good"]
    checked = served.ask("POST", "/v1/policy-check", json={"changes": {"60_mine": "(+ 1 2)"}})
    assert checked == {"good": True, "problems": [], "warnings": []}


UNKNOWN = '(def f (guest) (nosuch guest))\n(with Guests guest (guest.Control "ballon_target" 1))\n(f 1)'


def test_what_would_fail_for_certain_is_found_by_the_check_and_refused(served: Served) -> None:
    before = served.version()
    checked = served.ask("POST", "/v1/policy-check", json={"changes": {"60_mine": UNKNOWN}})
    assert not checked["good"]
    assert [(one["kind"], one["line"], one["column"]) for one in checked["problems"]] == [("unknown-function", 1, 17)]
    warning = checked["warnings"][0]
    assert (warning["kind"], warning["severity"], warning["line"]) == ("unknown-control", "warning", 2)
    assert "balloon_target" in warning["hint"]
    assert served.ask("PATCH", "/v1/policies", 422, json={"changes": {"60_mine": UNKNOWN}})["problems"] == checked["problems"]
    assert served.put("60_mine", UNKNOWN, '"1-other"').status_code == 412
    assert served.version() == before
    warned = '(with Guests guest (guest.Control "ballon_target" 1))'
    assert served.put("60_mine", warned).status_code == 200


def test_several_change_together_or_not_at_all(served: Served) -> None:
    before = served.version()
    served.ask("PATCH", "/v1/policies", 422, json={"changes": {"60_a": "(+ 1 2)", "60_b": "("}})
    assert served.version() == before
    changes = {"60_a": "(+ 1 2)", "60_b": "(+ 1 3)"}
    good = served.ask("PATCH", "/v1/policies", seen=before, json={"changes": changes, "replace_all": True})
    assert good["names"] == ["60_a", "60_b"]
    assert served.ask("POST", "/v1/policy-reset")["names"] == ["40_ksm", "50_balloon"]


def test_the_history_says_who_when_and_what_and_leads_back(served: Served) -> None:
    first = served.version().strip('"')
    served.put("60_mine", "(+ 1 2)\n")
    served.put("60_mine", "(+ 1 3)\n")
    newest = served.get("/v1/policy-history")["items"][0]
    assert newest["what"] == "set 60_mine"
    assert newest["who"].startswith("user root, process ")
    assert "-(+ 1 2)\n+(+ 1 3)\n" in newest["diff"]
    back = served.ask("POST", "/v1/policy-rollback", seen=served.version(), json={"version": first})
    assert "60_mine" not in back["names"]
    assert first in served.ask("POST", "/v1/policy-rollback", 409, json={"version": "99-x"})["hint"]


@pytest.mark.parametrize(
    ("body", "media_type", "status"),
    [
        (b'{"changes": {}}', "text/html", 415),
        (b"[" * 100_000, "application/json", 400),
        (b"[]", "application/json", 400),
        (b'{"changes": {"60_mine": 1}}', "application/json", 400),
        (b'{"changes": {"60_mine": "# \\ud800"}}', "application/json", 400),  # a lone surrogate
        (b'{"changes": {}, "more": NaN}', "application/json", 400),
        (b'{"changes": {"60_mine": "%s"}}' % (b"(" * 100_000), "application/json", 422),
        (b"x" * (5 << 20), "application/json", 413),
    ],
)
def test_a_body_that_makes_no_sense_is_refused(shared: Served, body: bytes, media_type: str, status: int) -> None:
    before = shared.version()
    answer = shared.client.patch("/v1/policies", content=body, headers={"content-type": media_type, "if-match": "*"})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert shared.version() == before


@pytest.mark.parametrize("name", [" ", "a\nb", "x" * 129])
def test_a_name_that_makes_trouble_is_refused(shared: Served, name: str) -> None:
    assert shared.put(name).status_code == 400


@pytest.mark.long
def test_of_eight_clients_that_change_at_once_none_is_lost_and_nothing_is_half_applied(served: Served) -> None:
    """Each client adds its line to two policies that must stay equal: it reads, changes, and repeats when refused."""
    both = {"60_one": "(+ 1 2)\n", "60_two": "(+ 1 2)\n"}
    served.ask("PATCH", "/v1/policies", json={"changes": both})

    def add(number: int) -> None:
        with client_of(served.path) as client:
            while True:
                seen = client.get("/v1/policies")
                texts = {one["name"]: one["text"] for one in seen.json()["items"]}
                assert texts["60_one"] == texts["60_two"]
                changed = {name: f"{texts[name]}(+ 1 {number})\n" for name in both}
                answer = client.patch("/v1/policies", json={"changes": changed}, headers={"if-match": seen.headers["etag"]})
                if answer.status_code == 200:
                    return
                assert answer.status_code == 412

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(8)))
    text = served.get("/v1/policies/60_one")["text"]
    assert sorted(text.splitlines()[1:]) == sorted(f"(+ 1 {number})" for number in range(8))


def test_a_change_does_not_wait_for_the_checks_of_those_who_read(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both may run in the evaluator at the same time."""
    begun, go_on = threading.Event(), threading.Event()

    def slow(policy: object) -> list[object]:
        begun.set()
        assert go_on.wait(60)
        return []

    monkeypatch.setattr("mom_plugins_policy.checks.check_policy", slow)
    with client_of(served.path) as reader, ThreadPoolExecutor() as pool:
        checked = pool.submit(reader.post, "/v1/policy-check", json={"changes": {"60_theirs": "(+ 1 2)"}})
        try:
            assert begun.wait(60)
            monkeypatch.undo()
            assert served.put("60_mine").status_code == 200
            assert not checked.done()
        finally:
            go_on.set()
        assert checked.result().json()["good"] is True
