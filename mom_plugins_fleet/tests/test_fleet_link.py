"""Late and invalid answers. tests/fleet uses real servers."""

import asyncio
import time
from types import SimpleNamespace
from typing import Any, NoReturn, cast

import nats.errors
import pytest
from nats.js import JetStreamContext

from mom_plugins_fleet.buckets import Bucket, StoredEntry
from mom_plugins_fleet.link import ATTEMPTS, LinkError, Store
from mom_plugins_fleet.records import HostState

STANDS = {"Nats-Sequence": "7", "Nats-Time-Stamp": "2026-03-01T00:00:00.123456789Z"}
AT = 1772323200.123456


class Servers:
    """Servers that answer with these headers, keyed by subject, after some unanswered requests."""

    def __init__(self, answers: dict[str, dict[str, str]], unanswered: int = 0) -> None:
        self.answers, self.unanswered = answers, unanswered
        self.asked = 0

    def jetstream(self, timeout: float) -> Any:
        return JetStreamContext(cast(Any, self), timeout=timeout)

    async def request(self, subject: str, data: bytes, timeout: float) -> Any:
        self.asked += 1
        headers = self.answers[subject.rpartition(".")[2]]
        if self.asked <= self.unanswered:
            raise TimeoutError
        return SimpleNamespace(headers={"Nats-Subject": "", **headers}, data=b"" if "Status" in headers else b"x")


def looked(servers: Servers) -> StoredEntry:
    return asyncio.run(Store(cast(Any, servers)).read("mom-roster", "h1"))


def test_what_stands_at_a_key() -> None:
    assert looked(Servers({"h1": STANDS})) == StoredEntry(7, b"x", AT)
    assert looked(Servers({"h1": {**STANDS, "KV-Operation": "DEL"}})) == StoredEntry(7, None, AT)
    assert looked(Servers({"h1": {"Status": "404"}})) == StoredEntry(0, None)


def test_a_question_that_nobody_answers_is_asked_again() -> None:
    servers = Servers({"h1": STANDS}, ATTEMPTS - 1)
    assert looked(servers).data == b"x"
    assert servers.asked == ATTEMPTS
    with pytest.raises(LinkError, match="cannot read mom-roster h1: the servers did not answer in time"):
        looked(Servers({"h1": STANDS}, ATTEMPTS))


def test_a_connection_that_was_lost_is_said_since_when_and_not_what_the_library_makes_of_it() -> None:
    async def unsent(*_: object, **__: object) -> NoReturn:
        raise nats.errors.OutboundBufferLimitError

    client = cast(Any, SimpleNamespace(request=unsent, is_connected=False))
    client.jetstream = lambda timeout: JetStreamContext(client)
    with pytest.raises(LinkError, match="cannot read mom-roster h1: NATS cannot be reached"):
        asyncio.run(Store(client).read("mom-roster", "h1"))


def test_what_the_servers_do_not_answer_for_may_be_done_all_the_same() -> None:
    async def unanswered(*_: object, **__: object) -> NoReturn:
        raise TimeoutError

    client = cast(Any, SimpleNamespace(request=unanswered, is_connected=True))
    client.jetstream = lambda timeout: JetStreamContext(client)
    store = Store(client)
    for asked in (store.put("mom-roster", "h1", b"x"), store.remove("mom-roster", "h1")):
        with pytest.raises(LinkError, match=r"did not answer in time \(the change may have been made: check before you try again"):
            asyncio.run(cast(Any, asked))
    client.is_connected, store.complaint = False, (time.monotonic() + 9.0, "gone")
    with pytest.raises(LinkError, match=r"cannot be reached \(the change may have been made"):
        asyncio.run(store.put("mom-roster", "h1", b"x"))


