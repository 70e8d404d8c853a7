"""One faulty host or lost answer has no lasting effect on the coordinator."""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import nkeys  # type: ignore[import-untyped]  # it has no types
import pytest
from memory_store import Memory

from mom_core import PluginContext, StateError, StateFile
from mom_devkit import wait_until
from mom_kvm import Destination
from mom_plugins_fleet.buckets import AUTHORIZED, COORDINATOR, COORDINATORS, GROUPS, LEASES, ORDERS, ROSTER, STATES
from mom_plugins_fleet.client import Access
from mom_plugins_fleet.coordinator.coordinator import Coordinator
from mom_plugins_fleet.host.agent import FleetAgent
from mom_plugins_fleet.host.group_policies import GroupPolicies
from mom_plugins_fleet.host.orders import HostOrders
from mom_plugins_fleet.link import LinkError, Store
from mom_plugins_fleet.records import (
    LARGEST_RECORD,
    AuthorizedKeys,
    FleetRecord,
    Group,
    HostedGuest,
    HostState,
    Member,
    Move,
    MoverState,
    MoveState,
    Orders,
)
from mom_plugins_fleet.signatures import FORM, Opened, SeenRevisions, Signer, opened
from mom_plugins_fleet.view import ended

LOG = logging.getLogger("test")

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def new_signer() -> Signer:
    return Signer(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER).decode())


OPERATOR, THIEF = new_signer(), new_signer()


def coordinator(signer: Signer = OPERATOR) -> Coordinator:
    return Coordinator(Access(["nats://localhost:1"]), "c1", LOG, signer, [OPERATOR.public])


@asynccontextmanager
async def following(c1: Coordinator, store: Memory) -> AsyncIterator[None]:
    """Run the coordinator's view."""
    task = asyncio.create_task(c1.view.follow(store, lambda _: None))
    try:
        await asyncio.sleep(0.01)
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert store.watchers == []


class Applied(GroupPolicies):
    """Policies of a group that run a test's function, and record revisions."""

    def __init__(
        self, apply: Callable[[], object] = lambda: None, last: Callable[[], tuple[str, Opened[Group]] | None] = lambda: None
    ) -> None:
        super().__init__(PluginContext(name="fleet"), [OPERATOR.public])
        self._do, self._last, self.revisions = apply, last, list[int]()

    def apply(self, group: str, opened: Opened[Group], data: bytes | None) -> None:
        self.revisions.append(opened.revision)
        self._do()

    def remembered(self) -> tuple[str, Opened[Group]] | None:
        return self._last()


def an_agent(
    key: Path | None = None,
    *,
    group: Applied | None = None,
    operators: Collection[str] = (OPERATOR.public,),
    state: Callable[[], HostState | None] = lambda: None,
    accepts: Callable[[Move], str | None] = lambda _: "",
    wake: Callable[[str], None] = lambda _: None,
) -> FleetAgent:
    """Return the agent of host h1, by default on a host without any state."""
    access, revisions = Access(["nats://localhost:1"], None, key), SeenRevisions()
    orders = HostOrders("h1", operators, revisions, LOG, accepts, wake)
    return FleetAgent(access, "h1", LOG, revisions=revisions, group=group or Applied(), orders=orders, state=state)


@pytest.fixture
def store() -> Memory:
    return Memory()


@pytest.fixture
def c1() -> Coordinator:
    return coordinator()


@pytest.fixture
def agent() -> FleetAgent:
    """Return an agent that accepts every move."""
    return an_agent()


def orders_of(store: Memory, host: str) -> Orders:
    return opened(Orders, host, store.kept[ORDERS, host].data or b"", [OPERATOR.public]).record


async def drained(store: Memory, c1: Coordinator) -> None:
    """Run the coordinator until guest a of host h1 can move to two other hosts."""
    await store.put(ROSTER, "h1", OPERATOR.signed("h1", Member(group="g", draining=True), 1))
    for host in ("h2", "h3"):
        there = Member(group="g", address=Destination.parse(f"qemu+tls://{host}/system"))
        await store.put(ROSTER, host, OPERATOR.signed(host, there, 1))
    assert await c1.acquire(store)
    await c1.view.load(store)
    for host in ("h1", "h2", "h3"):
        guests = (HostedGuest(id="a", name="a", maximum=10),) if host == "h1" else ()
        c1.view.states.records[host] = (1, HostState(mode="enforce", total=200, available=150, guests=guests))
        c1.view.states.set_at[host] = c1.view.states.newest = time.time()


