"""What one host or one lost answer can do to the coordinator of all: nothing that lasts."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import pytest
from nats.aio.subscription import Subscription

from mom_core import MomError
from mom_plugins_fleet.agent import FleetAgent
from mom_plugins_fleet.coordinator import Coordinator
from mom_plugins_fleet.link import Access, ConflictError, LinkError, Store, StoredEntry
from mom_plugins_fleet.records import FLEET_POLICY, LARGEST_RECORD, Group, HostState, Lease, Member, Move, MoveState, Orders
from mom_plugins_fleet.subjects import COORDINATOR, GROUPS, LEASES, ORDERS, ROSTER
from mom_toolkit import Destination

LOG = logging.getLogger("test")


class Heard(Subscription):
    """Counts those that still listen."""

    def __init__(self, listeners: list[Heard]) -> None:
        self.listeners = listeners
        listeners.append(self)

    async def unsubscribe(self, limit: int = 0) -> None:
        self.listeners.remove(self)


class Memory(Store):
    """The buckets in a dictionary."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], StoredEntry] = {}
        self.revision = 0
        self.listeners: list[Heard] = []
        self.hears = 99

    async def read(self, bucket: str, key: str) -> StoredEntry:
        return self.kept.get((bucket, key), StoredEntry(0, None))

    async def put(self, bucket: str, key: str, data: bytes, revision: int | None = None) -> int:
        return self._set(bucket, key, data, revision)

    async def remove(self, bucket: str, key: str, revision: int | None = None) -> None:
        self._set(bucket, key, None, revision)

    def _set(self, bucket: str, key: str, data: bytes | None, revision: int | None) -> int:
        if revision not in (None, self.kept.get((bucket, key), StoredEntry(0, None)).revision):
            raise ConflictError("another client was faster")
        self.revision += 1
        self.kept[bucket, key] = StoredEntry(self.revision, data)
        return self.revision

    async def load(self, bucket: str) -> Mapping[str, StoredEntry]:
        return {key: kept for (name, key), kept in self.kept.items() if name == bucket and kept.data is not None}

    async def hear(self, bucket: str, keys: str, heard: Callable[[str, StoredEntry], Awaitable[None]]) -> Subscription:
        self.hears -= 1
        if self.hears < 0:
            raise LinkError("no answer")
        return Heard(self.listeners)


def coordinator() -> Coordinator:
    return Coordinator(Access(["nats://localhost:1"]), "c1", LOG)


def _never(_group: str, _revision: int, _record: Group) -> None:
    raise MomError("never asked")


def an_agent(
    access: Access,
    adopt: Callable[[str, int, Group], None] = _never,
    remembered: Callable[[], tuple[str, int, Group] | None] = lambda: None,
    state: Callable[[], HostState | None] = lambda: None,
) -> FleetAgent:
    return FleetAgent(access, "h1", 1.0, LOG, adopt=adopt, remembered=remembered, state=state, accepts=lambda _: "", wake=lambda _: None)


def until(so: Callable[[], bool]) -> None:
    """Wait for that, for as long as a busy machine may take."""
    ends = time.monotonic() + 60
    while not so() and time.monotonic() < ends:
        time.sleep(0.01)


def test_a_host_that_writes_an_epoch_of_its_own_does_not_end_the_work_for_all() -> None:
    async def work() -> None:
        store, one = Memory(), coordinator()
        invented = Move(
            guest="a", name="a", to="h2", destination=Destination.parse("qemu+tls://h2/system"), takes=1, number=1, state=MoveState.ACCEPTED
        )
        await store.put(ROSTER, "h1", Member(group="g").packed())
        await store.put(ORDERS, "h1", Orders(epoch=10**12, moves=(invented,)).packed())
        assert await one._acquire(store)
        await one.view.load(store)
        await one._fence(store)
        assert one.works
        kept = await store.read(ORDERS, "h1")
        assert kept.data is not None
        assert Orders.model_validate_json(kept.data) == Orders(epoch=one.epoch)

    asyncio.run(work())


