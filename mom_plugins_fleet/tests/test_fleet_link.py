"""What becomes of answers that are late, or make no sense; what real servers say is in tests/fleet."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest
from nats.js.errors import NotFoundError

from mom_plugins_fleet import link
from mom_plugins_fleet.link import FIRST_ATTEMPTS, LinkError, Store, StoredEntry

STANDS = {"Nats-Sequence": "7", "Nats-Time-Stamp": "2026-03-01T00:00:00.123456789Z"}
AT = 1772323200.123456
NO_MESSAGE, NO_STREAM = 10037, 10059


class Servers:
    """Answer with these headers, by key; an error's code or none instead of them stands for that error, and for silence."""

    def __init__(self, answers: dict[str, dict[str, str] | int | None], unanswered: int = 0) -> None:
        self.answers, self.unanswered = answers, unanswered
        self.asked = 0

    def jetstream(self, timeout: float) -> Any:
        return self

    async def stream_info(self, name: str, subjects_filter: str) -> Any:
        begin = subjects_filter.removesuffix(">")
        return SimpleNamespace(state=SimpleNamespace(subjects={f"{begin}{key}": 1 for key in self.answers} or None))

    async def get_msg(self, stream: str, subject: str) -> Any:
        self.asked += 1
        headers = self.answers[subject.removeprefix("$KV.mom-roster.")]
        if headers is None:
            raise TimeoutError
        if isinstance(headers, int):
            raise NotFoundError(code=404, err_code=headers)
        return SimpleNamespace(headers=headers, data=b"x", seq=7, time=datetime.fromtimestamp(AT, UTC))

    async def request(self, subject: str, data: bytes, timeout: float) -> Any:
        self.asked += 1
        headers = self.answers[subject.rpartition(".")[2]]
        if self.asked <= self.unanswered or headers is None:
            raise TimeoutError
        return SimpleNamespace(headers=headers, data=b"x")


def loaded(servers: Servers) -> dict[str, StoredEntry]:
    return dict(asyncio.run(Store(cast(Any, servers)).load("mom-roster")))


def looked(servers: Servers) -> StoredEntry:
    return asyncio.run(Store(cast(Any, servers)).read("mom-roster", "h1"))


def test_a_bucket_is_read_whole_but_for_what_was_deleted() -> None:
    assert loaded(Servers({"h1": STANDS, "h2": {"KV-Operation": "DEL"}, "h3": NO_MESSAGE})) == {"h1": StoredEntry(7, b"x", AT)}


def test_an_empty_bucket_is_empty() -> None:
    assert loaded(Servers({})) == {}


def test_a_key_of_which_nothing_is_heard_is_an_error_and_not_left_out() -> None:
    with pytest.raises(LinkError, match="cannot load mom-roster: the servers did not answer in time"):
        loaded(Servers({"h1": STANDS, "h2": None}))


def test_a_bucket_that_goes_away_while_it_is_read_is_an_error() -> None:
    with pytest.raises(LinkError, match="the fleet's buckets are not there"):
        loaded(Servers({"h1": STANDS, "h2": NO_STREAM}))


def test_what_stands_at_a_key() -> None:
    assert looked(Servers({"h1": STANDS})) == StoredEntry(7, b"x", AT)
    assert looked(Servers({"h1": {**STANDS, "KV-Operation": "DEL"}})) == StoredEntry(7, None, AT)
    assert looked(Servers({"h1": {"Status": "404"}})) == StoredEntry(0, None)


def test_a_question_that_nobody_answers_is_asked_again() -> None:
    servers = Servers({"h1": STANDS}, FIRST_ATTEMPTS)
    assert looked(servers).data == b"x"
    assert servers.asked == FIRST_ATTEMPTS + 1
    with pytest.raises(LinkError, match="cannot read mom-roster h1: the servers did not answer in time"):
        looked(Servers({"h1": STANDS}, FIRST_ATTEMPTS + 1))


@pytest.mark.parametrize(
    "headers", [{}, {"Nats-Sequence": "7"}, {**STANDS, "Nats-Sequence": "seven"}, {**STANDS, "Nats-Time-Stamp": "noon"}]
)
def test_an_answer_that_makes_no_sense_is_an_error(headers: dict[str, str]) -> None:
    with pytest.raises(LinkError, match="the servers' answer for mom-roster h1 makes no sense"):
        looked(Servers({"h1": headers}))


def test_no_more_is_asked_at_once_than_the_servers_can_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "READS_AT_ONCE", 3)
    servers = Servers({f"h{number}": STANDS for number in range(20)})
    now = most = 0
    get_msg = servers.get_msg

    async def counted(stream: str, subject: str) -> Any:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1
        return await get_msg(stream, subject)

    monkeypatch.setattr(servers, "get_msg", counted)
    assert len(loaded(servers)) == 20
    assert most == 3