MOVE = Move(guest="a", name="a", to="h2", destination=Destination.parse("qemu+tls://h2/system"), takes=1, number=1, order=5)


@pytest.mark.parametrize(
    "invented",
    [
        Orders(epoch=10**12, moves=(MOVE,)).packed(),
        THIEF.signed("h1", Orders(epoch=10**12, moves=(MOVE,)), 1 << 61),
        OPERATOR.signed("h2", Orders(epoch=1, moves=(MOVE,)), 1 << 61),
        b"x" * LARGEST_RECORD,
    ],
)
@pytest.mark.parametrize("leaves", ["draining", "balance"])
async def test_orders_that_no_coordinator_has_signed_are_made_anew(invented, leaves, store, c1):
    await store.put(ROSTER, "h1", OPERATOR.signed("h1", Member.model_validate({"group": "g", leaves: True}), 1))
    await store.put(ORDERS, "h1", invented)
    assert await c1.acquire(store)
    await c1.view.load(store)
    await c1.fence(store)
    assert c1.is_active
    assert orders_of(store, "h1") == Orders(epoch=c1.epoch)


async def test_moves_under_way_are_not_forgotten_where_the_servers_have_lost_the_newest_leases(store, c1):
    await store.put(ROSTER, "h1", OPERATOR.signed("h1", Member(group="g", draining=True), 1))
    came = ended(MOVE.model_copy(update={"guest": "b"}), MoveState.DONE, time.time())
    await store.put(ORDERS, "h1", OPERATOR.signed("h1", Orders(epoch=10**6, moves=(MOVE,), finished=(came,)), 5))
    assert await c1.acquire(store)
    await c1.view.load(store)
    await c1.fence(store)
    assert c1.is_active
    assert orders_of(store, "h1") == Orders(epoch=c1.epoch, moves=(MOVE,), finished=(came,))


async def test_a_coordinator_works_only_while_an_operator_authorizes_it(monkeypatch):
    monkeypatch.setattr("mom_plugins_fleet.coordinator.coordinator.LOOK_SECONDS", 0.01)
    store, c1 = Memory(), coordinator(THIEF)
    await store.put(AUTHORIZED, COORDINATORS, THIEF.signed(COORDINATORS, AuthorizedKeys(keys=(THIEF.public,)), 1))
    async with following(c1, store):
        with pytest.raises(LinkError, match="`mom fleet authorize U"):
            await c1.work(store)
        assert (await store.read(LEASES, COORDINATOR)).data is None
        await store.put(AUTHORIZED, COORDINATORS, OPERATOR.signed(COORDINATORS, AuthorizedKeys(keys=(THIEF.public,)), 2))
        working = asyncio.create_task(c1.work(store))
        while not c1.is_active:
            await asyncio.sleep(0.01)
        await store.put(AUTHORIZED, COORDINATORS, OPERATOR.signed(COORDINATORS, AuthorizedKeys(), 3))
        with pytest.raises(LinkError, match="no operator has authorized"):
            await asyncio.wait_for(working, 60)
        assert (await store.read(LEASES, COORDINATOR)).data is None, "another coordinator may work"


@pytest.mark.parametrize(("ahead", "said"), [(92_000.0, "1 d 1 h ahead of"), (-92_000.0, "1 d 1 h behind")])
async def test_a_coordinator_whose_clock_is_off_takes_no_lease(store, c1, ahead, said):
    await store.put(STATES, "h1", HostState(mode="enforce").packed())
    store.kept[STATES, "h1"] = replace(store.kept[STATES, "h1"], at=time.time() - ahead)
    async with following(c1, store):
        with pytest.raises(LinkError, match=f"the clock here is {said} the newest report"):
            await asyncio.wait_for(c1.work(store), 5)
    assert (await store.read(LEASES, COORDINATOR)).data is None


