"""Coordinator: chooses destinations for guests of drained hosts and, where operators allow it, of full hosts.

The active coordinator holds a lease: a key that it sets repeatedly. After `LEASE_SECONDS` without a renewal, a standby takes the lease
and raises the epoch in all orders. The former holder cannot change orders.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from mom_core import MomError, printable
from mom_plugins_fleet.buckets import COORDINATOR, LEASES, ORDERS, StoredEntry
from mom_plugins_fleet.client import Access
from mom_plugins_fleet.coordinator.plan import TargetHost, for_balance, next_orders, places
from mom_plugins_fleet.link import ConflictError, LinkError, Store, linked
from mom_plugins_fleet.records import MOST_TOLD, MoveState, Orders, shown
from mom_plugins_fleet.signatures import SeenRevisions, Signer, next_revision, off_clock
from mom_plugins_fleet.view import FleetView

# The servers never expire the lease: nats-server 2.9 may repeat expired keys after a restart.
LEASE_SECONDS: Final = 10.0
"""Time of three missed renewals, after which another coordinator takes over."""

RENEW_SECONDS: Final = LEASE_SECONDS / 3
SURE_SECONDS: Final = 0.6 * LEASE_SECONDS
"""The holder relies on a renewal for this long, less than others wait."""

LOOK_SECONDS: Final = 2.0
"""Time between two decisions."""

BALANCE_SECONDS: Final = 600.0
"""Time between two moves for balance in a group, because the destination needs minutes to measure a working set."""

BLIND_SECONDS: Final = 2 * LEASE_SECONDS
"""After this time without a current view, a coordinator gives up its lease."""


class Coordinator:
    """Active or standby coordinator. `operators` are the operators' public keys."""

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
        self.view = FleetView(frozenset(operators), revisions)
        self.epoch = 0
        self._balanced: dict[str, float] = {}
        self._trouble = ""
        self._failing: set[str] = set()
        self._revision = 0
        self._other_lease = 0, float("-inf")
        """Revision of another holder's lease, and monotonic time of its last change."""
        self._sure_until = float("-inf")

    async def run(self) -> None:
        """Take the lease whenever it is free, and work."""
        async with linked(self._access, "coordinator", self._log, patient=True, cannot=self._log.warning) as store:
            following = asyncio.create_task(self.view.follow(store, self._say))
            try:
                while not following.done():
                    try:
                        if self.view.current:
                            await self.work(store)
                            self._say("")
                    except LinkError as error:
                        self._say(shown(error))
                    await asyncio.wait([following], timeout=LOOK_SECONDS)
                await following
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)

    def _say(self, trouble: str) -> None:
        if trouble and not self._trouble:
            self._log.warning("%s", trouble)
        self._trouble = trouble

    def save(self) -> None:
        """Save seen revisions. Log a failure once."""
        with self._contained("after its next start this coordinator may accept outdated records"):
            self.view.revisions.save()

    @property
    def is_active(self) -> bool:
        """Whether it is certain that this coordinator holds the lease."""
        return time.monotonic() < self._sure_until

    async def work(self, store: Store) -> None:
        """Take a free lease, and work until the lease is lost."""
        self.save()
        self._check()
        if not await self.acquire(store):
            return
        self._log.info("coordinating the fleet, epoch %d", self.epoch)
        renewing = asyncio.create_task(self._renew(store))
        try:
            await self.fence(store)
            current_at = time.monotonic()
            while self.is_active:
                if self.view.current:
                    current_at = time.monotonic()
                    self._check()
                    await self.decide(store)
                    await self.balance(store)
                    self.save()
                elif time.monotonic() - current_at > BLIND_SECONDS:
                    self._log.warning("the fleet's state has been unknown for %g s; another coordinator may take over", BLIND_SECONDS)
                    return
                await asyncio.sleep(LOOK_SECONDS)
            self._log.warning("the lease is lost; another coordinator may take over")
        finally:
            renewing.cancel()
            if self.is_active:  # lets the next coordinator start at once
                self._sure_until = float("-inf")
                with suppress(LinkError):
                    await store.remove(LEASES, COORDINATOR, self._revision)  # removes only this coordinator's lease

    def _check(self) -> None:
        view = self.view
        view.trust()
        if self._signer.public not in view.orderers:
            raise LinkError(
                f"no operator has authorized this coordinator: run `mom fleet authorize {self._signer.public}`",
                hint="hosts follow orders of operators (--operator) and of coordinators that an operator has authorized",
            )
        off = off_clock(view.newest) if view.newest else ""
        if off:
            hint = "check the clock here; if the clock is right, no host has reported for that long"
            raise LinkError(f"the clock here is {off} the newest report (servers' clock), so this coordinator gives no orders", hint=hint)

    async def acquire(self, store: Store) -> bool:
        """Take the lease if its holder is silent. Return whether that succeeded."""
        kept = await store.read(LEASES, COORDINATOR)
        if kept.data is not None:
            now = time.monotonic()
            if kept.revision != self._other_lease[0]:
                self._other_lease = kept.revision, now
            if now - self._other_lease[1] < LEASE_SECONDS:
                return False
        try:
            await self._set_lease(store, kept.revision)
        except ConflictError:
            return False
        self.epoch = self._revision
        return True

    async def _set_lease(self, store: Store, before: int) -> None:
        began = time.monotonic()
        self._revision = await store.put(LEASES, COORDINATOR, self._holder.encode(), before)
        self._sure_until = began + SURE_SECONDS

    async def _renew(self, store: Store) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            try:
                await self._set_lease(store, self._revision)
            except ConflictError:
                self._sure_until = float("-inf")
                return
            except LinkError as error:
                self._log.warning("the lease could not be renewed: %s", shown(error))

    async def fence(self, store: Store) -> None:
        """Raise all epochs, to lock out an earlier coordinator."""
        leaving = {host for host, (_, member) in self.view.members.records.items() if member.draining or member.balance}
        for host in leaving | self.view.orders.records.keys():
            with self._contained(f"the orders of {host} do not change"):
                await self.change(store, host, lambda orders: orders.model_copy(update={"epoch": self.epoch}))

    async def change(self, store: Store, host: str, edit: Callable[[Orders], Orders]) -> None:
        """Edit a host's orders. If another client has just changed the orders, leave the edit to the next decision."""
        view = self.view
        kept = await store.read(ORDERS, host)
        view.orders.take(host, kept)
        present, before = view.orders.get(host), view.ordered(host) or Orders()
        if host in view.orders.damaged:
            why = printable(view.orders.damaged[host], 400)
            self._log.error("the orders for host %s are invalid (%s); the coordinator replaces them", host, why)
        if before.epoch > self.epoch:
            if (await store.read(LEASES, COORDINATOR)).revision != self._revision:
                self._sure_until = float("-inf")
                return
            text = "the orders for host %s have epoch %d, which these servers never issued; the coordinator writes them again"
            self._log.error(text, host, before.epoch)
        revision = next_revision(view.revisions.newest(ORDERS, host))
        target = self._complete(edit(before), revision)
        if target == present or not self.is_active:
            return
        with suppress(ConflictError):
            data = self._signer.signed(host, target, revision)
            view.orders.take(host, StoredEntry(await store.put(ORDERS, host, data, kept.revision), data))
            for move in target.moves:
                if move.order == revision:
                    self._log.info("guest %s will move from %s to %s", printable(move.name), host, move.to)

    def _complete(self, orders: Orders, revision: int) -> Orders:
        plain = {"state": MoveState.ORDERED, "error": ""}
        moves = tuple(move.model_copy(update={**plain, "order": move.order or revision}) for move in orders.moves)
        entries = {to: signed for to in sorted({move.to for move in moves}) if (signed := self.view.members.signed(to))}
        return orders.model_copy(update={"moves": moves, "entries": entries, "finished": orders.finished[-MOST_TOLD:]})

    @contextmanager
    def _contained(self, subject: str) -> Iterator[None]:
        try:
            yield
        except LinkError:  # the servers failed, not this host
            raise
        except Exception as error:  # noqa: BLE001  # also a bug: one host's report must not stop all coordinators
            if subject not in self._failing:
                self._log.error("%s: %s", subject, shown(error), exc_info=not isinstance(error, MomError))
            self._failing.add(subject)
        else:
            self._failing.discard(subject)

    async def decide(self, store: Store) -> None:
        """Update the orders of hosts that are drained or have orders."""
        view = self.view
        # Include damaged orders, perhaps of an unauthorized coordinator: their hosts would report the damage forever.
        moving = {host for host, (_, orders) in view.orders.records.items() if orders.moves} | view.orders.damaged.keys()
        concerned = [host for host, (_, member) in view.members.records.items() if member.draining or host in moving]
        targets = places(view) if concerned else {}  # slow: reads all hosts
        for host in sorted(concerned):
            with self._contained(f"the orders of {host} do not change"):
                await self._decide_host(store, host, targets)

    async def _decide_host(self, store: Store, host: str, targets: dict[str, TargetHost]) -> None:
        await self.change(store, host, lambda _: next_orders(self.view, host, self.epoch, targets)[0])

    async def balance(self, store: Store) -> None:
        """Order at most one move per group every `BALANCE_SECONDS`."""
        groups = {member.group for _, member in self.view.members.records.values() if member.balance}
        now = time.monotonic()
        self._balanced = {group: self._balanced.get(group, now) for group in groups}
        for group in sorted(group for group, at in self._balanced.items() if now - at >= BALANCE_SECONDS):
            self._balanced[group] = now
            with self._contained(f"no guest of the group {group} moves for balance"):
                await self._balance_group(store, group)

    async def _balance_group(self, store: Store, group: str) -> None:
        choice = for_balance(self.view, places(self.view), group)
        if isinstance(choice, str):
            return  # `mom fleet plan` shows the obstacle
        host, move = choice

        def add(before: Orders) -> Orders:
            if any(earlier.guest == move.guest for earlier in before.moves):
                return before
            return before.model_copy(update={"epoch": self.epoch, "moves": (*before.moves, move)})

        await self.change(store, host, add)
