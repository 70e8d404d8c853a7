"""The coordinator: it says where guests of drained hosts go. One works at a time; no host needs it for its own safety.

Who works is decided by a lease, which is a key that goes away by itself. A coordinator that was stopped for a while and does not know
that it was replaced is kept out by the epoch in each host's orders: its successor raises it first of all, so that what the old one still
writes is refused (compare and set), and what it may have written before is seen by the successor.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Final

from nats.aio.subscription import Subscription

from mom_core import printable
from mom_plugins_fleet.link import Access, ConflictError, LinkError, Store, StoredEntry, linked
from mom_plugins_fleet.plan import next_orders, places
from mom_plugins_fleet.records import Lease, MoveState, Orders, shown
from mom_plugins_fleet.signatures import Signer, next_revision
from mom_plugins_fleet.subjects import COORDINATOR, LEASE_SECONDS, LEASES, ORDERS, PROGRESS, ROSTER, STATES
from mom_plugins_fleet.view import FleetView

RENEW_SECONDS: Final = LEASE_SECONDS / 3
SURE_SECONDS: Final = 0.6 * LEASE_SECONDS
"""For so long after a renewal a coordinator believes in its lease: less than the server does, whose time begins later."""

LOOK_SECONDS: Final = 2.0
"""How often it is decided what comes next: a guest that moves takes at least so long."""

RELOAD_SECONDS: Final = 60.0
"""How often everything is read again, in case a message was lost."""


class Coordinator:
    """One that works or waits. `run` ends when it is cancelled.

    :param holder: who this is, for people
    :param signer: with the key of an operator, or of a coordinator that one has appointed
    :param operators: the public keys of those who direct the fleet
    """

    def __init__(self, access: Access, holder: str, log: logging.Logger, signer: Signer, operators: Collection[str]) -> None:
        self._access, self._holder, self._log, self._signer = access, holder, log, signer
        self.view = FleetView(frozenset(operators))
        self.epoch = 0
        self.stuck: dict[str, Mapping[str, str]] = {}
        self._revision = 0
        self._sure_until = float("-inf")

    async def run(self) -> None:
        """Wait for the lease and work, for ever."""
        async with linked(self._access, "coordinator", self._log, patient=True, cannot=self._log.warning) as store:
            trouble = ""
            while True:
                try:
                    await self._work_if_alone(store)
                    trouble = ""
                except LinkError as error:
                    if store.closed:
                        raise
                    if shown(error) != trouble:
                        trouble = shown(error)
                        self._log.warning("%s", trouble)
                await asyncio.sleep(LOOK_SECONDS)

    @property
    def works(self) -> bool:
        """Whether this one has the lease, for certain."""
        return asyncio.get_running_loop().time() < self._sure_until

    async def _work_if_alone(self, store: Store) -> None:
        await self.view.load(store)
        if self._signer.public not in self.view.orderers:
            raise LinkError(
                f"no operator has appointed this coordinator: `mom fleet appoint {self._signer.public}` does",
                hint="hosts follow the orders of operators and of coordinators that one has appointed",
            )
        if not await self._acquire(store):
            return
        self._log.info("coordinating the fleet, epoch %d", self.epoch)
        subscriptions: list[Subscription] = []
        renewing = asyncio.create_task(self._renew(store))
        try:
            subscriptions.append(await store.hear(STATES, "*", self.view.heard_state))
            subscriptions.append(await store.hear(ROSTER, "*", self._heard_member))
            await self.view.load(store)
            await self._fence(store)
            loop = asyncio.get_running_loop()
            loaded = loop.time()
            while self.works:
                if loop.time() - loaded > RELOAD_SECONDS:
                    await self.view.load(store)
                    loaded = loop.time()
                await self._decide(store)
                await asyncio.sleep(LOOK_SECONDS)
            self._log.warning("the lease is lost; another coordinator may work now")
        finally:
            renewing.cancel()
            for subscription in subscriptions:
                with suppress(Exception):  # the connection may be gone, and with it the subscription
                    await subscription.unsubscribe()
            if self.works:  # so that the next one need not wait
                self._sure_until = float("-inf")
                with suppress(LinkError):
                    await store.remove(LEASES, COORDINATOR, self._revision)  # this one's own, and no other's

    async def _heard_member(self, key: str, kept: StoredEntry) -> None:
        self.view.members.take(key, kept)

    # --- the lease ---------------------------------------------------------------------------------------------------------------

    async def _acquire(self, store: Store) -> bool:
        kept = await store.read(LEASES, COORDINATOR)
        if kept.data is not None:
            return False
        began = asyncio.get_running_loop().time()
        try:
            self._revision = await store.put(LEASES, COORDINATOR, Lease(holder=self._holder).packed(), kept.revision)
        except ConflictError:
            return False
        self.epoch = self._revision
        self._sure_until = began + SURE_SECONDS
        return True

    async def _renew(self, store: Store) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            began = loop.time()
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
        for host in {*self.view.orders.records, *(host for host, (_, member) in self.view.members.records.items() if member.draining)}:
            await self._change(store, host, lambda orders: orders.model_copy(update={"epoch": self.epoch}))

    async def _change(self, store: Store, host: str, change: Callable[[Orders], Orders]) -> None:
        """Change a host's orders as they are now. Another who was faster is looked at the next time."""
        view = self.view
        view.progress.take(host, await store.read(PROGRESS, host))
        kept = await store.read(ORDERS, host)
        view.orders.take(host, kept)
        if host in view.orders.damaged:
            self._log.error("the orders of %s: %s; they are made anew", host, printable(view.orders.damaged[host], 400))
        there = view.orders.get(host)
        before = view.ordered(host) or Orders()
        if before.epoch > self.epoch:
            if (await store.read(LEASES, COORDINATOR)).revision != self._revision:
                self._sure_until = float("-inf")
                return
            self._log.error("the orders of %s are of epoch %d, of which these servers know nothing: they are made anew", host, before.epoch)
            there, before = None, Orders()
        after, revision = change(before), next_revision(view.orders.newest.get(host, 0))
        plain = {"state": MoveState.ORDERED, "error": ""}
        wanted = after.model_copy(
            update={"moves": tuple(one.model_copy(update={**plain, "order": one.order or revision}) for one in after.moves)}
        )
        if wanted == there or not self.works:
            return
        with suppress(ConflictError):
            data = self._signer.signed(ORDERS, host, wanted, revision)
            view.orders.take(host, StoredEntry(await store.put(ORDERS, host, data, kept.revision), data))
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

    async def _decide(self, store: Store) -> None:
        """Go through all hosts that are drained or have orders."""
        known = places(self.view)
        concerned = [host for host, (_, member) in self.view.members.records.items() if member.draining or self._has_moves(host)]
        self.stuck = {host: stuck for host, stuck in self.stuck.items() if host in concerned}
        for host in sorted(concerned):
            stuck: dict[str, str] = {}

            def wanted(_before: Orders, host: str = host, stuck: dict[str, str] = stuck) -> Orders:
                orders, why = next_orders(self.view, host, self.epoch, known)
                stuck.update(why)
                return orders

            await self._change(store, host, wanted)
            if stuck != self.stuck.get(host, {}):
                for name, why in stuck.items():
                    self._log.warning("guest %s cannot leave %s: %s", printable(name), host, why)
            self.stuck[host] = stuck

    def _has_moves(self, host: str) -> bool:
        orders = self.view.orders.get(host)
        return orders is not None and bool(orders.moves)