async def test_a_coordinator_that_was_replaced_stops_when_it_sees_a_later_epoch(store, c1):
    assert await c1.acquire(store)
    later = await store.put(LEASES, COORDINATOR, b"c2")
    await c1.view.load(store)
    await store.put(ORDERS, "h1", OPERATOR.signed("h1", Orders(epoch=later), 9))
    await c1.change(store, "h1", lambda _: Orders(epoch=c1.epoch))
    assert not c1.is_active
    assert orders_of(store, "h1").epoch == later


async def test_a_lease_is_taken_only_when_it_has_not_been_renewed_for_its_time(monkeypatch, store, c1):
    monkeypatch.setattr("mom_plugins_fleet.coordinator.coordinator.LEASE_SECONDS", 0.05)
    for _ in range(4):
        await store.put(LEASES, COORDINATOR, b"c2")
        assert not await c1.acquire(store)
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.05)
    assert await c1.acquire(store)


async def test_a_coordinator_renews_its_lease_until_another_one_has_it(monkeypatch, caplog, store, c1):
    monkeypatch.setattr("mom_plugins_fleet.coordinator.coordinator.RENEW_SECONDS", 0.01)
    monkeypatch.setattr("mom_plugins_fleet.coordinator.coordinator.LOOK_SECONDS", 0.01)

    async def unanswered(*_: object) -> int:
        raise LinkError("no answer")

    async with following(c1, store):
        working = asyncio.create_task(c1.work(store))
        while not c1.is_active:
            await asyncio.sleep(0.01)
        with monkeypatch.context() as servers:
            servers.setattr(store, "put", unanswered)
            while "the lease could not be renewed: no answer" not in caplog.text:
                await asyncio.sleep(0.01)
        store.set(LEASES, COORDINATOR, b"c2", None)
        await asyncio.wait_for(working, 60)
    assert "the lease is lost" in caplog.text
    assert store.kept[LEASES, COORDINATOR].data == b"c2"


async def until(so: Callable[[], object], work: Coroutine[Any, Any, None]) -> None:
    """Run endless work until a condition holds."""
    running = asyncio.create_task(work)
    while not (so() or running.done()):
        await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


def run_with(c1: Coordinator, store: Memory, monkeypatch: pytest.MonkeyPatch, so: Callable[[], bool]) -> None:
    """Run a coordinator until a condition holds."""

    @asynccontextmanager
    async def linked(*_: object, **__: object) -> AsyncIterator[Store]:
        yield store

    monkeypatch.setattr("mom_plugins_fleet.coordinator.coordinator.linked", linked)
    monkeypatch.setattr("mom_plugins_fleet.coordinator.coordinator.LOOK_SECONDS", 0.01)
    monkeypatch.setattr("mom_plugins_fleet.view.AGAIN_SECONDS", 0.01)

    asyncio.run(asyncio.wait_for(until(so, c1.run()), 60))
    assert store.watchers == []


def test_a_coordinator_that_does_not_know_how_the_fleet_is_lets_another_one_try(monkeypatch, caplog, store, c1):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("mom_plugins_fleet.coordinator.coordinator.BLIND_SECONDS", 0.05)

    def blind() -> bool:
        if c1.is_active and c1.view.current:
            c1.view.states.current = False  # as after the end of its watch
        return "another coordinator may take over" in caplog.text and store.kept[LEASES, COORDINATOR].data is None

    run_with(c1, store, monkeypatch, blind)


def test_a_coordinator_that_does_not_see_all_of_the_fleet_takes_no_lease(monkeypatch, caplog, store, c1):
    store.watches = 4
    run_with(c1, store, monkeypatch, lambda: store.watches < -10)
    assert (LEASES, COORDINATOR) not in store.kept
    assert [record.message for record in caplog.records] == ["no answer"], "and says why, once"


