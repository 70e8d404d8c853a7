"""A watch tells all and each change, or says that it has ended; what real servers send is in tests/fleet."""

import asyncio
import datetime
import time
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from nats.aio.msg import Msg

from mom_plugins_fleet.accounts import USER, new_seed
from mom_plugins_fleet.buckets import Bucket
from mom_plugins_fleet.link import LinkError, Store, UnansweredError
from mom_plugins_fleet.records import AuthorizedKeys, HostState, Member, Orders
from mom_plugins_fleet.signatures import Signer
from mom_plugins_fleet.subjects import COORDINATORS, StoredEntry
from mom_plugins_fleet.view import FleetView

BEGIN = "$KV.mom-states."
STEPS = 20
SEED = "SUAKYRHVIOREXV7EUZTBHUHL7NUMHPMAS7QMDU3GTIUWEI5LDNOXD43IZY"
OTHER = Signer(new_seed(USER)).public


class Sender:
    """A server of which a test says what it sends."""

    def __init__(self, *, last: int = 0) -> None:
        self.last = last
        self.leader: str | None = None
        self.is_closed = False
        self.said: list[str] = []
        self.made = 0
        self.take: Callable[[Msg], Awaitable[None]] | None = None
        self.sent = 0
        self.unsubscribed = 0

    def jetstream(self, timeout: float) -> Any:
        return self

    async def stream_info(self, name: str) -> Any:
        cluster = None if self.leader is None else SimpleNamespace(leader=self.leader)
        return SimpleNamespace(state=SimpleNamespace(last_seq=self.last, messages=self.last), cluster=cluster)

    def new_inbox(self) -> str:
        return "inbox"

    async def subscribe(self, inbox: str, cb: Callable[[Msg], Awaitable[None]]) -> Any:
        self.take, self.sent = cb, 0
        return self

    async def unsubscribe(self) -> None:
        self.unsubscribed += 1

    async def add_consumer(self, stream: str, config: Any, timeout: float) -> None:
        self.made += 1

    async def publish(self, where: str) -> None:
        self.said.append(where)

    async def message(self, key: str, revision: int, data: bytes = b"x") -> None:
        assert self.take is not None
        self.sent += 1
        reply = f"$JS.ACK.KV_mom-states.c.1.{revision}.{self.sent}.1772323200123456789.0"
        await self.take(Msg(_client=cast(Any, self), subject=BEGIN + key, reply=reply, data=data))

    async def pulse(self, *, last: str | None = None, looked_at: int | None = None, reply: str = "", stalled: str = "") -> None:
        assert self.take is not None
        sent, seen = str(self.sent) if last is None else last, str(self.last if looked_at is None else looked_at)
        headers = {"Status": "100"} if reply else {"Status": "100", "Nats-Last-Consumer": sent, "Nats-Last-Stream": seen}
        if stalled:
            headers["Nats-Consumer-Stalled"] = stalled
        await self.take(Msg(_client=cast(Any, self), subject="inbox", reply=reply, data=b"", headers=headers))


class Told(Bucket[HostState]):
    """Notes what it is told."""

    def __init__(self) -> None:
        super().__init__(HostState)
        self.all: list[Any] = []

    def begins(self) -> None:
        self.all.append("begins")

    def take(self, key: str, kept: StoredEntry) -> None:
        self.all.append((key, kept.revision, kept.data))

    def complete(self) -> None:
        self.all.append("complete")


async def settled() -> None:
    """Let all tasks do what needs no time: nothing here waits for a server."""
    for _ in range(100):
        await asyncio.sleep(0)


async def watched(sender: Sender, told: Told, so: Callable[[Sender], Awaitable[None]], patience: float = 0.0) -> str:
    """Return why the watch has ended, if it has. `patience` is for a watch that ends by time."""
    running = asyncio.create_task(Store(cast(Any, sender)).watch(told))
    while not sender.made:
        await asyncio.sleep(0)
    await so(sender)
    await settled()
    await asyncio.wait([running], timeout=patience)
    running.cancel()
    (found,) = await asyncio.gather(running, return_exceptions=True)
    assert sender.unsubscribed == 1
    return str(found) if isinstance(found, LinkError) else ""


def test_a_bucket_whose_last_message_is_gone_is_complete_when_there_is_nothing_to_send() -> None:
    async def send(sender: Sender) -> None:
        await sender.message("h1", 3)
        await sender.pulse(stalled="go.on")
        await sender.pulse(reply="go.on.2")
        await settled()
        assert "complete" not in told.all
        await sender.pulse()

    told, sender = Told(), Sender(last=9)
    assert not asyncio.run(watched(sender, told, send))
    assert told.all[-1] == "complete"
    assert sender.said == ["go.on", "go.on.2"], "and is asked to go on"


