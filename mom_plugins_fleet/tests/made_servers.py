"""Servers in virtual time, with entries in a dictionary and lossy links."""

import asyncio
import random
import selectors
from collections.abc import Callable
from typing import Any

from memory_store import Memory

from mom_plugins_fleet.buckets import Bucket, StoredEntry
from mom_plugins_fleet.link import ConflictError, UnansweredError

EPOCH = 1_800_000_000.0


class MadeClock(selectors.SelectSelector):
    """Selector for a loop without waiting: the clock jumps to the next event."""

    now = 10_000.0

    def select(self, timeout: float | None = None) -> list[Any]:
        assert timeout is not None, "nothing will ever happen"
        self.now += max(0.0, timeout)
        return super().select(0)


class Servers:
    """All buckets. Watchers and listeners get each change at once."""

    def __init__(self, clock: MadeClock, seed: int) -> None:
        self.clock, self.random = clock, random.Random(seed)  # noqa: S311  # the same for the same seed
        self.kept: dict[tuple[str, str], StoredEntry] = {}
        self.hearing: list[tuple[str, Callable[[str, StoredEntry], None]]] = []
        self.stored = 0

    def put(self, bucket: str, key: str, data: bytes | None, revision: int | None) -> int:
        if revision not in (None, self.kept.get((bucket, key), StoredEntry(0, None)).revision):
            raise ConflictError("another client changed the record first")
        self.stored += 1
        self.kept[bucket, key] = StoredEntry(self.stored, data, EPOCH + self.clock.now)
        for name, heard in self.hearing:
            if name == bucket:
                heard(key, self.kept[bucket, key])
        return self.stored


class Link(Memory):
    """Link of a client that loses this share of requests and of answers."""

    def __init__(self, servers: Servers) -> None:
        self.servers, self.kept, self.loss = servers, servers.kept, 0.0

    @property
    def connected(self) -> bool:
        return self.loss < 1.0

    def set(self, bucket: str, key: str, data: bytes | None, revision: int | None) -> int:
        return self.servers.put(bucket, key, data, revision)

    async def call(self, what: Callable[[], Any]) -> Any:
        lost = [self.servers.random.random() < self.loss for _ in range(2)]
        await asyncio.sleep(self.servers.random.uniform(0.001, 0.02))
        answer = None if lost[0] else what()
        if any(lost):
            await asyncio.sleep(5.0)
            raise UnansweredError("no answer in time")
        await asyncio.sleep(self.servers.random.uniform(0.001, 0.02))
        return answer

    async def hear(self, bucket: str, key: str, changed: Callable[[], None]) -> None:
        self.servers.hearing.append((bucket, lambda told, _: changed() if told == key and self.connected else None))

    async def watch(self, bucket: Bucket[Any], *, once: bool = False) -> None:
        bucket.begins()
        told: list[tuple[str, StoredEntry]] = []
        hears = bucket.kind.bucket, lambda key, kept: told.append((key, kept))
        self.servers.hearing.append(hears)
        try:
            for (name, key), kept in (await self.call(self.kept.copy)).items():
                if name == bucket.kind.bucket:
                    bucket.take(key, kept)
            bucket.complete()
            if once:
                return
            while self.connected:
                while told:
                    bucket.take(*told.pop(0))
                await asyncio.sleep(0.1)
            await asyncio.sleep(6.0)
            raise UnansweredError("nothing is heard any more")
        finally:
            bucket.current = False
            self.servers.hearing.remove(hears)