def test_a_coordinator_moves_one_guest_for_balance_at_a_time(monkeypatch, store, c1):
    monkeypatch.setattr("mom_plugins_fleet.coordinator.coordinator.BALANCE_SECONDS", 0.05)
    looked = 0

    def so() -> bool:
        nonlocal looked
        if c1.view.current and not c1.view.states.records:
            for host, guests in (("h1", 6), ("h2", 1)):
                reached = Destination.parse(f"qemu+tls://{host}/system")
                store.set(ROSTER, host, OPERATOR.signed(host, Member(group="g", address=reached, balance=True), 1), None)
                told = tuple(HostedGuest(id=f"{host}-{n}", name=f"{host}-{n}", maximum=10, held=10, working=9) for n in range(guests))
                mover = MoverState(name="m", live=True)
                state = HostState(mode="enforce", total=64, available=64 - 10 * guests, guests=told, mover=mover)
                store.set(STATES, host, state.packed(), None)
        looked += (ORDERS, "h1") in store.kept and bool(orders_of(store, "h1").moves)
        return looked > 20

    run_with(c1, store, monkeypatch, so)
    assert [(move.guest, move.to) for move in orders_of(store, "h1").moves] == [("h1-0", "h2")]


def test_a_host_whose_orders_cannot_be_made_ends_nothing_for_the_others(monkeypatch, caplog, store, c1):
    signed = OPERATOR.signed

    def too_large_for_h1(key: str, record: FleetRecord, revision: int) -> bytes:
        return signed(
            key, Group(policies={"60_fleet_x": "x" * LARGEST_RECORD}) if key == "h1" and isinstance(record, Orders) else record, revision
        )

    for host in ("h1", "h2"):
        asyncio.run(store.put(ROSTER, host, signed(host, Member(group="g", draining=True), 1)))
    monkeypatch.setattr(OPERATOR, "signed", too_large_for_h1)
    looks = 0

    def so() -> bool:
        nonlocal looks
        looks += (ORDERS, "h2") in store.kept
        return looks > 20

    run_with(c1, store, monkeypatch, so)
    assert orders_of(store, "h2").epoch
    assert (ORDERS, "h1") not in store.kept
    assert caplog.text.count("the orders of h1 do not change: a record of") == 1, "and that is said once"


def test_an_agent_goes_on_after_any_error_at_its_start(monkeypatch, caplog):
    errors = iter([StateError("too many open files"), KeyError("nobody"), KeyError("again")])

    def remembered() -> None:
        if (error := next(errors, None)) is not None:
            raise error

    monkeypatch.setattr("mom_plugins_fleet.host.agent.AGAIN_SECONDS", 0.01)
    agent = an_agent(group=Applied(last=remembered))
    agent.start()
    try:
        wait_until(lambda: agent.trouble.startswith("the fleet's servers cannot be reached: "), lambda: agent.trouble)
        assert not agent.connected
    finally:
        agent.close()
    for text in ("too many open files", "the fleet agent failed and restarts", "KeyError: 'again'"):
        assert text in caplog.text


@pytest.mark.parametrize(("key", "said"), [(None, "own.key cannot be read"), ("SU!!" * 14, "own.key contains no NATS credentials")])
def test_a_host_whose_key_cannot_be_used_says_so_and_goes_on(tmp_path, key, said):
    path = tmp_path / "own.key"
    if key is not None:
        path.touch(0o600)
        path.write_text(key)
    agent = an_agent(key=path)
    agent.start()
    wait_until(lambda: bool(agent.trouble))
    assert said in agent.trouble
    agent.close()


async def test_a_host_goes_on_reporting_after_any_error(caplog, monkeypatch):
    monkeypatch.setattr("mom_plugins_fleet.host.agent.PUBLISH_SECONDS", 0.01)

    well = HostState(mode="enforce")
    large = HostState(mode="enforce", memory_state="x" * LARGEST_RECORD)
    states = iter((OSError("the mover is away"), large))

    def state() -> HostState:
        now = next(states, well)
        if isinstance(now, OSError):
            raise now
        return now

    store = Memory()
    await until(lambda: (STATES, "h1") in store.kept, an_agent(state=state).report(store))
    for why in ("OSError: the mover is away", "a record of "):
        assert f"cannot report this host's state to the fleet: {why}" in caplog.text


DRAINED = Member(group="g1", draining=True)