def test_keys_that_are_set_anew_while_a_watch_begins_are_waited_for() -> None:
    async def send(sender: Sender) -> None:
        sender.last = 6  # hosts have told how they are since it was asked what stood there
        await sender.message("h1", 4)
        await settled()
        assert "complete" not in told.all
        await sender.message("h2", 5)
        await sender.message("h3", 6)

    told = Told()
    assert not asyncio.run(watched(Sender(last=3), told, send))
    assert [one[0] for one in told.all if one != "begins"] == ["h1", "h2", "h3", "c"]


def test_a_server_that_has_not_all_of_a_bucket_is_not_taken_for_one_that_has() -> None:
    async def send(sender: Sender) -> None:
        await sender.message("h1", 3)
        await sender.pulse(looked_at=3)

    told = Told()
    assert "lacks a part of the bucket" in asyncio.run(watched(Sender(last=9), told, send))
    assert "complete" not in told.all


def test_what_a_server_has_while_none_leads_is_not_taken_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mom_plugins_fleet.bucket_watch.LOST_SECONDS", 0.02)
    sender, told = Sender(last=1), Told()
    sender.leader = ""
    with pytest.raises(UnansweredError, match="the servers have no leader"):
        asyncio.run(Store(cast(Any, sender)).watch(told))
    assert not sender.made


def test_where_it_cannot_be_asked_whether_all_was_told_the_watch_ends() -> None:
    class Away(Sender):
        async def stream_info(self, name: str) -> Any:
            if self.made:
                raise TimeoutError
            return await super().stream_info(name)

    async def send(sender: Sender) -> None:
        await sender.message("h1", 3)

    told = Told()
    assert "the end of the bucket is unknown" in asyncio.run(watched(Away(last=3), told, send))
    assert "complete" not in told.all


def test_a_lost_message_ends_the_watch() -> None:
    async def skip(sender: Sender) -> None:
        await sender.message("h1", 3)
        sender.sent += 1
        await sender.message("h1", 4)
        await sender.message("h1", 5)

    async def last_one(sender: Sender) -> None:
        await sender.message("h1", 3)
        await sender.pulse(last="2")

    async def nonsense(sender: Sender) -> None:
        await sender.pulse(last="two")

    for send in (skip, last_one, nonsense):
        told = Told()
        assert "is lost" in asyncio.run(watched(Sender(last=1), told, send))
        assert ("h1", 4, b"x") not in told.all, "and nothing more is told"


def test_silence_ends_the_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mom_plugins_fleet.bucket_watch.LOST_SECONDS", 0.02)
    monkeypatch.setattr("mom_plugins_fleet.bucket_watch.PULSE_SECONDS", 0.01)

    async def send(sender: Sender) -> None:
        await sender.pulse()

    assert "no message and no heartbeat received" in asyncio.run(watched(Sender(last=1), Told(), send, patience=60))


def test_a_mistake_of_who_is_told_ends_the_watch() -> None:
    class Breaks(Told):
        def take(self, key: str, kept: StoredEntry) -> None:
            raise KeyError(key)

    async def send(sender: Sender) -> None:
        await sender.message("h1", 1)

    assert "an error in mom: KeyError" in asyncio.run(watched(Sender(last=1), Breaks(), send))


def test_the_time_is_had_of_another_server_where_one_does_not_answer() -> None:
    def not_answered() -> None:
        raise TimeoutError

    made = SimpleNamespace(created=datetime.datetime.fromtimestamp(1_800_000_000, datetime.UTC))
    answers = [not_answered, not_answered, lambda: made]

    async def add_consumer(*_parts: object, **_more: object) -> object:
        return answers.pop(0)()

    store = Store(cast(Any, SimpleNamespace(jetstream=lambda timeout: SimpleNamespace(add_consumer=add_consumer))))
    assert asyncio.run(store.clock()) == 1_800_000_000
    assert not answers


def state(host: str, available: int = 1) -> bytes:
    return HostState(mode="enforce", available=available).packed()


