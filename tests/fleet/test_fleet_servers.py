"""A fleet with three servers continues if one server fails."""

import asyncio
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from fleet_world import LOG, START_SECONDS, need_a_server, patiently
from nats_servers import NatsServers

from mom_plugins_fleet import accounts
from mom_plugins_fleet.accounts import USER, FleetRoot, give, new_seed, resolver
from mom_plugins_fleet.buckets import ROSTER, STATES, Bucket
from mom_plugins_fleet.client import Access
from mom_plugins_fleet.link import LinkError, Store, linked
from mom_plugins_fleet.records import HostState, Member
from mom_plugins_fleet.signatures import Signer, next_revision

pytestmark = pytest.mark.waits


@pytest.fixture(autouse=True)
def tries_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the wait for servers that choose a leader and do not answer."""
    monkeypatch.setattr("mom_plugins_fleet.link.ANSWER_SECONDS", 1.0)


@pytest.fixture
def three(tmp_path: Path) -> Iterator[NatsServers]:
    need_a_server()
    with NatsServers(tmp_path, 3) as servers:
        yield servers


async def made(store: Store, numbers: range) -> None:
    """Enter hosts, once the servers have found each other."""
    await patiently(lambda: store.make(3))
    for number in numbers:
        await patiently(partial(store.put, ROSTER, f"h{number}", Member(group="g").packed()))


def test_with_one_of_three_servers_hanging_everything_can_be_read(three: NatsServers) -> None:
    async def work() -> None:
        async with linked(Access(three.urls[:1]), "operator", LOG, patient=True) as store:
            await made(store, range(5))
            three.freeze(2)
            await patiently(lambda: store.put(ROSTER, "h5", Member(group="g").packed()))  # the bucket gets another leader
            for _ in range(4):
                await store.load(members := Bucket(Member))
                assert len(members.records) == 6

    asyncio.run(asyncio.wait_for(work(), 4 * START_SECONDS))


def test_what_a_server_has_that_was_away_is_not_taken_for_all_that_there_is(three: NatsServers) -> None:
    """A server answers before the remaining two have chosen a leader. Its answer would be an incomplete fleet."""

    async def put(numbers: range) -> None:
        async with linked(Access(three.urls[:1]), "operator", LOG, patient=True) as store:
            await made(store, numbers)

    async def work() -> None:
        await put(range(2))
        three.kill(2)
        await put(range(2, 40))
        three.start(2)
        await asyncio.sleep(0.05)
        three.kill(0)
        found: list[int] = []
        async with linked(Access([three.urls[2], three.urls[1]]), "operator", LOG, patient=True) as store:
            while len(found) < 4:
                await patiently(lambda: _loaded(store, found))
        assert found == [40] * 4

    asyncio.run(asyncio.wait_for(work(), 4 * START_SECONDS))


async def _loaded(store: Store, found: list[int]) -> None:
    await store.load(members := Bucket(Member))
    found.append(len(members.records))


class AccountServers(NatsServers):
    """Three servers of a fleet, and its operator."""

    def __init__(self, folder: Path) -> None:
        FleetRoot.make(folder / "root.key")
        self.root = FleetRoot(folder / "root.key")
        super().__init__(folder, 3, lambda number: resolver(folder / f"accounts{number}") + self.root.server_config())
        seed = new_seed(USER)
        self.signer = Signer(seed)
        self._operator = self.root.operator(self.signer.public)

    def operator(self, *numbers: int) -> Access:
        return Access([self.urls[number] for number in numbers], None, self._operator)

    async def enroll(self, host: str, group: str, *, asked: int) -> str:
        """Enroll a host at one server."""
        issued = next_revision(0)
        async with linked(Access([self.urls[asked]], None, self.root.system_user()), "root", LOG, patient=True) as store:
            await patiently(lambda: give(store, self.root.host_account(host, group, issued, issued)))
        async with linked(self.operator(asked), "operator", LOG, patient=True) as store:
            record = self.signer.signed(host, Member(group=group, key_issued=issued), 1)
            await patiently(lambda: store.put(ROSTER, host, record))
        return self.root.host_credentials(host, issued)

    async def lets_in(self, credentials: str, host: str, *, asked: int) -> bool:
        """Return whether the server admits the host, and the host has read its entry and reported its state."""
        try:
            async with linked(Access([self.urls[asked]], None, credentials), host, LOG, patient=False) as store:
                await store.put(STATES, host, HostState(mode="enforce", problems=asked).packed())
                return (await store.read(ROSTER, host)).data is not None  # a restarted server may not have the entry yet
        except LinkError:
            return False

    async def is_let_in(self, credentials: str, host: str, *asked: int, so: bool = True) -> None:
        """Wait until these servers admit the host, or no longer do."""
        ends = time.monotonic() + START_SECONDS
        for number in asked:
            while await self.lets_in(credentials, host, asked=number) is not so:
                assert time.monotonic() < ends, f"server {number} lets {host} in: {not so}"
                await asyncio.sleep(0.2)


def test_hosts_are_let_in_and_put_out_while_a_server_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need_a_server()
    monkeypatch.setattr(accounts, "SYNC_SECONDS", 2)
    servers = AccountServers(tmp_path)

    async def work() -> None:
        async with linked(servers.operator(0), "operator", LOG, patient=True) as store:
            await patiently(lambda: store.make(3))
        leaves, stays = [await servers.enroll(host, "g1", asked=0) for host in ("h0", "h1")]
        await servers.is_let_in(leaves, "h0", 0, 1, 2)
        await servers.is_let_in(stays, "h1", 2)
        servers.kill(2)
        later = await servers.enroll("h2", "g1", asked=0)
        await servers.is_let_in(later, "h2", 0, 1)
        async with linked(Access(servers.urls[:1], None, servers.root.system_user()), "root", LOG, patient=True) as store:
            await patiently(lambda: give(store, servers.root.ended("h0", next_revision(0))))
        servers.start(2)
        for credentials, host in ((stays, "h1"), (later, "h2")):
            await servers.is_let_in(credentials, host, 2)
        await servers.is_let_in(leaves, "h0", 2, so=False)
        await asyncio.sleep(2 * accounts.SYNC_SECONDS)
        back = [number for number in range(3) if await servers.lets_in(leaves, "h0", asked=number)]
        assert not back, "and the server that was away gives the account back to none"

    with servers:
        asyncio.run(asyncio.wait_for(work(), 4 * START_SECONDS))