@pytest.mark.parametrize(
    "headers", [{}, {"Nats-Sequence": "7"}, {**STANDS, "Nats-Sequence": "seven"}, {**STANDS, "Nats-Time-Stamp": "noon"}]
)
def test_an_answer_that_makes_no_sense_is_an_error(headers: dict[str, str]) -> None:
    with pytest.raises(LinkError, match="cannot read mom-roster h1: invalid answer of the servers"):
        looked(Servers({"h1": headers}))


@pytest.mark.parametrize("answer", [b"", b"\xff", b"7", b"[]", b'"error"', b'{"error":{}}', b'{"error":7}'])
def test_an_acknowledgement_that_makes_no_sense_is_an_error(answer: bytes) -> None:
    async def request(*_: object, **__: object) -> Any:
        return SimpleNamespace(data=answer)

    client = cast(Any, SimpleNamespace(request=request, is_connected=True))
    client.jetstream = lambda timeout: JetStreamContext(client)
    with pytest.raises(LinkError, match="cannot set mom-states h1: invalid answer of the servers"):
        asyncio.run(Store(client).put("mom-states", "h1", b"x"))


class Changes:
    """Bucket on a server. With `lags`, the server lacks the last message until its stream is complete."""

    def __init__(self, *sent: str, lags: bool = False) -> None:
        self.sent, self.lags, self.given, self.lost, self.leader = sent, lags, 0, 0, ""

    async def stream_info(self, _stream: str) -> Any:
        self.leader, leads = "s1", self.leader  # no leader at first
        state = SimpleNamespace(messages=len(self.sent), last_seq=len(self.sent))
        return SimpleNamespace(state=state, cluster=SimpleNamespace(leader=leads))

    async def pull_subscribe(self, _subject: str, **_more: object) -> Any:
        return self

    async def consumer_info(self) -> Any:
        delivered = SimpleNamespace(consumer_seq=self.given + self.lost, stream_seq=self.given)
        pending = len(self.sent) - self.given - self.lags
        self.lags = self.lags and pending > 0
        return SimpleNamespace(delivered=delivered, num_pending=pending)

    async def fetch(self, count: int, timeout: float) -> Any:
        keys = self.sent[self.given : self.given + count]
        self.given += count
        at = SimpleNamespace(timestamp=lambda: AT)
        return [
            SimpleNamespace(
                subject=f"$KV.mom-states.{key}",
                data=HostState(mode=key).packed(),
                headers={"KV-Operation": "DEL"} if key == "gone" else None,
                metadata=SimpleNamespace(sequence=SimpleNamespace(stream=number), timestamp=at),
            )
            for number, key in enumerate(keys, 1)
        ]

    async def unsubscribe(self) -> None:
        self.given = 0


def bucket_store(changes: Changes) -> Store:
    return Store(cast(Any, SimpleNamespace(jetstream=lambda timeout: changes, is_connected=True, is_closed=False)))


@pytest.mark.parametrize(
    ("changes", "keys"), [(Changes(), set()), (Changes("h1", "gone", "h2"), {"h1", "h2"}), (Changes("h1", "h2", lags=True), {"h1", "h2"})]
)
def test_a_bucket_is_read_in_whole(changes: Changes, keys: set[str]) -> None:
    bucket = Bucket(HostState)
    asyncio.run(bucket_store(changes).load(bucket))
    assert bucket.records.keys() == keys


def test_a_watch_tells_changes_and_ends_when_some_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mom_plugins_fleet.link.CHANGES_SECONDS", 0.0)
    changes, bucket = Changes("h1"), Bucket(HostState)

    async def work() -> None:
        watching = asyncio.create_task(bucket_store(changes).watch(bucket))
        while not bucket.current:
            await asyncio.sleep(0)
        changes.sent = ("h1", "h2")
        while "h2" not in bucket.records:
            await asyncio.sleep(0)
        changes.lost = 1
        with pytest.raises(LinkError, match="changes of mom-states were lost"):
            await watching

    asyncio.run(asyncio.wait_for(work(), 60))
    assert not bucket.current
