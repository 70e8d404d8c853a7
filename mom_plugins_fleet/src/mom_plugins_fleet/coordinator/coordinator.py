"""The coordinator: it says where guests of drained hosts go, and, where the operator lets it, those of hosts that are too full. One works
at a time; no host needs it for its own safety.

Who works is decided by a lease, a key that its holder sets anew all the time: another one takes it, by compare and set, when it has not
changed for a while by its own clock. (By the servers' time to live it could not: after a restart, nats-server 2.9 keeps what has expired in
its index, and then several messages for one key.) A coordinator that was stopped for a while and does not know that it was replaced is kept
out by the epoch in each host's orders: its successor raises it first of all, so that what the old one still writes is refused (compare and
set), and what it may have written before is seen by the successor.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final

from mom_core import MomError, StateError, printable
from mom_plugins_fleet.access import Access
from mom_plugins_fleet.coordinator.plan import for_balance, next_orders, places
from mom_plugins_fleet.link import ConflictError, LinkError, Store, linked
from mom_plugins_fleet.records import Lease, MoveState, Orders, lease_holder, shown
from mom_plugins_fleet.revisions import SeenRevisions, off_clock
from mom_plugins_fleet.signatures import Signer, next_revision
from mom_plugins_fleet.subjects import COORDINATOR, LEASES, ORDERS, PROGRESS, StoredEntry
from mom_plugins_fleet.view import FleetView

LEASE_SECONDS: Final = 10.0
"""For how long a coordinator that says nothing keeps others from taking over. Three times the time between renewals, so that two may be
lost; and a drain that stands still for ten seconds harms no guest."""

RENEW_SECONDS: Final = LEASE_SECONDS / 3
SURE_SECONDS: Final = 0.6 * LEASE_SECONDS
"""For so long after a renewal a coordinator believes in its lease: less than others do, who see the renewal later."""

LOOK_SECONDS: Final = 2.0
"""How often it is decided what comes next: a guest that moves takes at least so long."""

BALANCE_SECONDS: Final = 600.0
"""How often a guest of a group may be moved for balance: what it works on elsewhere is known some minutes after."""

BLIND_SECONDS: Final = 2 * LEASE_SECONDS
"""For so long a coordinator that works may not know how the fleet is; then another one may try."""


class Coordinator:
    """One that works or waits. `run` ends when it is cancelled.

    :param holder: who this is, for people
    :param signer: with the key of an operator, or of a coordinator that one has authorized
    :param operators: the public keys of those who direct the fleet
    :param revisions: what the last run of this coordinator knew
    """

    def __init__(
        self,
        access: Access,
        holder: str,
        log: logging.Logger,
        signer: Signer,
        operators: Collection[str],
        revisions: SeenRevisions | None = None,
    ) -> None:
        self._access, self._holder, self._log, self._signer = access, holder, log, signer
        self.view = FleetView(frozenset(operators), revisions or SeenRevisions(at_once=False))
        self.epoch = 0
        self._stuck: dict[str, frozenset[str]] = {}
        """The names of guests of which it was said that they cannot leave, by host."""
        self.unmoved: dict[str, str] = {}
        """Why no guest was moved for balance when that was looked at last, by group."""
        self._balanced: dict[str, float] = {}
        """When balance was looked at last, by group, in monotonic seconds."""
        self._given: dict[str, tuple[int, Orders]] = dict(self.view.revisions.orders)
        """The orders of members as they stood last, with the revision, whoever has written them: servers that are set back to a backup have
        others."""
        self._trouble = ""
        self._failing: set[str] = set()
        """The hosts' orders, and what else is done for each by itself, that went wrong the last time."""
        self._unkept = False
        self._revision = 0
        self._waits_for = ""
        """The holder of the lease that this one was last said to wait for."""
        self._seen = 0, float("-inf")
        """The revision of another one's lease, and since when it has it, in monotonic seconds."""
        self._sure_until = float("-inf")

    async def run(self) -> None:
        """Wait for the lease and work, for ever. One that waits looks at the fleet, too, and goes on at once when its turn comes."""
        self._log.info("connecting to the fleet's servers: %s", printable(", ".join(self._access.servers), 400))
        async with linked(self._access, "coordinator", self._log, patient=True, cannot=self._log.warning) as store:
            self._log.info("connected; reading the fleet's records")
            await self.view.look_often(store, self._work_if_alone, LOOK_SECONDS, self._say)

    def _say(self, trouble: str) -> None:
        """The first thing that is wrong, until nothing is."""
        if trouble and not self._trouble:
            self._log.warning("%s", trouble)
        self._trouble = trouble

    def _keep(self) -> None:
        """Keep what was seen for the next run: where it cannot be kept, this one works all the same, and says so once."""
        self._remember_orders()
        try:
            self.view.revisions.save()
        except StateError as error:
            if not self._unkept:
                self._log.warning("%s; after its next start this coordinator may take records of the fleet's that are over", shown(error))
            self._unkept = True

    def _remember_orders(self) -> None:
        """Know the orders that the servers have lost until they are given again: guests that go by them need the room all the same."""
        orders, members = self.view.orders.records, self.view.members
        there = members.records.keys() | members.damaged.keys()
        lost = {host: one for host, one in self._given.items() if host in there - orders.keys() and one[0] == self._newest(host)}
        orders.update(lost)
        self._given = {host: one for host, one in orders.items() if host in there}
        bare = {host: (revision, one.model_copy(update={"entries": {}})) for host, (revision, one) in self._given.items() if one.moves}
        self.view.revisions.keep_orders(bare)

    def _newest(self, host: str) -> int:
        return self.view.revisions.newest(ORDERS, host, self.view.orderers)

    @property
    def works(self) -> bool:
        """True while this one has the lease, for certain."""
        return time.monotonic() < self._sure_until

    async def _work_if_alone(self, store: Store) -> None:
        self._keep()
        self._check()
        if not await self._acquire(store):
            return
        self._waits_for = ""
        self._log.info("coordinating the fleet, epoch %d", self.epoch)
        renewing = asyncio.create_task(self._renew(store))
        try:
            await self._fence(store)
            knew = time.monotonic()
            while self.works:
                if self.view.current:
                    knew = time.monotonic()
                    self._check()
                    await self._decide(store)
                    await self._balance(store)
                    self._keep()
                elif time.monotonic() - knew > BLIND_SECONDS:
                    self._log.warning("how the fleet is has not been known for %g s; another coordinator may work now", BLIND_SECONDS)
                    return
                await asyncio.sleep(LOOK_SECONDS)
            self._log.warning("the lease is lost; another coordinator may work now")
        finally:
            renewing.cancel()
            if self.works:  # so that the next one need not wait
                self._sure_until = float("-inf")
                with suppress(LinkError):
                    await store.remove(LEASES, COORDINATOR, self._revision)  # this one's own, and no other's

    def _check(self) -> None:
        """Raises `LinkError` where hosts would not follow this coordinator: it keeps none from working that they do."""
        view = self.view
        view.trust()
        if self._signer.public not in view.orderers:
            raise LinkError(
                f"no operator has authorized this coordinator: `mom fleet authorize {self._signer.public}` does",
                hint="hosts follow the orders of operators, whom --operator names, and of coordinators that one has authorized",
            )
        off = off_clock(view.newest) if view.newest else ""
        if off:
            hint = "see to the clock; or all hosts have been silent for so long"
            raise LinkError(f"the clock here is {off} what hosts have told last, by the servers': no orders are given", hint=hint)
        if view.members.damaged and not view.members.records:
            host, why = min(view.members.damaged.items())
            hint = "name the fleet's operators with `mom fleet --operator KEY coordinator`"
            raise LinkError(f"no host's entry is believed here, such as that of {host}: {printable(why, 400)}", hint=hint)

    # --- the lease ---------------------------------------------------------------------------------------------------------------

    async def _acquire(self, store: Store) -> bool:
        kept = await store.read(LEASES, COORDINATOR)
        began = time.monotonic()
        if kept.data is not None:
            if kept.revision != self._seen[0]:
                self._seen = kept.revision, began
            if began - self._seen[1] < LEASE_SECONDS:
                self._say_waiting(kept.data)
                return False
        try:
            self._revision = await store.put(LEASES, COORDINATOR, Lease(holder=self._holder).packed(), kept.revision)
        except ConflictError:
            return False
        self.epoch = self._revision
        self._sure_until = began + SURE_SECONDS
        return True

    def _say_waiting(self, data: bytes) -> None:
        """Say once of each holder that this coordinator waits for the end of its lease."""
        if (holder := lease_holder(data)) != self._waits_for:
            over = f"this one takes over when that has said nothing for {LEASE_SECONDS:g} s"
            self._log.info("%s coordinates the fleet; %s", printable(holder, 200), over)
        self._waits_for = holder

    async def _renew(self, store: Store) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            began = time.monotonic()
            try:
                self._revision = await store.put(LEASES, COORDINATOR, Lease(holder=self._holder).packed(), self._revision)
            except ConflictError:
                self._sure_until = float("-inf")
                return
            except LinkError as error:
                self._log.warning("the lease could not be renewed: %s", shown(error))
                continue
            self._sure_until = began + SURE_SECONDS

    async def _fence(self, store: Store) -> None:
        """Raise the epoch of all orders, so that nothing that an earlier coordinator has still to write is taken."""
        leaving = {host for host, (_, member) in self.view.members.records.items() if member.draining or member.balance}
        for host in leaving | self.view.orders.records.keys():
            with self._contained(f"the orders of {host}"):
                await self._change(store, host, lambda orders: orders.model_copy(update={"epoch": self.epoch}))

    async def _change(self, store: Store, host: str, change: Callable[[Orders], Orders]) -> None:
        """Change a host's orders as they are now. Another who was faster is looked at the next time."""
        view = self.view
        view.progress.take(host, await store.read(PROGRESS, host))
        kept = await store.read(ORDERS, host)
        view.orders.take(host, kept)
        there = view.orders.get(host)
        newest, given = self._given.get(host, (0, Orders()))
        if there is None and newest and newest == self._newest(host):
            self._log.error("the servers have lost the orders of %s; they are given again", host)
            view.orders.records[host] = (newest, given.model_copy(update={"epoch": self.epoch}))
        elif host in view.orders.damaged:
            self._log.error("the orders of %s: %s; they are made anew", host, printable(view.orders.damaged[host], 400))
        before = view.ordered(host) or Orders()
        if before.epoch > self.epoch:
            if (await store.read(LEASES, COORDINATOR)).revision != self._revision:
                self._sure_until = float("-inf")
                return
            self._log.error("the orders of %s are of epoch %d, which these servers do not know: they are given again", host, before.epoch)
        after, revision = change(before), next_revision(self._newest(host))
        plain = {"state": MoveState.ORDERED, "error": ""}
        moves = tuple(one.model_copy(update={**plain, "order": one.order or revision}) for one in after.moves)
        entries = {to: signed for to in sorted({one.to for one in moves}) if (signed := view.members.signed(to))}
        wanted = after.model_copy(update={"moves": moves, "entries": entries})
        if wanted == there or not self.works:
            return
        with suppress(ConflictError):
            data = self._signer.signed(ORDERS, host, wanted, revision)
            view.orders.take(host, StoredEntry(await store.put(ORDERS, host, data, kept.revision), data))
            self._given[host] = (revision, wanted)
            for move in after.moves:
                if not move.order:
                    self._log.info("guest %s is to leave %s for %s", printable(move.name), host, move.to)
            for gone in {move.guest for move in before.moves} - {move.guest for move in after.moves}:
                over = before.of(gone)
                if over is not None and over.state is MoveState.DONE:
                    if gone in view.guests(over.to):
                        self._log.info("guest %s has come from %s to %s", printable(over.name), host, over.to)
                    else:
                        self._log.warning("guest %s has left %s for %s, and does not run there", printable(over.name), host, over.to)

    # --- what comes next ----------------------------------------------------------------------------------------------------------

    @contextmanager
    def _contained(self, what: str) -> Iterator[None]:
        """What goes wrong with one host or group, such as orders that are too large for a message, is said once, and ends nothing else."""
        try:
            yield
        except LinkError:  # the servers fail, and not what is done here
            raise
        except Exception as error:  # noqa: BLE001  # also a mistake of ours: what one host tells must not end the coordinators of all
            if what not in self._failing:
                self._log.error("%s: %s: nothing is changed there", what, shown(error), exc_info=not isinstance(error, MomError))
            self._failing.add(what)
        else:
            self._failing.discard(what)

    async def _decide(self, store: Store) -> None:
        """Go through all hosts that are drained or have orders."""
        self._remember_orders()
        moving = {host for host, (_, orders) in self.view.orders.records.items() if orders.moves}
        # Also those whose orders are of a coordinator that is authorized no more: their hosts would say for ever that they follow none.
        moving |= self.view.orders.damaged.keys()
        concerned = [host for host, (_, member) in self.view.members.records.items() if member.draining or host in moving]
        known = places(self.view) if concerned else {}  # a look at all hosts, which nothing needs while all is calm
        self._stuck = {host: names for host, names in self._stuck.items() if host in concerned}
        for host in sorted(concerned):
            stuck: dict[str, str] = {}

            def wanted(_before: Orders, host: str = host, stuck: dict[str, str] = stuck) -> Orders:
                orders, why = next_orders(self.view, host, self.epoch, known)
                stuck.update(why)
                return orders

            with self._contained(f"the orders of {host}"):
                await self._change(store, host, wanted)
            self._say_stuck(host, stuck)

    def _say_stuck(self, host: str, stuck: Mapping[str, str]) -> None:
        """Say of each guest once why it cannot leave, until it may: the reason changes with all that hosts tell, and there may be 400."""
        said, orders = self._stuck.get(host, frozenset()), self.view.ordered(host) or Orders()
        for name, why in stuck.items():
            if name not in said:
                self._log.warning("guest %s cannot leave %s: %s", printable(name), host, why)
        self._stuck[host] = (said | stuck.keys()) - {move.name for move in orders.moves if move.state is not MoveState.FAILED}

    async def _balance(self, store: Store) -> None:
        """Now and then, in groups with hosts that guests may leave for balance, order one move at the most."""
        groups = {member.group for _, member in self.view.members.records.values() if member.balance}
        now = time.monotonic()
        self._balanced = {group: self._balanced.get(group, now) for group in groups}
        for group in sorted(group for group, at in self._balanced.items() if now - at >= BALANCE_SECONDS):
            self._balanced[group] = now
            with self._contained(f"balance of the group {group}"):
                await self._balance_group(store, group)

    async def _balance_group(self, store: Store, group: str) -> None:
        wanted = for_balance(self.view, places(self.view), group)
        if isinstance(wanted, str):
            if wanted != self.unmoved.get(group):
                self._log.info("balance of the group %s: %s", group, printable(wanted, 400))
            self.unmoved[group] = wanted
            return
        host, move = wanted

        def added(before: Orders) -> Orders:
            return before if before.of(move.guest) else before.model_copy(update={"epoch": self.epoch, "moves": (*before.moves, move)})

        await self._change(store, host, added)