def entry(address: Destination | None = MOVE.destination, group: str = "g1", signer: Signer = OPERATOR, **more: Any) -> dict[str, str]:
    """Return the entry of the destination host in orders."""
    return {"h2": signer.signed("h2", Member(group=group, address=address, **more), 1).decode()}


def with_move(revision: int, *moves: Move) -> bytes:
    return OPERATOR.signed("h1", Orders(epoch=1, moves=moves, entries=entry()), revision)


async def told(agent: FleetAgent, store: Memory, orders: bytes, member: Member = DRAINED) -> dict[str, MoveState]:
    """Return the host's reports on its moves with these orders."""
    await store.put(ROSTER, "h1", OPERATOR.signed("h1", member, 1))
    await store.put(ORDERS, "h1", orders)
    await agent.orders.read(store)
    agent.orders.follow()
    return {step.guest: step.state for step in agent.orders.progress}


async def test_orders_that_vanish_leave_accepted_moves(agent, store):
    await told(agent, store, with_move(5, MOVE))
    await store.remove(ORDERS, "h1")
    await agent.orders.read(store)
    agent.orders.follow()
    assert set(agent.orders.moves()) == {"a"}


async def test_a_move_is_done_once_however_often_its_orders_are_said(agent, store):
    orders = with_move(5, MOVE)
    assert await told(agent, store, orders) == {"a": MoveState.ACCEPTED}
    assert set(agent.orders.moves()) == {"a"}
    agent.finished("a", MoveState.DONE)
    assert await told(agent, store, orders) == {"a": MoveState.DONE}
    for again in (orders, with_move(6, MOVE)):  # the guest may have returned
        assert await told(agent, store, again) == {"a": MoveState.DONE}
        assert agent.orders.moves() == {}
    later = MOVE.model_copy(update={"order": 7})
    assert await told(agent, store, with_move(7, later)) == {"a": MoveState.ACCEPTED}, "and another move of the same guest is another"


async def test_a_host_lets_one_guest_leave_for_balance_at_a_time_whatever_is_ordered(monkeypatch, agent, store):
    moves = tuple(MOVE.model_copy(update={"guest": guest, "name": guest, "balance": True}) for guest in "abc")
    lets = Member(group="g1", balance=True)
    assert await told(agent, store, with_move(1, *moves[:2]), lets) == {"a": MoveState.ACCEPTED, "b": MoveState.FAILED}
    monkeypatch.setattr("mom_plugins_fleet.host.orders.BALANCE_SECONDS", 0.0)
    assert await told(agent, store, with_move(2, moves[0], moves[2]), lets) == {"a": MoveState.ACCEPTED, "c": MoveState.ACCEPTED}


async def test_a_coordinator_knows_after_a_restart_what_was_over_before_it(tmp_path, caplog):
    def started() -> Coordinator:
        revisions = SeenRevisions(StateFile(tmp_path / "kept" / "seen.json", "what was seen", FORM))
        revisions.load()
        return Coordinator(Access(["nats://localhost:1"]), "c1", LOG, OPERATOR, [OPERATOR.public], revisions)

    store, first = Memory(), started()
    old = OPERATOR.signed(COORDINATORS, AuthorizedKeys(keys=(THIEF.public,)), 1)
    for data in (old, OPERATOR.signed(COORDINATORS, AuthorizedKeys(), 2)):
        await store.put(AUTHORIZED, COORDINATORS, data)
        await first.view.load(store)
    first.save()
    await store.put(AUTHORIZED, COORDINATORS, old)
    second = started()
    await second.view.load(store)
    assert second.view.orderers == {OPERATOR.public}, "the coordinator that was removed is not believed again"
    assert "older than revision 2" in second.view.authorized.damaged[COORDINATORS]
    assert not caplog.records
    (tmp_path / "kept" / "seen.json").unlink()
    (tmp_path / "kept").rmdir()
    (tmp_path / "kept").write_text("in the way")
    third = started()
    for _ in range(2):
        await third.view.load(store)
        third.save()
    assert caplog.text.count("may accept outdated records") == 1