def test_a_host_that_fills_its_orders_does_not_end_the_work_for_all() -> None:
    def filled(error: str) -> Orders:
        return Orders(
            moves=(Move(guest="a", name="a", to="h2", destination=Destination.parse("qemu://h2/system"), takes=1, number=1, error=error),)
        )

    async def work() -> None:
        store, one = Memory(), coordinator()
        await store.put(ROSTER, "h1", Member(group="g", draining=True).packed())
        await store.put(ROSTER, "h2", Member(group="g").packed())
        full = filled("x" * (1 + LARGEST_RECORD - len(filled("x").packed())))
        await store.put(ORDERS, "h1", full.packed())  # with the coordinator's epoch, that is too large
        await store.put(ORDERS, "h2", Orders().packed())
        assert await one._acquire(store)
        await one.view.load(store)
        await one._fence(store)
        for host in ("h1", "h2"):
            kept = await store.read(ORDERS, host)
            assert kept.data is not None
            assert Orders.model_validate_json(kept.data) == Orders(epoch=one.epoch)

    asyncio.run(work())


def test_a_coordinator_that_was_replaced_stops_when_it_sees_a_later_epoch() -> None:
    async def work() -> None:
        store, one = Memory(), coordinator()
        assert await one._acquire(store)
        later = await store.put(LEASES, COORDINATOR, Lease(holder="c2").packed())
        await store.put(ORDERS, "h1", Orders(epoch=later).packed())
        await one._change(store, "h1", lambda _: Orders(epoch=one.epoch))
        assert not one.works
        kept = await store.read(ORDERS, "h1")
        assert kept.data is not None
        assert Orders.model_validate_json(kept.data).epoch == later

    asyncio.run(work())


def test_a_coordinator_that_ends_takes_nobody_elses_lease_away() -> None:
    async def work() -> None:
        store, one = Memory(), coordinator()
        working = asyncio.create_task(one._work_if_alone(store))
        await asyncio.sleep(0.05)
        taken = StoredEntry(await store.put(LEASES, COORDINATOR, Lease(holder="c2").packed()), Lease(holder="c2").packed())
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
        assert await store.read(LEASES, COORDINATOR) == taken
        assert store.listeners == []

    asyncio.run(work())


def test_a_coordinator_that_cannot_listen_leaves_no_listener_and_no_lease() -> None:
    async def work() -> None:
        store, one = Memory(), coordinator()
        store.hears = 1
        with pytest.raises(LinkError):
            await one._work_if_alone(store)
        assert store.listeners == []
        assert (await store.read(LEASES, COORDINATOR)).data is None

    asyncio.run(work())


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (None, "own.key cannot be read"),
        ("SUAB", "own.key holds no NKEY seed"),
        ("SU!!" * 14, "own.key holds no NKEY seed"),
        ("SU" + "A" * 80, "own.key holds no NKEY seed"),
    ],
)
def test_a_host_whose_key_cannot_be_used_says_so_and_goes_on(tmp_path: Path, key: str | None, said: str) -> None:
    path = tmp_path / "own.key"
    if key is not None:
        path.touch(0o600)
        path.write_text(key)
    agent = an_agent(Access(["nats://localhost:1"], None, path))
    agent.start()
    until(lambda: bool(agent.trouble) or not agent._thread.is_alive())
    assert said in agent.trouble
    assert agent._thread.is_alive()
    agent.close()
    until(lambda: not agent._thread.is_alive())
    assert not agent._thread.is_alive()


def test_a_name_with_a_line_end_is_no_name() -> None:
    assert FLEET_POLICY.match("60_fleet_a")
    assert not FLEET_POLICY.match("60_fleet_a\n")


