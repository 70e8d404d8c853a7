"""Servers, coordinators, hosts and links that are killed, stopped, cut and started in any order: nothing is lost, and no guest moved twice.

The server, the coordinators and what hosts do as members of their fleet are the real ones; guests are simulated, and all waits are shorter.
"""

import asyncio
import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, TypeVar
from unittest.mock import patch

import nkeys  # type: ignore[import-untyped]  # it has no types
from cut_link import CutLink
from fleet_world import LOG, need_a_server
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test
from one_server import OneServer

from mom_core import PluginContext
from mom_devkit import wait_until
from mom_kvm import Destination
from mom_plugins_fleet.access import Access
from mom_plugins_fleet.coordinator.coordinator import Coordinator
from mom_plugins_fleet.host.agent import FleetAgent
from mom_plugins_fleet.link import LinkError, Store, linked
from mom_plugins_fleet.records import Group, HostedGuest, HostState, Member, Move, MoverState, MoveState
from mom_plugins_fleet.revisions import FILE, FORM, LOSS, WHAT, SeenRevisions
from mom_plugins_fleet.signatures import Opened, Signer
from mom_plugins_fleet.subjects import GROUPS, ROSTER
from mom_plugins_fleet.view import FleetView

SHORTER: Final = {
    "link.PING_SECONDS": 0.3,
    "link.ANSWER_SECONDS": 2.0,
    "coordinator.coordinator.LEASE_SECONDS": 2.0,
    "coordinator.coordinator.RENEW_SECONDS": 0.4,
    "coordinator.coordinator.SURE_SECONDS": 1.2,
    "coordinator.coordinator.LOOK_SECONDS": 0.1,
    "coordinator.coordinator.BLIND_SECONDS": 4.0,
    "coordinator.coordinator.BALANCE_SECONDS": 0.5,
    "host.orders.BALANCE_SECONDS": 0.3,
    "bucket_watch.PULSE_SECONDS": 0.3,
    "bucket_watch.LOST_SECONDS": 3.0,
    "view.AGAIN_SECONDS": 0.1,
    "view.SILENT_SECONDS": 4.0,
    "view.ARRIVES_SECONDS": 4.0,
    "view.SETTLES_SECONDS": 2.0,
    "coordinator.plan.SETTLES_SECONDS": 2.0,
    "host.agent.RESYNC_SECONDS": 1.0,
    "host.agent.HEARTBEAT_SECONDS": 0.5,
    "host.agent.AGAIN_SECONDS": 0.2,
    "host.agent._POLL_SECONDS": 0.02,
}
"""So that an hour of a fleet is a minute here: all of them by the same measure, roughly."""

GIB: Final = 1 << 20
GUEST_KIB: Final = 4 * GIB
HOST_KIB: Final = 32 * GIB
MOST_GUESTS: Final = 7
"""On a host: what is beyond them is its reserve."""

HOSTS: Final = ("h1", "h2", "h3", "h4", "h5")
PLACED: Final = {"h1": 4, "h2": 7, "h3": 3, "h4": 2}
"""How many guests are where at first. The one that is full loses some to the others, by and by; three hosts are enough for all."""

COORDINATORS: Final = ("c1", "c2")
CONVERGES_SECONDS: Final = 90.0
MOVE_SECONDS: Final = 0.15

Result = TypeVar("Result")


class Guests:
    """Where all guests are, and what moves: of the simulated hypervisors, which go on whatever becomes of moms. For any thread."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.at: dict[str, str] = {}
        self.moving: dict[str, tuple[str, float]] = {}
        """Where to, and until when."""
        self.for_balance = 0
        """How many moves were begun on hosts that are not drained."""
        self.begun: Counter[tuple[str, int]] = Counter()
        """How often a move was begun, by guest and order."""
        self.wrong: list[str] = []

    def on(self, host: str) -> list[str]:
        with self.lock:
            return sorted(guest for guest, there in self.at.items() if there == host)

    def begin(self, move: Move, source: str) -> None:
        """A host's mom has its hypervisor move a guest."""
        with self.lock:
            if move.guest in self.moving or self.at[move.guest] != source:
                return  # the hypervisor refuses
            self.begun[move.guest, move.order] += 1
            self.moving[move.guest] = (move.to, time.monotonic() + MOVE_SECONDS)
            full = len(self.on(move.to)) + sum(to == move.to for to, _ in self.moving.values())
            if full > MOST_GUESTS:
                self.wrong.append(f"{move.to} gets {full} guests")

    def pass_time(self) -> None:
        with self.lock:
            for guest, (there, ends) in list(self.moving.items()):
                if time.monotonic() >= ends:
                    del self.moving[guest]
                    self.at[guest] = there


