"""A coordinator's view of the fleet. After any fault, it soon equals the server's content."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from fleet_world import LOG, need_a_server, patiently
from nats_servers import NatsServers

from mom_plugins_fleet.buckets import ORDERS, ROSTER, STATES
from mom_plugins_fleet.client import Access
from mom_plugins_fleet.link import Store, linked
from mom_plugins_fleet.records import HostState, Member, Orders
from mom_plugins_fleet.signatures import Signer
from mom_plugins_fleet.view import FleetView

WAIT_SECONDS = 60.0
pytestmark = pytest.mark.anyio
OPERATOR = Signer("SUAKYRHVIOREXV7EUZTBHUHL7NUMHPMAS7QMDU3GTIUWEI5LDNOXD43IZY")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServers]:
    need_a_server()
    with NatsServers(tmp_path) as one:
        yield one


class Fleet:
    """View of a fleet, and another client that changes entries."""

    def __init__(self, server: NatsServers, view: FleetView, store: Store, said: list[str]) -> None:
        self.server, self.view, self.store, self.said = server, view, store, said

    async def tell(self, host: str, available: int) -> None:
        state = HostState(mode="enforce", available=available)
        await patiently(lambda: self.store.put(STATES, host, state.packed()), WAIT_SECONDS)

    def knows(self, host: str) -> int | None:
        state = self.view.states.get(host)
        return None if state is None else state.available

    async def until(self, so: Callable[[], object]) -> float:
        began = time.monotonic()
        while not so():
            assert time.monotonic() - began < WAIT_SECONDS, (self.said, self.view.states)
            await asyncio.sleep(0.01)
        return time.monotonic() - began


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def fleet(server: NatsServers) -> AsyncIterator[Fleet]:
    """Run a function while a view follows the server."""
    view, said = FleetView(frozenset({OPERATOR.public})), list[str]()
    access = Access(server.urls)
    async with linked(access, "writer", LOG, patient=True) as store, linked(access, "coordinator", LOG, patient=True) as own:
        await store.make(1)
        following = asyncio.create_task(view.follow(own, said.append))
        try:
            one = Fleet(server, view, store, said)
            await one.until(lambda: view.current)
            yield one
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


async def test_a_change_is_seen_at_once_and_a_host_that_is_taken_out_is_gone(fleet):
    await fleet.store.put(ROSTER, "h1", OPERATOR.signed("h1", Member(group="g"), 1))
    await fleet.tell("h1", 1)
    await fleet.until(lambda: fleet.view.is_fresh("h1"))
    await fleet.tell("h1", 2)
    assert await fleet.until(lambda: fleet.knows("h1") == 2) < 1
    await fleet.store.remove(STATES, "h1")
    await fleet.store.remove(ROSTER, "h1")
    await fleet.until(lambda: not fleet.view.members.records and not fleet.view.states.records)


@pytest.mark.parametrize("how", ["it is killed", "it hangs"])
async def test_a_server_that_is_gone_for_a_while_is_missed_and_followed_again_and_no_change_is_missed(fleet, server, how):
    for number in range(20):
        await fleet.tell(f"h{number}", 1)
    await fleet.until(lambda: len(fleet.view.states.records) == 20)
    leave, come = (server.kill, server.start) if how == "it is killed" else (server.freeze, server.thaw)
    leave()
    try:
        await fleet.until(lambda: not fleet.view.current)
    finally:
        come()
    await fleet.tell("h7", 7)
    await patiently(lambda: fleet.store.remove(STATES, "h8"), WAIT_SECONDS)
    await fleet.until(lambda: fleet.view.current and fleet.knows("h7") == 7 and fleet.knows("h8") is None)
    assert len(fleet.view.states.records) == 19
    assert fleet.said


async def test_servers_that_are_set_up_anew_and_empty_are_believed_and_what_was_signed_earlier_is_not(fleet, server):
    old = OPERATOR.signed("h1", Orders(epoch=1), 5)
    for _ in range(30):
        await fleet.tell("h1", 1)
    await fleet.store.put(ORDERS, "h1", old)
    await fleet.store.put(ORDERS, "h1", OPERATOR.signed("h1", Orders(epoch=2), 6))
    await fleet.until(lambda: fleet.knows("h1") == 1 and fleet.view.orders.get("h1") == Orders(epoch=2))
    server.kill()
    server.forget()
    server.start()
    await patiently(lambda: fleet.store.make(1), WAIT_SECONDS)
    await fleet.tell("h2", 2)  # a smaller revision than before
    await fleet.store.put(ORDERS, "h1", old)
    await fleet.until(lambda: fleet.view.current and fleet.knows("h2") == 2)
    assert fleet.knows("h1") is None
    await fleet.until(lambda: "older than revision 6" in fleet.view.orders.damaged.get("h1", ""))
    assert fleet.view.orders.get("h1") is None