@pytest.mark.parametrize("signer", [THIEF, None])
async def test_orders_of_no_coordinator_move_nobody(signer, store, agent):
    orders = Orders(epoch=1, moves=(MOVE,), entries=entry())
    with pytest.raises(LinkError, match="signed"):
        await told(agent, store, orders.packed() if signer is None else signer.signed("h1", orders, 9))
    assert agent.orders.moves() == {}
    assert not agent.orders.progress


async def test_a_coordinator_is_followed_for_as_long_as_it_is_appointed(store, agent):
    orders = Orders(epoch=1, moves=(MOVE,), entries=entry())

    async def authorized(store: Memory, revision: int, *keys: str) -> None:
        await store.put(AUTHORIZED, COORDINATORS, OPERATOR.signed(COORDINATORS, AuthorizedKeys(keys=keys), revision))

    await authorized(store, 1, THIEF.public)
    assert await told(agent, store, THIEF.signed("h1", orders, 9)) == {"a": MoveState.ACCEPTED}
    await authorized(store, 2)
    with pytest.raises(LinkError, match="which is not trusted"):
        await told(agent, store, THIEF.signed("h1", orders, 10))
    await authorized(store, 1, THIEF.public)
    with pytest.raises(LinkError, match="its revision 1 is older than revision 2"):
        await told(agent, store, THIEF.signed("h1", orders, 10))


@pytest.mark.parametrize(
    ("member", "entries", "why"),
    [
        (Member(group="g1"), entry(), "the host is not drained"),
        (DRAINED, {}, "it is not signed"),
        (DRAINED, entry(signer=THIEF), "which is not trusted"),
        (DRAINED, entry(Destination.parse("qemu+tls://other/system")), "the entry of h2 has a different address than the order"),
        (DRAINED, entry(None), "the entry of h2 has a different address than the order"),
        (DRAINED, entry(group="g2"), "no operator allows guests of this host to move to h2"),
        (DRAINED, entry(cordoned=True), "no operator allows guests of this host to move to h2"),
        (DRAINED, entry(removed=True), "no operator allows guests of this host to move to h2"),
    ],
)
async def test_a_stolen_key_of_a_coordinator_sends_guests_nowhere_but_where_an_operator_has_said(member, entries, why, agent, store):
    orders = OPERATOR.signed("h1", Orders(epoch=1, moves=(MOVE,), entries=entries), 5)
    assert await told(agent, store, orders, member) == {"a": MoveState.FAILED}
    assert [why in step.error for step in agent.orders.progress] == [True]
    assert agent.orders.moves() == {}


async def test_a_plugin_that_fails_with_the_groups_policies_leaves_the_host_in_its_fleet(store):
    def fails() -> None:
        raise RecursionError("too deep")

    group = Applied(fails, lambda: ("g", Opened(Group(), 4, OPERATOR.public)))
    agent = an_agent(group=group)
    agent.start()
    wait_until(lambda: "RecursionError: too deep" in agent.trouble, lambda: agent.trouble)
    agent.close()
    group = Applied(fails)
    await store.put(GROUPS, "g", OPERATOR.signed("g", Group(), 4))
    await group.follow(store, "g", SeenRevisions())
    assert "RecursionError" in group.reported().refused


async def test_a_group_that_a_server_hides_or_invents_leaves_what_is_in_force(store):
    group, revisions = Applied(), SeenRevisions()
    await store.put(GROUPS, "g", OPERATOR.signed("g", Group(), 4))
    await group.follow(store, "g", revisions)
    await store.remove(GROUPS, "g")
    await group.follow(store, "g", revisions)
    assert group.reported().revision == 4
    for invented in (Group().packed(), THIEF.signed("g", Group(), 9), OPERATOR.signed("g", Group(), 3)):
        await store.put(GROUPS, "g", invented)
        await group.follow(store, "g", revisions)
        assert group.reported().refused
    assert group.revisions == [4]


async def test_a_host_without_operators_follows_nothing_and_says_so(store):
    agent = an_agent(operators=())
    await store.put(ROSTER, "h1", OPERATOR.signed("h1", Member(group="g"), 1))
    await until(lambda: agent.trouble, agent.follow(store))
    assert "which is not trusted (list an operator's key in `operators`" in agent.trouble
