"""Random events of a fleet in virtual time.

No host gets more than it can hold, no guest moves against the operator's orders, and all moves end.

Coordinators, agents and plugins are real, on one loop with a virtual clock. Servers, links, hypervisors and engines are simulated.
"""

import asyncio
import json
import logging
import random
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import nkeys  # type: ignore[import-untyped]  # it has no types
import pytest
from fake_moves import DOING, FakeMoves
from made_servers import EPOCH, Link, MadeClock, Servers

from mom_core import Guest, Host, Outcome, PluginContext, Report, Snapshot, StateFile, Status, Verdict
from mom_kvm import Destination, GuestMoves, MoverAbilities
from mom_plugins_fleet.buckets import ORDERS, ROSTER
from mom_plugins_fleet.client import Access
from mom_plugins_fleet.coordinator import coordinator
from mom_plugins_fleet.host import agent
from mom_plugins_fleet.link import Store
from mom_plugins_fleet.plugin import FleetPlugin
from mom_plugins_fleet.records import Member
from mom_plugins_fleet.signatures import FORM, SeenRevisions, Signer
from mom_plugins_fleet.verbs.status import planned
from mom_plugins_fleet.view import FleetView

HOSTS, COORDINATORS = ("h1", "h2", "h3", "h4", "h5"), ("c1", "c2")
GIB, HOST_GIB, RESERVE_GIB = 1 << 20, 64, 6.4
WHO = ContextVar("who", default="")  # name of the running process

STEPS = ["drain", "drain", "uncordon", "brief-drain", "brief-drain", "stop-mom", "start-all", "start-all", "restart-mom"]
STEPS += ["end-coordinator", "cut", "no-servers", "mend", "clock"]


class LiveMoves(FakeMoves):
    def mover(self) -> tuple[str, MoverAbilities]:
        return "simulated", MoverAbilities(live=True)