def test_a_record_whose_adoption_hangs_is_refused_in_time_and_not_begun_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mom_plugins_fleet.agent.ADOPT_SECONDS", 0.1)
    begun: list[int] = []
    goes_on = threading.Event()

    def adopt(_group: str, revision: int, _record: Group) -> None:
        begun.append(revision)
        goes_on.wait(120)

    agent = an_agent(Access(["nats://localhost:1"]), adopt)

    async def work() -> None:
        store = Memory()
        await store.put(GROUPS, "g", Group().packed())
        try:
            for _ in range(2):
                await asyncio.wait_for(agent._take_group(store, "g"), 60)
                assert agent.taken is not None
                assert agent.taken.refused
        finally:
            goes_on.set()
        monkeypatch.setattr("mom_plugins_fleet.agent.ADOPT_SECONDS", 60.0)
        while agent.taken is None or agent.taken.refused:  # until the one that hung has come to its end
            await asyncio.sleep(0.01)
            await agent._take_group(store, "g")

    asyncio.run(asyncio.wait_for(work(), 120))
    assert begun == [1, 1]


def test_an_agent_ends_though_an_adoption_hangs() -> None:
    goes_on, hangs = threading.Event(), threading.Event()

    def adopt(_group: str, _revision: int, _record: Group) -> None:
        hangs.set()
        goes_on.wait(120)

    agent = an_agent(Access(["nats://localhost:1"]), adopt, remembered=lambda: ("g", 1, Group()))
    agent.start()
    assert hangs.wait(60)
    agent.close()
    try:
        until(lambda: not agent._thread.is_alive())
        assert not agent._thread.is_alive()
    finally:
        goes_on.set()


def test_a_mistake_in_the_agent_is_said_and_does_not_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = an_agent(Access(["nats://localhost:1"]))
    mistakes = iter([KeyError("nobody"), KeyError("again")])
    monkeypatch.setattr("mom_plugins_fleet.agent.AGAIN_SECONDS", 0.01)

    async def belong(_dirty: asyncio.Event) -> None:
        raise next(mistakes, MomError("all is as it should be"))

    monkeypatch.setattr(agent, "_belong", belong)
    agent.start()
    until(lambda: agent.trouble == "all is as it should be")
    assert agent.trouble == "all is as it should be"
    agent.close()


def test_a_host_that_is_too_large_for_a_message_says_so(caplog: pytest.LogCaptureFixture) -> None:
    large = HostState(host="h1", mom="0", mode="enforce", refused="x" * LARGEST_RECORD)
    agent = an_agent(Access(["nats://localhost:1"]), state=lambda: large)

    async def work() -> None:
        telling = asyncio.create_task(agent._tell(Memory()))
        while "cannot be told" not in caplog.text:
            await asyncio.sleep(0.01)
        telling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await telling

    asyncio.run(asyncio.wait_for(work(), 60))
    assert "what this host is cannot be told to the fleet: a record of" in caplog.text


def test_a_host_that_never_reached_its_servers_says_why() -> None:
    agent = an_agent(Access(["nats://localhost:1"]))
    agent.start()
    until(lambda: bool(agent.trouble))
    assert agent.trouble.startswith("the fleet's servers cannot be reached: ")
    assert not agent.connected
    agent.close()


def test_a_coordinator_that_never_reached_its_servers_says_why(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        running = asyncio.create_task(coordinator().run())
        while "cannot be reached" not in caplog.text:
            await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(asyncio.wait_for(work(), 60))


def test_orders_that_are_older_than_what_a_host_has_seen_are_not_followed_and_that_is_said() -> None:
    agent = an_agent(Access(["nats://localhost:1"]))

    async def work() -> None:
        store = Memory()
        await store.put(ORDERS, "h1", Orders(epoch=5).packed())
        await agent._take_orders(store, Member(group="g1", draining=True))
        await store.put(
            ORDERS,
            "h1",
            Orders(
                epoch=3, moves=(Move(guest="a", name="a", to="h2", destination=Destination.parse("qemu://h2/system"), takes=1, number=1),)
            ).packed(),
        )
        with pytest.raises(LinkError, match="of epoch 3, and it has had some of epoch 5"):
            await agent._take_orders(store, Member(group="g1", draining=True))
        assert agent.moves() == {}

    asyncio.run(work())
