"""A server that moves guests: each request is signed, and what it does not say clearly is unknown."""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path

import pytest
from movers_server import Server

from mom_core import Entity, HypervisorError, PluginContext, Scope
from mom_plugins_eviction.movers.webhook import WebhookMoverPlugin
from mom_toolkit import ANYWHERE, Destination, MoveJob, Mover, MoveStanding

JOB = MoveJob(Entity(Scope.GUEST, "6f2c", "web-1"), Destination.parse("host://pve2"), "ab12", 60.0)


def mover(url: str, secret: Path, **abilities: bool) -> Mover:
    settings = {"server": {"url": f"{url}/move", "secret": secret}, **abilities}
    plugin = WebhookMoverPlugin(WebhookMoverPlugin.Settings.model_validate(settings), PluginContext(name="webhook_mover"))
    found: Mover = plugin.mom_services()[Mover]
    return found


def says(server: Server, status: int, **content: object) -> None:
    server.answer = lambda request: (status, json.dumps(content).encode())


def test_it_is_told_to_begin_is_asked_and_told_to_give_up_by_signed_requests(server: Server, secret: Path) -> None:
    one = mover(server.url, secret)
    says(server, 200, reference="job 7")
    assert one.begin(JOB) == "job 7"
    known = MoveJob(JOB.guest, JOB.destination, JOB.id, JOB.seconds, reference="job 7")
    says(server, 200, state="running", percent=40)
    assert one.look(known).standing is MoveStanding.RUNNING
    one.cancel(known)
    bodies = [json.loads(request.body) for request in server.got]
    assert [body["do"] for body in bodies] == ["begin", "look", "cancel"]
    assert bodies[0] == {
        "do": "begin",
        "move": "ab12",
        "guest": "web-1",
        "guest_id": "6f2c",
        "destination": "host://pve2",
        "host": "pve2",
        "seconds": 60.0,
        "reference": "",
    }
    assert bodies[1]["reference"] == "job 7"
    for request in server.got:
        at, signature = (part.partition("=")[2] for part in request.headers["mom-signature"].split(","))
        good = hmac.new(secret.read_bytes().strip(), f"{at}.".encode() + request.body, hashlib.sha256).hexdigest()
        assert signature == good


def test_a_refusal_has_begun_nothing_and_no_clear_answer_may_have(server: Server, secret: Path) -> None:
    one = mover(server.url, secret)
    says(server, 409, error="the guest is locked")
    with pytest.raises(HypervisorError, match="refuses \\(409\\): the guest is locked"):
        one.begin(JOB)
    for status in (0, 500, 503, 429):
        says(server, status)
        assert one.begin(JOB) == "", status
    with pytest.raises(HypervisorError):
        mover("http://127.0.0.1:1", secret).begin(JOB)


@pytest.mark.parametrize(
    ("status", "content", "standing"),
    [
        (200, b'{"state": "done"}', "done"),
        (200, b'{"state": "failed", "error": "no\\u001b[2J"}', "failed"),
        (200, b'{"state": ["done"]}', "unknown"),
        (200, b"done", "unknown"),
        (200, b"\xff", "unknown"),
        (200, b"[" * 100_000, "unknown"),
        (500, b'{"state": "done"}', "unknown"),
        (302, b'{"state": "done"}', "unknown"),
        (0, b"", "unknown"),
    ],
)
def test_what_it_says_of_a_move_counts_only_where_it_is_clear(
    server: Server, secret: Path, status: int, content: bytes, standing: str
) -> None:
    server.answer = lambda request: (status, content)
    report = mover(server.url, secret).look(JOB)
    assert report.standing == standing
    assert report.error.isprintable()


def test_who_chooses_the_host_is_agreed_on(server: Server, secret: Path) -> None:
    assert mover(server.url, secret).why_not(ANYWHERE)
    assert not mover(server.url, secret).why_not(JOB.destination)
    assert not mover(server.url, secret, chooses=True).why_not(ANYWHERE)
    assert mover(server.url, secret, chooses=True).why_not(JOB.destination)


def test_a_secret_that_others_can_read_signs_nothing(server: Server, secret: Path) -> None:
    secret.chmod(0o644)
    with pytest.raises(HypervisorError, match="is no secret"):
        mover(server.url, secret).begin(JOB)
    assert server.got == []