def test_a_bucket_that_is_told_anew_forgets_what_is_not_there_any_more_and_nothing_else() -> None:
    shelf = Bucket(HostState)
    shelf.begins()
    shelf.take("h1", StoredEntry(5, state("h1"), 1.0))
    shelf.take("h2", StoredEntry(6, b"nonsense", 1.0))
    shelf.complete()
    assert (set(shelf.records), set(shelf.damaged), shelf.current) == ({"h1"}, {"h2"}, True)
    shelf.begins()
    assert set(shelf.records) == {"h1"}, "until it is known better"
    assert not shelf.current
    shelf.take("h3", StoredEntry(1, state("h3"), 1.0))  # servers that were set up anew count from 1
    shelf.complete()
    assert (set(shelf.records), shelf.damaged, set(shelf.set_at)) == ({"h3"}, {}, {"h3"})


def test_an_answer_that_is_older_than_what_was_heard_changes_nothing() -> None:
    shelf = Bucket(HostState)
    shelf.begins()
    shelf.take("h1", StoredEntry(5, state("h1", 5)))
    shelf.take("h1", StoredEntry(4, state("h1", 4)))
    shelf.take("h1", StoredEntry(0, None))
    assert shelf.records["h1"] == (5, HostState(mode="enforce", available=5))
    shelf.take("h1", StoredEntry(7, None))
    shelf.take("h1", StoredEntry(6, state("h1", 6)))
    assert shelf.get("h1") is None


def test_orders_that_came_before_the_coordinator_was_appointed_count_once_it_is() -> None:
    signer, view = Signer(SEED), FleetView()
    view.orders.take("h1", StoredEntry(1, signer.signed("h1", Orders(epoch=3), 2)))
    assert view.orders.get("h1") is None
    assert "which is not trusted" in view.orders.damaged["h1"]
    view.orders.trust(frozenset({signer.public}))
    assert view.orders.get("h1") == Orders(epoch=3)
    view.orders.trust(frozenset())
    assert view.orders.get("h1") is None


def test_a_record_that_was_ahead_of_a_clock_counts_once_the_clock_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    signer, clock = Signer(SEED), [0.0]
    right = time.time()
    monkeypatch.setattr(time, "time", lambda: clock[0])
    coordinators, revision = frozenset({signer.public}), int(right)
    entry = StoredEntry(1, signer.signed(COORDINATORS, AuthorizedKeys(keys=(OTHER,)), revision))
    views = [FleetView(coordinators), FleetView(coordinators)]
    for view in views:
        view.authorized.take(COORDINATORS, entry)
        view.trust()
        assert "ahead of the clock" in view.authorized.damaged[COORDINATORS]
        assert OTHER not in view.orderers
    clock[0] = right
    looks, hears = views
    looks.trust()
    hears.authorized.take(COORDINATORS, entry)
    for view in views:
        assert OTHER in view.orderers
        assert not view.authorized.damaged


def test_a_host_is_as_old_as_its_report_by_the_servers_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    view, clock, now = FleetView(), [1000.0], time.time()
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    view.members.records["h1"] = (1, Member(group="g"))
    view.states.take("h1", StoredEntry(1, state("h1"), now - 60))
    assert view.is_fresh("h1")
    view.states.take("h2", StoredEntry(2, state("h2"), now))
    assert view.age("h1") == pytest.approx(60, abs=5)
    clock[0] += 40
    assert not view.is_fresh("h1"), "time passes, though nothing is heard"
    view.states.take("h1", StoredEntry(3, state("h1"), now + 40))
    assert view.is_fresh("h1")
    view.states.begins()  # servers that were restored have an older state
    view.states.take("h1", StoredEntry(1, state("h1"), now - 60))
    view.states.complete()
    assert not view.is_fresh("h1")


def test_a_wrong_time_of_the_servers_counts_until_the_next_report_only() -> None:
    view, now = FleetView(), time.time()
    view.members.records["h1"] = (1, Member(group="g"))
    view.states.complete()
    view.states.take("h1", StoredEntry(1, state("h1"), now + 3 * 86_400))
    view.states.take("h2", StoredEntry(2, state("h2"), -1e9))
    view.states.take("h1", StoredEntry(3, state("h1"), now))
    assert view.newest == now
    assert view.is_fresh("h1")
    assert "h2" not in view.states.set_at


def test_a_watch_that_is_cancelled_while_the_servers_answer_ends() -> None:
    running: list[asyncio.Task[Any]] = []

    class Late(Sender):
        async def add_consumer(self, stream: str, config: Any, timeout: float) -> None:
            self.made += 1
            running[0].cancel()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:  # as `asyncio.wait_for` forgets one that comes together with the answer
                return

    async def work() -> None:
        running.append(asyncio.create_task(Store(cast(Any, Late(last=1))).watch(Told())))
        await asyncio.wait(running, timeout=5)
        assert running[0].cancelled()

    asyncio.run(work())