class World:
    def __init__(self, seed: int, folder: Path, clock: MadeClock) -> None:
        self.servers, self.folder, self.clock = Servers(clock, seed), folder, clock
        self.random = self.servers.random
        self.operator = Signer(nkeys.encode_seed(self.random.randbytes(32), nkeys.PREFIX_BYTE_USER).decode())
        self.signed = self.moved = 0
        self.links = {name: Link(self.servers) for name in (*HOSTS, *COORDINATORS, "operator")}
        self.off = dict.fromkeys(self.links, 0.0)
        """Errors of clocks in seconds."""
        self.guests: dict[str, dict[str, int]] = {host: {} for host in HOSTS}
        """Sizes in GiB, keyed by host and ID."""
        self.moving: dict[str, tuple[str, str, float]] = {}
        """Source, destination and end time of moves, keyed by ID."""
        self.members: dict[str, Member] = {}
        self.ended_at = dict.fromkeys(HOSTS, 0.0)
        self.running: dict[str, asyncio.Task[None]] = {}
        self.wrong: list[str] = []

    def mark(self, host: str, *, draining: bool) -> None:
        if host in self.members and self.members[host].draining and not draining:
            self.ended_at[host] = self.clock.now
        address = Destination.parse(f"qemu+tls://{host}/system")
        self.members[host] = Member(group="g", address=address, draining=draining, cordoned=draining, balance=True)
        self.signed = max(self.signed + 1, int(EPOCH + self.clock.now))
        self.servers.put(ROSTER, host, self.operator.signed(host, self.members[host], self.signed), None)

    async def run(self, name: str, what: Coroutine[Any, Any, None]) -> None:
        """Start a process with this name, and kill the one before."""
        await self.kill(name)
        before = WHO.set(name)
        self.running[name] = asyncio.create_task(what)
        WHO.reset(before)

    async def kill(self, name: str) -> None:
        if name in self.running:
            task = self.running.pop(name)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def seen(self, host: str, number: int) -> Snapshot:
        listed = {}
        for guest, gib in self.guests[host].items():
            sizes = dict.fromkeys(("balloon_cur", "balloon_max", "rss"), gib * GIB) | {"host_swap": 0, "working_set": gib * GIB}
            listed[guest] = Guest(
                guest, guest, {**sizes, DOING: "being moved" if guest in self.moving else ""}, {"name": guest, "uuid": guest}
            )
        available = (HOST_GIB - sum(self.guests[host].values())) * GIB
        memory = {"mem_available": HOST_GIB * GIB, "mem_really_available": available, "swap_usage": 0}
        return Snapshot(host=Host("host", memory), guests=listed, time=time.time(), monotonic=self.clock.now, number=number)

    def begin(self, host: str, guest: str, to: str) -> str:
        """Begin to move a guest. Return why the hypervisor refuses it."""
        size = self.guests[host].get(guest)
        if guest in self.moving or size is None:
            return "it is being moved"
        coming = sum(self.guests[origin][name] for name, (origin, where, _) in self.moving.items() if where == to)
        free = HOST_GIB - sum(self.guests[to].values()) - coming
        stays = not self.members[host].draining and not self.is_for_balance(host, guest)
        if stays and self.links[host].connected and self.clock.now - self.ended_at[host] > 45:
            self.wrong.append(f"{guest} leaves {host}, which is not drained any more")
        if guest in self.guests[to] or size > free - RESERVE_GIB:
            self.wrong.append(f"{to} has {free} GiB and {[*self.guests[to]]}, and gets {guest} of {size} GiB")
        self.moving[guest] = host, to, self.clock.now + size * self.random.choice([0.5, 2.0])
        self.moved += 1
        return ""

    def is_for_balance(self, host: str, guest: str) -> bool:
        """Return whether a guest moves for balance, from a host that is not drained."""
        orders = self.servers.kept[ORDERS, host].data
        assert orders is not None
        moves = json.loads(orders.split(b"\n", 1)[1]).get("moves", ())
        return any(move["guest"] == guest and move.get("balance") for move in moves)

    async def pass_time(self) -> None:
        while True:
            await asyncio.sleep(0.1)
            for guest, (origin, to, ends) in list(self.moving.items()):
                if self.clock.now > ends:
                    del self.moving[guest]
                    self.guests[to][guest] = self.guests[origin].pop(guest)

    async def mom(self, host: str) -> None:
        woken, offers = asyncio.Event(), {GuestMoves: (LiveMoves(),)}
        context = PluginContext(
            "fleet", state_directory=self.folder / host, offers=offers, wake=lambda _: woken.set(), monotonic=time.monotonic
        )
        plugin = FleetPlugin(FleetPlugin.Settings(host=host, operators=[self.operator.public]), context)
        plugin.mom_setup()
        assert plugin.agent is not None
        working = asyncio.create_task(plugin.agent.run())
        try:
            for number in range(1 << 30):
                snapshot = self.seen(host, number)
                await asyncio.sleep(self.random.uniform(0.05, 0.3))
                decisions = list(plugin.mom_act(snapshot))
                refused = [self.begin(host, one.entity.id, Destination.parse(str(one.value)).host) for one in decisions]
                status = [(one, Status.FAILED if why else Status.APPLIED, why) for one, why in zip(decisions, refused, strict=True)]
                outcomes = [Outcome(one, None, one.value, how, why) for one, how, why in status]
                report = Report(number, time.time(), "enforce", snapshot, decisions, (), outcomes, (), (), 0.3, verdict=Verdict([]))
                plugin.mom_report(report)
                woken.clear()
                ends = self.clock.now + 5.0
                while not woken.is_set() and self.clock.now < ends:
                    await asyncio.sleep(0.5)
        finally:
            while not working.done():  # all tasks of a process end with it
                working.cancel()
                await asyncio.sleep(0)

    async def coordinate(self, name: str) -> None:
        revisions = SeenRevisions(StateFile(self.folder / f"{name}.json", "seen", FORM))
        revisions.load()
        log, own = logging.getLogger("test"), self.operator
        await coordinator.Coordinator(Access([]), name, log, own, [own.public], revisions).run()

    async def step(self) -> None:
        pick = self.random.choice
        host, name, what = pick(HOSTS), pick(COORDINATORS), pick(STEPS)
        if what.endswith("drain") and sum(member.draining for member in self.members.values()) < 3:
            self.mark(host, draining=True)
        if what == "brief-drain":
            await asyncio.sleep(pick([0.5, 2.0, 5.0]))
        if what in ("uncordon", "brief-drain"):
            self.mark(host, draining=False)
        elif what == "restart-mom":
            await self.run(host, self.mom(host))
        elif what in ("stop-mom", "end-coordinator"):
            await self.kill(host if what == "stop-mom" else name)
        elif what == "start-all":
            await self.start_all()
        elif what == "cut":
            self.links[pick([host, name])].loss = pick([0.3, 1.0])
        elif what in ("mend", "no-servers"):
            for link in self.links.values():
                link.loss = float(what == "no-servers")
        elif what == "clock":
            self.off[pick([host, name])] = pick([900.0, -3600.0, 80_000.0, -80_000.0])
        await asyncio.sleep(pick([0.05, 0.5, 2.0, 5.0, 20.0, 60.0, 300.0]))

    async def start_all(self) -> None:
        for name in sorted({*HOSTS, *COORDINATORS} - self.running.keys()):
            await self.run(name, self.mom(name) if name in HOSTS else self.coordinate(name))

    async def sequence(self) -> None:
        for host in HOSTS:
            self.mark(host, draining=False)
            sizes = [self.random.choice([2, 4, 8, 12]) for _ in range(self.random.choice([1, 2, 4]))]
            self.guests[host] = {f"{host}-{number}": gib for number, gib in enumerate(sizes)}
        await self.start_all()
        await self.run("time", self.pass_time())
        await asyncio.sleep(45)
        self.mark(HOSTS[0], draining=True)  # so that some guests certainly move
        await asyncio.sleep(60)
        for _ in range(18):
            await self.step()
        for link in self.links.values():
            link.loss = 0.0
        self.off = dict.fromkeys(self.off, 0.0)
        await self.start_all()
        self.wrong += await self.left(3000)
        for host in HOSTS:
            self.mark(host, draining=False)
        self.wrong += await self.left(1500)
        for name in list(self.running):
            await self.kill(name)

    async def left(self, seconds: float) -> list[str]:
        """Wait. Return the deviations from the operator's orders that are not reported."""
        ends = self.clock.now + seconds
        while True:
            await asyncio.sleep(30)
            view = FleetView(frozenset({self.operator.public}))
            await view.load(self.links["operator"])
            stays, found = {(host, name) for host, name, _ in planned(view)["stay"]}, []
            for host, member in self.members.items():
                guests, orders = self.guests[host], view.ordered(host)
                if view.guests(host).keys() != guests.keys():
                    found.append(f"{host} tells of other guests than it has")
                if orders is not None and orders.moves and not (member.draining and guests):
                    found.append(f"{host} still has moves")
                found += [f"{guest} is on {host}, which is drained" for guest in guests if member.draining and (host, guest) not in stays]
            if not found or self.clock.now > ends:
                return found


@pytest.mark.parametrize("seed", [2, 6])
def test_whatever_happens_to_a_fleet_no_host_gets_too_much_nothing_that_was_ended_happens_and_all_ends(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = MadeClock()
    loop, world = asyncio.SelectorEventLoop(clock), World(seed, tmp_path, clock)
    random.seed(seed)

    @asynccontextmanager
    async def linked(*_: object, **__: object) -> AsyncIterator[Store]:
        yield world.links[WHO.get()]

    with monkeypatch.context() as made:
        made.setattr(agent, "linked", linked)
        made.setattr(coordinator, "linked", linked)
        made.setattr(agent.FleetAgent, "start", lambda _: None)
        made.setattr(loop, "time", lambda: clock.now)
        made.setattr(time, "monotonic", lambda: clock.now)
        made.setattr(time, "time", lambda: EPOCH + clock.now + world.off.get(WHO.get(), 0.0))
        try:
            loop.run_until_complete(world.sequence())
        finally:
            loop.close()
    assert (world.wrong, world.moved > 0) == ([], True)