class SimulatedMom:
    """A host's membership in the fleet, and what its engine does once in a while. What it notes stands in a folder."""

    def __init__(self, name: str, url: str, folder: Path, guests: Guests, operator: str) -> None:
        self.name, self._guests, self._tried = name, guests, set[tuple[str, int]]()
        self.applied: list[int] = []
        context = PluginContext(name="fleet", state_directory=folder / name)
        self._agent = FleetAgent(
            Access([url]),
            name,
            0.1,
            LOG,
            operators=[operator],
            revisions=SeenRevisions(context.state_file(FILE, WHAT, FORM, loss=LOSS)),
            apply=self._apply,
            remembered=lambda: None,
            state=self._state,
            accepts=lambda move: "" if move.guest in guests.on(name) else "the guest is not here",
            wake=lambda _: None,
        )
        self._agent.start()

    def _apply(self, _group: str, found: Opened[Group], _data: bytes | None) -> None:
        if not self.applied or self.applied[-1] != found.revision:
            self.applied.append(found.revision)

    def _state(self) -> HostState:
        there = self._guests.on(self.name)
        told = tuple(HostedGuest(id=one, name=one, size=GUEST_KIB, maximum=GUEST_KIB, working=GUEST_KIB) for one in there)
        available, mover = HOST_KIB - GUEST_KIB * len(there), MoverState(name="simulated", live=True)
        return HostState(mode="enforce", total=HOST_KIB, available=available, guests=told, mover=mover)

    def cycle(self) -> None:
        """What the plugin does with accepted moves."""
        for guest, move in self._agent.orders.moves().items():
            if guest not in self._guests.on(self.name):
                self._agent.finished(guest, MoveState.DONE)
            elif (guest, move.order) not in self._tried:
                self._tried.add((guest, move.order))
                self._guests.for_balance += not self._agent.orders.draining
                self._guests.begin(move, self.name)

    def end(self) -> None:
        """As the end of its process: nothing of it goes on."""
        self._agent.close()
        wait_until(lambda: not self._agent.runs)


