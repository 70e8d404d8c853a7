"""The page's socket: all requests need a session, and a session needs a key that works once."""

import asyncio
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import httpx
import pytest
from served_mom import Serve, Served
from unix_clients import client_of

from mom_core import MomError
from mom_devkit import HandClock
from mom_plugins_http.routes.page_keys import KEY_SECONDS, MOST, SESSION_SECONDS, PageKeys
from mom_plugins_http.routes.route import ApiCall
from mom_plugins_http.server.access import Peer, Right
from mom_plugins_http.server.problems import ProblemError

PEER = Peer("user root, process 1", Right.CHANGE, local=True, process=os.getpid())


def test_a_key_works_once_and_for_two_minutes(clock: HandClock) -> None:
    keys = PageKeys("/run/mom/mom-page.sock", clock)
    key, late = keys.key_for(PEER), keys.key_for(PEER)
    assert keys.session_for(key)
    assert keys.session_for(key) is None
    clock.now += KEY_SECONDS + 1
    assert keys.session_for(late) is None
    assert keys.session_for("key-guessed") is None


@pytest.mark.parametrize(
    "peer",
    [Peer("a token", Right.CHANGE, local=False), Peer("a session", Right.CHANGE, local=True, keyed=True)],
    ids=["TCP", "the page's socket"],
)
def test_keys_are_given_through_the_control_socket_only(peer: Peer) -> None:
    """Otherwise, a token or session could create lasting access before it is revoked."""
    keys = PageKeys("/run/mom/mom-page.sock")
    with pytest.raises(ProblemError, match="only through the control socket"):
        asyncio.run(keys.give_page_key(cast(ApiCall, SimpleNamespace(peer=peer))))


def test_a_session_has_the_right_of_whom_its_key_was_given_to_and_ends(clock: HandClock) -> None:
    keys = PageKeys("/run/mom/mom-page.sock", clock)
    token = keys.session_for(keys.key_for(replace(PEER, name="user reader, process 2", right=Right.READ)))
    assert keys.session(f"Bearer {token}") == (Right.READ, "user reader, process 2")
    for wrong in ("", "Bearer", f"Basic {token}", "Bearer x", f"Bearer {token}x"):
        assert keys.session(wrong) is None
    clock.now += SESSION_SECONDS + 1
    assert keys.session(f"Bearer {token}") is None


def test_a_process_with_the_number_of_one_that_has_ended_is_another_one(tmp_path: Path) -> None:
    keys = PageKeys("/run/mom/mom-page.sock", proc=str(tmp_path))
    (tmp_path / "7").mkdir()
    stat = Path("/proc/self/stat").read_text()
    (tmp_path / "7/stat").write_text(stat)
    token = keys.session_for(keys.key_for(Peer("user root, process 7", Right.CHANGE, local=True, process=7)))
    assert keys.session(f"Bearer {token}") is not None
    head, _, fields = stat.rpartition(")")
    later = fields.split()
    later[19] = str(int(later[19]) + 1)
    (tmp_path / "7/stat").write_text(f"{head}) {' '.join(later)}\n")
    assert keys.session(f"Bearer {token}") is None


def test_a_user_with_too_many_keys_loses_the_oldest_and_takes_none_from_others() -> None:
    keys = PageKeys("/run/mom/mom-page.sock")
    root = keys.key_for(PEER)
    given = [keys.key_for(replace(PEER, name=f"user reader, process {number}", right=Right.READ)) for number in range(MOST + 5)]
    assert keys.session_for(root)
    assert [bool(keys.session_for(key)) for key in given] == [False] * 5 + [True] * MOST


def browser(served: Served) -> httpx.Client:
    return client_of(served.path.with_name("mom-page.sock"), "localhost:8132")


def test_nobody_not_even_root_may_do_anything_on_the_pages_socket_without_session(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    with browser(served) as page:
        assert page.get("/").status_code == 200, "the page has no secrets"
        for path in ("/v1/status", "/v1/whoami", "/v1/events", "/metrics", "/v1/policies", "/v1/openapi.json"):
            assert page.get(path).status_code == 401, path
        assert page.get("/v1/status", headers={"authorization": "Bearer s3cret"}).status_code == 401
        assert page.post("/v1/page-keys").status_code == 401
        answer = replace(served, client=page).put("60_mine")
        assert answer.status_code == 401
        assert "mom page" in answer.json()["hint"]
    assert "no valid token or session" in caplog.text
    assert "s3cret" not in caplog.text


def test_a_key_from_the_control_socket_makes_a_session_on_the_pages(served: Served) -> None:
    given = served.ask("POST", "/v1/page-keys", 201)
    assert given["socket"] == str(served.path.with_name("mom-page.sock"))
    key = {"key": given["key"]}
    assert served.client.post("/v1/page-sessions", json=key).status_code == 401, "it is for the page's socket"
    with browser(served) as page:
        refused = page.post("/v1/page-sessions", json=key, headers={"origin": "http://evil.example", "sec-fetch-site": "cross-site"})
        assert refused.status_code == 403, "no other site's page brings a key"
        begun = replace(served, client=page).ask("POST", "/v1/page-sessions", 201, json=key)
        page.headers["authorization"] = f"Bearer {begun['token']}"
        assert page.get("/v1/whoami").json()["right"] == "change"
        assert page.get("/v1/whoami").json()["name"].startswith("the page of user ")
        assert page.post("/v1/page-keys").status_code == 403, "a page gives no further keys"
        assert page.post("/v1/page-sessions", json=key).status_code == 401


@pytest.mark.processes
def test_a_stream_of_events_ends_with_the_session_it_was_opened_in(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mom_plugins_http.routes.events.BEAT_SECONDS", 0.1)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process, browser(served) as page:
        keys = served.service._api._page_keys
        peer = Peer("user root, process 2", Right.CHANGE, local=True, process=process.pid)
        page.headers["authorization"] = f"Bearer {keys.session_for(keys.key_for(peer))}"
        with page.stream("GET", "/v1/events") as stream:
            lines = stream.iter_lines()
            assert any(line == ": still here" for line in lines), "it goes on while the process is there"
            process.kill()
            process.wait()
            served.engine.cycle()
            assert not any(line.startswith("event: cycle") for line in lines), "nothing is told any more, and the stream ends"
        assert page.get("/v1/status").status_code == 401


def test_a_path_that_is_too_long_for_the_pages_socket_is_refused(serve: Serve, tmp_path: Path) -> None:
    with pytest.raises(MomError, match="socket"):
        serve(socket=str(tmp_path / ("s" * (107 - len(str(tmp_path)) - 1))))