class FleetMachine(RuleBasedStateMachine):
    """One fleet, to which things happen."""

    for_balance = 0
    """How many guests were moved for balance in all that was tried."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        try:
            self._make()
        except BaseException:
            self.stack.close()
            raise

    def _make(self) -> None:
        for name, value in SHORTER.items():
            self.stack.enter_context(patch(f"mom_plugins_fleet.{name}", value))
        self.folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.loop = asyncio.new_event_loop()
        thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        thread.start()
        self.stack.callback(self.loop.close)
        self.stack.callback(thread.join, 30)
        self.stack.callback(lambda: self.loop.call_soon_threadsafe(self.loop.stop))
        self.stack.callback(lambda: self.wait(_all_ended()))
        self.server = OneServer(self.folder)
        self.stack.callback(self.server.close)
        self.up = True
        self.operator = Signer(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER).decode())
        self.revision = 0
        self.guests = Guests()
        self.links: dict[str, CutLink] = {}
        self.moms: dict[str, SimulatedMom] = {}
        self.coordinators: dict[str, asyncio.Task[None]] = {}
        self.views: dict[str, FleetView] = {}
        self.unmoved: dict[str, dict[str, str]] = {}
        self.draining: dict[str, bool] = {}
        self.balanced = set(HOSTS[1:3])
        self.policy = 0
        self.ended = threading.Event()
        self.wait(self.asked(lambda store: store.make(1)))
        for host, count in PLACED.items():
            self.enroll(host)
            for number in range(count):
                self.guests.at[f"{host}-{number}"] = host
        self.set_policy()
        for host in PLACED:
            self.start_mom(host)
        for name in COORDINATORS:
            self.start_coordinator(name)
        time_passes = threading.Thread(target=self._pass_time, daemon=True)
        time_passes.start()
        self.stack.callback(time_passes.join, 30)
        self.stack.callback(self.ended.set)

    # --- how it is done --------------------------------------------------------------------------------------------------------------

    def wait(self, what: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(what, self.loop).result(60)

    async def asked(self, what: Callable[[Store], Coroutine[Any, Any, Result]]) -> Result:
        """Of an operator, whose link to the server is as good as the server."""
        async with linked(Access([self.server.url]), "operator", LOG, patient=True) as store:
            while True:
                try:
                    return await what(store)
                except LinkError:
                    await asyncio.sleep(0.1)

    def put(self, bucket: str, key: str, record: Member | Group) -> None:
        self.revision += 1
        data = self.operator.signed(bucket, key, record, self.revision)
        self.wait(self.asked(lambda store: store.put(bucket, key, data)))

    def enroll(self, host: str) -> None:
        self.draining[host] = False
        self.put_member(host)

    def put_member(self, host: str) -> None:
        address, drained = Destination.parse(f"qemu+tls://{host}/system"), self.draining[host]
        self.put(ROSTER, host, Member(group="g", address=address, cordoned=drained, draining=drained, balance=host in self.balanced))

    def link(self, name: str) -> str:
        if name not in self.links:
            self.links[name] = CutLink(self.server.port)
            self.wait(self.links[name].open())
            self.stack.callback(lambda: self.loop.call_soon_threadsafe(self.links[name].close))
        return self.links[name].url

    def start_mom(self, host: str) -> None:
        self.moms[host] = SimulatedMom(host, self.link(host), self.folder, self.guests, self.operator.public)
        self.stack.callback(self.moms[host].end)

    def start_coordinator(self, name: str) -> None:
        one = Coordinator(Access([self.link(name)]), name, LOG, self.operator, [self.operator.public])
        self.views[name], self.unmoved[name] = one.view, one.unmoved

        async def start() -> asyncio.Task[None]:
            return asyncio.create_task(one.run())

        task = self.coordinators[name] = self.wait(start())
        self.stack.callback(lambda: self.wait(_ended(task)))

    def _pass_time(self) -> None:
        while not self.ended.wait(0.02):
            self.guests.pass_time()
            for mom in list(self.moms.values()):
                mom.cycle()

    # --- what happens ------------------------------------------------------------------------------------------------------------------

    @initialize()
    def begins(self) -> None:
        """All is well, and the first guests are about to move."""
        self.drain("h1")

    @precondition(lambda self: self.up)
    @rule(host=st.sampled_from(HOSTS))
    def drain(self, host: str) -> None:
        """As many as the others can take."""
        if host in self.draining and (self.draining[host] or list(self.draining.values()).count(False) > 3):
            self.draining[host] = True
            self.put_member(host)

    @precondition(lambda self: self.up)
    @rule(host=st.sampled_from(HOSTS))
    def uncordon(self, host: str) -> None:
        if self.draining.get(host):
            self.enroll(host)

    @precondition(lambda self: self.up)
    @rule(host=st.sampled_from(HOSTS))
    def balance(self, host: str) -> None:
        """Let guests leave it for hosts that are less full, or no more."""
        if host in self.draining:
            self.balanced ^= {host}
            self.put_member(host)

    @precondition(lambda self: self.up)
    @rule()
    def join(self) -> None:
        """A host that was not there before."""
        if HOSTS[-1] not in self.draining:
            self.enroll(HOSTS[-1])
            self.start_mom(HOSTS[-1])

    @precondition(lambda self: self.up)
    @rule()
    def set_policy(self) -> None:
        self.put(GROUPS, "g", Group(policies={"60_fleet_a": f"(defvar a {self.revision})"}))
        self.policy = self.revision

    @precondition(lambda self: self.up)
    @rule()
    def kill_server(self) -> None:
        self.server.kill()
        self.up = False

    @precondition(lambda self: self.up)
    @rule()
    def freeze_server(self) -> None:
        self.server.freeze()
        self.up = False

    @precondition(lambda self: self.up)
    @rule()
    def stop_server_for_longer_than_a_lease(self) -> None:
        """And then a coordinator is killed, and the next one begins after its lease is over."""
        for step in (self.server.kill, self.server.start):
            step()
            time.sleep(2.5)
        for name in COORDINATORS:
            self.end_coordinator(name, kill=True)
            time.sleep(2.5)
            self.begin_coordinator(name)

    @precondition(lambda self: not self.up)
    @rule()
    def start_server(self) -> None:
        self.server.thaw()
        self.server.start()
        self.up = True

    @rule(name=st.sampled_from(COORDINATORS), kill=st.booleans())
    def end_coordinator(self, name: str, kill: bool) -> None:
        """A killed one says nothing to the servers any more."""
        if name in self.coordinators:
            if kill:
                self.loop.call_soon_threadsafe(self.links[name].cut)
            self.wait(_ended(self.coordinators.pop(name)))
            self.loop.call_soon_threadsafe(self.links[name].mend)

    @rule(name=st.sampled_from(COORDINATORS))
    def begin_coordinator(self, name: str) -> None:
        if name not in self.coordinators:
            self.start_coordinator(name)

    @rule(name=st.sampled_from((*HOSTS, *COORDINATORS)))
    def cut_link(self, name: str) -> None:
        if name in self.links:
            self.loop.call_soon_threadsafe(self.links[name].cut)

    @rule(name=st.sampled_from((*HOSTS, *COORDINATORS)))
    def mend_link(self, name: str) -> None:
        if name in self.links:
            self.loop.call_soon_threadsafe(self.links[name].mend)

    @rule(host=st.sampled_from(HOSTS))
    def restart_mom(self, host: str) -> None:
        """It remembers what it has noted on disk, and nothing else."""
        if host in self.moms:
            self.moms.pop(host).end()
            self.start_mom(host)

    @rule(seconds=st.sampled_from((0.3, 1.0, 2.5)))
    def wait_a_while(self, seconds: float) -> None:
        time.sleep(seconds)

    # --- what must hold ------------------------------------------------------------------------------------------------------------------

    @invariant()
    def no_guest_is_moved_twice(self) -> None:
        with self.guests.lock:
            assert all(count == 1 for count in self.guests.begun.values()), self.guests.begun

    @invariant()
    def no_host_gets_more_than_it_has_room_for(self) -> None:
        assert not self.guests.wrong

    @invariant()
    def no_policy_goes_back(self) -> None:
        for mom in self.moms.values():
            assert mom.applied == sorted(mom.applied)

    def teardown(self) -> None:
        """When all is well again, all that was acknowledged is so."""
        try:
            if self.draining:
                self._converge()
        finally:
            self.stack.close()

    def _converge(self) -> None:
        if not self.up:
            self.start_server()
        for link in self.links.values():
            self.loop.call_soon_threadsafe(link.mend)
        for name in COORDINATORS:
            self.begin_coordinator(name)
        self._until(self._missing)
        self.balanced = set(HOSTS)
        for host in self.draining:
            self.enroll(host)
        for why in self.unmoved.values():
            why.clear()
        self._until(self._uneven)
        self._until(self._missing)
        type(self).for_balance += self.guests.for_balance
        self.no_host_gets_more_than_it_has_room_for()
        self.no_policy_goes_back()
        assert len(self.guests.at) == sum(PLACED.values())

    def _until(self, missing: Callable[[], list[str]]) -> None:
        ends = time.monotonic() + CONVERGES_SECONDS
        while found := missing():
            self.no_guest_is_moved_twice()
            assert time.monotonic() < ends, (found, {name: view.current for name, view in self.views.items()})
            time.sleep(0.2)

    def _uneven(self) -> list[str]:
        """What the coordinators say of balance, until one says that all is well enough."""
        said = [why for by_group in self.unmoved.values() for why in by_group.values()]
        enough = ("and a difference of", "highest load")
        return [] if any(one in why for one in enough for why in said) else [*said, "nothing is said of balance"]

    def _missing(self) -> list[str]:
        found = [f"{host} is not empty" for host, draining in self.draining.items() if draining and self.guests.on(host)]
        found += [f"{name} has not the newest policy" for name, mom in self.moms.items() if mom.applied[-1:] != [self.policy]]
        fresh = self.wait(self._read())
        for name, view in {"the servers": fresh, **self.views}.items():
            members = {host: member.draining for host, (_, member) in view.members.records.items()}
            told = {host: {guest.id for guest in state.guests} for host, (_, state) in view.states.records.items()}
            if members != self.draining or any(view_of.damaged for view_of in view.buckets):
                found.append(f"{name}: the members are {members}")
            if told != {host: set(self.guests.on(host)) for host in self.draining}:
                found.append(f"{name}: guests are {told}")
            if open_moves := [move.guest for _, orders in view.all_ordered() for move in orders.moves]:
                found.append(f"{name}: still to move: {open_moves}")
        return found

    async def _read(self) -> FleetView:
        view = FleetView(frozenset({self.operator.public}))
        await self.asked(view.load)
        return view


async def _ended(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=30)


async def _all_ended() -> None:
    """Of the event loop, so that no connection is left open; also those that begin while others end."""
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        await _ended(*others)


def test_whatever_is_killed_or_cut_in_whatever_order_nothing_is_lost_and_no_guest_moves_twice() -> None:
    need_a_server()
    tried = settings(max_examples=3, stateful_step_count=14, deadline=None, suppress_health_check=list(HealthCheck))
    FleetMachine.for_balance = 0
    run_state_machine_as_test(FleetMachine, settings=tried)
    assert FleetMachine.for_balance
